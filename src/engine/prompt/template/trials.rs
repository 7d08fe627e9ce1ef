//! Trial renders of small conversations → what a template accepts, what it supports, and what it writes by
//! itself.

use serde_json::{Map, Value, json};

use super::super::jinja::moment;
use super::{Arguments, Call, Shape, Template, Turn};
use crate::chat::Role;

/// The features that a template supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supports {
    /// A system message of its own.
    pub system: bool,
    /// Thinking before the answer.
    pub thinking: bool,
    /// A list of tools.
    pub tools: bool,
}

impl Template {
    /// The shape that the template accepts, detected by rendering conversations of one word per message. A
    /// template that shows no content in any shape is left as it is: its own error explains why.
    pub(super) fn probe(&self) -> Shape {
        let (system, user) = ("Systemwort", "Benutzerwort");
        let alone = [Turn::new(Role::User, user)];
        let led = [Turn::new(Role::System, system), Turn::new(Role::User, user)];
        let shows = |turns: &[Turn], shape, word| {
            self.attempt(turns, shape, true).is_ok_and(|text| text.contains(word))
        };
        let better =
            |turns: &[Turn], shape, other, word| !shows(turns, shape, word) && shows(turns, other, word);

        let mut shape = Shape::default();
        if better(&alone, shape, Shape { typed: true, ..shape }, user) {
            shape.typed = true;
        }
        if better(&led, shape, Shape { merged: true, ..shape }, system) {
            shape.merged = true;
        }
        shape
    }

    /// How the template takes a call, detected by rendering one with its result.
    pub(super) fn probe_tools(&self) -> Option<Arguments> {
        let words = ["werkzeugwort", "Argumentwort", "Ergebniswort"];
        let [name, argument, result] = words;
        let arguments = json!({ "a": argument });
        let call = Call { id: "a1b2c3d4e".into(), name: name.into(), arguments };
        let calling = Turn { calls: vec![call], ..Turn::new(Role::Assistant, "") };
        let answers = Some(("a1b2c3d4e".into(), name.into()));
        let turns = [Turn::new(Role::User, "a"), calling, Turn { answers, ..Turn::new(Role::Tool, result) }];
        let shape = *self.shape.get_or_init(|| self.probe());
        [Arguments::Object, Arguments::Text].into_iter().find(|arguments| {
            let messages = turns.iter().map(|turn| self.message(turn, shape, *arguments)).collect();
            let rendered = self.attempt_messages(messages, &turns, true, &Map::new(), &moment(None));
            rendered.is_ok_and(|text| {
                // A template that expects an object would escape arguments given as a string of JSON.
                let escaped = text.contains(&format!("\\\"{argument}"));
                words.iter().all(|word| text.contains(word)) && !escaped
            })
        })
    }

    /// The features of the template, detected by rendering a word in each place.
    pub fn supports(&self) -> Supports {
        let (system, user, tool) = ("Systemwort", "Benutzerwort", "werkzeugwort");
        let alone = [Turn::new(Role::User, user)];
        let led = [Turn::new(Role::System, system), Turn::new(Role::User, user)];
        let shape = Shape { merged: false, ..*self.shape.get_or_init(|| self.probe()) };
        let render = |turns: &[Turn], name: &str, value: Value| {
            let extra = Map::from_iter([(name.into(), value)]);
            self.attempt_with(turns, shape, true, &extra, &moment(None)).unwrap_or_default()
        };
        let function = json!({"type": "function", "function": {
            "name": tool, "description": "", "parameters": {"type": "object", "properties": {}, "required": []}
        }});
        let switches =
            |name: &str, on: Value, off: Value| render(&alone, name, on) != render(&alone, name, off);
        let marks = ["<think>", "reasoning_content", "[THINK]", "<|channel|>", "<seed:think>"];
        Supports {
            system: self.attempt(&led, shape, true).is_ok_and(|text| text.contains(system)),
            thinking: switches("enable_thinking", true.into(), false.into())
                || switches("thinking", true.into(), false.into())
                || marks.iter().any(|mark| self.source.contains(mark)),
            tools: render(&alone, "tools", json!([function])).contains(tool),
        }
    }

    /// The text that it writes around small conversations with every role, thinking and tools: shows which
    /// markers are its own.
    pub fn sample(&self) -> String {
        let call = json!({"id": "a1b2c3d4e", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}});
        let tools = json!([{"type": "function", "function": {"name": "f", "description": "d", "parameters":
            {"type": "object", "properties": {"a": {"type": "string", "description": "d"}}, "required": ["a"]}}}]);
        let user = || json!({"role": "user", "content": "a"});
        let thought = json!({"role": "assistant", "content": "b", "reasoning_content": "c", "thinking": "c", "reasoning": "c"});
        let said =
            |role: &str| json!({"role": role, "content": "b", "name": "f", "tool_call_id": "a1b2c3d4e"});
        let calling = || json!({"role": "assistant", "content": "", "tool_calls": [call]});
        let leading = ["system", "developer"].map(|role| json!([said(role), user()]));
        let answering = ["tool", "function", "ipython", "observation", "environment"]
            .map(|role| json!([user(), calling(), said(role), said("assistant"), user()]));
        let plain =
            ["assistant", "system", "developer", "tool"].map(|role| json!([user(), said(role), user()]));
        let conversations = leading.into_iter().chain(answering).chain(plain);
        let conversations = conversations.chain([json!([user(), thought]), json!([user()])]);
        let render = |messages: &Value, thinking: Option<bool>, tools: Option<&Value>| {
            let open =
                messages.as_array().and_then(|all| all.last()).is_none_or(|last| last["role"] != "assistant");
            let mut variables = Map::from_iter([
                ("messages".into(), messages.clone()),
                ("add_generation_prompt".into(), open.into()),
            ]);
            variables.extend(tools.map(|tools| ("tools".into(), tools.clone())));
            for name in ["enable_thinking", "thinking"] {
                variables.extend(thinking.map(|on| (name.into(), on.into())));
            }
            self.render_as_given(&variables, None).unwrap_or_default()
        };
        let alone = json!([user()]);
        let ways = [Some(true), Some(false)].map(|thinking| render(&alone, thinking, None));
        conversations
            .map(|conversation| {
                render(&conversation, None, None) + &render(&conversation, None, Some(&tools))
            })
            .chain(ways)
            .collect()
    }
}
