//! Every chat template of llama.cpp × every conversation of render.py: the bytes of Python's Jinja2, or refused by both.

use std::collections::BTreeMap;
use std::process::Command;

use fireside::chat::Role;
use fireside::engine::template::{Template, Turn};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Row, conclude, reference, work};
use crate::support::repository;

pub(super) const CHECK: &str = "templates";

/// What render.py writes.
#[derive(Deserialize)]
struct Renders {
    /// Milliseconds since 1970.
    at: i64,
    bos: String,
    eos: String,
    cases: Vec<Case>,
    renders: BTreeMap<String, Vec<Option<String>>>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    variables: Map<String, Value>,
}

#[test]
fn templates_render_as_jinja2_renders_them() {
    let (Some(folder), Some(python)) = (reference("llama.cpp/models/templates"), reference("python")) else {
        return;
    };
    let out = work().join("templates.json");
    let render = Command::new("python3")
        .arg(repository().join("tests/conformance/render.py"))
        .args([&folder, &out])
        .env("PYTHONPATH", python)
        .status();
    assert!(render.unwrap().success(), "render.py failed");
    let theirs: Renders = serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap();
    assert!(theirs.renders.len() >= 70 && theirs.cases.len() >= 200);

    let (mut compared, mut differing) = (0, Vec::new());
    for (name, renders) in &theirs.renders {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let template = Template::new(&source, &theirs.bos, &theirs.eos, &[]);
        for (case, expected) in theirs.cases.iter().zip(renders) {
            compared += 1;
            let ours = match &template {
                Ok(template) => {
                    template.render_as_given(&case.variables, Some(theirs.at)).map_err(|e| e.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            let difference = match (expected, ours) {
                (Some(expected), Ok(ours)) if *expected == ours => continue,
                (None, Err(_)) => continue,
                (Some(expected), Ok(ours)) => parting(expected, &ours),
                (Some(_), Err(error)) => format!("only ours refuses: {error}"),
                (None, Ok(_)) => "only Jinja2 refuses".into(),
            };
            differing.push(format!("{name}; {}: {difference}", case.name));
        }
    }
    conclude(Row { check: CHECK, reference: "Jinja2 3.1.6", compared, differing, near_ties: None });
}

#[test]
fn gpt_oss_sees_again_only_the_thinking_of_an_answer_that_it_goes_on_with() {
    let Some(folder) = reference("llama.cpp/models/templates") else { return };
    let source = std::fs::read_to_string(folder.join("openai-gpt-oss-120b.jinja")).unwrap();
    let template = Template::new(&source, "", "", &[]).unwrap();
    let mut answer = Turn::new(Role::Assistant, "Yes.");
    answer.thinking = Some("Is it?".into());
    let talk = [Turn::new(Role::User, "Is it?"), answer, Turn::new(Role::User, "Sure?")];
    let earlier = template.render(&talk, true).unwrap().text;
    let expected = "<|start|>user<|message|>Is it?<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|end|>\
                    <|start|>user<|message|>Sure?<|end|><|start|>assistant";
    assert!(earlier.ends_with(expected), "{earlier}");
    let last = template.render(&talk[..2], false).unwrap().text;
    let expected = "<|start|>user<|message|>Is it?<|end|><|start|>assistant<|channel|>analysis<|message|>Is it?<|end|>\
                    <|start|>assistant<|channel|>final<|message|>Yes.<|return|>";
    assert!(last.ends_with(expected), "{last}");
}

/// Where two texts part, with a little around it.
fn parting(theirs: &str, ours: &str) -> String {
    let same = theirs.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(20)).take(60).collect::<String>();
    format!("{:?} became {:?}", around(theirs), around(ours))
}
