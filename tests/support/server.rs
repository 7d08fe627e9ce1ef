//! A server with OpenAI's API on loopback, std only. It lists one model, answers as it is told to, commits
//! every fault, and stores every request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One request as received.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    head: String,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Whether it asks for an answer.
    pub fn wants_answer(&self) -> bool {
        self.path.ends_with("/completions")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// What follows the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection is closed.
    Close,
    /// Nothing more comes, and the connection stays open until the client closes it.
    Stall,
    /// The last piece again and again.
    Endless,
}

/// What the server sends: the pieces one by one.
#[derive(Debug, Clone)]
pub struct Reply {
    pub head: String,
    pub pieces: Vec<Vec<u8>>,
    pub end: End,
}

impl Reply {
    /// A body of this kind, whose end is that of the connection.
    pub fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Reply {
        let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n");
        Reply { head, pieces: vec![body.into()], end: End::Close }
    }

    pub fn json(status: u16, body: &Value) -> Reply {
        Reply::new(status, "application/json", body.to_string())
    }

    /// A stream of events.
    pub fn stream(body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(200, "text/event-stream", body)
    }

    pub fn with(mut self, header: &str) -> Reply {
        self.head += &format!("{header}\r\n");
        self
    }

    pub fn then(self, end: End) -> Reply {
        Reply { end, ..self }
    }

    /// In pieces of this many bytes.
    pub fn in_pieces(self, bytes: usize) -> Reply {
        let whole = self.pieces.concat();
        Reply { pieces: whole.chunks(bytes).map(Vec::from).collect(), ..self }
    }
}

/// The event of one piece of text.
pub fn text(piece: &str) -> String {
    event(&json!({ "choices": [{ "index": 0, "delta": { "content": piece }, "finish_reason": null }] }))
}

pub fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// The last events of an answer, with its usage.
pub fn done(prompt: usize, generated: usize) -> String {
    let end = json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] });
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": prompt, "completion_tokens": generated } });
    format!("{}{}data: [DONE]\n\n", event(&end), event(&usage))
}

/// A whole answer, a word an event.
pub fn answer(words: &str) -> Reply {
    let events: String = words.split_inclusive(' ').map(text).collect();
    Reply::stream(events + &done(7, words.split(' ').count()))
}

type Handler = Box<dyn Fn(&Asked) -> Option<Reply> + Send + Sync>;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    handler: Handler,
    /// Told when a client closed a connection that had stalled.
    gone: Mutex<Sender<()>>,
}

/// A running server. It lives as long as the process: its threads end with it.
pub struct FakeServer {
    pub url: String,
    shared: Arc<Shared>,
    gone: Receiver<()>,
}

impl FakeServer {
    /// `handler`: the reply to a request; `None`: the usual one, which for an answer is "Hello there".
    pub fn new(handler: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static) -> FakeServer {
        FakeServer::at("127.0.0.1:0", handler)
    }

    pub fn at(
        address: &str,
        handler: impl Fn(&Asked) -> Option<Reply> + Send + Sync + 'static,
    ) -> FakeServer {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, gone) = channel();
        let shared = Shared { asked: Mutex::default(), handler: Box::new(handler), gone: Mutex::new(sender) };
        let shared = Arc::new(shared);
        let of_threads = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = of_threads.clone();
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        FakeServer { url, shared, gone }
    }

    /// Answers with these replies in turn, the last one again and again.
    pub fn answering(replies: Vec<Reply>) -> FakeServer {
        let next = Mutex::new(0_usize);
        FakeServer::new(move |asked| {
            let mut next = next.lock().unwrap();
            let reply = asked.wants_answer().then(|| replies[replies.len().min(*next + 1) - 1].clone())?;
            *next += 1;
            Some(reply)
        })
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The requests for answers.
    pub fn questions(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(Asked::wants_answer).collect()
    }

    /// Waits until a client has closed a connection that had stalled.
    pub fn sees_the_client_leave(&self) {
        self.gone.recv_timeout(super::PATIENCE).expect("the connection is closed");
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut input = BufReader::new(stream.try_clone().unwrap());
    if let Some(asked) = read(&mut input) {
        shared.asked.lock().unwrap().push(asked.clone());
        let reply = (shared.handler)(&asked).unwrap_or_else(|| usual(&asked));
        if send(&stream, &reply).is_some() && reply.end == End::Stall {
            let _ = input.read(&mut [0]); // until the client closes it
            let _ = shared.gone.lock().unwrap().send(());
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn usual(asked: &Asked) -> Reply {
    match asked.path.as_str() {
        "/v1/models" => Reply::json(200, &json!({ "data": [{ "id": "tiny", "object": "model" }] })),
        path if path.ends_with("/completions") => answer("Hello there"),
        _ => Reply::json(404, &json!({ "error": { "message": "not found" } })),
    }
}

fn send(mut stream: &TcpStream, reply: &Reply) -> Option<()> {
    stream.write_all(format!("{}\r\n", reply.head).as_bytes()).ok()?;
    for piece in &reply.pieces {
        stream.write_all(piece).ok()?;
    }
    if reply.end == End::Endless {
        while stream.write_all(reply.pieces.last()?).is_ok() {} // until the client closes it
    }
    Some(())
}

fn read(input: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut words = head.split(' ').map(String::from);
    let path = words.nth(1)?;
    let asked = Asked { path, head, body: String::new() };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some(Asked { body: String::from_utf8(body).ok()?, ..asked })
}
