//! Keys, which only their server sees; and text, which leaves this machine only where that was said.

use std::os::unix::fs::PermissionsExt;

use super::{ask, chat, hello, llama_server, named};
use crate::support::pty::*;
use crate::support::server::{FakeServer, Reply};
use crate::support::{Home, tiny};

const KEY: &str = "sk-very-secret";

fn key_of(server: &FakeServer) -> Option<String> {
    server.questions().last()?.header("authorization").map(String::from)
}

#[test]
fn a_key_comes_from_the_environment_a_command_or_a_private_file() {
    let (home, server) = (Home::new(), hello());
    let run = |args: &[&str]| home.run(&[&["-m", "tiny@work", "-p", "Hi"], args].concat());
    named(&home, &server, "allow-http = true\nkey-command = \"echo from-command; echo more\"\n");
    run(&[]).done().code(0);
    assert_eq!(key_of(&server).as_deref(), Some("Bearer from-command"));
    run(&[]).env("FIRESIDE_API_KEY_WORK", KEY).done().code(0);
    assert_eq!(key_of(&server).unwrap(), format!("Bearer {KEY}"));
    named(&home, &server, "allow-http = true\nkey-command = \"exit 3\"\n");
    run(&[]).done().failed(1, "the key command of work failed: exit status: 3");
    named(&home, &server, &format!("allow-http = true\nkey = \"{KEY}\"\n"));
    let file = home.path(".config/fireside/config.toml");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    run(&[]).done().failed(2, "config.toml line 4: key may stand here only if nobody else can read");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    run(&[]).done().code(0);
    assert_eq!(key_of(&server).unwrap(), format!("Bearer {KEY}"));
    // Nothing shows it.
    let out = home.path("out.json");
    let export = format!("Hi\n/export {}\n/show\n", out.display());
    let runs = [
        run(&["-v"]).done(),
        run(&["--json"]).done(),
        home.run(&["config"]).done(),
        home.run(&["config", "--json"]).done(),
        home.run(&["doctor"]).done(),
        home.run(&["show", "tiny@work", "--json"]).done(),
        home.run(&["-m", "tiny@work", "--repl-stdin", "-v"]).stdin(export).done(),
    ];
    for done in runs {
        assert!(!(done.stdout.clone() + &done.stderr).contains("very-secret"), "{done:#?}");
    }
    assert!(!std::fs::read_to_string(out).unwrap().contains("very-secret"));
}

#[test]
fn the_key_for_a_url_and_what_another_tool_has() {
    let (home, server) = (
        Home::new(),
        FakeServer::new(|asked| {
            let known = asked.header("authorization").is_some();
            (!known).then(|| Reply::new(401, "application/json", r#"{"error":{"message":"no key"}}"#))
        }),
    );
    let done = ask(&home, &server, &["-p", "Hi"]).env("OPENAI_API_KEY", KEY).done();
    let done = done.failed(1, "wants a key (401): no key").hint("FIRESIDE_API_KEY, or");
    done.hint("fireside does not take OPENAI_API_KEY by itself");
    assert!(server.asked().iter().all(|asked| asked.header("authorization").is_none()));
    // Without encryption a key does not even go to this machine.
    let done = ask(&home, &server, &["-p", "Hi"]).env("FIRESIDE_API_KEY", KEY).done();
    done.failed(1, "the key would go there unencrypted").hint("allow-http = true");
    named(&home, &server, "allow-http = true\n");
    let run = home.run(&["--server", "work", "-q", "-p", "Hi"]).env("FIRESIDE_API_KEY_WORK", KEY);
    run.done().code(0).stdout("Hello there\n");
    let other = home.run(&["--server", "work", "-q", "-p", "Hi"]).env("FIRESIDE_API_KEY", KEY);
    other.done().failed(1, "work wants a key");
}

#[test]
fn no_redirect_carries_the_key_or_the_text() {
    let (home, other) = (Home::new(), hello());
    let to = format!("location: {}/v1/chat/completions", other.url);
    let server = FakeServer::new(move |asked| {
        asked.wants_answer().then(|| Reply::new(307, "text/plain", "").with(&to))
    });
    named(&home, &server, "allow-http = true\n");
    let run = home.run(&["-m", "tiny@work", "-p", "Hi"]).env("FIRESIDE_API_KEY_WORK", KEY);
    run.done().failed(1, &format!("work sends to another address: {}", other.url));
    assert!(other.asked().is_empty());
}

#[test]
fn http_is_for_this_machine_and_private_networks() {
    let home = Home::new();
    let done = home.run(&["--server", "http://8.8.8.8:9", "-p", "Hi"]).done();
    done.failed(1, "it is not on your own network, and http is not encrypted");
    for (url, why) in [
        ("localhost:8080", "must be an http or https address"),
        ("http://user:pass@localhost", "neither user name nor password"),
        ("nowhere", "there is no server 'nowhere'"),
    ] {
        home.run(&["--server", url, "-p", "Hi"]).done().failed(2, why);
    }
    let run = home.run(&["--server", "http://127.0.0.1:1", "--offline", "-p", "Hi"]);
    run.done().failed(1, "fireside is offline");
}

#[test]
fn text_leaves_without_a_terminal_only_if_the_command_line_says_so() {
    let (home, server) = (Home::new(), hello());
    named(&home, &server, "");
    let config = home.path(".config/fireside/config.toml");
    let section = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("model = \"tiny@work\"\n{section}")).unwrap();
    let silent = home.run(&["-p", "Hi"]).done();
    silent.failed(2, "tiny@work would get this text, and there is no terminal to ask").hint("--server work");
    assert!(server.asked().is_empty());
    for args in [["--server", "work"], ["-m", "tiny@work"]] {
        home.run(&[&args[..], &["-q", "-p", "Hi"]].concat()).done().code(0).stdout("Hello there\n");
    }
}

#[test]
fn a_local_conversation_goes_out_only_after_a_yes() {
    let (home, server) = (Home::new(), hello());
    named(&home, &server, "");
    let model = tiny("llama-bpe");
    let local = ["-m", model.to_str().unwrap(), "-n", "2", "--keep", "-q", "-p", "a secret"];
    home.run(&local).done();
    let question = format!(
        "This conversation has not been at work ({}) yet. Send all of it there? [y/N]",
        server.url.strip_prefix("http://").unwrap()
    );
    let mut no = home.terminal(&["--continue", "-m", "tiny@work"]);
    no.sees("work > ").line("/context").sees("estimated from the length");
    no.line("And now?").sees(&question).line("n").sees("nothing was sent");
    drop(no);
    assert!(server.asked().iter().all(|asked| asked.body.is_empty()), "no text was sent, nor to be counted");
    let mut yes = home.terminal(&["--continue", "-m", "tiny@work"]);
    yes.sees("work > ").line("And now?").sees("[y/N]").line("y").sees("Hello there");
    assert!(server.questions()[0].body.contains("a secret"));
    yes.line("/exit");
    assert_eq!(yes.ends(), 0);
    drop(yes);
    // It knows the server now: no question.
    let mut again = home.terminal(&["--continue", "-m", "tiny@work"]);
    again.sees("work > ").line("And then?").sees("2 tokens");
    assert_eq!(server.questions().len(), 2);
}

#[test]
fn a_conversation_of_a_server_without_a_name_asks_before_it_goes_back() {
    let (home, server) = (Home::new(), hello());
    ask(&home, &server, &["--keep", "-p", "Hi"]).done().code(0);
    let before = server.asked().len();
    let silent = home.run(&["--continue", "-p", "More"]).done();
    silent.failed(2, &format!("the conversation was answered by tiny@{}", server.url));
    let id = home.run(&["history", "list"]).done().code(0).stdout[..8].to_string();
    let resumed = home.scripted("Local.\n", &["--repl-stdin"]).stdin(format!("/resume {id}\nMore\n"));
    let resumed = resumed.done().code(0).stdout("Local.\n");
    resumed.says(&format!("the conversation was answered by tiny@{}; continuing with script", server.url));
    let key = Setup { environment: vec![("FIRESIDE_API_KEY", KEY.into())], ..Setup::default() };
    let mut asks = home.terminal_as(&key, &["--resume", &id]);
    asks.sees("Go on there, with the key of").sees("FIRESIDE_API_KEY? [y/N]").line("n");
    assert_eq!(asks.ends(), 130);
    drop(asks);
    let mut terminal = home.terminal(&["--resume", &id]);
    terminal.sees("Go on there? [y/N]");
    assert_eq!(server.asked().len(), before, "nothing is asked of it before");
    terminal.line("y").sees(" > ").line("More").sees("Hello there").keys(CTRL_D);
}

#[test]
fn a_chat_switches_to_a_server_and_back() {
    let (home, server) = (Home::new(), hello());
    named(&home, &server, "");
    let lines = "Hi\n/model tiny@work\nHi again\n/set ctx-size 512\n";
    let script = home.scripted("Local.\n", &["--repl-stdin"]).stdin(lines).done().code(0);
    let script = script.stdout("Local.\nHello there\n").says("the conversation continues at work");
    script.says("ctx-size is 512; it has no effect at work");
    assert!(server.questions()[0].body.contains("Local."));
    let gone = chat(&home, &server, &[], "Hi\n/model tiny@http://127.0.0.1:1\nHi\n").code(0);
    gone.stdout("Hello there\nHello there\n").says("could not reach http://127.0.0.1:1");
}

#[test]
fn what_a_message_names_or_a_command_says_leaves_only_after_a_yes() {
    let home = Home::new();
    home.write("notes.txt", "confidential");
    let server = llama_server(4096);
    let mut terminal = home.terminal(&["--server", &server.url]);
    let host = server.url.trim_start_matches("http://");
    let prompt = format!("{host} > ");
    let asked = || server.asked().iter().filter(|asked| asked.body.contains("confidential")).count();
    terminal
        .at(&prompt)
        .line("see @notes.txt")
        .at(&format!("Send the files to {host} with your message? [y/N] "));
    terminal.keys(ESC).sees("nothing was sent").at(&format!("{prompt}see @notes.txt")).keys(CTRL_U);
    let question = format!("Attach the output? It goes to {host} with your next message. [y/N] ");
    terminal
        .at(&prompt)
        .line("!cat notes.txt")
        .sees("confidential")
        .at(&question)
        .keys(ESC)
        .sees("not attached");
    assert_eq!(asked(), 0, "not even to count its tokens");
    terminal.at(&prompt).line("!cat notes.txt").at(&question).line("y").sees("attached $ cat notes.txt");
    terminal.at(&prompt).line("see @notes.txt").line("y").sees("Hello there").at(&prompt);
    let question = server.questions().pop().unwrap().body;
    assert_eq!(question.matches("confidential").count(), 2, "{question}");
}
