//! The paths that every turn, or every token, goes through, by themselves: `cargo bench --bench hot`, after `make model`.
//!
//! Of the default model, whose vocabulary has 49,152 tokens. Steps of a turn are measured on a conversation of 100 messages or
//! on a prompt of 3,000 tokens; steps of a token, on one.

use std::path::Path;
use std::sync::LazyLock;

use divan::{Bencher, black_box};
use fireside::chat::Role;
use fireside::chat::settings::{Sampling, Settings, Theme};
use fireside::engine::cache::Cache;
use fireside::engine::costs::Costs;
use fireside::engine::draft::{Drafter, Lookup};
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::Model;
use fireside::engine::prompt::encode::Encoder;
use fireside::engine::prompt::markers::{GuardedPrompt, Markers, Texts};
use fireside::engine::prompt::template::{Template, Turn};
use fireside::engine::stream::stops::Stops;
use fireside::engine::stream::utf8::Detokenizer;
use fireside::engine::token::Token;
use fireside::gguf;
use fireside::ui::live::Live;
use fireside::ui::markdown::Look;

const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
/// Tokens of a long prompt, and how many of them are in memory.
const PROMPT: usize = 3000;
const IN_MEMORY: usize = 1024;

static WEIGHTS: LazyLock<Weights> = LazyLock::new(|| {
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions::new(&Settings::default(), Parts::InTurn);
    Weights::load(Path::new(MODEL), &options, |_| true).expect("make model fetches it")
});

fn main() {
    divan::main();
}

fn model() -> Llama<'static> {
    let context = ContextOptions::new(&Settings::default(), 4096, 512, 2);
    Llama::new(&WEIGHTS, context)
}

fn template() -> Template {
    let header = gguf::read(Path::new(MODEL)).expect("make model fetches it");
    let source = header.str("tokenizer.chat_template").expect("it has one");
    Template::new(source, "<|im_start|>", "<|im_end|>", &[]).expect("it compiles")
}

/// Questions of 20 words and answers of 80.
fn conversation() -> Vec<Turn> {
    let words = |from: usize, count: usize| -> String {
        (from..from + count).map(|n| format!("word{} ", n * 7919 % 1000)).collect()
    };
    let message = |n: usize| match n % 2 {
        0 => Turn::new(Role::User, words(n, 20)),
        _ => Turn::new(Role::Assistant, words(n, 80)),
    };
    (0..99).map(message).collect()
}

/// Text that goes on in ever other ways.
fn tokens(count: usize) -> Vec<Token> {
    let text: String = (0..count).map(|n| format!(" house {} of {}", n * 7919 % 1000, n % 13)).collect();
    let mut tokens = model().tokenize(&text, false);
    tokens.truncate(count);
    tokens
}

#[divan::bench]
fn template_compile(bencher: Bencher) {
    bencher.bench_local(template);
}

#[divan::bench]
fn template_render_100_messages(bencher: Bencher) {
    let (template, turns) = (template(), conversation());
    bencher.bench_local(|| template.render(black_box(&turns), true).expect("it renders"));
}

#[divan::bench]
fn tokenise_100_messages_at_once(bencher: Bencher) {
    let (model, text) = (model(), template().render(&conversation(), true).expect("it renders").text);
    bencher.bench_local(|| model.tokenize(black_box(&text), true));
}

/// As the engine does it: what was tokenised a turn ago is remembered.
#[divan::bench]
fn tokenise_100_messages_again(bencher: Bencher) {
    let (model, text) = (model(), template().render(&conversation(), true).expect("it renders").text);
    let markers = model.vocabulary().markers.iter().filter(|marker| marker.control);
    let mut places: Vec<_> = markers
        .flat_map(|marker| text.match_indices(&marker.text).map(|(at, found)| at..at + found.len()))
        .collect();
    places.sort_by_key(|place| place.start);
    let prompt = GuardedPrompt { text, cuts: Vec::new(), markers: places };
    let encoder = Encoder::new(model.vocabulary()).expect("its markers are sound");
    bencher.bench_local(|| encoder.encode(&model, black_box(&prompt)));
}

/// Rendering, and finding out who wrote each marker.
#[divan::bench]
fn guard_100_messages(bencher: Bencher) {
    let (model, template, turns) = (model(), template(), conversation());
    let markers = Markers::new(model.vocabulary(), |_| false).expect("its markers are sound");
    let words = template.constants();
    let contents = turns.iter().map(|turn| turn.content.as_str()).collect();
    let texts = Texts { contents, source: template.source(), words: &words };
    bencher.bench_local(|| {
        markers.guard(black_box(&texts), |transform| {
            let transformed = turns.iter().map(|turn| Turn::new(turn.role.clone(), transform(&turn.content)));
            let turns: Vec<Turn> = transformed.collect();
            anyhow::Ok((template.render(&turns, true)?.text, ()))
        })
    });
}

#[divan::bench]
fn cache_match_1024_tokens(bencher: Bencher) {
    let (mut model, mut cache, prompt) = (model(), Cache::default(), tokens(PROMPT));
    cache.reuse(&mut model, &prompt[..IN_MEMORY]).expect("there is room");
    let read = cache.read(&mut model, &prompt[..IN_MEMORY], &|| false, &mut |_| {});
    assert!(read.expect("it evaluates").is_continue());
    bencher.bench_local(|| {
        let same = cache.kept(&model, black_box(&prompt));
        assert_eq!(same, IN_MEMORY);
    });
}

#[divan::bench]
fn detokenise_a_token(bencher: Bencher) {
    let (model, tokens) = (model(), tokens(1000));
    let mut stops = Stops::new(&["\n\nUser:".into(), "###".into()]);
    let (mut characters, mut at) = (Detokenizer::default(), 0);
    bencher.bench_local(|| {
        at = (at + 1) % tokens.len();
        stops.push(&characters.push(&model.piece(tokens[at], false)))
    });
}

#[divan::bench]
fn sampler_set_up_with_a_long_prompt(bencher: Bencher) {
    let (model, prompt) = (model(), tokens(PROMPT));
    let sampling = Sampling { repeat_penalty: 1.1, ..Sampling::default() };
    bencher.bench_local(|| {
        let mut sampler = model.sampler(black_box(&sampling), 1).expect("the settings are good");
        sampler.see(&prompt);
        sampler
    });
}

#[divan::bench]
fn sample_a_token(bencher: Bencher) {
    let mut sampler = model().sampler(&Sampling::default(), 1).expect("the settings are good");
    let logits: Vec<f32> =
        (0..49_152u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 20) as f32 / 256.0).collect();
    bencher.bench_local(|| sampler.pick(black_box(&logits)).expect("they are numbers"));
}

#[divan::bench]
fn look_up_a_long_prompt(bencher: Bencher) {
    let text = tokens(PROMPT);
    let (next, before) = text.split_last().expect("there are tokens");
    let costs = Costs::default();
    bencher.bench_local(|| Lookup::default().draft(black_box(before), *next, &[], 32, &costs));
}

/// In a text that copies itself, so that every token brings a draft.
#[divan::bench]
fn look_up_a_token(bencher: Bencher) {
    let once = tokens(300);
    let text: Vec<Token> = once.iter().copied().cycle().take(1 << 20).collect();
    let costs = Costs::read(&[(512, 3, 2.7), (512, 17, 8.0), (2048, 17, 9.0)]);
    let (mut lookup, mut at) = (Lookup::default(), 600);
    bencher.bench_local(|| {
        at += 1;
        lookup.draft(black_box(&text[..at]), text[at], &[], 64, &costs)
    });
}

/// Of the first answer, which has prose, lists and code; all of it is drawn on 80 columns and 24 rows.
#[divan::bench]
fn render_a_token_of_markdown(bencher: Bencher) {
    let model = model();
    let answer = include_str!("../tests/markdown/answers.md").split("=====\n").next().expect("there is one");
    let tokens = model.tokenize(answer, false);
    let pieces: Vec<String> = tokens
        .iter()
        .map(|token| String::from_utf8_lossy(&model.piece(*token, false)).into_owned())
        .collect();
    let begin = || Live::new(Look { theme: Theme::Dark, styled: true }, 80, true, "");
    let (mut live, mut at) = (begin(), 0);
    bencher.bench_local(|| {
        at += 1;
        if at == pieces.len() {
            (live, at) = (begin(), 0);
        }
        live.push(&pieces[at], 80, 24)
    });
}
