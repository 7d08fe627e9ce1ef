//! A device → how fast it reads its memory, and how fast it is filled from main memory.
//!
//! llama.cpp does both, as with a model: decoding a token is little else than multiplying matrices by one row,
//! and loading is copying.

use std::time::Instant;

use llama_cpp_sys_2 as sys;

use super::computer::{Computer, Graph};
use super::devices::handle;
use super::log::contained;

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemorySpeed {
    /// That the device reads.
    pub reading: f64,
    /// That are copied to it from main memory.
    pub filling: f64,
}

/// The numbers in a row of the matrix: as many as in those of a model.
const ROW: i64 = 4096;
/// The multiplications in a graph, between which a GPU does not wait for the program.
const TIMES: usize = 8;
/// The runs, of which the best counts: other load slows the others.
const RUNS: usize = 6;
/// Bytes copied at once.
const COPIED: usize = 64 << 20;

/// Measures the memory of the device of this name over about so many bytes, which should exceed its caches; on
/// the CPU with this many threads. `None`: it has no room for them, or is only pretended.
pub fn memory_speed(name: &str, bytes: usize, threads: u32) -> Option<MemorySpeed> {
    contained(|| {
        let device = handle(name)?;
        let computer = Computer::of(device, threads)?;
        let rows = (bytes / size_of::<f32>()) as i64 / ROW;
        let mut matrix = std::ptr::null_mut();
        // SAFETY: a matrix, a row and the products, whose shapes fit.
        let graph = unsafe {
            Graph::new(&computer, TIMES + 2, |context, graph| {
                matrix = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, ROW, rows);
                let row = sys::ggml_new_tensor_2d(context, sys::GGML_TYPE_F32, ROW, 1);
                for _ in 0..TIMES {
                    sys::ggml_build_forward_expand(graph, sys::ggml_mul_mat(context, matrix, row));
                }
            })?
        };
        let read = best(|| graph.run())?;
        let source = vec![1u8; COPIED.min(bytes)];
        let filled = best(|| {
            let started = Instant::now();
            // SAFETY: the matrix is alive, and no smaller than the source.
            unsafe { sys::ggml_backend_tensor_set(matrix, source.as_ptr().cast(), 0, source.len()) };
            Some(started.elapsed().as_secs_f64())
        })?;
        let matrix_bytes = (rows * ROW) as usize * size_of::<f32>();
        let reading = (TIMES * matrix_bytes) as f64 / read;
        Some(MemorySpeed { reading, filling: source.len() as f64 / filled })
    })
}

/// The shortest of some times, in seconds.
fn best(mut run: impl FnMut() -> Option<f64>) -> Option<f64> {
    (0..RUNS).map(|_| run()).try_fold(f64::INFINITY, |least, seconds| Some(least.min(seconds?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_and_filled_at_speeds_that_can_be() {
        let MemorySpeed { reading, filling } = memory_speed("CPU", 32 << 20, 2).unwrap();
        let possible = 1e8..1e13;
        assert!(
            possible.contains(&reading) && possible.contains(&filling),
            "{reading}, {filling} bytes a second"
        );
        assert_eq!(memory_speed("Pretend0", 1 << 20, 1), None);
    }
}
