//! What a chat shows besides the answer: what is typed meanwhile, the prompt's format, counters; and that it
//! goes on in the background.

use crate::support::Home;
use crate::support::pty::*;

const WIDTHS: [u16; 3] = [20, 80, 200];

fn words(count: usize) -> String {
    (1..=count).map(|n| format!("\\pw{n} ")).collect()
}

fn chat(home: &Home, (columns, rows): (u16, u16), answers: &str, more: &[&str]) -> Terminal {
    let script = home.script("answers", answers);
    let args = [&script.each_ref().map(String::as_str)[..], more].concat();
    home.terminal_as(&Setup { columns, rows, ..Setup::default() }, &args)
}

/// The row below the one with the cursor, if it is dim.
fn below(screen: &vt100::Screen) -> String {
    let row = screen.cursor_position().0 + 1;
    let dim = screen.cell(row, 0).is_some_and(|cell| cell.dim());
    let columns = screen.size().1.get();
    if dim {
        screen.rows(0, columns).nth(row.into()).unwrap_or_default().trim_end().into()
    } else {
        String::new()
    }
}

#[track_caller]
fn sees_below(terminal: &mut Terminal, text: &str) {
    terminal.wait(&format!("{text:?} below the answer"), |screen| below(screen) == text);
}

#[test]
fn what_is_typed_meanwhile_stands_below_the_answer() {
    for columns in WIDTHS {
        let home = Home::new();
        let mut terminal = chat(&home, (columns, 40), &format!("{}\nTwo.\n", words(600)), &[]);
        terminal.at_prompt().line("Count").sees("w2 ").keys("secxx\x7f\x7fond");
        sees_below(&mut terminal, "> second");
        terminal.keys(ENTER).keys("\x1b[200~thi\trd\x1b[201~");
        sees_below(&mut terminal, "> second ⏎ thi rd");
        terminal.keys(" and so on");
        let shown = if columns == 20 { "> …⏎ thi rd and so" } else { "> second ⏎ thi rd and so on" };
        terminal.wait("the end of a long line", |screen| {
            let below = below(screen);
            if columns == 20 {
                below.starts_with("> …") && below.ends_with("and so on")
            } else {
                below == shown
            }
        });
        let early = terminal.screen();
        terminal.wait("more of the answer", |screen| screen.contents().len() > early.len() + 20);
        terminal.keys(CTRL_C).sees("stopped").wait("the text in the line", |screen| {
            screen.contents().replace('\n', "").ends_with("> secondthi     rd and so on")
        });
        assert!(!terminal.screen().contains('⏎'), "{}", terminal.screen());
    }
}

#[test]
fn a_line_that_was_sent_does_not_stand_below_its_answer() {
    let home = Home::new();
    let mut terminal = chat(&home, (80, 40), &format!("{}\n{}\n", words(20), words(600)), &[]);
    terminal.at_prompt().line("Count").sees("w2 ").keys("second").keys(ENTER);
    sees_below(&mut terminal, "> second ⏎");
    for word in ["w3", "w9", "w20"] {
        let answer = "> second\nw1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12 w13 w14 w15 w16 w17 w18 w19 w20";
        let answer = &answer[..answer.find(word).unwrap() + word.len()];
        terminal.wait("the answer alone", |screen| {
            screen.contents().contains(answer) && below(screen).is_empty()
        });
    }
    terminal.keys(ESC).sees("stopped").at_prompt();
}

/// Types while an answer of many rows scrolls through a small window.
#[test]
fn the_row_below_does_not_touch_the_answer() {
    let answer =
        format!("{}\\n\\n```\\n{}```\\n{}\n", words(25), "\\pcode of some length\\n".repeat(5), words(12));
    for columns in [20, 33] {
        let [quiet, typed] = [false, true].map(|types| {
            let home = Home::new();
            let mut terminal = chat(&home, (columns, 9), &answer, &["--stats=off"]);
            terminal.at_prompt().line("Count").sees("w2 ");
            if types {
                for (n, c) in "typed meanwhile, on and on".chars().enumerate() {
                    let n = n + 2;
                    terminal.keys(&c.to_string()).wait("a word", |screen| {
                        screen.contents().contains(&format!("w{n} ")) || screen.contents().contains("code")
                    });
                }
                terminal.sees("on and on").keys(CTRL_U);
            }
            terminal.sees("w12").at_prompt();
            terminal.screen()
        });
        // The row has scrolled the window one row further.
        assert!(quiet.ends_with(typed.trim_start()), "{quiet}\n---- typed meanwhile:\n{typed}");
    }
}

#[test]
fn what_is_typed_stands_below_a_counter_too() {
    let home = Home::new();
    let answer = format!("<think>{}</think>One.\n", words(600));
    let mut terminal = chat(&home, (80, 40), &answer, &[]);
    terminal.at_prompt().line("Hi").sees("thinking… ").keys("next");
    sees_below(&mut terminal, "> next");
    terminal.keys(CTRL_C).at("> next").keys(CTRL_U).at_prompt().line("/set progress off").at_prompt();
    terminal.wiped().line("Hi").keys("later");
    sees_below(&mut terminal, "> later");
    assert!(!terminal.screen().contains("thinking…"), "{}", terminal.screen());
    terminal.keys(CTRL_C).sees("> Hi\n").at("later");
}

#[test]
fn the_prompt_shows_model_and_context() {
    for columns in WIDTHS {
        let home = Home::new();
        let format = ["--prompt-format", "{model} {used}/{limit} {percent}% {> "];
        let answers = "One two three four five six seven eight.\n";
        let mut terminal = chat(&home, (columns, 40), answers, &["--prompt-format", "{model} {percent}%>"]);
        terminal.at("script 0%> ").line("Say it").sees("eight.").at("script 1%> ");
        terminal.line("/set prompt-format {used}/{limit}:").at("10/1000: ").line("/undo").sees("> Say it");
        terminal.line("/set prompt-format default").at("script 1%> ");
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
        drop(terminal);
        home.run(&[&["-p", "Hi"][..], &format].concat()).done().failed(2, "must have nothing but {model}");
        let mut terminal =
            chat(&home, (columns, 40), answers, &["--prompt-format", "{used}>", "--incognito"]);
        terminal.at("incognito 0> ").line("/set prompt-format >").at("incognito> ");
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}

#[test]
fn an_answer_goes_on_in_the_background() {
    for (kind, waits) in
        [("sh -i", true), ("bash --norc --noediting -i", true), ("bash --norc --noediting -i", false)]
    {
        let home = Home::new();
        let command = [crate::support::program().to_string()].into_iter();
        let command = command.chain(home.script("answers", &format!("{}\nTwo.\n", words(30))));
        let setup = Setup {
            environment: vec![("FIRESIDE", command.collect::<Vec<_>>().join(" ")), ("PS1", "shell: ".into())],
            ..Setup::default()
        };
        let mut terminal = home.shell_command(&setup, &format!("exec {kind}"), &[]);
        terminal
            .at("shell: ")
            .line("$FIRESIDE")
            .at_prompt()
            .line("Count")
            .sees("w3 ")
            .keys(CTRL_Z)
            .at("shell: ");
        terminal.line("bg").sees("w5 ");
        if waits {
            let stopped = "until jobs > jobs; grep -q Stopped jobs; do :; done; echo $((40 + 2))";
            terminal.sees("w30").line(stopped).sees("\n42\n");
        }
        terminal
            .line("fg")
            .keys("ahead")
            .sees("w30")
            .at("> ahead")
            .keys(CTRL_U)
            .at_prompt()
            .line("Next")
            .sees("> Next\nTwo.")
            .at_prompt();
        terminal.keys(CTRL_D).at("shell: ");
        assert!(terminal.is_as_found(), "{kind}: the terminal at the end");
    }
}

#[test]
fn a_shell_does_not_find_the_row_below() {
    let home = Home::new();
    let command = [crate::support::program().to_string()].into_iter();
    let command = command.chain(home.script("answers", &format!("{}\n", words(600))));
    let setup = Setup {
        environment: vec![("FIRESIDE", command.collect::<Vec<_>>().join(" ")), ("PS1", "shell: ".into())],
        ..Setup::default()
    };
    let mut terminal = home.shell_command(&setup, "exec bash --norc --noediting -i", &[]);
    terminal.at("shell: ").line("$FIRESIDE").at_prompt().line("Count").sees("w2 ");
    let long = "typed meanwhile, and long enough to stand out on the right of what the shell prints";
    terminal.keys(long);
    sees_below(&mut terminal, &format!("> {long}"));
    terminal.keys(CTRL_Z).at("shell: ");
    assert!(!terminal.screen().contains("stand out"), "{}", terminal.screen());
    terminal.line("fg").sees(long).keys(CTRL_C).sees("stopped").at(&format!("> {long}"));
    terminal.keys(CTRL_U).at_prompt().keys(CTRL_D).at("shell: ");
}
