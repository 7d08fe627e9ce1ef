//! The line editor in a real pseudo-terminal: vi's keys, hints from earlier lines, the external editor, the
//! search, and a cleared screen; at several widths.

use fireside::repl::commands::COMMANDS;

use crate::support::Home;
use crate::support::pty::*;

const WIDTHS: [u16; 3] = [20, 80, 200];
const CTRL_E: &str = "\x05";
const CTRL_G: &str = "\x07";
const CTRL_L: &str = "\x0c";
const RIGHT: &str = "\x1b[C";
const END: &str = "\x1b[F";

fn chat(home: &Home, columns: u16, more: &[&str]) -> Terminal {
    let script = home.script("answers", "One.\nTwo.\nThree.\n");
    let setup = Setup { columns, ..Setup::default() };
    let args = [&script.each_ref().map(String::as_str)[..], &["--stats=off"], more].concat();
    let mut terminal = home.terminal_as(&setup, &args);
    terminal.at_prompt();
    terminal
}

fn sent(terminal: &mut Terminal, text: &str) {
    terminal.sees("\n> ").at_prompt().wiped().line("/show prompt").sees_wrapped(&format!("[user] {text}"));
    terminal.at_prompt().line("/clear").at_prompt().wiped();
}

/// How often the cursor got this shape.
fn shaped(terminal: &Terminal, shape: &str) -> usize {
    String::from_utf8_lossy(&terminal.bytes()).matches(&format!("\x1b[{shape} q")).count()
}

/// The text on the row of the cursor, and where it is drawn dim.
fn row(screen: &vt100::Screen) -> (String, String) {
    let (row, _) = screen.cursor_position();
    let columns = screen.size().1.get();
    let cells = (0..columns).filter_map(|column| screen.cell(row, column));
    let dim: String = cells.filter(|cell| cell.dim()).map(|cell| cell.contents()).collect();
    (screen.contents_between(row, 0, row, columns), dim)
}

#[track_caller]
fn hinted(terminal: &mut Terminal, line: &str, hint: &str) {
    terminal.wait(&format!("{line:?} and the hint {hint:?}"), |screen| {
        let (text, dim) = row(screen);
        text.trim_end() == format!("{line}{hint}").trim_end() && dim.trim_end() == hint
    });
}

#[test]
fn vi_moves_and_changes() {
    for columns in WIDTHS {
        let home = Home::new();
        let mut terminal = chat(&home, columns, &["--keys", "vi"]);
        assert_eq!((shaped(&terminal, "6"), shaped(&terminal, "2")), (1, 0), "insert mode");
        terminal.keys("hello wrld").at("> hello wrld").keys(CSI_ESC).keys("0wao");
        terminal.sees("> hello world").keys(CSI_ESC).keys("cwthere").keys(ENTER).sees("One.");
        assert_eq!(shaped(&terminal, "2"), 2, "command mode, twice");
        sent(&mut terminal, "hello wthere");
        terminal.keys("one two").at("> one two").keys("\x1bbi").keys("X \x1b\x1bA!"); // in quick succession
        terminal.at("> one X two!").keys(ENTER);
        sent(&mut terminal, "one X two!");
        terminal
            .keys("word by word")
            .at("> word by word")
            .keys("\x1b[1;5D")
            .keys("\x17")
            .keys("\x1b[F")
            .at("> word word");
        assert_eq!(terminal.keys(CTRL_U).at_prompt().keys(CTRL_D).ends(), 0);
        assert!(terminal.bytes().windows(5).rev().any(|end| end == b"\x1b[0 q"), "the usual cursor");
    }
}

#[test]
fn escape_is_vis_except_where_no_line_is_edited() {
    let home = Home::new();
    let slow: String = (1..=600).map(|n| format!("\\pw{n} ")).collect();
    let script = home.script("answers", &format!("{slow}\nTwo.\n"));
    let mut terminal =
        home.terminal(&[&script.each_ref().map(String::as_str)[..], &["--keys", "vi"]].concat());
    terminal.at_prompt().line("first").sees("w2 ").keys(ESC).sees("stopped; /more continues").at_prompt();
    terminal.keys(CTRL_R).keys("irs").sees("`irs': first").keys(ESC);
    terminal
        .wait("the found line", |screen| row(screen).0 == "> first")
        .keys("A of all")
        .at("> first of all");
    terminal.keys(CTRL_U).at_prompt().keys(CTRL_R).keys("irs").sees("`irs': first").keys(CTRL_G).at_prompt();
    terminal.wiped().line("/export notes.md").sees("notes.md").at_prompt();
    terminal.wiped().line("/export notes.md").sees("[y/N]").keys(ESC).sees("nothing changed").at_prompt();
    terminal.line("/set keys emacs").sees("keys is emacs").at_prompt();
    let before = shaped(&terminal, "6");
    terminal.keys("abc").keys(CSI_ESC).keys("d").at("> abcd");
    assert_eq!(shaped(&terminal, "6"), before, "the cursor as at the start");
}

#[test]
fn earlier_lines_are_hinted_at() {
    for columns in WIDTHS {
        let home = Home::new();
        let mut terminal = chat(&home, columns, &[]);
        terminal.line("tell me more").sees("One.").at_prompt().wiped();
        for accept in [RIGHT, END, CTRL_E] {
            terminal.keys("tell");
            hinted(&mut terminal, "> tell", " me more");
            terminal.keys(" m");
            hinted(&mut terminal, "> tell m", "e more");
            terminal.keys(accept).at("> tell me more").keys(CTRL_U).at_prompt();
        }
        terminal.keys("te");
        hinted(&mut terminal, "> te", "ll me more");
        terminal.wiped().keys(CTRL_C).at_prompt();
        assert!(!terminal.screen().contains("ll me"), "left behind: {}", terminal.screen());
        terminal.wiped().keys("tel").keys(ENTER).sees("Two.").sees("> tel\n").at_prompt();
        terminal.wiped().line("/set hints off").at_prompt().keys("tell").at("> tell");
        assert_eq!(terminal.keys(CTRL_U).at_prompt().keys(CTRL_D).ends(), 0);
    }
}

#[test]
fn a_hint_stays_on_its_row_and_is_harmless() {
    let home = Home::new();
    let long = "a line that is longer than the window is wide";
    home.write(".local/state/fireside/lines", format!("#V2\n{long}\nred \u{9b}31m\\nsecond row\n"));
    let mut terminal = chat(&home, 20, &[]);
    terminal.keys("a l");
    hinted(&mut terminal, "> a l", "ine that is…");
    terminal.keys(RIGHT).sees_wrapped(long).keys(CTRL_U).at_prompt();
    terminal.keys("red");
    hinted(&mut terminal, "> red", " <U+009B>31m…");
    terminal.keys(RIGHT).sees("second row").keys(CTRL_C).at_prompt();
}

#[test]
fn ctrl_g_opens_the_editor_and_cancels_a_search() {
    let home = Home::new();
    let script = home.write("editor.sh", "sed -i 's/red/blue/' \"$1\"");
    let editor = vec![("EDITOR", format!("sh '{}'", script.display()))];
    let answers = home.script("answers", "One.\n");
    for keys in ["emacs", "vi"] {
        let setup = Setup { environment: editor.clone(), ..Setup::default() };
        let args = [&answers.each_ref().map(String::as_str)[..], &["--keys", keys]].concat();
        let mut terminal = home.terminal_as(&setup, &args);
        terminal
            .at_prompt()
            .line("Hi")
            .sees("One.")
            .at_prompt()
            .keys("a red car")
            .at("> a red car")
            .keys(CTRL_G)
            .at("> a blue car");
        terminal.keys(CTRL_U).keys("half").at("> half").keys(CTRL_R).keys("x").sees("`x'");
        terminal.keys(CTRL_G).at("> half").keys(CTRL_U).at_prompt();
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}

#[test]
fn ctrl_l_clears_the_screen_and_keeps_the_line() {
    for keys in ["emacs", "vi"] {
        let home = Home::new();
        let mut terminal = chat(&home, 80, &["--keys", keys]);
        terminal.keys("kept").at("> kept").keys(CTRL_L).wait("a clear screen", |screen| {
            screen.contents() == "> kept" && screen.cursor_position() == (0, 6)
        });
        terminal.keys(ENTER).sees("> kept\nOne.").at_prompt();
    }
}

#[test]
fn a_search_shows_entries_of_several_lines_whole() {
    for columns in WIDTHS {
        let home = Home::new();
        home.write(".local/state/fireside/lines", "#V2\nfirst row\\nsecond row\\nthird row\nanother\n");
        let mut terminal = chat(&home, columns, &[]);
        terminal.keys("typed").at("> typed").wiped().keys(CTRL_R).keys("second");
        terminal.sees("row\nsecond row\nthird row").keys(ESC).at("> typed");
        assert_eq!(terminal.screen().trim(), "> typed", "nothing is left of the search");
        terminal.keys(CTRL_R).keys("second").sees("third row").keys(ENTER).sees("One.");
        sent(&mut terminal, "first row");
    }
}

#[test]
fn the_menu_describes_what_it_offers() {
    for columns in WIDTHS {
        let home = Home::new();
        home.write(".local/share/fireside/models/tiny-one.gguf", "GGUF");
        home.write(".local/share/fireside/models/tiny-two.gguf", "GGUF");
        let mut terminal = chat(&home, columns, &[]);
        for (typed, rows) in [
            ("/re", ["read", "redo", "regen", "resume", "retry"].map(String::from).to_vec()),
            ("/set overflow ", ["ask", "compact", "default", "roll", "stop"].map(String::from).to_vec()),
            ("/model tiny-", ["tiny-one", "tiny-two"].map(String::from).to_vec()),
        ] {
            terminal.wiped().keys(typed).keys(TAB).keys(TAB).wait("the menu", |screen| {
                let screen = screen.contents();
                let shown: Vec<&str> = screen.lines().skip(1).filter(|line| !line.starts_with('>')).collect();
                let names = shown.iter().flat_map(|line| {
                    // Without room for descriptions, the names stand in columns.
                    line.split("  ").filter(|name| !name.is_empty()).take(if columns > 20 { 1 } else { 9 })
                });
                let mut names: Vec<&str> = names.map(str::trim).collect();
                names.sort();
                names == rows && screen.trim_end().ends_with(&format!("\n> {}", typed.trim_end()))
            });
            let told = terminal.screen();
            for about in [
                "redo    restore",
                "compact  summarise them first",
                "default  the value from before the chat",
            ]
            .iter()
            .filter(|about| columns > 20 && about.starts_with(&rows[1]))
            {
                assert!(told.contains(about), "{told}");
            }
            terminal.keys(CSI_ESC).at(&format!("> {typed}")).keys(CTRL_U).at_prompt();
        }
        terminal.wiped().keys("/qu").keys(TAB).at("> /quit ").keys(CTRL_U).at_prompt();
    }
}

#[test]
fn a_menu_that_does_not_fit_comes_in_pages() {
    let names: Vec<&str> = {
        let mut names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
        names.sort();
        names
    };
    for (columns, rows) in [(80, 24), (200, 12), (20, 8)] {
        let home = Home::new();
        let setup = Setup { columns, rows, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &home.script("answers", "One.\n"));
        terminal.at_prompt();
        let mut seen: Vec<String> = Vec::new();
        while seen.len() < names.len() {
            let next = names[seen.len()];
            terminal.wiped().keys(if seen.is_empty() { "/" } else { "" }).keys(TAB).keys(TAB);
            terminal.sees(&format!("\n{next}")).sees(" more").at("> /");
            let page: Vec<String> =
                terminal.rows(columns).into_iter().filter(|row| !row.is_empty()).collect();
            assert!(page.len() < usize::from(rows), "nothing scrolls away: {page:?}");
            let shown = page.iter().filter(|row| !row.starts_with(['>', '/', '…']));
            if columns > 20 {
                assert!(shown.clone().all(|row| row.split("  ").count() > 1), "described: {page:?}");
            }
            let others = names.len() - shown.clone().count();
            assert!(page.iter().any(|row| row.contains(&format!("… and {others} more"))), "{page:?}");
            seen.extend(shown.map(|row| row.split("  ").next().unwrap().to_string()));
        }
        assert_eq!(seen, names, "{columns} columns");
        // After the last page comes the first one, and in another line, too.
        terminal.wiped().keys(TAB).keys(TAB).sees(&format!("\n{}", names[0])).at("> /");
        terminal.keys(CTRL_U).at_prompt().wiped().keys("/").keys(TAB).keys(TAB);
        terminal.sees(&format!("\n{}", names[0])).at("> /");
    }
}

#[test]
fn a_mention_is_completed_as_it_is_typed() {
    for columns in WIDTHS {
        let home = Home::new();
        home.write("notes.txt", "some notes\n");
        home.write("src/main.rs", "fn main() {}\n");
        home.write("my own.md", "# Mine\n");
        let mut terminal = chat(&home, columns, &[]);
        terminal.keys("see @");
        hinted(&mut terminal, "> see @", "answers");
        terminal.keys("n");
        hinted(&mut terminal, "> see @n", "otes.txt");
        terminal.keys(RIGHT).at("> see @notes.txt").keys(CTRL_U).at_prompt().keys("(@s");
        hinted(&mut terminal, "> (@s", "rc/");
        terminal.keys(END);
        hinted(&mut terminal, "> (@src/", "main.rs");
        terminal.keys(TAB).at("> (@src/main.rs").keys(CTRL_U).at_prompt().keys("@m");
        hinted(&mut terminal, "> @m", "y\\ own.md");
        terminal.keys(CTRL_E).at("> @my\\ own.md").keys(CTRL_U).at_prompt();
        // Only in a message, and only what was typed.
        for line in ["/file @n", "!cat @n", "a@n", "\\@n", "\x1b[200~@n\x1b[201~"] {
            let shown = line.replace("\x1b[200~", "").replace("\x1b[201~", "");
            terminal.keys(line).keys("o").at(&format!("> {shown}o")).keys(CTRL_U).at_prompt();
        }
        terminal.line("see @n").sees("One.");
        sent(&mut terminal, "see @n");
        terminal.line("/set hints off").at_prompt().keys("see @n").at("> see @n").keys(CTRL_U).at_prompt();
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}
