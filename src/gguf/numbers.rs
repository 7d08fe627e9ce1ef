//! The bytes of a tensor → its first NaN or infinity, if any: an element, or the scale of a quantised block.
//!
//! The same check as ggml's `ggml_validate_row_data`, which only prints its findings. Quantised elements are
//! small integers and cannot be invalid; their scales can.

/// The fault of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    Nan,
    Infinity,
}

/// The places in a block of the numbers that can be invalid.
enum Scales {
    /// None: integers, or scales in which every bit pattern is a number.
    None,
    F32(usize),
    F64,
    Bf16,
    F16(&'static [usize]),
    /// An 8-bit exponent; 255 means NaN.
    E8m0,
    /// A 16-bit float in the high nibbles of four words.
    Scattered,
}

/// The places of the scales in a type's blocks, by ggml's number for the type.
fn scales(kind: u32) -> Scales {
    match kind {
        0 | 15 => Scales::F32(0), // f32, q8_k
        28 => Scales::F64,        // f64
        30 => Scales::Bf16,       // bf16
        1 | 2 | 6 | 8 | 16 | 17 | 18 | 19 | 20 | 21 | 22 | 23 => Scales::F16(&[0]), // f16, q4_0, q5_0, q8_0, iq
        3 | 7 | 9 | 12 | 13 => Scales::F16(&[0, 2]), // q4_1, q5_1, q8_1, q4_k, q5_k
        10 => Scales::F16(&[80, 82]),                // q2_k
        11 => Scales::F16(&[108]),                   // q3_k
        14 => Scales::F16(&[208]),                   // q6_k
        29 => Scales::Scattered,                     // iq1_m
        34 => Scales::F16(&[52]),                    // tq1_0
        35 => Scales::F16(&[64]),                    // tq2_0
        39 => Scales::E8m0,                          // mxfp4
        41 | 42 => Scales::F16(&[0]),                // q1_0, q2_0
        _ => Scales::None,                           // integers, nvfp4
    }
}

/// The index, from 0, of the first block with an invalid number; blocks have `size` bytes.
pub(super) fn first_bad(kind: u32, size: usize, data: &[u8]) -> Option<(u64, Bad)> {
    let blocks = data.chunks_exact(size);
    let found = match scales(kind) {
        Scales::None => None,
        Scales::F32(at) => search(blocks, |block| f32_at(block, at)),
        Scales::F64 => search(blocks, |block| {
            let number = f64::from_le_bytes(block.try_into().unwrap_or_default()) as f32; // as ggml converts it
            judge(!number.is_finite(), number.is_infinite())
        }),
        Scales::Bf16 => search(blocks, |block| {
            let bits = u16_at(block, 0);
            judge(bits >> 7 & 0xff == 0xff, bits & 0x7f == 0)
        }),
        Scales::F16(&[at]) => search(blocks, |block| f16(u16_at(block, at))),
        Scales::F16(offsets) => search(blocks, |block| offsets.iter().find_map(|at| f16(u16_at(block, *at)))),
        Scales::E8m0 => search(blocks, |block| judge(block[0] == 0xff, false)),
        Scales::Scattered => search(blocks, |block| {
            let word = |n: usize| u16_at(block, 48 + n * 2);
            f16(word(0) >> 12 | word(1) >> 8 & 0xf0 | word(2) >> 4 & 0xf00 | word(3) & 0xf000)
        }),
    };
    found.map(|(block, bad)| (block as u64, bad))
}

fn search<'a>(
    blocks: impl Iterator<Item = &'a [u8]>,
    bad: impl Fn(&[u8]) -> Option<Bad>,
) -> Option<(usize, Bad)> {
    blocks.enumerate().find_map(|(number, block)| Some((number, bad(block)?)))
}

fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

fn f32_at(block: &[u8], at: usize) -> Option<Bad> {
    let bits = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    judge(bits >> 23 & 0xff == 0xff, bits << 9 == 0)
}

fn f16(bits: u16) -> Option<Bad> {
    judge(bits >> 10 & 0x1f == 0x1f, bits & 0x3ff == 0)
}

/// A float whose exponent bits are all set is an infinity, or NaN if it has a fraction.
fn judge(full: bool, whole: bool) -> Option<Bad> {
    full.then_some(if whole { Bad::Infinity } else { Bad::Nan })
}

#[cfg(test)]
mod tests {
    use super::{super::element_type, *};

    #[test]
    fn bad_numbers_are_found_where_they_are() {
        let floats: Vec<u8> =
            [1.0f32, -0.0, f32::MAX, f32::NAN].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(first_bad(0, 4, &floats), Some((3, Bad::Nan)));
        assert_eq!(first_bad(0, 4, &floats[..12]), None);
        assert_eq!(first_bad(0, 4, &f32::NEG_INFINITY.to_le_bytes()), Some((0, Bad::Infinity)));
        assert_eq!(first_bad(1, 2, &[0, 0x7c, 1, 0x7c]), Some((0, Bad::Infinity)));
        assert_eq!(first_bad(30, 2, &[0, 0, 0xc0, 0x7f]), Some((1, Bad::Nan)));
        assert_eq!(first_bad(28, 8, &f64::INFINITY.to_le_bytes()), Some((0, Bad::Infinity)));
        let mut mxfp4 = [0; 34];
        mxfp4[17] = 0xff;
        assert_eq!(first_bad(39, 17, &mxfp4), Some((1, Bad::Nan)));
        assert_eq!(first_bad(26, 4, &[0xff; 8]), None, "integers are always numbers");
    }

    #[test]
    fn it_agrees_with_ggml() {
        // ggml writes thousands of lines to stderr, so it runs in a process of its own.
        if std::env::var_os("FIRESIDE_TEST_NUMBERS").is_none() {
            let mut alone = std::process::Command::new(std::env::current_exe().expect("a test is a program"));
            alone
                .args(["--exact", "gguf::numbers::tests::it_agrees_with_ggml"])
                .env("FIRESIDE_TEST_NUMBERS", "1");
            let done = alone.stderr(std::process::Stdio::null()).output().expect("it was started once");
            return assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        }
        // All types; two bytes of a block, or all from one byte on, have the pattern of a NaN or an infinity.
        for kind in (0..43).filter(|kind| *kind != 9) {
            let Some(element) = element_type(kind).filter(|element| !element.removed()) else { continue };
            let size = element.bytes as usize;
            let mut bad = 0;
            for place in 0..size {
                for (low, high) in [(0xff, 0xff), (0, 0x7c), (0x80, 0x7f)] {
                    for end in [(place + 2).min(size), size] {
                        let mut block = vec![0; size];
                        for (at, byte) in block[..end].iter_mut().enumerate().skip(place) {
                            *byte = if at % 2 == 0 { low } else { high };
                        }
                        let ours = first_bad(kind, size, &block).is_none();
                        let theirs = crate::engine::llama::ggml::are_numbers(kind, &block);
                        assert_eq!(ours, theirs, "{} {block:?}", element.name);
                        bad += usize::from(!ours);
                    }
                }
            }
            let always = matches!(element.name, "i8" | "i16" | "i32" | "i64" | "nvfp4");
            assert_eq!(bad == 0, always, "{}", element.name);
        }
    }
}
