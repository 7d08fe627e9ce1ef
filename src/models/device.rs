//! A header and the settings → the device that will run the model, for people.

use std::path::Path;

use super::threads::Threads;
use crate::chat::Settings;
use crate::engine::llama;
use crate::gguf::Header;

/// The device that will run the model, and a warning if a GPU goes unused.
pub(super) fn device(header: &Header, settings: &Settings, threads: Threads) -> (String, Option<String>) {
    // The output layer counts, too, as in llama.cpp.
    let layers = header.arch_uint("block_count").unwrap_or(0) + 1;
    let gpus: Vec<String> = llama::devices().into_iter().filter(|d| d.gpu).map(|d| d.description).collect();
    let on_gpu = settings.gpu_layers.map_or(layers, u64::from).min(layers);
    match gpus.first() {
        Some(gpu) if on_gpu > 0 => {
            (format!("{gpu}, up to {on_gpu} of {layers} layers; CPU, {threads}"), None)
        }
        Some(gpu) => {
            let warning = format!("{gpu} is there but not used: gpu-layers is 0");
            (format!("CPU, {threads}"), Some(warning))
        }
        None => {
            let there = ["/proc/driver/nvidia/gpus", "/dev/kfd"].iter().any(|p| Path::new(p).exists());
            let warning = "a GPU is there but not used: this fireside was built without it (cargo features cuda, vulkan)";
            (format!("CPU, {threads}"), there.then(|| warning.to_string()))
        }
    }
}
