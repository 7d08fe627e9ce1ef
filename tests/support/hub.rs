//! A hub on loopback, std only: the API's list of files, redirects to a second port as its CDN, plain files
//! with ETags. It commits every fault it is told to, counts the bytes of files it sent, and stores the head
//! of every request.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Bytes written at once when the speed is limited.
const PIECE: usize = 64 * 1024;

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// The list of a repository's files.
    List,
    /// From a file's address to the CDN.
    Resolve,
    /// A file's bytes, from the CDN or behind a plain URL.
    Bytes,
}

/// One request as received.
#[derive(Debug, Clone)]
pub struct Request {
    pub duty: Duty,
    /// The number of earlier requests of this kind.
    pub number: usize,
    pub path: String,
    /// The whole head, unchanged.
    pub head: String,
    /// The first and last requested byte.
    pub range: Option<(u64, u64)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether it requests bytes, not only facts about them.
    pub fn wants_bytes(&self) -> bool {
        self.duty == Duty::Bytes && self.range != Some((0, 0))
    }
}

/// The fault that a request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Another status, with these header lines.
    Status(u16, String),
    /// The connection is closed after this many bytes of the body.
    Truncate(u64),
    /// Nothing more comes after this many bytes of the body.
    Stall(u64),
    /// The first byte of the body is changed.
    Damage,
    /// The whole file with 200, whatever the requested range.
    NoRanges,
    /// `Content-Range` has this value.
    Range(String),
    /// `Content-Length` exceeds the body's length by this much.
    Longer(u64),
    /// Another version of the file: other bytes, another ETag.
    OtherVersion,
    /// This many pieces of 64 KiB per second.
    Slow(u64),
}

#[derive(Clone)]
pub enum Content {
    Bytes(Arc<Vec<u8>>),
    /// A file on disk, sent by the kernel: for the benchmark.
    #[allow(dead_code)]
    Disk(PathBuf),
}

#[derive(Clone)]
pub struct Served {
    pub name: String,
    pub sha256: String,
    pub size: u64,
    pub content: Content,
}

type Trouble = Box<dyn Fn(&Request) -> Fault + Send + Sync>;

struct Shared {
    files: Vec<Served>,
    cdn: String,
    trouble: Mutex<Trouble>,
    requests: Mutex<Vec<Request>>,
    numbers: [AtomicUsize; 3],
    sent: AtomicU64,
}

/// A running hub. It lives as long as the process: its threads end with it.
pub struct FakeHub {
    /// The value for HF_ENDPOINT.
    pub endpoint: String,
    shared: Arc<Shared>,
}

impl FakeHub {
    /// Serves these files as every repository `OWNER/REPO`, and as `/plain/NAME`.
    pub fn new(files: Vec<Served>) -> FakeHub {
        let [hub, cdn] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, cdn_address] = [&hub, &cdn].map(|l| format!("http://{}", l.local_addr().unwrap()));
        let shared = Arc::new(Shared {
            files,
            cdn: cdn_address,
            trouble: Mutex::new(Box::new(|_| Fault::None)),
            requests: Mutex::default(),
            numbers: Default::default(),
            sent: AtomicU64::new(0),
        });
        for listener in [hub, cdn] {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let shared = shared.clone();
                    std::thread::spawn(move || serve(&shared, stream));
                }
            });
        }
        FakeHub { endpoint, shared }
    }

    /// Makes requests meet these faults from now on.
    pub fn trouble(&self, trouble: impl Fn(&Request) -> Fault + Send + Sync + 'static) {
        *self.shared.trouble.lock().unwrap() = Box::new(trouble);
    }

    /// The bytes of files sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn plain(&self, name: &str) -> String {
        format!("{}/plain/{name}", self.endpoint)
    }

    /// The target of redirects.
    pub fn cdn(&self) -> &str {
        &self.shared.cdn
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut input = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = read_head(&mut input) {
        if answer(shared, &stream, head).is_none() {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read_head(input: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while input.read_line(&mut head).ok()? > 0 {
        if head.ends_with("\r\n\r\n") {
            return Some(head);
        }
    }
    None
}

/// `None`: the connection is over.
fn answer(shared: &Shared, stream: &TcpStream, head: String) -> Option<()> {
    let path = head.split(' ').nth(1)?.to_string();
    let duty = match &path {
        path if path.starts_with("/api/") => Duty::List,
        path if path.starts_with("/cdn/") || path.starts_with("/plain/") => Duty::Bytes,
        _ => Duty::Resolve,
    };
    let number = shared.numbers[duty as usize].fetch_add(1, Ordering::SeqCst);
    let mut request = Request { duty, number, path, head, range: None };
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    request.range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    shared.requests.lock().unwrap().push(request.clone());
    let fault = (shared.trouble.lock().unwrap())(&request);
    if let Fault::Status(status, headers) = &fault {
        return send(stream, &format!("HTTP/1.1 {status} No\r\n{headers}content-length: 2\r\n\r\nno"));
    }
    match duty {
        Duty::List => send_json(stream, &list(shared)),
        Duty::Resolve => resolve(shared, stream, &request),
        Duty::Bytes => bytes(shared, stream, &request, &fault),
    }
}

fn send(mut stream: &TcpStream, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).ok()
}

fn send_json(stream: &TcpStream, text: &str) -> Option<()> {
    let length = text.len();
    send(
        stream,
        &format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{text}"
        ),
    )
}

fn list(shared: &Shared) -> String {
    let file = |file: &Served| {
        let (name, sum, size) = (&file.name, &file.sha256, file.size);
        format!(
            r#"{{"rfilename":"{name}","size":{size},"blobId":"{}","lfs":{{"sha256":"{sum}","size":{size},"pointerSize":130}}}}"#,
            &sum[..40]
        )
    };
    let files: Vec<String> = shared.files.iter().map(file).collect();
    let readme = format!(r#"{{"rfilename":"README.md","size":5,"blobId":"{COMMIT}"}}"#);
    format!(
        r#"{{"id":"o/r","sha":"{COMMIT}","gated":"auto","cardData":{{"license":"apache-2.0"}},"siblings":[{readme},{}]}}"#,
        files.join(",")
    )
}

fn resolve(shared: &Shared, stream: &TcpStream, request: &Request) -> Option<()> {
    let (_, file) = request.path.split_once("/resolve/")?.1.split_once('/')?;
    let to = format!("{}/cdn/{file}?signature=x", shared.cdn);
    send(stream, &format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 5\r\n\r\nthere"))
}

fn bytes(shared: &Shared, stream: &TcpStream, request: &Request, fault: &Fault) -> Option<()> {
    let name = request.path.split('?').next()?.splitn(3, '/').nth(2)?;
    let Some(file) = shared.files.iter().find(|file| file.name == name) else {
        return send(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
    };
    let other = *fault == Fault::OtherVersion;
    let etag = format!("\"{}{}\"", &file.sha256[..8], if other { "-other" } else { "" });
    let stale = request.header("if-range").is_some_and(|known| known != etag);
    let (first, last) = match request.range {
        Some(range) if *fault != Fault::NoRanges && !stale => range,
        _ => (0, file.size - 1),
    };
    if first >= file.size {
        let headers = format!("content-range: bytes */{}\r\ncontent-length: 0\r\n\r\n", file.size);
        return send(stream, &format!("HTTP/1.1 416 No\r\n{headers}"));
    }
    let last = last.min(file.size - 1);
    let mut head = String::from("HTTP/1.1 200 OK\r\n");
    if request.range.is_some() && *fault != Fault::NoRanges && !stale {
        let range = format!("bytes {first}-{last}/{}", file.size);
        let range = if let Fault::Range(wrong) = fault { wrong } else { &range };
        head = format!("HTTP/1.1 206 Partial Content\r\ncontent-range: {range}\r\n");
    }
    let longer = if let Fault::Longer(more) = fault { *more } else { 0 };
    let length = last - first + 1 + longer;
    send(stream, &format!("{head}etag: {etag}\r\naccept-ranges: bytes\r\ncontent-length: {length}\r\n\r\n"))?;
    match &file.content {
        Content::Disk(path) => send_file(shared, stream, path, first, last),
        Content::Bytes(bytes) => send_body(shared, stream, &bytes[first as usize..=last as usize], fault),
    }
}

fn send_file(shared: &Shared, mut stream: &TcpStream, path: &PathBuf, first: u64, last: u64) -> Option<()> {
    let mut file = File::open(path).ok()?;
    file.seek(SeekFrom::Start(first)).ok()?;
    let sent = std::io::copy(&mut file.take(last - first + 1), &mut stream).ok()?;
    shared.sent.fetch_add(sent, Ordering::SeqCst);
    Some(())
}

fn send_body(shared: &Shared, mut stream: &TcpStream, body: &[u8], fault: &Fault) -> Option<()> {
    let whole = body.len() as u64;
    let allowed = match fault {
        Fault::Truncate(bytes) | Fault::Stall(bytes) => (*bytes).min(whole),
        _ => whole,
    };
    for (number, piece) in body[..allowed as usize].chunks(PIECE).enumerate() {
        let changed: Vec<u8> = match fault {
            Fault::Damage if number == 0 => {
                piece.iter().enumerate().map(|(at, b)| b ^ u8::from(at == 0)).collect()
            }
            Fault::OtherVersion => piece.iter().map(|byte| byte ^ (byte >> 7)).collect(),
            _ => Vec::new(),
        };
        stream.write_all(if changed.is_empty() { piece } else { &changed }).ok()?;
        shared.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        if let Fault::Slow(pieces) = fault {
            std::thread::sleep(Duration::from_secs(1) / *pieces as u32);
        }
    }
    match fault {
        Fault::Stall(_) if allowed < whole => {
            std::thread::sleep(Duration::from_secs(60)); // longer than anyone waits
            None
        }
        Fault::Truncate(_) if allowed < whole => None,
        Fault::Longer(_) => None,
        _ => Some(()),
    }
}
