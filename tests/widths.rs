//! What a terminal of 20, 80 and 200 columns shows: whole sessions, row by row, compared with those in
//! tests/screens. `UPDATE_SCREENS=1 cargo test --release --locked --test tests -- widths::` writes what is shown now.

use crate::screen::{Page, done};
use crate::support::parrot::Parrot;
use crate::support::pty::*;
use crate::support::{Home, repository, tiny};

const WIDTHS: [u16; 3] = [20, 80, 200];
const CTRL_G: &str = "\x07";
const CTRL_L: &str = "\x0c";

/// Compares what is shown at every width with tests/screens/NAME.txt.
#[track_caller]
fn is_as_before(name: &str, shown: impl Fn(u16) -> String) {
    let section = |columns: u16| {
        let heading = format!("── {columns} columns ");
        format!("{heading:─<0$}\n{1}\n", usize::from(columns), shown(columns))
    };
    let now = WIDTHS.map(section).concat();
    let path = repository().join("tests/screens").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SCREENS").is_some() {
        return std::fs::write(path, now).unwrap();
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    let other = now.lines().zip(before.lines()).take_while(|(now, before)| now == before).count();
    assert!(now == before, "{} differs from line {} on; now it is\n{now}", path.display(), other + 1);
}

/// A chat on a terminal.
struct Chat {
    terminal: Terminal,
    columns: u16,
    /// The length of the output before what is compared.
    from: usize,
    shown: Vec<String>,
}

impl Chat {
    /// Types these lines and waits for the prompt after each.
    fn lines(&mut self, lines: &[&str]) -> &mut Chat {
        lines.iter().for_each(|line| done(&mut self.terminal, line));
        self
    }

    /// Types a line and waits for its question.
    fn asks(&mut self, line: &str) -> &mut Terminal {
        self.terminal.at_prompt().wiped().line(line).asked()
    }

    /// Answers it.
    fn answers(&mut self, answer: &str) -> &mut Terminal {
        self.terminal.wiped().line(answer).wait("the prompt", |screen| {
            let (row, column) = screen.cursor_position();
            column >= 2 && screen.contents_between(row, 0, row, 2) == "> "
        })
    }

    /// Notes what is shown since the last time.
    fn shot(&mut self) -> &mut Chat {
        let bytes = self.terminal.bytes();
        let page = Page::of(&[b"> ", &bytes[self.from..]].concat(), self.columns);
        self.shown.push(page.rows.join("\n").trim_end().to_string());
        self
    }

    /// Leaves out what was shown until now; a prompt is the last of it.
    fn skip(&mut self) -> &mut Chat {
        self.from = self.terminal.at_prompt().bytes().len();
        self
    }

    /// Lists what Tab offers, notes it, and clears the line.
    fn menu(&mut self, typed: &str) -> &mut Chat {
        let listed = format!("\n> {}", typed.trim_end());
        self.skip().terminal.wiped().keys(typed).keys(TAB).keys(TAB).wait("the menu", |screen| {
            let screen = screen.contents();
            screen.trim_end().ends_with(&listed) && screen.trim_end().lines().count() > 2
        });
        self.shot().terminal.keys(CSI_ESC).keys(CTRL_U).at_prompt();
        self
    }
}

/// A fixed text in place of the part of the home folder's path that is random, wherever the rows break it.
fn steady(text: &str, home: &Home) -> String {
    let folder = home.path("").display().to_string();
    let random: Vec<char> = folder.trim_end_matches('/').rsplit(".tmp").next().unwrap().chars().collect();
    let mut text: Vec<char> = text.chars().collect();
    let printed: Vec<usize> = (0..text.len()).filter(|at| text[*at] != '\n').collect();
    for places in printed.windows(random.len()) {
        if places.iter().zip(&random).all(|(at, c)| text[*at] == *c) {
            places.iter().for_each(|at| text[*at] = 'x');
        }
    }
    text.into_iter().collect()
}

/// A chat at every width, from its first prompt on, with these files at home and scripted answers.
#[track_caller]
fn chat(name: &str, files: &[(&str, &str)], answers: &str, args: &[&str], act: impl Fn(&mut Chat)) {
    is_as_before(name, |columns| {
        let home = Home::in_tmp();
        files.iter().for_each(|(file, text)| _ = home.write(file, text));
        let script = home.script(".answers", answers);
        let args = [&script.each_ref().map(String::as_str)[..], args].concat();
        in_chat(&home, columns, &args, &act)
    });
}

fn in_chat(home: &Home, columns: u16, args: &[&str], act: impl Fn(&mut Chat)) -> String {
    let environment = vec![("EDITOR", "sed -i s/red/blue/".to_string())];
    let terminal = home.terminal_as(&Setup { columns, rows: 40, environment }, args);
    let mut chat = Chat { terminal, columns, from: 0, shown: Vec::new() };
    act(chat.skip());
    chat.terminal.keys(CTRL_D).ends();
    steady(&chat.shown.join("\n┄┄┄\n"), home)
}

/// Subcommands at every width, one after the other.
fn commands(home: &Home, columns: u16, commands: &[&[&str]]) -> String {
    let run = |args: &&[&str]| {
        let mut terminal = home.terminal_as(&Setup { columns, rows: 40, ..Setup::default() }, args);
        terminal.ends();
        let page = Page::of(&terminal.bytes(), columns);
        format!("$ fireside {}\n{}", args.join(" "), page.rows.join("\n").trim_end())
    };
    steady(&commands.iter().map(run).collect::<Vec<_>>().join("\n"), home)
}

const QUIET: &[&str] = &["--stats=off"];
const NOTES: (&str, &str) = ("docs/notes.txt", "some notes\n");
const CODE: (&str, &str) = ("docs/src/main.rs", "fn main() {}\n");
const OWN: (&str, &str) = ("docs/my own.md", "# Mine\n");

#[test]
fn files_are_attached_listed_and_detached_one_by_one() {
    chat("files", &[NOTES, CODE, OWN], "One.\n", QUIET, |chat| {
        chat.lines(&["/file", "/file docs/notes.txt", "/file docs/src", "/file \"docs/my own.md\"", "/file"]);
        chat.lines(&["/file none 1", "/file none docs/src", "/file none 7", "/file nowhere.txt"]);
        chat.lines(&["What?", "/file"]).shot();
    });
}

#[test]
fn mentioned_files_cost_and_a_question_is_asked() {
    let half = "word ".repeat(600);
    chat("mentions", &[NOTES, ("half.txt", half.as_str())], "One.\nTwo.\n", QUIET, |chat| {
        chat.lines(&["Why @docs/notes.txt?"]).asks("Read @half.txt");
        chat.answers("n").keys(CTRL_U);
        chat.asks("Read @half.txt");
        chat.answers("y");
        chat.shot();
    });
}

#[test]
fn commands_of_the_shell_are_shown_and_attached() {
    chat("shell", &[NOTES], "One.\n", QUIET, |chat| {
        chat.lines(&["!cat docs/notes.txt; exit 3", "!true", "!", "/file", "Why?"]).shot();
    });
}

#[test]
fn answers_are_copied_and_saved() {
    let answer = "Run it:\\n\\n```sh\\nls\\n```\\n\\nor\\n\\n```\\ndir\\n```\n";
    chat("copying", &[("old.md", "old")], answer, QUIET, |chat| {
        chat.lines(&[
            "/copy",
            "Say it",
            "/copy",
            "/copy 2",
            "/copy code",
            "/copy 3",
            "/save",
            "/save new.md",
        ]);
        chat.lines(&["/save --code code.sh"]).asks("/save old.md");
        chat.answers("n");
        chat.asks("/save old.md");
        chat.answers("y");
        chat.shot();
    });
}

const GUIDE: (&str, &str) = (
    ".config/fireside/roles/guide.md",
    "---\ndescription: Guides people through $where\ntemp: 0.1\nstop: [\"###\"]\n---\nBe a guide to $where.\n\
     ### INPUT:\nHi\n### OUTPUT:\nHello\n### PROMPT:\nGuide me: $input\n",
);
const POET: (&str, &str) =
    (".config/fireside/roles/poet.md", "---\ndescription: Rhymes\n---\nYou are a poet.\n");
const BROKEN: (&str, &str) = (".config/fireside/roles/broken.md", "---\ntepm: 1\n---\n");

#[test]
fn roles_are_listed_taken_and_left() {
    chat("roles", &[GUIDE, POET, BROKEN], "One.\n", QUIET, |chat| {
        chat.lines(&[
            "/role",
            "/role guide",
            "/role guide where=Rome",
            "/role",
            "Hi",
            "/role peot",
            "/role none",
        ]);
        chat.shot();
    });
}

#[test]
fn a_chat_in_a_role_begins_with_a_greeting() {
    is_as_before("greeting", |columns| {
        let home = Home::in_tmp();
        home.write(GUIDE.0, GUIDE.1);
        let script = home.script(".answers", "One.\n");
        let args = ["--role", "guide", "--var", "where=Rome"];
        let args = [&script.each_ref().map(String::as_str)[..], &args].concat();
        let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &args);
        terminal.at_prompt().keys(CTRL_D).ends();
        steady(Page::of(&terminal.bytes(), columns).rows.join("\n").trim_end(), &home)
    });
}

#[test]
fn a_role_is_replaced_after_a_question() {
    is_as_before("save-role", |columns| {
        let home = Home::in_tmp();
        let save = ["--save-role", "new", "--temp", "0.5"];
        let first = commands(&home, columns, &[&save]);
        let asked = ["n", "y"].map(|answer| {
            let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &save);
            assert_eq!(terminal.asked().line(answer).ends(), i32::from(answer == "n"));
            Page::of(&terminal.bytes(), columns).rows.join("\n").trim_end().to_string()
        });
        steady(&format!("{first}\n{}", asked.join("\n")), &home)
    });
}

#[test]
fn roles_and_the_config_file_on_the_command_line() {
    is_as_before("commands", |columns| {
        let home = Home::in_tmp();
        [GUIDE, POET, BROKEN].iter().for_each(|(file, text)| _ = home.write(file, text));
        let all: &[&[&str]] =
            &[&["roles"], &["roles", "guide"], &["roles", "peot"], &["config", "init"], &["config", "path"]];
        let before = commands(&home, columns, all);
        home.write(".local/share/fireside/models/tiny-one.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
        home.write(".config/fireside/config.toml", "[aliases]\nsmall = \"tiny-one\"\nlost = \"nowhere\"\n");
        let all: &[&[&str]] = &[&["-m", "smal"], &["-m", "lost"], &["help", "exit-codes"]];
        format!("{before}\n{}", commands(&home, columns, all))
    });
}

#[test]
fn thinking_is_counted_or_shown() {
    let slow = format!("<think>Slow \\p\\p\\p\\pthoughts {}</think>Done.\n", "\\p".repeat(2000));
    let quick = "<think>Let me see. Two and two is not five.</think>It is four.\n";
    chat("thinking", &[], &[slow.as_str(), quick, &slow, quick, quick].concat(), QUIET, |chat| {
        chat.terminal.line("Slowly").sees("thinking… 1 token");
        chat.shot().terminal.keys(CSI_ESC).sees("stopped").at_prompt();
        chat.skip().lines(&["2+2?", "/thinking", "/set progress off"]).shot();
        chat.skip().terminal.wiped().line("Slowly").keys("next").sees("> next");
        chat.shot().terminal.keys(CSI_ESC).sees("stopped").wait("the text in the line", |screen| {
            let (row, column) = screen.cursor_position();
            screen.contents_between(row, 0, row, column).ends_with("next")
        });
        chat.terminal.keys(CTRL_C);
        chat.skip().lines(&["2+2?", "/set show-thinking on", "2+2?"]).shot();
        chat.terminal.wait("dim thinking", |screen| {
            let rows: Vec<String> = screen.rows(0, chat.columns).collect();
            let dim = |text: &str| {
                let row = rows.iter().position(|row| row.starts_with(text));
                row.and_then(|row| screen.cell(row as u16, 0)).map(vt100::Cell::dim)
            };
            dim("Let me see.") == Some(true) && dim("It is four.") == Some(false)
        });
    });
}

#[test]
fn a_long_prefill_is_a_percentage() {
    for columns in WIDTHS {
        let home = Home::new();
        let script = home.script("answers", &format!("\\r{}One.\n", "\\p".repeat(2000)));
        let mut terminal = home.terminal_as(&Setup { columns, ..Setup::default() }, &script);
        terminal.at_prompt().line("Read").wait("the percentage and the time left", |screen| {
            let rows = screen.rows(0, columns).map(|row| row.trim_end().to_string());
            let mut rows = rows.filter(|row| row.starts_with("prefill "));
            let whole = |row: &String| row.contains("░ 25% ") && row.ends_with(" s left");
            rows.any(|row| if columns == 20 { row == "prefill 25%" } else { whole(&row) })
        });
        terminal.keys(CSI_ESC).sees("stopped").at("> Read");
    }
}

#[test]
fn the_figures_after_an_answer() {
    let slow = "\\pone \\ptwo \\pthree \\pfour\n";
    is_as_before("stats", |columns| {
        let home = Home::in_tmp();
        let script = home.script(".answers", slow);
        let args = [&script.each_ref().map(String::as_str)[..], &["--seed", "5"]].concat();
        let shown = in_chat(&home, columns, &args, |chat| {
            chat.lines(&["Count", "/stats", "/context", "/set stats off", "Count"]).shot();
        });
        let figure = |c: char| if c.is_ascii_digit() { '0' } else { c };
        shown.chars().map(figure).collect() // times differ
    });
}

#[test]
fn a_second_model_answers_below_its_name() {
    let other = ("other", "name: other\nA second opinion of several words.\n");
    chat("compare", &[other], "One.\n", QUIET, |chat| {
        chat.lines(&["/compare", "Hi", "/compare script:other", "/compare script:no", "/tree 3"]).shot();
    });
}

#[test]
fn an_answers_beginning_is_written_and_shown() {
    chat("begin", &[], " it is so.\n", QUIET, |chat| {
        chat.lines(&["/begin", "/begin Sure,", "/begin", "Hi", "/begin Well,", "/retry", "/begin none"])
            .shot();
    });
}

#[test]
fn why_colours_the_answer_and_lists_what_surprises() {
    is_as_before("why", |columns| {
        let home = Home::in_tmp();
        let model = Parrot::saying(&["The ", "sky ", "is ", "blue ", "today", "."]).write(&home, "parrot");
        let args = ["-m", model.to_str().unwrap(), "--temp", "0", "--stats=off", "--no-prompt-cache"];
        in_chat(&home, columns, &args, |chat| {
            chat.lines(&["/why", "/begin So", "Hi", "/why"]).shot();
        })
    });
}

#[test]
fn keys_that_clear_edit_and_search() {
    chat("keys", &[], "One.\nTwo.\n", QUIET, |chat| {
        chat.lines(&["the first line"])
            .terminal
            .keys("a red car")
            .at("> a red car")
            .keys(CTRL_G)
            .at("> a blue car");
        chat.shot()
            .terminal
            .keys(CTRL_L)
            .wait("a clear screen", |screen| screen.contents() == "> a blue car");
        chat.shot().terminal.keys(CTRL_R).keys("first").sees_wrapped("`first': the first line");
        chat.shot().terminal.keys(CSI_ESC).at("> a blue car").keys(CTRL_U).at_prompt();
        chat.lines(&["/help keys"]).shot();
    });
}

/// A conversation to resume.
fn conversation(id: &str, title: &str) -> String {
    let question = serde_json::json!({
        "id": "0000000000000001", "parent": null, "role": "user", "parts": [{ "type": "text", "text": title }],
        "created": null,
    });
    let tree = serde_json::json!({ "entries": [question], "head": "0000000000000001" });
    serde_json::json!({
        "fireside": 2, "id": id, "title": title, "created": 1, "changed": 2, "messages": [], "tree": tree,
    })
    .to_string()
}

#[test]
fn menus_describe_what_they_offer() {
    let config = (".config/fireside/config.toml", "[aliases]\ntiny = \"tiny-one\"\n");
    is_as_before("menus", |columns| {
        let home = Home::in_tmp();
        [NOTES, CODE, OWN, GUIDE, POET, config].iter().for_each(|(file, text)| _ = home.write(file, text));
        home.write(".local/share/fireside/models/tiny-one.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
        for (file, id, title) in [
            ("a.json", "00112233445566ff", "The sky at night"),
            ("b.json", "0011aabbccddeeff", "Rome in a day"),
        ] {
            home.write(file, conversation(id, title));
            home.run(&["history", "import", file]).done().code(0);
            std::fs::remove_file(home.path(file)).unwrap();
        }
        let script = home.script(".answers", "One.\n");
        let args = [&script.each_ref().map(String::as_str)[..], QUIET].concat();
        in_chat(&home, columns, &args, |chat| {
            for typed in [
                "/re",
                "/set th",
                "/set overflow ",
                "/show ",
                "/file docs/",
                "/resume 0011",
                "/role ",
                "/model tiny",
            ] {
                chat.menu(typed);
            }
        })
    });
}
