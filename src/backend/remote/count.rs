//! Counts of tokens: by the server where it can (llama-server, vLLM), otherwise estimated; and refusals of
//! prompts that are too long → the numbers in them.

use std::sync::Arc;

use regex_lite::Regex;
use serde_json::{Value, json};

use super::facts::Kind;
use super::fault::Fault;
use super::question::{continues, messages};
use super::{Open, Remote};
use crate::backend::{Error, Inspect, Rendered};
use crate::chat::truncation::estimate;
use crate::chat::{Counts, Message, Request, TokenCount};

/// Most tokens that a template writes around a message, for a bound that is never exceeded.
const TEMPLATE: usize = 64;

/// The tokens of a prompt.
pub(super) struct Counted {
    pub(super) tokens: usize,
    pub(super) estimated: bool,
}

/// The prompt's tokens, if they leave too little of the context. Asks the server only if that is possible.
pub(super) fn too_long(open: &Open, request: &Request, limit: usize) -> Option<Counted> {
    if limit == 0 || at_most(request) + request.reserve <= limit {
        return None;
    }
    let counted = match open.counts().then(|| open.prompt(request)) {
        Some(Ok(tokens)) => Counted { tokens: tokens.len(), estimated: false },
        Some(Err(_)) => return None, // the answer itself will fail, or not
        None => Counted { tokens: estimated(request), estimated: true },
    };
    (counted.tokens + request.reserve > limit).then_some(counted)
}

/// A token has at least one byte.
fn at_most(request: &Request) -> usize {
    let each = |message: &Arc<Message>| TEMPLATE + message.content().len();
    request.visible().iter().map(each).sum::<usize>() + TEMPLATE + prefixes(request)
}

fn prefixes(request: &Request) -> usize {
    request.answer_prefix.len() + request.thinking_prefix.len()
}

fn estimated(request: &Request) -> usize {
    let messages = estimate(&request.visible()).iter().map(|count| count.tokens).sum::<usize>();
    messages + prefixes(request).div_ceil(4)
}

/// A server's refusal of a prompt that is too long → its tokens and the limit; estimates where it does not say.
pub(super) fn overflow(status: u16, body: &str, request: &Request, known: usize) -> Option<(usize, usize)> {
    let json: Value = serde_json::from_str(body).ok()?;
    let error = json.get("error").unwrap_or(&json);
    let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    let said = text("message").to_lowercase();
    let typed = [text("type"), text("code")]
        .iter()
        .any(|kind| ["exceed_context_size_error", "context_length_exceeded"].contains(kind));
    let worded = ["context length", "context window", "context size", "context_length"];
    if !([400, 413, 422, 500].contains(&status) && (typed || worded.iter().any(|words| said.contains(words))))
    {
        return None;
    }
    let field = |name: &str| error.get(name).and_then(Value::as_u64).map(|n| n as usize);
    let limit =
        Regex::new(r"(?:length is|length of|window of|size of|size \()\s*(\d+)").expect("it is valid");
    let limit = limit.captures(&said).and_then(|found| found[1].parse().ok());
    let limit = field("n_ctx").or(limit).or((known > 0).then_some(known));
    let numbers = Regex::new(r"\d+").expect("it is valid");
    let largest = numbers.find_iter(&said).filter_map(|n| n.as_str().parse::<usize>().ok()).max();
    let more = |tokens: &usize| limit.is_none_or(|limit| *tokens > limit);
    let prompt = field("n_prompt_tokens").or(largest).filter(more);
    let prompt = prompt.unwrap_or_else(|| estimated(request).max(limit.map_or(0, |limit| limit + 1)));
    Some((prompt, limit.unwrap_or(prompt.saturating_sub(1))))
}

impl Open {
    /// Whether the server counts tokens.
    pub(super) fn counts(&self) -> bool {
        matches!(self.facts.kind, Kind::Llama | Kind::Vllm)
    }

    /// The prompt of a request as text, where the server shows it.
    fn text(&self, request: &Request) -> Result<String, Error> {
        if request.raw {
            let all: Vec<String> = request.visible().iter().map(|message| message.content()).collect();
            return Ok(all.concat() + &request.answer_prefix);
        }
        if self.facts.kind != Kind::Llama {
            return Ok(String::new());
        }
        let mut question = json!({ "messages": messages(request, self.facts.kind) });
        if continues(request) {
            question["continue_final_message"] = json!(true);
            question["add_generation_prompt"] = json!(false);
        }
        let answer = self.client.ask("apply-template", &question)?;
        Ok(answer.get("prompt").and_then(Value::as_str).unwrap_or_default().to_string())
    }

    /// The tokens of a request's prompt, with the text of each where the server shows it.
    fn prompt(&self, request: &Request) -> Result<Vec<(i32, String)>, Error> {
        match self.facts.kind {
            Kind::Llama => self.tokens(&json!({
                "content": self.text(request)?, "add_special": true, "parse_special": true, "with_pieces": true,
            })),
            _ if request.raw => self.tokens(&json!({
                "model": self.facts.model.id, "prompt": self.text(request)?, "return_token_strs": true,
            })),
            _ => self.tokens(&json!({
                "model": self.facts.model.id, "messages": messages(request, self.facts.kind),
                "add_generation_prompt": !continues(request), "continue_final_message": continues(request),
                "return_token_strs": true,
            })),
        }
    }

    fn tokens(&self, question: &Value) -> Result<Vec<(i32, String)>, Error> {
        let answer = self.client.ask("tokenize", question)?;
        let tokens = answer.get("tokens").and_then(Value::as_array).ok_or_else(|| {
            self.client.fault(Fault::NotTheApi("counts tokens in another way than it says".into()))
        })?;
        let texts = answer.get("token_strs").and_then(Value::as_array);
        let token = |(place, token): (usize, &Value)| {
            let id = token.get("id").unwrap_or(token).as_i64().unwrap_or(-1) as i32;
            let text = token.get("piece").or_else(|| texts?.get(place));
            (id, text.map_or(String::new(), piece))
        };
        Ok(tokens.iter().enumerate().map(token).collect())
    }
}

/// A token's text, or its bytes, if they are no whole characters.
fn piece(piece: &Value) -> String {
    match piece {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| byte.as_u64()?.try_into().ok()).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        _ => String::new(),
    }
}

impl Inspect for Remote {
    fn count(&mut self, request: Request) -> Result<Counts, Error> {
        let limit = self.open.facts.model.context.unwrap_or(0);
        let prompt = self.open.prompt(&request)?.len();
        Ok(Counts { prompt, cached: 0, limit, prefill: None, estimated: false })
    }

    fn token_counts(&mut self, messages: Vec<Arc<Message>>) -> Result<Vec<TokenCount>, Error> {
        let raw = |text: String| match self.open.facts.kind {
            Kind::Llama => json!({ "content": text, "add_special": false }),
            _ => json!({ "model": self.open.facts.model.id, "prompt": text, "add_special_tokens": false }),
        };
        let count = |text: String| -> Result<usize, Error> {
            if text.is_empty() { Ok(0) } else { Ok(self.open.tokens(&raw(text))?.len()) }
        };
        let all = messages.iter().map(|message| {
            let files: Vec<String> = message.files().map(|file| file.content().into_owned()).collect();
            Ok(TokenCount { tokens: count(message.content())?, attached: count(files.concat())? })
        });
        all.collect()
    }

    fn render(&mut self, request: Request) -> Result<Rendered, Error> {
        let tokens = self.open.prompt(&request)?;
        let text = match self.open.facts.kind {
            Kind::Llama => self.open.text(&request)?,
            _ => tokens.iter().map(|(_, text)| text.as_str()).collect(),
        };
        Ok(Rendered { text, tokens, ..Rendered::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Role, Settings};

    #[test]
    fn refusals_of_long_prompts_are_told_from_others() {
        let request = Request::new([Message::new(Role::User, "x".repeat(4000))], &Settings::default());
        let told = |status, body: &str| overflow(status, body, &request, 0);
        let llama = r#"{"error":{"code":400,"message":"request (600 tokens) exceeds the available context size (512 tokens)","type":"exceed_context_size_error","n_prompt_tokens":600,"n_ctx":512}}"#;
        assert_eq!(told(400, llama), Some((600, 512)));
        let vllm = r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, 500 in the completion)."}"#;
        assert_eq!(told(400, vllm), Some((5000, 4096)));
        let python = r#"{"error":{"message":"Requested tokens (600) exceed context window of 512","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
        assert_eq!(told(400, python), Some((600, 512)));
        let silent = r#"{"error":{"code":"context_length_exceeded","message":"too long"}}"#;
        assert_eq!(told(400, silent), Some((1000, 999)));
        assert_eq!(told(400, r#"{"error":{"message":"temperature must be positive"}}"#), None);
        assert_eq!(told(404, llama), None);
    }
}
