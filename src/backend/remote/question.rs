//! A request → the JSON for the server, and the settings that the server lacks.
//!
//! The API is OpenAI's; the extensions are those of llama-server (tools/server/README.md in llama.cpp), and
//! those that vLLM and SGLang share ("extra parameters" in vLLM's docs).

use serde_json::{Map, Value, json};

use super::facts::{Facts, Kind};
use crate::chat::settings::{Auto, Sampling};
use crate::chat::{Generation, Message, Request, Role};
use crate::settings::stage_names;

/// The most of the likeliest tokens that OpenAI's API tells of each.
const MOST_LOGPROBS: usize = 20;

/// A setting of the sampler, and its field in the JSON for each kind of server; empty: there is none.
struct Row {
    setting: &'static str,
    llama: &'static str,
    vllm: &'static str,
    other: &'static str,
    value: fn(&Sampling) -> Value,
}

const fn row(
    setting: &'static str,
    [llama, vllm, other]: [&'static str; 3],
    value: fn(&Sampling) -> Value,
) -> Row {
    Row { setting, llama, vllm, other, value }
}

const ROWS: &[Row] = &[
    row("temp", ["temperature"; 3], |s| number(s.temp)),
    row("top-p", ["top_p"; 3], |s| number(s.top_p)),
    row("presence-penalty", ["presence_penalty"; 3], |s| number(s.presence_penalty)),
    row("frequency-penalty", ["frequency_penalty"; 3], |s| number(s.frequency_penalty)),
    row("top-k", ["top_k", "top_k", ""], |s| json!(s.top_k)),
    row("min-p", ["min_p", "min_p", ""], |s| number(s.min_p)),
    row("repeat-penalty", ["repeat_penalty", "repetition_penalty", ""], |s| number(s.repeat_penalty)),
    row("repeat-last-n", ["repeat_last_n", "", ""], |s| json!(s.repeat_last_n)),
    row("typical-p", ["typical_p", "", ""], |s| number(s.typical_p)),
    row("top-n-sigma", ["top_n_sigma", "", ""], |s| number(s.top_n_sigma)),
    row("xtc-probability", ["xtc_probability", "", ""], |s| number(s.xtc_probability)),
    row("xtc-threshold", ["xtc_threshold", "", ""], |s| number(s.xtc_threshold)),
    row("dry-multiplier", ["dry_multiplier", "", ""], |s| number(s.dry_multiplier)),
    row("dry-base", ["dry_base", "", ""], |s| number(s.dry_base)),
    row("dry-allowed-length", ["dry_allowed_length", "", ""], |s| json!(s.dry_allowed_length)),
    row("dry-penalty-last-n", ["dry_penalty_last_n", "", ""], |s| json!(s.dry_penalty_last_n)),
    row("dry-sequence-breaker", ["dry_sequence_breakers", "", ""], |s| json!(s.dry_sequence_breakers)),
    row("mirostat", ["mirostat", "", ""], |s| json!(s.mirostat)),
    row("mirostat-ent", ["mirostat_tau", "", ""], |s| number(s.mirostat_ent)),
    row("mirostat-lr", ["mirostat_eta", "", ""], |s| number(s.mirostat_lr)),
    row("samplers", ["samplers", "", ""], |s| json!(stage_names(&s.samplers))),
];

impl Row {
    fn field(&self, kind: Kind) -> &'static str {
        match kind {
            Kind::Llama => self.llama,
            Kind::Vllm | Kind::Sglang => self.vllm,
            Kind::Other => self.other,
        }
    }
}

/// As short as it was typed: 0.8, not 0.800000011920929.
fn number(x: f32) -> Value {
    x.to_string().parse::<f64>().map_or(json!(x), |x| json!(x))
}

/// The settings of this request that the server does not know, by name: those that differ from the defaults.
pub(super) fn lacking(generation: &Generation, kind: Kind) -> Vec<&'static str> {
    let defaults = Sampling::default();
    let Generation { sampling, thinking, .. } = generation;
    let changed = |row: &&Row| (row.value)(sampling) != (row.value)(&defaults);
    let mut lacking: Vec<&str> =
        ROWS.iter().filter(|row| row.field(kind).is_empty()).filter(changed).map(|row| row.setting).collect();
    if kind == Kind::Other && thinking.think != Auto::Auto {
        lacking.push("think");
    }
    let none_at_all = |tokens| tokens == 0 && kind != Kind::Other; // the same as no thinking
    if kind != Kind::Llama && thinking.budget.is_some_and(|tokens| !none_at_all(tokens)) {
        lacking.push("think-budget");
    }
    lacking
}

/// The path below the API, and the body.
pub(super) fn question(
    request: &Request,
    facts: &Facts,
    template_args: &[(String, String)],
) -> (&'static str, Value) {
    let mut body = Map::new();
    body.insert("model".into(), json!(facts.model.id));
    body.insert("stream".into(), json!(true));
    body.insert("stream_options".into(), json!({ "include_usage": true }));
    sampling(&request.generation, request.raw, facts.kind, &mut body);
    if facts.kind == Kind::Llama {
        body.insert("cache_prompt".into(), json!(!request.no_cache));
        body.insert("return_progress".into(), json!(true));
    }
    if request.raw {
        let prompt: Vec<String> = request.visible().iter().map(|message| message.content()).collect();
        body.insert("prompt".into(), json!(prompt.concat() + &request.answer_prefix));
        return ("completions", body.into());
    }
    body.insert("messages".into(), messages(request, facts.kind));
    if continues(request) {
        body.insert("continue_final_message".into(), json!(true));
        body.insert("add_generation_prompt".into(), json!(false));
    }
    thinking(request, facts.kind, template_args, &mut body);
    ("chat/completions", body.into())
}

/// Whether an answer is to be continued.
pub(super) fn continues(request: &Request) -> bool {
    let begun = !request.answer_prefix.is_empty() || !request.thinking_prefix.is_empty();
    begun && !request.raw
}

fn sampling(generation: &Generation, raw: bool, kind: Kind, body: &mut Map<String, Value>) {
    let Generation { sampling, seed, max_tokens, stop, logprobs, .. } = generation;
    for row in ROWS.iter().filter(|row| !row.field(kind).is_empty()) {
        let value = (row.value)(sampling);
        // What is off is left out where not every server knows it.
        let off = kind == Kind::Other && row.setting.ends_with("-penalty") && value == json!(0.0);
        if !off {
            body.insert(row.field(kind).into(), value);
        }
    }
    if sampling.top_k == 0 && matches!(kind, Kind::Vllm | Kind::Sglang) {
        body.insert("top_k".into(), json!(-1)); // off
    }
    body.insert("seed".into(), json!(seed));
    if let Some(others) = logprobs {
        // The token itself is often among the likeliest. Without any of them llama-server tells none.
        let most = if kind == Kind::Llama { others + 1 } else { (others + 1).min(MOST_LOGPROBS) };
        if raw {
            body.insert("logprobs".into(), json!(most));
        } else {
            body.insert("logprobs".into(), json!(true));
            body.insert("top_logprobs".into(), json!(most));
        }
    }
    if *max_tokens != u32::MAX {
        body.insert("max_tokens".into(), json!(max_tokens));
    }
    if !stop.is_empty() {
        body.insert("stop".into(), json!(stop));
    }
    if !sampling.logit_bias.is_empty() {
        // JSON has no infinity; the API's least bias is -100, llama-server has `false` for never.
        let bias = |bias: f32| match (bias.is_finite(), kind) {
            (true, _) => number(bias),
            (false, Kind::Llama) => json!(false),
            (false, _) => json!(-100),
        };
        let pairs = sampling.logit_bias.iter().map(|(id, x)| (*id, bias(*x)));
        let biases = match kind {
            Kind::Llama => pairs.map(|(id, bias)| json!([id, bias])).collect(),
            _ => Value::Object(pairs.map(|(id, bias)| (id.to_string(), bias)).collect()),
        };
        body.insert("logit_bias".into(), biases);
    }
}

/// The messages in view, and the beginning of the answer as the last one.
pub(super) fn messages(request: &Request, kind: Kind) -> Value {
    let mut messages: Vec<Value> =
        request.visible().iter().filter_map(|message| of_message(message, kind)).collect();
    if continues(request) {
        let begun = Message {
            thinking: Some(request.thinking_prefix.clone()).filter(|text| !text.is_empty()),
            ..Message::new(Role::Assistant, request.answer_prefix.clone())
        };
        messages.extend(of_message(&begun, kind));
    }
    messages.into()
}

fn of_message(message: &Message, kind: Kind) -> Option<Value> {
    let role = match &message.role {
        Role::Other(_) => return None,
        Role::Tool => Role::User.name().to_string(), // a result without its call, from an imported conversation
        role => role.name().to_string(),
    };
    let mut one = json!({ "role": role, "content": message.content() });
    if let (Some(thinking), true) = (&message.thinking, kind != Kind::Other) {
        one["reasoning_content"] = json!(thinking);
    }
    Some(one)
}

fn thinking(
    request: &Request,
    kind: Kind,
    template_args: &[(String, String)],
    body: &mut Map<String, Value>,
) {
    if kind == Kind::Other {
        return;
    }
    let thinking = &request.generation.thinking;
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let mut args: Map<String, Value> =
        template_args.iter().map(|(name, text)| (name.clone(), value(text))).collect();
    let off = thinking.budget == Some(0);
    match thinking.think {
        Auto::Auto if !off => {}
        think => _ = args.insert("enable_thinking".into(), json!(think == Auto::On && !off)),
    }
    if !args.is_empty() {
        body.insert("chat_template_kwargs".into(), args.into());
    }
    if let (Kind::Llama, Some(tokens)) = (kind, thinking.budget) {
        body.insert("thinking_budget_tokens".into(), json!(tokens));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::remote::facts::Listed;
    use crate::chat::Settings;

    fn facts(kind: Kind) -> Facts {
        Facts {
            kind,
            version: None,
            model: Listed { id: "m".into(), ..Listed::default() },
            template: String::new(),
        }
    }

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.sampling.top_k = 0;
        settings.sampling.mirostat = 2;
        settings.sampling.logit_bias = vec![(7, f32::NEG_INFINITY), (8, 1.5)];
        settings.think = Auto::Off;
        settings
    }

    #[test]
    fn each_kind_of_server_gets_the_fields_that_it_knows() {
        let request = Request::new([Message::new(Role::User, "Hi")], &settings());
        let body = |kind| question(&request, &facts(kind), &[("x".into(), "1".into())]).1;
        let llama = body(Kind::Llama);
        assert_eq!(
            (&llama["temperature"], &llama["top_k"], &llama["mirostat"]),
            (&json!(0.8), &json!(0), &json!(2))
        );
        assert_eq!(llama["logit_bias"], json!([[7, false], [8, 1.5]]));
        assert_eq!(llama["samplers"][0], json!("penalties"));
        assert_eq!(llama["chat_template_kwargs"], json!({ "x": 1, "enable_thinking": false }));
        let vllm = body(Kind::Vllm);
        assert_eq!((&vllm["top_k"], &vllm["repetition_penalty"]), (&json!(-1), &json!(1.0)));
        assert_eq!(vllm["logit_bias"], json!({ "7": -100, "8": 1.5 }));
        let other = body(Kind::Other);
        for field in
            ["top_k", "min_p", "mirostat", "chat_template_kwargs", "presence_penalty", "cache_prompt"]
        {
            assert!(other.get(field).is_none(), "{field}");
        }
        assert_eq!((&other["temperature"], &other["messages"][0]["content"]), (&json!(0.8), &json!("Hi")));
        assert_eq!(lacking(&request.generation, Kind::Llama), [""; 0]);
        assert_eq!(lacking(&request.generation, Kind::Vllm), ["mirostat"]);
        assert_eq!(lacking(&request.generation, Kind::Other), ["top-k", "mirostat", "think"]);
        let brief = Settings { think_budget: Some(0), ..Settings::default() };
        let brief = Request::new([Message::new(Role::User, "Hi")], &brief);
        assert_eq!(lacking(&brief.generation, Kind::Vllm), [""; 0]);
        assert_eq!(lacking(&brief.generation, Kind::Other), ["think-budget"]);
        let args = question(&brief, &facts(Kind::Vllm), &[]).1["chat_template_kwargs"].clone();
        assert_eq!(args, json!({ "enable_thinking": false }));
    }

    #[test]
    fn an_answer_is_continued_after_its_beginning() {
        let request = Request::new([Message::new(Role::User, "Hi")], &Settings::default());
        let request = Request { answer_prefix: "Hel".into(), thinking_prefix: "hm".into(), ..request };
        let body = question(&request, &facts(Kind::Llama), &[]).1;
        let begun = json!({ "role": "assistant", "content": "Hel", "reasoning_content": "hm" });
        assert_eq!((&body["messages"][1], &body["continue_final_message"]), (&begun, &json!(true)));
        let (path, body) = question(&Request { raw: true, ..request }, &facts(Kind::Other), &[]);
        assert_eq!((path, &body["prompt"]), ("completions", &json!("HiHel")));
    }
}
