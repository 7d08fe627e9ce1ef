//! A plan → the devices that will run the model, for people; and the number of threads.

use std::collections::BTreeSet;
use std::path::Path;

use super::plan::Plan;
use crate::chat::Settings;
use crate::engine::llama::{self, Device};
use crate::units::count;

/// The devices that will run the model, and a warning if a GPU goes unused.
pub(super) fn device(
    gpus: &[Device],
    plan: Option<&Plan>,
    settings: &Settings,
    threads: u32,
) -> (String, Option<String>) {
    let cpu = format!("CPU, {}", count(threads, "thread"));
    if let Some(plan) = plan.filter(|plan| plan.gpu_layers > 0) {
        let used = gpus.iter().zip(&plan.gpus).filter(|(_, share)| share.weights > 0);
        let names: Vec<&str> = used.map(|(gpu, _)| gpu.description.as_str()).collect();
        return (format!("{}, {}; {cpu}", names.join(" and "), plan.placed()), None);
    }
    let gpu = if gpus.is_empty() { llama::gpus().into_iter().next() } else { gpus.first().cloned() };
    let warning = match gpu {
        Some(gpu) if settings.devices.is_empty() && plan.is_none_or(|plan| plan.reason.is_none()) => {
            Some(format!("{} is there but not used: gpu-layers is 0", gpu.description))
        }
        Some(_) => None,
        None => {
            let there = ["/proc/driver/nvidia/gpus", "/dev/kfd"].iter().any(|p| Path::new(p).exists());
            let warning = "a GPU is there but not used: this fireside was built without it (cargo features cuda, vulkan)";
            there.then(|| warning.to_string())
        }
    };
    (cpu, warning)
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
