//! Tokens with their probabilities → the text in colours, and a line for each token or for the surprising ones.

use super::screen::Screen;
use super::theme::fixed;
use super::wrap::{TextKind, wrapped};
use super::{sanitize, width};
use crate::chat::probability::{TokenLogprob, TokenProbability};
use crate::chat::settings::Theme;

/// Below this probability a token is surprising.
const SURPRISING: f64 = 0.2;
/// Below these probabilities, tokens are coloured. The least likely first.
const BELOW: [f64; 3] = [0.05, SURPRISING, 0.5];
/// Their colours on a dark background: SGR parameters and name.
const ON_DARK: [(u8, &str); 3] = [(31, "red"), (33, "yellow"), (36, "cyan")];
/// The same on a light one: fixed colours by their numbers, as yellow and cyan are too pale to read.
const ON_LIGHT: [(u8, &str); 3] = [(124, "red"), (94, "brown"), (25, "blue")];
/// The widest column of tokens, in cells; a longer token moves its others to the right.
const WIDEST: usize = 24;
/// Stand for the colours while the text is wrapped: they have no width. The last one ends a colour.
const MARKS: [char; 4] = ['\u{1}', '\u{2}', '\u{3}', '\u{4}'];

/// What [`lines`] shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lines {
    /// All tokens with all others.
    All,
    /// All tokens, and the others at the surprising ones.
    Tokens,
    /// The surprising tokens with the others.
    Surprising,
}

/// A line for each token: its probability, its text, and the others in its place.
pub fn lines(tokens: &[TokenProbability], shown: Lines) -> Vec<String> {
    let cells = |token: &TokenProbability| {
        let others = token.others.iter().filter(|_| shown == Lines::All || is_surprising(token));
        let others: Vec<String> =
            others.map(|other| format!("{} {}", quoted(other), percent(other.logprob))).collect();
        (percent(token.chosen.logprob), quoted(&token.chosen), others.join(", "))
    };
    let shown = tokens.iter().filter(|token| shown != Lines::Surprising || is_surprising(token));
    let rows: Vec<(String, String, String)> = shown.map(cells).collect();
    let widest = rows.iter().map(|(_, text, _)| width(text)).max().unwrap_or(0).min(WIDEST);
    let line = |(percent, text, others): (String, String, String)| {
        let gap = " ".repeat(widest.saturating_sub(width(&text)));
        format!("{percent:>7}  {text}{gap}  {others}").trim_end().to_string()
    };
    rows.into_iter().map(line).collect()
}

fn is_surprising(token: &TokenProbability) -> bool {
    token.chosen.logprob.exp() < SURPRISING
}

fn quoted(token: &TokenLogprob) -> String {
    let text = token.text().replace('\n', "\\n").replace('\t', "\\t");
    format!("\"{text}\"")
}

fn percent(logprob: f64) -> String {
    match logprob.exp() * 100.0 {
        small if small < 0.1 => "< 0.1 %".into(),
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

impl Screen {
    /// Shows a text token by token on stderr, coloured by probability, then the surprising tokens. Without
    /// colours, shows every token on a line.
    pub fn show_probabilities(&mut self, tokens: &[TokenProbability]) {
        if !self.colored() {
            return self.show_source(&lines(tokens, Lines::Tokens).join("\n"));
        }
        let text = coloured(tokens);
        let mut shown =
            self.note_columns().map_or(text.clone(), |columns| wrapped(&text, TextKind::Prose, columns));
        let colours = match self.theme() {
            Theme::Dark => ON_DARK.map(|(code, name)| (code.to_string(), name)),
            Theme::Light => ON_LIGHT.map(|(number, name)| (fixed(number), name)),
        };
        for (mark, (code, _)) in MARKS.into_iter().zip(&colours) {
            shown = shown.replace(mark, &format!("\x1b[{code}m"));
        }
        self.write_stderr(&shown.replace(MARKS[3], "\x1b[0m"), "", "\n");
        let legend = BELOW.iter().zip(&colours);
        let legend = legend.map(|(below, (_, name))| format!("{name}: below {:.0} %", below * 100.0));
        self.note(&legend.collect::<Vec<_>>().join(", "));
        let surprising = lines(tokens, Lines::Surprising);
        if !surprising.is_empty() {
            self.show(&surprising.join("\n"));
        }
    }
}

/// The text with marks around the unlikely tokens. A character that several tokens share is coloured by its
/// last one.
fn coloured(tokens: &[TokenProbability]) -> String {
    let (mut text, mut bytes) = (String::new(), Vec::new());
    for token in tokens {
        bytes.extend(&token.chosen.bytes);
        if std::str::from_utf8(&bytes).is_err_and(|error| error.error_len().is_none()) {
            continue; // half a character
        }
        let piece = String::from_utf8_lossy(&bytes).into_owned();
        bytes.clear();
        let piece = sanitize(&piece);
        let probability = token.chosen.logprob.exp();
        match BELOW.iter().position(|below| probability < *below) {
            Some(colour) => text.extend([&MARKS[colour].to_string(), &*piece, &MARKS[3].to_string()]),
            None => text.push_str(&piece),
        }
    }
    text + &sanitize(&String::from_utf8_lossy(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::theme::tests::contrast_with_white;

    fn token(bytes: &[u8], probability: f64) -> TokenProbability {
        let of = |bytes: &[u8], probability: f64| TokenLogprob {
            token: None,
            bytes: bytes.to_vec(),
            logprob: probability.ln(),
        };
        TokenProbability { chosen: of(bytes, probability), others: vec![of(b" so", 0.15)], drawn: None }
    }

    #[test]
    fn the_surprising_tokens_have_likelier_others() {
        let tokens = [token(b"Yes", 0.9), token(b"\n", 0.0004), token(b" it", 0.16)];
        assert_eq!(
            lines(&tokens, Lines::Surprising),
            ["< 0.1 %  \"\\n\"   \" so\" 15 %", "   16 %  \" it\"  \" so\" 15 %"]
        );
        assert_eq!(lines(&tokens, Lines::All)[0], "   90 %  \"Yes\"  \" so\" 15 %");
    }

    #[test]
    fn colours_on_a_light_background_can_be_read() {
        for (number, name) in ON_LIGHT {
            assert!(contrast_with_white(number) >= 4.5, "{name}");
        }
    }

    #[test]
    fn colours_surround_whole_characters_and_nothing_acts() {
        let tokens =
            [token(b"a\x1b", 0.9), token(&"é".as_bytes()[..1], 0.9), token(&"é".as_bytes()[1..], 0.3)];
        assert_eq!(coloured(&tokens), "a\u{241b}\u{3}é\u{4}");
        assert_eq!(coloured(&tokens[..2]), "a\u{241b}\u{fffd}");
    }
}
