//! Numbers in a checkpoint's type → f32 → numbers in a GGUF type.

use half::{bf16, f16};
use safetensors::Dtype;

/// bf16: checkpoints of this type may exceed f16's range.
pub(super) const BRAIN: Dtype = Dtype::BF16;

/// Elements that share a scale in q8_0.
pub(super) const BLOCK: usize = 32;

/// The element types that the converter writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    F32,
    F16,
    Bf16,
    Q8_0,
}

impl Type {
    pub const ALL: [Type; 4] = [Type::F32, Type::F16, Type::Bf16, Type::Q8_0];

    pub fn name(self) -> &'static str {
        match self {
            Type::F32 => "f32",
            Type::F16 => "f16",
            Type::Bf16 => "bf16",
            Type::Q8_0 => "q8_0",
        }
    }

    /// ggml's number for the type.
    pub(super) fn number(self) -> u32 {
        match self {
            Type::F32 => 0,
            Type::F16 => 1,
            Type::Q8_0 => 8,
            Type::Bf16 => 30,
        }
    }

    /// llama.cpp's number for a file that is mostly of this type.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Type::F32 => 0,
            Type::F16 => 1,
            Type::Q8_0 => 7,
            Type::Bf16 => 32,
        }
    }
}

/// Bytes of a stored number; `None` for types that are not used for weights.
pub(super) fn bytes_of(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F32 => Some(4),
        Dtype::F16 | Dtype::BF16 => Some(2),
        Dtype::F64 => Some(8),
        _ => None,
    }
}

/// Decodes stored numbers to f32. `bytes` holds whole numbers of a type that [`bytes_of`] knows.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) {
    out.clear();
    match dtype {
        Dtype::F32 => out.extend(arrays(bytes).map(f32::from_le_bytes)),
        Dtype::F16 => out.extend(arrays(bytes).map(|pair| f16::from_le_bytes(pair).to_f32())),
        Dtype::BF16 => out.extend(arrays(bytes).map(|pair| bf16::from_le_bytes(pair).to_f32())),
        Dtype::F64 => out.extend(arrays(bytes).map(|eight| f64::from_le_bytes(eight) as f32)),
        _ => {}
    }
}

fn arrays<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|chunk| chunk.try_into().expect("chunks have N bytes"))
}

/// Encodes numbers in a type; q8_0 needs whole blocks.
pub(super) fn encode(kind: Type, numbers: &[f32], out: &mut Vec<u8>) {
    out.clear();
    match kind {
        Type::F32 => out.extend(numbers.iter().flat_map(|x| x.to_le_bytes())),
        Type::F16 => out.extend(numbers.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes())),
        Type::Bf16 => out.extend(numbers.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes())),
        Type::Q8_0 => numbers.chunks_exact(BLOCK).for_each(|block| q8_0(block, out)),
    }
}

/// A scale and 32 numbers from -127 to 127, the same as ggml's `quantize_row_q8_0_ref`.
fn q8_0(block: &[f32], out: &mut Vec<u8>) {
    let largest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    out.extend(f16::from_f32(scale).to_le_bytes());
    out.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
}

/// The largest number of a type.
pub(super) fn largest(kind: Type) -> f32 {
    match kind {
        Type::F32 => f32::MAX,
        Type::F16 => f16::MAX.to_f32(),
        Type::Bf16 => bf16::MAX.to_f32(),
        Type::Q8_0 => f16::MAX.to_f32() * 127.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_in_their_own_type() {
        let numbers = [0.0, -1.5, 0.333_251_95, 1024.0];
        for (dtype, kind) in [(Dtype::F32, Type::F32), (Dtype::F16, Type::F16)] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            encode(kind, &numbers, &mut bytes);
            decode(dtype, &bytes, &mut back);
            assert_eq!(back, numbers);
        }
        let (mut bytes, mut back) = (Vec::new(), Vec::new());
        encode(Type::Bf16, &[1.0, 1.003_906_2, f32::MAX], &mut bytes);
        decode(Dtype::BF16, &bytes, &mut back);
        assert_eq!(back[..2], [1.0, 1.0], "rounds to nearest, ties to even");
    }

    #[test]
    fn blocks_are_those_of_ggml() {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 1e6 - 8.0
        };
        let mut numbers: Vec<f32> = (0..64 * BLOCK).map(|_| next()).collect();
        numbers[..BLOCK].fill(0.0);
        for kind in Type::ALL {
            let mut ours = Vec::new();
            encode(kind, &numbers, &mut ours);
            assert_eq!(
                ours,
                crate::engine::llama::ggml::quantised(kind.number(), &numbers),
                "{}",
                kind.name()
            );
        }
    }
}
