//! The size of prefill batches: the measured speed of a model → the largest batch that still lets Ctrl-C
//! through. Belongs to stage 5.

/// The smallest and largest size to choose. Batches above [`ENOUGH`] are faster on GPUs only.
const SMALLEST: usize = 64;
const ENOUGH: usize = 512;
const LARGEST: usize = 1024;
/// How long Ctrl-C may wait, in seconds.
const PATIENCE: f64 = 0.25;

/// How a batch is evaluated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batches {
    /// How many parts of a batch it can be interrupted between ([`super::model::Model::interruptible_parts`]).
    pub parts: usize,
    /// Whether each copies weights ([`super::model::Model::copies_weights`]): a small one is hardly sooner done.
    pub copy_weights: bool,
}

/// A power of two for a model that prefills a token in `secs_per_token`.
pub(super) fn best(secs_per_token: f64, Batches { parts, copy_weights }: Batches) -> usize {
    let tokens = PATIENCE * parts as f64 / secs_per_token;
    let largest = if parts == 1 { LARGEST } else { ENOUGH };
    let mut size = if copy_weights { ENOUGH } else { SMALLEST };
    while size < largest && (2 * size) as f64 <= tokens {
        size *= 2;
    }
    size
}

#[cfg(test)]
mod tests {
    use super::{Batches, best};

    #[test]
    fn a_batch_is_as_large_as_ctrl_c_allows() {
        let best = |secs, parts| best(secs, Batches { parts, copy_weights: false });
        assert_eq!(best(1.0 / 10_000.0, 1), 1024, "a large GPU");
        assert_eq!(best(1.0 / 1_000.0, 1), 128, "a slow one");
        assert_eq!(best(1.0, 1), 64);
        assert_eq!(best(1.0 / 300.0, 60), 512, "a small model on a CPU");
        assert_eq!(best(1.0 / 10.0, 64), 128, "a large one");
    }

    #[test]
    fn a_batch_that_copies_weights_has_enough_tokens_for_them() {
        let best = |secs, parts| best(secs, Batches { parts, copy_weights: true });
        assert_eq!(best(2.2 / 512.0, 1), 512, "51 GiB at 25 GB/s");
        assert_eq!(best(1.0, 1), 512);
        assert_eq!(best(0.2 / 1024.0, 1), 1024, "a few layers");
    }
}
