//! Matrix products that the program computes in its own way (build/include/block_matmul.h) are those of ggml's kernels, to the bit.

use std::ffi::c_void;

use llama_cpp_sys_2 as sys;

use crate::support::alone;
use crate::support::mutate::Random;

/// Weights and columns, both a row after the other.
struct Product {
    kind: sys::ggml_type,
    length: i64,
    rows: i64,
    columns: i64,
    weights: Vec<u8>,
    values: Vec<f32>,
}

impl Product {
    fn random(kind: sys::ggml_type, length: i64, rows: i64, columns: i64, random: &mut Random) -> Product {
        let mut number = |scale: f32| scale * (random.next() as i32 as f32 / i32::MAX as f32);
        let plain: Vec<f32> = (0..rows)
            .flat_map(|row| {
                let scale = [1.0, 0.0, 1e-3, 300.0][row as usize % 4];
                (0..length).map(|_| number(scale)).collect::<Vec<_>>()
            })
            .collect();
        let values = (0..columns * length).map(|i| number(1.0 + (i / length) as f32)).collect();
        // SAFETY: the sizes are those of the two buffers.
        let weights = unsafe {
            let mut weights = vec![0_u8; rows as usize * sys::ggml_row_size(kind, length)];
            let to = weights.as_mut_ptr().cast();
            sys::ggml_quantize_chunk(kind, plain.as_ptr(), to, 0, rows, length, std::ptr::null());
            weights
        };
        Product { kind, length, rows, columns, weights, values }
    }

    fn by_graph(&self, threads: i32) -> Vec<f32> {
        let params = sys::ggml_init_params {
            mem_size: (1 << 20)
                + self.weights.len()
                + 8 * self.values.len()
                + 8 * (self.rows * self.columns) as usize,
            mem_buffer: std::ptr::null_mut(),
            no_alloc: false,
        };
        // SAFETY: the tensors have the sizes of what is copied into and out of them, and live until `ggml_free`.
        unsafe {
            let context = sys::ggml_init(params);
            let weights = sys::ggml_new_tensor_2d(context, self.kind, self.length, self.rows);
            let values = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, self.length, self.columns);
            (*weights).data.cast::<u8>().copy_from(self.weights.as_ptr(), self.weights.len());
            (*values).data.cast::<f32>().copy_from(self.values.as_ptr(), self.values.len());
            let product = sys::ggml_mul_mat(context, weights, values);
            let graph = sys::ggml_new_graph(context);
            sys::ggml_build_forward_expand(graph, product);
            sys::ggml_graph_compute_with_ctx(context, graph, threads);
            let count = (self.rows * self.columns) as usize;
            let result = std::slice::from_raw_parts((*product).data.cast::<f32>(), count).to_vec();
            sys::ggml_free(context);
            result
        }
    }

    /// One row and one column at a time.
    fn by_kernel(&self) -> Vec<f32> {
        // SAFETY: the kernels take a row of weights and a column in the format that they name.
        unsafe {
            let traits = *sys::ggml_get_type_traits_cpu(self.kind);
            let convert = (*sys::ggml_get_type_traits_cpu(traits.vec_dot_type)).from_float.unwrap();
            let row = sys::ggml_row_size(self.kind, self.length);
            let mut column = vec![0_u8; sys::ggml_row_size(traits.vec_dot_type, self.length)];
            let mut result = Vec::new();
            for values in self.values.chunks(self.length as usize) {
                convert(values.as_ptr(), column.as_mut_ptr().cast::<c_void>(), self.length);
                for weights in self.weights.chunks(row) {
                    let mut sum = 0.0;
                    let (x, y) = (weights.as_ptr().cast(), column.as_ptr().cast());
                    traits.vec_dot.unwrap()(self.length as i32, &raw mut sum, 0, x, 0, y, 0, 1);
                    result.push(sum);
                }
            }
            result
        }
    }
}

#[test]
fn products_of_blocks_are_those_of_ggml() {
    if !alone("products::products_of_blocks_are_those_of_ggml") {
        return;
    }
    // SAFETY: no other thread reads the environment now. The first product does.
    unsafe { std::env::set_var("GGML_FIRESIDE", "1") };
    // SAFETY: fills the tables of the kernels.
    unsafe { sys::ggml_cpu_init() };
    let mut random = Random::new(1);
    for (kind, widths) in [(sys::GGML_TYPE_Q4_1, &[1, 2, 3, 4, 5, 9, 33][..]), (sys::GGML_TYPE_Q8_0, &[1])] {
        for (length, rows) in [(32, 1), (32, 4), (576, 577), (1536, 63), (4096, 130)] {
            for columns in widths {
                let product = Product::random(kind, length, rows, *columns, &mut random);
                let expected = product.by_kernel();
                assert!(expected.iter().any(|number| *number != 0.0));
                for threads in 1..=5 {
                    let result = product.by_graph(threads);
                    let same =
                        result.iter().zip(&expected).all(|(one, other)| one.to_bits() == other.to_bits());
                    assert!(same, "{kind} {length} {rows} {columns} {threads}");
                }
            }
        }
    }
}

/// Without this, the test above would compare ggml's kernels with themselves.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2", not(feature = "dynamic-backends")))]
#[test]
fn products_of_blocks_are_compiled_in() {
    unsafe extern "C" {
        fn fireside_stock_mul_mat_tiled();
    }
    assert_ne!(fireside_stock_mul_mat_tiled as *const () as usize, 0);
}
