//! A remote file read from its start, fetching little more than is read: for a header of a few megabytes, not
//! for weights.

use std::io::{self, Read};

use crate::http::retry::RequestError;
use crate::http::url::host;
use crate::http::{Http, lost};

/// Size of the first piece; each further one is twice as large, up to the largest.
const FIRST_PIECE: u64 = 1 << 20;
const LARGEST_PIECE: u64 = 16 << 20;
/// Tries per piece.
const TRIES: u32 = 3;

/// Implements `Read` by fetching one piece after another.
pub struct Reader<'a> {
    http: &'a Http,
    url: String,
    size: u64,
    /// Fetched bytes that are not read yet.
    piece: io::Cursor<Vec<u8>>,
    /// Offset of the next piece.
    next: u64,
    length: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(http: &'a Http, url: String, size: u64) -> Reader<'a> {
        Reader { http, url, size, piece: io::Cursor::default(), next: 0, length: FIRST_PIECE }
    }

    fn fetch(&mut self) -> Result<Vec<u8>, RequestError> {
        let (first, last) = (self.next, self.size.min(self.next + self.length) - 1);
        let answer = self.http.get(&self.url, &[("range", &format!("bytes={first}-{last}"))])?;
        match answer.status {
            206 if answer.content_range() == Some((first, last, self.size)) => {}
            200 if first == 0 => {} // no range support: the connection is closed after the piece
            200 | 206 => return Err(RequestError::Wrong("cannot send a file in pieces".into())),
            _ => return Err(answer.trouble()),
        }
        self.url.clone_from(&answer.url);
        let mut piece = Vec::new();
        let wanted = last - first + 1;
        answer.body.take(wanted).read_to_end(&mut piece).map_err(|e| RequestError::Lost(lost(&e)))?;
        match piece.len() as u64 == wanted {
            true => Ok(piece),
            false => Err(RequestError::Lost("the connection was closed early".into())),
        }
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.piece.read(buffer)?;
        if read > 0 || buffer.is_empty() || self.next >= self.size {
            return Ok(read);
        }
        let mut tries = 1;
        let piece = loop {
            match self.fetch() {
                Ok(piece) => break piece,
                Err(RequestError::Absent(_) | RequestError::Lost(_) | RequestError::Busy { .. })
                    if tries < TRIES =>
                {
                    tries += 1
                }
                Err(trouble) => {
                    return Err(io::Error::other(format!("{}: {}", host(&self.url), trouble.words())));
                }
            }
        };
        self.next += piece.len() as u64;
        self.length = (self.length * 2).min(LARGEST_PIECE);
        self.piece = io::Cursor::new(piece);
        self.piece.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// Serves zeros and sends each requested range to the channel. The second response is cut short.
    fn serve(size: u64) -> (String, std::sync::mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/m.gguf", listener.local_addr().unwrap());
        let (asked, ranges) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let range =
                    head.iter().find_map(|line| line.strip_prefix("range: bytes=")).unwrap().to_string();
                let (first, last) = range.split_once('-').unwrap();
                let length = last.parse::<u64>().unwrap() - first.parse::<u64>().unwrap() + 1;
                asked.send(range.clone()).unwrap();
                let head = format!(
                    "HTTP/1.1 206 Partial\r\ncontent-range: bytes {range}/{size}\r\ncontent-length: {length}\r\n"
                );
                let body = vec![0; if number == 1 { 10 } else { length as usize }];
                let _ = (&stream).write_all(format!("{head}connection: close\r\n\r\n").as_bytes());
                let _ = (&stream).write_all(&body);
            }
        });
        (url, ranges)
    }

    #[test]
    fn no_more_is_fetched_than_is_asked_for() {
        let size = 9 << 20;
        let (url, ranges) = serve(size);
        let http = Http::new(&url, None, Duration::from_secs(5));
        let mut reader = Reader::new(&http, url, size);
        reader.read_exact(&mut [0; 100]).unwrap();
        assert_eq!(ranges.try_iter().collect::<Vec<_>>(), ["0-1048575"]);
        reader.read_exact(&mut vec![0; 1 << 20]).unwrap();
        assert_eq!(
            ranges.try_iter().collect::<Vec<_>>(),
            ["1048576-3145727"; 2],
            "a response that was cut short is requested again"
        );
        assert_eq!(io::copy(&mut reader, &mut io::sink()).unwrap(), size - 100 - (1 << 20));
        assert_eq!(ranges.try_iter().collect::<Vec<_>>(), ["3145728-7340031", "7340032-9437183"]);
    }
}
