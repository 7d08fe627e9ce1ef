//! Batches of rows for llama.cpp: several sequences, cancelled batches, batches over which C++ would end the
//! process, and the memory reserved for logits.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use fireside::chat::settings::Settings;
use fireside::chat::{Event, Message, Request, Role, StopReason};
use fireside::engine::llama::{ContextOptions, Llama};
use fireside::engine::model::{Logits, Model, Row};
use fireside::engine::token::Token;

use crate::prompt_cache::tiny_subjects;
use crate::support::engine::{FLOAT_NOISE, GPU_BUILD, QUANTISED_NOISE, RECURRENT, Subject};
use crate::support::{Home, default_model, tiny};

const TEXT: &str =
    "When the river rose that spring, the ferryman moved his hut up the hill, plank by plank. ";

fn tokens(model: &Llama, count: usize) -> Vec<Token> {
    model.tokenize(&TEXT.repeat(20), false)[..count].to_vec()
}

fn ready<'w>(subject: &'w Subject, options: ContextOptions) -> Llama<'w> {
    let mut model = Llama::new(&subject.weights, options);
    model.grow(512).unwrap();
    model
}

/// After cancelling in mid-batch the memory is as before, and everything continues as if nothing had
/// happened.
#[test]
fn a_batch_cancelled_in_the_middle_leaves_no_trace() {
    let default = default_model().map(|path| ("default", Subject::load(&path, QUANTISED_NOISE)));
    for (name, subject) in tiny_subjects().chain(default) {
        let (mut model, mut undisturbed) =
            (ready(&subject, subject.context()), ready(&subject, subject.context()));
        let tokens = tokens(&model, 240);
        let mut expected = Vec::new();
        for part in [&tokens[..20], &tokens[20..]] {
            undisturbed.append(0, part, Logits::Last).unwrap();
            expected.push(undisturbed.logits(0).to_vec());
        }
        for (part, expected) in [&tokens[..20], &tokens[20..]].into_iter().zip(&expected) {
            let before = model.len(0);
            let batch = Row::run(0, before, part, Logits::Last);
            let asked = AtomicUsize::new(0);
            let in_the_middle = || asked.fetch_add(1, Ordering::Relaxed) == 9;
            assert_eq!(model.decode(&batch, &in_the_middle).unwrap(), ControlFlow::Break(()), "{name}");
            assert_eq!(asked.load(Ordering::Relaxed), 10, "{name}: nothing is done after it");
            assert_eq!(model.len(0), before, "{name}");
            assert!(model.decode(&batch, &|| false).unwrap().is_continue(), "{name}");
            assert!(model.logits(0) == expected, "{name} differs after {before} tokens");
        }
    }
}

/// A memory that cannot be truncated is copied before a batch; a single row is sooner done.
#[test]
fn a_batch_of_two_sequences_cancelled_in_the_middle_leaves_both() {
    for (name, subject) in tiny_subjects().filter(|(name, _)| RECURRENT.contains(name)) {
        let options = ContextOptions { sequences: 2, ..subject.context() };
        let (mut model, mut undisturbed) = (ready(&subject, options.clone()), ready(&subject, options));
        let tokens = tokens(&model, 120);
        let batch = |model: &Llama, tokens: &[Token]| {
            [1, 0].map(|sequence| Row::run(sequence, model.len(sequence), tokens, Logits::Last)).concat()
        };
        for model in [&mut model, &mut undisturbed] {
            model.append(0, &tokens[..30], Logits::Last).unwrap();
            model.append(1, &tokens[..20], Logits::Last).unwrap();
        }
        let both = batch(&model, &tokens[30..90]);
        let asked = AtomicUsize::new(0);
        let in_the_middle = || asked.fetch_add(1, Ordering::Relaxed) == 9;
        assert_eq!(model.decode(&both, &in_the_middle).unwrap(), ControlFlow::Break(()), "{name}");
        assert_eq!((model.len(0), model.len(1)), (30, 20), "{name}");
        for model in [&mut model, &mut undisturbed] {
            assert!(model.decode(&both, &|| false).unwrap().is_continue(), "{name}");
        }
        for row in [0, 1] {
            assert!(model.logits(row) == undisturbed.logits(row), "{name}: row {row}");
        }
        let one = Row::run(0, model.len(0), &tokens[90..91], Logits::Last);
        assert!(model.decode(&one, &|| true).unwrap().is_continue(), "{name}: a single row is finished");
    }
}

/// The same through the engine, wherever in the prompt the other thread cancels.
#[test]
fn an_answer_after_a_cancelled_prompt_is_the_same() {
    let Some(path) = default_model() else { return };
    let subject = Subject::load(&path, QUANTISED_NOISE);
    let settings = Settings { no_speculative: true, ..Settings::default() };
    let said = [Message::new(Role::User, TEXT.repeat(20))];
    let mut request = Request::new(said, &settings);
    (request.generation.seed, request.generation.max_tokens) = (1, 8);
    let answer = |engine: &mut fireside::engine::Engine<Llama>| {
        let mut text = String::new();
        let mut show = |event| {
            if let Event::Text(piece) = event {
                text.push_str(&piece);
            }
        };
        let stats = engine.reply(&request, &AtomicBool::new(false), &mut show).unwrap();
        (text, stats.generated_tokens.unwrap())
    };
    let expected = answer(&mut subject.engine());
    let mut engine = subject.engine();
    let mut longer = request.clone();
    longer.generation.max_tokens = 2000;
    let (cancel, (begun, beginning)) = (AtomicBool::new(false), channel());
    let stats = std::thread::scope(|scope| {
        let cancel = &cancel;
        scope.spawn(move || {
            beginning.recv().unwrap();
            cancel.store(true, Ordering::Relaxed);
        });
        let mut show = |_| _ = begun.send(()); // before the first batch
        engine.reply(&longer, cancel, &mut show).unwrap()
    });
    assert_eq!(stats.stop, StopReason::Interrupted);
    assert_eq!(answer(&mut engine), expected);
}

#[test]
fn sequences_in_one_batch_are_evaluated_as_if_alone() {
    for (name, subject) in tiny_subjects() {
        let options = ContextOptions { sequences: 2, ..subject.context() };
        let mut alone = [ready(&subject, subject.context()), ready(&subject, subject.context())];
        let mut model = ready(&subject, options);
        let tokens = tokens(&model, 60);
        let parts = [&tokens[..20], &tokens[30..37]];
        for (sequence, part) in parts.into_iter().enumerate() {
            alone[sequence].append(0, part, Logits::Last).unwrap();
        }
        let batch = [0, 1].map(|sequence| Row::run(sequence, 0, parts[sequence], Logits::Last)).concat();
        assert!(model.decode(&batch, &|| false).unwrap().is_continue());
        close(&model, &alone, subject.noise, name);
        model.grow(1024).unwrap(); // keeps both sequences
        assert_eq!((model.len(0), model.len(1)), (20, 7), "{name}");
        // One row for each, in the opposite order.
        let rows =
            [1, 0].map(|sequence| Row::run(sequence, model.len(sequence), &tokens[50..51], Logits::All));
        assert!(model.decode(&rows.concat(), &|| false).unwrap().is_continue());
        alone.iter_mut().for_each(|alone| alone.append(0, &tokens[50..51], Logits::All).unwrap());
        alone.swap(0, 1);
        close(&model, &alone, subject.noise, name);
        alone.swap(0, 1);
        // The state of one sequence replaces that of the other; the first is unchanged.
        let state = model.save(1).unwrap();
        model.truncate(0, 0);
        model.restore(0, &state, 8).unwrap();
        let rows = [0, 1].map(|sequence| Row::run(sequence, 8, &tokens[40..42], Logits::Last)).concat();
        assert!(model.decode(&rows, &|| false).unwrap().is_continue());
        alone[1].append(0, &tokens[40..42], Logits::Last).unwrap();
        let expected = alone[1].logits(0);
        for row in [0, 1] {
            near(model.logits(row), expected, subject.noise, name);
        }
    }
}

fn close(model: &Llama, alone: &[Llama; 2], noise: f32, name: &str) {
    for (row, alone) in alone.iter().enumerate() {
        near(model.logits(row), alone.logits(0), noise, name);
    }
}

fn near(ours: &[f32], theirs: &[f32], noise: f32, name: &str) {
    let apart = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(ours.len() == theirs.len() && apart <= noise, "{name}: logits differ by {apart}");
}

/// llama.cpp would end the process over most of these.
#[test]
fn a_batch_that_cannot_be_is_an_error_and_changes_nothing() {
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let options = ContextOptions { batch_size: 64, outputs: 8, ..subject.context() };
    let mut model = ready(&subject, options);
    model.append(0, &[1; 10], Logits::Last).unwrap();
    let most = Row::run(0, 10, &[1; 9], Logits::All);
    let row = Row { sequence: 0, also: 0, position: 10, token: 1, logits: true };
    let wrong: [&[Row]; 8] = [
        &[],
        &Row::run(0, 10, &[1; 65], Logits::Last),
        &most,
        &[Row { sequence: 1, position: 0, ..row }],
        &[Row { position: 9, ..row }],
        &[Row { position: 11, ..row }],
        &[Row { token: -1, ..row }],
        &[row, Row { position: 11, token: model.vocabulary().len as Token, ..row }],
    ];
    for batch in wrong {
        assert!(model.decode(batch, &|| false).is_err(), "{batch:?}");
        assert_eq!(model.len(0), 10);
    }
    assert!(model.decode(&most[..8], &|| false).unwrap().is_continue());
    while model.len(0) + 64 <= model.capacity() {
        model.append(0, &[1; 64], Logits::None).unwrap();
    }
    let full = model.len(0);
    assert!(model.append(0, &[1; 64], Logits::Last).is_err(), "there is no room");
    assert_eq!(model.len(0), full);
}

/// Logits for a whole batch, 512 rows of 49,152 numbers, would take 96 MiB more.
#[test]
fn logits_are_reserved_for_the_rows_of_a_draft() {
    let Some(model) = default_model() else { return };
    let said = Home::new().run(&["-p", "Hi", "-n", "1", "-v"]).model(&model).done().code(0).stderr;
    // One line for each device.
    let most = |name: &str| {
        let lines = said.lines().filter(|line| line.contains(name));
        let figures = lines.map(|line| line.split('=').nth(1).unwrap().split_whitespace().next().unwrap());
        figures
            .map(|figure| figure.parse::<f64>().unwrap())
            .reduce(f64::max)
            .unwrap_or_else(|| panic!("no {name}: {said}"))
    };
    assert_eq!(most("n_outputs_max  "), if GPU_BUILD { 129.0 } else { 65.0 });
    assert!(!said.contains("input tensor '"), "a line for every layer");
    assert!(most(" compute buffer size") < 90.0, "{said}");
}
