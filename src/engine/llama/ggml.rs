//! For tests: how ggml itself validates and quantises numbers.

/// Whether ggml finds no NaN and no infinity in whole blocks of a type; it reports findings on stderr.
pub(crate) fn are_numbers(kind: u32, blocks: &[u8]) -> bool {
    let mut aligned = vec![0u64; blocks.len().div_ceil(8)];
    // SAFETY: `aligned` has at least as many bytes as `blocks`, and may hold any.
    unsafe { std::ptr::copy_nonoverlapping(blocks.as_ptr(), aligned.as_mut_ptr().cast(), blocks.len()) };
    // SAFETY: ggml reads the given number of bytes, aligned for all of its types.
    unsafe { llama_cpp_sys_2::ggml_validate_row_data(kind, aligned.as_ptr().cast(), blocks.len()) }
}

/// Numbers quantised by ggml itself.
pub(crate) fn quantised(kind: u32, numbers: &[f32]) -> Vec<u8> {
    let count = numbers.len() as i64;
    // SAFETY: only reads a table.
    let mut out = vec![0u8; unsafe { llama_cpp_sys_2::ggml_row_size(kind, count) }];
    // SAFETY: `numbers` is one row of `count` numbers, and `out` has the size of such a row.
    unsafe {
        let to = out.as_mut_ptr().cast();
        llama_cpp_sys_2::ggml_quantize_chunk(kind, numbers.as_ptr(), to, 0, 1, count, std::ptr::null());
    }
    out
}
