//! Products and attention that the program computes in its own way (build/include: block_matmul.h, repacked_products.h,
//! row_attention.h) are those of ggml, to the bit. Only with GGML_FIRESIDE in the environment are they computed so:
//! a process with it and one without give the same bytes.

use std::ffi::{CStr, OsStr, c_char, c_void};

use llama_cpp_sys_2 as sys;

use crate::support::alone_with;
use crate::support::mutate::Random;

/// Runs the test `name` in two processes, in which `bytes` gives what is to be the same.
fn same_with_and_without(name: &str, bytes: impl FnOnce() -> Vec<u8>) {
    const RESULT: &str = "FIRESIDE_TEST_RESULT";
    if let Some(path) = std::env::var_os(RESULT) {
        // SAFETY: the function has the type that is asked for; the tables of the kernels are filled.
        unsafe {
            sys::ggml_log_set(Some(silent), std::ptr::null_mut());
            sys::ggml_cpu_init();
        }
        return std::fs::write(path, bytes()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| folder.path().join(name));
    alone_with(name, &[(RESULT, ours.as_os_str()), ("GGML_FIRESIDE", OsStr::new("1"))]);
    alone_with(name, &[(RESULT, theirs.as_os_str())]);
    let [ours, theirs] = [ours, theirs].map(|path| std::fs::read(path).unwrap());
    assert_eq!(ours.len(), theirs.len());
    let first = ours.iter().zip(&theirs).position(|(one, other)| one != other);
    assert_eq!(first, None, "of {} bytes", ours.len());
}

unsafe extern "C" fn silent(_: sys::ggml_log_level, _: *const c_char, _: *mut c_void) {}

/// One computation: what goes into it, and what comes out.
struct Computation {
    context: *mut sys::ggml_context,
    /// What lies outside of the context.
    buffers: Vec<sys::ggml_backend_buffer_t>,
    random: Random,
}

impl Computation {
    fn new(random: Random) -> Computation {
        let params =
            sys::ggml_init_params { mem_size: 64 << 20, mem_buffer: std::ptr::null_mut(), no_alloc: false };
        // SAFETY: it is freed by `finish`.
        Computation { context: unsafe { sys::ggml_init(params) }, buffers: Vec::new(), random }
    }

    /// Numbers up to `scale`, quantised.
    fn tensor(
        &mut self,
        kind: sys::ggml_type,
        size: [i64; 3],
        scale: impl Fn(i64) -> f32,
    ) -> *mut sys::ggml_tensor {
        let rows = size[1] * size[2];
        let mut number = |row| scale(row) * (self.random.next() as i32 as f32 / i32::MAX as f32);
        let numbers: Vec<f32> =
            (0..rows).flat_map(|row| (0..size[0]).map(|_| number(row)).collect::<Vec<_>>()).collect();
        // SAFETY: the tensor has room for as many rows.
        unsafe {
            let tensor = sys::ggml_new_tensor_3d(self.context, kind, size[0], size[1], size[2]);
            match kind {
                sys::GGML_TYPE_F32 => (*tensor).data.cast::<f32>().copy_from(numbers.as_ptr(), numbers.len()),
                _ => {
                    let written = sys::ggml_quantize_chunk(
                        kind,
                        numbers.as_ptr(),
                        (*tensor).data,
                        0,
                        rows,
                        size[0],
                        std::ptr::null(),
                    );
                    assert_eq!(written, sys::ggml_nbytes(tensor));
                }
            }
            tensor
        }
    }

    /// Weights whose scales are usual and all else random: sums get as large as they can.
    fn any_weights(&mut self, kind: sys::ggml_type, size: [i64; 3]) -> *mut sys::ggml_tensor {
        let weights = self.tensor(kind, size, |_| 1.0);
        // SAFETY: the tensor has as many bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut((*weights).data.cast::<u8>(), sys::ggml_nbytes(weights))
        };
        let scales = match kind {
            sys::GGML_TYPE_Q4_K => 2,
            sys::GGML_TYPE_MXFP4 => 0, // an exponent
            _ => 1,
        };
        // SAFETY: only looks it up.
        for block in bytes.chunks_mut(unsafe { sys::ggml_type_size(kind) }) {
            block.fill_with(|| self.random.next() as u8);
            let halves = block.chunks_mut(2).take(scales);
            halves.for_each(|half| half[1] = [0x00, 0x20, 0x28, 0xa8][usize::from(half[1] % 4)]);
            if scales == 0 {
                block[0] = [0, 1, 2, 100, 127, 128][usize::from(block[0] % 6)];
            }
        }
        weights
    }

    /// Columns, of which every fourth has only its largest number, with either sign.
    fn columns(&mut self, size: [i64; 3]) -> *mut sys::ggml_tensor {
        let columns = self.tensor(sys::GGML_TYPE_F32, size, |column| 1.0 + column as f32);
        let count = (size[0] * size[1] * size[2]) as usize;
        // SAFETY: the tensor has as many numbers.
        let numbers = unsafe { std::slice::from_raw_parts_mut((*columns).data.cast::<f32>(), count) };
        for column in numbers.chunks_mut(size[0] as usize).step_by(4) {
            let sign = if self.random.below(2) == 0 { -3.0 } else { 3.0 };
            column.fill(sign);
        }
        columns
    }

    /// Has ggml repack weights, as for a model's. `false`: it has no other layout for such.
    fn repack(&mut self, weights: *mut sys::ggml_tensor) -> bool {
        let Some(layout) = repacked_layout() else { return false };
        // SAFETY: the tensor moves to the buffer, which lives until `finish`; as in llama.cpp's loader.
        unsafe {
            let size = sys::ggml_nbytes(weights);
            let data = std::slice::from_raw_parts((*weights).data.cast::<u8>(), size).to_vec();
            let buffer = sys::ggml_backend_buft_alloc_buffer(layout, size);
            self.buffers.push(buffer);
            (*weights).data = std::ptr::null_mut();
            sys::ggml_backend_tensor_alloc(buffer, weights, sys::ggml_backend_buffer_get_base(buffer));
            if (*weights).extra.is_null() {
                (*weights).data.cast::<u8>().copy_from(data.as_ptr(), size);
                return false;
            }
            sys::ggml_backend_tensor_set(weights, data.as_ptr().cast(), 0, size);
        }
        true
    }

    /// `result`, computed on so many threads.
    fn finish(self, result: *mut sys::ggml_tensor, threads: i32) -> (Vec<u8>, Random) {
        // SAFETY: the tensor belongs to the context, which lives until the copy is made.
        unsafe {
            let graph = sys::ggml_new_graph(self.context);
            sys::ggml_build_forward_expand(graph, result);
            sys::ggml_graph_compute_with_ctx(self.context, graph, threads);
            let bytes =
                std::slice::from_raw_parts((*result).data.cast::<u8>(), sys::ggml_nbytes(result)).to_vec();
            let numbers = bytes.chunks(4).map(|number| f32::from_le_bytes(number.try_into().unwrap()));
            assert!(numbers.clone().all(f32::is_finite) && numbers.clone().any(|number| number != 0.0));
            sys::ggml_free(self.context);
            self.buffers.into_iter().for_each(|buffer| sys::ggml_backend_buffer_free(buffer));
            (bytes, self.random)
        }
    }
}

/// Where ggml repacks weights, if it does.
fn repacked_layout() -> Option<sys::ggml_backend_buffer_type_t> {
    // SAFETY: the function of this name has this type (ggml-backend.h) and returns null, or a list that ends with null.
    unsafe {
        let registry = sys::ggml_backend_cpu_reg();
        let all =
            sys::ggml_backend_reg_get_proc_address(registry, c"ggml_backend_dev_get_extra_bufts".as_ptr());
        let all: sys::ggml_backend_dev_get_extra_bufts_t = std::mem::transmute(all);
        let list = all?(sys::ggml_backend_reg_dev_get(registry, 0));
        let layouts = (0..).map(|at| *list.add(at)).take_while(|layout| !layout.is_null());
        let name = |layout: &_| CStr::from_ptr(sys::ggml_backend_buft_name(*layout));
        layouts.into_iter().find(|layout| name(layout) == c"CPU_REPACK")
    }
}

#[test]
fn products_of_blocks_are_those_of_ggml() {
    same_with_and_without("products::products_of_blocks_are_those_of_ggml", || {
        let (mut random, mut all) = (Random::new(1), Vec::new());
        for kind in [sys::GGML_TYPE_Q4_1, sys::GGML_TYPE_Q8_0] {
            for (length, rows) in [(32, 1), (32, 4), (576, 577), (1536, 63), (4096, 130)] {
                for (columns, threads) in
                    [(1, 1), (1, 2), (1, 5), (2, 2), (3, 1), (4, 3), (5, 2), (9, 4), (33, 2)]
                {
                    let mut one = Computation::new(random);
                    let weights =
                        one.tensor(kind, [length, rows, 1], |row| [1.0, 0.0, 1e-3, 300.0][row as usize % 4]);
                    let values =
                        one.tensor(sys::GGML_TYPE_F32, [length, columns, 1], |column| 1.0 + column as f32);
                    // SAFETY: both belong to the context.
                    let product = unsafe { sys::ggml_mul_mat(one.context, weights, values) };
                    let (bytes, left) = one.finish(product, threads);
                    random = left;
                    all.extend(bytes);
                }
            }
        }
        all
    });
}

/// Those that llama.cpp repacks on processors with AVX2.
const REPACKED: [sys::ggml_type; 4] =
    [sys::GGML_TYPE_Q4_K, sys::GGML_TYPE_Q4_0, sys::GGML_TYPE_IQ4_NL, sys::GGML_TYPE_MXFP4];

#[test]
fn products_of_repacked_weights_are_those_of_ggml() {
    same_with_and_without("products::products_of_repacked_weights_are_those_of_ggml", || {
        let (mut random, mut all) = (Random::new(3), Vec::new());
        for kind in REPACKED {
            for (length, rows) in [(256, 8), (256, 24), (1024, 136), (4096, 72)] {
                for (columns, threads) in
                    [(1, 1), (3, 2), (4, 1), (5, 3), (32, 2), (35, 1), (71, 2), (136, 5)]
                {
                    let mut one = Computation::new(random);
                    let weights = one.any_weights(kind, [length, rows, 1]);
                    let values = one.columns([length, columns, 1]);
                    assert!(one.repack(weights) || !cfg!(target_feature = "avx2"));
                    // SAFETY: both belong to the context.
                    let product = unsafe { sys::ggml_mul_mat(one.context, weights, values) };
                    let (bytes, left) = one.finish(product, threads);
                    random = left;
                    all.extend(bytes);
                }
            }
        }
        all
    });
}

#[test]
fn products_of_experts_are_those_of_ggml() {
    same_with_and_without("products::products_of_experts_are_those_of_ggml", || {
        let (mut random, mut all) = (Random::new(4), Vec::new());
        for kind in REPACKED {
            // Each token has a column for all of its experts, or one for each of them.
            for (length, rows, experts, chosen, each) in [
                (256, 8, 4, 2, false),
                (512, 136, 32, 4, false),
                (1024, 40, 32, 4, true),
                (256, 64, 3, 1, true),
            ] {
                for (tokens, threads) in [(1, 1), (1, 3), (2, 2), (9, 2), (40, 1), (150, 5)] {
                    let mut one = Computation::new(random);
                    let weights = one.any_weights(kind, [length, rows, experts]);
                    let values = one.columns([length, if each { chosen } else { 1 }, tokens]);
                    assert!(one.repack(weights) || !cfg!(target_feature = "avx2"));
                    // Some experts are asked more often than others.
                    let first: Vec<i64> = (0..tokens)
                        .map(|_| {
                            one.random.below(experts as usize).min(one.random.below(experts as usize)) as i64
                        })
                        .collect();
                    let ids = |i: i64| ((first[(i / chosen) as usize] + i % chosen) % experts) as i32;
                    let ids: Vec<i32> = (0..tokens * chosen).map(ids).collect();
                    // SAFETY: all belong to the context; there is room for as many numbers.
                    let product = unsafe {
                        let of = sys::ggml_new_tensor_2d(one.context, sys::GGML_TYPE_I32, chosen, tokens);
                        (*of).data.cast::<i32>().copy_from(ids.as_ptr(), ids.len());
                        sys::ggml_mul_mat_id(one.context, weights, values, of)
                    };
                    let (bytes, left) = one.finish(product, threads);
                    random = left;
                    all.extend(bytes);
                }
            }
        }
        all
    });
}

/// Heads of queries and of keys, the numbers of a key and of a value, positions, tokens, and whether there are sinks and a mask.
type Attention = ([i64; 2], [i64; 2], i64, i64, [bool; 2]);

#[test]
fn attention_of_a_few_tokens_is_that_of_ggml() {
    const CASES: [Attention; 18] = [
        ([9, 3], [64, 64], 256, 1, [false, true]),
        ([9, 3], [64, 64], 511, 1, [false, true]),
        ([9, 3], [64, 64], 2304, 1, [false, true]),
        ([9, 3], [64, 64], 2304, 17, [false, true]),
        ([9, 3], [64, 64], 100, 63, [false, true]),
        ([8, 2], [128, 128], 1024, 1, [false, true]),
        ([8, 2], [128, 128], 1024, 3, [false, true]),
        ([64, 8], [64, 64], 777, 1, [true, true]),
        ([64, 8], [64, 64], 300, 2, [true, true]),
        ([4, 4], [64, 64], 600, 1, [false, true]),
        ([6, 1], [256, 256], 520, 1, [false, true]),
        ([6, 1], [256, 256], 520, 5, [false, true]),
        ([4, 2], [192, 128], 640, 1, [false, true]),
        ([4, 2], [192, 128], 640, 9, [true, true]),
        ([2, 2], [80, 80], 600, 1, [false, true]),
        ([2, 2], [64, 64], 600, 70, [false, true]),
        ([9, 3], [64, 64], 640, 1, [false, false]),
        ([9, 3], [64, 64], 333, 7, [true, false]),
    ];
    same_with_and_without("products::attention_of_a_few_tokens_is_that_of_ggml", || {
        let (mut random, mut all) = (Random::new(2), Vec::new());
        for ([heads, shared], [keys, values], positions, tokens, [sinks, masked]) in CASES {
            for threads in [1, 2, 3, 7] {
                let mut one = Computation::new(random);
                // As in llama.cpp: a token's or position's heads lie side by side.
                let q = one.tensor(sys::GGML_TYPE_F32, [keys, heads, tokens], |_| 8.0);
                // Such that the largest score comes late, too.
                let k =
                    one.tensor(sys::GGML_TYPE_F16, [keys, shared, positions], |row| 1.0 + row as f32 / 900.0);
                let v = one.tensor(sys::GGML_TYPE_F16, [values, shared, positions], |_| 2.0);
                let sink = one.tensor(sys::GGML_TYPE_F32, [heads, 1, 1], |_| 30.0);
                let hidden = |token: i64, at: i64| {
                    (70..200).contains(&at) || at % 97 == 5 || at > positions - 60 + token
                };
                let mask: Vec<f32> = (0..positions * tokens)
                    .map(|i| [0.0, f32::NEG_INFINITY][usize::from(hidden(i / positions, i % positions))])
                    .collect();
                // SAFETY: the tensors belong to the context; the mask has as many numbers, and there is a key 75.
                let result = unsafe {
                    let of = sys::ggml_new_tensor_2d(one.context, sys::GGML_TYPE_F16, positions, tokens);
                    sys::ggml_fp32_to_fp16_row(mask.as_ptr(), (*of).data.cast(), mask.len() as i64);
                    let of = if masked { of } else { std::ptr::null_mut() };
                    if masked {
                        // What a hidden position holds does not matter.
                        (*k).data.cast::<u16>().add((75 * shared * keys) as usize).write(0x7e00);
                    }
                    let [q, k, v] =
                        [q, k, v].map(|tensor| sys::ggml_permute(one.context, tensor, 0, 2, 1, 3));
                    let scale = 1.0 / (keys as f32).sqrt();
                    let result = sys::ggml_flash_attn_ext(one.context, q, k, v, of, scale, 0.0, 0.0);
                    if sinks {
                        sys::ggml_flash_attn_ext_add_sinks(result, sink);
                    }
                    result
                };
                let (bytes, left) = one.finish(result, threads);
                random = left;
                all.extend(bytes);
            }
        }
        all
    });
}

/// Without this, the tests above would compare ggml with itself.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2", not(feature = "dynamic-backends")))]
#[test]
fn our_kernels_are_compiled_in() {
    unsafe extern "C" {
        fn fireside_stock_mul_mat_tiled();
        fn fireside_stock_flash_attn_ext();
        fn fireside_stock_extra_compute_forward();
    }
    for kernel in [
        fireside_stock_mul_mat_tiled as *const (),
        fireside_stock_flash_attn_ext as *const (),
        fireside_stock_extra_compute_forward as *const (),
    ] {
        assert!(!kernel.is_null());
    }
}
