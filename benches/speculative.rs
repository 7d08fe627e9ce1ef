//! What speculative decoding gains: tokens a second with it and without, on texts that are copied, edited and freely written, the
//! edits also after 2,000 other tokens.
//!
//! `cargo bench --bench speculative [-- MODEL.gguf [THREADS [ROUNDS]]]`. The runs with and without alternate, so that whatever else
//! the machine does slows both. First comes what a batch costs: the shortest of nine times, by its size and by how much is in
//! memory before it. The bound is what a drafter could gain at these costs that knew the answer. Where the answers at temperature 0
//! part, it says how far apart the two best logits are there, evaluated one token at a time and two at a time, and how much that
//! distance changes between the two over the whole answer: kernels of llama.cpp give other numbers for one token than for several.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use fireside::chat::settings::Settings;
use fireside::chat::{Event, Message, Request, Role, Stats};
use fireside::engine::Engine;
use fireside::engine::costs::{Costs, SIZES};
use fireside::engine::draft::MOST_ON_CPU;
use fireside::engine::llama::{self, ContextOptions, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model};
use fireside::engine::token::Token;
use fireside::gguf;

const MODEL: &str = "models/SmolLM2-135M-Instruct.Q4_1.gguf";
const BATCH: usize = 512;
const DEPTHS: [usize; 3] = [16, 512, 2048];
/// The tasks of benches/rivals.
const DEEP: [&str; 3] = ["repeat", "typos", "rename four times"];

/// [`DEEP`], and some more.
const LETTER: &str = "Dear Ms Albright, thank you for your letter of the third of March. The parcel that we sent you on the first of \
    February has come back to us, because nobody was at home when it was delivered. We have looked at the address \
    again and found that the number of the house was wrong. The parcel will be sent again on Monday, and you will \
    not be asked to pay for it. If it has not arrived by the end of the week, please call us or write to us, and \
    we will look into it at once. With kind regards, Edward Marsh, Customer Service, Northern Lamp Company.";
const CODE: &str = "def total(values, limit):\n    result = 0\n    for value in values:\n        if value > limit:\n            \
    continue\n        result += value\n    return result\n\n\ndef mean(values, limit):\n    result = total(values, limit)\n    \
    count = 0\n    for value in values:\n        if value <= limit:\n            count += 1\n    if count == 0:\n        \
    return None\n    result = result / count\n    return result\n\n\nprint(total([1, 2, 3, 40], 10))\nprint(mean([1, 2, 3, 40], 10))\n";

fn tasks() -> [(&'static str, String); 8] {
    let misspelt =
        [("parcel", "parsel"), ("delivered", "deliverd"), ("address", "adress"), ("arrived", "arived")];
    let typos = misspelt.iter().fold(LETTER.to_string(), |text, (right, wrong)| text.replace(right, wrong));
    let function = |name| {
        format!(
            "def total_{name}(values, limit):\n    result = 0\n    for value in values:\n        if value > limit:\n            \
            result = result + value\n    return result\n"
        )
    };
    let functions = ["lamps", "houses", "rooms", "guests"].map(function).join("\n");
    let rename = "Rename the variable result to sum in this code and write nothing else:";
    [
        ("repeat", format!("Repeat this text, word by word:\n\n{LETTER}")),
        ("typos", format!("Fix the typos in this text and write nothing else:\n\n{typos}")),
        ("rename", format!("Rename the variable result to amount in this code:\n\n```python\n{CODE}```")),
        ("rename four times", format!("{rename}\n\n{functions}")),
        ("the same without its last line end", format!("{rename}\n\n{}", functions.trim_end())),
        ("poem", "Write a poem about a lighthouse.".into()),
        ("explain", "Explain the difference between TCP and UDP.".into()),
        ("story", "Tell me a story about a dragon who was afraid of fire.".into()),
    ]
}

/// About 2,000 tokens, as in benches/rivals.
fn document() -> String {
    let names = ["Anna", "Bertrand", "Chloe", "David"];
    let line = |i: usize| {
        let (room, price, name) = (i * 7 % 60, 100 + i, names[i % 4]);
        format!("Entry {i}: the lamp in room {room} costs {price} euros, and {name} likes it.\n")
    };
    (0..76).map(line).collect()
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let path = args.next().unwrap_or_else(|| MODEL.into());
    let threads = args.next().map_or(2, |arg| arg.parse().expect("THREADS is a number"));
    let rounds: usize = args.next().map_or(9, |arg| arg.parse().expect("ROUNDS is a number"));
    // SAFETY: there is only one thread yet.
    unsafe { llama::prepare() };
    llama::install(Hooks { log: None, abort: |_| {} });
    let options = LoadOptions::new(&Settings::default(), Parts::InTurn);
    let weights = Weights::load(Path::new(&path), &options, |_| true).expect("it is a model");
    let context = ContextOptions::new(&Settings::default(), 4096, BATCH, threads);
    let measured = ContextOptions { outputs: ContextOptions::OUTPUTS_ON_GPU, ..context.clone() };
    let costs = batches(Llama::new(&weights, measured));
    let header = gguf::read(Path::new(&path)).expect("it was loaded");
    let template = header.str("tokenizer.chat_template");
    let mut engine =
        Engine::new(Llama::new(&weights, context.clone()), template, &[]).expect("its template is good");
    let nobody = AtomicBool::new(false);
    let ask = |engine: &mut Engine<Llama>, text: &str, temp: f32, draft: bool| -> Answer {
        let mut answer = String::new();
        let turn = turn(text, temp, draft);
        let mut show = |event| {
            if let Event::Text(piece) = event {
                answer.push_str(&piece);
            }
        };
        let stats = engine.reply(&turn, &nobody, &mut show).expect("it answers");
        let prompt = engine.prompt(&turn).expect("it was rendered before").tokens.len();
        Answer { stats, text: answer, tokens: engine.evaluated().to_vec(), prompt }
    };
    let deep = |(name, text)| (format!("{name} after 2,000 tokens"), format!("{}\n{text}", document()), 0.0);
    let short = |(name, text): (&str, String)| [0.0, 0.8].map(|temp| (name.to_string(), text.clone(), temp));
    let all = tasks()
        .into_iter()
        .flat_map(short)
        .chain(tasks().into_iter().filter(|(name, _)| DEEP.contains(name)).map(deep));
    for (name, text, temp) in all {
        let mut gains = Vec::new();
        let mut last = None;
        for _ in 0..=rounds {
            let without = ask(&mut engine, &text, temp, false);
            let with = ask(&mut engine, &text, temp, true);
            let speed = |answer: &Answer| answer.stats.generation_speed().unwrap_or(f64::NAN);
            gains.push(speed(&with) / speed(&without));
            last = Some((with, without));
        }
        gains.remove(0); // in the first round costs are learnt
        gains.sort_by(f64::total_cmp);
        let (with, without) = last.expect("there is a round");
        if temp == 0.0 && with.text != without.text {
            parting(Llama::new(&weights, context.clone()), &with, &without);
        }
        let bound = bound(&with.tokens, with.prompt, &costs);
        let with = with.stats;
        let drafts = with.drafts.expect("the engine counts them");
        println!(
            "{name}, temperature {temp}: bound {bound:.2}, gain {:.2} ({:.2} to {:.2}), {} tokens, {} of {} draft tokens accepted, {:.2} a step",
            gains[rounds / 2],
            gains[0],
            gains[rounds - 1],
            with.generated_tokens.unwrap_or(0),
            drafts.accepted,
            drafts.drafted,
            with.tokens_a_step().unwrap_or(1.0),
        );
    }
    println!("learnt (depth below, size, cost): {:.1?}", engine.costs().list());
}

struct Answer {
    stats: Stats,
    text: String,
    /// Prompt and answer.
    tokens: Vec<Token>,
    /// Tokens of the prompt.
    prompt: usize,
}

/// What looking up could gain at most, were it known at every token which earlier place the answer follows and how far: as a
/// multiple of the speed without draft tokens, by what batches cost.
fn bound(tokens: &[Token], prompt: usize, costs: &Costs) -> f64 {
    let followed = |at: usize| {
        let run = |from: usize| tokens[from..].iter().zip(&tokens[at..]).take_while(|(a, b)| a == b).count();
        (0..at).map(run).max().unwrap_or(0)
    };
    let mut cheapest = vec![0.0; tokens.len() + MOST_ON_CPU + 2]; // of writing the answer from each token on
    for at in (prompt..tokens.len()).rev() {
        // A step evaluates one token, whose successor is then known, and a draft of which each token brings another one.
        let right = followed(at + 1).min(MOST_ON_CPU);
        let ways = (0..=right).map(|draft| costs.of(draft + 1, at) + cheapest[at + draft + 1]);
        cheapest[at] = ways.fold(f64::INFINITY, f64::min);
    }
    (tokens.len() - prompt) as f64 / cheapest[prompt]
}

/// How near a tie two answers parted, and how much kernels disagree on the one without draft tokens.
fn parting(mut model: Llama, with: &Answer, without: &Answer) {
    let same = with.tokens.iter().zip(&without.tokens).take_while(|(a, b)| a == b).count();
    let (prompt, answer) = without.tokens.split_at(without.prompt);
    model.grow(4096).expect("there is room");
    let mut best = Vec::new(); // of every token of the answer when evaluated alone: the two best after it
    let mut changes = Vec::new();
    for size in [1, 2] {
        model.truncate(0, 0);
        for batch in prompt.chunks(BATCH) {
            model.append(0, batch, Logits::None).expect("it evaluates");
        }
        for (number, batch) in answer.chunks(size).enumerate() {
            model.append(0, batch, Logits::All).expect("it evaluates");
            for row in 0..batch.len() {
                let (at, logits) = (number * size + row, model.logits(row));
                if size == 1 {
                    best.push(two_best(logits));
                    continue;
                }
                let (first, second, alone) = best[at];
                let pair = logits[first] - logits[second];
                changes.push((alone - pair).abs());
                if without.prompt + at + 1 == same {
                    println!(
                        "parted at token {}: the two best are {alone:.3} apart alone, {pair:.3} in a batch of two",
                        at + 2
                    );
                }
            }
        }
    }
    changes.sort_by(f32::total_cmp);
    let part = |share: f64| changes[((changes.len() - 1) as f64 * share) as usize];
    println!(
        "over the answer that distance changes by {:.3} in the middle, {:.3} at nine tenths, {:.3} at most",
        part(0.5),
        part(0.9),
        part(1.0)
    );
}

/// The tokens with the best and the second best logit, and the distance of the two.
fn two_best(logits: &[f32]) -> (usize, usize, f32) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.select_nth_unstable_by(1, |a, b| logits[*b].total_cmp(&logits[*a]));
    let (first, second) = (order[0], order[1]);
    (first, second, logits[first] - logits[second])
}

fn turn(text: &str, temp: f32, draft: bool) -> Request {
    let mut settings = Settings { no_speculative: !draft, ..Settings::default() };
    settings.sampling.temp = temp;
    let mut request = Request::new([Message::new(Role::User, text)], &settings);
    (request.generation.seed, request.generation.max_tokens) = (7, 400);
    request
}

/// Times batches at each depth.
fn batches(mut model: Llama) -> Costs {
    let mut costs = Costs::default();
    model.grow(4096).expect("there is room");
    let tokens: Vec<Token> =
        model.tokenize(&"The quick brown fox jumps over the lazy dog. ".repeat(500), false);
    for depth in DEPTHS {
        while model.len(0) < depth {
            let more = (depth - model.len(0)).min(512);
            model.append(0, &tokens[model.len(0)..][..more], Logits::None).expect("it evaluates");
        }
        let mut best = [(f64::INFINITY, f64::INFINITY); SIZES.len()];
        for _ in 0..9 {
            for (size, best) in SIZES.iter().zip(&mut best) {
                let mut time = || {
                    let started = Instant::now();
                    model.append(0, &tokens[depth..][..*size], Logits::All).expect("it evaluates");
                    let _done = model.logits(size - 1)[0];
                    model.truncate(0, depth);
                    started.elapsed().as_secs_f64() * 1e3
                };
                *best = (best.0.min(time()), best.1.min(time()));
            }
        }
        let shown = SIZES
            .iter()
            .zip(best)
            .map(|(size, (first, again))| format!("{size}: {first:.1}, again {again:.1}"));
        println!("after {depth} tokens, ms a batch: {}", shown.collect::<Vec<_>>().join("; "));
        SIZES.iter().zip(best).for_each(|(size, (_, again))| costs.learn(*size, depth, again));
    }
    costs
}
