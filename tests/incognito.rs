//! `--incognito` writes nothing: under strace, no call that creates, changes, renames or removes a file
//! succeeds.

use std::process::Command;

use crate::support::pty::*;
use crate::support::{Home, cannot_run, default_model, program, tiny};

const CALLS: &str = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir,symlink,symlinkat,link,linkat,\
                     truncate,ftruncate,chmod,fchmod,fchmodat,utimensat,mknod,mknodat";

/// The calls in a log of strace that changed anything but devices and the like, one line each.
fn changes(log: &str) -> Vec<&str> {
    let changes = |line: &&str| {
        // A call that another thread interrupts is logged in two parts; the first names it. The second, with
        // its result, is not looked up.
        let succeeded = !line.contains("= -1 ") && !line.contains(" resumed>");
        let opens = line.contains(" open(") || line.contains(" openat(");
        let to_write =
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| line.contains(flag));
        let file = !["\"/dev/", "\"/proc/", "\"/sys/"].iter().any(|place| line.contains(place));
        succeeded && file && (!opens || to_write)
    };
    log.lines().filter(changes).collect()
}

#[test]
fn nothing_is_written_by_a_chat_or_an_answer() {
    if Command::new("strace").arg("-V").output().is_err() {
        return cannot_run("strace is not there");
    }
    let models = [Some(tiny("llama-bpe")), default_model()];
    for model in models.into_iter().flatten() {
        let home = Home::new();
        let log = tempfile::NamedTempFile::new().unwrap(); // outside the home, which must stay empty
        let read = || std::fs::read_to_string(log.path()).unwrap();
        let file = home.write("file.txt", "A small house by the road. ".repeat(60)); // else long enough for a cache
        home.run(&["--incognito", "-f", file.to_str().unwrap(), "-p", "Hi", "-n", "4"])
            .model(&model)
            .traced(CALLS, log.path())
            .done()
            .code(0);
        assert_eq!(changes(&read()), Vec::<&str>::new(), "one answer");
        let strace = format!(
            "exec strace -f -qq -e signal=none -e trace={CALLS} -o '{}' \"$@\"",
            log.path().display()
        );
        let words = [program(), "--incognito", "-n", "4", "-m", model.to_str().unwrap()].map(String::from);
        let mut terminal = home.shell_command(&Setup::default(), &strace, &words);
        terminal
            .at("incognito> ")
            .line(&format!("/file {}", file.display()))
            .sees("to your next message")
            .at("incognito> ");
        // On a slow machine, the file is worth a question.
        terminal.line("Hello").wait("an answer or a question", |screen| {
            screen.contents().contains("tokens/s") || screen.contents().contains("Send it?")
        });
        if terminal.screen().contains("Send it?") {
            terminal.line("y");
        }
        terminal
            .sees("tokens/s")
            .at("incognito> ")
            .line("/retry")
            .at("incognito> ")
            .line("/title x")
            .at("incognito> ");
        terminal.keys(CTRL_D).ends();
        drop(terminal);
        assert_eq!(changes(&read()), Vec::<&str>::new(), "a chat");
        let left: Vec<_> =
            std::fs::read_dir(home.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["file.txt"]);
        // The test does notice a write.
        home.run(&["--keep", "-p", "Hi", "-n", "4"]).model(&model).traced(CALLS, log.path()).done().code(0);
        assert!(changes(&read()).iter().any(|line| line.contains("conversations.db")));
    }
}
