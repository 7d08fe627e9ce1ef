//! llama.cpp as linked into this program: start-up, version, and devices with their memory. What packages load
//! comes from plugins.rs.

use std::ffi::c_char;
use std::sync::{Once, OnceLock};

use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_sys_2 as sys;

use super::lent::worker_of;
use super::log::c_text;
use super::plugins;
use crate::chat::settings::Numa;

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

/// The kinds of devices that llama.cpp tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    Cpu,
    /// With memory of its own.
    Gpu,
    /// A GPU that shares main memory.
    Integrated,
    /// Computes with main memory, beside the CPU.
    Accelerator,
    /// Another machine's, whose memory is its own.
    Lent,
}

/// A device that can run a model, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// llama.cpp's short name: `CUDA0`.
    pub name: String,
    pub description: String,
    pub kind: DeviceKind,
    /// Bytes of its memory: free now, and all; 0 if the driver does not say.
    pub free: u64,
    pub total: u64,
    /// Identifies the hardware, which two drivers may both offer.
    pub hardware: Option<String>,
}

impl Device {
    /// Whether layers can be put there: on a GPU, or on a worker, whatever that computes with.
    pub fn is_gpu(&self) -> bool {
        matches!(self.kind, DeviceKind::Gpu | DeviceKind::Integrated | DeviceKind::Lent)
    }

    /// Its free memory in bytes, if known. An integrated GPU has no more than main memory, of which `main` is free.
    pub fn free_beside(&self, main: Option<u64>) -> Option<u64> {
        let own = Some(self.free).filter(|_| self.total > 0);
        let shared = main.filter(|_| self.kind == DeviceKind::Integrated);
        own.into_iter().chain(shared).min()
    }

    /// Whether its memory is no part of this machine's main memory.
    pub fn has_own_memory(&self) -> bool {
        matches!(self.kind, DeviceKind::Gpu | DeviceKind::Lent)
    }
}

/// The version of the binding, on which the format of saved states depends.
pub const BINDING: &str = "llama-cpp-2 0.1.160, llama-cpp-sys-2 0.1.161";

/// Identifies this build of llama.cpp, including its compiler flags.
pub const BUILD: &str = env!("FIRESIDE_LLAMA_CPP");

/// The devices that llama.cpp supports and found, including the CPU, with their memory as it is now.
pub fn devices() -> Vec<Device> {
    with_test_memory(device_handles().filter_map(described).collect())
}

/// llama.cpp's handles of all devices, without those of workers that are not to be used.
pub(super) fn device_handles() -> impl Iterator<Item = sys::ggml_backend_dev_t> {
    backend();
    // SAFETY: only workers.rs adds to the list, and each device stays valid.
    let count = unsafe { sys::ggml_backend_dev_count() };
    // SAFETY: as above, and the index is below the count.
    let devices = (0..count).map(|index| unsafe { sys::ggml_backend_dev_get(index) });
    devices.filter(|device| !matches!(worker_of(*device), Some(None)))
}

/// The GPUs that llama.cpp uses unless told otherwise: each once, integrated ones only if there are no others.
pub fn gpus() -> Vec<Device> {
    let mut gpus: Vec<Device> = Vec::new();
    for device in devices().into_iter().filter(Device::is_gpu) {
        let same = |other: &Device| device.hardware.is_some() && other.hardware == device.hardware;
        if !gpus.iter().any(same) {
            gpus.push(device);
        }
    }
    let discrete = gpus.iter().any(|gpu| gpu.kind == DeviceKind::Gpu);
    gpus.retain(|gpu| !discrete || gpu.kind != DeviceKind::Integrated);
    gpus
}

fn described(device: sys::ggml_backend_dev_t) -> Option<Device> {
    // SAFETY: plain fields, for which zero is a value.
    let mut about: sys::ggml_backend_dev_props = unsafe { std::mem::zeroed() };
    // SAFETY: fills in all fields; the texts belong to the device.
    unsafe { sys::ggml_backend_dev_get_props(device, &raw mut about) };
    let text = |text: *const c_char| c_text(text).map(|text| text.trim().to_string());
    let kind = match about.type_ {
        sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
        sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::Integrated,
        sys::GGML_BACKEND_DEVICE_TYPE_ACCEL => DeviceKind::Accelerator,
        _ => return None,
    };
    let (name, free) = (text(about.name)?, about.memory_free as u64);
    if let Some(worker) = worker_of(device).flatten() {
        // The system of a worker counts all of its memory as free.
        let (kind, free) = (DeviceKind::Lent, free.min(worker.memory));
        let (description, total) = (format!("worker {}", worker.address), about.memory_total as u64);
        return Some(Device { name, description, kind, free, total, hardware: None });
    }
    Some(Device {
        name,
        description: text(about.description).unwrap_or_default(),
        kind,
        free,
        total: about.memory_total as u64,
        hardware: text(about.device_id),
    })
}

/// For tests: `FIRESIDE_TEST_GPUS=500,2000` caps the free memory of each GPU, in MiB. Entries beyond the GPUs
/// that are there stand for pretended ones, which plans use but llama.cpp does not.
fn with_test_memory(mut devices: Vec<Device>) -> Vec<Device> {
    let Ok(caps) = std::env::var("FIRESIDE_TEST_GPUS") else { return devices };
    let caps = caps.split(',').filter_map(|mib| mib.trim().parse::<u64>().ok()).map(|mib| mib << 20);
    let caps: Vec<u64> = caps.collect();
    let mut there: Vec<Option<String>> = Vec::new(); // two back ends may have the same GPU
    for device in devices.iter_mut().filter(|device| device.is_gpu()) {
        let known =
            device.hardware.as_ref().and_then(|_| there.iter().position(|gpu| *gpu == device.hardware));
        let place = known.unwrap_or(there.len());
        if known.is_none() {
            there.push(device.hardware.clone());
        }
        device.free = caps.get(place).map_or(device.free, |cap| device.free.min(*cap));
    }
    for (index, cap) in caps.into_iter().enumerate().skip(there.len()) {
        let (name, description) = (format!("Pretend{index}"), "pretended GPU".into());
        let kind = DeviceKind::Gpu;
        devices.push(Device { name, description, kind, free: cap, total: cap, hardware: None });
    }
    devices
}

/// llama.cpp's handle of a device; `None` for a pretended one, and for one of a worker that is lost.
pub(super) fn handle(name: &str) -> Option<sys::ggml_backend_dev_t> {
    let own_name = |device: sys::ggml_backend_dev_t| {
        // SAFETY: the text belongs to the device.
        c_text(unsafe { sys::ggml_backend_dev_name(device) })
    };
    device_handles().find(|device| own_name(*device).is_some_and(|own| own.trim() == name))
}

/// Spreads threads and memory over the nodes of the machine: the first call counts, for the whole process.
pub(super) fn spread(numa: Numa) {
    static DONE: Once = Once::new();
    let strategy = match numa {
        Numa::Off => return,
        Numa::Distribute => sys::GGML_NUMA_STRATEGY_DISTRIBUTE,
        Numa::Isolate => sys::GGML_NUMA_STRATEGY_ISOLATE,
        Numa::Numactl => sys::GGML_NUMA_STRATEGY_NUMACTL,
    };
    backend();
    // SAFETY: only one thread calls this, before any model is loaded.
    DONE.call_once(|| unsafe { sys::llama_numa_init(strategy) });
}

/// The instruction sets and libraries that llama.cpp was built with, as it prints them.
pub fn system_info() -> String {
    backend();
    // SAFETY: returns a pointer to a static string that nothing else writes at this time.
    c_text(unsafe { sys::llama_print_system_info() }).unwrap_or_default()
}
