//! Instructions that the compiler gets wrong, and instructions that this processor lacks.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{Home, cannot_run, program, repository, tiny};

/// The folder in which llama.cpp was compiled for this test run.
pub(crate) fn build() -> PathBuf {
    PathBuf::from(env!("FIRESIDE_LLAMA_CPP_BUILD"))
}

/// A value from CMake's cache there.
pub(crate) fn cached(name: &str) -> String {
    let cache = std::fs::read_to_string(build().join("CMakeCache.txt")).unwrap();
    let line = cache.lines().find(|line| line.starts_with(&format!("{name}:"))).unwrap();
    line.split_once('=').unwrap().1.into()
}

/// The words of the command that compiled a file of llama.cpp.
pub(crate) fn command_for(file: &str) -> Vec<String> {
    let all = std::fs::read(build().join("compile_commands.json")).unwrap();
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).unwrap();
    let text = |entry: &serde_json::Value, field: &str| entry[field].as_str().unwrap().to_string();
    let entry = all.iter().find(|entry| text(entry, "file").ends_with(file)).unwrap();
    text(entry, "command").split_whitespace().map(String::from).collect()
}

/// AMX's configuration is 64 bytes, most of which gcc drops as dead stores. The machine code shows on every
/// x86-64, with AMX or without, whether it writes them all.
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "AMX is x86-64's")]
fn amx_tiles_are_configured_whole() {
    let folder = tempfile::tempdir().unwrap();
    let object = folder.path().join("mmq.o");
    let mut words = command_for("ggml-cpu/amx/mmq.cpp");
    words.retain(|word| !word.starts_with("-march="));
    let output = 1 + words.iter().position(|word| word == "-o").unwrap();
    words[output] = object.to_str().unwrap().into();
    let done = Command::new(&words[0]).args(&words[1..]).arg("-march=sapphirerapids").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let code =
        Command::new("objdump").args(["-d", "-M", "intel", "--no-show-raw-insn"]).arg(&object).output();
    let code = String::from_utf8(code.unwrap().stdout).unwrap();
    assert!(code.contains("ldtilecfg"));
    assert_eq!(missing(&code), Vec::<usize>::new(), "bytes of the configuration that are not written");
}

#[test]
fn a_configuration_that_gcc_has_cut_is_seen() {
    const CUT: &str = "
 32e:\tvpxor  xmm0,xmm0,xmm0
 332:\tvmovdqa64 ZMMWORD PTR [rsp+0xc0],zmm0
 33a:\tmov    BYTE PTR [rsp+0xc0],0x1
 342:\tldtilecfg [rsp+0xc0]";
    let bytes_a_row = (16..32).step_by(2);
    assert_eq!(missing(CUT), bytes_a_row.clone().chain(48..56).collect::<Vec<_>>());
    assert_eq!(missing(&CUT.replace("ZMMWORD", "YMMWORD")), bytes_a_row.chain(32..64).collect::<Vec<_>>());
}

/// The bytes of the configuration that are not written before it is loaded, or only with zeros although
/// llama.cpp's has another number there: the palette, and the rows and bytes per row of eight tiles (Intel
/// SDM, volume 2, LDTILECFG).
fn missing(code: &str) -> Vec<usize> {
    let lines: Vec<&str> = code.lines().filter_map(|line| Some(line.split_once(":\t")?.1)).collect();
    let mut missing = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("ldtilecfg")) {
        let (base, start) = address(line).unwrap();
        let (mut written, mut zeros) = (HashSet::new(), HashSet::new());
        let mut zeroed = HashSet::new();
        for line in &lines[at.saturating_sub(200)..at] {
            let (name, operands) = line.split_once(' ').unwrap_or((line, ""));
            let operands = operands.trim();
            let target = number(operands.split(',').next().unwrap_or_default());
            match name {
                "vpxor" | "vpxord" | "vxorps" | "pxor" | "xorps" | "xor" => zeroed.insert(target),
                _ => zeroed.remove(target),
            };
            let Some((to, from)) = operands.rsplit_once(',').filter(|(to, _)| to.contains("PTR")) else {
                continue;
            };
            let Some((_, offset)) = address(to).filter(|(of, _)| *of == base) else { continue };
            let zero = from == "0x0" || zeroed.contains(number(from));
            for byte in (offset - start..offset - start + size(to)).filter(|byte| (0..64).contains(byte)) {
                written.insert(byte as usize);
                let _ = if zero { zeros.insert(byte) } else { zeros.remove(&byte) };
            }
        }
        let set =
            |byte: &usize| *byte == 0 || (16..32).step_by(2).any(|b| b == *byte) || (48..56).contains(byte);
        missing.extend(
            (0..64).filter(|byte| !written.contains(byte) || (set(byte) && zeros.contains(&(*byte as i64)))),
        );
    }
    missing
}

/// `[rsp+0xc0]` → `rsp` and 0xc0.
fn address(operand: &str) -> Option<(&str, i64)> {
    let inside = operand.split_once('[')?.1.split_once(']')?.0;
    let at = inside.find(['+', '-']).unwrap_or(inside.len());
    let (base, offset) = inside.split_at(at);
    let hex = offset.get(1..).unwrap_or_default();
    let offset_value = i64::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap_or(0);
    Some((base, if offset.starts_with('-') { -offset_value } else { offset_value }))
}

/// The number of bytes that a store writes.
fn size(operand: &str) -> i64 {
    match operand.split_whitespace().next() {
        Some("BYTE") => 1,
        Some("WORD") => 2,
        Some("DWORD") => 4,
        Some("QWORD") => 8,
        Some("XMMWORD") => 16,
        Some("YMMWORD") => 32,
        Some("ZMMWORD") => 64,
        _ => 0,
    }
}

/// The common part of `xmm0` and `zmm0`.
fn number(register: &str) -> &str {
    register.trim_start_matches(['x', 'y', 'z'])
}

/// The variable that makes a probe die of a signal when weights are repacked, as if the compiler got
/// instructions wrong.
const FAULT: &str = "FIRESIDE_TEST_FAULT";

#[test]
fn a_fault_of_the_processor_is_told_from_one_of_the_file_and_got_round() {
    for signal in ["SIGSEGV", "SIGILL", "SIGFPE"] {
        let home = Home::new();
        let ask = |fault: &str| {
            home.run(&["-p", "Hi", "-n", "4"]).model(&tiny("llama-bpe")).env(FAULT, fault).done()
        };
        let line = format!("llama.cpp crashes on this processor ({signal}) when it repacks weights for it");
        ask(signal).code(0).says(&line);
        // From now on they are not repacked, for any file, and each run says so.
        ask("").code(0).says(&line);
        let other = home.run(&["-p", "Hi", "-n", "4"]).model(&tiny("llama-spm")).env(FAULT, signal).done();
        other.code(0).says(&line);
        // Also after the model is loaded again.
        let lines = "/set no-repack\n/set ctx-size 512\n/set no-repack\n";
        let chat = home.run(&["--repl-stdin"]).model(&tiny("llama-bpe")).stdin(lines).done().code(0);
        assert_eq!(chat.stderr.matches("this machine\n").count(), 2, "{chat:#?}");
        let doctor = home.run(&["doctor"]).done().code(1);
        assert!(doctor.stdout.contains(&line), "{}", doctor.stdout);
        let plain = home.run(&["-p", "Hi", "-n", "4", "--no-repack"]).model(&tiny("llama-bpe")).done();
        assert!(!plain.stderr.contains("crashes on this processor"), "asked for: {}", plain.stderr);
    }
}

#[test]
fn a_file_that_crashes_in_any_case_is_at_fault_itself() {
    let home = Home::new();
    let run = home.run(&["-p", "Hi"]).model(&tiny("llama-bpe")).env(FAULT, "SIGSEGV always").done();
    run.failed(1, "llama.cpp crashes on it (SIGSEGV)").hint("the file may be damaged");
    home.run(&["-p", "Hi", "-n", "1"]).model(&tiny("llama-bpe")).done().code(0);
    home.run(&["doctor"]).done().code(0);
}

#[test]
fn on_another_processor_or_with_another_llama_cpp_a_file_is_tried_out_again() {
    let home = Home::new();
    let ask = || home.run(&["-p", "Hi", "-n", "1"]).model(&tiny("llama-bpe"));
    ask().done().code(0);
    ask().env(FAULT, "SIGSEGV always").done().code(0); // known, so not probed
    let known = home.path(".local/state/fireside/models.json");
    let text = std::fs::read_to_string(&known).unwrap();
    let build = text.split_once("\"loaded_by\": \"").unwrap().1.split_once('"').unwrap().0;
    assert!(build.contains(&fireside::processor::name()), "{build}");
    std::fs::write(&known, text.replace(build, "fireside on something else")).unwrap();
    ask().env(FAULT, "SIGSEGV always").done().failed(1, "llama.cpp crashes on it (SIGSEGV)");
}

#[test]
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "linux")),
    ignore = "only x86-64's processors are imitated"
)]
fn a_program_built_for_another_processor_says_so() {
    // Nehalem lacks features that the program was compiled for.
    let run = Command::new("qemu-x86_64").args(["-cpu", "Nehalem", program(), "--version"]).output();
    let Ok(run) = run else { return cannot_run("qemu-user is not there") };
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1), "{stderr}");
    let line = "fireside: this program was built for another processor: this one lacks ";
    assert!(
        stderr.contains(line) && stderr.contains("fma, ") && stderr.contains("\nhint: build it"),
        "{stderr}"
    );
    assert!(run.stdout.is_empty());
}

/// llama.cpp reports each instruction set by the name under which fireside looks for it.
#[test]
fn doctor_says_what_the_program_was_built_for() {
    let doctor = Home::new().run(&["doctor"]).done();
    let line = doctor.stdout.lines().find(|line| line.starts_with("llama.cpp")).unwrap();
    let native = cached("GGML_NATIVE") == "ON";
    assert!(if native {
        line.ends_with(", built for this processor")
    } else {
        line.contains(", built for ")
    });
}

#[test]
fn all_that_rustc_compiles_for_is_asked_for() {
    // Part of every x86-64, used only by the system, or never generated from ordinary code.
    const OTHERS: [&str; 14] = [
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
        "kl",
        "widekl",
    ];
    let table = std::fs::read_to_string(repository().join("src/processor.c")).unwrap();
    for processor in ["x86-64-v3", "x86-64-v4", "znver5", "sapphirerapids", "sierraforest"] {
        let rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
            .args(["--print", "cfg", "--target", "x86_64-unknown-linux-gnu", "-C"])
            .arg(format!("target-cpu={processor}"))
            .output()
            .unwrap();
        let cfg = String::from_utf8(rustc.stdout).unwrap();
        let names = cfg.lines().filter_map(|line| line.strip_prefix("target_feature=\"")?.strip_suffix('"'));
        let names: Vec<&str> = names.filter(|name| !OTHERS.contains(name)).collect();
        assert!(names.len() > 10, "{processor}: {names:?}");
        for name in names {
            assert!(table.contains(&format!("{{ \"{name}\", ")), "{processor}: {name}");
        }
    }
}
