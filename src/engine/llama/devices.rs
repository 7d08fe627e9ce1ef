//! llama.cpp as linked into this program: start-up, version, and usable devices. What packages load comes from plugins.rs.

use std::sync::OnceLock;

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};

use super::log::c_text;
use super::plugins;

/// Starts llama.cpp, once.
pub(super) fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        if cfg!(feature = "dynamic-backends") {
            plugins::load();
        }
        LlamaBackend::init().expect("llama.cpp is started only here")
    })
}

/// A device that can run a model.
#[derive(Debug, Clone)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub gpu: bool,
}

/// The version of the binding, on which the format of saved states depends.
pub const BINDING: &str = "llama-cpp-2 0.1.160, llama-cpp-sys-2 0.1.161";

/// Identifies this build of llama.cpp, including its compiler flags.
pub const BUILD: &str = env!("FIRESIDE_LLAMA_CPP");

/// The devices that llama.cpp supports and found, including the CPU.
pub fn devices() -> Vec<Device> {
    backend();
    let gpu = |kind| matches!(kind, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu);
    let all = list_llama_ggml_backend_devices();
    let known =
        all.into_iter().map(|d| Device { name: d.name, description: d.description, gpu: gpu(d.device_type) });
    known.collect()
}

/// Whether a model with this setting uses a GPU.
pub fn on_gpu(gpu_layers: Option<u32>) -> bool {
    gpu_layers != Some(0) && devices().iter().any(|device| device.gpu)
}

/// The instruction sets and libraries that llama.cpp was built with, as it prints them.
pub fn system_info() -> String {
    backend();
    // SAFETY: returns a pointer to a static string that nothing else writes at this time.
    c_text(unsafe { llama_cpp_sys_2::llama_print_system_info() }).unwrap_or_default()
}
