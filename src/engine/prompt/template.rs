//! Messages → prompt text in which content can be located.
//!
//! A chat template is a small program that comes with the model. It receives turns that suit any template
//! (alternating roles, one system message at the start). Input it does not accept is adapted: a system prompt
//! is merged into the first user message, or content becomes a list of typed parts. The notes report the
//! changes.
//!
//! Locating content: most templates pass content on unchanged apart from trimming, so a caller that puts a
//! noncharacter (U+FDD0 to U+FDEF) or other characters into content finds them at the same place in the
//! prompt; this is how `markers.rs` keeps content from becoming control tokens. Nothing here tokenises, and a
//! BOS that the template writes stays in the text. `template/trials.rs` detects what a template accepts,
//! `jinja.rs` runs the program; `markers.rs` comes next.

mod trials;

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

pub use self::trials::Supports;
use super::jinja::{Jinja, Moment, RenderBounds, constants, moment, written};
pub use super::jinja::{TemplateError, ahead, render_apart, until};
pub use super::turns::{Call, Turn};
use super::turns::{merge_system, repair, said};
use crate::chat::Role;

/// A rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedPrompt {
    pub text: String,
    /// The changes made for the template, one line each. The same at every render of a conversation.
    pub notes: Vec<String>,
}

/// The compiled chat template of a model.
pub struct Template {
    source: String,
    jinja: Jinja,
    variables: Map<String, Value>,
    args: Map<String, Value>,
    shape: OnceLock<Shape>,
    /// How it takes the arguments of calls; `None`: it does not support tools. Detected for the first
    /// conversation with tools.
    arguments: OnceLock<Option<Arguments>>,
}

/// The form in which a template takes the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    Object,
    /// JSON in a string, as in OpenAI's API.
    Text,
}

/// The form in which a template takes messages.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    /// The system prompt is merged into the first user message.
    merged: bool,
    /// Content is `[{"type": "text", "text": …}]` instead of a string.
    typed: bool,
}

impl Template {
    /// `bos` and `eos`: the texts of these tokens, empty if there are none. `args`: template variables, as
    /// JSON or plain text; they override the variables set here (`bos_token`, `eos_token`, `date_string`,
    /// `datetime`). Only `args` can set `enable_thinking`: templates differ in what its absence means.
    pub fn new(
        source: &str,
        bos: &str,
        eos: &str,
        args: &[(String, String)],
    ) -> Result<Template, TemplateError> {
        let mut variables = Map::new();
        variables.insert("bos_token".into(), bos.into());
        variables.insert("eos_token".into(), eos.into());
        let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.into());
        let args: Map<String, Value> = args.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        variables.extend(args.clone());
        Ok(Template {
            source: source.to_owned(),
            jinja: Jinja::new(source)?,
            variables,
            args,
            shape: OnceLock::new(),
            arguments: OnceLock::new(),
        })
    }

    /// The template's source as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Declares the trial renders finished: from now on, renders are for a turn.
    pub fn tried(&self) {
        self.jinja.tried();
    }

    /// The variables given by the user.
    pub fn args(&self) -> &Map<String, Value> {
        &self.args
    }

    /// The template's string constants, which it may search for in content; none is blank.
    pub fn constants(&self) -> Vec<String> {
        constants(&self.source)
    }

    /// Renders the conversation after repairing it (see [`repair`]). `open`: end with the start of an answer.
    pub fn render(&self, turns: &[Turn], open: bool) -> Result<RenderedPrompt, TemplateError> {
        self.render_with(turns, open, &Map::new(), None)
    }

    /// The same with additional variables for this render and a time in milliseconds since 1970.
    pub fn render_with(
        &self,
        turns: &[Turn],
        open: bool,
        extra: &Map<String, Value>,
        at: Option<i64>,
    ) -> Result<RenderedPrompt, TemplateError> {
        if !turns.iter().any(Turn::has_tools) {
            return self.render_repaired(&repair(turns), open, extra, at);
        }
        if self.arguments.get_or_init(|| self.probe_tools()).is_some() {
            match self.render_repaired(&repair(turns), open, extra, at) {
                // Some templates require more of a call than can be known, such as an id of nine letters.
                Err(TemplateError::Raised(_) | TemplateError::Failed { .. }) => {}
                done => return done,
            }
        }
        let mut prompt = self.render_repaired(&repair(&said(turns)), open, extra, at)?;
        prompt
            .notes
            .push("the chat template takes no such tool calls: the model is given them as text".to_owned());
        Ok(prompt)
    }

    fn render_repaired(
        &self,
        turns: &[Turn],
        open: bool,
        extra: &Map<String, Value>,
        at: Option<i64>,
    ) -> Result<RenderedPrompt, TemplateError> {
        let now = moment(at);
        let system = turns.first().filter(|turn| turn.role == Role::System);
        let shape = *self.shape.get_or_init(|| self.probe());
        let (text, merged) = match self.attempt_with(turns, shape, open, extra, &now) {
            Ok(text) => (text, shape.merged),
            // Accepted by the probe, rejected here: some templates take a system message only in some
            // conversations.
            Err(error @ (TemplateError::Raised(_) | TemplateError::Failed { .. }))
                if system.is_some() && !shape.merged =>
            {
                let merged = Shape { merged: true, ..shape };
                (self.attempt_with(turns, merged, open, extra, &now).map_err(|_| error)?, true)
            }
            Err(error) => return Err(error),
        };
        let mut notes = Vec::new();
        if merged && system.is_some_and(|turn| !turn.content.is_empty()) {
            notes.push("the chat template has no system role: merged into the first user message".to_owned());
        }
        Ok(RenderedPrompt { text, notes })
    }

    /// The template's own result for given variables, including `messages`: nothing is repaired, and it fails
    /// where Jinja2 fails.
    pub fn render_as_given(
        &self,
        variables: &Map<String, Value>,
        at: Option<i64>,
    ) -> Result<String, TemplateError> {
        let (now, messages) = (moment(at), variables.get("messages").and_then(Value::as_array));
        let bounds = bounds(messages.map_or(0, Vec::len), json!(variables).to_string().len());
        self.jinja.render_strictly(&self.variables(variables, &now), bounds, &now)
    }

    fn message(&self, turn: &Turn, shape: Shape, arguments: Arguments) -> Value {
        let mut message = match shape.typed {
            true => json!({"role": turn.role.name(), "content": [{"type": "text", "text": turn.content}]}),
            false => json!({"role": turn.role.name(), "content": turn.content}),
        };
        let call = |call: &Call| {
            let arguments = match (arguments, &call.arguments) {
                (Arguments::Text, object @ Value::Object(_)) => object.to_string().into(),
                (_, arguments) => arguments.clone(),
            };
            json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}})
        };
        if !turn.calls.is_empty() {
            message["tool_calls"] = turn.calls.iter().map(call).collect();
        }
        if let Some((id, name)) = &turn.answers {
            message["tool_call_id"] = id.as_str().into();
            message["name"] = name.as_str().into();
        }
        if let Some(thinking) = &turn.thinking {
            message["reasoning_content"] = thinking.as_str().into();
            if self.source.contains("<|channel|>") {
                message["thinking"] = thinking.as_str().into(); // the name in GPT-OSS's template
            } else if !self.source.contains("reasoning_content") {
                message["reasoning"] = thinking.as_str().into(); // the name in Solar's template
            }
        }
        message
    }

    fn attempt(&self, turns: &[Turn], shape: Shape, open: bool) -> Result<String, TemplateError> {
        self.attempt_with(turns, shape, open, &Map::new(), &moment(None))
    }

    fn attempt_with(
        &self,
        turns: &[Turn],
        shape: Shape,
        open: bool,
        extra: &Map<String, Value>,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        let merged = if shape.merged { merge_system(turns) } else { turns.to_vec() };
        let arguments = self.arguments.get().copied().flatten().unwrap_or(Arguments::Object);
        let messages = merged.iter().map(|turn| self.message(turn, shape, arguments)).collect();
        self.attempt_messages(messages, &merged, open, extra, now)
    }

    /// Renders messages made from `turns`.
    fn attempt_messages(
        &self,
        messages: Vec<Value>,
        turns: &[Turn],
        open: bool,
        extra: &Map<String, Value>,
        now: &Moment,
    ) -> Result<String, TemplateError> {
        let mut variables = Map::new();
        variables.insert("messages".into(), messages.into());
        variables.insert("add_generation_prompt".into(), open.into());
        variables.extend(extra.clone());
        let bounds = bounds(turns.len(), turns.iter().map(Turn::bytes).sum());
        self.jinja.render(&self.variables(&variables, now), bounds, now)
    }

    /// All variables of one render: `given` overrides the template's own.
    fn variables(&self, given: &Map<String, Value>, now: &Moment) -> Value {
        let mut variables = self.variables.clone();
        // As in llama.cpp; transformers leaves `date_string` undefined, and some templates then write an old
        // date.
        variables.entry("date_string").or_insert_with(|| written(now, "%d %b %Y").into());
        variables.entry("datetime").or_insert_with(|| written(now, "%b %d %Y").into());
        variables.extend(given.clone());
        variables.into()
    }
}

/// Forty times the consumption of the hungriest of 70 real templates at 100 messages, four times at 1,000:
/// some look at every message for every message. An endless template is stopped within a second.
fn bounds(count: usize, bytes: usize) -> RenderBounds {
    RenderBounds {
        steps: 2_000_000 + (20 * count * count + 4 * bytes) as u64,
        bytes: (1 << 20) + 4096 * count + 8 * bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tokenizer.chat_template` of SmolLM2-135M-Instruct.
    const SMOLLM2: &str = r"{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    /// Rejects a system message and roles that do not alternate, like Gemma and the older Mistral templates.
    const STRICT: &str = r"{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

    const LLAMA3: &str = r#"{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"#;

    /// Ignores system messages, and drops the thinking of earlier answers.
    const DEEPSEEK: &str = r"{{ bos_token }}{%- for message in messages %}{% if message['role'] == 'assistant' and message['content'] is not none %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- elif message['role'] == 'user' %}{{'<｜User｜>' + message['content']}}{%- endif %}{%- endfor %}{% if add_generation_prompt %}{{'<｜Assistant｜><think>\n'}}{% endif %}";

    fn system(content: &str) -> Turn {
        Turn::new(Role::System, content)
    }

    fn user(content: &str) -> Turn {
        Turn::new(Role::User, content)
    }

    fn assistant(content: &str) -> Turn {
        Turn::new(Role::Assistant, content)
    }

    fn template(source: &str) -> Template {
        let args = [("date_string".to_owned(), "26 Jul 2024".to_owned())];
        Template::new(source, "<s>", "</s>", &args).unwrap()
    }

    fn text(source: &str, turns: &[Turn]) -> String {
        let prompt = template(source).render(turns, true).unwrap();
        assert_eq!(prompt.notes, Vec::<String>::new());
        prompt.text
    }

    // The expected texts are those of Python's Jinja2, set up as in transformers.

    #[test]
    fn the_default_system_prompt_stays_unless_one_is_given() {
        assert_eq!(
            text(SMOLLM2, &[user("Hi")]),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            text(SMOLLM2, &[system(""), user("Hi")]),
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
        let turns = [system("Be brief."), user("Hi"), assistant("Yes?"), user("Go")];
        assert_eq!(
            template(SMOLLM2).render(&turns, false).unwrap().text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nYes?<|im_end|>\n<|im_start|>user\nGo<|im_end|>\n"
        );
    }

    #[test]
    fn a_long_template_with_a_date() {
        assert_eq!(
            text(LLAMA3, &[system(" Be brief. "), user("Hi\n")]),
            "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|>\
             <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        let undated =
            Template::new("{{ date_string }}{{ enable_thinking is defined }}", "", "", &[]).unwrap();
        assert_eq!(undated.render(&[], true).unwrap().text, written(&moment(None), "%d %b %Y") + "False");
    }

    #[test]
    fn a_template_that_refuses_gets_a_conversation_it_takes() {
        let turns =
            [system("Be brief."), user("Hi"), assistant("Yes?"), user("One"), assistant(" "), user("Two")];
        let prompt = template(STRICT).render(&turns, true).unwrap();
        assert_eq!(
            prompt.text,
            "<s><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nYes?<end_of_turn>\n\
             <start_of_turn>user\nOne\n\nTwo<end_of_turn>\n<start_of_turn>model\n"
        );
        assert_eq!(
            prompt.notes,
            ["the chat template has no system role: merged into the first user message"]
        );

        let error = template(STRICT).render(&[assistant("Hello"), user("Hi")], true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the chat template raised: Conversation roles must alternate user/assistant/user/assistant/..."
        );
    }

    #[test]
    fn a_forgotten_system_message_is_merged_and_old_thoughts_go() {
        let turns = [user("Hi"), assistant("<think>\nhm\n</think>\n\nHello"), user("Bye")];
        let expected = "<s><｜User｜>Hi<｜Assistant｜>\n\nHello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜><think>\n";
        assert_eq!(text(DEEPSEEK, &turns), expected);
        let prompt = template(DEEPSEEK).render(&[system("sys"), user("Hi")], true).unwrap();
        assert_eq!(prompt.text, "<s><｜User｜>sys\n\nHi<｜Assistant｜><think>\n");
        assert_eq!(prompt.notes.len(), 1);
    }

    #[test]
    fn content_becomes_typed_parts_where_the_template_reads_parts() {
        let parts = "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}";
        assert_eq!(text(parts, &[system("S"), user("Hi")]), "[system]S[user]Hi");
        let either = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}?{% endif %}{% endfor %}";
        assert_eq!(text(either, &[user("Hi")]), "Hi");
    }

    fn with_tools() -> [Turn; 4] {
        let call = Call { id: "c1".into(), name: "sum".into(), arguments: json!({"a": 2}) };
        let calling = Turn { calls: vec![call], ..assistant("Well.") };
        let result = Turn { answers: Some(("c1".into(), "sum".into())), ..Turn::new(Role::Tool, "4") };
        [user("2+2?"), calling, result, assistant("Four.")]
    }

    #[test]
    fn tools_go_to_a_template_that_knows_them_in_the_form_that_it_wants() {
        let object = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls %}\
            <{{ c.function.name }} {{ c.function.arguments | tojson }}>{% endfor %}{% endfor %}";
        let expected = r#"[user]2+2?[assistant]Well.<sum {"a": 2}>[tool]4[assistant]Four."#;
        assert_eq!(text(object, &with_tools()), expected);
        let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls %}\
            {{ '<' + c.function.name + ' ' + c.function.arguments + '>' }}{% endfor %}{% endfor %}";
        let expected = r#"[user]2+2?[assistant]Well.<sum {"a":2}>[tool]4[assistant]Four."#;
        assert_eq!(text(plain, &with_tools()), expected);
    }

    #[test]
    fn a_template_without_tools_is_given_them_as_text_of_the_answer() {
        for source in [STRICT, DEEPSEEK] {
            let prompt = template(source).render(&with_tools(), true).unwrap();
            let answer = "Well.\n\n```sum\n{\"a\":2}\n```\n\n```sum\n4\n```\n\nFour.";
            assert!(prompt.text.contains(answer), "{}", prompt.text);
            assert_eq!(
                prompt.notes,
                ["the chat template takes no such tool calls: the model is given them as text"]
            );
        }
    }

    #[test]
    fn a_mark_in_content_passes_unchanged() {
        let marked = "<\u{fdd0}|im_end|>";
        for source in [SMOLLM2, STRICT, LLAMA3, DEEPSEEK, "{{ messages|tojson(ensure_ascii=true) }}"] {
            assert!(text(source, &[user(marked)]).contains(marked), "{source}");
        }
    }

    #[test]
    fn arguments_are_json_or_text() {
        let args = [("enable_thinking", "false"), ("effort", "high"), ("bos_token", "\"B\"")];
        let args = args.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let source = "{{ bos_token }} {{ eos_token }} {{ not enable_thinking }} {{ effort }}";
        let prompt =
            Template::new(source, "<s>", "</s>", &args).unwrap().render(&[user("Hi")], true).unwrap();
        assert_eq!(prompt.text, "B </s> True high");
    }

    #[test]
    fn a_template_without_end_stops_soon() {
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let started = std::time::Instant::now();
        let error = template(endless).render(&[system("S"), user("Hi")], true).unwrap_err();
        assert!(
            error.to_string().starts_with("the chat template does not end (stopped after 20000"),
            "{error}"
        );
        assert!(started.elapsed().as_secs() < 10);
    }

    #[test]
    fn what_a_template_supports_is_found_by_trying() {
        let supports = |source| {
            let Supports { system, thinking, tools } = template(source).supports();
            (system, thinking, tools)
        };
        let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
        assert_eq!(supports(plain), (true, false, false));
        let refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}";
        assert_eq!(supports(refusing), (false, false, false));
        let hybrid = "{% for t in tools %}{{ t.function.name }}{% endfor %}{{ messages[-1].content }}\
            {% if enable_thinking is false %}<no_thoughts>{% endif %}";
        assert_eq!(supports(hybrid), (false, true, true));
    }
}
