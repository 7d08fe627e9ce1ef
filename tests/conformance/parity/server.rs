//! The same conversation with a model on this machine, and at a llama-server of another release of llama.cpp:
//! at temperature 0 both answer the same, thinking apart from the answer.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::super::{Row, conclude, reference};
use super::{PROMPTS, TOKENS, models, parting};
use crate::support::engine::{QUANTISED_NOISE, Subject};
use crate::support::parrot::{CHATML, Kind, Parrot};
use crate::support::{Home, default_model};

pub(crate) const CHECK: &str = "llama-server";

/// A llama-server with one model, which ends with the test.
pub(super) struct Server {
    child: Child,
    url: String,
}

impl Server {
    pub(super) fn start(program: &Path, model: &Path, args: &[&str]) -> Server {
        let mut command = Command::new(program);
        command
            .arg("--model")
            .arg(model)
            .args(["--port", "0", "--parallel", "1", "--threads", "1"])
            .args(args);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let url = log.find_map(|line| Some(line.split_once("listening on ")?.1.trim().to_string()));
        let url = url.expect("it listens");
        std::thread::spawn(move || log.for_each(drop)); // so that it never waits for a reader
        Server { child, url }
    }

    /// fireside's object for an answer from there.
    pub(super) fn answers(&self, home: &Home, args: &[&str]) -> Value {
        let args = [&["--server", &self.url, "--temp", "0", "--json"], args].concat();
        serde_json::from_str(&home.run(&args).done().stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn answers_of_a_server_are_those_of_the_same_model_here() {
    let Some(program) = reference("bin/llama-server") else { return };
    if default_model().is_none() {
        return;
    }
    let (mut compared, mut differing, mut near_ties) = (0, Vec::new(), Vec::new());
    let home = Home::new();
    for model in models() {
        let subject = Subject::load(&model, QUANTISED_NOISE);
        let server = Server::start(&program, &model, &["--ctx-size", "4096"]);
        for prompt in PROMPTS {
            compared += 1;
            let theirs = server.answers(&home, &["-n", &TOKENS.to_string(), "-p", prompt]);
            let theirs = theirs["text"].as_str().unwrap_or_default().to_string();
            match parting(&subject, prompt, &theirs, false) {
                Some((how, true)) => near_ties.push(how),
                Some((how, false)) => differing.push(how),
                None => {}
            }
        }
    }
    for pieces in [&["<think>", "Hm, ", "well.", "</think>", "\n\nYes", " and no."][..], &["Just", " so."]] {
        compared += 1;
        let markers = ["<think>", "</think>"];
        let template = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}");
        let parrot = markers
            .iter()
            .fold(Parrot::saying(pieces), |parrot, marker| parrot.marker(marker, Kind::Control))
            .template(&template);
        let model = parrot.write(&home, "parrot");
        let server = Server::start(&program, &model, &["--ctx-size", "512"]);
        let object = |object: Value| [object["thinking"].to_string(), object["text"].to_string()];
        let theirs = object(server.answers(&home, &["-p", "Hi"]));
        let here = home.run(&["--temp", "0", "--json", "-p", "Hi"]).model(&model).done().stdout;
        let ours = object(serde_json::from_str(&here).unwrap());
        if ours != theirs {
            differing.push(format!("{pieces:?}: here {ours:?}, there {theirs:?}"));
        }
    }
    let near_ties = Some(near_ties);
    conclude(Row { check: CHECK, reference: "llama.cpp's llama-server", compared, differing, near_ties });
}
