//! Every chat template of llama.cpp with every conversation of render.py: the same bytes as Python's Jinja2,
//! or a refusal by both.

use std::collections::BTreeMap;
use std::process::Command;

use fireside::chat::Role;
use fireside::engine::prompt::format::{Tags, ThinkingFormat};
use fireside::engine::prompt::template::{Call, Template, Turn};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Row, conclude, reference, work};
use crate::support::repository;

pub(super) const CHECK: &str = "templates";

/// The output of render.py.
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

/// The place where two texts part, with some context.
fn parting(theirs: &str, ours: &str) -> String {
    let same = theirs.chars().zip(ours.chars()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| text.chars().skip(same.saturating_sub(20)).take(60).collect::<String>();
    format!("{:?} became {:?}", around(theirs), around(ours))
}

/// An empty vocabulary.
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
        ThinkingFormat::of(&Template::new(&source, "<s>", "</s>", &[]).unwrap(), &NoTags)
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
        assert_eq!(format(name), Some(ThinkingFormat::tags(open, close)), "{name}");
    }
    assert_eq!(format("openai-gpt-oss-120b"), Some(ThinkingFormat::Harmony));
    for name in [
        "Qwen-Qwen2.5-7B-Instruct",
        "google-gemma-2-2b-it",
        "meta-llama-Llama-3.1-8B-Instruct",
        "LFM2-8B-A1B",
    ] {
        assert_eq!(format(name), None, "{name}");
    }
}

/// Templates of models with image input, without their text for images. SmolVLM's accepts only lists; the
/// others either form.
const WRITTEN_FOR_LISTS: [(&str, &str, &str); 4] = [
    (
        "SmolVLM",
        "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}",
        "<|im_start|>System: Be brief.<end_of_utterance>\nUser: Hi<end_of_utterance>\nAssistant: Yes?<end_of_utterance>\nUser: Go<end_of_utterance>\nAssistant:",
    ),
    (
        "Qwen2-VL",
        "{% set image_count = namespace(value=0) %}{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n<|im_start|>assistant\n",
    ),
    (
        "Gemma 3",
        "{%- if messages[0]['role'] == 'system' -%}{%- if messages[0]['content'] is string -%}{%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}{%- else -%}{%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}{%- endif -%}{%- set loop_messages = messages[1:] -%}{%- else -%}{%- set first_user_prefix = \"\" -%}{%- set loop_messages = messages -%}{%- endif -%}{%- for message in loop_messages -%}{%- if (message['role'] == 'assistant') -%}{%- set role = \"model\" -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}{%- if message['content'] is string -%}{{ message['content'] | trim }}{%- elif message['content'] is iterable -%}{%- for item in message['content'] -%}{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- else -%}{{ raise_exception(\"Invalid content type\") }}{%- endif -%}{{ '<end_of_turn>\n' }}{%- endfor -%}{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}",
        "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n<start_of_turn>user\nGo<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        "Llama 4",
        "{%- if messages[0]['role'] == 'system' %}{%- if messages[0]['content'] is string %}{%- set system_message = messages[0]['content']|trim %}{%- else %}{%- set system_message = messages[0]['content'][0]['text']|trim %}{%- endif %}{%- set messages = messages[1:] %}{{- '<|header_start|>system<|header_end|>\n\n' + system_message + '<|eot|>' }}{%- endif %}{%- for message in messages %}{{- '<|header_start|>' + message['role'] + '<|header_end|>\n\n' }}{%- if message['content'] is string %}{{- message['content'] }}{%- else %}{%- for content in message['content'] %}{%- if content['type'] == 'image' %}{{- '<|image|>' }}{%- elif content['type'] == 'text' %}{{- content['text'] }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|eot|>' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|header_start|>assistant<|header_end|>\n\n' }}{%- endif %}",
        "<|header_start|>system<|header_end|>\n\nBe brief.<|eot|><|header_start|>user<|header_end|>\n\nHi<|eot|><|header_start|>assistant<|header_end|>\n\nYes?<|eot|><|header_start|>user<|header_end|>\n\nGo<|eot|><|header_start|>assistant<|header_end|>\n\n",
    ),
];

#[test]
fn text_goes_in_the_form_that_a_template_for_images_takes() {
    let said =
        [(Role::System, "Be brief."), (Role::User, "Hi"), (Role::Assistant, "Yes?"), (Role::User, "Go")];
    let turns = said.map(|(role, text)| Turn::new(role, text));
    for (name, source, expected) in WRITTEN_FOR_LISTS {
        let template = Template::new(source, "", "", &[]).unwrap();
        assert_eq!(template.render(&turns, true).unwrap().text, expected, "{name}");
    }
}

/// Whether it supports tools or not, no template may lose messages, calls or results.
#[test]
fn no_template_of_the_suite_forgets_a_call_or_its_result() {
    let Some(folder) = reference("llama.cpp/models/templates") else { return };
    let call = |id: &str| Call {
        id: id.into(),
        name: "werkzeugwort".into(),
        arguments: serde_json::json!({ "stadt": "Argumentwort" }),
    };
    let answers = |id: &str| Some((id.to_string(), "werkzeugwort".to_string()));
    let talk = |id: &str| {
        [
            Turn::new(Role::User, "Fragewort"),
            Turn { calls: vec![call(id)], ..Turn::new(Role::Assistant, "") },
            Turn { answers: answers(id), ..Turn::new(Role::Tool, "Ergebniswort") },
            Turn::new(Role::Assistant, "Antwortwort"),
            Turn::new(Role::User, "Weiterwort"),
        ]
    };
    let words = ["Fragewort", "werkzeugwort", "Argumentwort", "Ergebniswort", "Antwortwort", "Weiterwort"];
    let (mut native, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let Ok(template) = Template::new(&source, "<s>", "</s>", &[]) else { continue };
        if template.render(&[Turn::new(Role::User, "Fragewort")], true).is_err() {
            continue; // it needs variables that this test does not have
        }
        for id in ["a1b2c3d4e", "call_0", ""] {
            let rendered = template.render(&talk(id), true);
            let missing =
                |text: &str| words.into_iter().filter(|word| !text.contains(word)).collect::<Vec<_>>();
            match rendered {
                Ok(prompt) if missing(&prompt.text).is_empty() => {
                    native += usize::from(prompt.notes.is_empty())
                }
                Ok(prompt) => wrong.push(format!("{}: {:?}", path.display(), missing(&prompt.text))),
                Err(error) => wrong.push(format!("{}: {error}", path.display())),
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(native > 100, "{native}");
}
