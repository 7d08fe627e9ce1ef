//! Models whose memory cannot be truncated: they return to checkpoints, and read only what is new since the
//! nearest one. Their answers are those of an engine that reads everything.

use fireside::chat::{Message, Request, Role};
use fireside::engine::Engine;
use fireside::engine::llama::Llama;
use fireside::engine::model::{Logits, Model};
use tempfile::TempDir;

use crate::prompt_cache::{about, assert_same, files, flush, flushed, with_folder};
use crate::support::engine::{FLOAT_NOISE, RECURRENT, Subject, answer, turn, user};
use crate::support::tiny;

/// A template that removes the thinking from all answers but the one that is being generated.
const THINKING: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}";

fn subjects() -> impl Iterator<Item = (&'static str, Subject)> {
    RECURRENT.into_iter().map(|name| (name, Subject::load(&tiny(name), FLOAT_NOISE)))
}

fn asked(messages: &[Message]) -> Request {
    turn(messages, 24)
}

fn tokens(engine: &Engine<Llama>, messages: &[Message]) -> usize {
    engine.prompt(&asked(messages)).unwrap().tokens.len()
}

/// About how many tokens there are before the own text of a last message, of which `empty` is all else.
fn before(engine: &Engine<Llama>, messages: &[Message], empty: Message) -> usize {
    tokens(engine, &[messages, &[empty]].concat()) - tokens(engine, &[user("")])
}

/// Asks as a chat does, with the next prompt evaluated as far as it is known, or without; returns how many
/// tokens of the prompt were in memory. The answer must be a fresh engine's.
fn ask(subject: &Subject, engine: &mut Engine<Llama>, messages: &mut Vec<Message>, idle: bool) -> usize {
    if idle {
        engine.prepare(&asked(&messages[..messages.len() - 1]), &user(""), &|| false).unwrap();
    }
    let ours = answer(engine, &asked(messages));
    let fresh = answer(&mut subject.engine(), &asked(messages));
    assert_same(subject, &ours, &fresh, &format!("{} messages", messages.len()));
    let text = if ours.text.trim().is_empty() { "again and again" } else { &ours.text }; // it only thought
    messages.push(Message::new(Role::Assistant, text));
    ours.cached
}

#[test]
fn a_checkpoint_is_the_same_as_never_having_gone_on() {
    for (name, subject) in subjects() {
        let mut model = subject.model();
        let tokens = model.tokenize(&"the fire is low and the evening is long. ".repeat(8), false);
        let (before, after) = tokens.split_at(60);
        let mut straight = subject.model();
        for model in [&mut model, &mut straight] {
            model.grow(512).unwrap();
            model.append(0, before, Logits::Last).unwrap();
        }
        let checkpoint = model.checkpoint(0).unwrap();
        model.append(0, &after[10..40], Logits::Last).unwrap();
        assert_eq!(model.truncate(0, 90), 90, "{name}");
        model.grow(1024).unwrap();
        model.go_back(0, &checkpoint, before.len()).unwrap();
        assert_eq!(model.len(0), before.len(), "{name}");
        for next in &after[..20] {
            model.append(0, &[*next], Logits::Last).unwrap();
            straight.append(0, &[*next], Logits::Last).unwrap();
            let apart = model.logits(0).iter().zip(straight.logits(0)).map(|(a, b)| (a - b).abs());
            assert!(apart.fold(0.0, f32::max) < FLOAT_NOISE, "{name}");
        }
        if name != "mamba" {
            assert!(model.go_back(0, &checkpoint, 100).is_err(), "{name}: memory is shorter");
            assert_eq!(model.len(0), 0, "{name}");
        }
    }
}

#[test]
fn undo_edit_and_retry_read_what_is_new() {
    const QUESTIONS: [&str; 5] = ["What is it?", "And then?", "Why so, and who was it?", "Really?", "More."];
    for (name, subject) in subjects() {
        let mut engine = subject.engine();
        let mut messages = Vec::new();
        for question in QUESTIONS {
            messages.push(if messages.is_empty() { about(question) } else { user(question) });
            ask(&subject, &mut engine, &mut messages, true);
        }
        // Retry, undo, edit of an earlier message, and retry of that.
        for (left, question) in [(9, None), (8, Some("Is it so?")), (4, Some("Who is that?")), (5, None)] {
            messages.truncate(left);
            messages.extend(question.map(user));
            let before = before(&engine, &messages[..messages.len() - 1], user(""));
            let counted = engine.count(&asked(&messages)).unwrap().cached;
            let cached = ask(&subject, &mut engine, &mut messages, false);
            assert!(cached >= before, "{name}, {left} messages left: {cached} of {before}");
            assert_eq!(counted, cached, "{name}: the count knows");
        }
    }
}

#[test]
fn without_idle_time_hardly_more_than_the_last_exchange_is_read_again() {
    for (name, subject) in subjects() {
        let mut engine = subject.engine();
        let mut messages = Vec::new();
        for number in 0..6 {
            let question = format!("{number}. the fire is low and the evening is long, why is it so?");
            messages.push(user(&question));
            let known = messages.len().saturating_sub(3);
            let before = before(&engine, &messages[..known], user(""));
            let cached = ask(&subject, &mut engine, &mut messages, false);
            assert!(cached + 66 >= before, "{name}, question {number}: {cached} of {before}");
        }
    }
}

#[test]
fn a_new_question_about_a_file_and_a_new_conversation_read_what_is_new() {
    for (name, subject) in subjects() {
        let mut engine = subject.engine();
        let system = Message::new(Role::System, "the fire is low and the evening is long. ".repeat(6));
        let several = format!("What is it?\n\n{}\n\nIn one line.", "Think of the evening. ".repeat(20));
        let mut messages = vec![system.clone(), about(&several)];
        ask(&subject, &mut engine, &mut messages, false);
        for question in ["Why so?", "And then, what is the answer?"] {
            messages = vec![system.clone(), about(question)];
            let before = before(&engine, std::slice::from_ref(&system), about(""));
            let cached = ask(&subject, &mut engine, &mut messages, false);
            assert!(cached + 2 >= before, "{name}: {cached} of {before}");
        }
        let before = before(&engine, std::slice::from_ref(&system), user(""));
        let cached = ask(&subject, &mut engine, &mut vec![system, user("Hi")], false);
        assert!(cached >= before, "{name}: {cached} of {before}");
    }
}

#[test]
fn a_template_that_removes_thinking_costs_only_the_last_exchange() {
    for (name, mut subject) in subjects() {
        subject.template = Some(THINKING.into());
        for on_disk in [false, true] {
            let what = format!("{name}, on disk: {on_disk}");
            let folder = TempDir::new().unwrap();
            let mut engine = with_folder(&subject, folder.path());
            let mut messages = vec![about("What is it?")];
            ask(&subject, &mut engine, &mut messages, false);
            if on_disk {
                flushed(engine);
                engine = with_folder(&subject, folder.path());
            }
            let known = before(&engine, &[], about(""));
            messages.push(user("And then?"));
            let cached = ask(&subject, &mut engine, &mut messages, false);
            assert!(cached + 2 >= known, "{what}: {cached} of {known}");
            messages.push(user("Why so?"));
            let known = before(&engine, &messages[..4], user(""));
            let cached = ask(&subject, &mut engine, &mut messages, true);
            assert!(cached >= known, "{what}: {cached} of {known}, evaluated while idle");
        }
    }
}

#[test]
fn checkpoints_on_disk_serve_other_processes() {
    for (name, subject) in subjects() {
        let folder = TempDir::new().unwrap();
        let mut engine = with_folder(&subject, folder.path());
        let mut messages = vec![about("What is it?")];
        for question in ["And then?", "Why so?", "Really?"] {
            ask(&subject, &mut engine, &mut messages, true);
            flush(&mut engine);
            messages.push(user(question));
        }
        flushed(engine);
        // Continued, undone and edited in processes of their own. The end of the last answer may be tokenised
        // otherwise than it was generated.
        for (left, known) in [(7, 4), (5, 4), (3, 2)] {
            let mut messages = messages[..left].to_vec();
            messages[left - 1] = user("Is it so?");
            let mut engine = with_folder(&subject, folder.path());
            let before = before(&engine, &messages[..known], user(""));
            let cached = ask(&subject, &mut engine, &mut messages, false);
            assert!(cached >= before, "{name}, {left} messages: {cached} of {before}");
        }
        assert!(files(folder.path()).len() <= 2, "{name}: what goes on from a cached prompt replaces it");
    }
}
