//! The workers that new models use, and which devices of llama.cpp are theirs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_cpp_sys_2 as sys;

use super::log::c_text;
use crate::rpc::Link;

static SELECTED: Mutex<Vec<Arc<Link>>> = Mutex::new(Vec::new());

/// ggml's name of the registry that all of their devices are in.
const RPC: &str = "RPC";

/// The workers that new models use.
pub(super) fn selected() -> Vec<Arc<Link>> {
    lock().clone()
}

pub(super) fn select(workers: Vec<Arc<Link>>) {
    *lock() = workers;
}

fn lock() -> MutexGuard<'static, Vec<Arc<Link>>> {
    SELECTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The worker that a device belongs to: `None` if it is one of this machine's, `Some(None)` if the worker is not to be
/// used.
pub(super) fn worker_of(device: sys::ggml_backend_dev_t) -> Option<Option<Arc<Link>>> {
    // SAFETY: only look up; the name belongs to the registry.
    let registry = unsafe { c_text(sys::ggml_backend_reg_name(sys::ggml_backend_dev_backend_reg(device))) };
    if registry.as_deref() != Some(RPC) {
        return None;
    }
    // SAFETY: the text belongs to the device.
    let endpoint = c_text(unsafe { sys::ggml_backend_dev_description(device) })?;
    Some(selected().into_iter().find(|link| link.endpoint == endpoint && link.lost().is_none()))
}
