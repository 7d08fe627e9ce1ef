//! A header → the memory that the model needs; and the memory that this machine has available.
//!
//! Estimates, to decide how large the context may be and whether the model fits at all. Weights and KV cache
//! are exact to a few percent; llama.cpp's compute buffers and repacked copies of weights are not included.

use std::{fs, ops::Add, path::Path};

use super::{Header, architectures::is_recurrent};

/// Bytes of all tensors in this file, without padding. For a model in several files, sum over
/// [`super::parts`].
pub fn weights_bytes(header: &Header) -> u64 {
    header.tensors.iter().map(|t| t.bytes).sum()
}

/// Bytes of KV cache per token of context, with `key_bits` and `value_bits` per element (16 for f16, 8.5 for
/// q8_0; see [`super::ElementType::bits`]).
///
/// Layers without attention count nothing, because their state does not grow. Layers with a sliding window
/// count as if they kept every token, which is llama.cpp's default.
pub fn kv_bytes_per_token(header: &Header, key_bits: f64, value_bits: f64) -> f64 {
    kv_bytes_per_layer(header, key_bits, value_bits).into_iter().fold(0.0, f64::add)
}

/// The same for each layer that has a KV cache of its own, from the first.
pub(super) fn kv_bytes_per_layer(header: &Header, key_bits: f64, value_bits: f64) -> Vec<f64> {
    let layers = Layers::of(header);
    // Multi-head latent attention stores one vector per token and layer, from which it computes the values.
    let latent = header.arch_uint("attention.key_length_mla").is_some();
    let bits_per_layer = |layer: usize| {
        let (key, value) = layers.lengths(layer);
        let values = if latent { 0.0 } else { value as f64 * value_bits };
        layers.heads(layer) as f64 * (key as f64 * key_bits + values)
    };
    (0..layers.count).map(|layer| bits_per_layer(layer) / 8.0).collect()
}

/// The context length the model was trained with, in tokens.
pub fn trained_context(header: &Header) -> Option<u32> {
    let context = header.arch_uint("context_length").filter(|n| *n > 0)?;
    Some(u32::try_from(context).unwrap_or(u32::MAX))
}

/// The key under which a converted file says why its context is shorter than in training.
pub const CONTEXT_REASON: &str = "fireside.context_reason";

/// Why the context is shorter than in training, if the file says so.
pub fn context_reason(header: &Header) -> Option<&str> {
    header.str(CONTEXT_REASON)
}

/// Whether positions are rows of a trained table (GPT-2, StarCoder, MPT). llama.cpp aborts on positions
/// beyond [`trained_context`] then.
pub fn learned_positions(header: &Header) -> bool {
    matches!(header.architecture(), Some("gpt2" | "starcoder"))
        || header.tensor("position_embd.weight").is_some()
}

/// Bytes that can be used without swapping: the kernel's estimate, or what the control group (container)
/// still allows if that is less. `None` without `/proc`. For tests, the number in the file `FIRESIDE_TEST_MEMORY`.
pub fn available_memory() -> Option<u64> {
    match std::env::var_os("FIRESIDE_TEST_MEMORY") {
        Some(file) => fs::read_to_string(file).ok()?.trim().parse().ok(),
        None => available_under(Path::new("/")),
    }
}

/// The attention of each layer, as far as the KV cache depends on it.
struct Layers {
    count: usize,
    /// Per layer, or one number for all.
    heads: Vec<u64>,
    /// Lengths of key and value per head; below, those of layers with a sliding window.
    full: (u64, u64),
    windowed: (u64, u64),
    /// Which layers have a window; empty if it makes no difference.
    window: Vec<bool>,
    /// The last of every `interval` layers has attention, the others are recurrent. 1: all have attention.
    interval: usize,
}

impl Layers {
    fn of(header: &Header) -> Layers {
        let number = |key: &str| header.arch_uint(key);
        let arch = header.architecture().unwrap_or_default();
        let all = number("block_count").unwrap_or(0).min(512);
        // Layers for multi-token prediction, and layers that share an earlier layer's cache, have none.
        let without =
            number("nextn_predict_layers").unwrap_or(0) + number("attention.shared_kv_layers").unwrap_or(0);
        let count = if is_recurrent(arch) { 0 } else { all.saturating_sub(without) };
        let queries = header.arch_uints("attention.head_count").unwrap_or_default();
        let per_head = match queries.iter().find(|heads| **heads > 0) {
            Some(heads) => number("embedding_length").unwrap_or(0) / heads,
            None => 0,
        };
        let full = (
            number("attention.key_length").unwrap_or(per_head),
            number("attention.value_length").unwrap_or(per_head),
        );
        let windowed = (
            number("attention.key_length_swa").unwrap_or(full.0),
            number("attention.value_length_swa").unwrap_or(full.1),
        );
        let has_interval = matches!(arch, "qwen3next" | "qwen35" | "qwen35moe");
        let interval = if has_interval { number("full_attention_interval").unwrap_or(4) } else { 1 };
        Layers {
            count: count as usize,
            heads: header.arch_uints("attention.head_count_kv").unwrap_or(queries),
            full,
            windowed,
            window: window_layers(header),
            interval: interval.clamp(1, 512) as usize,
        }
    }

    fn heads(&self, layer: usize) -> u64 {
        if !(layer + 1).is_multiple_of(self.interval) {
            return 0;
        }
        match self.heads[..] {
            [for_all] => for_all,
            _ => self.heads.get(layer).copied().unwrap_or(0),
        }
    }

    fn lengths(&self, layer: usize) -> (u64, u64) {
        if self.window.get(layer).copied().unwrap_or(false) { self.windowed } else { self.full }
    }
}

fn window_layers(header: &Header) -> Vec<bool> {
    let arch = header.architecture().unwrap_or_default();
    let pattern = header.array(&format!("{arch}.attention.sliding_window_pattern"));
    pattern.map_or_else(Vec::new, |p| p.iter().map(|v| v == super::Value::Bool(true)).collect())
}

fn available_under(root: &Path) -> Option<u64> {
    let free = mem_available(&fs::read_to_string(root.join("proc/meminfo")).ok()?)?;
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let left = groups.lines().filter_map(|line| group_left(root, line)).min();
    Some(left.map_or(free, |left| left.min(free)))
}

/// The line `MemAvailable:  123 kB` of `/proc/meminfo`, in bytes.
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// The least memory that a control group and its ancestors have left, from one line of `/proc/self/cgroup`:
/// `0::/path` in version 2, `7:memory:/path` in version 1.
fn group_left(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, group) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, files) = match controllers {
        "" => ("sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file "]),
        c if c.split(',').any(|name| name == "memory") => (
            "sys/fs/cgroup/memory",
            ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "],
        ),
        _ => return None,
    };
    let mount = root.join(mount);
    // In a container, the path may name an invisible group, so the mount itself is always included.
    let inner = mount.join(group.trim_start_matches('/'));
    inner.ancestors().take_while(|dir| dir.starts_with(&mount)).filter_map(|dir| left_in(dir, files)).min()
}

/// Limit minus usage, in which droppable file pages do not count. `None` without a limit.
fn left_in(group: &Path, [limit, usage, droppable]: [&str; 3]) -> Option<u64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
    let (limit, usage) = (number(limit)?, number(usage)?);
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(usage.saturating_sub(cached)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{parse, sample::Sample},
        *,
    };

    fn model(arch: &str, numbers: &[(&str, u32)]) -> Sample {
        let named = Sample::default().text("general.architecture", arch);
        numbers.iter().fold(named, |s, (key, n)| s.u32(&format!("{arch}.{key}"), *n))
    }

    fn header(sample: &Sample) -> Header {
        let bytes = sample.bytes();
        parse::parse(&bytes[..], bytes.len() as u64).expect("well-formed")
    }

    fn f16(sample: &Sample) -> f64 {
        kv_bytes_per_token(&header(sample), 16.0, 16.0)
    }

    const PLAIN: [(&str, u32); 3] =
        [("block_count", 2), ("embedding_length", 64), ("attention.head_count", 4)];

    #[test]
    fn kv_bytes_follow_the_heads() {
        // 2 layers, 4 heads of 16, keys and values of 2 bytes.
        assert_eq!(f16(&model("llama", &PLAIN)), 2.0 * 4.0 * 16.0 * 2.0 * 2.0);
        let shared = model("llama", &PLAIN).u32("llama.attention.head_count_kv", 1);
        assert_eq!(f16(&shared), 2.0 * 16.0 * 2.0 * 2.0);
        let wide = shared.u32("llama.attention.key_length", 32).u32("llama.attention.value_length", 8);
        assert_eq!(f16(&wide), 2.0 * (32.0 + 8.0) * 2.0);
        assert_eq!(kv_bytes_per_token(&header(&wide), 8.5, 16.0), 2.0 * (32.0 * 8.5 + 8.0 * 16.0) / 8.0);
    }

    #[test]
    fn layers_without_attention_cost_nothing() {
        let per_layer = model("jamba", &PLAIN).i32s("jamba.attention.head_count_kv", &[0, 2]);
        assert_eq!(f16(&per_layer), 2.0 * 16.0 * 2.0 * 2.0);
        assert_eq!(f16(&model("mamba", &[("block_count", 2), ("embedding_length", 64)])), 0.0);
        let mut numbers = PLAIN.to_vec();
        numbers[0].1 = 8;
        assert_eq!(f16(&model("qwen3next", &numbers)), f16(&model("llama", &PLAIN)));
        assert_eq!(f16(&model("llama", &[])), 0.0);
    }

    #[test]
    fn latent_attention_keeps_no_values() {
        let mla = model("deepseek2", &PLAIN)
            .u32("deepseek2.attention.head_count_kv", 1)
            .u32("deepseek2.attention.key_length", 36)
            .u32("deepseek2.attention.value_length", 32)
            .u32("deepseek2.attention.key_length_mla", 12);
        assert_eq!(f16(&mla), 2.0 * 36.0 * 2.0);
    }

    #[test]
    fn windowed_layers_may_have_other_lengths() {
        let gemma = model("gemma4", &PLAIN)
            .u32("gemma4.attention.key_length_swa", 8)
            .u32("gemma4.attention.value_length_swa", 8)
            .array("gemma4.attention.sliding_window_pattern", 7, 2, &[1, 0]);
        assert_eq!(f16(&gemma), 4.0 * (8.0 + 16.0) * 2.0 * 2.0);
    }

    #[test]
    fn weights_context_and_positions() {
        let gpt2 = header(&model("gpt2", &[("context_length", 256)]).tensor("a", &[4, 4]).tensor("b", &[3]));
        assert_eq!(weights_bytes(&gpt2), 76);
        assert_eq!(trained_context(&gpt2), Some(256));
        assert!(learned_positions(&gpt2));
        assert!(!learned_positions(&header(&model("llama", &[]))));
        assert!(learned_positions(&header(&model("mpt", &[]).tensor("position_embd.weight", &[4, 4]))));
        assert_eq!(trained_context(&header(&model("llama", &[]))), None);
    }

    #[test]
    fn available_memory_respects_the_control_group() {
        let root = tempfile::tempdir().expect("temporary folder");
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("temporary folder");
            fs::write(path, text).expect("temporary file");
        };
        assert_eq!(available_under(root.path()), None);
        put("proc/meminfo", "MemTotal:  9 kB\nMemAvailable:       100 kB\n");
        assert_eq!(available_under(root.path()), Some(102_400));
        put("proc/self/cgroup", "0::/a/b\n");
        put("sys/fs/cgroup/a/b/memory.max", "max\n");
        put("sys/fs/cgroup/a/b/memory.current", "5\n");
        assert_eq!(available_under(root.path()), Some(102_400));
        put("sys/fs/cgroup/a/memory.max", "50000\n");
        put("sys/fs/cgroup/a/memory.current", "30000\n");
        put("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 10000\n");
        assert_eq!(available_under(root.path()), Some(30_000));
        put("proc/self/cgroup", "7:cpu,memory:/docker/x\n");
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n");
        put("sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n");
        assert_eq!(available_under(root.path()), Some(600));
    }

    #[test]
    fn this_machine_has_some() {
        if Path::new("/proc/meminfo").exists() {
            assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
