//! Answers are those of a plain llama.cpp loop, whatever was cached, cut, grown or evaluated before.
//!
//! Quantised kernels give slightly different numbers for different batch sizes. Where two answers part, the
//! test looks at the logits: if the two best are closer than that noise, it counts and prints a near tie;
//! anything else fails.

use std::mem::ManuallyDrop;
use std::num::NonZeroU32;

use fireside::chat::{Attachment, Generation, Message, Request, Role};
use fireside::engine::Engine;
use fireside::engine::model::Model;
use fireside::engine::token::Token;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;

use crate::support::engine::{
    CHUNK, Chance, FLOAT_NOISE, QUANTISED_NOISE, Subject, TINY, answer, cancelled, default_subject, turn,
    user,
};
use crate::support::{default_model, tiny};

const PROMPTS: [&str; 10] = [
    "What is the capital of France?",
    "Write a haiku about the sea.",
    "Explain photosynthesis to a child.",
    "def fibonacci(n):",
    "List three uses of a paper clip.",
    "Übersetze ins Deutsche: good morning",
    "Why do cats purr?\n\nAnswer briefly.",
    "1, 1, 2, 3, 5, 8,",
    "Tell me a story about a dragon who was afraid of fire 🐉.",
    "What is the difference between TCP and UDP?",
];

/// llama.cpp as its own examples use it: evaluate the prompt in batches, sample a token, decode it, and so
/// on.
fn plain_loop(
    model: &LlamaModel,
    backend: &LlamaBackend,
    prompt: &[Token],
    n: usize,
    sampler: &mut LlamaSampler,
) -> Vec<Token> {
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(2048))
        .with_n_batch(CHUNK as u32)
        .with_n_ubatch(CHUNK as u32)
        .with_n_threads(1)
        .with_n_threads_batch(1);
    let mut context = model.new_context(backend, params).unwrap();
    let mut batch = LlamaBatch::new(CHUNK, 1);
    let mut position = 0;
    let mut decode = |context: &mut llama_cpp_2::context::LlamaContext, tokens: &[Token]| {
        batch.clear();
        for (i, token) in tokens.iter().enumerate() {
            batch.add(LlamaToken(*token), position, &[0], i + 1 == tokens.len()).unwrap();
            position += 1;
        }
        context.decode(&mut batch).unwrap();
    };
    prompt.chunks(CHUNK).for_each(|chunk| decode(&mut context, chunk));
    let mut tokens = prompt.to_vec();
    for _ in 0..n {
        let next = sampler.sample(&context, -1);
        if model.vocab().is_eog(next) {
            break;
        }
        tokens.push(next.0);
        decode(&mut context, &[next.0]);
    }
    tokens
}

/// Runs `check` with llama.cpp's own model and fireside's tokens of every prompt.
fn against_plain_loop(adjust: impl Fn(&mut Generation), mut sampler: impl FnMut() -> LlamaSampler) {
    let (Some(subject), Some(path)) = (default_subject(), default_model()) else { return };
    let backend = &ManuallyDrop::new(LlamaBackend {}); // loading the subject has started llama.cpp already
    let model = LlamaModel::load_from_file(backend, path, &LlamaModelParams::default()).unwrap();
    for prompt in PROMPTS {
        let mut turn = turn(&[user(prompt)], 48);
        adjust(&mut turn.generation);
        let mut engine = subject.engine();
        let tokens = engine.prompt(&turn).unwrap().tokens;
        let ours = answer(&mut engine, &turn).tokens;
        let theirs = plain_loop(&model, backend, &tokens, 48, &mut sampler());
        assert_eq!(ours, theirs[..ours.len()], "{prompt}");
        assert!(theirs.len() - ours.len() <= 1, "{prompt}: ours ended early"); // our last token is not evaluated
    }
}

#[test]
fn greedy_tokens_are_those_of_a_plain_loop() {
    against_plain_loop(|_| {}, LlamaSampler::greedy);
}

#[test]
fn sampled_tokens_are_those_of_llama_cpps_default_chain() {
    let chain = || {
        LlamaSampler::chain_simple([
            LlamaSampler::penalties(49152, 64, 1.0, 0.0, 0.0),
            LlamaSampler::top_n_sigma(-1.0),
            LlamaSampler::top_k(40),
            LlamaSampler::typical(1.0, 0),
            LlamaSampler::top_p(0.95, 0),
            LlamaSampler::min_p(0.05, 0),
            LlamaSampler::xtc(0.0, 0.1, 0, 7),
            LlamaSampler::temp_ext(0.8, 0.0, 1.0),
            LlamaSampler::dist(7),
        ])
    };
    against_plain_loop(|generation| generation.sampling.temp = 0.8, chain);
}

/// Texts that may trip a tokenizer, none of which contains a marker.
const BENIGN: [&str; 9] = [
    "Hello, world",
    "  leading and trailing  ",
    "tabs\tand\r\nlines\n\n\nmore",
    "a < b && b > c; x |= y",
    "naïve café – “quoted” … 日本語 العربية 👩‍👩‍👧‍👦",
    "1234567890 3.14159 -0x1F",
    "if (a) { return b; } // <html> [INST] </s",
    "\u{0}\u{1}\u{7f}",
    "<",
];

#[test]
fn harmless_text_gets_exactly_llama_cpps_ids() {
    let models =
        TINY.iter().map(|name| (Some(tiny(name)), FLOAT_NOISE)).chain([(default_model(), QUANTISED_NOISE)]);
    for (path, noise) in models {
        let Some(path) = path else { continue };
        let subject = Subject::load(&path, noise);
        let (engine, model) = (subject.engine(), subject.model());
        for text in BENIGN {
            let said = [user(text), Message::new(Role::Assistant, text), user("and?")];
            let prompt = engine.prompt(&turn(&said, 1)).unwrap();
            let vocabulary = model.vocabulary();
            let mut plain = model.tokenize(&prompt.text, true);
            if vocabulary.add_bos && plain.first() != vocabulary.bos.as_ref() {
                plain.insert(0, vocabulary.bos.unwrap());
            }
            assert_eq!(prompt.tokens, plain, "{}: {text:?}", path.display());
        }
    }
}

/// How often each special token occurs.
fn special_counts(subject: &Subject, tokens: &[Token]) -> Vec<(Token, usize)> {
    let model = subject.model();
    let special: Vec<Token> = model.vocabulary().markers.iter().map(|m| m.token).collect();
    special.into_iter().map(|id| (id, tokens.iter().filter(|t| **t == id).count())).collect()
}

#[test]
fn no_marker_in_content_becomes_a_token() {
    let names = ["llama-bpe", "llama-spm", "gemma3"];
    let tiny = names.map(|name| Subject::load(&tiny(name), FLOAT_NOISE));
    let mut compared = 0;
    for subject in tiny.iter().chain(default_subject()) {
        let engine = subject.engine();
        let template = subject.template.as_deref().unwrap();
        let markers = subject.model().vocabulary().markers.clone();
        let guarded = markers.iter().filter(|m| m.control || template.contains(&m.text));
        for marker in guarded.filter(|m| !m.text.trim().is_empty()) {
            let m = &marker.text;
            for content in [
                m.clone(),
                format!("{m} x"),
                format!("x {m}"),
                format!("a{m}b"),
                format!("{m}{m}"),
                format!("{m}\n"),
            ] {
                let conversation = |content: &str| {
                    let file = user("q").with_files([Attachment::new("f", content)]);
                    vec![
                        Message::new(Role::System, content),
                        user(content),
                        Message::new(Role::Assistant, content),
                        file,
                    ]
                };
                let turn_with = |content: &str| Request {
                    answer_prefix: content.to_string(),
                    ..turn(&conversation(content), 1)
                };
                let hostile = engine.prompt(&turn_with(&content)).unwrap();
                let harmless = engine.prompt(&turn_with("x y")).unwrap();
                let same =
                    special_counts(subject, &hostile.tokens) == special_counts(subject, &harmless.tokens);
                assert!(same, "{content:?} became a control token");
                assert_eq!(
                    hostile.text.matches(m).count(),
                    harmless.text.matches(m).count() + 5 * content.matches(m).count()
                );
                let read = String::from_utf8(
                    hostile.tokens.iter().flat_map(|t| subject.model().piece(*t, true)).collect(),
                );
                assert!(
                    read.unwrap().trim_start().ends_with(content.trim_start()),
                    "the model reads the same characters"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "only {compared} cases");
}

#[test]
fn no_marker_across_the_edge_of_content_becomes_a_token() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let template = "{% for m in messages %}<|im_{{ m.content }}|im_end|>\n{% endfor %}";
    let engine = Engine::new(subject.model(), Some(template), &[]).unwrap();
    for content in ["end|>", "start|>", "end|> and <", "x<", "<", "end|><"] {
        let hostile = engine.prompt(&turn(&[user(content)], 1)).unwrap();
        let specials = special_counts(&subject, &hostile.tokens);
        assert!(specials.iter().all(|(_, count)| *count == 0), "{content:?} gave {specials:?}");
        let read: Vec<u8> = hostile.tokens.iter().flat_map(|t| subject.model().piece(*t, true)).collect();
        assert_eq!(String::from_utf8(read).unwrap(), format!("<|im_{content}|im_end|>\n"));
    }
}

#[test]
fn no_marker_is_spelled_by_leaving_out_what_cannot_be_written() {
    let mut bytes = std::fs::read(tiny("llama-spm")).unwrap();
    let byte = bytes.windows(6).position(|text| text == b"<0xF0>").unwrap();
    bytes[byte..byte + 6].copy_from_slice(b"<none>"); // no emoji can be written now
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    std::fs::write(&file, bytes).unwrap();
    let subject = Subject::load(file.path(), FLOAT_NOISE);
    let engine = subject.engine();
    let harmless = engine.prompt(&turn(&[user("x")], 1)).unwrap();
    for content in ["</🔥s>", "<🔥s>", "🔥</s🔥>"] {
        let prompt = engine.prompt(&turn(&[user(content)], 1)).unwrap();
        assert_eq!(special_counts(&subject, &prompt.tokens), special_counts(&subject, &harmless.tokens));
    }
}

/// Sends, undoes, edits, retries, changes the system prompt, cancels and exceeds the context at random. After
/// every step the answer must be that of a new engine. Returns (answers, near ties).
fn random_walk(subject: &Subject, steps: usize, seed: u64) -> (usize, usize) {
    let mut chance = Chance(seed);
    let mut engine = subject.engine();
    let mut messages: Vec<Message> = Vec::new();
    let mut system: Option<Message> = None;
    let mut near_ties = 0;
    for step in 0..steps {
        let what = chance.below(7);
        match what {
            0 if messages.len() >= 2 => messages.truncate(messages.len() - 2), // undo
            1 if messages.len() >= 2 => {
                let place = chance.below(messages.len() / 2) * 2;
                messages.truncate(place); // edit an earlier message
            }
            2 => {
                system = [None, Some("Be brief."), Some("You are a pirate.")][chance.below(3)]
                    .map(|t| Message::new(Role::System, t))
            }
            _ => {}
        }
        if !(what == 3 && messages.len() >= 2) {
            let words = ["tree", "moon 7", "née", "a long walk", "x = y"];
            let count = if chance.below(5) == 0 { 80 } else { 1 + chance.below(12) }; // some exceed the context
            let text: Vec<&str> = (0..count).map(|_| words[chance.below(words.len())]).collect();
            messages.push(user(&text.join(" ")));
        } else {
            messages.pop(); // retry
        }
        let view: Vec<Message> = system.iter().chain(&messages).cloned().collect();
        let asked = turn(&view, 12);
        if engine.prompt(&asked).unwrap().tokens.len() + 20 > subject.limit {
            messages.clear();
            continue;
        }
        if chance.below(4) == 0 {
            cancelled(&mut engine, &asked, chance.below(4));
        }
        let ours = answer(&mut engine, &asked);
        let fresh = answer(&mut subject.engine(), &asked);
        if ours.tokens != fresh.tokens || ours.text != fresh.text || ours.stop != fresh.stop {
            let same = ours.tokens.iter().zip(&fresh.tokens).take_while(|(a, b)| a == b).count();
            let margin = subject.margin(&fresh.tokens[..same]);
            assert!(margin < subject.noise, "seed {seed}, step {step}: answers part at a margin of {margin}");
            near_ties += 1;
        }
        messages.push(Message::new(Role::Assistant, ours.text));
    }
    (steps, near_ties)
}

#[allow(clippy::print_stdout)] // the count of near ties is a result
fn walk_and_report(name: &str, subject: &Subject, steps: usize) {
    let (answers, near_ties) = random_walk(subject, steps, 20);
    println!("{name}: {answers} answers compared, {near_ties} near ties");
}

#[test]
fn a_cached_answer_is_that_of_a_fresh_process_default_model() {
    if let Some(subject) = default_subject() {
        walk_and_report("default model", subject, 12);
    }
}

#[test]
fn a_cached_answer_is_that_of_a_fresh_process_tiny_models() {
    for name in TINY {
        walk_and_report(name, &Subject::load(&tiny(name), FLOAT_NOISE), 40);
    }
}

#[test]
fn reading_ahead_changes_nothing_and_saves_reading() {
    for name in TINY {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let said = [user("Good morning"), Message::new(Role::Assistant, "Hello there")];
        let file = Attachment::new("fire.txt", "The fire is low.\n".repeat(8));
        for files in [vec![], vec![file]] {
            let next = |text: &str| user(text).with_files(files.clone());
            let mut ahead = subject.engine();
            ahead.prepare(&turn(&said, 10), &next(""), &|| false).unwrap();
            let asked = turn(&[&said[..], &[next("How are you?")]].concat(), 10);
            let counts = ahead.count(&asked).unwrap();
            let (least, most) = if files.is_empty() { (10, 60) } else { (100, counts.prompt) };
            let read = counts.cached;
            assert!(
                (least..most).contains(&read),
                "{name}: {read} of {} tokens were read ahead",
                counts.prompt
            );
            let ours = answer(&mut ahead, &asked);
            let fresh = answer(&mut subject.engine(), &asked);
            assert_eq!(ours.text, fresh.text, "{name}");
        }
    }
}

/// The default model's answer at temperature 0 in at most 24 tokens.
const GOLDEN: [(&str, &str); 3] = [
    ("What is 2+2?", "The answer to this classic math problem is 4."),
    (
        "Name three primary colours.",
        "The primary colours are:\n\nRed is the most fundamental colour and is often associated with fire and blood.\nBlue",
    ),
    (
        "Write one sentence about the sea.",
        "The sea is a vast and mysterious realm, teeming with life and unending in its own way, a testament to the",
    ),
];

#[test]
#[allow(clippy::print_stdout)] // near ties are a result
fn golden_answers_of_the_default_model() {
    let Some(subject) = default_subject() else { return };
    for (question, expected) in GOLDEN {
        let asked = turn(&[user(question)], 24);
        let mut engine = subject.engine();
        let prompt = engine.prompt(&asked).unwrap().tokens.len();
        let ours = answer(&mut engine, &asked);
        if ours.text == expected {
            continue;
        }
        // Another processor has other kernels: where do the answers part, and by how little?
        let model = subject.model();
        let text = |n: usize| -> Vec<u8> {
            ours.tokens[prompt..n].iter().flat_map(|t| model.piece(*t, false)).collect()
        };
        let same =
            (prompt..ours.tokens.len()).take_while(|n| expected.as_bytes().starts_with(&text(n + 1))).count();
        let margin = subject.margin(&ours.tokens[..prompt + same]);
        assert!(margin < subject.noise, "{question:?} gave {:?} at a margin of {margin}", ours.text);
        println!("{question:?}: a near tie, {:?}", ours.text);
    }
}
