//! For packages: llama.cpp's back ends, shared libraries in lib/fireside beside the program's bin → those that fit
//! this machine, loaded. Nothing is loaded from another folder: llama.cpp by itself would also look in the current
//! one, and load what GGML_BACKEND_PATH names.
//!
//! A GPU's back end does not load where its driver is missing.

use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::log::{abort, forget_errors};

/// What was found in the folder: the names of the back ends loaded, and of those that could not be.
#[derive(Debug, Default)]
pub struct Plugins {
    loaded: Vec<String>,
    failed: Vec<String>,
}

impl fmt::Display for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.loaded.join(", "))?;
        if !self.failed.is_empty() {
            write!(f, "; not {}: its driver or a library is missing", self.failed.join(", "))?;
        }
        Ok(())
    }
}

static PLUGINS: OnceLock<Plugins> = OnceLock::new();

/// The back ends loaded, once llama.cpp has started; `None` where they are part of the program.
pub fn plugins() -> Option<&'static Plugins> {
    PLUGINS.get()
}

/// Where back ends are loaded from, if they are no part of the program.
pub fn plugin_folder() -> Option<PathBuf> {
    cfg!(feature = "dynamic-backends").then(folder)
}

/// Loads every GPU's back end whose driver is there, the one for workers, and the best of the processor's.
pub(super) fn load() {
    let folder = folder();
    let mut plugins = Plugins::default();
    for name in ["cuda", "vulkan"] {
        match load_from(&folder, name) {
            Some(true) => plugins.loaded.push(name.into()),
            Some(false) => plugins.failed.push(name.into()),
            None => {}
        }
    }
    load_from(&folder, "rpc"); // workers.rs misses it if it is not there
    let mut cpu = variants().into_iter().map(|variant| format!("cpu-{variant}"));
    match cpu.find(|name| load_from(&folder, name) == Some(true)) {
        Some(name) => plugins.loaded.push(name),
        // Without any, llama.cpp would look elsewhere.
        None => abort(&format!(
            "no libggml-cpu-*.so for this processor in {}: unpack or install the package again, as a whole",
            folder.display()
        )),
    }
    forget_errors(); // of what may be missing
    let _ = PLUGINS.set(plugins); // called once
}

/// PREFIX/lib/fireside for PREFIX/bin/fireside, wherever a link to it stands.
fn folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(2).unwrap_or(Path::new("/")).join("lib/fireside")
}

/// Whether a back end could be loaded; `None` if it is not in the folder.
fn load_from(folder: &Path, name: &str) -> Option<bool> {
    let path = folder.join(format!("libggml-{name}.so"));
    if !path.exists() {
        return None;
    }
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: a C string that lives during the call; libraries in this folder are as trusted as the program.
    Some(!unsafe { llama_cpp_sys_2::ggml_backend_load(path.as_ptr()) }.is_null())
}

/// The processor's back ends in the order in which ggml prefers them, as far as they can run here. ggml refuses one
/// that uses an instruction which the processor lacks, but does not ask whether the system saves its registers; the
/// standard library does.
#[cfg(target_arch = "x86_64")]
fn variants() -> Vec<&'static str> {
    let with = |here: bool, names: &'static [&'static str]| if here { names } else { &[] };
    [
        with(is_x86_feature_detected!("avx512fp16"), AMX), // no processor has AMX without it
        with(is_x86_feature_detected!("avx512f"), AVX512),
        with(is_x86_feature_detected!("avx"), AVX),
        OLDER,
    ]
    .concat()
}

#[cfg(target_arch = "x86_64")]
const AMX: &[&str] = &["sapphirerapids"];
#[cfg(target_arch = "x86_64")]
const AVX512: &[&str] = &["zen4", "cooperlake", "icelake", "cascadelake", "cannonlake", "skylakex"];
#[cfg(target_arch = "x86_64")]
const AVX: &[&str] = &["alderlake", "haswell", "piledriver", "ivybridge", "sandybridge"];
#[cfg(target_arch = "x86_64")]
const OLDER: &[&str] = &["sse42", "x64"];

/// Arm's, in the order in which ggml prefers them.
#[cfg(not(target_arch = "x86_64"))]
fn variants() -> Vec<&'static str> {
    vec![
        "armv9.2_2",
        "armv9.2_1",
        "armv8.6_2",
        "armv8.6_1",
        "armv8.2_3",
        "armv8.2_2",
        "armv8.2_1",
        "armv8.0_1",
    ]
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::fs::read_to_string;

    use super::*;

    /// Read are `ggml_add_cpu_backend_variant(NAME FEATURE…)` in CMakeLists.txt, and what each feature scores in
    /// cpu-feats.cpp: `#ifdef GGML_FEATURE` … `score += 1<<N`.
    #[test]
    fn the_variants_are_those_of_ggml_in_the_order_of_its_scores() {
        let cache =
            read_to_string(Path::new(env!("FIRESIDE_LLAMA_CPP_BUILD")).join("CMakeCache.txt")).unwrap();
        let sources =
            cache.lines().find_map(|line| line.strip_prefix("CMAKE_HOME_DIRECTORY:INTERNAL=")).unwrap();
        let ggml = Path::new(sources).join("ggml/src");

        let code = read_to_string(ggml.join("ggml-cpu/arch/x86/cpu-feats.cpp")).unwrap();
        let scores = code.split("#ifdef GGML_").skip(1).map(|part| {
            let (feature, rest) = part.split_once('\n').unwrap();
            let shift = rest.split_once("score += 1").unwrap().1.split(';').next().unwrap();
            (feature, 1 << shift.trim_start_matches("<<").parse().unwrap_or(0))
        });
        let scores: Vec<(&str, i32)> = scores.collect();
        assert!(scores.contains(&("FMA", 1)) && scores.contains(&("AMX_INT8", 1 << 11)), "{scores:?}");

        let cmake = read_to_string(ggml.join("CMakeLists.txt")).unwrap();
        let (x86, _) = cmake.split_once("elseif(GGML_SYSTEM_ARCH STREQUAL \"ARM\")").unwrap();
        let mut variants: Vec<(i32, &str)> = x86
            .split("\n")
            .filter_map(|line| line.trim().strip_prefix("ggml_add_cpu_backend_variant(")?.strip_suffix(')'))
            .map(|words| {
                let (name, features) = words.split_once(' ').unwrap_or((words, ""));
                let score =
                    |feature| scores.iter().find(|(name, _)| *name == feature).map_or(0, |(_, score)| *score);
                (features.split_whitespace().map(score).sum(), name)
            })
            .collect();
        variants.sort();
        let best_first: Vec<&str> = variants.into_iter().rev().map(|(_, name)| name).collect();
        assert_eq!([AMX, AVX512, AVX, OLDER].concat(), best_first);
    }

    #[test]
    fn only_the_folder_beside_the_program_is_looked_at() {
        let program = std::env::current_exe().unwrap();
        assert_eq!(folder(), program.parent().unwrap().parent().unwrap().join("lib/fireside"));
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(load_from(empty.path(), "cpu-x64"), None);
        std::fs::write(empty.path().join("libggml-cpu-x64.so"), "no library").unwrap();
        assert_eq!(load_from(empty.path(), "cpu-x64"), Some(false));
    }
}
