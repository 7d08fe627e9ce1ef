//! `/copy` and `/save`: the last answer and its code, in the clipboard and in files.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::pty::*;
use crate::support::{Home, cannot_run, program};

const ANSWER: &str = "Run\\n\\n```sh\\nls\\n```\\n\\n1. or\\n\\n   ~~~\\n   a  b\\n   ~~~\\n";
const RAW: &str = "Run\n\n```sh\nls\n```\n\n1. or\n\n   ~~~\n   a  b\n   ~~~\n";

fn chat(home: &Home, environment: &[(&'static str, String)], answer: &str) -> Terminal {
    let setup = Setup { environment: environment.to_vec(), ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &home.script("answers", answer));
    terminal.at_prompt().line("Go").sees("token").at_prompt();
    terminal
}

/// The texts that the terminal got for its clipboard.
fn copied(terminal: &Terminal) -> Vec<String> {
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    let sent = bytes.split("\x1b]52;c;").skip(1).map(|rest| rest.split('\x07').next().unwrap().to_string());
    sent.map(|sent| String::from_utf8(STANDARD.decode(sent).unwrap()).unwrap()).collect()
}

#[test]
fn the_terminal_gets_the_raw_answer_or_its_code() {
    let home = Home::new();
    let mut terminal = chat(&home, &[], ANSWER);
    terminal.line("/copy").sees("the answer, 48 bytes: sent to the terminal, which may keep it").at_prompt();
    terminal.line("/copy 2").sees("code block 2, 5 bytes: sent to the terminal").at_prompt();
    terminal.line("/copy code").sees("2 code blocks, 9 bytes: sent to the terminal").at_prompt();
    assert_eq!(copied(&terminal), [RAW, "a  b\n", "ls\n\na  b\n"]);
    terminal.line("/copy 3").sees("the last answer has 2 code blocks").at_prompt();
    terminal.line("/copy x").sees("/copy takes code or the number of a code block, not 'x'").at_prompt();
}

#[test]
fn tmux_gets_it_wrapped_too() {
    let home = Home::new();
    let mut terminal = chat(&home, &[("TMUX", "/nowhere,1,0".into())], "Hi.\n");
    terminal.line("/copy").sees("sent to the terminal").at_prompt();
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(bytes.contains("\x1bPtmux;\x1b\x1b]52;c;SGku\x07\x1b\\"), "{bytes:?}");
}

#[test]
fn the_systems_tool_is_used_where_there_is_one() {
    let home = Home::new();
    let tool = |path: &str, saves: &str| {
        let tool = home.write(path, format!("#!/bin/sh\ncat > {}\n", home.path(saves).display()));
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    tool("bin/xclip", "clipboard");
    tool("xclip", "wrong");
    // The current folder never counts, whatever PATH says.
    let path = |folder: &str| ("PATH", format!(".::{folder}:/usr/bin:/bin"));
    let here = home.path("bin").display().to_string();
    let mut terminal = chat(&home, &[("DISPLAY", ":9".into()), path(&here)], "Hi.\n");
    terminal.line("/copy").sees("the answer, 3 bytes: copied by xclip, and sent to the terminal").at_prompt();
    assert_eq!(std::fs::read_to_string(home.path("clipboard")).unwrap(), "Hi.");
    drop(terminal);
    let mut terminal = chat(&home, &[("DISPLAY", ":9".into()), path("bin")], "Hi.\n");
    terminal.line("/copy").sees("the answer, 3 bytes: sent to the terminal").at_prompt();
    assert!(!home.path("wrong").exists());
}

/// The first tool that works is used, in the order of docs/chat.md.
#[test]
fn the_systems_tools_are_tried_in_order() {
    let home = Home::new();
    let tool = |name: &str, ends: u8| {
        let text = format!(
            "#!/bin/sh\necho \"$@\" > {0}.args; cat > {0}.text; exit {ends}\n",
            home.path(name).display()
        );
        let tool = home.write(&format!("bin/{name}"), text);
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let both = [("DISPLAY", ":9".to_string()), ("WAYLAND_DISPLAY", "wayland-9".to_string())];
    let path = ("PATH", format!("{}:/usr/bin:/bin", home.path("bin").display()));
    let copied_by = |tools: &[(&str, u8)], set: &[(&'static str, String)], by: &str| {
        let _ = std::fs::remove_dir_all(home.path("bin"));
        tools.iter().for_each(|(name, ends)| tool(name, *ends));
        let environment = [set, std::slice::from_ref(&path)].concat();
        let mut terminal = chat(&home, &environment, "Hi.\n");
        terminal.line("/copy").sees(&format!("the answer, 3 bytes: {by}")).at_prompt();
    };
    let read = |file: &str| std::fs::read_to_string(home.path(file)).unwrap();
    let all = [("wl-copy", 0), ("xclip", 0), ("xsel", 0)];
    copied_by(&all, &both, "copied by wl-copy, and sent to the terminal");
    assert_eq!((read("wl-copy.text"), home.path("xclip.text").exists()), ("Hi.".into(), false));
    copied_by(&all, &both[..1], "copied by xclip, and sent to the terminal");
    assert_eq!((read("xclip.args"), read("xclip.text")), ("-selection clipboard\n".into(), "Hi.".into()));
    copied_by(&[("wl-copy", 1), ("xsel", 0)], &both, "copied by xsel, and sent to the terminal");
    assert_eq!((read("xsel.args"), read("xsel.text")), ("--clipboard --input\n".into(), "Hi.".into()));
    copied_by(&all, &[], "sent to the terminal");
    copied_by(&[("wl-copy", 1), ("xclip", 1), ("xsel", 1)], &both, "sent to the terminal");
}

/// Through a real multiplexer, with the settings that it comes with.
#[test]
fn tmux_and_screen_hand_the_text_on() {
    let run = [
        (
            "tmux",
            "set -g status off\nset -g destroy-unattached on\n",
            "exec tmux -S socket -f conf new-session \"$@\"",
        ),
        (
            "screen",
            "startup_message off\nautodetach off\n",
            "SCREENDIR=$PWD/screens exec screen -c conf \"$@\"",
        ),
    ];
    for (name, conf, line) in run {
        if std::process::Command::new(name).arg("--version").output().is_err() {
            cannot_run(&format!("{name} is not there"));
            continue;
        }
        let home = Home::new();
        home.write("conf", conf);
        std::fs::create_dir(home.path("screens")).unwrap();
        std::fs::set_permissions(home.path("screens"), std::fs::Permissions::from_mode(0o700)).unwrap();
        let text = "a b é ".repeat(100) + "end"; // longer than screen passes on at once
        let [option, script] = home.script("answers", &format!("{text}\n"));
        let words = [program().to_string(), option, script];
        let mut terminal = home.shell_command(&Setup::default(), line, &words);
        terminal.at_prompt().line("Go").sees("token").at_prompt().line("/copy").sees("sent to the terminal");
        terminal.at_prompt();
        let sent = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        let sent = sent.split("\x1b]52;").nth(1).and_then(|rest| rest.split(['\x07', '\x1b']).next());
        let sent = sent.and_then(|sent| sent.split(';').nth(1)).unwrap_or_else(|| panic!("{name} kept it"));
        assert_eq!(String::from_utf8(STANDARD.decode(sent).unwrap()).unwrap(), text, "{name}");
        terminal.keys(CTRL_D).ends();
    }
}

#[test]
fn what_is_too_long_for_a_terminal_is_not_cut() {
    let home = Home::new();
    let mut terminal = chat(&home, &[], &format!("{}\n", "x".repeat(80_000)));
    terminal
        .wiped()
        .line("/copy")
        .sees("could not copy the answer: it has 80000 bytes; terminals take at most 74994 bytes");
    terminal.sees("hint: /save FILE writes it to a file").at_prompt();
    assert!(copied(&terminal).is_empty());
}

#[test]
fn an_answer_is_saved_whole_or_its_code() {
    let home = Home::new();
    let lines = "/save early.md\n/copy\nGo\n/save answer.md\n/save --code code.sh\n/save code.sh\n/save code.sh --force\n/save\n/save nowhere/x\n";
    let done = home.scripted(&format!("{ANSWER}\n"), &["--repl-stdin"]).stdin(lines).done().code(0);
    assert_eq!(done.stderr.matches("there is no answer yet").count(), 2, "{done:#?}");
    done.says("wrote the answer to answer.md: 48 bytes\n")
        .says("wrote 2 code blocks to code.sh: 9 bytes\n")
        .says("fireside: code.sh already exists\nhint: /save --force code.sh replaces it\n")
        .says("wrote the answer to code.sh: 48 bytes\n")
        .says("/save needs a file name")
        .says("could not write nowhere/x: no such file");
    assert_eq!(std::fs::read_to_string(home.path("answer.md")).unwrap(), RAW);
    let done = home
        .scripted("No code.\n", &["--repl-stdin"])
        .stdin("Go\n/save --code x\n/copy code\n/copy 1\n")
        .done();
    done.says("the last answer has no code block").says("the last answer has 0 code blocks");
    assert!(!home.path("x").exists());
}

#[test]
fn a_file_is_replaced_after_a_yes() {
    let home = Home::new();
    home.write("notes.md", "precious");
    let mut terminal = chat(&home, &[], "Hi.\n");
    terminal
        .line("/save notes.md")
        .at("notes.md already exists. Replace it? [y/N] ")
        .keys(ESC)
        .sees("nothing changed")
        .at_prompt();
    assert_eq!(std::fs::read_to_string(home.path("notes.md")).unwrap(), "precious");
    terminal.line("/save notes.md").line("y").sees("wrote the answer to notes.md: 4 bytes").at_prompt();
    assert_eq!(std::fs::read_to_string(home.path("notes.md")).unwrap(), "Hi.\n");
}
