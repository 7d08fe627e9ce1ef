//! The chat, line by line, without a terminal: whole transcripts, with answers on stdout and the rest on
//! stderr.

use fireside::repl::commands::COMMANDS;

use crate::support::{Done, Home, tiny};

/// Chat lines in, answers from a script out.
fn chat(answers: &str, lines: &str) -> Done {
    chat_at(&Home::new(), answers, lines)
}

fn chat_at(home: &Home, answers: &str, lines: &str) -> Done {
    home.scripted(answers, &["--repl-stdin", "-q", "--seed", "1"]).stdin(lines).done().code(0)
}

/// An editor that runs `command` on the file "$1".
fn editor(home: &Home, command: &str) -> String {
    let path = home.write("editor.sh", command);
    format!("sh '{}'", path.display())
}

#[test]
fn answers_go_to_stdout_and_everything_else_to_stderr() {
    let home = Home::new();
    home.scripted("Hello.\nTwo\\nlines\n", &["--repl-stdin"])
        .stdin("Hi\nAnd again\n/exit\nnever asked\n")
        .done()
        .code(0)
        .stdout("Hello.\nTwo\nlines\n")
        .says(concat!("fireside ", env!("CARGO_PKG_VERSION"), ": script"))
        .says("/help lists the commands")
        .says("context 2 of 1000");
}

#[test]
fn the_end_of_the_lines_is_the_end_of_the_chat() {
    chat("Hello.\n", "Hi").stdout("Hello.\n").stderr("");
    chat("Hello.\n", "").stdout("").stderr("");
    chat("Hello.\n", "\n   \n").stdout("").stderr("");
}

#[test]
fn help_lists_every_command_and_explains_one() {
    let done = chat("x\n", "/help\n/?\n").stdout("");
    for command in COMMANDS {
        let line = format!("/{}", command.name);
        assert_eq!(done.stderr.matches(command.help).count(), 2, "{line}; {done:#?}");
    }
    let one = "/retry \ngenerate another answer to the last message\nalso: /regen\n";
    chat("x\n", "/help retry\n/help /retry\n/help regen\n").stderr(&one.repeat(3));
    chat("x\n", "/help rety\n").failed(0, "there is no command /rety").hint("did you mean /retry?");
}

#[test]
fn exit_bye_and_quit_leave() {
    for word in ["/exit", "/bye", "/quit", "  /exit  ", "/EXIT"] {
        let line = word.trim_start();
        chat("no\n", &format!("{line}\nHi\n")).stdout("").stderr("");
    }
}

#[test]
fn an_unknown_command_says_which_was_probably_meant() {
    chat("x\n", "/undoo\n").failed(0, "there is no command /undoo").hint("did you mean /undo?");
    chat("x\n", "/byee\n").failed(0, "/byee").hint("/bye?");
    chat("x\n", "/Temp 0.5\n").failed(0, "there is no command /Temp").hint("did you mean /set temp?");
    chat("x\n", "/zzzzzzzz\n").failed(0, "/zzzzzzzz").hint("/help lists the commands");
}

#[test]
fn a_message_may_begin_with_a_slash_after_a_space() {
    chat("Fine.\n", " /tmp is a folder\n/show prompt\n")
        .stdout("Fine.\n")
        .stderr("[user]  /tmp is a folder\n");
}

#[test]
fn a_path_is_no_command() {
    for message in [
        "/etc/hosts is broken",
        "/usr/bin/env: no such file",
        "// a comment",
        "/* and one */",
        "/^a+$/ matches what?",
        "/dev/null",
    ] {
        chat("Fine.\n", &format!("{message}\n/show prompt\n"))
            .stdout("Fine.\n")
            .stderr(&format!("[user] {message}\n"));
    }
    chat("x\n", "/show-prompt\n").failed(0, "there is no command /show-prompt");
    chat("x\n", "/undoo it\n").failed(0, "there is no command /undoo").hint("did you mean /undo?");
    chat("x\n", "//exit\n").stdout("x\n").stderr("");
}

#[test]
fn clear_begins_anew_and_keeps_the_system_prompt() {
    for word in ["/clear", "/new"] {
        chat("One.\nTwo.\n", &format!("/system Be brief.\nHi\n{word}\nHo\n/show prompt\n"))
            .stdout("One.\nTwo.\n")
            .stderr("[system] Be brief.\n[user] Ho\n");
    }
}

#[test]
fn a_command_that_takes_nothing_refuses_what_comes_after_it() {
    for command in COMMANDS.iter().filter(|command| command.takes.is_empty()) {
        let name = command.name;
        let done = chat("One.\n", &format!("Hi\n/{name} x\n/show prompt\n")).stdout("One.\n");
        let refused = format!("fireside: /{name} takes no arguments\n");
        assert_eq!(
            done.stderr.replace("hint: to send it as a message, put a space before it\n", ""),
            refused + "[user] Hi\n"
        );
    }
}

#[test]
fn title_alone_shows_the_title() {
    let home = Home::new();
    let chat =
        home.scripted("One.\n", &["--repl-stdin", "-q"]).stdin("/title\nWhy is\\\nthe sky blue?\n/title\n");
    chat.done().code(0).stderr("no title yet: it will come from the first message\nWhy is the sky blue?\n");
}

#[test]
fn undo_takes_back_one_exchange_after_the_other() {
    let home = Home::new();
    home.scripted("One.\nTwo.\nThree.\n", &["--repl-stdin"])
        .stdin("first\nsecond\n/undo\n/undo\n/undo\n/redo\n/undo\nthird\n/show prompt\n")
        .done()
        .code(0)
        .stdout("One.\nTwo.\nThree.\n")
        .says("removed: second\nremoved: first\nfireside: nothing to undo\n")
        .says("restored: first\nremoved: first\n")
        .says("[user] third\n");
}

#[test]
fn retry_puts_another_answer_in_the_place_of_the_last() {
    chat("One.\nTwo.\nThree.\nFour.\n", "Hi\n/retry\n/regen\nHo\n/show prompt\n")
        .stdout("One.\nTwo.\nThree.\nFour.\n")
        .stderr("[user] Hi\n[assistant] Three.\n[user] Ho\n");
    chat("One.\n", "/retry\n").failed(0, "there is nothing to answer again");
}

#[test]
fn more_goes_on_with_a_cut_answer() {
    let home = Home::new();
    let answers = "one two three\n four\nfive\n";
    home.scripted(answers, &["--repl-stdin", "-n", "2"])
        .stdin("Count\n/more\nOn\n/show prompt\n")
        .done()
        .code(0)
        .stdout("one two \n four\nfive\n")
        .says("cut off: the token limit (predict) was reached; /more continues")
        .says("[user] Count\n[assistant] one two  four\n[user] On\n");
    chat("One.\n", "/more\n").failed(0, "there is no answer to continue");
}

#[test]
fn edit_sends_a_message_again_as_it_was_changed() {
    let home = Home::new();
    let sed = editor(&home, "sed -i s/red/blue/ \"$1\"");
    let run = |lines: &str| {
        home.scripted("One.\nTwo.\nThree.\n", &["--repl-stdin", "-q"])
            .env("EDITOR", &sed)
            .stdin(lines)
            .done()
            .code(0)
    };
    run("a red car\n/edit\n/show prompt\n")
        .stdout("One.\nTwo.\n")
        .stderr("> a blue car\n[user] a blue car\n");
    run("a red car\na tree\n/edit 1\nhm\n/show prompt\n")
        .stdout("One.\nTwo.\nThree.\nOne.\n")
        .stderr("> a blue car\n[user] a blue car\n[assistant] Three.\n[user] hm\n");
    run("a tree\n/edit\n/show prompt\n").stdout("One.\n").stderr("[user] a tree\n");
    run("a tree\n/edit 2\n").says("/edit takes the number of one of your messages, 1 to 1, not '2'");
}

#[test]
fn an_editor_that_fails_or_is_missing_changes_nothing() {
    let home = Home::new();
    let failing = editor(&home, "echo lost > \"$1\"; exit 3");
    home.scripted("One.\n", &["--repl-stdin", "-q"])
        .env("EDITOR", &failing)
        .stdin("Hi\n/edit\n/show prompt\n")
        .done()
        .stdout("One.\n")
        .says("failed; the message is unchanged")
        .says("[user] Hi\n");
    chat("One.\n", "Hi\n/edit\n").says("no editor is set").hint("set EDITOR");
}

#[test]
fn a_failure_leaves_the_conversation_as_it_was_and_the_chat_goes_on() {
    chat(
        "One.\n!out of luck\nTwo.\n!again\nThree.\n",
        "first\nsecond\n/show prompt\nsecond\n/retry\nthird\n/show prompt\n",
    )
    .stdout("One.\nTwo.\nThree.\n")
    .stderr(
        "fireside: out of luck\n[user] first\nfireside: again\n\
         [user] first\n[assistant] One.\n[user] second\n[assistant] Two.\n[user] third\n",
    );
}

#[test]
fn more_goes_on_with_cut_answers_only_and_a_failure_leaves_them() {
    let lines = "/set predict 1\nfirst\n/more\n/set predict -1\n/more\n/show prompt\n/more\n";
    chat("One two.\n!out of luck\nthree.\n", lines)
        .says("fireside: out of luck\n[user] firstOne \nfireside: the answer was not cut")
        .hint("/retry");
}

#[test]
fn blocks_and_backslashes_make_one_message_of_several_lines() {
    let shown = "[user] one\ntwo\n";
    for lines in ["\"\"\"one\ntwo\"\"\"", "\"\"\"\none\ntwo\n\"\"\"", "one\\\ntwo"] {
        chat("Fine.\n", &format!("{lines}\n/show prompt\n")).stdout("Fine.\n").stderr(shown);
    }
    chat("Fine.\n", "\"\"\"\n/exit\n\n  kept\n\"\"\"\n/show prompt\n")
        .stdout("Fine.\n")
        .stderr("[user] /exit\n\n  kept\n");
    chat("Fine.\n", "\"\"\"never closed\n/exit\n").stdout("Fine.\n");
}

#[test]
fn a_system_prompt_holds_from_the_next_message_on() {
    let home = Home::new();
    home.scripted("One.\nTwo.\nThree.\n", &["--repl-stdin", "--system-prompt", "Be brief."])
        .stdin("/system\nHi\n/system Be long.\n/system\nHo\n/show prompt\n/system none\n/show system\n")
        .done()
        .stdout("One.\nTwo.\n")
        .says("Be brief.\n")
        .says("the system prompt applies from the next message on\nBe long.\n")
        .says("[system] Be long.\n[user] Hi\n[assistant] One.\n[user] Ho\n")
        .says("removed the system prompt\nno system prompt is set");
}

#[test]
fn set_shows_and_changes_settings() {
    let home = Home::new();
    let done = home
        .scripted("x\n", &["--repl-stdin", "--top-k", "7"])
        .stdin("/set\n/set temp\n/set temp 0.5\n/set temp\n/set stop \"the end\"\n")
        .done()
        .stdout("")
        .says("temp is 0.5\n")
        .says("stop is the end");
    let row = |name: &str| {
        let line = done.stderr.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(row("top-k").starts_with("top-k 7 "), "{done:#?}");
    assert!(row("temp").starts_with("temp 0.8 "), "{done:#?}");
}

#[test]
fn set_explains_what_it_does_not_know() {
    chat("x\n", "/set parameter temperature 0.5\n")
        .failed(0, "there is no setting 'parameter'")
        .hint("/set temp 0.5");
    chat("x\n", "/set tempp 1\n").failed(0, "tempp").hint("did you mean /set temp?");
    chat("x\n", "/set verbose\n").failed(0, "verbose").hint("/set stats on");
    chat("x\n", "/set temp hot\n").failed(0, "hot");
    chat("x\n", "/set temp -1\n").failed(0, "-1");
}

#[test]
fn a_setting_out_of_range_changes_nothing() {
    let done = chat("x\n", "/set top-p 2\n/set top-p\n");
    assert!(done.stderr.contains("0.95"), "{done:#?}");
}

#[test]
fn stats_can_be_turned_off_and_asked_for() {
    let home = Home::new();
    let done = home
        .scripted("One.\nTwo.\n", &["--repl-stdin"])
        .stdin("/stats\nHi\n/set stats off\nHo\n/stats\n")
        .done()
        .stdout("One.\nTwo.\n")
        .says("fireside: there is no answer yet\n")
        .says("answer       1 token, ended by the model");
    assert_eq!(done.stderr.matches("of 1000\n").count(), 1, "one line of stats; {done:#?}");
}

#[test]
fn show_tells_what_is_in_force() {
    for lines in ["/show\n", "/show model\n", "/model\n"] {
        chat("x\n", lines).stdout("").says("model        script\n").says("up to 1000 tokens");
    }
    chat("x\n", "/show settings\n").says("top-k");
    chat("x\n", "/show template\n").says("no chat template");
    chat("x\n", "/show nothing\n").failed(0, "'nothing'").hint("model settings prompt template system");
}

#[test]
fn tokens_and_context_count_what_the_model_saw() {
    chat("One two.\n", "Hi there\n/tokens\n/context\n").stdout("One two.\n").stderr(
        "      0 \"[user] \"\n      1 \"Hi \"\n      2 \"there\"\n3 tokens\n  1 user           2 tokens           Hi there\n    \
             assistant      2 tokens           One two.\n4 of 1000 tokens (0 %), 2 messages, 0 tokens in the KV cache\n",
    );
}

#[test]
fn a_file_goes_with_the_next_message_only() {
    let home = Home::new();
    home.write("my notes.txt", "a b c\n");
    home.scripted("One.\nTwo.\n", &["--repl-stdin"])
        .stdin("/file\n/file my notes.txt\n/read \"my notes.txt\"\n/file\nSummarise.\nAnd?\n/show prompt\n")
        .done()
        .stdout("One.\nTwo.\n")
        .says("no files are attached\n")
        .says(
            "attached my notes.txt to your next message: 5 bytes, 3 tokens, less than 1 s to prefill; 997 of 1000 tokens left in the context\n",
        )
        .says("my notes.txt is attached already\n  1       3 tokens  my notes.txt\n")
        .says("[user] a b c\n\nSummarise.\n[assistant] One.\n[user] And?\n");
}

#[test]
fn files_that_cannot_be_attached_say_why() {
    let home = Home::new();
    home.write("bytes", b"ab\xff");
    home.write("folder/x", b"\xff");
    chat_at(&home, "x\n", "/file missing.txt\n").failed(0, "missing.txt");
    chat_at(&home, "x\n", "/file folder\n")
        .failed(0, "there are no text files in folder: folder/x (not text)");
    chat_at(&home, "x\n", "/file bytes\n").failed(0, "offset 2").hint("iconv");
    home.write("long", "word ".repeat(1200));
    let done = home.scripted("One.\n", &["--repl-stdin"]);
    done.stdin("/file long\n/file none\nHi\n/show prompt\n")
        .done()
        .says("too long for the context of 1000 tokens: /file none detaches it; a part of it may fit\nno files are attached\n")
        .says("[user] Hi\n");
}

#[test]
fn a_failed_message_keeps_its_files() {
    let home = Home::new();
    home.write("notes", "a b c\n");
    chat_at(&home, "!no\nOne.\n", "/file notes\nSum up.\n/file\nSum up.\n/show prompt\n")
        .stdout("One.\n")
        .stderr("fireside: no\n  1       3 tokens  notes\n[user] a b c\n\nSum up.\n");
}

#[test]
fn a_home_path_is_understood() {
    let home = Home::new();
    home.write("a b(1).txt", "a b c\n");
    chat_at(&home, "One.\n", "/file ~/a\\ b\\(1).txt\n/file\n").says("a b(1).txt");
}

#[test]
fn another_script_goes_on_with_the_conversation() {
    let home = Home::new();
    home.write("other.txt", "From the other.\n");
    let lines = "Hi\n/model other.txt\nHo\n/show prompt\n/model missing.txt\nStill?\n";
    chat_at(&home, "One.\n", lines)
        .stdout("One.\nFrom the other.\nFrom the other.\n")
        .says("[user] Hi\n[assistant] One.\n[user] Ho\n")
        .says("fireside: could not read the script missing.txt");
}

#[test]
fn another_model_keeps_the_conversation() {
    let home = Home::new();
    let run = |lines: String| {
        home.run(&["--repl-stdin", "-q", "--temp", "0", "-n", "4"])
            .model(&tiny("llama-bpe"))
            .stdin(lines)
            .done()
            .code(0)
    };
    let (spm, bpe) = (tiny("llama-spm"), tiny("llama-bpe"));
    let before = run("Hi\nHo\n/show prompt\n".into());
    let there_and_back = run(format!(
        "Hi\nHo\n/show prompt\n/model {}\nHe\n/undo\n/model {}\n/show prompt\n",
        spm.display(),
        bpe.display()
    ));
    assert!(before.stderr.contains("Hi<|im_end|>"), "{before:#?}");
    assert!(there_and_back.stdout.starts_with(&before.stdout), "{there_and_back:#?}");
    there_and_back.stderr(&before.stderr.repeat(2));
    run(format!("Hi\n/model {}\nHo\n/show prompt\n/show model\n", spm.display()))
        .says("Hi")
        .says("llama-spm");
}

#[test]
fn a_model_that_cannot_be_used_leaves_the_old_one() {
    let home = Home::new();
    home.write("broken.gguf", "no model");
    let done = home
        .run(&["--repl-stdin", "-q", "--temp", "0", "-n", "4"])
        .model(&tiny("llama-bpe"))
        .stdin("Hi\n/model broken.gguf\n/model nowhere.gguf\n/show model\nHi\n")
        .done()
        .code(0);
    assert_eq!(done.stderr.matches("fireside: ").count(), 2, "{done:#?}");
    assert!(done.stderr.contains("llama-bpe"), "{done:#?}");
    assert_eq!(done.stdout.lines().count() % 2, 0, "two answers; {done:#?}");
}

#[test]
fn tokens_and_prompts_of_a_real_model_can_be_seen() {
    let home = Home::new();
    home.write("notes", "a b c\n");
    home.run(&["--repl-stdin", "--temp", "0", "-n", "4", "--system-prompt", "Be brief."])
        .model(&tiny("llama-bpe"))
        .stdin("/file notes\n/context\nHi\n/show template\n/show prompt\n/tokens\n/context\n/stats\n")
        .done()
        .code(0)
        .says("attached notes to your next message")
        .says("Be brief.")
        .says(" tokens in the KV cache")
        .says("first token");
}

/// Every command of the table is typed in this file or in that of its subject.
#[test]
fn a_script_cannot_say_why() {
    chat("Yes.\n", "/why\n").failed(0, "there is no answer yet");
    chat("Yes.\n", "Hi\n/why\n").stdout("Yes.\n").says("script tells no probabilities of given texts");
}

#[test]
fn every_command_is_in_a_transcript() {
    let here = [
        include_str!("repl.rs"),
        include_str!("history.rs"),
        include_str!("thinking.rs"),
        include_str!("copying.rs"),
        include_str!("probabilities.rs"),
        include_str!("roles.rs"),
        include_str!("branches.rs"),
        include_str!("beginnings.rs"),
        include_str!("probabilities.rs"),
    ]
    .concat();
    for command in COMMANDS {
        for name in [&command.name].into_iter().chain(command.aliases) {
            let typed = [format!("\"/{name}"), format!("\\n/{name}"), format!("{{word}}\\n/{name}")];
            assert!(typed.iter().any(|text| here.contains(text)), "/{name} is in no transcript");
        }
    }
}

#[test]
fn a_byte_order_mark_is_not_text() {
    let home = Home::new();
    home.write("a.txt", "\u{feff}first\n");
    let marked = editor(&home, "printf '\\357\\273\\277edited' > \"$1\"");
    home.scripted("One.\nTwo.\nThree.\n", &["--repl-stdin", "-q"])
        .env("EDITOR", &marked)
        .stdin("\u{feff}Hi\n/file a.txt\nHo\n/show prompt\n/edit\n/show prompt\n")
        .done()
        .code(0)
        .says("[user] Hi\n[assistant] One.\n[user] first\n\nHo\n")
        .says("[assistant] One.\n[user] first\n\nedited\n");
    home.scripted("One.\n", &["--repl-stdin", "-q"])
        .stdin("\u{feff}/system Be brief.\nHi\n/show prompt\n")
        .done()
        .code(0)
        .says("[system] Be brief.\n[user] Hi\n");
}
