//! The text of an answer → the text before a stop string.
//!
//! A stop string may span several tokens, so text that is still ambiguous is held back.

use super::reasoning::overlap;

/// Ends an answer before a stop string.
#[derive(Debug, Default)]
pub struct Stops {
    stops: Vec<String>,
    /// Text that may be the start of a stop string.
    held: String,
}

/// The text that became certain.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckedText {
    pub text: String,
    /// A stop string was reached: `text` ends before it, and the answer is over.
    pub stopped: bool,
}

impl Stops {
    pub fn new(stops: &[String]) -> Stops {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        Stops { stops, held: String::new() }
    }

    /// Takes the next piece of the answer and returns the text that is certain now.
    pub fn push(&mut self, text: &str) -> CheckedText {
        self.held.push_str(text);
        let first = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = first {
            self.held.truncate(at);
            return CheckedText { text: std::mem::take(&mut self.held), stopped: true };
        }
        let waiting = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let kept = self.held.split_off(self.held.len() - waiting);
        CheckedText { text: std::mem::replace(&mut self.held, kept), stopped: false }
    }

    /// Ends the answer and returns the held text: it is not a stop string.
    pub fn finish(self) -> String {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::super::utf8::Detokenizer;
    use super::*;

    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let (mut stream, mut stops) = (Detokenizer::default(), Stops::new(&stops));
        let mut shown = Vec::new();
        for bytes in pieces {
            let piece = stops.push(&stream.push(bytes));
            shown.push(piece.text);
            if piece.stopped {
                return (shown, true);
            }
        }
        let rest = stops.push(&stream.finish()).text;
        shown.push(rest + &stops.finish());
        (shown, false)
    }

    #[test]
    fn a_stop_string_is_never_shown_even_in_parts() {
        let (shown, stopped) = run(&["User:"], &[b"Hi\nUs", b"er", b": more"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Hi\n", true));
        let (shown, stopped) = run(&["User:"], &[b"Us", b"ers: no"]);
        assert_eq!((shown.concat().as_str(), stopped), ("Users: no", false));
        let (shown, _) = run(&["END"], &[b"the EN"]);
        assert_eq!(shown, ["the ", "EN"]);
    }

    #[test]
    fn any_cutting_of_the_bytes_gives_the_same_text() {
        let text = "né 😀 </s 日本 stop".as_bytes();
        for a in 0..text.len() {
            for b in a..text.len() {
                let (shown, stopped) = run(&["</s>", " stop"], &[&text[..a], &text[a..b], &text[b..]]);
                assert_eq!((shown.concat().as_str(), stopped), ("né 😀 </s 日本", true));
            }
        }
    }
}
