//! A turn → its exact prompt, text and ids: a render of the template (1) through llama.cpp's vocabulary (2), guarded, encoded (3).
//!
//! What everybody wrote goes into the template as content: messages, thoughts, the beginning of an answer, and the values of
//! `--template-arg`. Also here: what a template and a vocabulary tell of how answers are told apart and how they end.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::generate::Thoughts;
use super::guard::{Dress, Texts};
use super::model::Model;
use super::reasoning::{self, AnswerPrefix, Format, Reasoning};
use super::template::{self, Template};
use super::token::{Marker, Token, Vocabulary};
use super::{Engine, template_failure};
use crate::chat::settings::Auto;
use crate::chat::{Request, Role};
use crate::error::Failure;

/// The exact prompt of a turn.
pub struct Prompt {
    pub text: String,
    pub tokens: Vec<Token>,
    /// What had to be changed to make the template take the conversation, a line each.
    pub notes: Vec<String>,
    /// How thinking is told from the answer, where the model thinks.
    pub(super) reasoning: Option<Reasoning>,
}

impl<M: Model> Engine<M> {
    /// The exact prompt of a turn: text and ids.
    pub fn prompt(&self, request: &Request) -> Result<Prompt, Failure> {
        match &self.template {
            Some(template) if !request.raw => self.chat_prompt(template, request),
            _ => Ok(self.plain_prompt(request)),
        }
    }

    fn chat_prompt(&self, template: &Template, request: &Request) -> Result<Prompt, Failure> {
        let messages = request.visible();
        let contents: Vec<String> = messages.iter().map(|message| message.content()).collect();
        let answer_prefix = [request.thinking_prefix.as_str(), &request.answer_prefix];
        let mut said: Vec<&str> = contents.iter().map(String::as_str).chain(answer_prefix).collect();
        said.extend(messages.iter().filter_map(|message| message.thinking.as_deref()));
        template.args().values().for_each(|value| texts_of(value, &mut said));
        let texts = Texts { contents: said, source: template.source(), words: &self.words };
        let think = if request.generation.thinking.budget == Some(0) {
            Auto::Off
        } else {
            request.generation.thinking.think
        };
        let format = self.format(request);
        let (variables, todo, note) = reasoning::wish(think, format.as_ref(), template);
        let asked = request.asked.unwrap_or_else(now); // the same for each render
        let (guarded, (notes, reasoning)) = self.markers.guard(&texts, |dress| {
            let turns = messages.iter().zip(&contents).map(|(message, content)| template::Turn {
                role: message.role,
                content: dress(content),
                thinking: message.thinking.as_deref().map(dress),
            });
            let mut all = dressed(template.args(), template.source(), dress);
            all.extend(variables.clone());
            let turns: Vec<template::Turn> = turns.collect();
            let rendered = template.render_with(&turns, true, &all, Some(asked)).map_err(template_failure)?;
            let [thinking, text] = answer_prefix.map(dress);
            let answer_prefix = AnswerPrefix { thinking: &thinking, text: &text };
            let lead = format
                .as_ref()
                .map_or(text.clone(), |format| format.answer_prefill(&rendered.text, answer_prefix, todo));
            let prompt = rendered.text + &lead;
            let reasoning = format.as_ref().map(|format| Reasoning::after(format, &prompt, answer_prefix));
            Ok::<_, Failure>((prompt, (rendered.notes, reasoning)))
        })?;
        let notes = notes.into_iter().chain(note.map(String::from)).collect();
        let tokens = self.encoder.encode(&self.model, &guarded);
        Ok(Prompt { text: guarded.text, tokens, notes, reasoning })
    }

    /// Plain text: what was said, one after the other. Nothing is added but the beginning-of-text token.
    fn plain_prompt(&self, request: &Request) -> Prompt {
        let contents: Vec<String> = request.visible().iter().map(|message| message.content()).collect();
        let text = contents.join("\n") + &request.answer_prefix;
        let vocabulary = self.model.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.bos.filter(|_| vocabulary.add_bos).into_iter().collect();
        tokens.extend(match request.raw && request.special {
            true => self.model.tokenize(&text, true),
            false => self.encoder.encode_plain(&self.model, &text),
        });
        if tokens.is_empty() {
            tokens.extend(vocabulary.bos); // nothing at all cannot be evaluated
        }
        Prompt { text, tokens, notes: Vec::new(), reasoning: None }
    }

    /// How the model says that it thinks: as the user has it, else as was found.
    fn format(&self, request: &Request) -> Option<Format> {
        let given = request.generation.thinking.tags.as_ref();
        given.map(|[open, close]| Format::tags(open, close)).or_else(|| self.format.clone())
    }

    pub(super) fn thoughts(&self, reasoning: &Reasoning, request: &Request) -> Thoughts {
        let (texts, closing) =
            (reasoning.format().markers(), || self.model.tokenize(&reasoning.closing(), true));
        let whole = texts.iter().filter_map(|text| Some((one_token(&self.model, text)?, text.to_string())));
        let mut tags: Vec<(Token, String)> = whole.collect();
        let one_token = tags.iter().map(|(_, text)| text.clone()).collect();
        let special = self.model.vocabulary().markers.iter().filter(|marker| !marker.text.trim().is_empty());
        let parts = special.filter(|marker| texts.iter().any(|text| text.contains(&marker.text)));
        tags.extend(parts.map(|marker| (marker.token, marker.text.clone())));
        Thoughts {
            reasoning: reasoning.clone().with_tokens(one_token),
            tags,
            budget: request.generation.thinking.budget.map(|most| (most, closing())),
        }
    }
}

/// Milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

/// The texts in a value.
fn texts_of<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts_of(item, texts)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            texts.push(name);
            texts_of(field, texts);
        }),
        _ => {}
    }
}

/// Values given by the user, as content. The names of fields that the template asks for stay as they are.
fn dressed(fields: &Map<String, Value>, source: &str, dress: Dress) -> Map<String, Value> {
    fn value(of: &Value, source: &str, dress: Dress) -> Value {
        match of {
            Value::String(text) => dress(text).into(),
            Value::Array(items) => items.iter().map(|item| value(item, source, dress)).collect(),
            Value::Object(fields) => {
                let asked_for = |name: &str| {
                    source.contains(name) && name.chars().all(|c| c.is_alphanumeric() || c == '_')
                };
                let name = |name: &String| if asked_for(name) { name.clone() } else { dress(name) };
                let fields = fields.iter().map(|(field, of)| (name(field), value(of, source, dress)));
                Value::Object(fields.collect())
            }
            other => other.clone(),
        }
    }
    fields.iter().map(|(name, of)| (name.clone(), value(of, source, dress))).collect()
}

/// A model's vocabulary, as what tells of tags.
pub(super) struct Known<'m, M>(pub(super) &'m M);

impl<M: Model> reasoning::Tags for Known<'_, M> {
    fn one_token(&self, text: &str) -> bool {
        one_token(self.0, text).is_some()
    }

    fn special(&self) -> impl Iterator<Item = &str> {
        self.0.vocabulary().markers.iter().map(|marker| marker.text.as_str())
    }
}

/// The token that is all of a text, if there is one.
fn one_token(model: &impl Model, text: &str) -> Option<Token> {
    match model.tokenize(text, true)[..] {
        [token] if model.piece(token, true) == text.as_bytes() => Some(token),
        _ => None,
    }
}

/// The tokens that a template writes after what an assistant said, whatever kind of special token the vocabulary calls them.
pub(super) fn ends_of(template: &Template, vocabulary: &Vocabulary) -> Vec<Token> {
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
