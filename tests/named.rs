//! Files that the user names: nothing that exists is replaced unasked, and `~` is the home folder wherever a
//! path is typed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::history::{chat, history, id};
use crate::support::pty::*;
use crate::support::{Home, tiny};

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn an_export_asks_before_it_replaces_a_file() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hello\n").code(0);
    let file = home.write("notes.md", "precious");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let id = id(&home, 0);
    let there = "notes.md already exists";
    history(&home, &["export", &id, "notes.md"]).done().failed(1, there).hint("--force");
    chat(&home, "x\n", &["--continue"], "/export notes.md\n").says(there).hint("/export --force notes.md");
    assert_eq!(text(&file), "precious");
    let mut terminal = home.terminal(&["history", "export", &id, "notes.md"]);
    terminal.sees("notes.md already exists. Replace it? [y/N]").line("n");
    assert_eq!(terminal.ends(), 1);
    drop(terminal);
    assert_eq!(text(&file), "precious");
    let mut terminal = home.terminal(&["history", "export", &id, "notes.md"]);
    terminal.sees("Replace it?").line("y");
    assert_eq!(terminal.ends(), 0);
    drop(terminal);
    assert!(text(&file).contains("Hello"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o640, "its mode stays");
    home.write("notes.md", "precious");
    history(&home, &["export", "--force", &id, "notes.md"]).done().code(0);
    assert!(text(&file).contains("Hello"));
    home.write("notes.md", "precious");
    chat(&home, "x\n", &["--continue"], "/export --force notes.md\n").code(0);
    assert!(text(&file).contains("Hello"));
}

#[test]
fn in_a_chat_the_export_asks_too() {
    let home = Home::new();
    let script = home.script("answers", "one\n");
    let file = home.write("notes.md", "precious");
    let mut terminal = home.terminal(&script);
    terminal.at_prompt().line("Hello").sees("one").at_prompt().line("/export notes.md");
    terminal.sees("Replace it? [y/N]").line("").at_prompt();
    assert_eq!(text(&file), "precious");
    terminal.wiped().line("/export notes.md").sees("Replace it?").line("y").sees("to notes.md").at_prompt();
    assert!(text(&file).contains("Hello"));
    terminal.keys(CTRL_D).ends();
}

#[test]
fn an_ending_that_says_no_format_is_refused() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hello\n").code(0);
    let id = id(&home, 0);
    let wrong = "notes.pdf";
    history(&home, &["export", &id, wrong]).done().failed(2, "notes.pdf").hint(".md, .json or .txt");
    chat(&home, "x\n", &["--continue"], "/export notes.pdf\n").says("notes.pdf").hint(".md, .json or .txt");
    assert!(!home.path(wrong).exists());
    history(&home, &["export", &id, wrong, "--format", "txt"]).done().code(0).says("as text");
    history(&home, &["export", &id, "notes"]).done().code(0).says("as Markdown");
    assert!(text(&home.path("notes")).starts_with("# Hello"));
}

#[test]
fn a_tilde_is_the_home_folder_wherever_a_path_is_typed() {
    let home = Home::new();
    home.write("a.txt", "The text.");
    home.write("system.txt", "Be kind.");
    home.write("chat.jinja", "{% for m in messages %}<{{ m.content }}>{% endfor %}");
    let model = home.write("m/tiny.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let given = |args: &[&str]| home.run(&[args, &["--dry-run", "-p", "x"]].concat()).done().code(0).stdout;
    let out = given(&["-m", "~/m/tiny.gguf", "--file=~/a.txt", "--system-prompt-file=~/system.txt"]);
    assert!(out.contains("The text.") && out.contains("Be kind."), "{out}");
    assert_eq!(given(&["-m", "~/m/tiny.gguf", "--chat-template=~/chat.jinja"]), "<x>\n");
    home.write(
        ".config/fireside/config.toml",
        "model = \"~/m/tiny.gguf\"\nchat-template = \"~/chat.jinja\"\nmodel-folder = \"~/m\"\n",
    );
    assert_eq!(given(&[]), "<x>\n");
    home.run(&["show", "~/m/tiny.gguf"]).done().code(0);
    home.run(&["check", "~/m/tiny.gguf"]).done().code(0);
    let listed = home.run(&["list", "--json"]).done().code(0).json();
    assert_eq!(listed["models"][0]["path"], model.to_str().unwrap());
    chat(&home, "one\n", &[], "Hi\n/export ~/out.json\n/file ~/a.txt\n/export ~/.txt\n")
        .code(0)
        .says("attached");
    assert!(home.path("out.json").exists());
    let id = id(&home, 0);
    history(&home, &["export", &id, "~/out.md"]).done().code(0);
    history(&home, &["import", "~/out.json"]).done().code(0);
    assert!(home.path("out.md").exists());
    assert!(!home.path("~").exists());
    home.run(&["convert", "~/nowhere", "~/x.gguf"]).done().failed(1, home.path("nowhere").to_str().unwrap());
}
