//! 1 — a request → its exact prompt, as text and token ids: the rendered chat template, guarded and
//! encoded. Next: model.rs.
//!
//! `template.rs` renders, `markers.rs` keeps content from becoming control tokens, `encode.rs` tokenises;
//! `format.rs` detects how a model marks its thinking. Everything written by people enters the template as
//! content: messages, thinking, the beginning of an answer, and the values of template arguments.

mod turns;
pub mod template;
pub mod builtin;
mod jinja;
mod json;
pub mod markers;
pub mod encode;
pub mod format;

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use self::encode::Encoder;
use self::format::{AnswerPrefix, Tags, ThinkingFormat};
use self::markers::{Markers, Texts, Transform, absent};
use self::template::{Template, TemplateError};
use self::turns::texts_of;
use super::error::Error;
use super::model::Model;
use super::token::{Marker, Token, Vocabulary};
use crate::chat::settings::Auto;
use crate::chat::{Message, Request, Role, TokenCount};

/// The exact prompt of a request.
#[derive(Default)]
pub struct Prompt {
    pub text: String,
    pub tokens: Vec<Token>,
    /// The changes that made the template accept the conversation, one line each.
    pub notes: Vec<String>,
    /// How to tell thinking from the answer, if the model thinks; and whether the prompt ends inside the
    /// thinking (`Some(true)`), right after it (`Some(false)`), or shows neither.
    pub(super) thinking: Option<(ThinkingFormat, Option<bool>)>,
    /// Whether thinking is to be expected: not if only the vocabulary has tags for it.
    pub thinks: bool,
}

/// Builds the prompts of one model.
pub struct Prompter {
    /// `None`: a base model, which completes text.
    template: Option<Template>,
    /// The texts that the template may search for in content.
    words: Vec<String>,
    markers: Markers,
    encoder: Encoder,
    /// How the model marks its thinking, if it thinks.
    format: Option<ThinkingFormat>,
    /// Special tokens that the template writes after an answer.
    ends: Vec<Token>,
}

impl Prompter {
    /// `template`: the Jinja source, if the model has one; `args`: additional template variables.
    pub fn new(
        model: &impl Model,
        template: Option<&str>,
        args: &[(String, String)],
    ) -> Result<Prompter, Error> {
        let vocabulary = model.vocabulary();
        let compile = |source| Template::new(source, &vocabulary.bos_text, &vocabulary.eos_text, args);
        let template = template.map(compile).transpose().map_err(template_error)?;
        // Takes some thirty renders, so it is evaluated only for a token whose text is not in the source.
        let sample = LazyCell::new(|| template.as_ref().map(Template::sample).unwrap_or_default());
        let source = template.as_ref().map(Template::source).unwrap_or_default();
        let emitted = |text: &str| source.contains(text) || sample.contains(text);
        let markers = Markers::new(vocabulary, emitted)?;
        let encoder = Encoder::new(vocabulary)?;
        let format =
            template.as_ref().and_then(|template| ThinkingFormat::of(template, &VocabularyTags(model)));
        let ends = template.as_ref().filter(|_| format != Some(ThinkingFormat::Harmony));
        let ends = ends.map(|template| ends_of(template, vocabulary)).unwrap_or_default();
        template.iter().for_each(Template::tried);
        let words = template.as_ref().map(Template::constants).unwrap_or_default();
        Ok(Prompter { template, words, markers, encoder, format, ends })
    }

    /// Whether the model is made for conversations.
    pub fn chats(&self) -> bool {
        self.template.is_some()
    }

    /// Special tokens that end the answer to a request, besides the model's own end tokens.
    pub fn ends(&self, request: &Request) -> Vec<Token> {
        if request.raw { Vec::new() } else { self.ends.clone() }
    }

    /// The exact prompt of a request, as text and token ids.
    pub fn prompt(&self, model: &impl Model, request: &Request) -> Result<Prompt, Error> {
        self.with_messages(model, request, &request.visible())
    }

    /// The prefix of the prompt that does not depend on the question of the last user message: another one about the
    /// same documents starts with it.
    pub fn before_user_text(&self, model: &impl Model, request: &Request) -> Result<Vec<Token>, Error> {
        let mut messages = request.visible();
        let Some(last) = messages.iter().rposition(|message| message.role == Role::User) else {
            return Ok(Vec::new());
        };
        let mut with = |text: &str| {
            let message = Arc::make_mut(&mut messages[last]);
            let said = message.text().into_owned();
            let before = &said[..said.len() - message.question().len()];
            message.set_text(&format!("{before}{text}"));
            self.with_messages(model, request, &messages)
        };
        let (mut one, other) = (with("A")?.tokens, with("9")?.tokens);
        let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        one.truncate(same);
        Ok(one)
    }

    /// About where in a prompt each user message begins, its question begins, and it ends: the number of
    /// tokens before that, ascending, never too many. Undo, edit, other questions and other renders of the
    /// answers part from it there.
    pub fn user_texts(&self, model: &impl Model, request: &Request, prompt: &Prompt) -> Vec<usize> {
        let (mut places, mut at) = (Vec::new(), 0);
        for message in request.visible() {
            let content = message.content();
            let content = content.trim();
            let Some(found) = prompt.text[at..].find(content) else { continue };
            let start = at + found;
            at = start + content.len();
            if message.role == Role::User {
                let question = message.question().trim_end();
                places.extend([start, at - question.len().min(content.len()), at]);
            }
        }
        let Vocabulary { bos, bos_text, .. } = model.vocabulary();
        let added_bos = prompt.tokens.first() == bos.as_ref() && !prompt.text.starts_with(bos_text.as_str());
        let (mut tokens, mut bytes) = (usize::from(added_bos), 0);
        let mut before = |place: usize| {
            while let Some(token) = prompt.tokens.get(tokens) {
                let length = model.piece(*token, true).len();
                if bytes + length > place {
                    break;
                }
                (tokens, bytes) = (tokens + 1, bytes + length);
            }
            tokens.saturating_sub(1) // the last one might be merged with another text
        };
        let mut counts: Vec<usize> = places.into_iter().map(&mut before).collect();
        counts.dedup();
        counts
    }

    /// The approximate number of tokens in each message, with the markup before it: tokens may span message
    /// boundaries.
    pub fn token_counts(&self, model: &impl Model, messages: &[Arc<Message>]) -> Vec<TokenCount> {
        let count = |text: &str| model.tokenize(text, false).len();
        let counts = self.rendered_counts(model, messages);
        let counts = counts.unwrap_or_else(|| messages.iter().map(|m| count(&m.content())).collect());
        let attached = |m: &Message| m.files().map(|file| count(&file.content())).sum();
        let of = |(tokens, m): (usize, &Arc<Message>)| TokenCount { tokens, attached: attached(m) };
        counts.into_iter().zip(messages).map(of).collect()
    }

    /// Marks the end of every message and locates the marks in the render; `None` if that is ambiguous.
    fn rendered_counts(&self, model: &impl Model, messages: &[Arc<Message>]) -> Option<Vec<usize>> {
        let template = self.template.as_ref()?;
        let contents: Vec<String> = messages.iter().map(|message| message.content()).collect();
        let end = absent(contents.iter().map(String::as_str).chain([template.source()])).next()?;
        let marked = messages.iter().zip(contents);
        let marked: Vec<template::Turn> = marked
            .map(|(message, content)| {
                let role = if message.role.answers() { Role::Assistant } else { message.role.clone() };
                template::Turn::new(role, content + &end.to_string())
            })
            .collect();
        let text = template.render(&marked, false).ok()?.text;
        let mut pieces: Vec<&str> = text.split(end).collect();
        pieces.pop();
        let in_order = messages.iter().skip(1).all(|message| message.role != Role::System);
        let counts = || pieces.iter().map(|piece| model.tokenize(piece, true).len()).collect();
        (in_order && pieces.len() == messages.len()).then(counts)
    }

    fn with_messages(
        &self,
        model: &impl Model,
        request: &Request,
        messages: &[Arc<Message>],
    ) -> Result<Prompt, Error> {
        match &self.template {
            Some(template) if !request.raw => self.chat_prompt(model, template, request, messages),
            _ => Ok(self.plain_prompt(model, request, messages)),
        }
    }

    fn chat_prompt(
        &self,
        model: &impl Model,
        template: &Template,
        request: &Request,
        messages: &[Arc<Message>],
    ) -> Result<Prompt, Error> {
        let (turns, left_out) = turns::turns(messages.iter().map(AsRef::as_ref));
        let answer_prefix = [request.thinking_prefix.as_str(), &request.answer_prefix];
        let mut said: Vec<&str> = turns.iter().flat_map(template::Turn::texts).chain(answer_prefix).collect();
        template.args().values().for_each(|value| texts_of(value, &mut said));
        let texts = Texts { contents: said, source: template.source(), words: &self.words };
        let thinking = &request.generation.thinking;
        let think = if thinking.budget == Some(0) { Auto::Off } else { thinking.think };
        let given = thinking.tags.as_ref().map(|[open, close]| ThinkingFormat::tags(open, close));
        let tags_given = given.is_some();
        let format = given.or_else(|| self.format.clone());
        let (variables, todo, note) = format::wish(think, format.as_ref(), template);
        let asked = request.asked.unwrap_or_else(now); // the same for each render
        let (guarded, (notes, opened)) = self.markers.guard(&texts, |transform| {
            let mut all = transformed(template.args(), template.source(), transform);
            all.extend(variables.clone());
            let turns: Vec<template::Turn> = turns.iter().map(|turn| turn.transformed(transform)).collect();
            let rendered = template.render_with(&turns, true, &all, Some(asked)).map_err(template_error)?;
            let [thinking, text] = answer_prefix.map(transform);
            let answer_prefix = AnswerPrefix { thinking: &thinking, text: &text };
            let lead = format
                .as_ref()
                .map_or(text.clone(), |format| format.answer_prefill(&rendered.text, answer_prefix, todo));
            let prompt = rendered.text + &lead;
            let opened = format.as_ref().and_then(|format| format.opened(&prompt));
            Ok::<_, Error>((prompt, (rendered.notes, opened)))
        })?;
        let notes = left_out.into_iter().chain(notes).chain(note.map(String::from)).collect();
        let tokens = self.encoder.encode(model, &guarded);
        let named =
            |format: &ThinkingFormat| format.markers().iter().any(|mark| template.source().contains(mark));
        let expected = format.as_ref().is_some_and(|format| tags_given || named(format));
        let (thinks, thinking) = (opened.unwrap_or(expected), format.map(|format| (format, opened)));
        Ok(Prompt { text: guarded.text, tokens, notes, thinking, thinks })
    }

    /// Plain text: the concatenated messages. Adds nothing but the beginning-of-text token.
    fn plain_prompt(&self, model: &impl Model, request: &Request, messages: &[Arc<Message>]) -> Prompt {
        let contents: Vec<String> = messages.iter().map(|message| message.content()).collect();
        let text = contents.join("\n") + &request.answer_prefix;
        let vocabulary = model.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.bos.filter(|_| vocabulary.add_bos).into_iter().collect();
        tokens.extend(match request.raw && request.special {
            true => model.tokenize(&text, true),
            false => self.encoder.encode_plain(model, &text),
        });
        if tokens.is_empty() {
            tokens.extend(vocabulary.bos); // an empty prompt cannot be evaluated
        }
        Prompt { text, tokens, notes: Vec::new(), thinking: None, thinks: false }
    }
}

fn template_error(error: TemplateError) -> Error {
    match error {
        TemplateError::Interrupted => Error::Interrupted,
        error => Error::Template(error.to_string()),
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// Values given by the user, transformed as content. Field names that the template mentions stay as they are.
fn transformed(fields: &Map<String, Value>, source: &str, transform: Transform) -> Map<String, Value> {
    fn value(of: &Value, source: &str, transform: Transform) -> Value {
        match of {
            Value::String(text) => transform(text).into(),
            Value::Array(items) => items.iter().map(|item| value(item, source, transform)).collect(),
            Value::Object(fields) => {
                let asked_for = |name: &str| {
                    source.contains(name) && name.chars().all(|c| c.is_alphanumeric() || c == '_')
                };
                let name = |name: &String| if asked_for(name) { name.clone() } else { transform(name) };
                let fields = fields.iter().map(|(field, of)| (name(field), value(of, source, transform)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }
    fields.iter().map(|(name, of)| (name.clone(), value(of, source, transform))).collect()
}

/// A model's vocabulary as a source of tags.
struct VocabularyTags<'m, M>(&'m M);

impl<M: Model> Tags for VocabularyTags<'_, M> {
    fn one_token(&self, text: &str) -> bool {
        one_token(self.0, text).is_some()
    }

    fn special(&self) -> impl Iterator<Item = &str> {
        self.0.vocabulary().markers.iter().map(|marker| marker.text.as_str())
    }
}

/// The single token of a text, if there is one.
pub(super) fn one_token(model: &impl Model, text: &str) -> Option<Token> {
    match model.tokenize(text, true)[..] {
        [token] if model.piece(token, true) == text.as_bytes() => Some(token),
        _ => None,
    }
}

/// The tokens that a template writes after an assistant's message, whatever their kind in the vocabulary.
fn ends_of(template: &Template, vocabulary: &Vocabulary) -> Vec<Token> {
    let (turn, word) = (template::Turn::new, "Antwortwort");
    let [asked, answered] = [turn(Role::User, "a"), turn(Role::Assistant, word)];
    let conversations =
        [(vec![asked.clone(), answered.clone()], false), (vec![asked.clone(), answered, asked], true)];
    let end = |(conversation, open): (Vec<template::Turn>, bool)| {
        let text = template.render(&conversation, open).ok()?.text;
        let after = text.split_once(word)?.1.trim_start();
        let visible = |marker: &&Marker| !marker.unknown && !marker.text.trim().is_empty();
        let markers = vocabulary.markers.iter().filter(visible);
        let first =
            markers.filter(|marker| after.starts_with(&marker.text)).max_by_key(|marker| marker.text.len());
        first.map(|marker| marker.token)
    };
    let mut ends: Vec<Token> = conversations.into_iter().filter_map(end).collect();
    ends.dedup();
    ends
}
