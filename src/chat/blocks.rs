//! Finds the fenced code blocks of a text as CommonMark defines them (spec 0.31.2, section 4.5): also those in
//! lists and quotes, without the indentation of the list and the marks of the quote.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

/// A fenced code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeBlock {
    /// The first word after the opening fence, as written; empty if there is none.
    pub language: String,
    /// Its lines, each with its newline.
    pub text: String,
}

/// The fenced code blocks of a Markdown text, in order. A block that is left open reaches to its end.
pub fn code_blocks(text: &str) -> Vec<CodeBlock> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for event in Parser::new(text) {
        match event {
            Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                let language = info.split_whitespace().next().unwrap_or_default().to_string();
                open = Some(CodeBlock { language, text: String::new() });
            }
            Event::Text(piece) => open.iter_mut().for_each(|block| block.text.push_str(&piece)),
            Event::End(TagEnd::CodeBlock) => blocks.extend(open.take()),
            _ => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        code_blocks(text).into_iter().map(|block| (block.language, block.text)).collect()
    }

    #[track_caller]
    fn is(text: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(l, t)| (l.to_string(), t.to_string())).collect();
        assert_eq!(found(text), expected, "{text:?}");
    }

    #[test]
    fn a_fence_ends_with_one_as_long_of_its_own_kind() {
        is(
            "Use:\n```rust ignore\nlet x = 1;\n\n```\nand\n~~~\n```\n~~~\n",
            &[("rust", "let x = 1;\n\n"), ("", "```\n")],
        );
        is("`````md\n````\nx\n````\n`````", &[("md", "````\nx\n````\n")]);
        is("```\n``` no end\n~~~\n    ```\n```", &[("", "``` no end\n~~~\n    ```\n")]);
        is("~~~ a`b\nx\n~~~~ \n", &[("a`b", "x\n")]);
    }

    #[test]
    fn what_only_looks_like_a_fence_is_none() {
        is("    ```\n    indented\n    ```\n", &[]);
        is("``\nx\n``\n\n``` a`b ``` inline", &[]);
        is("text ```\nx\n", &[]);
    }

    #[test]
    fn indentation_and_marks_of_what_is_around_are_removed() {
        is("   ```\n   a\n     b\nc\n   ```", &[("", "a\n  b\nc\n")]);
        is("1. Run:\n\n    ```sh\n    ls\n      -l\n    ```\n2. Done.", &[("sh", "ls\n  -l\n")]);
        is("- a\n  - b\n    ```py\n    if x:\n        y\n    ```\n", &[("py", "if x:\n    y\n")]);
        is("> ```\n> a\n> b\n> ```\n", &[("", "a\nb\n")]);
        is("> ```\n> quoted\nnot any more", &[("", "quoted\n")]);
    }

    #[test]
    fn an_open_block_reaches_to_the_end_and_an_empty_one_is_a_block() {
        is("```c\nint x;", &[("c", "int x;")]);
        is("```\n```", &[("", "")]);
        is("```", &[("", "")]);
        is("", &[]);
    }

    #[test]
    fn the_text_inside_is_raw() {
        is(
            "```html\n<b>&amp; *x* \\n \u{1b}[31m</b>\t\n```",
            &[("html", "<b>&amp; *x* \\n \u{1b}[31m</b>\t\n")],
        );
    }
}
