//! A build for a GPU: what scripts/gpu finds to build with, and whether answers are those of the CPU. `make
//! test-gpu` runs these and other tests on a GPU, or on one in software.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use fireside::chat::settings::Settings;
use fireside::chat::{Message, Role};
use fireside::engine::llama::{LoadOptions, Parts, Weights};

use crate::prompt_cache::assert_same;
use crate::support::engine::{FLOAT_NOISE, QUANTISED_NOISE, Subject, TINY, answer, turn, user};
use crate::support::{Home, cannot_run, default_model, repository, tiny};

fn program(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// scripts/gpu for CUDA, on a machine that has this on PATH → (its exit code, the environment of the build,
/// stderr).
fn built(home: &Home, path: &Path, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut script = Command::new(repository().join("scripts/gpu"));
    script.args(["cuda", "env"]).env_clear().env("CARGO_TARGET_DIR", home.path("target"));
    script.env("PATH", format!("{}:/usr/bin:/bin", path.display())).envs(variables.iter().copied());
    let done = script.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn the_cuda_toolkit_and_the_gpus_are_found() {
    let home = Home::new();
    let (toolkit, on_path) = (home.path("toolkit"), home.path("bin"));
    program(&toolkit.join("bin/nvcc"), "");
    fs::create_dir_all(toolkit.join("targets/x86_64-linux/lib")).unwrap();
    fs::write(toolkit.join("targets/x86_64-linux/lib/libcudart_static.a"), "").unwrap();
    fs::create_dir_all(&on_path).unwrap();
    let named = ("CUDA_PATH", toolkit.to_str().unwrap());
    program(&on_path.join("nvidia-smi"), "exit 9"); // as without a GPU, whatever this machine has
    let (code, _, said) = built(&home, &on_path, &[named]);
    assert!(code == Some(1) && said.contains("CMAKE_CUDA_ARCHITECTURES=89"), "no GPU is visible: {said}");
    program(&on_path.join("nvidia-smi"), "printf '9.0\\n8.6\\n9.0\\n'");
    symlink(toolkit.join("bin/nvcc"), on_path.join("nvcc")).unwrap();
    for variables in [&[named][..], &[]] {
        let (code, environment, said) = built(&home, &on_path, variables);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("two core-hours for each of these architectures: 86;90"), "{said}");
        let value = |name: &str| {
            let line = environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            line.unwrap_or_else(|| panic!("no {name}: {environment}")).to_string()
        };
        assert_eq!(value("CMAKE_CUDA_ARCHITECTURES"), "86;90");
        let found = Path::new(&value("CMAKE_CUDA_COMPILER")).canonicalize().unwrap();
        assert_eq!(found, toolkit.join("bin/nvcc").canonicalize().unwrap());
        // The binding looks into lib64 below this.
        assert!(Path::new(&value("CUDA_LIBRARY_PATH")).join("lib64/libcudart_static.a").exists());
    }
    program(&on_path.join("nvidia-smi"), "exit 9");
    let (code, environment, said) = built(&home, &on_path, &[]);
    assert_eq!(code, Some(0), "as the last time: {said}");
    assert!(environment.contains("CMAKE_CUDA_ARCHITECTURES=86;90\n"), "{environment}");
    let (code, _, said) = built(&home, &on_path, &[("CUDA_PATH", "/nonexistent")]);
    assert!(code == Some(1) && said.contains("CUDA_PATH is /nonexistent"), "{said}");
}

/// On the CPU, the model of a subject on the GPU.
fn on_cpu(path: &Path, noise: f32) -> Subject {
    let options = LoadOptions::new(&Settings { gpu_layers: Some(0), ..Settings::default() }, Parts::InTurn);
    let weights = Weights::load(path, &options, |_| true).unwrap();
    Subject { weights, ..Subject::load(path, noise) }
}

#[test]
#[cfg_attr(
    not(any(feature = "cuda", feature = "metal", feature = "vulkan")),
    ignore = "this build has no GPU"
)]
fn answers_are_those_of_the_cpu() {
    if !fireside::models::on_gpu(&Settings::default()) {
        return cannot_run("there is no GPU here");
    }
    let tiny = TINY.map(|name| (tiny(name), FLOAT_NOISE));
    let default = default_model().map(|path| (path, QUANTISED_NOISE));
    for (path, noise) in tiny.into_iter().chain(default) {
        let (gpu, cpu) = (Subject::load(&path, noise), on_cpu(&path, noise));
        let (mut ours, mut theirs) = (gpu.engine(), cpu.engine());
        let mut said = Vec::new();
        for text in ["What is 2+2?", "1, 1, 2, 3, 5, 8,"] {
            said.push(user(text));
            let [on_gpu, on_cpu] = [&mut ours, &mut theirs].map(|engine| answer(engine, &turn(&said, 12)));
            assert_same(&cpu, &on_gpu, &on_cpu, &format!("{}: {text:?}", path.display()));
            said.push(Message::new(Role::Assistant, on_cpu.text));
        }
    }
}
