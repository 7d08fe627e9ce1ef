//! Graphs that a device computes without a model around them, to try out its code and to time it.

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr::{NonNull, null, null_mut};
use std::time::Instant;

use llama_cpp_sys_2 as sys;

use super::devices::backend;
use super::pages::ask_for_huge_pages;

/// A ggml backend: a device ready to compute.
pub(super) struct Computer(NonNull<sys::ggml_backend>);

impl Computer {
    /// The CPU. `None`: this build has no backend for it.
    pub(super) fn cpu(threads: u32) -> Option<Computer> {
        Computer::of(cpu()?, threads)
    }

    /// A device, the CPU with threads of its own. `None`: its driver refuses.
    pub(super) fn of(device: sys::ggml_backend_dev_t, threads: u32) -> Option<Computer> {
        // SAFETY: devices stay valid; no parameters are passed.
        let computer = Computer(NonNull::new(unsafe { sys::ggml_backend_dev_init(device, null()) })?);
        // SAFETY: the function of this name has this type (ggml-backend.h), or is missing, as on GPUs.
        let set_threads: sys::ggml_backend_set_n_threads_t =
            unsafe { transmute(function(device, c"ggml_backend_set_n_threads")) };
        if let Some(set_threads) = set_threads {
            // SAFETY: the backend is alive.
            unsafe { set_threads(computer.raw(), threads as c_int) };
        }
        Some(computer)
    }

    pub(super) fn raw(&self) -> sys::ggml_backend_t {
        self.0.as_ptr()
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        // SAFETY: it was created here, and nothing else owns it.
        unsafe { sys::ggml_backend_free(self.raw()) };
    }
}

/// The device of the CPU.
pub(super) fn cpu() -> Option<sys::ggml_backend_dev_t> {
    backend();
    // SAFETY: only looks it up.
    let device = unsafe { sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU) };
    (!device.is_null()).then_some(device)
}

/// A function of a device's backend, which may have been loaded at run time; null if it has none of this name.
///
/// # Safety
/// `device` is valid.
pub(super) unsafe fn function(device: sys::ggml_backend_dev_t, name: &CStr) -> *mut c_void {
    // SAFETY: both only look up.
    unsafe {
        sys::ggml_backend_reg_get_proc_address(sys::ggml_backend_dev_backend_reg(device), name.as_ptr())
    }
}

/// Operations on tensors that lie in a device's memory, zeros at first.
pub(super) struct Graph<'c> {
    computer: &'c Computer,
    context: NonNull<sys::ggml_context>,
    graph: *mut sys::ggml_cgraph,
    /// The tensors; null until they are there.
    buffer: sys::ggml_backend_buffer_t,
}

impl<'c> Graph<'c> {
    /// `build` makes at most `tensors` tensors. `None`: out of memory, or the device lacks an operation.
    ///
    /// # Safety
    /// `build` makes no more, all of them in this context, and fitting shapes of them.
    pub(super) unsafe fn new(
        computer: &'c Computer,
        tensors: usize,
        build: impl FnOnce(*mut sys::ggml_context, *mut sys::ggml_cgraph),
    ) -> Option<Graph<'c>> {
        // SAFETY: both only compute a size.
        let (tensor, graph) = unsafe { (sys::ggml_tensor_overhead(), sys::ggml_graph_overhead()) };
        let params = sys::ggml_init_params {
            mem_size: tensor * tensors + graph,
            mem_buffer: null_mut(),
            no_alloc: true,
        };
        // SAFETY: ggml allocates the memory itself.
        let context = NonNull::new(unsafe { sys::ggml_init(params) })?;
        // SAFETY: the context has room for a graph.
        let graph = unsafe { sys::ggml_new_graph(context.as_ptr()) };
        let mut graph = Graph { computer, context, graph, buffer: null_mut() };
        build(context.as_ptr(), graph.graph);
        // SAFETY: the context and the backend are alive.
        graph.buffer = unsafe { sys::ggml_backend_alloc_ctx_tensors(context.as_ptr(), computer.raw()) };
        let buffer = NonNull::new(graph.buffer)?;
        ask_for_huge_pages(); // weights that are laid out anew have them too
        // SAFETY: the buffer was just allocated.
        unsafe { sys::ggml_backend_buffer_clear(buffer.as_ptr(), 0) };
        graph.is_supported().then_some(graph)
    }

    fn is_supported(&self) -> bool {
        // SAFETY: the graph is alive, and the nodes are its own.
        unsafe {
            let node = |index| sys::ggml_graph_node(self.graph, index);
            (0..sys::ggml_graph_n_nodes(self.graph))
                .all(|index| sys::ggml_backend_supports_op(self.computer.raw(), node(index)))
        }
    }

    /// The time of a run, in seconds.
    pub(super) fn run(&self) -> Option<f64> {
        let started = Instant::now();
        // SAFETY: the tensors of the graph are in the buffer.
        let status = unsafe { sys::ggml_backend_graph_compute(self.computer.raw(), self.graph) };
        (status == sys::GGML_STATUS_SUCCESS).then(|| started.elapsed().as_secs_f64())
    }
}

impl Drop for Graph<'_> {
    fn drop(&mut self) {
        // SAFETY: both were created here, or the buffer is null, and nothing else owns them.
        unsafe {
            sys::ggml_backend_buffer_free(self.buffer);
            sys::ggml_free(self.context.as_ptr());
        }
    }
}
