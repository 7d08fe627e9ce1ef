//! Probabilities: those of a plain llama.cpp loop, whatever was drafted, cached, truncated or left out.

use std::sync::atomic::AtomicBool;

use fireside::chat::probability::TokenProbability;
use fireside::chat::{Choice, Event, Request, Stats, StopReason, Task};
use fireside::engine::Engine;
use fireside::engine::llama::Llama;
use fireside::engine::model::{Logits, Model};
use fireside::engine::token::Token;

use crate::support::engine::{FLOAT_NOISE, Subject, TINY, turn, user};
use crate::support::pty::*;
use crate::support::{Home, default_model, repository, tiny, transcripts};

/// Rows of logits of one batch.
const ROWS: usize = 32;

/// The natural logarithms of the probabilities after each of these tokens.
fn plain(subject: &Subject, tokens: &[Token]) -> Vec<Vec<f64>> {
    let mut model = subject.model();
    model.grow(tokens.len() + 1).unwrap();
    let mut found = Vec::new();
    for chunk in tokens.chunks(ROWS) {
        model.append(0, chunk, Logits::All).unwrap();
        for row in 0..chunk.len() {
            let logits = model.logits(row);
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
            found.push(logits.iter().map(|logit| f64::from(logit - most) - sum.ln()).collect());
        }
    }
    found
}

fn ask(engine: &mut Engine<Llama>, request: &Request) -> (Vec<Event>, Stats) {
    let mut events = Vec::new();
    let stats = engine.reply(request, &AtomicBool::new(false), &mut |event| events.push(event)).unwrap();
    (events, stats)
}

fn told(events: Vec<Event>) -> Vec<TokenProbability> {
    let token = |event| if let Event::Token(token) = event { Some(*token) } else { None };
    events.into_iter().filter_map(token).collect()
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < f64::from(2.0 * FLOAT_NOISE) || (one < -60.0 && other < -60.0)
}

#[test]
fn the_probabilities_of_an_answer_are_those_of_the_model() {
    for name in TINY {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let mut engine = subject.engine();
        // Repetition makes drafts; the second question finds the first in the cache.
        for (place, (text, temp, top_k, draft)) in [
            ("one two one two one two one two", 0.0, 40, true),
            ("one two one two one two one two", 0.7, 5, true),
            ("one two one two one two one two three", 1.3, 0, false),
        ]
        .into_iter()
        .enumerate()
        {
            let mut request = turn(&[user(text)], 24);
            request.generation.logprobs = Some(3);
            request.generation.speculative = draft;
            let sampling = &mut request.generation.sampling;
            (sampling.temp, sampling.top_k) = (temp, top_k);
            if top_k == 0 {
                (sampling.top_p, sampling.min_p) = (1.0, 0.0); // the temperature alone
            }
            let prompt = engine.prompt(&request).unwrap().tokens;
            let (events, stats) = ask(&mut engine, &request);
            let told = told(events);
            let ended = usize::from(stats.stop == StopReason::End);
            assert_eq!(told.len(), stats.generated_tokens.unwrap() + ended, "{name}, question {place}");
            let answer: Vec<Token> = told.iter().map(|token| token.chosen.token.unwrap()).collect();
            let model = plain(&subject, &[&prompt[..], &answer].concat());
            for (at, token) in told.iter().enumerate() {
                let expected = &model[prompt.len() - 1 + at];
                let logprob = expected[answer[at] as usize];
                assert!(close(token.chosen.logprob, logprob), "{name} {place} {at}: {token:?}, {logprob}");
                assert_eq!(token.others.len(), 3);
                for other in &token.others {
                    let logprob = expected[other.token.unwrap() as usize];
                    assert!(close(other.logprob, logprob), "{name}: {other:?} and {logprob}");
                }
                let (drawn, others) = token.drawn.as_ref().unwrap();
                match (temp, top_k) {
                    (0.0, _) => assert_eq!((*drawn, others.len()), (0.0, 0), "nothing else could be drawn"),
                    (_, 0) => {
                        let flatter: Vec<f64> =
                            expected.iter().map(|logprob| logprob / f64::from(temp)).collect();
                        let sum: f64 = flatter.iter().map(|logprob| logprob.exp()).sum();
                        assert!(close(*drawn, flatter[answer[at] as usize] - sum.ln()), "{name}: {token:?}");
                    }
                    _ => assert!(*drawn <= 0.0 && others.len() <= 3 && *drawn > f64::NEG_INFINITY),
                }
            }
        }
    }
}

fn to_choose(question: &str, texts: &[String]) -> Request {
    Request { task: Task::Choose(texts.to_vec()), ..turn(&[user(question)], 9) }
}

fn choices(engine: &mut Engine<Llama>, request: &Request) -> Vec<Choice> {
    let (events, stats) = ask(engine, request);
    assert_eq!(stats.stop, StopReason::Choice);
    let found = events.into_iter().find_map(|event| match event {
        Event::Choices(choices) => Some(choices),
        _ => None,
    });
    found.unwrap()
}

/// Checks that a choice is as likely as its tokens and then any end of the model's own in a plain loop.
#[track_caller]
fn check(name: &str, subject: &Subject, request: &Request, Choice { text, logprob, .. }: &Choice) {
    let (engine, bare) = (subject.engine(), subject.model());
    let prompt = engine.prompt(request).unwrap().tokens;
    let answer_prefix = text.clone();
    let whole = engine.prompt(&Request { answer_prefix, ..request.clone() }).unwrap().tokens;
    assert!(whole.starts_with(&prompt), "{name}: {text}");
    let model = plain(subject, &whole);
    let of_tokens: f64 = (prompt.len()..whole.len()).map(|at| model[at - 1][whole[at] as usize]).sum();
    let ends = (0..bare.vocabulary().len).filter(|token| bare.ends(*token as Token));
    let end: f64 = ends.map(|token| model[whole.len() - 1][token].exp()).sum();
    let expected = of_tokens + end.ln();
    let noise = f64::from(FLOAT_NOISE) * (2 + whole.len() - prompt.len()) as f64;
    // A template may have an end of its own besides those of the model.
    assert!(*logprob >= expected - noise, "{name}: {text}: {logprob}, {expected}");
    let exact = (logprob - expected).abs() < noise;
    assert!(name != "llama-bpe" || exact, "{text}: {logprob}, {expected}");
}

#[test]
fn a_choice_is_as_likely_as_its_tokens_and_the_end_together() {
    let texts =
        ["yes", "yes, it is", "no", "nobody knows", "y", "maybe so, or so it may be", "x"].map(String::from);
    let long = "a long walk by the sea, and so it is ".repeat(12); // more than the sliding window of gemma3
    for name in TINY {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let mut engine = subject.engine();
        for question in ["Is it so?", &long] {
            let request = to_choose(question, &texts);
            choices(&mut engine, &request).iter().for_each(|one| check(name, &subject, &request, one));
            // The memory is as good as before.
            let plain_turn = turn(&[user(question)], 8);
            let after = crate::support::engine::answer(&mut engine, &plain_turn);
            let fresh = crate::support::engine::answer(&mut subject.engine(), &plain_turn);
            crate::prompt_cache::assert_same(&subject, &after, &fresh, name);
        }
    }
}

#[test]
fn many_choices_are_as_likely_in_any_context() {
    let words = ["so", "it", "is", "a walk", "the sea"];
    let texts: Vec<String> =
        (0..100).map(|n| format!("{} {} {}", words[n % 5], words[n / 5 % 5], words[n / 25])).collect();
    for (name, limit) in [("llama-bpe", 4096), ("llama-bpe", 128), ("gemma3", 128)] {
        let mut subject = Subject::load(&tiny(name), FLOAT_NOISE);
        subject.limit = limit;
        let request = to_choose("Is it so?", &texts);
        for one in choices(&mut subject.engine(), &request).iter().step_by(9) {
            check(name, &subject, &request, one);
        }
    }
}

#[test]
fn the_object_has_bytes_and_the_end() {
    let home = Home::new();
    let args = ["-p", "Hi", "-n", "6", "--temp", "0", "--json", "--logprobs", "2"];
    let object = home.run(&args).model(&tiny("llama-bpe")).done().code(0).json();
    let tokens = object["logprobs"].as_array().unwrap();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert!(String::from_utf8_lossy(&bytes).starts_with(object["text"].as_str().unwrap()), "{object}");
    for token in tokens {
        assert_eq!(token["others"].as_array().unwrap().len(), 2);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["token"].is_u64());
        assert_eq!(token["after_samplers"]["logprob"], 0.0);
    }
    let stream = ["-p", "Hi", "-n", "6", "--temp", "0", "--json-stream", "--logprobs", "2"];
    let stream = home.run(&stream).model(&tiny("llama-bpe")).done().code(0).stdout;
    let told = stream.lines().filter(|line| line.starts_with(r#"{"event":"token","#));
    let entry = |line: &str| line.replacen(r#""event":"token","#, "", 1);
    let told: Vec<serde_json::Value> = told.map(|line| serde_json::from_str(&entry(line)).unwrap()).collect(); // it rounds the last digit
    assert_eq!(&told, tokens, "{stream}");
    let plain = home.run(&args[..7]).model(&tiny("llama-bpe")).done().code(0).json();
    assert!(plain.get("logprobs").is_none());
}

#[test]
fn a_score_is_the_sum_over_the_second_half_of_each_chunk() {
    let home = Home::new();
    let text = "the fire is low and the evening is long, and nobody minds. ".repeat(20);
    home.write("a.txt", format!("{text}\n"));
    let score = |args: &[&str]| {
        home.run(&[&["score", "a.txt", "--json"], args].concat())
            .model(&tiny("llama-bpe"))
            .done()
            .code(0)
            .json()
    };
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let vocabulary = subject.model().vocabulary().clone();
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    let mut tokens: Vec<Token> = bos.into_iter().collect();
    tokens.extend(subject.model().tokenize(&text, false));
    let (chunk, most) = (64, 3);
    let (mut sum, mut counted) = (0.0, 0);
    for piece in tokens.chunks_exact(chunk).take(most) {
        let mut piece = piece.to_vec();
        piece[0] = bos.unwrap_or(piece[0]);
        let model = plain(&subject, &piece);
        (chunk / 2 + 1..chunk).for_each(|at| sum += model[at - 1][piece[at] as usize]);
        counted += chunk - chunk / 2 - 1;
    }
    let object = score(&["-c", "64", "--chunks", "3"]);
    assert_eq!((&object["counted"], &object["chunks"]), (&counted.into(), &most.into()));
    let perplexity = object["perplexity"].as_f64().unwrap();
    let expected = (-sum / counted as f64).exp();
    assert!((perplexity / expected - 1.0).abs() < 0.01, "{perplexity} {expected}");
    assert!(
        object["tokens"].as_u64().unwrap() as usize == tokens.len() && object["perplexity_error"].is_number()
    );
    let whole = score(&["--logprobs", "1"]);
    let listed = whole["logprobs"].as_array().unwrap();
    assert_eq!(
        (listed.len() as u64, &whole["chunks"]),
        (whole["counted"].as_u64().unwrap(), &serde_json::Value::Null)
    );
    let sum: f64 = listed.iter().map(|token| token["logprob"].as_f64().unwrap()).sum();
    assert!((sum - whole["logprob"].as_f64().unwrap()).abs() < 1e-9);
}

#[test]
fn a_text_is_scored_from_stdin_after_a_prompt_and_in_words() {
    let home = Home::new();
    home.write("a.txt", "yes it is\n");
    let run = |args: &[&str]| home.run(&[&["score"], args].concat()).model(&tiny("llama-bpe"));
    let said = run(&["a.txt"]).done().code(0);
    assert_eq!(run(&["-"]).stdin("yes it is\n").done().code(0).stdout, said.stdout);
    assert!(said.stdout.starts_with("perplexity ") && said.stdout.contains(" bits\n"), "{said:#?}");
    let after = run(&["a.txt", "-p", "Is it?", "--json"]).done().code(0).json();
    let raw = run(&["a.txt", "-p", "Is it?", "--raw", "--json"]).done().code(0).json();
    assert_ne!(after["logprob"], raw["logprob"]);
    let lines = run(&["a.txt", "--logprobs", "2"]).done().code(0).stdout;
    assert!(lines.lines().count() > 3 && lines.contains(" %  \""), "{lines}");
    run(&["-"]).stdin("").done().failed(2, "the text is empty");
    run(&["nosuch.txt"]).done().failed(1, "nosuch.txt");
    run(&["a.txt", "--raw"]).done().failed(2, "--prompt");
    run(&["a.txt", "--chunks", "0"]).done().failed(2, "0");
}

#[test]
fn why_tells_each_token_of_the_last_answer() {
    let home = Home::new();
    let args = ["--repl-stdin", "-q", "--temp", "0", "-n", "5", "--seed", "1"];
    let chat = |lines: &str| home.run(&args).stdin(lines).model(&tiny("llama-bpe")).done().code(0);
    chat("/why\n").says("there is no answer yet");
    let done = chat("Hi\n/why\n");
    assert_eq!(done.stderr.lines().filter(|line| line.contains(" %  \"")).count(), 5, "{done:#?}");
    home.scripted("Yes.\n", &args).stdin("Hi\n/why\n").done().code(0).says("tells no probabilities");
}

#[test]
fn unlikely_tokens_have_colours_on_a_terminal_and_lines_without() {
    let Some(model) = default_model() else { return };
    let model = model.to_str().unwrap();
    let args = ["-m", model, "--temp", "0", "-n", "12", "--seed", "1", "--no-prompt-cache"];
    let home = Home::new();
    let mut terminal = home.terminal_as(&Setup::default(), &args);
    terminal.at_prompt().line("Name a fruit.").sees(" tokens/s, ").at_prompt().line("/why");
    terminal.sees("red: below 5 %, yellow: below 20 %, cyan: below 50 %").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    drop(terminal); // one terminal at a time
    let plain = [&args[..], &["--plain"]].concat();
    let mut terminal = home.terminal_as(&Setup::default(), &plain);
    terminal.at_prompt().line("Name a fruit.").sees(" tokens/s, ").at_prompt().line("/why");
    terminal.sees(" %  \"").at_prompt();
    assert!(!terminal.screen().contains("below 5 %"));
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn the_transcripts_of_the_docs_are_true() {
    let Some(model) = default_model() else { return };
    assert_eq!(transcripts::check("docs/scripting.md", "## Choices", &model, 0.0), 2);
    assert_eq!(transcripts::check("docs/scripting.md", "## Scoring a text", &model, 0.2), 3);
    let args = ["-p", "What is the capital of France?", "--choices", "London,Paris,Rome", "--json"];
    let told = Home::new().run(&args).model(&model).done().code(0).json();
    let page = std::fs::read_to_string(repository().join("docs/scripting.md")).unwrap();
    let shown = page.lines().filter(|line| line.starts_with(r#"{"text":"#) && line.contains("probability"));
    let shown: Vec<serde_json::Value> = shown.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(shown.len(), told["choices"].as_array().unwrap().len());
    for (shown, told) in shown.iter().zip(told["choices"].as_array().unwrap()) {
        let apart = shown["logprob"].as_f64().unwrap() - told["logprob"].as_f64().unwrap();
        assert!(shown["text"] == told["text"] && apart.abs() < 2.0, "{shown} {told}");
    }
}
