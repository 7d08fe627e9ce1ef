//! Every chat template of llama.cpp × every conversation of render.py: the bytes of Python's Jinja2, or refused by both.

use std::collections::BTreeMap;
use std::process::Command;

use fireside::chat::Role;
use fireside::engine::prompt::format::{Format, Tags};
use fireside::engine::prompt::template::{Template, Turn};
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

/// A vocabulary that tells nothing.
struct NoTags;

impl Tags for NoTags {
    fn one_token(&self, _: &str) -> bool {
        false
    }

    fn special(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }
}

#[test]
fn templates_tell_how_their_models_think() {
    let Some(folder) = reference("llama.cpp/models/templates") else { return };
    let format = |name: &str| {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        Format::of(&Template::new(&source, "<s>", "</s>", &[]).unwrap(), &NoTags)
    };
    for (name, open, close) in [
        ("Apertus-8B-Instruct", "<|inner_prefix|>", "<|inner_suffix|>"),
        ("Apriel-1.6-15b-Thinker-fixed", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
        ("ByteDance-Seed-OSS", "<seed:think>", "</seed:think>"),
        ("Cohere2MoE", "<|START_THINKING|>", "<|END_THINKING|>"),
        ("GLM-4.7-Flash", "<think>", "</think>"),
        ("HuggingFaceTB-SmolLM3-3B", "<think>", "</think>"),
        ("Kimi-K3", "<|open|>think<|sep|>", "<|close|>think<|sep|><|open|>response<|sep|>"),
        ("MiniMax-M3", "<mm:think>", "</mm:think>"),
        ("Qwen-Qwen3-0.6B", "<think>", "</think>"),
        ("deepseek-ai-DeepSeek-V3.1", "<think>", "</think>"),
        ("google-gemma-4-31B-it", "<|channel>thought", "<channel|>"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "[THINK]", "[/THINK]"),
        ("muse-glimmer", "to=self<|message|>", "<|eom|><|start|>assistant to=user<|message|>"),
        ("tencent-Hy3", "<think:opensource>", "</think:opensource>"),
        ("unsloth-Apriel-1.5", "<thinking>", "</thinking>"),
        ("upstage-Solar-Open-100B", "<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ] {
        assert_eq!(format(name), Some(Format::tags(open, close)), "{name}");
    }
    assert_eq!(format("openai-gpt-oss-120b"), Some(Format::Harmony));
    for name in [
        "Qwen-Qwen2.5-7B-Instruct",
        "google-gemma-2-2b-it",
        "meta-llama-Llama-3.1-8B-Instruct",
        "LFM2-8B-A1B",
    ] {
        assert_eq!(format(name), None, "{name}");
    }
}
