//! Checks that llama.cpp was compiled with what this project puts into it, whoever started the build; tells the tests where.
//! Compiles the check that this processor is one that the program was built for, and tells the program which that is.
//!
//! src/engine/llama/build/project.cmake gets there by .cargo/config.toml, which cargo reads from the folder it runs in: run from
//! elsewhere, or over a llama.cpp compiled before, it would give a program that crashes on some processors.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::{env, fs};

const OURS: &str = "src/engine/llama/build";

fn main() {
    println!("cargo::rerun-if-changed={OURS}");
    let ggml =
        env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 says where its CMake files are");
    let build = Path::new(&ggml).ancestors().nth(2).expect("they are in OUT_DIR/lib/cmake").join("build");
    println!("cargo::rustc-env=FIRESIDE_LLAMA_CPP_BUILD={}", build.display());
    println!("cargo::rustc-env=FIRESIDE_LLAMA_CPP={:016x}", identity(&build));
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    println!("cargo::rustc-env=FIRESIDE_TARGET_CPU={}", target_cpu());
    let used = build.join("fireside");
    let wrong: Vec<PathBuf> =
        files(Path::new(OURS)).into_iter().filter(|file| fs::read(file).ok() != copy(&used, file)).collect();
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        compile_check();
    }
    if !wrong.is_empty() {
        println!("cargo::error=llama.cpp was not compiled with {OURS} as it is now");
        println!(
            "cargo::error=in the folder of this project: cargo clean --release -p llama-cpp-sys-2, and build again"
        );
    }
}

/// The processor that rustc and llama.cpp compile for, as llama-cpp-sys-2 finds it.
fn target_cpu() -> String {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let named =
        flags.split('\x1f').find_map(|flag| flag.split_once("target-cpu=")).map(|(_, name)| name.to_string());
    named.unwrap_or_else(|| env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default().replace("x86_64", "x86-64"))
}

/// Compiles src/processor.c, for any x86-64.
fn compile_check() {
    const FILE: &str = "src/processor.c";
    println!("cargo::rerun-if-changed={FILE}");
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    cc::Build::new()
        .file(FILE)
        .define("NEEDED", format!("{features:?}").as_str())
        .flag("-march=x86-64")
        .cargo_metadata(false)
        .compile("processor");
    println!("cargo::rustc-link-search=native={}", env::var("OUT_DIR").expect("cargo sets it"));
    println!("cargo::rustc-link-lib=static:+whole-archive=processor"); // nothing calls it: it runs by itself
}

/// Tells one compiled llama.cpp from another.
fn identity(build: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let libraries =
        files(build).into_iter().filter(|file| file.extension().is_some_and(|end| end == "a" || end == "so"));
    let mut libraries: Vec<PathBuf> = libraries.collect();
    libraries.sort();
    libraries.iter().for_each(|library| fs::read(library).unwrap_or_default().hash(&mut hasher));
    hasher.finish()
}

/// What project.cmake has put aside of a file.
fn copy(used: &Path, file: &Path) -> Option<Vec<u8>> {
    fs::read(used.join(file.strip_prefix(OURS).ok()?)).ok()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
