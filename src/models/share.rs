//! What a model takes of one device's memory → what it takes with a context, and the context that fits.

/// Bytes that a model takes of one device's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    pub weights: u64,
    /// Of them, what decoding one token reads.
    pub read: u64,
    /// KV cache per token of context, and recurrent state.
    pub kv_per_token: f64,
    pub state: u64,
    pub compute: u64,
}

impl Share {
    pub fn add(&mut self, weights: u64, read: u64) {
        self.weights += weights;
        self.read += read;
    }

    pub fn with_context(self, tokens: usize) -> u64 {
        self.fixed().saturating_add((self.kv_per_token * tokens as f64) as u64)
    }

    fn fixed(self) -> u64 {
        self.weights.saturating_add(self.state).saturating_add(self.compute)
    }

    /// The same, where each of the `planned` tokens of context takes so many bytes of the compute buffer.
    pub fn computing(self, per_token: f64, planned: usize) -> Share {
        let compute = self.compute.saturating_sub((per_token * planned as f64) as u64);
        Share { compute, kv_per_token: self.kv_per_token + per_token, ..self }
    }

    /// The tokens of context that fit into `available` bytes; `None` if not even the rest fits.
    pub fn tokens_in(self, available: u64) -> Option<usize> {
        let room = available.checked_sub(self.fixed())? as f64;
        Some(if self.kv_per_token > 0.0 { (room / self.kv_per_token) as usize } else { usize::MAX })
    }
}
