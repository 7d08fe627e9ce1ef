//! The llama.cpp in this program: its start-up, its version, and the processors it can use.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use super::log::c_text;

/// llama.cpp's start-up, done once.
pub(super) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| LlamaBackend::init().expect("llama.cpp is started only here"))
}

/// A processor that can run a model.
#[derive(Debug, Clone)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub gpu: bool,
}

/// The binding that is used, which decides what saved memory looks like.
pub const BINDING: &str = "llama-cpp-2 0.1.160, llama-cpp-sys-2 0.1.161";

/// Tells the llama.cpp that is in this program from any other, one compiled with other flags included.
pub const BUILD: &str = env!("FIRESIDE_LLAMA_CPP");

/// The processors llama.cpp was built for and found, the CPU included.
pub fn devices() -> Vec<Device> {
    backend();
    let gpu = |kind| matches!(kind, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu);
    let all = list_llama_ggml_backend_devices();
    let known =
        all.into_iter().map(|d| Device { name: d.name, description: d.description, gpu: gpu(d.device_type) });
    known.collect()
}

/// The instruction sets and libraries llama.cpp was built with, as it prints them.
pub fn system_info() -> String {
    backend();
    // SAFETY: returns a pointer to a static string that nobody else writes now.
    c_text(unsafe { llama_cpp_sys_2::llama_print_system_info() }).unwrap_or_default()
}
