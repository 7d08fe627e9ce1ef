//! The processor's name. processor.c checks for the features that the program was compiled for.

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
