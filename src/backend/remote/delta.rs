//! The chunks of a streamed answer → text, thinking, and statistics.
//!
//! Fields: OpenAI's `choices` and `usage`; `reasoning_content` (DeepSeek, llama-server, SGLang) or `reasoning`
//! (vLLM, Ollama) for thinking; llama-server's `timings` and `prompt_progress`. Thinking without a field of its
//! own stands between tags in the text.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::words;
use super::logprobs;
use crate::chat::{DraftCounts, Event, Request, Stats, StopReason};
use crate::engine::prompt::format::{AnswerPrefix, ThinkingFormat};
use crate::engine::stream::reasoning::{Reasoning, ReplyDelta};

/// The tags of most models that think.
const TAGS: [&str; 2] = ["<think>", "</think>"];

/// An answer as it arrives.
pub(super) struct Answer {
    asked: Instant,
    /// When its first and its last text came.
    text_came: Option<(Instant, Instant)>,
    reasoning: Reasoning,
    /// The server marks thinking itself, so tags in the text are text.
    marked: bool,
    /// Pieces of thinking: about as many as tokens.
    thoughts: usize,
    /// White space after the marked thinking so far: part of it if more follows.
    space: String,
    /// Whether any answer has come.
    answered: bool,
    finish: Option<String>,
    most: usize,
    prompt: Option<usize>,
    cached: Option<usize>,
    generated: Option<usize>,
    thinking: Option<usize>,
    drafts: Option<DraftCounts>,
    prefill: Option<Duration>,
    generation: Option<Duration>,
    limit: usize,
    seed: u32,
    /// How many of the likeliest other tokens to tell; `None`: no probabilities.
    logprobs: Option<usize>,
    /// Text came without its probabilities.
    untold: bool,
}

impl Answer {
    /// `limit`: tokens of context; 0: unknown.
    pub(super) fn to(request: &Request, limit: usize) -> Answer {
        let generation = &request.generation;
        let [open, close] = generation.thinking.tags.clone().unwrap_or(TAGS.map(String::from));
        let prefix = AnswerPrefix { thinking: &request.thinking_prefix, text: &request.answer_prefix };
        Answer {
            asked: Instant::now(),
            text_came: None,
            reasoning: Reasoning::after(&ThinkingFormat::tags(&open, &close), None, prefix),
            marked: request.raw,
            thoughts: 0,
            space: String::new(),
            answered: false,
            finish: None,
            most: generation.max_tokens as usize,
            prompt: None,
            cached: None,
            generated: None,
            thinking: None,
            drafts: None,
            prefill: None,
            generation: None,
            limit,
            seed: generation.seed,
            logprobs: generation.logprobs,
            untold: false,
        }
    }

    /// Takes a chunk, or a whole answer, and shows what is in it. An error is the server's own, in its words.
    pub(super) fn take(&mut self, chunk: &Value, show: &mut dyn FnMut(Event)) -> Result<(), String> {
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(words(&chunk.to_string()).unwrap_or_else(|| error.to_string()));
        }
        self.measure(chunk);
        if let Some(progress) = chunk.get("prompt_progress") {
            let number = |name: &str| progress.get(name).and_then(Value::as_u64).unwrap_or(0) as usize;
            let (total, done, cached) = (number("total"), number("processed"), number("cache"));
            show(Event::Prefill { done: done.saturating_sub(cached), total: total.saturating_sub(cached) });
        }
        let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
        let delta = choice.get("delta").or_else(|| choice.get("message"));
        let text = |name: &str| delta.and_then(|delta| delta.get(name)?.as_str()).unwrap_or_default();
        let thinking = [text("reasoning_content"), text("reasoning")].into_iter().find(|t| !t.is_empty());
        let answer = choice.get("text").and_then(Value::as_str).unwrap_or_else(|| text("content"));
        if let Some(others) = self.logprobs {
            let told = logprobs::tokens(choice, others).unwrap_or_default();
            self.untold |= told.is_empty() && !(answer.is_empty() && thinking.is_none());
            told.into_iter().for_each(|token| show(Event::Token(Box::new(token))));
            if self.untold {
                return Ok(()); // what comes without them is refused
            }
        }
        if let Some(thinking) = thinking {
            self.marked = true;
            let whole = std::mem::take(&mut self.space) + thinking;
            let whole = if self.thoughts == 0 { whole.trim_start() } else { &whole };
            let (thinking, space) = whole.split_at(whole.trim_end().len());
            self.space = space.into();
            self.show(ReplyDelta { thinking: thinking.into(), answer: String::new() }, show);
        }
        if !answer.is_empty() {
            let delta = match self.marked {
                // Between thinking and answer white space is neither, as in the local engine.
                true if self.thoughts > 0 && !self.answered => {
                    ReplyDelta { thinking: String::new(), answer: answer.trim_start().into() }
                }
                true => ReplyDelta { thinking: String::new(), answer: answer.into() },
                false => self.reasoning.push(answer),
            };
            self.show(delta, show);
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.finish = Some(reason.into());
        }
        Ok(())
    }

    fn show(&mut self, delta: ReplyDelta, show: &mut dyn FnMut(Event)) {
        let now = Instant::now();
        self.text_came = Some((self.text_came.map_or(now, |(first, _)| first), now));
        let ReplyDelta { thinking: text, answer } = delta;
        if !text.is_empty() {
            self.thoughts += 1;
            show(Event::Thinking { text, tokens: self.thoughts });
        }
        if !answer.is_empty() {
            self.answered = true;
            show(Event::Text(answer));
        }
    }

    fn measure(&mut self, chunk: &Value) {
        let number = |place: &str| chunk.pointer(place).and_then(Value::as_u64).map(|n| n as usize);
        let time = |place: &str| {
            let milliseconds = chunk.pointer(place).and_then(Value::as_f64)?;
            Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
        };
        let fill = |known: &mut Option<usize>, place: &str| *known = number(place).or(*known);
        fill(&mut self.prompt, "/usage/prompt_tokens");
        fill(&mut self.generated, "/usage/completion_tokens");
        fill(&mut self.cached, "/usage/prompt_tokens_details/cached_tokens");
        fill(&mut self.thinking, "/usage/completion_tokens_details/reasoning_tokens");
        if chunk.get("timings").is_none() {
            return;
        }
        fill(&mut self.cached, "/timings/cache_n");
        self.prefill = time("/timings/prompt_ms").or(self.prefill);
        self.generation = time("/timings/predicted_ms").or(self.generation);
        let drafts = number("/timings/draft_n").zip(number("/timings/draft_n_accepted"));
        let drafts = drafts.map(|(drafted, accepted)| DraftCounts { drafted, accepted });
        self.drafts = Some(drafts.unwrap_or_default());
    }

    /// Whether the server has ended the answer.
    pub(super) fn is_finished(&self) -> bool {
        self.finish.is_some()
    }

    /// Whether probabilities were asked for, and text came without them.
    pub(super) fn lacks_probabilities(&self) -> bool {
        self.untold
    }

    /// Whether any text has come.
    pub(super) fn has_begun(&self) -> bool {
        self.text_came.is_some()
    }

    /// The end: shows text that was held back. `stop`: why, if it is not the server that ended the answer.
    pub(super) fn end(mut self, stop: Option<StopReason>, show: &mut dyn FnMut(Event)) -> Stats {
        if !self.marked {
            let rest = self.reasoning.clone().finish();
            if !(rest.thinking.is_empty() && rest.answer.is_empty()) {
                self.show(rest, show);
            }
        }
        let used = self.prompt.unwrap_or(0) + self.generated.unwrap_or(0);
        let stop = stop.unwrap_or_else(|| match self.finish.as_deref() {
            // The server's own limit, or the context.
            Some("length") if self.generated.is_some_and(|tokens| tokens >= self.most) => StopReason::Length,
            Some("length") if self.limit > 0 && used >= self.limit => StopReason::Context,
            Some("length") => StopReason::Length,
            _ => StopReason::End,
        });
        let now = Instant::now();
        let (first, last) = self.text_came.unwrap_or((now, now));
        Stats {
            prompt_tokens: self.prompt,
            cached_tokens: self.cached,
            generated_tokens: self.generated,
            thinking_tokens: self.thinking.unwrap_or(self.thoughts),
            drafts: self.drafts,
            prompt: first - self.asked,
            prefill: self.prefill.unwrap_or_default(),
            generation: self.generation.unwrap_or(last - first),
            context_used: used,
            context_limit: self.limit,
            ..Stats::unknown(stop, self.seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::{Message, Role, Settings};

    fn told(chunks: &[Value]) -> (String, String, Stats) {
        let request = Request::new([Message::new(Role::User, "Hi")], &Settings::default());
        let mut answer = Answer::to(&request, 4096);
        let (mut thinking, mut text) = (String::new(), String::new());
        let mut show = |event| match event {
            Event::Thinking { text, .. } => thinking += &text,
            Event::Text(piece) => text += &piece,
            _ => {}
        };
        chunks.iter().for_each(|chunk| answer.take(chunk, &mut show).unwrap());
        let stats = answer.end(None, &mut show);
        (thinking, text, stats)
    }

    fn delta(field: &str, text: &str) -> Value {
        json!({ "choices": [{ "delta": { field: text } }] })
    }

    #[test]
    fn thinking_comes_in_fields_or_between_tags() {
        for field in ["reasoning_content", "reasoning"] {
            let chunks = [
                (field, "\nhm"),
                (field, " \n"),
                (field, "so\n"),
                ("content", "\n"),
                ("content", "\nYes <think>\n"),
            ];
            let (thinking, text, _) = told(&chunks.map(|(field, text)| delta(field, text)));
            assert_eq!((thinking.as_str(), text.as_str()), ("hm \nso", "Yes <think>\n"));
        }
        let (thinking, text, _) =
            told(&["<th", "ink>hm</thi", "nk>\n\nYes"].map(|text| delta("content", text)));
        assert_eq!((thinking.as_str(), text.as_str()), ("hm", "Yes"));
        assert_eq!(told(&[json!({ "choices": [{ "text": "raw" }] })]).1, "raw");
        assert_eq!(told(&[json!({ "choices": [{ "message": { "content": "whole" } }] })]).1, "whole");
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let stats = told(&[delta("content", "a")]).2;
        assert_eq!((stats.prompt_tokens, stats.generated_tokens, stats.drafts), (None, None, None));
        assert_eq!((stats.stop, stats.prompt_speed()), (StopReason::End, None));
        let last = json!({
            "choices": [{ "delta": {}, "finish_reason": "length" }],
            "usage": { "prompt_tokens": 5, "completion_tokens": 4091, "prompt_tokens_details": { "cached_tokens": 3 } },
            "timings": { "cache_n": 3, "prompt_ms": 20.0, "predicted_ms": 1000.0 },
        });
        let stats = told(&[last]).2;
        assert_eq!((stats.prompt_tokens, stats.cached_tokens), (Some(5), Some(3)));
        assert_eq!((stats.stop, stats.generation_speed()), (StopReason::Context, Some(4091.0)));
        assert_eq!(stats.prompt_speed(), Some(100.0));
    }

    #[test]
    fn an_error_inside_the_stream_is_told_in_the_servers_words() {
        let request = Request::new([Message::new(Role::User, "Hi")], &Settings::default());
        let told =
            Answer::to(&request, 0).take(&json!({ "error": { "message": "out of memory" } }), &mut |_| {});
        assert_eq!(told, Err("out of memory".into()));
    }
}
