//! How a model marks its thinking, detected from its template, its vocabulary or the user's setting; and how
//! to switch thinking on and off.
//!
//! A template shows it by the tags it mentions, by the end of its generation prompt, or by what it writes
//! around the thinking of an earlier answer; a vocabulary by having two such tags as one token each. Sources:
//! the templates of the models; llama.cpp's `common/chat*.cpp`.

use serde_json::Map;

use super::template::{Template, Turn};
use crate::chat::Role;
use crate::chat::settings::Auto;

/// How to tell a model's thinking from its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThinkingFormat {
    /// The thinking stands between these; the answer follows.
    Tags { open: String, close: String },
    /// `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`
    Harmony,
}

/// Tags used in chat templates.
const TAGS: [(&str, &str); 7] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<thinking>", "</thinking>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
];
/// The variables with which templates switch thinking on and off.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// Parts of the names of other such tags.
const NAMES: [&str; 5] = ["think", "thought", "reason", "reflect", "scratchpad"];
/// The maximum length of a tag, in bytes.
const LONGEST: usize = 64;
/// How the name of an opening tag becomes that of the closing one, if not by a slash.
const BEGINNINGS: [(&str, &str); 5] =
    [("begin", "end"), ("start", "end"), ("open", "close"), ("BEGIN", "END"), ("START", "END")];

pub(in crate::engine) const CHANNEL: &str = "<|channel|>";
pub(in crate::engine) const MESSAGE: &str = "<|message|>";
pub(in crate::engine) const START: &str = "<|start|>";
pub(in crate::engine) const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];
pub(in crate::engine) const ANALYSIS: &str = "<|channel|>analysis<|message|>";
const FINAL: &str = "<|channel|>final<|message|>";
const TO_FINAL: &str = "<|end|><|start|>assistant<|channel|>final<|message|>";

/// What a vocabulary says about tags.
pub trait Tags {
    /// Whether a text is a single token.
    fn one_token(&self, text: &str) -> bool;
    /// The texts of special tokens.
    fn special(&self) -> impl Iterator<Item = &str>;
}

impl ThinkingFormat {
    pub fn tags(open: &str, close: &str) -> ThinkingFormat {
        ThinkingFormat::Tags { open: open.into(), close: close.into() }
    }

    /// A model's format, if it thinks at all.
    pub fn of(template: &Template, vocabulary: &impl Tags) -> Option<ThinkingFormat> {
        let source = template.source();
        if source.contains(CHANNEL) && source.contains(MESSAGE) {
            return Some(ThinkingFormat::Harmony);
        }
        let named = || TAGS.into_iter().find(|(_, close)| source.contains(close));
        ThinkingFormat::opened_by(template, vocabulary)
            .or_else(|| named().map(|(open, close)| ThinkingFormat::tags(open, close)))
            .or_else(|| source.contains("reasoning").then(|| ThinkingFormat::found(template)).flatten())
            .or_else(|| ThinkingFormat::in_vocabulary(vocabulary))
    }

    /// The tag that opens thinking at the end of a generation prompt.
    fn opened_by(template: &Template, vocabulary: &impl Tags) -> Option<ThinkingFormat> {
        let prompt = template.render(&[Turn::new(Role::User, "Benutzerwort")], true).ok()?.text;
        let end = prompt.trim_end();
        if let Some((open, close)) = TAGS.into_iter().find(|(open, _)| end.ends_with(open)) {
            return Some(ThinkingFormat::tags(open, close));
        }
        let start = end.rfind(if end.ends_with(']') { '[' } else { '<' })?;
        let open = opening(&end[start..])?;
        let mut closing = closings(open);
        let close = closing.iter().position(|close| vocabulary.one_token(close)).unwrap_or(0);
        (!closing.is_empty()).then(|| ThinkingFormat::tags(open, &closing.swap_remove(close)))
    }

    /// Two tags that are one token each.
    fn in_vocabulary(vocabulary: &impl Tags) -> Option<ThinkingFormat> {
        let one = |text: &&str| vocabulary.one_token(text);
        if let Some((open, close)) = TAGS.into_iter().find(|(open, close)| one(open) && one(close)) {
            return Some(ThinkingFormat::tags(open, close));
        }
        vocabulary.special().filter_map(opening).find_map(|open| {
            let close = closings(open).into_iter().find(|close| vocabulary.one_token(close))?;
            Some(ThinkingFormat::tags(open, &close))
        })
    }

    /// Finds the texts that a template writes around the thinking of an answer.
    fn found(template: &Template) -> Option<ThinkingFormat> {
        let (thought, word) = ("Gedankenwort", "Antwortwort");
        let asked = Turn::new(Role::User, "Benutzerwort");
        let render = |thinking: Option<&str>| {
            let answer = Turn { thinking: thinking.map(String::from), ..Turn::new(Role::Assistant, word) };
            template.render(&[asked.clone(), answer], false).ok().map(|prompt| prompt.text)
        };
        let (with, without) = (render(Some(thought))?, render(None)?);
        let (before, rest) = with.split_once(thought)?;
        let close = rest.split_once(word)?.0.trim();
        let open = mirrored(before, close).or_else(|| after_shared(before, &without)).or_else(|| {
            // The opening tag may be in the generation prompt only.
            let prompt = template.render(std::slice::from_ref(&asked), true).ok()?.text;
            after_shared(&prompt, before)
        })?;
        (!close.is_empty()).then(|| ThinkingFormat::tags(&open, close))
    }

    /// The texts that separate thinking and answer in the stream.
    pub fn markers(&self) -> Vec<&str> {
        match self {
            ThinkingFormat::Tags { open, close } => vec![open, close],
            ThinkingFormat::Harmony => {
                [CHANNEL, MESSAGE, START, "<|constrain|>"].into_iter().chain(ENDS).collect()
            }
        }
    }

    /// Ends the thinking; forced when the budget is used up.
    pub fn closing(&self) -> String {
        match self {
            ThinkingFormat::Tags { close, .. } => format!("\n{close}\n\n"),
            ThinkingFormat::Harmony => TO_FINAL.into(),
        }
    }

    fn opening(&self) -> String {
        match self {
            ThinkingFormat::Tags { open, .. } => format!("{open}\n"),
            ThinkingFormat::Harmony => ANALYSIS.into(),
        }
    }

    /// Whether a prompt with this end has opened (`Some(true)`) or closed (`Some(false)`) the thinking.
    pub fn opened(&self, prompt: &str) -> Option<bool> {
        let ThinkingFormat::Tags { open, close } = self else { return None };
        let end = prompt.trim_end();
        match () {
            () if end.ends_with(open.as_str()) => Some(true),
            () if end.ends_with(close.as_str()) => Some(false),
            () => None,
        }
    }

    /// The text after a prompt that makes the model continue `answer_prefix`, or think or not as requested.
    /// The parts of `answer_prefix` are already guarded.
    pub fn answer_prefill(&self, prompt: &str, answer_prefix: AnswerPrefix, think: Think) -> String {
        let opened = self.opened(prompt);
        let open = if opened == Some(true) { String::new() } else { self.opening() };
        match (answer_prefix.thinking, answer_prefix.text, self) {
            ("", "", ThinkingFormat::Harmony) => String::new(),
            ("", "", _) => match (think, opened) {
                (Think::Not, Some(true)) => self.closing(),
                (Think::Not, None) => open + &self.closing(),
                (Think::Do, None) => open,
                _ => String::new(),
            },
            ("", text, ThinkingFormat::Harmony) => format!("{FINAL}{text}"),
            ("", text, _) if opened == Some(true) => self.closing() + text,
            ("", text, _) => text.into(),
            (thinking, "", _) => open + thinking,
            (thinking, text, _) => open + thinking + &self.closing() + text,
        }
    }
}

/// The tag at the end of `before` that `close` closes.
fn mirrored(before: &str, close: &str) -> Option<String> {
    let end = before.trim_end();
    let starts =
        end.rmatch_indices(['<', '[']).map(|(at, _)| &end[at..]).take_while(|tag| tag.len() <= LONGEST);
    starts
        .filter(|tag| closings(tag).iter().any(|closing| close.starts_with(closing)))
        .last()
        .map(String::from)
}

/// The end of `text` that is not shared with `other`, starting at its first word or tag.
fn after_shared(text: &str, other: &str) -> Option<String> {
    let same: usize =
        text.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let shared = &text[..same];
    let after = |c: char| c.is_whitespace() || ['>', ']', '}'].contains(&c);
    let after = shared.char_indices().rev().find(|(_, c)| after(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    let start = shared.rfind(['<', '[']).unwrap_or(0).max(after);
    let end = text[start..].trim();
    (same < text.trim_end().len() && !end.is_empty()).then(|| end.to_string())
}

/// Returns `text` if its name makes it a tag that opens thinking.
fn opening(text: &str) -> Option<&str> {
    let whole =
        (text.starts_with('<') && text.ends_with('>')) || (text.starts_with('[') && text.ends_with(']'));
    let name = text.to_lowercase();
    let closes = name.contains('/') || name.contains("end");
    (whole && !closes && NAMES.iter().any(|part| name.contains(part))).then_some(text)
}

/// The possible closing tags for an opening tag, the likeliest first.
fn closings(open: &str) -> Vec<String> {
    let beginning = BEGINNINGS.iter().find(|(begin, _)| open.contains(begin));
    let ending = beginning.map(|(begin, end)| open.replacen(begin, end, 1));
    let sign = open.find(|c: char| c.is_alphanumeric());
    let outside = (!open.is_empty()).then(|| format!("{}/{}", &open[..1], &open[1..]));
    let inside = sign
        .map(|at| format!("{}/{}", &open[..at], &open[at..]))
        .filter(|inside| Some(inside) != outside.as_ref());
    ending.into_iter().chain(inside).chain(outside).collect()
}

/// The beginning of an answer that the model is to continue.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnswerPrefix<'a> {
    pub thinking: &'a str,
    pub text: &'a str,
}

/// What to do about thinking besides the template's own switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    AsItLikes,
    Do,
    Not,
}

/// The template variables that switch thinking on or off, and what to do if there are none; or a note why it
/// cannot be done.
pub fn wish(
    think: Auto,
    format: Option<&ThinkingFormat>,
    template: &Template,
) -> (Map<String, serde_json::Value>, Think, Option<&'static str>) {
    let on = match think {
        Auto::Auto => return (Map::new(), Think::AsItLikes, None),
        Auto::On => true,
        Auto::Off => false,
    };
    let alone = [Turn::new(Role::User, "Benutzerwort")];
    let set = |name: &str, on: bool| Map::from_iter([(name.to_string(), on.into())]);
    let render =
        |name, on| template.render_with(&alone, true, &set(name, on), None).map(|prompt| prompt.text).ok();
    let switch = SWITCHES
        .into_iter()
        .filter(|name| template.source().contains(name))
        .find(|name| render(name, true) != render(name, false));
    match (switch, format) {
        (Some(name), _) => (set(name, on), Think::AsItLikes, None),
        (None, Some(ThinkingFormat::Harmony)) if on => (Map::new(), Think::AsItLikes, None),
        (None, Some(ThinkingFormat::Harmony)) => {
            let least = Map::from_iter([("reasoning_effort".to_string(), "low".into())]);
            (
                least,
                Think::AsItLikes,
                Some("this model always thinks: it is asked to think as little as it can"),
            )
        }
        (None, Some(_)) => (Map::new(), if on { Think::Do } else { Think::Not }, None),
        (None, None) if on => (
            Map::new(),
            Think::AsItLikes,
            Some("this model's chat template has no thinking mode: it cannot be switched on"),
        ),
        (None, None) => (Map::new(), Think::AsItLikes, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vocabulary without special tokens.
    struct NoTags;

    impl Tags for NoTags {
        fn one_token(&self, _: &str) -> bool {
            false
        }

        fn special(&self) -> impl Iterator<Item = &str> {
            std::iter::empty()
        }
    }

    fn think_tags() -> ThinkingFormat {
        ThinkingFormat::tags("<think>", "</think>")
    }

    #[test]
    fn an_answer_is_gone_on_with_where_it_was() {
        let tags = think_tags();
        let lead = |prompt: &str, thinking, text| {
            tags.answer_prefill(prompt, AnswerPrefix { thinking, text }, Think::AsItLikes)
        };
        assert_eq!(lead("<a>", "", ""), "");
        assert_eq!(lead("<a>", "hm", ""), "<think>\nhm");
        assert_eq!(lead("<a><think>\n", "hm", "Yes"), "hm\n</think>\n\nYes");
        assert_eq!(lead("<a><think>\n", "", "Yes"), "\n</think>\n\nYes");
        assert_eq!(lead("<a>", "", "Yes"), "Yes");
        let none = AnswerPrefix::default();
        assert_eq!(tags.answer_prefill("<a><think>\n", none, Think::Not), "\n</think>\n\n");
        assert_eq!(tags.answer_prefill("<a>", none, Think::Not), "<think>\n\n</think>\n\n");
        assert_eq!(tags.answer_prefill("<a>", none, Think::Do), "<think>\n");
        let both = AnswerPrefix { thinking: "hm", text: "Yes" };
        assert_eq!(
            ThinkingFormat::Harmony.answer_prefill("x", both, Think::AsItLikes),
            format!("{ANALYSIS}hm{TO_FINAL}Yes")
        );
    }

    #[test]
    fn the_format_is_read_from_the_template() {
        let format = |source: &str| ThinkingFormat::of(&Template::new(source, "", "", &[]).unwrap(), &NoTags);
        assert_eq!(format("{{ messages[-1].content }}"), None);
        assert_eq!(format("{{ messages[-1].content.split('</think>')[-1] }}"), Some(think_tags()));
        let own = "{% for m in messages %}<{{ m.role }}>{% if m.reasoning_content %}\n{hm}{{ m.reasoning_content }}{/hm}\n{% endif %}{{ m.content }}{% endfor %}";
        assert_eq!(format(own), Some(ThinkingFormat::Tags { open: "{hm}".into(), close: "{/hm}".into() }));
        assert_eq!(format("<|start|><|channel|>final<|message|>"), Some(ThinkingFormat::Harmony));
        assert_eq!(format("{{ messages[-1].content }}<a>{{ '<think>' }}\n"), Some(think_tags()));
        assert_eq!(
            format("<a>{{ '<my_thoughts>' }}"),
            Some(ThinkingFormat::tags("<my_thoughts>", "</my_thoughts>"))
        );
        for other in ["<assistant>", "<think>\n\n</think>", "a < b", "[INST]", "<endless_thought>"] {
            assert_eq!(
                format(
                    &format!("{{{{ messages[-1].content }}}}{other}").replace("</think>", "{{ '</' }}think>")
                ),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn what_closes_is_told_by_what_opens() {
        assert_eq!(closings("<think>"), ["</think>"]);
        assert_eq!(closings("[THINK]"), ["[/THINK]"]);
        assert_eq!(closings("<|think|>"), ["<|/think|>", "</|think|>"]);
        assert_eq!(closings("<|begin_of_thought|>")[0], "<|end_of_thought|>");
    }

    #[test]
    fn thinking_is_switched_as_the_template_has_it() {
        let wish = |source: &str, think| {
            let template = Template::new(source, "", "", &[]).unwrap();
            let (variables, todo, note) =
                super::wish(think, ThinkingFormat::of(&template, &NoTags).as_ref(), &template);
            (
                variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<String>(),
                todo,
                note.is_some(),
            )
        };
        let hybrid = "{{ messages[-1].content }}<a>{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>{% endif %}";
        assert_eq!(wish(hybrid, Auto::Off), ("enable_thinking=false".into(), Think::AsItLikes, false));
        assert_eq!(wish(hybrid, Auto::Auto), (String::new(), Think::AsItLikes, false));
        assert_eq!(wish("<think>{# </think> #}", Auto::Off), (String::new(), Think::Not, false));
        assert_eq!(wish("{{ 1 }}", Auto::On), (String::new(), Think::AsItLikes, true));
        assert_eq!(
            wish("<|channel|><|message|>", Auto::Off),
            ("reasoning_effort=\"low\"".into(), Think::AsItLikes, true)
        );
    }
}
