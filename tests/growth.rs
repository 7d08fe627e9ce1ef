//! A context that finds no memory to grow into.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fireside::chat::{Message, Role};
use fireside::engine::cache::Cache;
use fireside::engine::llama::{ContextOptions, Llama, Part, Room};
use fireside::engine::model::Model;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::support::engine::{FLOAT_NOISE, Subject, answer, turn, user};
use crate::support::{Home, alone, tiny};

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

/// Bytes of main memory that the next test counts as free.
static FREE: AtomicU64 = AtomicU64::new(u64::MAX);

#[test]
fn a_context_takes_of_main_memory_what_there_is() {
    const PER_TOKEN: u64 = 1000; // so that the sums are easy
    let subject = Subject::load(&tiny("llama-bpe"), FLOAT_NOISE);
    let main = Part { kv_per_token: PER_TOKEN as f64, ..Part::default() };
    let free = || Some(FREE.load(Ordering::SeqCst));
    let room = Some(Room { gpus: Vec::new(), main, free });
    let mut model = Llama::new(&subject.weights, ContextOptions { limit: 60_000, room, ..subject.context() });
    let tokens = model.tokenize(&"word ".repeat(4000), false);
    let mut cache = Cache::default();
    // With this much free, of which an eighth is left alone: the tokens kept, and the capacity then.
    let mut read = |model: &mut Llama, bytes: u64, count: usize| {
        FREE.store(bytes.saturating_add(bytes / 7).saturating_add(1), Ordering::SeqCst);
        let kept = cache.reuse(model, &tokens[..count])?;
        let flow = cache.read(model, &tokens[..count], &|| false, &mut |_| {})?;
        assert!(flow.is_continue());
        anyhow::Ok((kept, model.capacity()))
    };
    assert_eq!(read(&mut model, u64::MAX, 500).unwrap(), (0, 768));
    let copies = model.state_bytes(0) as u64;
    assert_eq!(read(&mut model, copies + 256 * PER_TOKEN, 1000).unwrap(), (500, 1024), "it does not double");
    assert_eq!(read(&mut model, 512 * PER_TOKEN, 1500).unwrap(), (0, 1536), "without room for copies");
    let refused = read(&mut model, 100 * PER_TOKEN, 2000).unwrap_err().to_string();
    assert_eq!(
        refused,
        "not enough memory for a context of 2048 tokens: it takes 500 KiB more, and 98 KiB of main memory can be used"
    );
    assert_eq!((model.len(0), model.capacity()), (1500, 1536), "it stays as it is");
    assert_eq!(read(&mut model, u64::MAX, 2000).unwrap(), (1500, 3072), "with memory, it grows again");
    let rows = model.rows();
    for (bytes, rows) in [(0, rows), (u64::MAX, rows + 100)] {
        FREE.store(bytes, Ordering::SeqCst);
        model.widen(model.rows() + 100, 0).unwrap();
        assert_eq!((model.rows(), model.len(0)), (rows, 2000), "{bytes} bytes for more rows of logits");
    }
}

#[test]
fn a_chat_goes_on_when_main_memory_runs_out() {
    let long = format!("{}\n", "word ".repeat(700));
    let answers = |runs_out: bool| {
        let home = Home::new();
        let free = home.path("free");
        let set = |bytes: u64| std::fs::rename(home.write("next", bytes.to_string()), &free).unwrap();
        set(1 << 40);
        let args = ["--repl-stdin", "-n", "4", "--temp", "0", "--no-prompt-cache"];
        let run = home.run(&args).model(&tiny("llama-bpe")).env("FIRESIDE_TEST_MEMORY", &free);
        let mut chat = run.stdin("Hi\n").start();
        chat.stdout.wait_for("\n"); // an answer: the model is loaded
        if runs_out {
            set(0);
            chat.write(long.as_bytes());
            chat.stderr.wait_for("\nhint: close other programs, shorten the prompt, ");
        }
        chat.write(b"And then?\n");
        set(1 << 40);
        chat.write(long.as_bytes());
        chat.close_stdin();
        chat.done().code(0)
    };
    let (refused, undisturbed) = (answers(true), answers(false));
    assert_eq!(refused.stdout, undisturbed.stdout);
    let lines: Vec<&str> = refused.stderr.lines().filter(|line| line.starts_with("fireside: ")).collect();
    assert!(matches!(lines[..], [line] if line.contains("not enough memory for a context of ")), "{lines:?}");
}
