//! Bytes of a stream of server-sent events → the data of each event.
//!
//! The format: WHATWG HTML, "Server-sent events". Lines end in CR, LF or CRLF; `data:` may lack the space;
//! several data lines of an event are joined; comments and other fields are skipped.

/// The longest line, and the longest data of one event, in bytes.
const LONGEST: usize = 4 << 20;

/// A line or an event is longer than any server's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The stream so far.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// The line so far.
    line: Vec<u8>,
    /// The last byte was a CR, whose LF may follow.
    after_cr: bool,
    /// The data of the event so far, each line with its end.
    data: String,
    /// Whether the first line is over: a byte order mark may stand before it.
    begun: bool,
}

impl Events {
    /// Takes the next bytes, and returns the data of all events that end in them.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, TooLong> {
        let mut ended = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    ended.extend(self.end_line()?);
                }
                byte => {
                    self.after_cr = false;
                    self.line.push(*byte);
                }
            }
            if self.line.len() > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(ended)
    }

    /// The data of an event that the end of the stream cut off before its blank line.
    pub(super) fn finish(mut self) -> Option<String> {
        self.end_line().ok()?;
        self.end_event()
    }

    fn end_line(&mut self) -> Result<Option<String>, TooLong> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let mut line = line.as_ref();
        if !std::mem::replace(&mut self.begun, true) {
            line = line.trim_start_matches('\u{feff}');
        }
        if line.is_empty() {
            return Ok(self.end_event());
        }
        if let Some(data) = line.strip_prefix("data:") {
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            self.data.push('\n');
        }
        if self.data.len() > LONGEST { Err(TooLong) } else { Ok(None) }
    }

    fn end_event(&mut self) -> Option<String> {
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_wherever_the_stream_is_split() {
        let stream = "\u{feff}: hello\r\ndata: {\"a\":\"ö\"}\r\n\r\nevent: x\rdata:one\rdata:  two\r\r\
                      id: 1\n\ndata\n\n: ping\n\ndata: [DONE]\n\ndata: cut";
        let expected = ["{\"a\":\"ö\"}", "one\n two", "[DONE]", "cut"];
        for size in 1..stream.len() {
            let mut events = Events::default();
            let mut found: Vec<String> =
                stream.as_bytes().chunks(size).flat_map(|piece| events.push(piece).unwrap()).collect();
            found.extend(events.finish());
            assert_eq!(found, expected, "pieces of {size}");
        }
    }

    #[test]
    fn endless_lines_and_events_are_refused() {
        let mut events = Events::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..4).all(|_| events.push(&piece).is_ok()));
        assert_eq!(events.push(&piece), Err(TooLong));
        let mut events = Events::default();
        let line = [b"data: ", &piece[..], b"\n"].concat();
        assert!((0..3).all(|_| events.push(&line).is_ok()));
        assert_eq!(events.push(&line).and_then(|_| events.push(&line)), Err(TooLong));
    }
}
