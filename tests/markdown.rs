//! Markdown in answers: rendered the same however the text comes, and nothing of it lost or left behind.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Mutex, PoisonError};

use fireside::chat::settings::Theme;
use fireside::ui::below::{Below, around};
use fireside::ui::live::Live;
use fireside::ui::markdown::Look;
use fireside::ui::{sanitize, terminal};
use textwrap::core::display_width;

use crate::support::pty::*;
use crate::support::{Home, alone, own_peak};

const LOOK: Look = Look { theme: Theme::Dark, styled: true };
const WIDTHS: [u16; 3] = [20, 80, 200];
const HEIGHT: u16 = 12;

/// Whole answers like real ones, and broken ones; and answers of a real model.
fn answers() -> Vec<String> {
    let of_a_model = include_str!("markdown/smollm2.md").split("=====\n").skip(1);
    include_str!("markdown/answers.md").split("=====\n").chain(of_a_model).map(String::from).collect()
}

/// The examples of the CommonMark specification.
fn examples() -> Vec<String> {
    let file: serde_json::Value = serde_json::from_str(include_str!("markdown/commonmark.json")).unwrap();
    let examples = file["examples"].as_array().unwrap();
    examples.iter().map(|example| example.as_str().unwrap().to_string()).collect()
}

/// What stands in the last column where a wide character did not fit.
const GAP: char = '\u{e000}';

/// A terminal of these columns, of [`HEIGHT`] rows at first, and all that has scrolled off it.
struct Page(vt100::Parser);

impl Page {
    fn new(columns: u16) -> Page {
        Page::of(columns, HEIGHT)
    }

    fn of(columns: u16, height: u16) -> Page {
        let size = |n| NonZeroU16::new(n).unwrap();
        Page(vt100::Parser::new(size(height), size(columns), 1_000_000))
    }

    fn height(&self) -> u16 {
        self.0.screen().size().0.get()
    }

    fn write(&mut self, output: &str) {
        // This terminal drops the replacement character, which others show.
        let output = output.replace('\n', "\r\n").replace('\u{fffd}', "\u{25a1}");
        let last = self.0.screen().size().1.get() - 1;
        for piece in output.split_inclusive(|c: char| display_width(c.encode_utf8(&mut [0; 4])) > 1) {
            let wide = piece.char_indices().last().map_or(0, |(byte, _)| byte);
            self.0.process(&piece.as_bytes()[..wide]);
            // It takes a row for ended, not divided, where a wide character does not fit.
            if self.0.screen().cursor_position().1 == last && display_width(&piece[wide..]) > 1 {
                self.0.process(GAP.encode_utf8(&mut [0; 4]).as_bytes());
            }
            self.0.process(&piece.as_bytes()[wide..]);
        }
    }

    /// The window changes; a narrower one cuts its rows.
    fn resize(&mut self, columns: u16) {
        let size = |n| NonZeroU16::new(n).unwrap();
        self.0.screen_mut().set_size(size(HEIGHT), size(columns));
    }

    /// The window changes, and what the terminal itself has divided into rows it divides anew.
    fn reflow(&mut self, columns: u16, height: u16) {
        const DIVIDED: &str = "\u{1}";
        let before = self.0.screen().size().1.into();
        let (row, _) = self.0.screen().cursor_position();
        let mut rows = self.all(|screen| {
            let end = |row| if screen.row_wrapped(row) { DIVIDED } else { "" };
            screen.rows(0, before).zip(0..).map(|(text, row)| text.replace(GAP, "") + end(row)).collect()
        });
        rows.truncate(rows.len() - usize::from(self.height() - 1 - row));
        *self = Page::of(columns, height);
        self.write(&rows.join("\n").replace(&format!("{DIVIDED}\n"), ""));
    }

    /// The text of every row down to the last that has one.
    fn texts(&mut self) -> Vec<String> {
        let columns = self.0.screen().size().1.into();
        let mut rows: Vec<String> = self.all(|screen| {
            screen.rows(0, columns).map(|row| row.trim_end_matches([' ', GAP]).into()).collect()
        });
        while rows.pop_if(|row| row.is_empty()).is_some() {}
        rows
    }

    /// Every row with its styles, and the cursor.
    fn rows(&mut self) -> Vec<String> {
        let columns = self.0.screen().size().1.into();
        let (row, column) = self.0.screen().cursor_position();
        let mut rows = self.all(|screen| {
            let wrapped = |row| if screen.row_wrapped(row) { "…" } else { "" };
            let shown = screen.rows_formatted(0, columns).zip(0..);
            shown.map(|(formatted, row)| formatted + wrapped(row)).collect()
        });
        let cursor = format!("{} {column}", rows.len() - usize::from(self.height()) + usize::from(row));
        while rows.pop_if(|row| row.is_empty()).is_some() {}
        rows.push(cursor);
        rows
    }

    /// What `read` finds in the rows, those that have scrolled away first.
    fn all(&mut self, read: impl Fn(&vt100::Screen) -> Vec<String>) -> Vec<String> {
        let mut rows = Vec::new();
        self.0.screen_mut().set_scrollback(usize::MAX);
        let mut above = self.0.screen().scrollback();
        loop {
            self.0.screen_mut().set_scrollback(above);
            let shown = read(self.0.screen());
            if above == 0 {
                rows.extend(shown);
                return rows;
            }
            let next = above.saturating_sub(shown.len());
            rows.extend_from_slice(&shown[..above - next]);
            above = next;
        }
    }
}

/// What stands on the screen after the pieces of an answer.
fn shown<'a>(columns: u16, pieces: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut page = Page::new(columns);
    page.write("> a question\n");
    let mut live = Live::new(LOOK, columns.into(), true, "");
    for piece in pieces {
        page.write(&live.push(&sanitize(piece), columns.into(), HEIGHT.into()));
    }
    page.write(&live.end(columns.into(), HEIGHT.into()));
    page.rows()
}

#[track_caller]
fn is_like_the_whole(columns: u16, text: &str, whole: &[String], pieces: &[&str]) {
    let split = shown(columns, pieces.iter().copied());
    if split != whole {
        let at = whole.iter().zip(&split).position(|(one, other)| one != other).unwrap_or(0);
        panic!(
            "{columns} columns, {pieces:?} of {text:?}\nrow {at}:\n{:#?}\ninstead of\n{:#?}",
            &split[at..split.len().min(at + 4)],
            &whole[at..whole.len().min(at + 4)]
        );
    }
}

/// A sequence of numbers that looks random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }
}

/// The text in pieces of 1 to `most` characters.
fn pieces<'a>(text: &'a str, most: usize, random: &mut Random) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = 1 + random.below(most);
        let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        pieces.push(&rest[..end]);
        rest = &rest[end..];
    }
    pieces
}

fn come_out_like_the_whole(texts: &[String]) {
    let mut random = Random(1);
    for text in texts {
        let uncoloured = text.replace("```rust", "```").replace("```python", "```").replace("```js", "```"); // quicker
        for columns in WIDTHS {
            let whole = shown(columns, [uncoloured.as_str()]);
            for (at, _) in uncoloured.char_indices().skip(1) {
                is_like_the_whole(columns, &uncoloured, &whole, &[&uncoloured[..at], &uncoloured[at..]]);
            }
            let whole = shown(columns, [text.as_str()]);
            for most in [1, 3, 8, 40] {
                is_like_the_whole(columns, text, &whole, &pieces(text, most, &mut random));
            }
        }
    }
}

#[test]
fn pieces_of_answers_come_out_like_the_whole() {
    come_out_like_the_whole(&answers());
}

#[test]
fn pieces_of_the_specification_come_out_like_the_whole() {
    come_out_like_the_whole(&examples());
    let all = examples().join("\n\n");
    let mut random = Random(2);
    for columns in WIDTHS {
        let whole = shown(columns, [all.as_str()]);
        for most in [1, 5, 100] {
            is_like_the_whole(columns, "all of it", &whole, &pieces(&all, most, &mut random));
        }
    }
}

/// What the answer leaves, on a page of these columns, without styles.
fn plain(columns: u16, text: &str) -> Vec<String> {
    let mut page = Page::new(columns);
    let mut live = Live::new(LOOK, columns.into(), true, "");
    page.write(&live.push(&sanitize(text), columns.into(), HEIGHT.into()));
    page.write(&live.end(columns.into(), HEIGHT.into()));
    page.texts()
}

#[track_caller]
fn is_shown(columns: u16, text: &str, rows: &[&str]) {
    let shown = plain(columns, text);
    assert_eq!(shown, rows, "{text:?} at {columns}:\n{}", shown.join("\n"));
}

#[test]
fn blocks_look_like_what_they_are() {
    is_shown(40, "# One\n\nText *one* **two** `three` ~~four~~.\n", &["One", "", "Text one two three four."]);
    is_shown(
        20,
        "- one and more words\n  - two\n- [x] three\n- [ ] four",
        &["• one and more words", "  • two", "✓ three", "☐ four"],
    );
    is_shown(
        20,
        "1. first of the two items\n10. tenth of the two items",
        &["1. first of the two", "   items", "10. tenth of the two", "    items"],
    );
    is_shown(
        20,
        "> quoted words that go on\n> > deeper\n\nafter",
        &["│ quoted words that", "│ go on", "│ │ deeper", "", "after"],
    );
    is_shown(
        20,
        "---\n[text](http://a.b/c) <http://d.e>\n[http://f](http://f)",
        &["────────────────────", "text (http://a.b/c)", "http://d.e", "http://f"],
    );
    is_shown(40, "```rust\nlet a = 1;\n```\nafter", &["```rust", "let a = 1;", "```", "after"]);
}

#[test]
fn math_and_html_stay_as_written() {
    for text in [
        "with $a_1 * b_1 * c_1$ and $$x_1 _y_$$",
        "also \\(a_i * b_i * c_i\\) and \\[*x*\\]",
        "$$\nx_1 = *a* + *b*\n$$",
        "\\[\n*x* _y_\n\\]",
        "\\begin{align}\n*a* &= _b_\n\\end{align}",
        "<div>\n*a* _b_\n</div>",
        "a <b title=\"*x*\">*</b> <!-- *c* -->",
        "it costs $5 and 2 * 3 * 4 snake_case_name",
    ] {
        is_shown(60, text, &text.lines().collect::<Vec<_>>());
    }
}

#[test]
fn tables_fit_the_window() {
    let table = "| Name | Count | What |\n|:--|--:|:-:|\n| **a** | 1 | first \\| one |\n| bcd | 23 | two |\n";
    is_shown(
        40,
        table,
        &[
            "Name │ Count │    What",
            "─────┼───────┼────────────",
            "a    │     1 │ first | one",
            "bcd  │    23 │     two",
        ],
    );
    is_shown(
        34,
        "| Key | Value |\n|---|---|\n| long | many words that do not fit in it |\nafter",
        &[
            "Key  │ Value",
            "─────┼────────────────────────────",
            "long │ many words that do not fit",
            "     │ in it",
            "after",
        ],
    );
    is_shown(
        20,
        "| Key | Value | More |\n|---|---|---|\n| a long key | many words here | so it is a record |\n",
        &["Key: a long key", "Value: many words", "  here", "More: so it is a", "  record", "───"],
    );
    is_shown(40, "| no | table |\nafter", &["| no | table |", "after"]);
}

#[test]
fn hostile_texts_take_linear_time_and_act_on_nothing() {
    are_rendered(&hostile(100_000));
}

#[test]
#[ignore = "takes a minute: make fuzz-markdown"]
#[allow(clippy::print_stderr)] // the figure is a result
fn ten_megabytes_of_hostile_text_take_linear_time_and_little_memory_and_act_on_nothing() {
    let this =
        "markdown::ten_megabytes_of_hostile_text_take_linear_time_and_little_memory_and_act_on_nothing";
    if !alone(this) {
        return;
    }
    let texts = hostile(10_000_000);
    let before = own_peak();
    are_rendered(&texts);
    let grown = (own_peak() - before) >> 20;
    eprintln!("rendering took {grown} MiB at most");
    assert!(grown < 64, "{grown} MiB");
}

/// Texts of this many bytes, each with much of something.
fn hostile(bytes: usize) -> Vec<String> {
    let repeated = |text: &str| text.repeat(bytes / text.len());
    vec![
        repeated("> "),
        repeated("- "),
        repeated("> - 1. "),
        repeated("["),
        repeated("[a](b *c `"),
        repeated("**a _b ~~c $d \\(e <f &g "),
        repeated("endless"),
        repeated("`*_ "),
        repeated("| a "),
        format!("| a | b |\n|---|---|\n{}", repeated("| `x | **y |\n")),
        repeated("| a | b |\n|---|---|\n|\n\n"),
        format!("|{}\n|{}\n", "a|".repeat(500), "-|".repeat(500)) + &repeated("| x | y\n"),
        format!("```rust\n{}", repeated("fn \"'#(r##[/*")),
        format!("```rust\n{}", repeated("let a = \"b\n")),
        repeated("\x1b[2J\u{9b}31m\x07\u{202e}\u{2066}a\r\0"),
        repeated("a\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}\u{301}"),
        repeated("$$\n\n\\[\n\n<div>\n\n"),
        repeated("&#27;[2J&#x9b;&#x202e; [x](&#27;]0;) "),
        repeated(" \t\n"),
        repeated("日本"),
    ]
}

fn are_rendered(texts: &[String]) {
    for text in texts {
        let mut live = Live::new(LOOK, 80, true, "");
        let (mut random, name) = (Random(3), format!("{text:.20}"));
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let length = [1, 7, 500, 40_000][random.below(4)];
            let end = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
            let out = live.push(&sanitize(&rest[..end]), 80, 24);
            acts_on_nothing(&out, &name);
            assert!(out.len() < 100 * end + 100_000, "{} bytes for {end} of {:?}", out.len(), &name);
            rest = &rest[end..];
        }
        acts_on_nothing(&live.end(80, HEIGHT.into()), &name);
    }
}

/// Fails unless the only escape sequences are those of styles and of redrawing.
#[track_caller]
fn acts_on_nothing(output: &str, what: &str) {
    let mut rest = output;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n' && c != '\t' && c != '\r') {
        let sequence = &rest[at..];
        let end = sequence.find(|c: char| c.is_ascii_alphabetic()).expect("the sequence ends");
        let parameters =
            sequence[..end].strip_prefix("\x1b[").unwrap_or_else(|| panic!("{what}: {sequence:.40}"));
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == ';');
        let known = match sequence.as_bytes()[end] {
            b'm' | b'A' => digits(parameters),
            b'J' => parameters.is_empty(),
            b'h' | b'l' => parameters == "?2026",
            _ => false,
        };
        assert!(known, "{what}: {:?}", &sequence[..=end]);
        rest = &sequence[end..];
    }
    assert!(!output.chars().any(|c| fireside::ui::acts(c) && !c.is_control()), "{what}");
}

/// What random texts are made of.
fn corpus() -> Vec<String> {
    answers().into_iter().chain(examples()).collect()
}

fn comes_out_like_the_whole(corpus: &[String], random: &mut Random) {
    let start = random.0;
    let text = random_text(corpus, random);
    let columns = [5, 8, 20, 33, 80, 200][random.below(6)];
    let most = [1, 2, 5, 30, 300][random.below(5)];
    let whole = shown(columns, [text.as_str()]);
    let split = pieces(&text, most, random);
    let result = std::panic::catch_unwind(|| is_like_the_whole(columns, &text, &whole, &split));
    assert!(result.is_ok(), "seed {start}");
    disturbed(&text, columns, &split, random, start);
}

#[test]
fn texts_that_once_came_out_otherwise() {
    // Code and comments that overlap; empty rows after one that the terminal divides; a terminal that joins such a
    // row with the unfinished one below when the window changes; a typed row while the cursor is behind a full one; rows
    // that are longer than a window that has become narrower; long lines with wide characters, divided
    // anew; a tail that does so beyond the screen; emoji that some terminals combine.
    for seed in [
        10327815428740484894,
        1705064983775800024,
        11857849645831316432,
        7861973813093081839,
        4215384079699321023,
        6030911374379845817,
        641586410893347437,
        8710920007392634203,
        8541312783541800978,
        17055269632395041608,
        13164841786029406844,
        16557037177823257804,
        1816974503623337269,
        18204324125853872002,
        14496924897852074969,
    ] {
        comes_out_like_the_whole(&corpus(), &mut Random(seed));
    }
}

/// Random texts, pieces, windows and notices, for as long as FIRESIDE_FUZZ_SECONDS says: `make fuzz-markdown`.
#[test]
#[ignore = "runs as long as it is told to"]
fn random_texts_come_out_like_the_whole() {
    let seconds: u64 = std::env::var("FIRESIDE_FUZZ_SECONDS").map_or(10, |text| text.parse().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var("FIRESIDE_FUZZ_SEED").map_or(now, |text| text.parse().unwrap());
    let (corpus, mut rounds) = (corpus(), 0);
    let mut random = Random(seed);
    while std::time::Instant::now() < end {
        comes_out_like_the_whole(&corpus, &mut random);
        rounds += 1;
    }
    assert!(rounds > 0, "no time for a single text");
}

/// Marks that texts are made of, besides parts of the corpus.
const MARKS: &[&str] = &[
    "*",
    "**",
    "***",
    "_",
    "__",
    "`",
    "``",
    "```",
    "~~",
    "~~~",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "[",
    "]",
    "](",
    ")",
    "<",
    ">",
    "<b>",
    "<div>",
    "<!--",
    "-->",
    "&amp;",
    "&",
    "|",
    "|---|",
    "| a | b |\n",
    "\n",
    "\n\n",
    " ",
    "  ",
    "    ",
    "\t",
    "- ",
    "* ",
    "1. ",
    "12) ",
    "> ",
    "# ",
    "### ",
    "---\n",
    "[ ] ",
    "[x] ",
    "\\",
    "\\\n",
    "a",
    "word",
    "two words ",
    "日本語",
    "é",
    "e\u{301}",
    "👩‍💻",
    "👍🏽",
    "❤️",
    "\u{1b}",
    "\u{202e}",
    "http://a.b/c",
    "snake_case",
    "5",
    "```rust\n",
    "fn main() {\n",
    "\"",
    "'",
    "/*",
    "//",
    "$5",
    "\\begin{x}",
    "\\end{x}",
    ".",
    "!",
    "![",
    "(",
    "{",
    "}",
    ":",
    "=",
];

fn random_text(corpus: &[String], random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..1 + random.below(12) {
        if random.below(4) == 0 {
            let source = &corpus[random.below(corpus.len())];
            let from = random.below(source.len().max(1));
            let length = random.below(400);
            text.extend(source.chars().skip(from).take(length));
        } else {
            let most = if random.below(20) == 0 { 900 } else { 12 };
            let count = 1 + random.below(most);
            let few = 1 + random.below(6);
            let picked: Vec<&str> = (0..few).map(|_| MARKS[random.below(MARKS.len())]).collect();
            (0..count).for_each(|_| text += picked[random.below(few)]);
        }
    }
    text
}

/// How often each letter and digit is there.
fn letters<'a>(rows: impl IntoIterator<Item = &'a String>) -> BTreeMap<char, usize> {
    let mut counted = BTreeMap::new();
    let all = rows.into_iter().flat_map(|row| row.chars()).filter(char::is_ascii_alphanumeric);
    all.for_each(|c| *counted.entry(c).or_default() += 1);
    counted
}

/// The row below an answer is of the whole program.
static BELOW: Mutex<()> = Mutex::new(());

/// The same with notices in between and typed rows below: what the answer leaves besides them is the whole. And
/// with windows that change: no text is lost.
fn disturbed(text: &str, columns: u16, pieces: &[&str], random: &mut Random, seed: u64) {
    const NOTICE: &str = "(a notice)";
    if columns < 20 {
        return;
    }
    let _alone = BELOW.lock().unwrap_or_else(PoisonError::into_inner);
    let mut page = Page::new(columns);
    page.write("> a question\n");
    let mut live = Live::new(LOOK, columns.into(), true, "");
    let mut typed = String::new();
    for piece in pieces {
        let output = live.push(&sanitize(piece), columns.into(), HEIGHT.into());
        acts_on_nothing(&output, "");
        page.write(&around(&output, || Below::of(&typed).drawn(live.column(), columns.into(), "2")));
        match random.below(12) {
            0 => page.write(&around(
                &(live.set_aside(columns.into(), HEIGHT.into()) + NOTICE + "\n"),
                String::new,
            )),
            1 => typed.clear(),
            2..6 => typed += MARKS[random.below(MARKS.len())],
            _ => continue,
        }
        page.write(&around("", || Below::of(&typed).drawn(live.column(), columns.into(), "2")));
    }
    typed += "x";
    let row = Below::of(&typed);
    page.write(&around(&live.end(columns.into(), HEIGHT.into()), || row.drawn(0, columns.into(), "2")));
    let without = |mut rows: Vec<String>| {
        rows.retain(|row| row != NOTICE);
        while rows.pop_if(|row| row.is_empty()).is_some() {}
        rows
    };
    let mut whole = Page::new(columns);
    whole.write("> a question\n");
    let mut live = Live::new(LOOK, columns.into(), true, "");
    whole.write(&live.push(&sanitize(text), columns.into(), HEIGHT.into()));
    whole.write(&live.end(columns.into(), HEIGHT.into()));
    let mut rows = page.texts();
    let below = rows.pop().unwrap();
    assert!(below.starts_with("> ") && below.ends_with('x'), "{below:?}, {typed:?} typed, seed {seed}");
    assert_eq!(without(rows), whole.texts(), "notices and typed rows, seed {seed}");
    page.write(&around("", String::new));
    assert_eq!(without(page.texts()), whole.texts(), "after the typed row, seed {seed}");

    let (mut page, reflows) = (Page::new(columns), random.below(2) == 0 || terminal::reflows());
    let above: Vec<String> = (0..HEIGHT * 2).map(|n| format!("line {n} before")).collect();
    above.iter().for_each(|line| page.write(&format!("{line}\n")));
    let mut live = Live::new(LOOK, columns.into(), true, "");
    let (mut width, mut height) = (columns, HEIGHT);
    for piece in pieces {
        if random.below(6) == 0 {
            width = 20 + random.below(100) as u16;
            if reflows {
                height = [HEIGHT, 3, 2 * HEIGHT][usize::from(width % 3)];
                page.reflow(width, height);
            } else {
                page.resize(width);
            }
        }
        page.write(&live.push(&sanitize(piece), width.into(), height.into()));
    }
    page.write(&live.end(width.into(), height.into()));
    let rows = page.texts();
    for line in &above {
        assert!(rows.contains(line), "{line:?} is gone, seed {seed}");
    }
    if reflows {
        // In a wide window nothing is said twice, as the headings of a narrow table are.
        let (there, whole) = (letters(&rows), plain(1000, text));
        for (letter, count) in letters(above.iter().chain(&whole)) {
            let left = there.get(&letter).copied().unwrap_or(0);
            let (rows, whole) = (rows.join("\n"), whole.join("\n"));
            assert!(left >= count, "{left} of {count} {letter:?}, seed {seed}:\n{rows}\n----\n{whole}");
        }
    }
}

const ANSWER: &str = "# Rivers\n\nThe **Rhine** is 1,233 km long; its `source` is in the *Alps*.\n\n- Basel, a town with a harbour\n- Cologne\n\n\
                      | Town | km |\n|---|--:|\n| Basel | 166 |\n| Bonn | 655 |\n\n```sh\nls *.md\n```\nSee [the map](https://a.b/c).\n";

fn scripted(home: &Home, answer: &str) -> [String; 2] {
    home.script("answers", &format!("{}\n", answer.replace('\n', "\\n")))
}

/// The program answers this on a terminal of these columns.
fn answered(home: &Home, setup: Setup, answer: &str, more: &[&str]) -> Terminal {
    let asks = ["-p", "Say it", "--incognito", "-q"];
    let script = scripted(home, answer);
    home.terminal_as(&setup, &[&script.each_ref().map(String::as_str)[..], &asks, more].concat())
}

fn screen_of(setup: Setup, more: &[&str]) -> String {
    let home = Home::new();
    let mut terminal = answered(&home, setup, ANSWER, more);
    assert_eq!(terminal.ends(), 0);
    terminal.screen()
}

fn columns(columns: u16) -> Setup {
    Setup { columns, ..Setup::default() }
}

fn with(name: &'static str, value: &str) -> Setup {
    Setup { environment: vec![(name, value.to_string())], columns: 80, ..Setup::default() }
}

#[test]
fn an_answer_is_rendered_on_a_terminal() {
    let wide = "Rivers\n\nThe Rhine is 1,233 km long; its source is in the Alps.\n\n• Basel, a town with a harbour\n• Cologne\n\n\
                Town  │  km\n──────┼────\nBasel │ 166\nBonn  │ 655\n\n```sh\nls *.md\n```\nSee the map (https://a.b/c).";
    for width in [80, 200] {
        assert_eq!(screen_of(columns(width), &[]).trim_end(), wide);
    }
    let narrow = "Rivers\n\nThe Rhine is 1,233\nkm long; its source\nis in the Alps.\n\n• Basel, a town with\n  a harbour\n• Cologne\n\n\
                  Town  │  km\n──────┼────\nBasel │ 166\nBonn  │ 655\n\n```sh\nls *.md\n```\nSee the map\n(https://a.b/c).";
    assert_eq!(screen_of(columns(20), &[]).trim_end(), narrow);
}

#[test]
fn it_is_the_text_itself_wherever_it_is_not_for_a_person_to_read() {
    let home = Home::new();
    let script = scripted(&home, ANSWER);
    let args = [&script.each_ref().map(String::as_str)[..], &["-p", "Say it", "--markdown", "on"]].concat();
    assert_eq!(home.run(&args).done().code(0).stdout, ANSWER);
    let json = home.run(&[&args[..], &["--json"]].concat()).done().code(0).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["text"], ANSWER);
    assert_eq!(screen_of(columns(80), &["--raw"]).trim_end(), ANSWER.trim_end());
}

#[test]
fn it_can_be_switched_off() {
    assert_eq!(screen_of(columns(80), &["--markdown", "off"]).trim_end(), ANSWER.trim_end());
    assert_eq!(screen_of(columns(80), &["--plain"]).trim_end(), ANSWER.trim_end());
    assert_eq!(screen_of(with("TERM", "dumb"), &[]).trim_end(), ANSWER.trim_end());
    assert_eq!(screen_of(with("FIRESIDE_MARKDOWN", "off"), &[]).trim_end(), ANSWER.trim_end());
    let home = Home::new();
    let mut terminal = home.terminal(&scripted(&home, ANSWER));
    terminal.at_prompt().line("Say it").sees("• Cologne").sees("ls *.md").at_prompt();
    terminal.line("/set markdown off").sees("markdown is off").at_prompt();
    terminal.wiped().line("Again").sees("- Cologne").sees("**Rhine**").at_prompt();
    terminal.line("/set markdown on").sees("markdown is on").at_prompt();
    terminal.wiped().line("/show prompt").sees("[assistant] # Rivers").sees("| Bonn | 655 |").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn nothing_is_redrawn_on_a_plain_terminal() {
    let home = Home::new();
    for setup in [with("TERM", "dumb"), columns(80)] {
        let mut terminal = answered(&home, setup, ANSWER, &["--plain", "--markdown", "on"]);
        assert_eq!(terminal.ends(), 0);
        assert!(terminal.screen().contains("• Cologne\n\nTown  │  km\n"), "{}", terminal.screen());
        assert!(terminal.screen().contains("The **Rhine** is"), "{}", terminal.screen());
        assert!(!terminal.bytes().contains(&0x1b), "{:?}", String::from_utf8_lossy(&terminal.bytes()));
    }
}

#[test]
fn styles_are_used_where_they_are_wanted() {
    let home = Home::new();
    let mut terminal = answered(&home, columns(80), ANSWER, &[]);
    terminal.sees("the map").wait("bold", |screen| {
        let styles = |row, column| screen.cell(row, column).map(|cell| (cell.bold(), cell.italic()));
        let (bold, italic) = (screen.contents_between(2, 4, 2, 9), screen.contents_between(2, 49, 2, 53));
        (bold.as_str(), italic.as_str()) == ("Rhine", "Alps")
            && styles(2, 4) == Some((true, false))
            && styles(2, 49) == Some((false, true))
            && styles(2, 10) == Some((false, false))
    });
    assert_eq!(terminal.ends(), 0);
    drop(terminal);
    for (setup, more) in [(with("NO_COLOR", "1"), &[][..]), (columns(80), &["--color", "never"][..])] {
        let mut terminal = answered(&home, setup, ANSWER, more);
        assert_eq!(terminal.ends(), 0);
        let screen = terminal.screen();
        assert!(screen.contains("# Rivers\n\nThe **Rhine** is") && screen.contains("• Cologne"), "{screen}");
        let bytes = String::from_utf8(terminal.bytes()).unwrap();
        let ends = bytes
            .split("\x1b[")
            .skip(1)
            .map(|rest| rest.trim_start_matches(|c: char| !c.is_ascii_alphabetic()));
        assert!(ends.into_iter().all(|end| !end.starts_with('m')), "{bytes:?}");
    }
}

#[test]
fn a_table_is_seen_while_it_grows_and_stays_when_it_is_stopped() {
    let home = Home::new();
    let answer = format!("| a | b |\n|---|---|\n| one | 1 |\n{}| none | 0 |", "\\p".repeat(600));
    let answers =
        [answer.as_str(), "| twenty-two | 22 |"].map(|answer| answer.replace('\n', "\\n")).join("\n");
    let mut terminal = home.terminal(&home.script("answers", &answers));
    terminal.at_prompt().line("Say it").sees("a   │ b\n────┼──\none │ 1").keys(CTRL_C);
    terminal.sees("> Say it\na   │ b\n────┼──\none │ 1\nstopped; /more continues").at_prompt();
    terminal.wiped().line("/more").sees("a          │ b\n───────────┼───\none        │ 1\ntwenty-two │ 22");
    terminal.at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn the_window_may_change_in_the_middle() {
    let home = Home::new();
    let words: String = (1..=60).map(|n| format!("\\pword{n} ")).collect();
    let answer = format!("**open {words}** end\n\n| a | b |\n|---|---|\n| one | {words} |\n\nthe end\n");
    let mut terminal = home.terminal(&scripted(&home, &answer));
    terminal.at_prompt().line("Say it").sees("word10 ").resize(33).sees("word20 ").resize(120);
    terminal.sees("one").resize(40).sees("the end").at_prompt();
    let shown = terminal.screen();
    assert!(shown.contains("> Say it"), "{shown}");
    for n in 1..=60 {
        assert!(shown.contains(&format!("word{n}")), "word{n} is gone: {shown}");
    }
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

/// Where this text stands in a row of its own, dim, right below the cursor.
fn is_below(screen: &vt100::Screen, text: &str) -> bool {
    let (row, _) = screen.cursor_position();
    let columns = screen.size().1.get();
    let below = screen.contents_between(row + 1, 0, row + 1, columns);
    let is_dim = screen.cell(row + 1, 0).is_some_and(|cell| cell.dim());
    below.trim_end() == text && is_dim && screen.contents().trim_end().ends_with(text)
}

/// The answer grows above it, is redrawn, and is at last what it is when nobody types.
#[test]
fn what_is_typed_stands_below_a_rendered_answer() {
    let beginning =
        "# A title\n\nSome **bold words** in a row that is longer than a narrow window.\n\n- one\n- two";
    let later = " **and bo\\pld words** that are *not ended\n\n```rust\nfn main() {}\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nThe last **row";
    let answer = format!("{beginning}{}{later}", "\\p".repeat(20)).replace('\n', "\\n");
    for columns in WIDTHS {
        let home = Home::new();
        let script = home.script("answers", &format!("{answer}{}\n", "\\p".repeat(600)));
        let args = [&script.each_ref().map(String::as_str)[..], &["--stats=off"]].concat();
        let shown = |typed: &str| {
            let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &args);
            terminal.at_prompt().line("Go").sees("two");
            if !typed.is_empty() {
                terminal.keys("typed");
                terminal.wait("what is typed, below", |screen| is_below(screen, "> typed"));
                terminal.sees("The last");
                terminal.wait("the same below the end", |screen| is_below(screen, "> typed"));
                terminal.keys(" ahead");
                terminal.wait("all that is typed", |screen| is_below(screen, "> typed ahead"));
            }
            terminal.sees("The last").keys(CTRL_C).sees("stopped").at(&format!("> {typed}"));
            let rows = terminal.rows(columns).into_iter().skip_while(|row| row != "> Go");
            rows.take_while(|row| !row.starts_with("stopped")).collect::<Vec<_>>()
        };
        assert_eq!(shown("typed ahead"), shown(""), "{columns} columns");
    }
}
