//! Other uses of the hub than `pull`: `-m` with a model that is not on this machine, `show` of a remote file,
//! `rm` of a downloaded one.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::support::hub::{Content, FakeHub, Served};
use crate::support::pty::*;
use crate::support::{Home, Run, tiny};

/// A hub with a tiny model under the names of two sizes.
fn hub() -> FakeHub {
    let served = |name: &str, padding: usize| {
        let mut bytes = std::fs::read(tiny("llama-bpe")).unwrap();
        bytes.resize(bytes.len() + padding, 0);
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Served {
            name: name.into(),
            sha256,
            size: bytes.len() as u64,
            content: Content::Bytes(Arc::new(bytes)),
        }
    };
    FakeHub::new(vec![served("Tiny-Q4_K_M.gguf", 3 << 20), served("Tiny-Q8_0.gguf", 64)])
}

fn run(hub: &FakeHub, home: &Home, args: &[&str]) -> Run {
    home.run(args).env("HF_ENDPOINT", &hub.endpoint)
}

fn terminal(hub: &FakeHub, home: &Home, args: &[&str]) -> Terminal {
    let setup = Setup { environment: vec![("HF_ENDPOINT", hub.endpoint.clone())], ..Setup::default() };
    home.terminal_as(&setup, args)
}

const ASK: [&str; 6] = ["-p", "Hi", "-n", "3", "--temp", "0"];

#[test]
fn a_model_that_is_not_here_is_fetched_once_the_user_agrees() {
    let (hub, home) = (hub(), Home::new());
    let args = [&ASK[..], &["-m", "hf:some/repo:Q8_0"]].concat();
    let mut no = terminal(&hub, &home, &args);
    no.sees("hf:some/repo:Q8_0 is not on this machine. Look for it on the network? [y/N]")
        .line("n")
        .sees("is not on this machine");
    assert_eq!(no.ends(), 1);
    drop(no);
    assert!(hub.requests().is_empty(), "nothing is asked of the network before the user agrees");
    let mut yes = terminal(&hub, &home, &args);
    yes.sees("Look for it on the network? [y/N]")
        .line("y")
        .sees("Fetch Tiny-Q8_0.gguf (282 KiB; ")
        .line("y")
        .sees("fetching Tiny-Q8_0.gguf from some/repo")
        .sees("fetched ");
    assert_eq!(yes.ends(), 0);
    drop(yes);
    // The model is here now: no question, no network.
    let sent = hub.sent();
    run(&hub, &home, &args).env("FIRESIDE_OFFLINE", "1").done().code(0);
    assert_eq!(hub.sent(), sent);
    for name in ["hf:some/repo", "Tiny-Q8_0", "tiny"] {
        run(&hub, &home, &[&ASK[..], &["-m", name]].concat()).done().code(0);
    }
}

#[test]
fn a_model_of_the_catalogue_is_offered_with_its_size_and_licence() {
    let (hub, home) = (hub(), Home::new());
    let mut terminal = terminal(&hub, &home, &["-m", "llama-3.2-3b"]);
    terminal
        .sees("llama-3.2-3b is not on this machine")
        .sees_wrapped("1.9 GiB from bartowski/Llama-3.2-3B-Instruct-GGUF");
    terminal.sees("Llama 3.2 Community License").keys(CTRL_C);
    assert_eq!(terminal.ends(), 130);
    assert!(hub.requests().is_empty());
}

#[test]
fn without_a_terminal_nobody_is_asked_and_nothing_fetched() {
    let (hub, home) = (hub(), Home::new());
    for name in ["hf:some/repo", "llama-3.2-3b", "https://example.com/x.gguf"] {
        let done = run(&hub, &home, &[&ASK[..], &["-m", name]].concat()).done();
        done.failed(1, &format!("the model '{name}' is not on this machine"))
            .hint(&format!("fireside pull {name}"));
    }
    let chat = format!("/model {}\n", "hf:some/repo");
    let done = run(&hub, &home, &["--repl-stdin"]).model(&tiny("llama-bpe")).stdin(chat).done();
    done.code(0).says("'hf:some/repo' is not on this machine").says("fireside pull hf:some/repo");
    assert!(hub.requests().is_empty());
}

#[test]
fn show_reads_no_more_of_a_remote_file_than_its_header() {
    let (hub, home) = (hub(), Home::new());
    let card = run(&hub, &home, &["show", "hf:some/repo"]).done().code(0).stdout;
    assert!(card.contains("architecture      llama\n") && card.contains("hf:some/repo"), "{card}");
    let whole = (3 << 20) + 280_000;
    assert!(hub.sent() < whole / 2, "{} bytes were sent", hub.sent());
    let object =
        run(&hub, &home, &["show", "hf:some/repo:Q8_0", "--json", "--tensors"]).done().code(0).json();
    assert_eq!(object["architecture"], "llama");
    assert!(object["tensors"].as_array().unwrap().len() > 10);
    assert!(!home.path(".cache/huggingface").exists(), "nothing is kept");
    run(&hub, &home, &["show", "hf:some/repo", "--offline"]).done().failed(1, "offline");
}

#[test]
fn what_was_fetched_is_removed_when_asked_once() {
    let (hub, home) = (hub(), Home::new());
    let done = run(&hub, &home, &["pull", "hf:some/repo"]).done().code(0);
    let file = PathBuf::from(done.stdout.trim());
    assert!(file.exists());
    let listed = home.run(&["list"]).done().code(0).stdout;
    assert!(listed.contains("Tiny-Q4_K_M") && listed.contains("Hugging Face cache"), "{listed}");
    home.run(&["rm", "tiny"]).done().failed(2, "rm asks for confirmation").hint("--yes");
    home.run(&["rm", "tiny", "--yes"]).done().code(0).stdout("removed Tiny-Q4_K_M, freed 3 MiB\n");
    assert!(!home.path(".cache/huggingface/hub/models--some--repo").exists());
}

#[test]
fn pull_without_a_name_lists_the_catalogue() {
    let home = Home::new();
    let table = home.run(&["pull"]).done().code(0).stderr("").stdout;
    assert!(table.starts_with("NAME ") && table.contains("\ngpt-oss-20b "), "{table}");
    let object = home.run(&["pull", "--json"]).done().code(0).json();
    assert!(object["models"].as_array().unwrap().iter().any(|model| model["name"] == "falcon3-10b"));
}

#[test]
fn a_page_in_the_place_of_a_model_is_none_and_does_not_stay() {
    let page = b"<!DOCTYPE html><html>please log in</html>".to_vec();
    let sha256 = Sha256::digest(&page).iter().map(|byte| format!("{byte:02x}")).collect();
    let size = page.len() as u64;
    let served =
        Served { name: "Page-Q8_0.gguf".into(), sha256, size, content: Content::Bytes(Arc::new(page)) };
    let (hub, home) = (FakeHub::new(vec![served]), Home::new());
    for what in [hub.plain("Page-Q8_0.gguf"), "hf:some/repo".into()] {
        run(&hub, &home, &["pull", &what]).done().failed(1, "is not a model").says("a web page");
    }
    assert!(!home.path(".local/share/fireside/models/Page-Q8_0.gguf").exists());
    home.run(&["list", "--all"]).done().code(0).stdout("");
}
