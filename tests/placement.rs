//! Where a model goes: the plan against what llama.cpp really allocates, on the CPU; what is chosen and said with
//! pretended GPUs, which only plans use; and what is refused before a model is loaded.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use fireside::session::{Session, SessionOptions};
use fireside::settings::Config;
use serde_json::Value;

use crate::support::{Home, cannot_run, default_model, memory, repository, tiny};

/// The pretended GPUs: their free memory in MiB.
const GPUS: &str = "FIRESIDE_TEST_GPUS";

/// The sum of the sizes, in MiB, that llama.cpp's log gives for buffers of a kind.
fn logged(log: &str, kind: &str) -> f64 {
    let mib =
        |line: &str| line.split_once(kind)?.1.trim_start_matches([' ', '=']).split(' ').next()?.parse().ok();
    log.lines().filter_map(mib).fold(0.0, |sum, mib: f64| sum + mib)
}

/// What `show` plans for main memory, in MiB: weights, memory of the context, compute buffers.
fn planned(home: &Home, model: &Path, args: &[&str]) -> [f64; 3] {
    let show = home.run(&[&["show", "--json"], args].concat()).arg(model).done().code(0).json();
    let device = &show["memory"]["plan"]["devices"][0];
    ["weights", "kv", "compute"].map(|what| device[what].as_f64().unwrap() / f64::from(1 << 20))
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
            let [weights, kv, compute] = planned(&home, &model, &args);
            let run = home.run(&[&args[..], &["-v", "-p", "Hi", "-n", "1", "--raw"]].concat()).model(&model);
            let log = run.done().code(0).stderr;
            let real = (
                logged(&log, "model buffer size"),
                logged(&log, "KV buffer size") + logged(&log, "RS buffer size"),
                logged(&log, "compute buffer size ="),
            );
            // The log has two decimals; a GPU pads the rows of every tensor.
            let more = if log.contains("offloaded") { 0.5 } else { 0.02 };
            let within = |real: f64, plan: f64, least: f64| real <= plan + more && real >= least * plan - 2.0;
            let good =
                within(real.0, weights, 0.9) && within(real.1, kv, 0.9) && within(real.2, compute, 0.3);
            if !good || real.0 == 0.0 || real.2 == 0.0 {
                let planned = (weights, kv, compute);
                failures.push(format!("{} {flash}: planned {planned:.2?}, got {real:.2?}", model.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
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
fn a_context_that_outgrows_the_gpu_moves_to_main_memory() {
    let home = Home::new();
    let long = "one two three four five six seven eight nine ten ".repeat(100);
    let ask = |prompt: &str, args: &[&str]| {
        let all = ["-n", "4", "--temp", "0", "--no-prompt-cache", "--gpu-layers", "all", "--fit", "off"];
        let large = ["--cache-type-k=f32", "--cache-type-v=f32", "--batch-size=64", "--flash-attn=on"];
        let run = home.run(&[&["-p", prompt], &all[..], &large, args].concat()).model(&tiny("llama-bpe"));
        run.env(GPUS, "2").done().code(0)
    };
    assert!(!ask("Hi", &[]).stderr.contains("KV cache"), "a short one has room");
    let grown = ask(&long, &[]);
    assert!(grown.stderr.contains("the KV cache is in main memory now"), "{}", grown.stderr);
    let there = ask(&long, &["--no-kv-offload"]);
    assert!(!there.stderr.contains("KV cache"), "asked for: {}", there.stderr);
    assert_eq!(grown.stdout, there.stdout);
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
