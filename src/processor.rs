//! This processor: its name, and what the program was compiled for that it lacks.
//!
//! `target-cpu=native` makes a program for the processor that compiles it. On another one its first newer instruction ends it;
//! asked in time, it can say why.

/// An instruction set, and the bit in which a processor says that it has it (Intel SDM, volume 2, CPUID; AMD's manual for
/// LZCNT and SSE4A).
#[cfg(target_arch = "x86_64")]
struct Feature {
    name: &'static str,
    /// Whether this program was compiled to use it.
    used: bool,
    leaf: u32,
    subleaf: u32,
    register: Register,
    bit: u32,
    /// The bits of XCR0 by which the system says that it keeps the registers of these instructions.
    kept: u64,
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

#[cfg(target_arch = "x86_64")]
macro_rules! features {
    ($($name:literal $leaf:literal $subleaf:literal $register:ident $bit:literal $kept:ident,)*) => {
        [$(Feature {
            name: $name,
            used: cfg!(target_feature = $name),
            leaf: $leaf,
            subleaf: $subleaf,
            register: Register::$register,
            bit: $bit,
            kept: $kept,
        },)*]
    };
}

#[cfg(target_arch = "x86_64")]
const NONE: u64 = 0;
#[cfg(target_arch = "x86_64")]
const YMM: u64 = 0b110;
#[cfg(target_arch = "x86_64")]
const ZMM: u64 = 0b1110_0110;

#[cfg(target_arch = "x86_64")]
static FEATURES: [Feature; 34] = features![
    "sse3" 1 0 Ecx 0 NONE,
    "pclmulqdq" 1 0 Ecx 1 NONE,
    "ssse3" 1 0 Ecx 9 NONE,
    "fma" 1 0 Ecx 12 YMM,
    "sse4.1" 1 0 Ecx 19 NONE,
    "sse4.2" 1 0 Ecx 20 NONE,
    "movbe" 1 0 Ecx 22 NONE,
    "popcnt" 1 0 Ecx 23 NONE,
    "aes" 1 0 Ecx 25 NONE,
    "avx" 1 0 Ecx 28 YMM,
    "f16c" 1 0 Ecx 29 YMM,
    "bmi1" 7 0 Ebx 3 NONE,
    "avx2" 7 0 Ebx 5 YMM,
    "bmi2" 7 0 Ebx 8 NONE,
    "avx512f" 7 0 Ebx 16 ZMM,
    "avx512dq" 7 0 Ebx 17 ZMM,
    "adx" 7 0 Ebx 19 NONE,
    "avx512ifma" 7 0 Ebx 21 ZMM,
    "avx512cd" 7 0 Ebx 28 ZMM,
    "sha" 7 0 Ebx 29 NONE,
    "avx512bw" 7 0 Ebx 30 ZMM,
    "avx512vl" 7 0 Ebx 31 ZMM,
    "avx512vbmi" 7 0 Ecx 1 ZMM,
    "avx512vbmi2" 7 0 Ecx 6 ZMM,
    "gfni" 7 0 Ecx 8 NONE,
    "vaes" 7 0 Ecx 9 YMM,
    "vpclmulqdq" 7 0 Ecx 10 YMM,
    "avx512vnni" 7 0 Ecx 11 ZMM,
    "avx512bitalg" 7 0 Ecx 12 ZMM,
    "avx512vpopcntdq" 7 0 Ecx 14 ZMM,
    "avx512fp16" 7 0 Edx 23 ZMM,
    "avxvnni" 7 1 Eax 4 YMM,
    "avx512bf16" 7 1 Eax 5 ZMM,
    "lzcnt" 0x8000_0001 0 Ecx 5 NONE,
];

#[cfg(target_arch = "x86_64")]
impl Feature {
    fn is_here(&self) -> bool {
        let has_leaf = leaf(self.leaf & 0x8000_0000, 0, Register::Eax) >= self.leaf;
        let has_subleaf = self.subleaf == 0 || leaf(self.leaf, 0, Register::Eax) >= self.subleaf;
        has_leaf
            && has_subleaf
            && leaf(self.leaf, self.subleaf, self.register) >> self.bit & 1 == 1
            && (self.kept == 0 || kept() & self.kept == self.kept)
    }
}

#[cfg(target_arch = "x86_64")]
fn leaf(leaf: u32, subleaf: u32, register: Register) -> u32 {
    let all = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    match register {
        Register::Eax => all.eax,
        Register::Ebx => all.ebx,
        Register::Ecx => all.ecx,
        Register::Edx => all.edx,
    }
}

/// XCR0; nothing where the system does not let it be asked.
#[cfg(target_arch = "x86_64")]
fn kept() -> u64 {
    #[target_feature(enable = "xsave")]
    fn ask() -> u64 {
        // SAFETY: the caller has seen that the system has switched XGETBV on.
        unsafe { core::arch::x86_64::_xgetbv(0) }
    }
    const OSXSAVE: u32 = 27;
    match leaf(1, 0, Register::Ecx) >> OSXSAVE & 1 {
        // SAFETY: OSXSAVE says that XGETBV can be used.
        1 => unsafe { ask() },
        _ => 0,
    }
}

/// The instruction sets that this program was compiled to use and that are not here. Asked before anything else is done, since
/// anything may use them.
#[inline(never)]
pub fn missing() -> impl Iterator<Item = &'static str> {
    #[cfg(target_arch = "x86_64")]
    return FEATURES.iter().filter(|feature| feature.used && !feature.is_here()).map(|feature| feature.name);
    #[cfg(not(target_arch = "x86_64"))]
    std::iter::empty()
}

/// What tells processors apart for which the same program may do well or not.
pub fn name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use Register::{Eax, Ebx, Ecx, Edx};
        let words = (0x8000_0002..=0x8000_0004u32)
            .filter(|wanted| leaf(0x8000_0000, 0, Eax) >= *wanted)
            .flat_map(|wanted| [Eax, Ebx, Ecx, Edx].map(|register| leaf(wanted, 0, register)));
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|byte| *byte != 0).collect();
        let brand = String::from_utf8_lossy(&bytes).trim().to_string();
        return format!("{brand} {:x}", leaf(1, 0, Eax)); // family, model and stepping
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_string()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_of_itself_is_what_std_finds() {
        let here = |name: &str| FEATURES.iter().find(|feature| feature.name == name).unwrap().is_here();
        assert_eq!(here("sse4.2"), std::is_x86_feature_detected!("sse4.2"));
        assert_eq!(here("avx2"), std::is_x86_feature_detected!("avx2"));
        assert_eq!(here("fma"), std::is_x86_feature_detected!("fma"));
        assert_eq!(here("f16c"), std::is_x86_feature_detected!("f16c"));
        assert_eq!(here("bmi2"), std::is_x86_feature_detected!("bmi2"));
        assert_eq!(here("lzcnt"), std::is_x86_feature_detected!("lzcnt"));
        assert_eq!(here("avx512f"), std::is_x86_feature_detected!("avx512f"));
        assert_eq!(here("avx512vnni"), std::is_x86_feature_detected!("avx512vnni"));
        assert_eq!(here("avx512bf16"), std::is_x86_feature_detected!("avx512bf16"));
        assert_eq!(here("avxvnni"), std::is_x86_feature_detected!("avxvnni"));
        assert_eq!(here("gfni"), std::is_x86_feature_detected!("gfni"));
        assert_eq!(missing().next(), None, "it runs here");
    }

    #[test]
    fn what_rustc_compiles_for_can_be_asked_for() {
        // Part of every x86-64, used by the system alone, or never made of ordinary code.
        const OTHERS: [&str; 13] = [
            "fxsr",
            "sse",
            "sse2",
            "sse4a",
            "xsave",
            "xsavec",
            "xsaveopt",
            "xsaves",
            "cmpxchg16b",
            "rdrand",
            "rdseed",
            "avx512vp2intersect",
            "widekl",
        ];
        for processor in ["x86-64-v3", "x86-64-v4", "znver5", "sapphirerapids", "alderlake"] {
            let rustc = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
                .args(["--print", "cfg", "--target", "x86_64-unknown-linux-gnu", "-C"])
                .arg(format!("target-cpu={processor}"))
                .output()
                .unwrap();
            let cfg = String::from_utf8(rustc.stdout).unwrap();
            let names =
                cfg.lines().filter_map(|line| line.strip_prefix("target_feature=")?.strip_suffix('"'));
            let names: Vec<&str> = names.map(|name| &name[1..]).collect();
            assert!(names.len() > 20, "{processor}: {names:?}");
            for name in names.iter().filter(|name| !OTHERS.contains(name)) {
                assert!(FEATURES.iter().any(|feature| feature.name == *name), "{processor}: {name}");
            }
        }
    }
}
