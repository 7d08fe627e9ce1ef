//! Conversations that cannot be saved: disk full, access denied, or the database locked by another program.
//! The chat continues, nothing saved is lost, and at the end unsaved messages are offered as a file.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::history::{DATABASE, chat, history, id, listed};
use crate::support::pty::*;
use crate::support::{Home, cannot_run, program};

const FOLDER: &str = ".local/share/fireside";
/// A user without files.
const NOBODY: u32 = 65534;

/// A conversation saved before the trouble begins.
fn with_one_conversation() -> Home {
    let home = Home::new();
    chat(&home, "one\n", &[], "First\n").code(0);
    home
}

/// Continues it in a terminal, where nothing can be saved, and saves everything to a file at the end.
fn goes_on_and_is_saved(home: &Home, setup: &Setup, line: &str, why: &str) {
    let script = home.script("answers", "two\nthree\n");
    let words: Vec<String> = [program(), &script[0], &script[1], "--continue"].map(String::from).into();
    let mut terminal = home.shell_command(setup, line, &words);
    terminal.at_prompt().line("Second").sees("two").at_prompt().line("Third").sees("three").at_prompt();
    terminal.sees_wrapped("this conversation is not being saved").sees_wrapped(why);
    terminal.keys(CTRL_D).sees_wrapped("File to save it to, or Enter to discard it:");
    terminal.line("/no/such/folder/talk.json").sees_wrapped("could not write /no/such/folder/talk.json");
    terminal.line("talk.json").sees_wrapped("to talk.json as JSON").ends();
    assert!(!terminal.screen().contains("panicked"));
    drop(terminal);
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(home.path("talk.json")).unwrap()).unwrap();
    let said: Vec<&str> =
        saved["messages"].as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap()).collect();
    assert_eq!(said, ["First", "one", "Second", "two", "Third", "three"]);
}

/// Checks that the saved messages are complete, and that more can be saved again.
fn is_as_before(home: &Home) {
    let shown = history(home, &["show", &id(home, 0)]).done().code(0).stdout;
    assert!(shown.contains("First") && shown.contains("one"), "{shown}");
    assert!(!shown.contains("Third"), "{shown}");
    assert!(!home.path(&format!("{DATABASE}.damaged-1")).exists());
    chat(home, "four\n", &["--continue"], "Fourth\n").code(0);
    assert_eq!(listed(home)[0]["messages"], 4);
}

/// A small file system mounted at a folder, if the machine allows it.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn at(folder: &Path) -> Option<Mounted<'_>> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k,mode=700", "none"]).arg(folder);
        let done = mount.output().ok()?;
        done.status.success().then_some(Mounted(folder))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status(); // the folder is temporary
    }
}

#[test]
#[allow(clippy::print_stdout)] // which way the disk was filled is a result
fn a_full_disk_stops_no_chat_and_loses_nothing() {
    let home = Home::new();
    let folder = home.path(FOLDER);
    std::fs::create_dir_all(&folder).unwrap();
    let Some(_mounted) = Mounted::at(&folder) else {
        println!(
            "the disk was not filled: no file system may be mounted here; only a limit on files was tried"
        );
        return;
    };
    println!("the disk was filled: a mounted file system of 512 KiB");
    chat(&home, "one\n", &[], "First\n").code(0);
    chat(&home, "other\n", &[], "Other\n").code(0);
    history(&home, &["rm", &id(&home, 0), "--yes"]).done().code(0); // the log is empty now, without space
    let filler = folder.join("filler");
    let mut room = vec![0u8; 512 << 10];
    while let Err(error) = std::fs::write(&filler, &room) {
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        room.truncate(room.len() - 4096); // as much as there is space for
    }
    goes_on_and_is_saved(&home, &Setup::default(), "exec \"$@\"", "the disk is full");
    std::fs::remove_file(filler).unwrap();
    is_as_before(&home);
}

#[test]
fn a_limit_on_files_stops_no_chat_and_loses_nothing() {
    let home = with_one_conversation();
    // In blocks of 512 bytes: enough for the exported file, too little for a page of the database.
    begins_and_is_saved(&home, "ulimit -f 7; exec \"$@\"");
    is_as_before(&home);
}

#[test]
fn refused_permissions_stop_no_chat_and_lose_nothing() {
    let home = with_one_conversation();
    let set = |mode: u32, file_mode: u32| {
        std::fs::set_permissions(home.path(DATABASE), std::fs::Permissions::from_mode(file_mode)).unwrap();
        std::fs::set_permissions(home.path(FOLDER), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let closed = home.write("closed", "");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o0)).unwrap();
    let root = std::fs::read(&closed).is_ok();
    let copy = home.path("program");
    std::fs::copy(program(), &copy).unwrap(); // where everyone may run it
    let line = match root {
        // Root may do anything, so another user chats.
        true => "shift; exec setpriv --reuid 65534 --regid 65534 --clear-groups ./program \"$@\"",
        false => "exec \"$@\"",
    };
    if root {
        if !Command::new("setpriv").arg("--version").output().is_ok_and(|done| done.status.success()) {
            return cannot_run("root cannot become somebody else here: there is no setpriv");
        }
        give(&home.path(""));
    }
    for (mode, file_mode) in [(0o500, 0o400), (0o000, 0o600)] {
        set(mode, file_mode);
        let gone_on = std::panic::catch_unwind(|| match mode {
            0 => begins_and_is_saved(&home, line),
            _ => goes_on_and_is_saved(&home, &Setup::default(), line, "permission denied"),
        });
        set(0o700, 0o600);
        gone_on.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    }
    is_as_before(&home);
}

/// A new conversation while not even the saved ones can be read.
fn begins_and_is_saved(home: &Home, line: &str) {
    let script = home.script("answers", "two\n");
    let words: Vec<String> = [program(), &script[0], &script[1]].map(String::from).into();
    let mut terminal = home.shell_command(&Setup::default(), line, &words);
    terminal
        .at_prompt()
        .line("New")
        .sees("two")
        .sees_wrapped("this conversation is not being saved")
        .at_prompt();
    terminal
        .keys(CTRL_D)
        .sees_wrapped("File to save it to")
        .line("new.md")
        .sees_wrapped("to new.md as Markdown")
        .ends();
    drop(terminal);
    assert!(std::fs::read_to_string(home.path("new.md")).unwrap().contains("New"));
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    for entry in std::fs::read_dir(path).into_iter().flatten() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => give(&entry.path()),
            false => chown(entry.path(), Some(NOBODY), Some(NOBODY)).unwrap(),
        }
    }
}

/// The messages of the newest conversation, in order.
fn said(home: &Home) -> Vec<String> {
    let shown = history(home, &["export", &id(home, 0), "--format", "json"]).done().code(0).json();
    let text = |one: &serde_json::Value| one["content"].as_str().unwrap().to_string();
    shown["messages"].as_array().unwrap().iter().map(text).collect()
}

#[test]
fn what_is_said_while_the_database_is_locked_is_taken_in_later() {
    let home = with_one_conversation();
    let other = rusqlite::Connection::open(home.path(DATABASE)).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let typed = "Second\n/retry\n/title A better name\nThird\n";
    let done = chat(&home, "two\ntwo again\nthree\n", &["--continue"], typed).code(0);
    assert!(!done.stderr.contains("could not save this conversation"), "it is on the disk; {done:#?}");
    assert_eq!(listed(&home)[0]["messages"], 2);
    other.execute_batch("rollback").unwrap();
    assert_eq!(said(&home), ["First", "one", "Second", "two again", "Third", "three"]);
    let one = &listed(&home)[0];
    assert_eq!((one["messages"].as_i64(), one["title"].as_str()), (Some(7), Some("A better name")));
    only_the_database_is_left(&home);
    chat(&home, "four\n", &["--continue"], "Fourth\n").code(0);
    assert_eq!(listed(&home)[0]["messages"], 9);
}

fn only_the_database_is_left(home: &Home) {
    let names = std::fs::read_dir(home.path(FOLDER)).unwrap().map(|entry| entry.unwrap().file_name());
    let others: Vec<_> =
        names.filter(|name| !name.to_str().unwrap().starts_with("conversations.db")).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn what_is_said_while_the_database_is_locked_outlives_the_program() {
    for stored in [false, true] {
        let home = if stored { with_one_conversation() } else { Home::new() };
        if !stored {
            chat(&home, "other\n", &[], "Other\n").code(0);
        }
        let other = rusqlite::Connection::open(home.path(DATABASE)).unwrap();
        other.execute_batch("begin immediate").unwrap();
        let go_on: &[&str] = if stored { &["--continue"] } else { &[] };
        let args = [&["--repl-stdin", "--keep"], go_on].concat();
        let mut running = home.scripted("two\nthree \\pwords\n", &args).stdin("Second\nThird\n").start();
        running.stdout.wait_for("three");
        running.killed();
        other.execute_batch("rollback").unwrap();
        let said = said(&home);
        let before: &[&str] = if stored { &["First", "one"] } else { &[] };
        assert_eq!(said[..said.len().min(before.len() + 3)], [before, &["Second", "two", "Third"]].concat());
        let id = id(&home, 0);
        history(&home, &["rm", &id, "--yes"]).done().code(0);
        for entry in std::fs::read_dir(home.path(FOLDER)).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(6).any(|w| w == b"Second"), "the text is still there");
        }
        assert_eq!(listed(&home).len(), usize::from(!stored));
    }
}

/// A large database on a disk so slow that the check takes long.
fn with_a_large_store() -> Option<Home> {
    if Command::new("strace").arg("-V").output().is_err() {
        cannot_run("strace is not there");
        return None;
    }
    let home = with_one_conversation();
    let export = home.path("conversations.json");
    crate::support::chats::write_export(std::fs::File::create(&export).unwrap(), 8 << 20).unwrap();
    history(&home, &["import", export.to_str().unwrap()]).done().code(0);
    Some(home)
}

/// The delay of one read, in microseconds: thousands of reads take longer than anyone waits.
const SLOW: u32 = 20_000;

#[test]
fn the_first_words_do_not_wait_until_the_store_is_looked_over() {
    let Some(home) = with_a_large_store() else { return };
    let run = home.scripted("two \\p\\p\\pwords\n", &["--repl-stdin", "--keep"]).stdin("Second\n");
    let begun = std::time::Instant::now();
    let mut running = run.reads_slowed(SLOW).start();
    running.stdout.wait_for("two");
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "they waited");
    running.killed();
    assert_eq!(said(&home)[0], "Second");
}

#[test]
fn ctrl_c_ends_what_waits_for_the_store_to_be_looked_over() {
    let Some(home) = with_a_large_store() else { return };
    let export = home.path("conversations.json");
    for args in [&["history", "import", export.to_str().unwrap()][..], &["doctor"]] {
        let begun = std::time::Instant::now();
        let running = home.run(args).reads_slowed(SLOW).start();
        running.wait_for_handler();
        std::thread::sleep(std::time::Duration::from_millis(500)); // until it checks the database
        running.interrupt();
        running.done().code(130);
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{args:?} was deaf");
    }
}

#[test]
fn one_answer_is_kept_however_long_the_store_is_looked_over() {
    let Some(home) = with_a_large_store() else { return };
    let run = home.scripted("two\n", &["--keep", "-p", "Second", "--no-stdin"]);
    run.reads_slowed(SLOW).done().code(0).stdout("two\n");
    assert_eq!(said(&home), ["Second", "two"]);
}

#[test]
fn one_answer_that_could_not_be_kept_says_so() {
    for args in [&["--keep", "-p", "Hi", "--no-stdin"][..], &["--keep", "-p", "Hi", "--no-stdin", "-q"]] {
        let home = Home::new();
        home.write(&format!("{DATABASE}/inside"), "a folder in its place");
        let done = home.scripted("one\n", args).done().code(0).stdout("one\n");
        done.says("could not save this conversation");
    }
}

#[test]
fn a_lock_that_is_released_in_time_is_only_waited_for() {
    let home = with_one_conversation();
    let other = rusqlite::Connection::open(home.path(DATABASE)).unwrap();
    other.execute_batch("begin immediate").unwrap();
    let mut running =
        home.scripted("two\n", &["--repl-stdin", "--keep", "--continue"]).stdin("Second\n").start();
    running.stdout.wait_for("two");
    other.execute_batch("rollback").unwrap();
    running.close_stdin();
    running.done().code(0);
    assert_eq!(listed(&home)[0]["messages"], 4);
}

#[test]
fn two_programs_that_go_on_with_one_conversation_make_two_branches() {
    let home = with_one_conversation();
    let go_on = |answers: &str, asked: &str| {
        let mut running = home.scripted(answers, &["--repl-stdin", "--keep", "--continue"]).stdin("").start();
        running.stderr.wait_for(": First (");
        running.write(asked.as_bytes());
        running
    };
    let mut here = go_on("here\n", "");
    let mut there = go_on("there\n", "And there?\n");
    there.stdout.wait_for("there");
    here.write(b"And here?\n");
    for mut running in [here, there] {
        running.close_stdin();
        running.done().code(0);
    }
    let tree = history(&home, &["show", &id(&home, 0), "--json"]).done().code(0).json();
    let entries = tree["tree"]["entries"].as_array().expect("a tree").clone();
    let entry = |text: &str| {
        let entry = entries.iter().find(|entry| entry["parts"][0]["text"] == text);
        entry.unwrap_or_else(|| panic!("{tree}"))
    };
    let (said, after) = (|text: &str| &entry(text)["id"], |text: &str| &entry(text)["parent"]);
    assert_eq!((after("And here?"), after("And there?")), (said("one"), said("one")));
    assert_eq!((after("there"), entries.len()), (said("And there?"), 6));
}
