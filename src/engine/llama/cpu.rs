//! ggml's CPU backend: computes graphs without a model, to try out and to time this processor's code.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr::{NonNull, null};

use llama_cpp_sys_2 as sys;

use super::devices::backend;

/// A backend with threads of its own.
pub(super) struct Cpu(NonNull<sys::ggml_backend>);

impl Cpu {
    /// `None`: this build has no CPU backend.
    pub(super) fn new(threads: u32) -> Option<Cpu> {
        let device = device()?;
        // SAFETY: the device is valid; no parameters are passed.
        let cpu = Cpu(NonNull::new(unsafe { sys::ggml_backend_dev_init(device, null()) })?);
        // SAFETY: the function of this name has this type (ggml-backend.h), or is missing.
        let set_threads: sys::ggml_backend_set_n_threads_t =
            unsafe { transmute(function(device, c"ggml_backend_set_n_threads")) };
        if let Some(set_threads) = set_threads {
            // SAFETY: the backend is alive.
            unsafe { set_threads(cpu.raw(), threads as c_int) };
        }
        Some(cpu)
    }

    pub(super) fn raw(&self) -> sys::ggml_backend_t {
        self.0.as_ptr()
    }
}

impl Drop for Cpu {
    fn drop(&mut self) {
        // SAFETY: it was created here, and nothing else owns it.
        unsafe { sys::ggml_backend_free(self.raw()) };
    }
}

/// The device of the CPU.
pub(super) fn device() -> Option<sys::ggml_backend_dev_t> {
    backend();
    // SAFETY: only looks it up.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    (!device.is_null()).then_some(device)
}

/// A function of the CPU backend, which may have been loaded at run time; null if it has none of this name.
///
/// # Safety
/// `device` is that of the CPU.
pub(super) unsafe fn function(device: sys::ggml_backend_dev_t, name: &CStr) -> *mut c_void {
    // SAFETY: both only look up.
    unsafe {
        sys::ggml_backend_reg_get_proc_address(sys::ggml_backend_dev_backend_reg(device), name.as_ptr())
    }
}
