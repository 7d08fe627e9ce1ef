//! A context that finds no memory to grow into.

use std::sync::atomic::AtomicBool;

use fireside::chat::{Message, Role};
use fireside::engine::llama::{ContextOptions, Llama};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::engine::{FLOAT_NOISE, Subject, answer, turn, user};
use crate::support::{alone, tiny};

/// The size of this process's address space, in bytes.
fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = pages.split_whitespace().next().unwrap().parse().unwrap();
    pages * nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as u64
}

/// What a device without enough memory does: the question fails, and the chat goes on.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux bounds the address space")]
fn after_a_failed_allocation_the_next_question_is_answered() {
    if !alone("growth::after_a_failed_allocation_the_next_question_is_answered") {
        return;
    }
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let options = ContextOptions { limit: 60_000, ..subject.context() };
    let engine = || subject.engine_of(Llama::new(&subject.weights, options.clone()));
    let mut said = vec![user("Good morning")];
    let mut ours = engine();
    said.push(Message::new(Role::Assistant, answer(&mut ours, &turn(&said, 8)).text));
    let next = turn(&[&said[..], &[user("And then?")]].concat(), 8);
    let expected = answer(&mut engine(), &next);
    let before = getrlimit(Resource::RLIMIT_AS).unwrap();
    setrlimit(Resource::RLIMIT_AS, address_space() + (96 << 20), before.1).unwrap();
    let long = |words| turn(&[&said[..], &[user(&"word ".repeat(words))]].concat(), 8);
    let failed = ours.reply(&long(20_000), &AtomicBool::new(false), &mut |_| {}).unwrap_err().to_string();
    assert!(failed.contains("context of"), "{failed}");
    let answered = answer(&mut ours, &next);
    setrlimit(Resource::RLIMIT_AS, before.0, before.1).unwrap();
    assert_eq!(answered.text, expected.text);
    assert!(answer(&mut ours, &long(1000)).tokens.len() > 1000, "with memory, it grows again");
}
