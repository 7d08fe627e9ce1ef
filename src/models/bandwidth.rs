//! A loaded model → what decoding a token reads on each device: bytes of weights, and how fast, measured now.

use std::path::Path;

use super::fit::planned;
use super::plan::Plan;
use super::threads;
use crate::chat::Settings;
pub use crate::engine::llama::MemorySpeed;
use crate::engine::llama::{Device, DeviceKind, memory_speed};
use crate::gguf;

/// Bytes over which memory is measured: more than caches hold, and not more than a machine has to spare.
const MEASURED: u64 = 256 << 20;
const MOST_MEASURED: u64 = 1 << 30;

/// What decoding a token reads on one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// llama.cpp's name of a GPU; `None`: main memory.
    pub gpu: Option<String>,
    /// Bytes of weights; `None` if unknown.
    pub bytes: Option<u64>,
    /// `None` if it was not measured: another machine's, or without room for that.
    pub speed: Option<MemorySpeed>,
}

/// For the model at `path` with the settings that it was loaded with. If nothing is known of it, all is in main
/// memory.
pub fn readings(path: Option<&Path>, settings: &Settings) -> Vec<Reading> {
    let main = |bytes| Reading {
        gpu: None,
        bytes,
        speed: memory_speed(
            "CPU",
            (4 * largest_cache()).clamp(MEASURED, MOST_MEASURED) as usize,
            threads(settings).count,
        ),
    };
    let Some((gpus, plan)) = path.and_then(|path| plan_of(path, settings)) else { return vec![main(None)] };
    let shares = gpus.iter().zip(&plan.gpus).filter(|(_, share)| share.read > 0);
    let on_gpus = shares.map(|(gpu, share)| {
        // A worker serves one program at a time, and holds the model.
        let speed = (gpu.kind != DeviceKind::Lent).then(|| memory_speed(&gpu.name, MEASURED as usize, 1));
        Reading { gpu: Some(gpu.name.clone()), bytes: Some(share.read), speed: speed.flatten() }
    });
    on_gpus.chain((plan.main.read > 0).then(|| main(Some(plan.main.read)))).collect()
}

fn plan_of(path: &Path, settings: &Settings) -> Option<(Vec<Device>, Plan)> {
    let header = gguf::read(path).ok()?;
    let headers = gguf::parts(&header).iter().map(|part| gguf::read(part)).collect::<Result<Vec<_>, _>>();
    planned(&headers.ok()?, settings).ok()
}

/// The size of the processor's largest cache in bytes; 0 if the system does not report it.
pub fn largest_cache() -> u64 {
    let size = |level: u32| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{level}/size");
        std::fs::read_to_string(path).ok()?.trim().strip_suffix('K')?.parse::<u64>().ok()
    };
    (0..5).filter_map(size).max().unwrap_or(0) << 10
}
