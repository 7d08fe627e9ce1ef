//! A plan → the devices that will run the model, for people.

use std::path::Path;

use super::plan::Plan;
use super::threads::Threads;
use crate::chat::Settings;
use crate::engine::llama::{self, Device};

/// The devices that will run the model, and a warning if a GPU goes unused.
pub(super) fn device(
    gpus: &[Device],
    plan: Option<&Plan>,
    settings: &Settings,
    threads: Threads,
) -> (String, Option<String>) {
    let prefill = settings.threads_batch.filter(|count| *count != threads.count);
    let cpu = format!("CPU, {threads}{}", prefill.map_or(String::new(), |n| format!(", {n} for prefill")));
    if let Some(plan) = plan.filter(|plan| plan.gpu_layers > 0) {
        let names: Vec<&str> = plan.used(gpus).map(|gpu| gpu.description.as_str()).collect();
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
