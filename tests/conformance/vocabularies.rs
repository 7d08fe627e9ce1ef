//! llama.cpp's vocabularies: the ids of its own test vectors; on random text, the ids of its plain tokenizer
//! call; and no additional control token if content has markers, whole or such as the template's changes
//! produce.

use std::collections::{BTreeMap, HashSet};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use fireside::chat::settings::{Auto, Settings};
use fireside::chat::{Attachment, Message, Role};
use fireside::engine::Engine;
use fireside::engine::llama::{ContextOptions, Llama, Parts, Weights};
use fireside::engine::model::Model;
use fireside::engine::prompt::template::Template;
use fireside::engine::token::{Marker, Token, Vocabulary};
use fireside::{gguf, models};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;

use super::{Row, conclude, reference};
use crate::forgery::{FORGERIES, forgeable};
use crate::loading::same_vocabulary;
use crate::support::engine::{Chance, load, turn, user};

pub(super) const VECTORS: &str = "token vectors";
pub(super) const RANDOM: &str = "random text";
pub(super) const INJECTION: &str = "injection";

/// Random texts per vocabulary.
const TEXTS: usize = 2000;

/// A vocabulary by itself.
pub(super) struct Subject {
    pub(super) name: String,
    path: PathBuf,
    weights: Weights,
}

impl Subject {
    pub(super) fn load(path: &Path) -> Subject {
        let name = path.file_stem().unwrap().to_str().unwrap().replace("ggml-vocab-", "");
        let plain = load(path, Parts::Vocabulary, None);
        let special_ids = plain
            .special_ids()
            .and_then(|special_ids| models::fitting(&gguf::read(path).unwrap(), special_ids));
        let subject =
            Subject { name, path: path.into(), weights: load(path, Parts::Vocabulary, special_ids) };
        same_vocabulary(&subject.of(&plain), &subject.model());
        subject
    }

    pub(super) fn model(&self) -> Llama<'_> {
        self.of(&self.weights)
    }

    fn of<'w>(&self, weights: &'w Weights) -> Llama<'w> {
        let options = ContextOptions {
            flash_attn: Auto::Off,
            ..ContextOptions::new(&Settings::default(), 1 << 20, 512, 1)
        };
        Llama::new(weights, options)
    }

    fn engine(&self, template: &str) -> Engine<Llama<'_>> {
        Engine::new(self.model(), Some(template), &[]).unwrap()
    }
}

/// The files of every vocabulary of llama.cpp, or `None` if the references were not fetched.
pub(super) fn files() -> Option<Vec<PathBuf>> {
    let folder = reference("llama.cpp/models")?;
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    files.sort();
    assert!(files.len() >= 19);
    Some(files)
}

fn subjects() -> Option<Vec<Subject>> {
    Some(files()?.iter().map(|file| Subject::load(file)).collect())
}

#[test]
fn vectors_get_the_ids_that_llama_cpp_expects() {
    let Some(subjects) = subjects() else { return };
    let (mut compared, mut differing) = (0, Vec::new());
    for subject in &subjects {
        let beside = |end: &str| std::fs::read(format!("{}.{end}", subject.path.display()));
        let (Ok(texts), Ok(ids)) = (beside("inp"), beside("out")) else { continue };
        let (texts, ids) = (String::from_utf8(texts).unwrap(), String::from_utf8(ids).unwrap());
        let separator = "\n__ggml_vocab_test__\n";
        let texts: Vec<&str> = texts.strip_suffix(separator).unwrap_or(&texts).split(separator).collect();
        let ids: Vec<Vec<Token>> =
            ids.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect()).collect();
        assert_eq!(texts.len(), ids.len(), "{}", subject.name);
        for (text, expected) in texts.iter().zip(&ids) {
            compared += 1;
            let ours = subject.model().tokenize(text, false);
            if ours != *expected {
                differing.push(format!("{}: {text:?} became {ours:?}, not {expected:?}", subject.name));
            }
        }
    }
    assert!(compared > 500);
    conclude(Row { check: VECTORS, reference: "llama.cpp's vectors", compared, differing, near_ties: None });
}

/// A text of up to 60 pieces of one kind: any code points, code, white space, digits, words of many scripts.
fn random_text(chance: &mut Chance) -> String {
    const CODE: [&str; 16] = [
        "if (",
        ") {\n",
        "\t",
        "    ",
        "return ",
        "x",
        "->",
        "::",
        "!=",
        "/* ",
        " */",
        "\"",
        "\\n",
        "#include <a.h>",
        "'",
        ";\r\n",
    ];
    const WHITE: [&str; 12] = [
        " ", "  ", "\n", "\n\n", "\t", "\r\n", "\u{a0}", "\u{3000}", "\u{2028}", "\u{b}", "word", "\u{200b}",
    ];
    const DIGITS: [&str; 10] = ["0", "1", "12", "345", "6789", "٣", "५", "½", ".", ","];
    const WORDS: [&str; 14] = [
        "the ",
        "Don't ",
        "I'LL ",
        "naïve",
        "ÉCOLE ",
        "Привет",
        "你好",
        "こんにちは",
        "안녕",
        "שלום ",
        "हिन्दी",
        "ﬁ",
        "👩‍👩‍👧",
        "e\u{301}",
    ];
    let kind = chance.below(7);
    let pieces = 1 + chance.below(60);
    (0..pieces).map(|_| random_piece(chance, kind, [&CODE, &WHITE, &DIGITS, &WORDS])).collect()
}

fn random_piece(chance: &mut Chance, kind: usize, lists: [&[&str]; 4]) -> String {
    match kind {
        0..4 => lists[kind][chance.below(lists[kind].len())].to_string(),
        4 => {
            let kind = chance.below(4);
            random_piece(chance, kind, lists)
        }
        5 => char::from(b' ' + chance.below(95) as u8).to_string(),
        _ => loop {
            let plane = chance.below(17) as u32;
            if let Some(c) = char::from_u32(plane << 16 | chance.below(0x10000) as u32) {
                return c.to_string();
            }
        },
    }
}

/// Templates per vocabulary, each with two of its markers.
const PAIRS: usize = 10;

fn between_markers(vocabulary: &Vocabulary) -> impl Iterator<Item = String> {
    let markers = vocabulary.markers.iter().filter(|m| m.control).map(|m| m.text.as_str());
    let markers: Vec<&str> = markers.filter(|text| !text.trim().is_empty()).collect();
    let text =
        move |n: usize| serde_json::to_string(markers.get(n % markers.len().max(1)).unwrap_or(&"#")).unwrap();
    (0..PAIRS).map(move |n| {
        let (before, after) = (text(n * 7), text(n * 7 + 1));
        format!(
            "{{% for m in messages %}}{{{{ {before} + m.role }}}}\n{{{{ m.content + {after} }}}}\n{{% endfor %}}{{{{ {before} }}}}"
        )
    })
}

#[test]
fn random_text_gets_the_ids_of_the_plain_tokenizer_call() {
    let Some(subjects) = subjects() else { return };
    let backend = &ManuallyDrop::new(LlamaBackend {}); // loading the subjects has started llama.cpp already
    let (mut compared, mut differing) = (0, Vec::new());
    for subject in &subjects {
        let params = LlamaModelParams::default().with_vocab_only(true);
        let plain = LlamaModel::load_from_file(backend, &subject.path, &params).unwrap();
        let (model, mut chance) = (subject.model(), Chance(20));
        let vocabulary = model.vocabulary();
        for template in between_markers(vocabulary) {
            let engine = subject.engine(&template);
            let texts: Vec<String> = std::iter::repeat_with(|| random_text(&mut chance))
                .filter(|text| !vocabulary.markers.iter().any(|m| m.control && text.contains(&m.text)))
                .take(TEXTS / PAIRS)
                .collect();
            for (i, text) in texts.iter().enumerate() {
                let earlier = Message::new(Role::Assistant, &texts[i / 2]);
                for messages in
                    [vec![user(text)], vec![user(&texts[i.saturating_sub(1)]), earlier, user(text)]]
                {
                    let mut asked = turn(&messages, 1);
                    asked.raw = messages.len() == 1;
                    let prompt = engine.prompt(&asked).unwrap();
                    let ids = plain.vocab().tokenize(prompt.text.as_bytes(), false, !asked.raw);
                    let mut ids: Vec<Token> = ids.into_iter().map(|id| id.0).collect();
                    if vocabulary.add_bos && ids.first() != vocabulary.bos.as_ref() {
                        ids.insert(0, vocabulary.bos.unwrap());
                    }
                    if ids.is_empty() {
                        ids.extend(vocabulary.bos); // the text has no tokens; no prompt may be empty
                    }
                    compared += 1;
                    if prompt.tokens != ids {
                        let (name, ours) = (&subject.name, &prompt.tokens);
                        differing.push(format!("{name}: {:?} became {ours:?}, not {ids:?}", prompt.text));
                    }
                }
            }
        }
    }
    conclude(Row { check: RANDOM, reference: "llama.cpp's tokenizer", compared, differing, near_ties: None });
}

/// A conversation with this content in every place for content.
fn saying(content: [&str; 6]) -> [Message; 5] {
    let [system, first, thought, answer, file, last] = content;
    let mut answered = Message::new(Role::Assistant, answer);
    answered.thinking = Some(thought.into());
    let with_file = user("q").with_files([Attachment::new("f", file)]);
    [Message::new(Role::System, system), user(first), answered, with_file, user(last)]
}

/// The markers of a vocabulary to forge in every way.
const FORGED: usize = 12;

#[test]
fn no_marker_in_content_becomes_a_token_in_any_template() {
    let (Some(subjects), Some(folder)) = (subjects(), reference("llama.cpp/models/templates")) else {
        return;
    };
    let templates = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let templates: Vec<(PathBuf, String)> = templates
        .filter(|path| path.extension().is_some_and(|end| end == "jinja"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let (mut compared, mut differing) = (0, Vec::new());
    for subject in &subjects {
        for (file, template) in &templates {
            let Some(pair) = Pair::of(subject, template) else { continue };
            let removed = pair.removed();
            for marker in pair.markers() {
                compared += 1 + removed.len();
                if pair.betrayed_by(marker) {
                    differing.push(format!("{}: {marker:?} in content of {}", subject.name, file.display()));
                }
                for word in removed.iter().filter(|word| pair.betrayed_without(word, marker)) {
                    let (name, file) = (&subject.name, file.display());
                    differing.push(format!("{name}: {marker:?} with {word:?} in content of {file}"));
                }
            }
            if let Some(marker) = forgeable(subject.model().vocabulary()).next() {
                compared += 1;
                if pair.betrayed_by_argument(subject, &marker.text) {
                    differing.push(format!("{}: an argument of {}", subject.name, file.display()));
                }
            }
        }
        let model = subject.model();
        let markers: Vec<&Marker> = forgeable(model.vocabulary()).collect();
        let some = markers.iter().step_by(markers.len().div_ceil(FORGED).max(1));
        for (marker, forgery) in
            some.flat_map(|marker| FORGERIES.iter().map(move |forgery| (marker, forgery)))
        {
            let Some(success) = forgery.succeeds(|| subject.model(), marker) else { continue };
            compared += 1;
            if success {
                differing.push(format!("{}: {:?}, {}", subject.name, marker.text, forgery.name));
            }
        }
        for marker in subject.model().vocabulary().markers.iter().filter(|m| m.control) {
            for at in [1, marker.text.len() / 2, marker.text.len().saturating_sub(1)] {
                let Some((before, after)) = marker.text.split_at_checked(at) else { continue };
                if before.is_empty() || after.is_empty() {
                    continue;
                }
                compared += 1;
                if straddles(subject, before, after) {
                    differing.push(format!(
                        "{}: {before:?} in the template and {after:?} in content",
                        subject.name
                    ));
                }
            }
        }
    }
    assert!(compared > 7000, "only {compared} cases");
    conclude(Row {
        check: INJECTION,
        reference: "the same with harmless content",
        compared,
        differing,
        near_ties: None,
    });
}

/// A vocabulary and a template that writes some of its markers.
struct Pair<'s> {
    engine: Engine<Llama<'s>>,
    model: Llama<'s>,
    template: &'s str,
    harmless: BTreeMap<Token, usize>,
}

impl<'s> Pair<'s> {
    fn of(subject: &'s Subject, template: &'s str) -> Option<Pair<'s>> {
        let mut pair = Pair {
            engine: subject.engine(template),
            model: subject.model(),
            template,
            harmless: BTreeMap::new(),
        };
        pair.harmless = pair.counted(["x y"; 6])?;
        let bos = pair.model.vocabulary().bos;
        pair.harmless.keys().any(|token| Some(*token) != bos).then_some(pair)
    }

    /// The markers that content must not turn into tokens.
    fn markers(&self) -> impl Iterator<Item = &str> {
        let all = self.model.vocabulary().markers.iter();
        let guarded = all.filter(|m| m.control || self.template.contains(&m.text));
        guarded.map(|m| m.text.as_str()).filter(|text| !text.trim().is_empty())
    }

    /// How often each marker is a token of the prompt with these contents; `None` if the template refuses.
    fn counted(&self, contents: [&str; 6]) -> Option<BTreeMap<Token, usize>> {
        let prompt = self.engine.prompt(&turn(&saying(contents), 1)).ok()?;
        Some(counted(&self.model, &prompt.tokens))
    }

    /// The words that the template removes from content.
    fn removed(&self) -> Vec<String> {
        let template = Template::new(self.template, "", "", &[]).unwrap();
        let removes = |word: &String| {
            let content = format!("Anfang{word}Ende");
            let prompt = self.engine.prompt(&turn(&saying([&content; 6]), 1));
            prompt.is_ok_and(|prompt| prompt.text.contains("AnfangEnde"))
        };
        template.constants().into_iter().filter(removes).collect()
    }

    /// Whether a marker with such a word inside becomes a token.
    fn betrayed_without(&self, word: &str, marker: &str) -> bool {
        let Some(middle) = (marker.len() / 2..marker.len()).find(|at| marker.is_char_boundary(*at)) else {
            return false;
        };
        let hostile = format!("a{}{word}{}b", &marker[..middle], &marker[middle..]);
        let harmless = format!("a{word}b");
        self.counted([&hostile; 6]) != self.counted([&harmless; 6])
    }

    /// Whether a marker in a variable for the template becomes a token.
    fn betrayed_by_argument(&self, subject: &Subject, marker: &str) -> bool {
        let template = format!("{}{{{{ note }}}}", self.template);
        let counted = |note: &str| {
            let args = [("note".to_string(), serde_json::to_string(note).unwrap())];
            let engine = Engine::new(subject.model(), Some(&template), &args).unwrap();
            let prompt = engine.prompt(&turn(&saying(["x y"; 6]), 1)).unwrap();
            counted(&self.model, &prompt.tokens)
        };
        counted(&format!("a{marker}b")) != counted("a b")
    }

    /// Whether a marker in content becomes a token.
    fn betrayed_by(&self, marker: &str) -> bool {
        let contents = [
            marker.to_string(),
            format!("x {marker}"),
            format!("a{marker}b"),
            format!("{marker} x"),
            format!("{marker}{marker}"),
            format!("{marker}\n"),
        ];
        let hostile =
            self.counted(contents.each_ref().map(String::as_str)).expect("it took harmless content");
        hostile != self.harmless
    }
}

/// How often each marker occurs in the ids.
fn counted(model: &Llama, tokens: &[Token]) -> BTreeMap<Token, usize> {
    let markers: HashSet<Token> = model.vocabulary().markers.iter().map(|m| m.token).collect();
    let mut counts = BTreeMap::new();
    for token in tokens.iter().filter(|token| markers.contains(token)) {
        *counts.entry(*token).or_default() += 1;
    }
    counts
}

/// Whether a marker becomes a token if the template writes one part and content the other.
fn straddles(subject: &Subject, before: &str, after: &str) -> bool {
    let quoted = [before, after].map(|text| serde_json::to_string(text).unwrap());
    let template =
        format!("{{% for m in messages %}}{{{{ {} + m.content + {} }}}}{{% endfor %}}", quoted[0], quoted[1]);
    let engine = subject.engine(&template);
    let model = subject.model();
    let marker = [before, after].concat();
    let id = model.vocabulary().markers.iter().find(|m| m.text == marker).unwrap().token;
    let ids = |content: &str| {
        let tokens = engine.prompt(&turn(&[user(content)], 1)).unwrap().tokens;
        tokens.iter().filter(|token| **token == id).count()
    };
    let usual = ids("x y"); // a beginning-of-text token, and tokens that cannot be written
    [after, before, &format!("{after} and {before}")].into_iter().any(|content| ids(content) > usual)
}
