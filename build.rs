//! Tells the tests where llama.cpp was compiled.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let ggml =
        env::var_os("DEP_LLAMA_GGML_CMAKE_DIR").expect("llama-cpp-sys-2 says where its CMake files are");
    let build = Path::new(&ggml).ancestors().nth(2).expect("they are in OUT_DIR/lib/cmake").join("build");
    println!("cargo::rustc-env=FIRESIDE_LLAMA_CPP_BUILD={}", build.display());
}
