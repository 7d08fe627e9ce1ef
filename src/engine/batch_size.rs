//! The size of prefill batches: the measured speed of a model → the largest batch that still lets Ctrl-C
//! through. Belongs to stage 5.

/// The smallest and largest size to choose. Batches above [`ENOUGH`] are faster on GPUs only.
const SMALLEST: usize = 64;
const ENOUGH: usize = 512;
const LARGEST: usize = 1024;
/// How long Ctrl-C may wait, in seconds.
const PATIENCE: f64 = 0.25;

/// A power of two for a model that prefills a token in `secs_per_token`; a batch can be interrupted between
/// `parts` parts of it ([`super::model::Model::interruptible_parts`]).
pub(super) fn best(secs_per_token: f64, parts: usize) -> usize {
    let tokens = PATIENCE * parts as f64 / secs_per_token;
    let largest = if parts == 1 { LARGEST } else { ENOUGH };
    let mut size = SMALLEST;
    while size < largest && (2 * size) as f64 <= tokens {
        size *= 2;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::best;

    #[test]
    fn a_batch_is_as_large_as_ctrl_c_allows() {
        assert_eq!(best(1.0 / 10_000.0, 1), 1024, "a large GPU");
        assert_eq!(best(1.0 / 1_000.0, 1), 128, "a slow one");
        assert_eq!(best(1.0, 1), 64);
        assert_eq!(best(1.0 / 300.0, 60), 512, "a small model on a CPU");
        assert_eq!(best(1.0 / 10.0, 64), 128, "a large one");
    }
}
