//! fireside's own files: private whatever the umask, never opened through a link; and no lock, pipe, device,
//! clock or large number of files makes anyone wait.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::history::{DATABASE, chat, history, id, listed};
use crate::support::pty::*;
use crate::support::{Home, Run, cannot_run, program, tiny};

const STATE: &str = ".local/state/fireside";
const LINES: &str = ".local/state/fireside/lines";
/// Longer than any deadline, but finite.
const SOON: Duration = Duration::from_secs(20);

/// A lock on a file or folder, as held by another program.
fn held(path: &Path) -> File {
    let file = File::open(path).unwrap();
    file.lock().unwrap();
    file
}

/// Runs the program, which must end in time.
#[track_caller]
fn soon(run: Run) -> crate::support::Done {
    let measured = run.measured(SOON);
    assert_eq!(measured.signal, None, "it hangs; {measured:#?}");
    measured.done
}

#[test]
fn a_lock_on_the_state_folder_delays_no_start() {
    let home = Home::new();
    home.write(LINES, "");
    let lock = held(&home.path(STATE));
    let ask = || home.run(&["-p", "Hi", "-n", "1", "--no-stdin"]).model(&tiny("llama-bpe"));
    soon(ask()).code(0).says("another program holds").says(STATE);
    drop(lock);
    soon(ask()).code(0).stderr("");
}

#[test]
fn a_lock_on_the_typed_lines_delays_no_chat() {
    let home = Home::new();
    let lock = held(&home.write(LINES, "earlier\n"));
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("Hi").sees("One.").sees_wrapped("could not save typed lines").at_prompt();
    terminal.line("Ho").sees("Two.").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    drop((terminal, lock));
    assert_eq!(fs::read_to_string(home.path(LINES)).unwrap(), "earlier\n");
}

#[test]
fn a_lock_beside_a_damaged_store_delays_no_chat() {
    let home = Home::new();
    let file = home.write(DATABASE, "no database at all, but long enough to be taken for one ".repeat(40));
    let before = fs::read(&file).unwrap();
    let lock = held(file.parent().unwrap());
    chat(&home, "one\n", &[], "Hi\n").code(0).stdout("one\n");
    assert_eq!(fs::read(&file).unwrap(), before, "repaired without the lock");
    drop(lock);
    chat(&home, "one\n", &[], "Ho\n").code(0).says("were damaged");
    let titles: Vec<_> = listed(&home).iter().map(|one| one["title"].clone()).collect();
    assert_eq!(titles, ["Ho", "Hi"], "what was said meanwhile is taken in");
}

/// Everything below a folder.
fn below(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        all.push(entry.path());
        below(&entry.path(), all);
    }
}

#[test]
fn all_that_is_kept_is_the_users_alone_whatever_the_umask() {
    for umask in ["0", "0777"] {
        let home = Home::new();
        fs::create_dir_all(home.path(STATE)).unwrap(); // as by a less careful program
        fs::set_permissions(home.path(STATE), fs::Permissions::from_mode(0o755)).unwrap();
        let file = home.write("file.txt", "A small house by the road. ".repeat(60)); // long enough for a cache
        let model =
            home.write(".local/share/fireside/models/tiny.gguf", fs::read(tiny("llama-bpe")).unwrap());
        let own = [home.path(".local/share/fireside/models"), model];
        let words: Vec<String> = [program(), "-m", "tiny", "-n", "3"].map(String::from).into();
        let mut terminal =
            home.shell_command(&Setup::default(), &format!("umask {umask}; exec \"$@\""), &words);
        terminal
            .at_prompt()
            .line(&format!("/file {}", file.display()))
            .sees("to your next message")
            .at_prompt();
        terminal.line("Hello").sees("tokens/s").at_prompt().keys(CTRL_D).ends();
        drop(terminal);
        home.run(&["list"]).after(&format!("umask {umask}")).done().code(0);
        let mut all = Vec::new();
        [".local", ".cache", ".config"].iter().for_each(|folder| below(&home.path(folder), &mut all));
        let named = |end: &str| all.iter().any(|path| path.ends_with(end));
        assert!(named("lines") && named("models.json") && named("conversations.db"));
        for path in
            all.iter().filter(|path| path.to_str().unwrap().contains("/fireside") && !own.contains(path))
        {
            let (about, shown) = (fs::metadata(path).unwrap(), path.display());
            let expected = if about.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(about.permissions().mode() & 0o777, expected, "{shown} under umask {umask}");
        }
    }
}

#[test]
fn a_config_that_never_ends_is_one_line() {
    let home = Home::new();
    let file = home.write(".config/fireside/config.toml", "");
    fs::remove_file(&file).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    soon(home.scripted("yes\n", &["-p", "a"]).after("ulimit -v 8000000"))
        .failed(2, "config.toml: it is not a regular file");
    fs::remove_file(&file).unwrap();
    symlink("/dev/zero", &file).unwrap();
    soon(home.scripted("yes\n", &["-p", "a"]).after("ulimit -v 8000000"))
        .failed(2, "config.toml: it is not a regular file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, "# much\n".repeat(1 << 20)).unwrap();
    soon(home.scripted("yes\n", &["-p", "a"]).after("ulimit -v 8000000"))
        .failed(2, "config.toml: it is longer than 1 MiB");
    fs::remove_file(&file).unwrap();
    symlink("/dev/null", &file).unwrap(); // how people make it empty
    soon(home.scripted("yes\n", &["-p", "a"]).after("ulimit -v 8000000")).code(0).stdout("yes\n");
    fs::remove_file(&file).unwrap();
    symlink(home.write("elsewhere.toml", "no-such-setting = 1\n"), &file).unwrap(); // how people group files
    soon(home.scripted("yes\n", &["-p", "a"]).after("ulimit -v 8000000"))
        .failed(2, "no setting 'no-such-setting'");
}

#[test]
fn pipes_and_devices_in_the_place_of_our_files_keep_nobody_waiting() {
    let home = Home::new();
    for name in ["models.json", "fetched.json", "lines"] {
        home.write(&format!("{STATE}/x"), "");
        assert!(Command::new("mkfifo").arg(home.path(STATE).join(name)).status().unwrap().success());
    }
    home.write(".local/share/fireside/x", "");
    assert!(Command::new("mkfifo").arg(home.path(DATABASE)).status().unwrap().success());
    home.write(".local/share/fireside/models/tiny.gguf", fs::read(tiny("llama-bpe")).unwrap());
    assert!(Command::new("mkfifo").arg(home.path("pipe.gguf")).status().unwrap().success());
    soon(home.run(&["list"])).code(0);
    soon(home.run(&["history", "list"])).failed(1, "conversations.db is not a regular file");
    soon(home.run(&["-p", "Hi", "-m", "./pipe.gguf", "--no-stdin"])).failed(1, "pipe.gguf");
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("Hi").sees("One.").sees_wrapped("could not save typed lines").at_prompt();
    terminal.sees_wrapped("conversations.db is").keys(CTRL_D).sees("File to save it to");
    terminal.line("").ends();
}

/// Seconds since 1970: before it; long ago; the year 2090; the year 12000; the last second that a file system
/// can store.
const CLOCKS: &[i64] = &[-86_400, 0, 946_684_800, 3_786_912_000, 316_516_204_800, 9_000_000_000_000];

#[test]
fn whatever_the_clock_says_nothing_panics() {
    for clock in CLOCKS {
        let home = Home::new();
        let at = |run: Run| run.at(*clock);
        let Some(run) = at(home.scripted("one\ntwo\n", &["--repl-stdin", "--keep"])) else {
            return cannot_run("there is no C compiler to make a wrong clock with");
        };
        run.stdin("Hi\n/title x\n/history\n").done().code(0).stdout("one\n");
        let id = id(&home, 0);
        for args in [
            &["history", "list"][..],
            &["history", "list", "--since", "1d"],
            &["history", "list", "--since", "2020-01-01"],
            &["history", "search", "Hi"],
            &["history", "show", &id],
            &["history", "export", &id, "--format", "json"],
            &["doctor"],
            &["list"],
        ] {
            let done = at(home.run(args)).unwrap().done();
            assert!(done.code == Some(0) && !done.stderr.contains("internal error"), "{clock}: {done:#?}");
        }
        let answer = at(home.run(&["-p", "Hi", "-n", "2", "--no-stdin"]).model(&tiny("llama-bpe"))).unwrap();
        answer.done().code(0);
        history(&home, &["export", &id, "talk.md"]).done().code(0);
    }
}

#[test]
fn a_chat_from_the_future_is_not_the_newest_for_ever() {
    let home = Home::new();
    let run = |answers: &str, typed: &str| home.scripted(answers, &["--repl-stdin", "--keep"]).stdin(typed);
    let Some(future) = run("one\n", "From the future\n").at(3_786_912_000) else {
        return cannot_run("there is no C compiler to make a wrong clock with");
    };
    future.done().code(0);
    run("two\n", "From today\n").done().code(0);
    let titles =
        || listed(&home).iter().map(|one| one["title"].as_str().unwrap().to_string()).collect::<Vec<_>>();
    assert_eq!(titles(), ["From today", "From the future"]);
    chat(&home, "three\n", &["--continue"], "And on\n").code(0).says(": From today (");
    // Once it is continued, its date is valid.
    chat(&home, "four\n", &["--resume", &id(&home, 1)[..6]], "Now\n").code(0).says("From the future");
    assert_eq!(titles(), ["From the future", "From today"]);
}

#[test]
fn fifty_thousand_files_are_looked_at_soon_and_said_to_be_many() {
    let home = Home::new();
    let folder = home.write(".local/share/fireside/models/m0.gguf", "").parent().unwrap().to_path_buf();
    (1..50_000).for_each(|number| drop(File::create(folder.join(format!("m{number}.gguf"))).unwrap()));
    for args in [&["list", "--all"][..], &["list"], &["-p", "Hi", "-m", "nosuch"], &["doctor"]] {
        let done = soon(home.run(args));
        assert!(args[0] != "list" || done.stderr.contains("more than 10,000"), "{done:#?}");
        assert!(done.stdout.lines().count() <= 10_001, "{args:?}");
    }
}

#[test]
fn our_own_files_are_never_reached_through_a_link() {
    let home = Home::new();
    let targets = ["database", "lines"].map(|name| home.write(name, "somebody else's\n"));
    targets.iter().for_each(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap());
    for (target, name) in targets.iter().zip([DATABASE, LINES]) {
        let link = home.path(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, &link).unwrap();
    }
    let mut terminal = home.terminal(&home.script("answers", "One.\nTwo.\n"));
    terminal.at_prompt().line("Hi").sees("One.").sees_wrapped("could not save typed lines").at_prompt();
    terminal.sees_wrapped("conversations.db is").keys(CTRL_D).sees("File to save it to").line("").ends();
    drop(terminal);
    history(&home, &["list"]).done().failed(1, "conversations.db is a link");
    for target in &targets {
        assert_eq!(fs::read_to_string(target).unwrap(), "somebody else's\n");
        assert_eq!(fs::metadata(target).unwrap().permissions().mode() & 0o777, 0o644);
    }
}

#[test]
fn a_folder_behind_a_link_is_used_and_left_as_open_as_it_is() {
    let home = Home::new();
    let real = home.write("disk/x", "").parent().unwrap().to_path_buf();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(home.path(".local/share")).unwrap();
    symlink(&real, home.path(".local/share/fireside")).unwrap();
    chat(&home, "one\n", &[], "Hi\n").code(0);
    assert_eq!(listed(&home).len(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&real), mode(&real.join("conversations.db"))), (0o755, 0o600));
}

#[test]
fn an_export_is_written_through_what_the_user_named() {
    let home = Home::new();
    chat(&home, "one\n", &[], "Hi\n").code(0);
    let id = id(&home, 0);
    let export = |file: &str| history(&home, &["export", "--force", &id, file]);
    let real = home.write("real.md", "before");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&real, home.path("link.md")).unwrap();
    export("link.md").done().code(0);
    assert!(fs::symlink_metadata(home.path("link.md")).unwrap().is_symlink(), "the link was replaced");
    let whole = fs::read_to_string(&real).unwrap();
    assert!(whole.contains("one") && !whole.contains("before"), "{whole}");
    export("real.md").done().code(0);
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640, "a file keeps its mode");
    export("new.md").done().code(0);
    assert_eq!(fs::metadata(home.path("new.md")).unwrap().permissions().mode() & 0o777, 0o600);
    let pipe = home.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let read = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
    };
    export("pipe").done().code(0);
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "the pipe was replaced");
    assert_eq!(read.join().unwrap(), whole);
    soon(export("pipe")).failed(1, "could not write pipe: nobody reads it");
    for stdout in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let done = export(stdout).done().code(0);
        assert_eq!(done.stdout, whole, "{stdout}");
    }
    export("/dev/full").done().failed(1, "no space left on device");
}

#[test]
fn in_a_chat_an_export_is_written_through_as_well() {
    let home = Home::new();
    let real = home.write("real.txt", "before");
    symlink(&real, home.path("link.txt")).unwrap();
    let done = chat(&home, "one\n", &[], "Hi\n/export --force link.txt\n/export -\n").code(0);
    assert!(
        done.stdout.starts_with("one\n") && done.stdout.contains("You:\nHi\n\nscript:\none\n"),
        "{done:#?}"
    );
    assert!(fs::symlink_metadata(home.path("link.txt")).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("one"));
}
