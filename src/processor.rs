//! The processor's name, and how well the program suits it. processor.c checks for the features that the program
//! was compiled for.

/// Distinguishes processors on which the same build may behave differently.
pub fn name() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::__cpuid;
        let has = __cpuid(0x8000_0000).eax;
        let words = (0x8000_0002..=0x8000_0004).filter(|leaf| *leaf <= has).map(__cpuid);
        let words = words.flat_map(|all| [all.eax, all.ebx, all.ecx, all.edx]);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).take_while(|byte| *byte != 0).collect();
        let brand = String::from_utf8_lossy(&bytes).trim().to_string();
        format!("{brand} {:x}", __cpuid(1).eax) // family, model and stepping
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH.to_string()
}

/// What this program was built for, and what it does not use of this processor. `used`: the instruction sets that
/// llama.cpp uses, as it prints them: `AVX2 = 1 | FMA = 1`.
pub fn built_for(used: &str) -> String {
    let used: Vec<&str> = used.split(['|', ':']).filter_map(|one| one.trim().strip_suffix(" = 1")).collect();
    let unused: Vec<&str> = instruction_sets().into_iter().filter(|name| !used.contains(name)).collect();
    described(env!("FIRESIDE_TARGET_CPU"), &unused)
}

/// `target`: rustc's `target-cpu`.
fn described(target: &str, unused: &[&str]) -> String {
    match (target, unused) {
        ("native", []) => "built for this processor".into(),
        (_, []) => format!("built for {target}"),
        _ => {
            let target = if target == "native" { "another processor" } else { target };
            format!("built for {target}, without this one's {}: slower than it could be", unused.join(", "))
        }
    }
}

/// Those of this processor that make llama.cpp faster, by llama.cpp's names. Only x86-64's are known.
fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    {
        let vnni = is_x86_feature_detected!("avx512vnni");
        let sets = [
            ("SSSE3", is_x86_feature_detected!("ssse3")),
            ("AVX", is_x86_feature_detected!("avx")),
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("F16C", is_x86_feature_detected!("f16c")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("BMI2", is_x86_feature_detected!("bmi2")),
            ("AVX_VNNI", is_x86_feature_detected!("avxvnni") && !vnni), // the same, of AVX-512, takes its place
            ("AVX512", is_x86_feature_detected!("avx512f")),
            ("AVX512_VBMI", is_x86_feature_detected!("avx512vbmi")),
            ("AVX512_VNNI", vnni),
            ("AVX512_BF16", is_x86_feature_detected!("avx512bf16")),
            ("AMX_INT8", has_amx()),
        ];
        sets.into_iter().filter_map(|(name, here)| here.then_some(name)).collect()
    }
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// Whether the processor multiplies matrices of bytes, and the system lets it: as Linux says.
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split(' ').any(|flag| flag == "amx_int8")
}

#[cfg(test)]
mod tests {
    use super::described;

    #[test]
    fn a_build_says_what_it_is_for_and_what_it_leaves_unused() {
        assert_eq!(described("native", &[]), "built for this processor");
        assert_eq!(described("x86-64-v3", &[]), "built for x86-64-v3");
        let unused = ["AVX512", "AVX512_VNNI"];
        let line = "without this one's AVX512, AVX512_VNNI: slower than it could be";
        assert_eq!(described("x86-64-v3", &unused), format!("built for x86-64-v3, {line}"));
        assert_eq!(described("native", &unused), format!("built for another processor, {line}"));
    }
}
