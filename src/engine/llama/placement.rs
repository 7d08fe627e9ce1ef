//! Which devices have which part of a model → llama.cpp's load parameters.

use std::ffi::CString;
use std::ptr::{null, null_mut};

use llama_cpp_sys_2 as sys;

use super::devices::{backend, device_handles, gpus, handle};
use super::log::c_text;
use crate::chat::Settings;
use crate::chat::settings::SplitMode;

/// The tensors that hold the experts of a mixture of experts, as a regular expression (llama.cpp's
/// `LLM_FFN_EXPS_REGEX`).
const EXPERTS: &str = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps";

/// Where a model goes. `Debug` shows all that its numbers depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The names of the GPUs to use; empty: none.
    pub gpus: Vec<String>,
    /// Layers on the GPUs, the output layer included, the last ones first.
    pub gpu_layers: u32,
    pub split_mode: SplitMode,
    pub main_gpu: u32,
    /// The share of each GPU; empty: by its free memory.
    pub tensor_split: Vec<f32>,
    /// In how many of the first layers the experts stay in main memory.
    pub cpu_experts: u32,
    /// Regular expressions of tensor names and the buffer types for them.
    pub overrides: Vec<(String, String)>,
}

impl Placement {
    /// As the settings say. What they leave open is all on the GPUs, whether it fits or not.
    pub fn new(settings: &Settings) -> Placement {
        let gpus = match &settings.devices[..] {
            // With a GPU at hand, llama.cpp would evaluate large batches there even so.
            _ if settings.gpu_layers == Some(0) => Vec::new(),
            [] => gpus().into_iter().map(|gpu| gpu.name).collect(),
            [none] if none == "none" => Vec::new(),
            names => names.to_vec(),
        };
        let all = if settings.cpu_moe { u32::MAX } else { 0 };
        Placement {
            gpu_layers: if gpus.is_empty() { 0 } else { settings.gpu_layers.unwrap_or(u32::MAX) },
            gpus,
            split_mode: settings.split_mode,
            main_gpu: settings.main_gpu,
            tensor_split: settings.tensor_split.clone(),
            cpu_experts: settings.n_cpu_moe.unwrap_or(0).max(all),
            overrides: settings.override_tensor.clone(),
        }
    }

    /// For a file of which no tensors are loaded.
    pub(super) fn nowhere() -> Placement {
        Placement::new(&Settings { gpu_layers: Some(0), ..Settings::default() })
    }

    /// Whether a GPU has a part of it.
    pub fn on_gpu(&self) -> bool {
        self.gpu_layers > 0 && self.gpus.iter().any(|name| handle(name).is_some())
    }
}

/// The arrays that llama.cpp's parameters point to. They must outlive the load.
pub(super) struct Arrays {
    devices: Vec<sys::ggml_backend_dev_t>,
    shares: Vec<f32>,
    /// The texts of `overrides`.
    _patterns: Vec<CString>,
    overrides: Vec<sys::llama_model_tensor_buft_override>,
}

impl Placement {
    pub(super) fn arrays(&self) -> Arrays {
        // SAFETY: returns a constant.
        let most = unsafe { sys::llama_max_devices() };
        let mut devices: Vec<_> = self.gpus.iter().filter_map(|name| handle(name)).collect();
        devices.push(null_mut()); // marks the end
        let mut shares = self.tensor_split.clone();
        shares.resize(if shares.is_empty() { 0 } else { most }, 0.0);
        let experts = self.expert_patterns().into_iter().map(|regex| (regex, "CPU".to_string()));
        let named = self.overrides.iter().cloned().chain(experts);
        let known = named.filter_map(|(regex, name)| Some((CString::new(regex).ok()?, buffer_type(&name)?)));
        let (patterns, buffers): (Vec<CString>, Vec<_>) = known.unzip();
        let entry = |pattern, buft| sys::llama_model_tensor_buft_override { pattern, buft };
        let overrides = patterns.iter().zip(buffers).map(|(text, buffer)| entry(text.as_ptr(), buffer));
        let mut overrides: Vec<_> = overrides.collect();
        overrides.push(entry(null(), null_mut())); // marks the end
        Arrays { devices, shares, _patterns: patterns, overrides }
    }

    fn expert_patterns(&self) -> Vec<String> {
        match self.cpu_experts {
            0 => Vec::new(),
            u32::MAX => vec![EXPERTS.to_string()],
            first => (0..first).map(|layer| format!(r"blk\.{layer}{EXPERTS}")).collect(),
        }
    }

    /// Fills in llama.cpp's parameters; `arrays` are this placement's own.
    pub(super) fn apply(&self, arrays: &mut Arrays, params: &mut sys::llama_model_params) {
        params.n_gpu_layers = i32::try_from(self.gpu_layers).unwrap_or(i32::MAX);
        params.split_mode = match self.split_mode {
            SplitMode::None => sys::LLAMA_SPLIT_MODE_NONE,
            SplitMode::Layer => sys::LLAMA_SPLIT_MODE_LAYER,
            SplitMode::Row => sys::LLAMA_SPLIT_MODE_ROW,
        };
        params.main_gpu = if arrays.devices.len() == 1 { -1 } else { self.main_gpu as i32 };
        params.devices = arrays.devices.as_mut_ptr();
        params.tensor_split = if arrays.shares.is_empty() { null() } else { arrays.shares.as_ptr() };
        params.tensor_buft_overrides = arrays.overrides.as_ptr();
    }
}

/// The names of the buffer types that overrides can name.
pub fn buffer_types() -> Vec<String> {
    backend();
    // SAFETY: every device has a default buffer type, whose name is a static text.
    let name =
        |device| c_text(unsafe { sys::ggml_backend_buft_name(sys::ggml_backend_dev_buffer_type(device)) });
    device_handles().filter_map(name).collect()
}

fn buffer_type(name: &str) -> Option<sys::ggml_backend_buffer_type_t> {
    // SAFETY: as in `buffer_types`.
    let buffer = |device| unsafe { sys::ggml_backend_dev_buffer_type(device) };
    let named = |buffer: &sys::ggml_backend_buffer_type_t| {
        // SAFETY: as above.
        c_text(unsafe { sys::ggml_backend_buft_name(*buffer) }).is_some_and(|known| known == name)
    };
    device_handles().map(buffer).find(named)
}
