//! The number of a GGUF element type → its name and the size of its blocks.
//!
//! The numbers are those of `enum ggml_type` in ggml's `ggml.h`. A quantised type stores a fixed number of
//! elements (a block) in a fixed number of bytes. Nothing is dequantised here. Next: `parse.rs`, which
//! computes tensor sizes with this table.

/// One row of the table: `block` elements are stored in `bytes` bytes. Both are 0 for a removed type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    pub name: &'static str,
    /// Elements per block; a row of a tensor must be a multiple of it.
    pub block: u64,
    /// Bytes per block.
    pub bytes: u64,
}

impl ElementType {
    /// Whether llama.cpp can no longer read files with this type (it now repacks Q4_0 and IQ4_NL itself).
    pub fn removed(self) -> bool {
        self.block == 0
    }

    /// Mean bits per element, including the block's scale: 16 for `f16`, 8.5 for `q8_0`.
    pub fn bits(self) -> f64 {
        if self.removed() { 0.0 } else { self.bytes as f64 * 8.0 / self.block as f64 }
    }
}

const fn row(name: &'static str, block: u64, bytes: u64) -> ElementType {
    ElementType { name, block, bytes }
}

/// Indexed by type number.
const TYPES: [ElementType; 43] = [
    row("f32", 1, 4),
    row("f16", 1, 2),
    row("q4_0", 32, 18),
    row("q4_1", 32, 20),
    row("q4_2", 0, 0),
    row("q4_3", 0, 0),
    row("q5_0", 32, 22),
    row("q5_1", 32, 24),
    row("q8_0", 32, 34),
    row("q8_1", 32, 36),
    row("q2_k", 256, 84),
    row("q3_k", 256, 110),
    row("q4_k", 256, 144),
    row("q5_k", 256, 176),
    row("q6_k", 256, 210),
    row("q8_k", 256, 292),
    row("iq2_xxs", 256, 66),
    row("iq2_xs", 256, 74),
    row("iq3_xxs", 256, 98),
    row("iq1_s", 256, 50),
    row("iq4_nl", 32, 18),
    row("iq3_s", 256, 110),
    row("iq2_s", 256, 82),
    row("iq4_xs", 256, 136),
    row("i8", 1, 1),
    row("i16", 1, 2),
    row("i32", 1, 4),
    row("i64", 1, 8),
    row("f64", 1, 8),
    row("iq1_m", 256, 56),
    row("bf16", 1, 2),
    row("q4_0_4_4", 0, 0),
    row("q4_0_4_8", 0, 0),
    row("q4_0_8_8", 0, 0),
    row("tq1_0", 256, 54),
    row("tq2_0", 256, 66),
    row("iq4_nl_4_4", 0, 0),
    row("iq4_nl_4_8", 0, 0),
    row("iq4_nl_8_8", 0, 0),
    row("mxfp4", 32, 17),
    row("nvfp4", 64, 36),
    row("q1_0", 128, 18),
    row("q2_0", 64, 18),
];

/// The table's row for a type number; `None` for a number that ggml does not define.
pub fn element_type(kind: u32) -> Option<ElementType> {
    TYPES.get(kind as usize).copied()
}

/// The lower-case name of a type number (`"q4_k"`); `"unknown"` if there is none.
pub fn type_name(kind: u32) -> &'static str {
    element_type(kind).map_or("unknown", |t| t.name)
}

/// llama.cpp's name for a mixture of element types (`enum llama_ftype`, in `general.file_type`): `"Q4_K_M"`.
pub fn file_type_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        39 => "NVFP4",
        40 => "Q1_0",
        41 => "Q2_0",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_match_ggml() {
        assert_eq!(type_name(0), "f32");
        assert_eq!(type_name(12), "q4_k");
        assert_eq!(type_name(30), "bf16");
        assert_eq!(type_name(39), "mxfp4");
        assert_eq!(type_name(43), "unknown");
        assert_eq!(element_type(8), Some(row("q8_0", 32, 34)));
        assert_eq!(element_type(14), Some(row("q6_k", 256, 210)));
    }

    #[test]
    fn removed_types_have_no_size() {
        for kind in [4, 5, 31, 32, 33, 36, 37, 38] {
            assert!(element_type(kind).is_some_and(ElementType::removed), "{kind}");
        }
        assert_eq!(element_type(31).map(ElementType::bits), Some(0.0));
    }

    #[test]
    fn bits_per_element() {
        assert_eq!(element_type(1).map(ElementType::bits), Some(16.0));
        assert_eq!(element_type(8).map(ElementType::bits), Some(8.5));
    }
}
