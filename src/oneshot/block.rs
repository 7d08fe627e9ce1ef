//! An answer as it grows → the first fenced code block of a language, line by line, and where it ends.

use crate::chat::blocks::code_blocks;

/// The first code block of a growing answer.
pub(super) struct FirstBlock {
    /// In lower case; empty: any.
    language: String,
    /// The answer so far.
    pub(super) text: String,
    /// Bytes of the block that were told.
    pub(super) shown: usize,
    /// Whether its closing fence has come.
    pub(super) closed: bool,
}

impl FirstBlock {
    pub(super) fn of(language: &str) -> FirstBlock {
        let language = language.to_lowercase();
        FirstBlock { language, text: String::new(), shown: 0, closed: false }
    }

    /// The first block of the language in a text.
    pub(super) fn find(&self, text: &str) -> Option<String> {
        let wanted = |language: &str| self.language.is_empty() || language.to_lowercase() == self.language;
        code_blocks(text).into_iter().find(|block| wanted(&block.language)).map(|block| block.text)
    }

    /// Takes more of the answer; returns the whole lines of the block that are new.
    pub(super) fn push(&mut self, more: &str) -> String {
        let mut new = String::new();
        for piece in more.split_inclusive('\n') {
            if self.closed {
                break;
            }
            self.text.push_str(piece);
            if piece.ends_with('\n') {
                new += &self.line();
            }
        }
        new
    }

    /// Looks at the line that has just ended. A fence that adds nothing to the block closes it.
    fn line(&mut self) -> String {
        let before = self.text[..self.text.len() - 1].rfind('\n').map_or(0, |end| end + 1);
        let bare = self.text[before..].trim_start_matches(|c: char| c == '>' || c.is_whitespace());
        let is_fence = bare.starts_with("```") || bare.starts_with("~~~");
        if self.shown == 0 && !self.text.contains("```") && !self.text.contains("~~~") {
            return String::new();
        }
        let Some(block) = self.find(&self.text) else { return String::new() };
        self.closed = is_fence && self.find(&self.text[..before]).is_some_and(|earlier| earlier == block);
        self.tell(&block)
    }

    fn tell(&mut self, block: &str) -> String {
        let new = block.get(self.shown..).unwrap_or_default().to_string();
        self.shown += new.len();
        new
    }

    /// The rest of the block once the answer has ended.
    pub(super) fn finish(&mut self) -> String {
        let block = self.find(&self.text);
        block.map_or_else(String::new, |block| self.tell(&block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of an answer that comes in pieces of so many characters, and how many characters it took.
    fn told(language: &str, answer: &str, size: usize) -> (String, usize) {
        let (mut block, mut new, mut taken) = (FirstBlock::of(language), String::new(), 0);
        let characters: Vec<char> = answer.chars().collect();
        for piece in characters.chunks(size) {
            if block.closed {
                return (new, taken);
            }
            new += &block.push(&piece.iter().collect::<String>());
            taken += piece.len();
        }
        new += &block.finish();
        (new, taken)
    }

    #[test]
    fn the_block_comes_whole_in_pieces_of_any_size() {
        let answers = [
            "Here:\n```sh\nls\n\n  ``` not yet\n```\nand more\n```py\nx\n```\n",
            "1. Run:\n\n    ```py\n    if x:\n\n        y\n    ```\n2. Done.\n",
            "> ~~~ Py\n> a\n> ~~~\nafter",
            "```\nopen to the end",
            "none `here`\n",
            "```py\n```\n",
        ];
        for answer in answers {
            for language in ["", "py", "sh"] {
                let whole = FirstBlock::of(language).find(answer).unwrap_or_default();
                for size in 1..answer.len() {
                    assert_eq!(told(language, answer, size).0, whole, "{answer:?} in pieces of {size}");
                }
            }
        }
        let (first, taken) = told("", answers[0], 1);
        assert_eq!(first, "ls\n\n  ``` not yet\n");
        assert_eq!(taken, answers[0].find("and").unwrap(), "nothing is read after the block");
    }
}
