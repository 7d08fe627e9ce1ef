//! A header and the settings → the device that will run the model, for people; and the number of threads.

use std::collections::BTreeSet;
use std::path::Path;

use crate::chat::Settings;
use crate::engine::llama;
use crate::gguf::Header;
use crate::units::count;

/// The device that will run the model, and a warning if a GPU goes unused.
pub(super) fn device(header: &Header, settings: &Settings, threads: u32) -> (String, Option<String>) {
    // The output layer counts, too, as in llama.cpp.
    let layers = header.arch_uint("block_count").unwrap_or(0) + 1;
    let gpus: Vec<String> = llama::devices().into_iter().filter(|d| d.gpu).map(|d| d.description).collect();
    let on_gpu = settings.gpu_layers.map_or(layers, u64::from).min(layers);
    let threads = count(threads, "thread");
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

/// Physical cores that this process may use, at least 1: more threads than cores slow llama.cpp down.
pub(super) fn physical_cores() -> u32 {
    let logical = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let siblings = |cpu: u32| {
        let file = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        std::fs::read_to_string(file).ok()
    };
    let cores: BTreeSet<String> = allowed_cpus().into_iter().filter_map(siblings).collect();
    if cores.is_empty() { logical } else { (cores.len() as u32).min(logical) }
}

/// The processors that the kernel lets this process use; `/proc` lists them as `0-3,8`.
fn allowed_cpus() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}
