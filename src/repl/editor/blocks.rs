//! Several lines, continued with a trailing `\` or between `"""` marks → one message without the marks.

/// Whether the message continues on the next line, for input that comes line by line.
pub(super) fn unfinished(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix("\"\"\"") {
        Some(rest) => !rest.trim_end().ends_with("\"\"\""),
        None => text.ends_with('\\'),
    }
}

/// The message without its marks.
pub(super) fn finished(text: &str) -> String {
    inside(text).unwrap_or_else(|| text.replace("\\\n", "\n"))
}

/// The text between block marks; `None`: the text is not a block.
pub(super) fn inside(text: &str) -> Option<String> {
    let block = text.trim().strip_prefix(BLOCK)?.strip_suffix(BLOCK)?;
    Some(block.strip_prefix('\n').unwrap_or(block).trim_end_matches('\n').to_string())
}

/// Begins and ends a block of lines.
pub(super) const BLOCK: &str = "\"\"\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_backslashes_hold_lines_together() {
        assert!(unfinished("\"\"\"one"));
        assert!(unfinished("\"\"\"one\ntwo"));
        assert!(!unfinished("\"\"\"one\ntwo\"\"\""));
        assert!(unfinished("\"\"\""));
        assert!(unfinished("one \\"));
        assert!(!unfinished("a \"\"\" in the middle"));
        assert_eq!(finished("\"\"\"\none\ntwo\n\"\"\""), "one\ntwo");
        assert_eq!(finished("one \\\ntwo"), "one \ntwo");
        assert_eq!(finished("  indented"), "  indented");
    }
}
