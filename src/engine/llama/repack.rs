//! A weight's type and shape → llama.cpp's code for such weights, repacked for this processor, run once.
//!
//! For the probe of a model file: a fault of this code ends the process. Repacking a whole model would copy it;
//! one weight of each type and shape runs the same code.

use std::ffi::c_int;
use std::mem::transmute;
use std::ptr::null_mut;

use llama_cpp_sys_2 as sys;
#[cfg(target_os = "linux")]
use nix::libc;

use super::computer::{Computer, cpu, function};

/// From now on, weights that this thread loads are repacked by so many threads, where OpenMP is there
/// (build/include/parallel_repack.h). By itself that would take one per processor, whatever quota there is.
pub(super) fn repack_with(threads: u32) {
    #[cfg(target_os = "linux")]
    for name in [c"libgomp.so.1", c"libomp.so.5"] {
        // SAFETY: asks for a library that llama.cpp has loaded, whose function has this type in every version.
        unsafe {
            let library = libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if library.is_null() {
                continue;
            }
            let function = libc::dlsym(library, c"omp_set_num_threads".as_ptr());
            if !function.is_null() {
                let set: extern "C" fn(c_int) = transmute(function);
                set(threads as c_int);
            }
            libc::dlclose(library);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = threads;
}

/// Multiplies by a matrix of zeros in the layout that llama.cpp would choose. `false`: it would not repack such
/// a weight, and nothing was done. `kind` is ggml's number of the element type. A third dimension counts the
/// experts that have a matrix each. Both come from a checked header.
pub fn multiply_repacked(kind: u32, dims: &[u64], threads: u32) -> bool {
    let (Some(cpu), Some(computer)) = (cpu(), Computer::cpu(threads)) else { return false };
    repack_with(threads);
    let dims: Vec<i64> = dims.iter().map(|length| *length as i64).collect();
    // SAFETY: all tensors belong to `context`, which has room for them, and the buffers outlive their use. Types
    // and shapes fit together. The order of the calls is that of llama.cpp's loader and of ggml's own tests.
    unsafe {
        let mem_size = 16 * sys::ggml_tensor_overhead() + sys::ggml_graph_overhead();
        let context =
            sys::ggml_init(sys::ggml_init_params { mem_size, mem_buffer: null_mut(), no_alloc: true });
        let matrix = sys::ggml_new_tensor(context, kind, dims.len() as c_int, dims.as_ptr());
        // Rows as in a prompt, and one as in an answer: different code.
        let products = [5, 1].map(|rows| product(context, matrix, &dims, rows));
        let layout = layouts(cpu).into_iter().find(|layout| supports(cpu, *layout, matrix, products[0]));
        if let Some(layout) = layout {
            let size = sys::ggml_backend_buft_get_alloc_size(layout, matrix);
            let buffer = sys::ggml_backend_buft_alloc_buffer(layout, size);
            assert!(!buffer.is_null(), "there is no memory to repack a weight of {size} bytes");
            sys::ggml_backend_tensor_alloc(buffer, matrix, sys::ggml_backend_buffer_get_base(buffer));
            let zeros = vec![0u8; sys::ggml_nbytes(matrix)];
            sys::ggml_backend_tensor_set(matrix, zeros.as_ptr().cast(), 0, zeros.len()); // repacks
            let others = sys::ggml_backend_alloc_ctx_tensors(context, computer.raw());
            sys::ggml_backend_buffer_clear(others, 0);
            let graph = sys::ggml_new_graph(context);
            products.iter().for_each(|product| sys::ggml_build_forward_expand(graph, *product));
            sys::ggml_backend_graph_compute(computer.raw(), graph);
            sys::ggml_backend_buffer_free(others);
            sys::ggml_backend_buffer_free(buffer);
        }
        sys::ggml_free(context);
        layout.is_some()
    }
}

/// So many rows times the matrix, or times that of the first expert.
///
/// # Safety
/// `matrix` belongs to `context` and has these two or three dimensions.
unsafe fn product(
    context: *mut sys::ggml_context,
    matrix: *mut sys::ggml_tensor,
    dims: &[i64],
    rows: i64,
) -> *mut sys::ggml_tensor {
    // SAFETY: the shapes are those that the operation asks for.
    unsafe {
        if dims.len() == 2 {
            let rows = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, dims[0], rows);
            return sys::ggml_mul_mat(context, matrix, rows);
        }
        let experts = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_I32, 1, rows);
        let rows = sys::ggml_new_tensor_3d(context, sys::GGML_TYPE_F32, dims[0], 1, rows);
        sys::ggml_mul_mat_id(context, matrix, rows, experts)
    }
}

/// Whether the processor computes this product if its matrix has this layout. An empty buffer stands for the
/// layout, as in llama.cpp's loader.
///
/// # Safety
/// All pointers are valid, and `matrix` has no buffer.
unsafe fn supports(
    cpu: sys::ggml_backend_dev_t,
    layout: sys::ggml_backend_buffer_type_t,
    matrix: *mut sys::ggml_tensor,
    product: *mut sys::ggml_tensor,
) -> bool {
    // SAFETY: the buffer is freed only after its last use.
    unsafe {
        (*matrix).buffer = sys::ggml_backend_buft_alloc_buffer(layout, 0);
        let supported = sys::ggml_backend_dev_supports_op(cpu, product);
        sys::ggml_backend_buffer_free((*matrix).buffer);
        (*matrix).buffer = null_mut();
        supported
    }
}

/// The layouts that this build of llama.cpp has for this processor, the best first.
///
/// # Safety
/// `cpu` is the device of the CPU.
unsafe fn layouts(cpu: sys::ggml_backend_dev_t) -> Vec<sys::ggml_backend_buffer_type_t> {
    // SAFETY: the function of this name has this type (ggml-backend.h) and returns null, or a list that ends
    // with null.
    unsafe {
        let all: sys::ggml_backend_dev_get_extra_bufts_t =
            transmute(function(cpu, c"ggml_backend_dev_get_extra_bufts"));
        let Some(list) = all.map(|all| all(cpu)).filter(|list| !list.is_null()) else { return Vec::new() };
        (0..).map(|at| *list.add(at)).take_while(|layout| !layout.is_null()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_every_type_are_multiplied_by_as_far_as_they_are_repacked() {
        let kinds = [
            sys::GGML_TYPE_F32,
            sys::GGML_TYPE_F16,
            sys::GGML_TYPE_Q4_0,
            sys::GGML_TYPE_Q4_1,
            sys::GGML_TYPE_Q8_0,
            sys::GGML_TYPE_Q2_K,
            sys::GGML_TYPE_Q4_K,
            sys::GGML_TYPE_Q5_K,
            sys::GGML_TYPE_Q6_K,
            sys::GGML_TYPE_IQ4_NL,
            sys::GGML_TYPE_MXFP4,
        ];
        for kind in kinds {
            for dims in [&[256, 64][..], &[512, 33], &[256, 64, 3]] {
                multiply_repacked(kind, dims, 2);
            }
        }
        assert!(!multiply_repacked(sys::GGML_TYPE_F32, &[256, 64], 1), "F32 has no other layout");
        if cfg!(target_feature = "avx2") {
            assert!(multiply_repacked(sys::GGML_TYPE_Q4_0, &[256, 64], 1));
            assert!(multiply_repacked(sys::GGML_TYPE_Q4_0, &[256, 64, 3], 1), "of experts");
        }
    }
}
