//! A line of Markdown, as far as it has come → its block: paragraph, heading, item, quotation, code, table…
//!
//! Differs from CommonMark where that would change a line after the next ones are known: no headings by
//! underlining, no lazy continuation, no links defined elsewhere; a table begins with a pipe. Code in an item
//! may be indented less than the item. Containers are at most [`DEEPEST`] deep, further marks are text.

/// Most quotations and items inside one another.
const DEEPEST: usize = 16;

/// What a line may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Quote,
    /// A list's item, whose text is indented by this many columns.
    Item(usize),
}

/// A container that begins in a line, with what is shown of its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) container: Container,
    pub(super) mark: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    mark: char,
    length: usize,
    indent: usize,
}

/// What a line is, containers aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Blank,
    Paragraph,
    Heading(usize),
    Rule,
    /// The beginning of a code block.
    Fence(Fence),
    /// The end of one.
    FenceEnd,
    Code,
    /// A line that begins with a pipe, maybe of a table.
    Pipe,
    /// Math, HTML and other lines that stay as written, up to a line with this text or a blank one.
    Verbatim(&'static str),
}

/// The block that the line before stands in, if the next line may continue it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    Nothing,
    Paragraph,
    Code(Fence),
    Verbatim(&'static str),
}

/// The structure of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// How many of the open containers it stands in.
    pub(super) inside: usize,
    pub(super) opened: Vec<Opened>,
    pub(super) block: Block,
    /// The byte at which its text begins.
    pub(super) at: usize,
}

/// Reads a line in these containers; `whole`: nothing more will come. `None`: more must be known.
pub(super) fn read(line: &str, whole: bool, containers: &[Container], open: Open) -> Option<Line> {
    let mut reader = Reader { line, at: 0, whole };
    let mut inside = 0;
    for container in containers {
        let indent = reader.indent();
        let blank = reader.is_blank()?;
        match container {
            Container::Quote if indent < 4 && reader.body().starts_with('>') => reader.quote()?,
            Container::Quote => break,
            Container::Item(_) if blank => {}
            Container::Item(needed) if indent >= *needed || matches!(open, Open::Code(_)) => {
                reader.skip_columns(*needed);
            }
            Container::Item(_) => break,
        }
        inside += 1;
    }
    let done = |reader: Reader, opened, block| Some(Line { inside, opened, block, at: reader.at });
    if inside == containers.len() {
        match open {
            Open::Code(fence) => {
                let block = reader.in_code(fence)?;
                return done(reader, Vec::new(), block);
            }
            Open::Verbatim(end) if !reader.is_blank()? => {
                return done(reader, Vec::new(), Block::Verbatim(end));
            }
            _ => {}
        }
    }
    let mut opened: Vec<Opened> = Vec::new();
    loop {
        if reader.is_blank()? {
            return done(reader, opened, Block::Blank);
        }
        let listed = |c: &Container| matches!(c, Container::Item(_));
        let in_list = containers.iter().any(listed) || opened.iter().any(|o| listed(&o.container));
        if reader.indent() >= 4 && open != Open::Paragraph && !in_list {
            return done(reader, opened, Block::Verbatim(""));
        }
        let container = match inside + opened.len() < DEEPEST {
            true => reader.container()?,
            false => None,
        };
        match container {
            Some(container) => opened.push(container),
            None => {
                let block = reader.leaf()?;
                return done(reader, opened, block);
            }
        }
    }
}

struct Reader<'a> {
    line: &'a str,
    at: usize,
    whole: bool,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn body(&self) -> &'a str {
        self.rest().trim_start_matches([' ', '\t'])
    }

    fn indent(&self) -> usize {
        let rest = self.rest();
        let white = &rest[..rest.len() - self.body().len()];
        white.chars().map(|c| if c == '\t' { 4 } else { 1 }).sum()
    }

    /// Whether nothing but white space is left.
    fn is_blank(&self) -> Option<bool> {
        let blank = self.body().is_empty();
        (self.whole || !blank).then_some(blank)
    }

    /// A decision that may be taken if nothing more can come.
    fn if_whole<T>(&self, decision: T) -> Option<T> {
        self.whole.then_some(decision)
    }

    fn skip_columns(&mut self, mut columns: usize) {
        while columns > 0 && self.rest().starts_with([' ', '\t']) {
            columns = columns.saturating_sub(if self.rest().starts_with('\t') { 4 } else { 1 });
            self.at += 1;
        }
    }

    /// Skips the mark of a quotation.
    fn quote(&mut self) -> Option<()> {
        let after = &self.body()[1..];
        let space = after.chars().next().map_or_else(|| self.if_whole(0), |c| Some(usize::from(c == ' ')))?;
        self.at = self.line.len() - after.len() + space;
        Some(())
    }

    /// What a line in a code block is.
    fn in_code(&mut self, fence: Fence) -> Option<Block> {
        let body = self.body();
        let after = body.trim_start_matches(fence.mark);
        let ends = self.indent() < fence.indent + 4 && after.trim().is_empty();
        if ends && !self.whole {
            return None;
        }
        if ends && body.len() - after.len() >= fence.length {
            return Some(Block::FenceEnd);
        }
        self.skip_columns(fence.indent);
        Some(Block::Code)
    }

    /// The quotation or item that begins here, if any.
    fn container(&mut self) -> Option<Option<Opened>> {
        let (body, indent) = (self.body(), self.indent());
        let first = body.chars().next().unwrap_or(' ');
        let length = match first {
            '>' => {
                self.quote()?;
                return Some(Some(Opened { container: Container::Quote, mark: "│ ".into() }));
            }
            '-' | '+' | '*' => {
                if body.chars().all(|c| c == first || c == ' ' || c == '\t') {
                    self.if_whole(())?;
                    if first != '+' && body.matches(first).count() >= 3 {
                        return Some(None); // a rule
                    }
                }
                1
            }
            '0'..='9' => {
                let after = body.trim_start_matches(|c: char| c.is_ascii_digit());
                let digits = body.len() - after.len();
                match after.chars().next() {
                    None => return self.if_whole(None),
                    Some('.' | ')') if digits < 10 => digits + 1,
                    Some(_) => return Some(None),
                }
            }
            _ => return Some(None),
        };
        let (mark, after) = body.split_at(length);
        let text = after.trim_start_matches([' ', '\t']);
        let gap = &after[..after.len() - text.len()];
        match text.chars().next() {
            None => self.if_whole(())?,
            Some(_) if gap.is_empty() => return Some(None),
            Some(_) => {}
        }
        let gap = if text.is_empty() || gap.len() > 4 || gap.contains('\t') { " " } else { gap };
        let text = if after.starts_with(&format!("{gap} ")) { &after[gap.len()..] } else { text };
        let task = if length == 1 { self.task(text)? } else { None };
        let shown = match task {
            Some(done) => {
                if done {
                    "✓"
                } else {
                    "☐"
                }
            }
            None if length == 1 => "•",
            None => mark,
        };
        self.at = self.line.len() - text.len() + if task.is_some() { 4 } else { 0 };
        Some(Some(Opened {
            container: Container::Item(indent + length + gap.len()),
            mark: format!("{:indent$}{shown}{gap}", ""),
        }))
    }

    /// Whether an item is a task, and done.
    fn task(&self, text: &str) -> Option<Option<bool>> {
        let boxes = [("[ ] ", false), ("[x] ", true), ("[X] ", true)];
        if !self.whole && boxes.iter().any(|(shown, _)| shown.len() > text.len() && shown.starts_with(text)) {
            return None;
        }
        Some(boxes.iter().find(|(shown, _)| text.starts_with(shown)).map(|(_, done)| *done))
    }

    /// The block that begins here.
    fn leaf(&mut self) -> Option<Block> {
        let body = self.body();
        let first = body.chars().next().unwrap_or(' ');
        let run = body.len() - body.trim_start_matches(first).len();
        let after = &body[run * first.len_utf8().min(1)..];
        match first {
            '#' if run <= 6 && after.trim().is_empty() => self.heading(run, after).filter(|_| self.whole),
            '#' if run <= 6 && after.starts_with([' ', '\t']) => self.heading(run, after),
            '-' | '*' | '_' if body.chars().all(|c| c == first || c == ' ' || c == '\t') => {
                let rule = body.matches(first).count() >= 3;
                self.if_whole(if rule { Block::Rule } else { Block::Paragraph })
            }
            '-' | ':' if body.chars().all(|c| "|-: ".contains(c)) => {
                let table = body.contains('|') && body.contains('-');
                self.if_whole(if table { Block::Verbatim("") } else { Block::Paragraph })
            }
            '`' | '~' if run < 3 && after.is_empty() => self.if_whole(Block::Paragraph),
            '`' if run >= 3 && after.contains('`') => Some(Block::Paragraph),
            '`' | '~' if run >= 3 => {
                self.if_whole(Block::Fence(Fence { mark: first, length: run, indent: self.indent() }))
            }
            '|' => self.if_whole(Block::Pipe),
            '$' if body == "$" => self.if_whole(Block::Paragraph),
            '$' if run >= 2 => Some(Block::Verbatim("$$")),
            '\\' if body.starts_with("\\[") => Some(Block::Verbatim("\\]")),
            '\\' if body.starts_with("\\begin{") => Some(Block::Verbatim("\\end{")),
            '\\' if "\\begin{".starts_with(body) => self.if_whole(Block::Paragraph),
            '<' => {
                html(body, self.whole).map(|html| if html { Block::Verbatim("") } else { Block::Paragraph })
            }
            _ => Some(Block::Paragraph),
        }
    }

    fn heading(&mut self, level: usize, after: &str) -> Option<Block> {
        let text = after.trim_start_matches([' ', '\t']);
        self.at = self.line.len() - text.len();
        Some(Block::Heading(level))
    }
}

/// Whether a line begins an HTML block; `None`: its tag is not complete.
fn html(body: &str, whole: bool) -> Option<bool> {
    let name = body[1..].trim_start_matches('/');
    if name.starts_with(['!', '?']) {
        return Some(true);
    }
    let end = name.find(|c: char| !c.is_ascii_alphanumeric());
    if end.is_none() && !whole {
        return (name.len() > LONGEST_NAME).then_some(false);
    }
    let (name, after) = name.split_at(end.unwrap_or(name.len()));
    let is_block = BLOCKS.split_whitespace().any(|block| block.eq_ignore_ascii_case(name));
    Some(is_block && (after.is_empty() || after.starts_with([' ', '\t', '>', '/'])))
}

const LONGEST_NAME: usize = 10;
/// The tags of CommonMark's HTML blocks.
const BLOCKS: &str = "address article aside base basefont blockquote body caption center col colgroup dd details dialog \
                      dir div dl dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head \
                      header hr html iframe legend li link main menu menuitem nav noframes ol optgroup option p param \
                      pre script search section style summary table tbody td textarea tfoot th thead title tr track ul";

#[cfg(test)]
mod tests {
    use super::*;

    fn block(line: &str) -> Block {
        read(line, true, &[], Open::Nothing).unwrap().block
    }

    #[test]
    fn a_line_is_decided_once_and_for_all() {
        for line in [
            "text",
            "# heading",
            "####### seven",
            "- item",
            "- - two",
            "* * *",
            "***",
            "**bold**",
            "12. item",
            "12",
            "> > quote",
            "- [x] done",
            "- [y]",
            "```rust",
            "```a``` b",
            "~~~",
            "| a |",
            "$x$",
            "$$x$$",
            "\\[x\\]",
            "\\begin{x}",
            "\\begun",
            "<div>",
            "<b>x",
            "<http://x>",
            "---|---",
            "    code",
            "-",
            "1.",
            "#",
            "+ + +",
            "-\ttab",
            "-       far",
        ] {
            let whole = read(line, true, &[], Open::Nothing).unwrap();
            for (end, _) in line.char_indices().skip(1) {
                if let Some(early) = read(&line[..end], false, &[], Open::Nothing) {
                    assert_eq!(early, whole, "{line:?} after {end} bytes");
                }
            }
        }
    }

    #[test]
    fn blocks_are_told_apart() {
        assert_eq!(block("text"), Block::Paragraph);
        assert_eq!(block("## heading"), Block::Heading(2));
        assert_eq!(block("#no"), Block::Paragraph);
        assert_eq!(block("- - -"), Block::Rule);
        assert_eq!(block("    code"), Block::Verbatim(""));
        assert_eq!(block("<div class=x>"), Block::Verbatim(""));
        assert_eq!(block("<https://a.b>"), Block::Paragraph);
        assert_eq!(block("| a |"), Block::Pipe);
        let line = read("  10. [ ] text", true, &[], Open::Nothing).unwrap();
        assert_eq!(line.opened, [Opened { container: Container::Item(6), mark: "  10. ".into() }]);
        let line = read("- [ ] text", true, &[], Open::Nothing).unwrap();
        assert_eq!((line.opened[0].mark.as_str(), line.at), ("☐ ", 6));
    }
}
