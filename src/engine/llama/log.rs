//! llama.cpp's log, the reason for its last failure, and its message before it aborts the process.

use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// Receivers of llama.cpp's output. Set once, before any other call into llama.cpp.
pub struct Hooks {
    /// Receives every log line; `None` silences the log.
    pub log: Option<fn(&str)>,
    /// Receives the reason before llama.cpp aborts the process. Should not return.
    pub abort: fn(&str),
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();
static NOT_LOCKED: AtomicBool = AtomicBool::new(false);
/// The last line that only details something.
static LAST_DETAIL: Mutex<String> = Mutex::new(String::new());
static LAST_ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps llama.cpp from starting a debugger when it aborts, and has ggml compute as build/include has it: by kernels
/// of ours, and repacking on several threads.
///
/// # Safety
/// To be called while no other thread reads the environment, and before any other call into llama.cpp.
pub unsafe fn prepare() {
    for name in ["GGML_NO_BACKTRACE", "GGML_FIRESIDE"] {
        // SAFETY: the caller sees to that.
        unsafe { std::env::set_var(name, "1") };
    }
}

/// Installs the hooks; later calls have no effect.
pub fn install(hooks: Hooks) {
    if HOOKS.set(hooks).is_err() {
        return;
    }
    // SAFETY: the callbacks are `extern "C"` functions that do not unwind and live as long as the program.
    unsafe {
        llama_cpp_sys_2::llama_log_set(Some(on_log), std::ptr::null_mut());
        llama_cpp_sys_2::ggml_log_set(Some(on_log), std::ptr::null_mut());
        llama_cpp_sys_2::ggml_set_abort_callback(Some(on_abort));
        set_terminate(on_terminate);
    }
}

unsafe extern "C" {
    /// C++'s `std::set_terminate`, under the mangled name that all compilers here use.
    #[link_name = "_ZSt13set_terminatePFvvE"]
    fn set_terminate(handler: extern "C" fn()) -> *const c_void;
}

/// Called for an uncaught C++ exception in llama.cpp.
extern "C" fn on_terminate() {
    abort(&reason().unwrap_or("an error inside it that it did not expect".into()))
}

/// Whether the last detail was the same: a tensor that is repacked in pieces says so for each of them.
fn is_repeated(text: &str) -> bool {
    LAST_DETAIL.lock().is_ok_and(|mut last| std::mem::replace(&mut *last, text.into()) == text)
}

/// What has several lines for every layer, each time a context is made.
const OF_EVERY_LAYER: &str = "llama_graph_n_input_tensors: ";

extern "C" fn on_log(level: llama_cpp_sys_2::ggml_log_level, text: *const c_char, _: *mut c_void) {
    let Some(text) = c_text(text) else { return };
    let line = text.trim_end();
    if level == llama_cpp_sys_2::GGML_LOG_LEVEL_ERROR
        && !line.is_empty()
        && let Ok(mut errors) = LAST_ERRORS.lock()
    {
        if errors.len() >= 20 {
            errors.remove(0);
        }
        errors.push(line.to_string());
    }
    if text.contains("failed to mlock") || text.contains("mlock not supported") {
        NOT_LOCKED.store(true, Ordering::Relaxed);
    }
    if let Some(log) = HOOKS.get().and_then(|hooks| hooks.log)
        && !(level == llama_cpp_sys_2::GGML_LOG_LEVEL_DEBUG
            && (text.starts_with(OF_EVERY_LAYER) || is_repeated(&text)))
    {
        log(&text);
    }
}

/// Whether locking the weights in memory failed.
pub fn not_locked() -> bool {
    NOT_LOCKED.load(Ordering::Relaxed)
}

extern "C" fn on_abort(text: *const c_char) {
    let reason = c_text(text).unwrap_or_default();
    report(reason.trim());
}

/// Ends the process for a reason that leaves nothing to do.
pub(super) fn abort(reason: &str) -> ! {
    report(reason);
    std::process::abort();
}

fn report(reason: &str) {
    if let Some(hooks) = HOOKS.get() {
        (hooks.abort)(reason);
    }
}

/// Runs code that may call llama.cpp. A C++ exception in it ends here, in an uncatchable panic, instead of
/// unwinding through the whole thread.
pub fn contained<T>(run: impl FnOnce() -> T) -> T {
    extern "C" fn call<T, F: FnOnce() -> T>(run: &mut Option<F>, result: &mut Option<T>) {
        *result = run.take().map(|run| run());
    }
    let mut result = None;
    call(&mut Some(run), &mut result);
    result.expect("call sets it")
}

/// A C string as text; `None` for null.
pub(super) fn c_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: llama.cpp passes NUL-terminated strings that live during the call.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// llama.cpp's own reason for the last failure: its first error line since `forget_errors`.
pub(super) fn reason() -> Option<String> {
    let errors = LAST_ERRORS.lock().ok()?;
    // Lines look like "llama_model_load: error loading model: <reason>"; the last part is the reason.
    let line =
        errors.iter().find(|line| line.contains("error loading model: ")).or_else(|| errors.first())?;
    let reason = line.split_once("error loading model: ").map_or(line.as_str(), |(_, reason)| reason);
    Some(reason.to_string())
}

pub(super) fn forget_errors() {
    if let Ok(mut errors) = LAST_ERRORS.lock() {
        errors.clear();
    }
}
