//! Where a model goes: the plan against what llama.cpp really allocates, on the CPU; what is chosen and said with
//! pretended GPUs, which only plans use; and what is refused before a model is loaded.

use std::ops::ControlFlow;
use std::path::PathBuf;

use fireside::session::{Session, SessionOptions};
use fireside::settings::Config;
use serde_json::Value;

use crate::support::engine::GPU_BUILD;
use crate::support::{Home, cannot_run, default_model, memory, repository, tiny};
use crate::workers::{Worker, with_workers};

/// The pretended GPUs: their free memory in MiB.
const GPUS: &str = "FIRESIDE_TEST_GPUS";

/// The sum of the sizes, in MiB, that llama.cpp's log gives for buffers of a kind whose name passes.
fn logged(log: &str, kind: &str, passes: impl Fn(&str) -> bool) -> f64 {
    let mib = |line: &str| -> Option<f64> {
        let (before, after) = line.split_once(kind)?;
        let size = after.trim_start_matches([' ', '=']).split(' ').next()?.parse().ok()?;
        let (_, name) = before.split_once(": ")?;
        Some(size).filter(|_| passes(name.trim()))
    };
    log.lines().filter_map(mib).fold(0.0, |sum, mib| sum + mib)
}

/// What a device has, in MiB: weights, memory of the context, compute buffers.
type Figures = [f64; 3];

/// The device that a buffer of llama.cpp's log is on. Those of workers are all RPC0, which counts the devices of one; its
/// address ends with the worker's number: `RPC0[127.0.0.1 port 7002 #1:12]`.
fn device_of(buffer: &str) -> String {
    let worker = buffer.split_once(" #").and_then(|(_, end)| end.split_once(':'));
    worker.map_or_else(|| buffer.to_string(), |(number, _)| format!("RPC{number}"))
}

/// The plan of `show --json` for each device and what llama.cpp's log says of it. Main memory is the last one.
fn by_device(show: &Value, log: &str) -> Vec<(String, Figures, Figures)> {
    let devices = show["memory"]["plan"]["devices"].as_array().unwrap();
    let names: Vec<&str> = devices.iter().map(|device| device["name"].as_str().unwrap()).collect();
    let (main, gpus) = names.split_last().unwrap();
    assert_eq!(*main, "main memory");
    let of = |device: &Value| {
        let name = device["name"].as_str().unwrap();
        let planned =
            ["weights", "kv", "compute"].map(|what| device[what].as_f64().unwrap() / f64::from(1 << 20));
        let its = |buffer: &str| match gpus.iter().find(|gpu| device_of(buffer).starts_with(**gpu)) {
            Some(gpu) => *gpu == name,
            None => name == *main,
        };
        let sum = |kind| logged(log, kind, its);
        let kv = sum("KV buffer size") + sum("RS buffer size");
        (name.to_string(), planned, [sum("model buffer size"), kv, sum("compute buffer size =")])
    };
    devices.iter().map(of).collect()
}

/// How far the log may be above the plan, in MiB: it has two decimals, and a GPU pads the rows of every tensor.
fn above(log: &str) -> f64 {
    if GPU_BUILD && log.contains("offloaded") { 0.5 } else { 0.02 }
}

fn models() -> Vec<PathBuf> {
    let files =
        std::fs::read_dir(repository().join("tests/families")).unwrap().map(|file| file.unwrap().path());
    let mut models: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "gguf")).collect();
    models.sort();
    models.extend(default_model());
    models
}

#[test]
fn the_plan_is_no_less_than_what_llama_cpp_allocates() {
    let home = Home::new();
    let mut failures = Vec::new();
    for model in models() {
        for flash in ["--flash-attn=on", "--flash-attn=off"] {
            let trained = fireside::gguf::read(&model).unwrap().arch_uint("context_length").unwrap();
            let context = format!("--ctx-size={}", trained.min(512));
            let args = [context.as_str(), "--no-repack", "--no-mmap", flash];
            let show = home.run(&[&["show", "--json"], &args[..]].concat()).arg(&model).done().code(0).json();
            let run = home.run(&[&args[..], &["-v", "-p", "Hi", "-n", "1", "--raw"]].concat()).model(&model);
            let log = run.done().code(0).stderr;
            for (place, (name, planned, real)) in by_device(&show, &log).into_iter().enumerate() {
                // Beside a GPU, main memory has little to compute.
                let least = [0.9, 0.9, if place == 0 { 0.3 } else { 0.0 }];
                let within = |what: usize| {
                    real[what] <= planned[what] + above(&log)
                        && real[what] >= least[what] * planned[what] - 2.0
                };
                if !(0..3).all(within) || real[0] == 0.0 || real[2] == 0.0 {
                    let model = model.display();
                    failures.push(format!("{model} {flash}, {name}: planned {planned:.2?}, got {real:.2?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The same on several devices: this machine's memory and workers on it.
#[test]
fn the_plan_holds_on_each_of_several_devices() {
    let (one, home) = (Worker::start(&["--cache-size", "0"]), Home::new());
    let two = Worker::start(&["--cache-size", "0", "--token-file", one.token().to_str().unwrap()]);
    let family = |name: &str| Some(repository().join(format!("tests/families/{name}.gguf")));
    let cases: [(Option<PathBuf>, &[&Worker], &[&str]); 13] = [
        (default_model(), &[&one], &["--gpu-layers", "2"]),
        (default_model(), &[&one], &["--no-kv-offload"]),
        (family("llama-bpe"), &[&one], &[]),
        (family("llama-bpe"), &[&one], &["--gpu-layers", "2"]),
        (family("llama-bpe"), &[&one], &["--no-kv-offload"]),
        (family("deepseek-v1"), &[&one], &["-ncmoe", "2"]),
        (family("gpt-oss"), &[&one], &["-ncmoe", "1"]),
        (default_model(), &[&one, &two], &["--gpu-layers", "99"]),
        (default_model(), &[&one, &two], &["--tensor-split", "3,1", "--gpu-layers", "20"]),
        (default_model(), &[&one, &two], &["--split-mode", "none", "--main-gpu", "1", "--gpu-layers", "99"]),
        (family("llama-bpe"), &[&one, &two], &["--tensor-split", "1,1"]),
        (family("gpt-oss"), &[&one, &two], &["--override-tensor", "exps=CPU", "--gpu-layers", "99"]),
        (family("deepseek-v1"), &[&one, &two], &["--no-kv-offload", "--gpu-layers", "99"]),
    ];
    for (model, workers, placed) in cases {
        let Some(model) = model else { continue };
        let common = ["--ctx-size=512", "--no-repack", "--no-mmap", "--flash-attn=on"];
        let args = [&common[..], placed].concat();
        let show = with_workers(&home, workers, &[&["show", "--json"], &args[..]].concat());
        let show = show.arg(&model).done().code(0).json();
        let run = [&args[..], &["-v", "-p", "Hi", "-n", "1", "--raw"]].concat();
        let log = with_workers(&home, workers, &run).model(&model).done().code(0).stderr;
        let devices = by_device(&show, &log);
        assert!(devices.len() > 1, "{show}");
        for (name, planned, real) in devices {
            let said =
                format!("{} {placed:?}, {name}: planned {planned:.3?}, got {real:.2?}", model.display());
            assert!((0..3).all(|what| real[what] <= planned[what] + above(&log)), "{said}");
            assert!((0..2).all(|what| real[what] >= 0.9 * planned[what] - 0.1), "{said}");
        }
    }
}

#[test]
fn devices_are_listed_with_their_memory() {
    let home = Home::new();
    let list = || home.run(&["--list-devices"]).env(GPUS, "500,2000").done().code(0);
    let out = list().stdout;
    assert!(out.starts_with("Available devices:\n  "), "{out}");
    let json = home.run(&["--list-devices", "--json"]).env(GPUS, "500,2000").done().code(0).json();
    let gpus: Vec<&Value> =
        json["devices"].as_array().unwrap().iter().filter(|device| device["kind"] == "gpu").collect();
    assert_eq!(gpus[0]["free"], 500 << 20);
    let name = gpus[1]["name"].as_str().unwrap();
    assert!(out.contains(&format!("  {name}: ")) && out.contains(", 2000 MiB free)\n"), "{out}");
    home.run(&["doctor"]).env(GPUS, "500,2000").done().stdout_has(name);
}

#[test]
fn part_of_a_model_goes_where_there_is_room_and_is_said_so() {
    let Some(model) = default_model() else { return cannot_run("the default model is not here") };
    let home = Home::new();
    let ask = |mib: &str, args: &[&str]| {
        let run = home.run(&[&["-p", "Hi", "-n", "4", "--seed", "1"], args].concat()).model(&model);
        run.env(GPUS, mib).done().code(0)
    };
    let partly = ask("200", &[]).stderr;
    let said = partly.lines().find(|line| line.contains("on the GPU: ")).expect(&partly);
    assert!(said.contains(" of 31 layers; the whole model needs "), "{said}");
    assert!(!ask("4000", &[]).stderr.contains("on the GPU"), "all of it fits");
    assert!(!ask("200", &["--gpu-layers", "3"]).stderr.contains("on the GPU"), "asked for");
    assert!(ask("4000", &["-v"]).stderr.contains("31 of 31 layers; CPU"), "what runs it is said with -v");
    // The plan is a setting like others, as if it had been given: it is recorded with every answer.
    let chat = home.run(&["--repl-stdin"]).model(&model).stdin("/set gpu-layers\n").env(GPUS, "200").done();
    let chat = chat.code(0).stderr;
    assert!(chat.contains("this machine"), "{chat}");
    // `show` counts the same memory, and so does `list`: see big_models.rs.
    let show = home.run(&["show"]).arg(&model).env(GPUS, "200").done().code(0).stdout;
    assert!(show.contains("on the GPU: ") && show.contains("the whole model needs"), "{show}");
    assert_eq!(show.matches(" read per token").count(), 3, "in all, by the GPU and by main memory: {show}");
    let show = home.run(&["show", "--json"]).arg(&model).env(GPUS, "200").done().code(0).json();
    let count = show["memory"]["plan"]["gpu_layers"].as_u64().unwrap();
    assert!((1..31).contains(&count), "{show}");
    assert!(said.contains(&format!("on the GPU: {count} of 31")), "{said}");
}

#[test]
fn what_no_machine_could_do_is_refused_before_the_load() {
    let home = Home::new();
    let run = |args: &[&str]| {
        home.run(&[&["-p", "Hi", "-n", "1"], args].concat())
            .model(&tiny("llama-bpe"))
            .env(GPUS, "500,500")
            .done()
    };
    let named = run(&["--device", "Nowhere7"]).failed(2, "there is no device 'Nowhere7'");
    named.hint("--device takes none, or what is there: ");
    run(&["--device", "none"]).code(0);
    run(&["--split-mode", "none", "--main-gpu", "7"]).failed(2, "there is no GPU number 7: 2 are used");
    run(&["-ot", "exps=Nowhere7"]).failed(2, "there is no buffer type 'Nowhere7'").hint("CPU");
    run(&["-ot", "blk.(1=CPU"]).failed(2, "'blk.(1' is not a regular expression");
    run(&["-ot", r"blk\.1\..*=CPU,attn{1,2}=CPU"]).code(0);
    run(&["-ot", "exps"]).failed(2, "override-tensor must be a regular expression");
    run(&["--tensor-split", "1,x"]).failed(2, "tensor-split must be a list of shares");
    run(&["-ts", "3/1", "-sm", "layer", "-ncmoe", "1", "-cmoe", "-nkvo", "--numa", "off"]).code(0);
    run(&["--numa", "distribute"]).code(0); // on one node nothing changes
}

#[test]
fn more_layers_than_fit_are_refused_if_the_user_asks_for_them() {
    let home = Home::new();
    let run = |args: &[&str]| {
        home.run(&[&["-p", "Hi", "-n", "1", "--gpu-layers", "all"], args].concat())
            .model(&tiny("llama-bpe"))
            .env(GPUS, "1")
            .done()
    };
    run(&[]).failed(1, "not enough memory on ").hint("--gpu-layers auto takes as many layers as fit");
    run(&["--fit", "off"]).code(0);
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_what_helps() {
    let home = Home::new();
    let run = |args: &[&str], model: &std::path::Path, mib: u64| {
        let free = home.write("free", (mib << 20).to_string());
        let run = home.run(&[&["-p", "Hi", "-n", "1"], args].concat()).model(model).env(GPUS, "200");
        run.env("FIRESIDE_TEST_MEMORY", free).done()
    };
    let mixture = repository().join("tests/families/deepseek-v1.gguf");
    let refused = run(&["--device", "none"], &mixture, 1);
    refused.failed(1, "not enough memory: the model needs ").hint("; --cpu-moe --fit off reads the experts");
    let Some(model) = default_model() else { return cannot_run("the default model is not here") };
    let refused = run(&[], &model, 80).failed(1, "not enough memory: the model needs ");
    let (_, tokens) = refused.stderr.split_once("; with --ctx-size ").expect(&refused.stderr);
    let tokens = tokens.split(' ').next().unwrap();
    run(&["--ctx-size", tokens], &model, 80).code(0);
}

#[test]
fn a_context_that_outgrows_the_gpu_moves_to_main_memory() {
    let home = Home::new();
    let long = "one two three four five six seven eight nine ten ".repeat(125);
    let ask = |prompt: &str, args: &[&str]| {
        let all = ["-n", "4", "--temp", "0", "--no-prompt-cache", "--gpu-layers", "all", "--fit", "off"];
        let large = ["--cache-type-k=f32", "--cache-type-v=f32", "--batch-size=64", "--flash-attn=on"];
        let run = home.run(&[&["-p", prompt], &all[..], &large, args].concat()).model(&tiny("llama-bpe"));
        run.env(GPUS, "3").done().code(0)
    };
    assert!(!ask("Hi", &[]).stderr.contains("KV cache"), "a short one has room");
    let grown = ask(&long, &[]);
    assert!(grown.stderr.contains("the KV cache is in main memory now"), "{}", grown.stderr);
    let there = ask(&long, &["--no-kv-offload"]);
    assert!(!there.stderr.contains("KV cache"), "asked for: {}", there.stderr);
    assert_eq!(grown.stdout, there.stdout);
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only Linux bounds another process's memory")]
fn a_chat_goes_on_when_another_program_takes_a_devices_memory() {
    let Some(model) = default_model() else { return cannot_run("the default model is not here") };
    // What is answered alike however numbers are rounded: other devices and other batches do it in their own ways.
    const ASK: &str = "Repeat this sentence: The cat sat on the mat.";
    let long = format!("{ASK} {}\n", "one two three four five six seven eight nine ten ".repeat(100));
    let answers = |taken: bool| {
        let (worker, home) = (Worker::start(&[]), Home::new());
        let args = [
            "--repl-stdin",
            "-n",
            "8",
            "--temp",
            "0",
            "--no-prompt-cache",
            "--keep",
            "--flash-attn=on",
            "--device=RPC0",
        ];
        let mut chat = with_workers(&home, &[&worker], &args).model(&model).stdin("Hi\n").start();
        chat.stdout.wait_for("\n"); // an answer: the model is loaded
        if taken {
            worker.leave(4 << 20);
        }
        chat.write(long.as_bytes());
        chat.write(format!("{ASK}\n").as_bytes());
        chat.close_stdin();
        let done = chat.done().code(0);
        let kept = home.run(&["history", "list", "--json"]).done().code(0).json();
        (done, kept["conversations"][0]["messages"].clone())
    };
    let ((taken, kept), (undisturbed, all)) = (answers(true), answers(false));
    assert_eq!(taken.stdout, undisturbed.stdout, "{taken:#?}");
    assert_eq!(taken.stderr.matches("the KV cache is in main memory now").count(), 1, "{}", taken.stderr);
    assert!(!undisturbed.stderr.contains("KV cache"), "{}", undisturbed.stderr);
    assert_eq!((kept, all), (6.into(), 6.into()), "messages in the history");
}

#[test]
fn the_memory_of_the_old_model_is_free_for_the_new_one() {
    let config = Config::default();
    let mut session = Session::new(memory::open(&config, "first").unwrap(), SessionOptions::default());
    let mut watch = |_: Option<&fireside::chat::Event>| ControlFlow::Continue(());
    session.change_model("large", &config, memory::open, &mut watch).expect("the old one has gone");
    let error = session.change_model("huge", &config, memory::open, &mut watch).unwrap_err();
    assert!(error.to_string().contains("not enough memory"), "{error}");
    assert!(!memory::is_free(), "the old one is back");
}

#[test]
fn a_machine_without_memory_is_not_mistaken_for_a_damaged_file() {
    let Some(model) = default_model() else { return cannot_run("the default model is not here") };
    let home = Home::new();
    // The file's first use, so a child tests it. Without a GPU the child has a limit of its own.
    let run =
        home.run(&["-p", "Hi", "-n", "1", "--no-mmap", "--threads", "1"]).model(&model).env(GPUS, "4000");
    let failed = run.after("ulimit -v 320000").done().failed(1, "not enough memory to load ");
    failed.hint("a smaller quantisation");
    home.run(&["-p", "Hi", "-n", "1"]).model(&model).env(GPUS, "4000").done().code(0);
}
