//! Chooses a code fence that a text cannot close, and detects an unclosed one.

/// A fence longer than any run of backticks in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

/// The text as a fenced block of this language (empty: none), without a final newline.
pub fn fenced(language: &str, text: &str) -> String {
    let fence = fence(text);
    let language: String = language.chars().filter(|c| !c.is_control() && *c != '`').collect();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{}\n{text}{newline}{fence}", language.trim())
}

/// The closing fence of a block that the text leaves open, as a truncated answer may.
pub fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let bare = line.trim_start_matches(' ');
        let Some(mark) = bare.chars().next().filter(|c| ['`', '~'].contains(c)) else { continue };
        let length = bare.chars().take_while(|c| *c == mark).count();
        let rest = &bare[length..];
        let indented = line.len() - bare.len() > 3;
        open = match open {
            None if indented || length < 3 || (mark == '`' && rest.contains('`')) => None,
            None => Some((mark, length)),
            Some(now) if !indented && now.0 == mark && length >= now.1 && rest.trim().is_empty() => None,
            now => now,
        };
    }
    open.map(|(mark, length)| String::from(mark).repeat(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_inside_ends_a_block() {
        assert_eq!(fenced("rust", "let x;"), "```rust\nlet x;\n```");
        assert_eq!(fenced("", "a\n````\nb\n"), "`````\na\n````\nb\n`````");
        assert_eq!(fenced("a`b\nc", ""), "```abc\n\n```");
    }

    #[test]
    fn blocks_left_open_are_noticed() {
        let open = |text| open_fence(text);
        assert_eq!(open("```\na"), Some("```".into()));
        assert_eq!(open("  ~~~~ x\n```\n~~~"), Some("~~~~".into()));
        assert_eq!(open("```\na\n````"), None);
        assert_eq!(open("```a`b```\n    ```"), None);
        assert_eq!(open("no ``` here"), None);
    }
}
