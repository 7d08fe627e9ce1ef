//! Drafts change no answer: it is the same with and without them.
//!
//! A draft is verified in a batch, and quantised kernels give slightly different numbers for different batch
//! sizes. As in tests/exact.rs, where two answers part, the two tokens must be closer than that noise; such
//! cases are counted and printed.

use fireside::chat::{Constraint, Request};
use fireside::engine::costs::{Costs, SIZES};

use crate::support::engine::{
    Answer, FLOAT_NOISE, GPU_BUILD, RECURRENT, Subject, TF32, TINY, answer, default_subject, turn, user,
};
use crate::support::{Home, default_model, tiny};

const LETTER: &str = "Dear Ms Albright, thank you for your letter of the third of March. The parcel that we sent you on the first \
    has been held at the border, where it will stay until the papers have been signed. Please sign them and send them back to \
    us at your earliest convenience. We are sorry for the trouble this has caused.";
const CODE: &str = "def total(values, limit):\n    result = 0\n    for value in values:\n        if value > limit:\n            \
    continue\n        result += value\n    return result\n\n\nprint(total([1, 2, 3, 40], 10))\n";

/// Prompts whose answers copy and edit, then others.
fn tasks() -> [String; 6] {
    let function = |name| {
        format!(
            "def total_{name}(values, limit):\n    result = 0\n    for value in values:\n        if value > limit:\n            \
            result = result + value\n    return result\n"
        )
    };
    let functions = ["lamps", "houses", "rooms", "guests"].map(function); // as benches/rivals has them
    [
        format!("Repeat this text exactly, word for word:\n\n{LETTER}"),
        format!(
            "Fix the typos in this text:\n\n{}",
            LETTER.replace("parcel", "parsel").replace("papers", "papres")
        ),
        format!("Rename the variable result to amount in this code:\n\n```python\n{CODE}```"),
        format!(
            "Rename the variable result to sum in this code and write nothing else:\n\n{}",
            functions.join("\n")
        ),
        "Write a poem about a lighthouse.".into(),
        "What is the difference between TCP and UDP?".into(),
    ]
}

fn asked(text: &str, temp: f32, draft: bool) -> Request {
    let mut turn = turn(&[user(text)], 160);
    turn.generation.sampling.temp = temp;
    turn.generation.speculative = draft;
    turn
}

/// The answers with and without drafts, and whether they part; they may only at a near tie.
fn both(subject: &Subject, text: &str, temp: f32) -> (Answer, bool) {
    let cheap = Costs::read(&[(512, 17, 1.5)]); // many draft tokens, many of them wrong
    let [with, without] = [true, false].map(|draft| {
        let mut engine = subject.engine().with_costs(cheap.clone());
        answer(&mut engine, &asked(text, temp, draft))
    });
    assert_eq!(without.drafts.drafted, 0);
    let parted = with.tokens != without.tokens || with.text != without.text || with.stop != without.stop;
    if parted {
        let same = with.tokens.iter().zip(&without.tokens).take_while(|(a, b)| a == b).count();
        let apart = subject.margin(&without.tokens[..same]);
        assert!(temp > 0.0 || apart < subject.noise, "{text:?}: answers part at a margin of {apart}");
    }
    (with, parted)
}

#[test]
#[allow(clippy::print_stdout)] // near ties are a result
fn drafts_change_no_answer_of_the_default_model() {
    let Some(subject) = default_subject() else { return };
    for temp in [0.0, 0.8] {
        let answers: Vec<(Answer, bool)> = tasks().iter().map(|text| both(subject, text, temp)).collect();
        let parted = answers.iter().filter(|(_, parted)| *parted).count();
        let right: usize = answers.iter().map(|(answer, _)| answer.drafts.accepted).sum();
        println!(
            "temperature {temp}: {right} draft tokens were accepted, {parted} of {} answers parted",
            answers.len()
        );
        assert!(right > 100, "only {right} draft tokens were accepted");
        assert!(parted <= 2, "{parted} of {} answers parted", answers.len());
    }
}

#[test]
fn drafts_change_no_answer_of_the_tiny_models() {
    for name in TINY {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let mut made = 0;
        for temp in [0.0, 0.3] {
            for text in ["Say it again, say it again, say it again.", "one two three one two three one"] {
                let (answer, parted) = both(&subject, text, temp);
                assert!(!parted || TF32, "{name}, {text:?}, temperature {temp}");
                made += answer.drafts.drafted;
            }
        }
        match name {
            "llama-bpe" | "gemma3" if GPU_BUILD => {} // drafts may not pay on a GPU in software
            "llama-bpe" | "gemma3" => assert!(made > 20, "{name}: {made} tokens were drafted"),
            name if RECURRENT.contains(&name) => assert_eq!(made, 0, "{name} cannot take a draft back"),
            _ => {} // it may not repeat itself
        }
    }
}

#[test]
fn what_a_constraint_demands_is_drafted() {
    let Some(subject) = default_subject() else { return };
    let regex = r"The parcel was (sent|lost) on Monday, and nobody at the office knows (where|why)\.";
    let [with, without] = [true, false].map(|draft| {
        let mut asked = asked("What happened to the parcel?", 0.0, draft);
        asked.generation.constraint = Some(Constraint::Regex(regex.into()));
        answer(&mut subject.engine().with_costs(Costs::read(&[(512, 17, 1.5)])), &asked)
    });
    assert_eq!((&with.text, &with.tokens), (&without.text, &without.tokens));
    assert!(with.drafts.accepted >= 8 && without.drafts.drafted == 0, "{:?}: {}", with.drafts, with.text);
}

#[test]
fn the_program_drafts_unless_told_not_to() {
    let Some(model) = default_model() else { return };
    let run = |args: &[&str]| {
        let run = Home::new().run(&["--json", "--temp", "0", "-n", "100", "-p", &tasks()[0]]);
        args.iter().fold(run, |run, arg| run.arg(arg)).model(&model).done().json()
    };
    let (with, without) = (run(&[]), run(&["--no-speculative"]));
    let count = |object: &serde_json::Value, what: &str| object["tokens"][what].as_u64().unwrap();
    assert!(count(&with, "accepted") > 40 && count(&with, "accepted") <= count(&with, "drafted"), "{with}");
    assert_eq!((count(&without, "drafted"), count(&without, "accepted")), (0, 0));
    assert_eq!(with["text"].as_str().unwrap()[..200], without["text"].as_str().unwrap()[..200]);
}

/// The costs in the home's models.json, each as (depth, size, cost).
fn remembered(home: &Home) -> Vec<(u64, u64, f64)> {
    let known = std::fs::read_to_string(home.path(".local/state/fireside/models.json")).unwrap_or_default();
    let known: serde_json::Value = serde_json::from_str(&known).unwrap_or_default();
    let file =
        known["files"].as_object().and_then(|files| files.values().next().cloned()).unwrap_or_default();
    let costs = file["batch_costs"][1].as_array().cloned().unwrap_or_default();
    let number = |cost: &serde_json::Value| {
        (cost[0].as_u64().unwrap(), cost[1].as_u64().unwrap(), cost[2].as_f64().unwrap())
    };
    costs.iter().map(number).collect()
}

#[test]
fn a_single_answer_teaches_what_batches_cost() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let run = |prompt: &str, args: &[&str]| {
        let run = home.run(&["--temp", "0", "-n", "100", "-p", prompt]);
        args.iter().fold(run, |run, arg| run.arg(arg)).model(&model).done().code(0);
        remembered(&home)
    };
    assert_eq!(run("Hi", &["--no-speculative"]), [], "single tokens alone");
    assert_eq!(run(&tasks()[0], &["--incognito"]), []);
    let learnt = run(&tasks()[0], &[]);
    assert!(!learnt.is_empty());
    for (depth, size, cost) in &learnt {
        assert!(*depth == 512 && SIZES[1..].contains(&(*size as usize)) && *cost >= 1.0, "{learnt:?}");
    }
    assert_eq!(run("Hi", &["--no-speculative"]), learnt, "nothing was learnt that is worth writing down");
}

#[test]
fn a_chat_goes_on_with_what_was_learnt_before() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let chat = || {
        let lines = format!("{}\n", tasks()[0].replace('\n', " "));
        home.run(&["--repl-stdin", "--temp", "0", "-n", "100"]).model(&model).stdin(lines).done().code(0);
        remembered(&home)
    };
    let (first, second) = (chat(), chat());
    let sizes = |costs: &[(u64, u64, f64)]| costs.iter().map(|cost| cost.1).collect::<Vec<u64>>();
    assert!(
        !first.is_empty() && sizes(&first).iter().all(|size| sizes(&second).contains(size)),
        "{first:?}, {second:?}"
    );
}
