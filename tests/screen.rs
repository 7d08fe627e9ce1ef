//! The text on a terminal: every word whole and on one row, whatever the width of the window.

use crate::history::chat;
use crate::support::pty::*;
use crate::support::{Home, tiny};

/// The width of an ordinary terminal, and half of it; a very wide and a very narrow one.
const WIDTHS: [u16; 4] = [80, 40, 200, 20];

/// All output on a terminal of this many columns and as many rows as needed.
pub(crate) struct Page {
    pub(crate) rows: Vec<String>,
    /// Whether the terminal itself broke the row because it was too long.
    broken: Vec<bool>,
    columns: usize,
}

impl Page {
    pub(crate) fn of(bytes: &[u8], columns: u16) -> Page {
        let size = |n: u16| std::num::NonZeroU16::new(n).unwrap();
        let mut parser = vt100::Parser::new(size(4000), size(columns), 0);
        parser.process(bytes);
        let screen = parser.screen();
        assert!(screen.cursor_position().0 < 3999, "more than fits the page");
        let rows: Vec<String> = screen.rows(0, columns).collect();
        let rows = rows.iter().zip(0..).map(|(row, n)| match screen.row_wrapped(n) {
            true => row.clone(),
            false => row.trim_end().to_string(),
        });
        let rows = rows.collect();
        let broken = (0..4000).map(|row| screen.row_wrapped(row)).collect();
        Page { rows, broken, columns: columns.into() }
    }

    /// The rows that the terminal itself broke, joined again.
    fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new()];
        for (row, broken) in self.rows.iter().zip(&self.broken) {
            *lines.last_mut().unwrap() += row;
            if !broken {
                lines.push(String::new());
            }
        }
        lines
    }

    fn words(&self) -> Vec<String> {
        self.lines().iter().flat_map(|line| words(line)).collect()
    }

    /// Fails if a word that fits on one row is on two.
    #[track_caller]
    fn no_word_is_broken(&self, what: &str) {
        for (n, _) in self.broken.iter().enumerate().filter(|(_, broken)| **broken) {
            let (row, next) = (&self.rows[n], &self.rows[n + 1]);
            let begun = row.rsplit(' ').next().unwrap();
            let rest = next.split(' ').next().unwrap();
            let length = begun.chars().count() + rest.chars().count();
            let whole = begun.is_empty() || rest.is_empty();
            assert!(
                whole || length >= self.columns,
                "{what} at {}: {begun}|{rest} in\n{row}\n{next}",
                self.columns
            );
        }
    }

    /// The same; also fails if one of these words is missing or incomplete.
    #[track_caller]
    fn says_all_of(&self, what: &str, reference: &str) {
        self.no_word_is_broken(what);
        let (there, wanted) = (self.words(), words(reference));
        for word in wanted.iter().filter(|word| word.chars().count() <= self.columns) {
            assert!(
                there.contains(word),
                "{what} at {} lacks {word:?}:\n{}",
                self.columns,
                self.rows.join("\n").trim_end()
            );
        }
    }

    /// The same; words may be missing, and the end of a text may be cut.
    #[track_caller]
    fn says_nothing_but(&self, what: &str, reference: &str) {
        self.no_word_is_broken(what);
        let wanted = words(reference);
        for word in self.words() {
            let whole = wanted.contains(&word);
            let cut =
                word.strip_suffix('…').is_some_and(|begun| wanted.iter().any(|word| word.starts_with(begun)));
            // Without spaces, a text is broken between its characters.
            let piece = !word.is_ascii() && reference.contains(&word);
            let all = self.rows.join("\n");
            assert!(
                whole || cut || piece,
                "{what} at {}: what is {word:?}?\n{}",
                self.columns,
                all.trim_end()
            );
        }
    }
}

/// The words without digits: ages and the free memory change from run to run.
fn words(text: &str) -> Vec<String> {
    let steady = |word: &&str| !word.chars().any(|c| c.is_ascii_digit());
    text.split_whitespace().filter(steady).map(String::from).collect()
}

/// Runs the program on a terminal and in pipes; returns both outputs.
fn shown(home: &Home, columns: u16, args: &[&str]) -> (Page, String) {
    let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, args);
    terminal.ends();
    let page = Page::of(&terminal.bytes(), columns);
    drop(terminal);
    let done = home.run(args).done();
    (page, done.stdout + &done.stderr)
}

#[track_caller]
fn is_whole(home: &Home, args: &[&str]) {
    for columns in WIDTHS {
        let (page, reference) = shown(home, columns, args);
        assert!(!reference.trim().is_empty(), "{args:?} says nothing");
        page.says_all_of(&args.join(" "), &reference);
    }
}

#[track_caller]
fn is_a_table_that_fits(home: &Home, args: &[&str]) {
    for columns in WIDTHS {
        let (page, reference) = shown(home, columns, args);
        page.says_nothing_but(&args.join(" "), &reference);
        let first = reference.lines().find(|line| !line.contains("NAME")).unwrap();
        let name = first.split_whitespace().next().unwrap();
        assert!(page.lines().iter().any(|line| line.contains(name)), "{args:?} at {columns} lacks {name}");
    }
}

#[test]
fn help_is_whole() {
    let home = Home::new();
    for args in [&["--help"][..], &["-h"], &["list", "--help"], &["pull", "--help"], &["show", "--help"]] {
        is_whole(&home, args);
    }
    for subcommand in
        ["rm", "check", "convert", "history", "bench", "config", "roles", "doctor", "completions"]
    {
        is_whole(&home, &[subcommand, "--help"]);
    }
    for what in ["list", "search", "show", "export", "import", "replay", "rm"] {
        is_whole(&home, &["history", what, "--help"]);
    }
}

/// A home with a few models, whole and broken ones.
pub(crate) fn with_models() -> Home {
    let home = Home::new();
    for name in ["llama-bpe", "mamba", "falcon-h1"] {
        let bytes = std::fs::read(tiny(name)).unwrap();
        home.write(&format!(".local/share/fireside/models/{name}-a-little-longer-Q4_K_M.gguf"), bytes);
    }
    home.write(".local/share/fireside/models/broken.gguf", "GGUF but no more than that");
    home
}

#[test]
fn tables_of_models_fit() {
    let home = with_models();
    for args in [&["list"][..], &["pull"]] {
        is_a_table_that_fits(&home, args);
    }
    for columns in WIDTHS {
        let (page, reference) = shown(&home, columns, &["list", "--all"]);
        page.says_nothing_but("list --all", &reference);
        assert!(page.words().iter().any(|word| word == "broken"));
    }
}

#[test]
fn a_model_and_the_installation_are_described_whole() {
    let home = with_models();
    let model = tiny("llama-bpe");
    let model = model.to_str().unwrap();
    for args in [&["show", model][..], &["check", model], &["config", "-m", model], &["doctor"]] {
        is_whole(&home, args);
    }
    let role = "---\ndescription: Sums up a text of any length in a language of your choice\ntemp: 0.1\n---\nBe brief.\n";
    home.write(".config/fireside/roles/summarise.md", role);
    home.write(".config/fireside/roles/broken.md", "---\ntepm: 1\n---\n");
    home.write(".config/fireside/config.toml", "[aliases]\nsmall = \"mamba\"\n[models.absent]\ntemp = 1\n");
    for args in
        [&["roles"][..], &["roles", "summarise"], &["roles", "broken"], &["config", "--role", "summarise"]]
    {
        is_whole(&home, args);
    }
    for args in [&["show", "nowhere"][..], &["show"], &["rm", "nowhere"], &["lsit"], &["-m", "no", "a b"]] {
        is_whole(&home, args);
    }
}

const LONG: &str = "What would somebody who has never been to a mountain village in the middle of winter want to know first?";

fn with_conversations() -> Home {
    let home = Home::new();
    chat(
        &home,
        "An answer of several words about mountains and their villages.\n",
        &[],
        &format!("{LONG}\n"),
    )
    .code(0);
    chat(
        &home,
        "ok\n",
        &[],
        "日本の首都はどこですか？その歴史についても教えてください。人口はどのくらいですか？\n",
    )
    .code(0);
    chat(&home, "ok\n", &[], "Short\n").code(0);
    home
}

#[test]
fn conversations_are_listed_found_and_shown_whole() {
    let home = with_conversations();
    for columns in WIDTHS {
        let (page, reference) = shown(&home, columns, &["history", "list"]);
        page.no_word_is_broken("history list");
        let rows = page.rows.iter().filter(|row| !row.is_empty()).count();
        assert!(columns < 40 || rows == 3, "{:?}", page.rows);
        for line in reference.lines() {
            let id = line.split_whitespace().next().unwrap();
            assert!(page.rows.iter().any(|row| row.starts_with(id)), "{id}: {:?}", page.rows);
        }
        let (page, reference) = shown(&home, columns, &["history", "search", "mountain"]);
        page.says_nothing_but("history search", &reference);
    }
    chat(&home, "ok\n", &[], "Explain it incomprehensibilities apart\n").code(0);
    let (page, _) = shown(&home, 40, &["history", "list"]);
    assert!(page.rows[0].ends_with("  Explain it…"), "{:?}", &page.rows[..4]);
    let listed = home.run(&["history", "list"]).done().code(0).stdout;
    assert!(listed.contains("mountain village…"), "a pipe gets all that is kept of a title: {listed}");
    let id = listed.lines().last().unwrap().split_whitespace().next().unwrap();
    is_whole(&home, &["history", "show", id]);
}

/// Every command, with arguments that make it print much.
fn every_command() -> Vec<&'static str> {
    vec![
        "/help",
        "/help set",
        "/help keys",
        "/system",
        "/system Be a helpful mountain guide.",
        "/system",
        "/set",
        "/set temp",
        "/set temp 0.5",
        "/set tmep",
        "/set system-prompt",
        "/show",
        "/show settings",
        "/show template",
        "/show nothing",
        "/model",
        "/model nowhere-to-be-found",
        "/file",
        "/file notes.txt",
        "/file",
        "/file none 2",
        "/file none",
        "/file not-there",
        "Tell me about it",
        "/copy",
        "/copy 3",
        "/save answer.md",
        "/save",
        "/retry",
        "/more",
        "/edit 9",
        "/title The mountains in winter",
        "/history",
        "/history mountains",
        "/resume ffff",
        "/begin",
        "/compare",
        "/why",
        "/context",
        "/thinking",
        "/stats",
        "/export",
        "/fork",
        "/undo",
        "/redo",
        "/frobnicate",
        "/clear",
        "/role",
        "/role guide where=mountains",
        "/role",
        "/role nowhere",
        "/role none",
    ]
}

fn session(columns: u16) -> Page {
    let home = with_conversations();
    home.write("notes.txt", "Some notes about mountains.");
    let role = "---\ndescription: Guides people through $where\ntemp: 0.1\nstop: [\"###\"]\nkeep: true\n---\nBe a guide to $where.\n\
                ### INPUT:\nHi\n### OUTPUT:\nHello\n### PROMPT:\nGuide me: $input\n";
    home.write(".config/fireside/roles/guide.md", role);
    let answers = "<think>The user wants to know something about a thing that was not named before now.</think>It is a \
                   long answer about mountains, and about the villages that lie between them all winter long.\n";
    let args = home.script("answers", answers);
    let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &args);
    for line in every_command() {
        done(&mut terminal, line);
    }
    terminal.at_prompt().keys(CTRL_D).ends();
    Page::of(&terminal.bytes(), columns)
}

#[test]
fn every_command_says_whole_words() {
    let typed: Vec<&str> = every_command().into_iter().map(|line| line.split(' ').next().unwrap()).collect();
    for command in fireside::repl::commands::COMMANDS {
        let name = format!("/{}", command.name);
        assert!(
            typed.contains(&name.as_str()) || ["/exit", "/role", "/tokens", "/tree"].contains(&name.as_str()),
            "{name}"
        );
    }
    let reference = session(1000).words().join(" ");
    for columns in WIDTHS {
        session(columns).says_nothing_but("the commands", &reference);
    }
}

/// Types a line and waits for its output and the next prompt.
pub(crate) fn done(terminal: &mut Terminal, line: &str) {
    terminal.at_prompt().wiped().line(line).wait("the next prompt", |screen| {
        let text = screen.contents();
        text.trim_end().lines().count() > 1
            && text.trim_end().ends_with("\n>")
            && screen.cursor_position().1 == 2
    });
}

/// A scripted answer, alone on a page.
fn answered(columns: u16, answer: &str, more: &[&str], environment: &[(&'static str, &str)]) -> Page {
    let home = Home::new();
    let script = home.script("answers", &format!("{}\n", answer.replace('\n', "\\n")));
    let args =
        [&script.each_ref().map(String::as_str)[..], &["-p", "Say it", "--incognito", "-q"], more].concat();
    let environment = environment.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let mut terminal = home.terminal_as(&Setup { columns, environment, ..Setup::default() }, &args);
    assert_eq!(terminal.ends(), 0);
    Page::of(&terminal.bytes(), columns)
}

#[test]
fn more_shows_nothing_of_an_answer_that_it_cannot_continue() {
    let home = Home::new();
    let [option, script] = home.script("answers", "Whole.\\nThe last line\n");
    for how in ["auto", "off"] {
        let more = ["-q", "--markdown", how];
        let mut terminal = home.terminal(&[&[option.as_str(), &script][..], &more].concat());
        done(terminal.at_prompt(), "Hi");
        done(&mut terminal, "/more");
        let shown = terminal.screen();
        assert!(shown.contains("/more\nfireside: the answer was not cut off"), "{how}: {shown}");
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}

/// Options without which Markdown is rendered.
const AS_WRITTEN: &[&str] = &["--markdown", "off"];

const PARAGRAPH: &str = "The village lies at the end of a narrow valley, surrounded by mountains whose extraordinarily \
                         steep slopes are covered with uninterrupted forest; nevertheless, its inhabitants have always \
                         been hospitable, straightforward and incomprehensibly cheerful people.";

#[test]
fn answers_are_broken_between_words() {
    for columns in [80, 40, 23] {
        for (more, environment) in
            [(&[][..], &[][..]), (&["--plain"][..], &[][..]), (&[][..], &[("TERM", "dumb")][..])]
        {
            let page = answered(columns, PARAGRAPH, more, environment);
            page.says_all_of("a paragraph", PARAGRAPH);
            assert!(page.broken.iter().all(|broken| !broken), "{:?}", page.rows);
            let text: Vec<&str> =
                page.rows.iter().map(|row| row.trim()).filter(|row| !row.is_empty()).collect();
            assert_eq!(text.join(" "), PARAGRAPH);
            assert!(text.iter().rev().skip(1).all(|row| row.len() + 18 > usize::from(columns)), "{text:?}");
        }
    }
}

#[test]
fn a_word_that_comes_in_pieces_is_whole_and_shown_at_once() {
    for environment in [vec![], vec![("TERM", "dumb".to_string())]] {
        let home = Home::new();
        let word = "upercali\\pfragilistic\\pexpiali\\pdocious";
        let answer = format!("S{word} twice: s{word}, and {}end", "\\p".repeat(600));
        let args = [&home.script("answers", &(answer + "\n"))[..], &["-p".into(), "Say it".into()]].concat();
        let mut terminal = home.terminal_as(&Setup { columns: 50, environment, ..Setup::default() }, &args);
        terminal.sees("Supercalifragilisticexpialidocious twice:\nsupercalifragilisticexpialidocious, and");
        assert_eq!(terminal.keys(CTRL_C).ends(), 130);
    }
}

#[test]
fn words_appear_before_their_line_is_over() {
    let home = Home::new();
    let answer = format!("One two\\pthree {}end\n", "\\p".repeat(600));
    let args = [&home.script("answers", &answer)[..], &["-p".into(), "Say it".into()]].concat();
    let mut terminal = home.terminal(&args);
    terminal.sees("One twothree").keys(CTRL_C);
    assert_eq!(terminal.ends(), 130);
}

#[test]
fn text_without_spaces_is_broken_between_characters() {
    let japanese = "日本の首都は東京です。人口は約千四百万人で、世界でも最も大きな都市の一つとして知られています。「江戸」と呼ばれていた時代から続く、長い歴史を持っています。";
    for columns in [80, 40, 21] {
        let page = answered(columns, japanese, &[], &[]);
        let rows: Vec<&String> = page.rows.iter().filter(|row| !row.is_empty()).collect();
        assert_eq!(rows.iter().map(|row| row.as_str()).collect::<String>(), japanese);
        assert!(page.broken.iter().all(|broken| !broken), "{rows:?}");
        for row in &rows {
            assert!(!row.starts_with(['。', '、', '」']), "{rows:?}");
            assert!(!row.ends_with('「'), "{rows:?}");
            assert!(2 * row.chars().count() <= columns.into());
        }
        assert!(rows.len() <= 2 * japanese.chars().count() / (usize::from(columns) - 4) + 1, "{rows:?}");
    }
    let korean =
        "대한민국의 수도는 서울이며 인구는 약 구백사십만 명으로 세계에서 가장 큰 도시 가운데 하나입니다";
    answered(40, korean, &[], &[]).says_all_of("Korean", korean);
}

#[test]
fn signs_of_several_characters_stay_together() {
    let family = "👨‍👩‍👧‍👦";
    let text = format!(
        "{0} and {0} went home \u{1f1eb}\u{1f1f7} with a ❤️ and 👍🏽 and a 👩‍💻 too, café by cafe\u{301}",
        family
    );
    for columns in [40, 24] {
        let page = answered(columns, &text, &[], &[]);
        page.no_word_is_broken("emoji");
        assert!(page.broken.iter().all(|broken| !broken), "{:?}", page.rows);
        let rows = page.rows.iter().map(|row| row.trim()).filter(|row| !row.is_empty());
        assert_eq!(rows.collect::<Vec<_>>().join(" "), text);
    }
}

#[test]
fn code_and_tables_are_not_broken_by_us() {
    let code =
        "let every_single_word = of_this_line.must_stay(\"on one line\", because_it, is_pasted, elsewhere);";
    let table = "| a column with many words | another column with many words | the third column |";
    for (before, after) in [
        ("```rust\n", "\n```"),
        ("~~~\n", "\n~~~"),
        ("- As a list:\n\n    ```\n    ", "\n    ```"),
        ("1. ```sh\n   ", "\n   ```"),
        ("````\n```\n", "\n```\nnot over yet: it is over with four of them and not with three\n````"),
        ("> ```\n> ", "\n> ```"),
        ("", ""),
    ] {
        let inside = if before.is_empty() { table } else { code };
        let text = format!("{before}{inside}{after}\nAnd then {PARAGRAPH}");
        let page = answered(40, &text, AS_WRITTEN, &[]);
        let lines = page.lines();
        assert!(
            lines.iter().any(|line| line.trim_start_matches([' ', '>']) == inside),
            "{before}: {lines:#?}"
        );
        let after = lines
            .iter()
            .position(|line| line.starts_with("And then"))
            .unwrap_or_else(|| panic!("{lines:#?}"));
        assert!(lines[after..].iter().all(|line| line.chars().count() <= 40), "{before}: {lines:#?}");
    }
    let inline = format!("```not a fence``` but {PARAGRAPH}\n{PARAGRAPH}");
    assert!(
        answered(40, &inline, AS_WRITTEN, &[])
            .lines()
            .iter()
            .rev()
            .take(5)
            .all(|line| line.chars().count() <= 40)
    );
}

#[test]
fn a_table_without_outer_pipes_is_not_broken_either() {
    let delimiter = "---------- | :--------------------------------- | ------";
    let row = "the village | at the end of a narrow valley in the mountains | small";
    let text = format!("name | where | size\n{delimiter}\n{row}\n{row}\n\n{PARAGRAPH}");
    let page = answered(40, &text, &[], &[]);
    let lines = page.lines();
    assert_eq!(lines[..4], ["name | where | size", delimiter, row, row], "{lines:#?}");
    assert!(lines[5..].iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    let no_table = format!("either | or\n\n{PARAGRAPH} | {PARAGRAPH}");
    answered(40, &no_table, &[], &[]).says_all_of("a line with a pipe", &no_table);
    assert!(answered(40, &no_table, &[], &[]).broken.iter().all(|broken| !broken));
}

#[test]
fn what_goes_on_inside_code_is_code() {
    let home = Home::new();
    let code = "a line of code that is much longer than forty columns, and must not be broken";
    let answers = format!("```\\none {}two\n{code}\\n```\\nAnd {PARAGRAPH}\n", "\\p".repeat(600));
    let mut terminal =
        home.terminal_as(&Setup { columns: 40, ..Setup::default() }, &home.script("answers", &answers));
    terminal.at_prompt().line("Say it").sees("one").keys(CTRL_C).sees("stopped").at_prompt();
    terminal.wiped().line("/more").sees("people.").at_prompt().keys(CTRL_D).ends();
    let page = Page::of(&terminal.bytes(), 40);
    page.no_word_is_broken("the paragraph after");
    assert!(page.lines().iter().any(|line| line == code), "{:#?}", page.lines());
}

#[test]
fn items_of_a_list_hang_under_their_text() {
    let text = format!("Three things:\n\n- {PARAGRAPH}\n  1. {PARAGRAPH}\n\n> {PARAGRAPH}");
    let page = answered(60, &text, AS_WRITTEN, &[]);
    let rows: Vec<&String> = page.rows.iter().filter(|row| !row.is_empty()).collect();
    assert!(
        rows[1].starts_with("- The") && rows[2].starts_with("  ") && !rows[2].starts_with("   "),
        "{rows:#?}"
    );
    let second = rows.iter().position(|row| row.starts_with("  1. ")).unwrap();
    assert!(rows[second + 1].starts_with("     ") && !rows[second + 1].starts_with("      "), "{rows:#?}");
}

#[test]
fn a_word_longer_than_the_line_is_left_to_the_terminal() {
    let url = "https://example.org/a/path/that/is/much/longer/than/forty/columns?and=has&a=query";
    let page = answered(40, &format!("It is at {url} and nowhere else in the world."), &[], &[]);
    assert!(page.lines().iter().any(|line| line.contains(url)), "{:#?}", page.lines());
    page.says_all_of("a URL", "It is at and nowhere else in the world.");
}

#[test]
fn thoughts_and_what_was_said_before_are_broken_between_words() {
    for columns in WIDTHS {
        let home = Home::new();
        let answers = format!("<think>{PARAGRAPH}</think>{PARAGRAPH}\n");
        let script = home.script("answers", &answers);
        let setup = Setup { columns, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &[&script[..], &["--show-thinking".into()]].concat());
        done(&mut terminal, "Say it");
        done(&mut terminal, "/thinking");
        terminal.keys(CTRL_D).ends();
        Page::of(&terminal.bytes(), columns).no_word_is_broken("thoughts");
        drop(terminal);
        let mut terminal = home.terminal_as(&setup, &[&script[..], &["--continue".into()]].concat());
        terminal.sees("people.").at_prompt().keys(CTRL_D).ends();
        let page = Page::of(&terminal.bytes(), columns);
        page.says_all_of("what was said before", PARAGRAPH);
        assert!(page.rows.iter().any(|row| row == "> Say it"), "{:?}", page.rows);
    }
}

#[test]
fn what_was_typed_is_whole_once_it_is_sent() {
    for columns in WIDTHS {
        let home = Home::new();
        let setup = Setup { columns, rows: 100, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &home.script("answers", "Mountains.\n"));
        let before = terminal.at_prompt().screen();
        terminal.line(PARAGRAPH).sees("Mountains.").at_prompt();
        terminal
            .keys(&format!("日本の首都はどこですか？{CTRL_J}{LONG}{ENTER}"))
            .wait("the second answer", |screen| screen.contents().matches("Mountains.").count() == 2)
            .at_prompt();
        assert!(terminal.screen().starts_with(before.trim_end()), "what stood above is there still");
        terminal.keys(CTRL_D).ends();
        let page = Page::of(&terminal.bytes(), columns);
        page.says_all_of("what was typed", &format!("{PARAGRAPH} {LONG}"));
        assert!(page.rows.iter().any(|row| row.starts_with("> The village lies")), "{:#?}", page.rows);
    }
}

#[test]
fn what_was_typed_stays_where_terminals_differ_over_its_width() {
    let home = Home::new();
    let setup = Setup { columns: 40, ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &home.script("answers", "Mountains.\n"));
    terminal.at_prompt().line(&format!("{}and mountains in winter", "👩‍💻 ".repeat(9)));
    terminal.sees("Mountains.").at_prompt();
    let screen = terminal.screen();
    assert!(screen.contains("that off\n> 👩"), "what stood above is there still: {screen}");
}

#[test]
fn what_the_model_saw_is_shown_exactly() {
    let home = Home::new();
    let mut terminal = home.terminal_as(
        &Setup { columns: 40, ..Setup::default() },
        &home.script("answers", &format!("{PARAGRAPH}\n")),
    );
    ["Say it", "Again", "/show prompt"].iter().for_each(|line| done(&mut terminal, line));
    terminal.keys(CTRL_D).ends();
    let page = Page::of(&terminal.bytes(), 40);
    assert!(page.lines().contains(&format!("[assistant] {PARAGRAPH}")), "{:#?}", page.lines());
}

#[test]
fn a_question_is_whole_and_answered_behind_it() {
    let home = with_models();
    let name = "mamba-a-little-longer-Q4_K_M";
    for columns in WIDTHS {
        let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &["rm", name]);
        terminal.asked().line("n").sees("nothing was removed").ends();
        Page::of(&terminal.bytes(), columns).no_word_is_broken("rm");
    }
}

#[test]
fn rows_of_models_stay_rows_where_there_is_room() {
    let home = with_models();
    let (page, _) = shown(&home, 80, &["list"]);
    let row = page.rows.iter().find(|row| row.starts_with("mamba-a-little-longer-Q4_K_M ")).unwrap();
    assert!(row.contains("KiB") && row.contains("yes"), "{:?}", page.rows);
    let (page, _) = shown(&home, 80, &["pull"]);
    let row = page.rows.iter().find(|row| row.starts_with("smollm2-135m ")).unwrap();
    assert!(row.contains("94 MiB") && row.contains("Apache-2.0"), "{:?}", page.rows);
    let model = tiny("llama-bpe");
    let (page, reference) = shown(&home, 40, &["show", model.to_str().unwrap(), "--tensors"]);
    page.says_nothing_but("show --tensors", &reference);
    assert!(page.rows.iter().any(|row| row.starts_with("token_embd.weight ") && row.ends_with("KiB")));
}
