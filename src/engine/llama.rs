//! 2 — llama.cpp behind a trait: model, vocabulary, context and what is held in its memory.
//!
//! Everything above this file works on [`Model`]; this file (with sampler.rs) is the only one that names the
//! binding. It hides what the binding allows to go wrong: ids are checked before they reach C++, the log is kept
//! for error messages, and positions never pass what the model can take. Next: tokens.rs.

mod facts;
mod fallback;
mod weights;

use std::ffi::{CStr, c_char, c_void};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context as _, Result, anyhow, bail};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::context::session::LlamaStateSeqFlags;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{LlamaBackendDeviceType, list_llama_ggml_backend_devices};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use nix::libc;

pub use self::weights::{LoadOptions, Parts, SpecialIds, Weights};
use super::sampler::Sampler;
use crate::chat::Settings;
use crate::chat::options::SETTINGS;
use crate::chat::settings::{Auto, CacheType, Sampling};
use crate::error::Failure;

/// A token id: an index into the vocabulary.
pub type Token = i32;

/// Which of the decoded tokens get logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    None,
    Last,
    All,
}

/// What the engine needs of a language model. Memory is one sequence of tokens, appended to and cut at its end.
pub trait Model {
    /// Text to ids, nothing added. `special`: control tokens written in the text become such.
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token>;
    /// The bytes a token stands for; none for a control token unless `special`.
    fn piece(&self, token: Token, special: bool) -> Vec<u8>;
    /// Whether the model says with this token that its answer is over.
    fn ends(&self, token: Token) -> bool;
    fn vocabulary(&self) -> &Vocabulary;
    /// A fresh sampler chain for one answer.
    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Sampler>;

    /// Tokens in memory.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Tokens that memory has room for now.
    fn capacity(&self) -> usize;
    /// Tokens that memory may ever have room for.
    fn limit(&self) -> usize;
    /// Most tokens of one [`Model::decode`].
    fn chunk(&self) -> usize;
    /// Bytes that [`Model::save`] would give now.
    fn state_bytes(&self) -> usize;
    /// What is in memory, as bytes that are of use only to a model like this one.
    fn save(&self) -> Result<Vec<u8>>;
    /// Puts saved memory of `len` tokens in the place of what is there. The bytes must be exactly those that were saved: of
    /// that only their shape is checked. On failure memory is empty.
    fn restore(&mut self, state: &[u8], len: usize) -> Result<()>;
    /// Whether restored memory can be cut: otherwise it is of use only as a whole.
    fn restores_parts(&self) -> bool;
    /// Makes room for `capacity` tokens and returns how many of those in memory were kept.
    fn grow(&mut self, capacity: usize) -> Result<usize>;
    /// Whether what is in memory can be cut off again from here on, whatever more is evaluated before that.
    fn can_return(&self) -> bool;
    /// Forgets all but the first `len` tokens and returns how many were really kept: fewer where memory cannot be cut.
    fn truncate(&mut self, len: usize) -> usize;
    /// Evaluates tokens after those in memory; on failure memory is as it was or empty.
    fn decode(&mut self, tokens: &[Token], logits: Logits) -> Result<()>;
    /// The logits after one of the tokens of the last decode, of those that were to get some, the first being row 0; one number
    /// a token of the vocabulary.
    fn logits(&self, row: usize) -> &[f32];
}

/// What is known of a vocabulary once a model is loaded.
#[derive(Debug, Clone, Default)]
pub struct Vocabulary {
    pub len: usize,
    /// Begins every text, if the model wants that.
    pub bos: Option<Token>,
    pub add_bos: bool,
    pub bos_text: String,
    pub eos_text: String,
    /// Texts that become one token when control tokens are parsed: (text, always parsed even when they are not).
    pub markers: Vec<Marker>,
    /// Whether a text gets a space before it (SentencePiece).
    pub space_prefix: bool,
}

/// A text that the tokenizer may take for one special token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    pub token: Token,
    pub text: String,
    /// CONTROL or UNKNOWN; otherwise USER_DEFINED, which llama.cpp parses in any text.
    pub control: bool,
    /// UNKNOWN: stands for what cannot be written.
    pub unknown: bool,
    /// Whether white space before it is dropped.
    pub takes_space: bool,
}

/// What a context needs to know.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// Most tokens of context.
    pub limit: usize,
    /// Tokens of one batch: a power of two.
    pub chunk: usize,
    pub threads: u32,
    pub threads_batch: u32,
    pub flash_attn: Auto,
    pub cache_type_k: CacheType,
    pub cache_type_v: CacheType,
}

/// Where llama.cpp's words go. Set once, before anything else of this file is called.
pub struct Hooks {
    /// Every line of its log; `None` keeps it quiet.
    pub log: Option<fn(&str)>,
    /// The reason for which it is about to abort the process. Should not return.
    pub abort: fn(&str),
}

static HOOKS: OnceLock<Hooks> = OnceLock::new();
static NOT_LOCKED: AtomicBool = AtomicBool::new(false);
static LAST_ERRORS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Installs the hooks; only the first call counts.
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
    /// `std::set_terminate` of C++, under which name every compiler here knows it.
    #[link_name = "_ZSt13set_terminatePFvvE"]
    fn set_terminate(handler: extern "C" fn()) -> *const c_void;
}

/// An exception that llama.cpp threw and nobody caught.
extern "C" fn on_terminate() {
    if let Some(hooks) = HOOKS.get() {
        (hooks.abort)(&reason().unwrap_or("an error inside it that it did not expect".into()));
    }
    std::process::abort();
}

/// Keeps llama.cpp from starting a debugger when it aborts. First thing in `main`, while there is one thread.
pub fn without_debugger() {
    // SAFETY: there is only one thread yet, so nothing reads the environment meanwhile.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
}

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
    if let Some(log) = HOOKS.get().and_then(|hooks| hooks.log) {
        log(&text);
    }
}

/// Whether weights that were to be locked in memory could not be.
pub fn not_locked() -> bool {
    NOT_LOCKED.load(Ordering::Relaxed)
}

extern "C" fn on_abort(text: *const c_char) {
    let reason = c_text(text).unwrap_or_default();
    if let Some(hooks) = HOOKS.get() {
        (hooks.abort)(reason.trim());
    }
}

/// Runs something that may call llama.cpp. A C++ exception that comes out of it ends here, in a panic that nobody can
/// catch, where it would otherwise unwind through the whole thread.
pub fn contained<T>(run: impl FnOnce() -> T) -> T {
    extern "C" fn call<T, F: FnOnce() -> T>(run: &mut Option<F>, result: &mut Option<T>) {
        *result = run.take().map(|run| run());
    }
    let mut result = None;
    call(&mut Some(run), &mut result);
    result.expect("call sets it")
}

/// Has the C library take memory from the system in steps of 16 MiB, not of 128 KiB: every step holds up all page faults of the
/// process, and the two threads that load a model took hundreds. Allocations below 4 MiB come out of these steps. First thing
/// in `main`.
pub fn in_large_steps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (what, bytes) in
        [(libc::M_TOP_PAD, 16 << 20), (libc::M_MMAP_THRESHOLD, 4 << 20), (libc::M_TRIM_THRESHOLD, 32 << 20)]
    {
        // SAFETY: sets a number that allocations look at; there is only one thread yet.
        unsafe { libc::mallopt(what, bytes) };
    }
}

fn c_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: llama.cpp hands its callbacks NUL-terminated strings that live during the call.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// llama.cpp's own reason for the last failure: the first error line it wrote since `forget_errors`.
fn reason() -> Option<String> {
    let errors = LAST_ERRORS.lock().ok()?;
    // Lines look like "llama_model_load: error loading model: <reason>"; the last words say what was wrong.
    let line =
        errors.iter().find(|line| line.contains("error loading model: ")).or_else(|| errors.first())?;
    let reason = line.split_once("error loading model: ").map_or(line.as_str(), |(_, reason)| reason);
    Some(reason.to_string())
}

fn forget_errors() {
    if let Ok(mut errors) = LAST_ERRORS.lock() {
        errors.clear();
    }
}

/// llama.cpp's start-up, done once.
fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| LlamaBackend::init().expect("llama.cpp is started only here"))
}

/// A processor that can run a model.
#[derive(Debug, Clone)]
pub struct Device {
    pub name: String,
    pub description: String,
    pub gpu: bool,
}

/// The binding that is used, which decides what saved memory looks like.
pub const BINDING: &str = "llama-cpp-2 0.1.160, llama-cpp-sys-2 0.1.161";

/// Tells the llama.cpp that is in this program from any other, one compiled with other flags included.
pub const BUILD: &str = env!("FIRESIDE_LLAMA_CPP");

/// The processors llama.cpp was built for and found, the CPU included.
pub fn devices() -> Vec<Device> {
    backend();
    let gpu = |kind| matches!(kind, LlamaBackendDeviceType::Gpu | LlamaBackendDeviceType::IntegratedGpu);
    let all = list_llama_ggml_backend_devices();
    let known =
        all.into_iter().map(|d| Device { name: d.name, description: d.description, gpu: gpu(d.device_type) });
    known.collect()
}

/// The instruction sets and libraries llama.cpp was built with, as it prints them.
pub fn system_info() -> String {
    backend();
    // SAFETY: returns a pointer to a static string that nobody else writes now.
    c_text(unsafe { llama_cpp_sys_2::llama_print_system_info() }).unwrap_or_default()
}

/// ggml's own opinion of whether whole blocks of a type hold no NaN and no infinity; it writes to stderr what it finds.
#[cfg(test)]
pub(crate) fn are_numbers(kind: u32, blocks: &[u8]) -> bool {
    let mut aligned = vec![0u64; blocks.len().div_ceil(8)];
    // SAFETY: as many bytes as `blocks` has lie in `aligned`, which may hold any.
    unsafe { std::ptr::copy_nonoverlapping(blocks.as_ptr(), aligned.as_mut_ptr().cast(), blocks.len()) };
    // SAFETY: ggml reads the given number of bytes, which are aligned for every type it has.
    unsafe { llama_cpp_sys_2::ggml_validate_row_data(kind, aligned.as_ptr().cast(), blocks.len()) }
}

/// Numbers as ggml itself stores them in a type.
#[cfg(test)]
pub(crate) fn quantised(kind: u32, numbers: &[f32]) -> Vec<u8> {
    let count = numbers.len() as i64;
    // SAFETY: only looks at its table.
    let mut out = vec![0u8; unsafe { llama_cpp_sys_2::ggml_row_size(kind, count) }];
    // SAFETY: `numbers` is one row of `count` numbers, and `out` has the bytes of such a row.
    unsafe {
        let to = out.as_mut_ptr().cast();
        llama_cpp_sys_2::ggml_quantize_chunk(kind, numbers.as_ptr(), to, 0, 1, count, std::ptr::null());
    }
    out
}

/// One sequence of tokens being evaluated on loaded weights.
pub struct Llama<'w> {
    weights: &'w Weights,
    options: ContextOptions,
    /// Made when first needed, with the size then needed.
    context: Option<LlamaContext<'w>>,
    batch: LlamaBatch<'static>,
    capacity: usize,
    len: usize,
    /// How many tokens of the last decode have logits.
    rows: usize,
}

impl<'w> Llama<'w> {
    pub fn new(weights: &'w Weights, options: ContextOptions) -> Llama<'w> {
        let batch = LlamaBatch::new(options.chunk, 1);
        Llama { weights, options, context: None, batch, capacity: 0, len: 0, rows: 0 }
    }

    fn open(&self, capacity: usize) -> Result<LlamaContext<'w>> {
        let options = &self.options;
        let chunk = options.chunk as u32;
        let flash = match options.flash_attn {
            Auto::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
            Auto::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
            Auto::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
        };
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(capacity as u32))
            .with_n_batch(chunk)
            .with_n_ubatch(chunk)
            .with_n_seq_max(1)
            .with_n_threads(options.threads as i32)
            .with_n_threads_batch(options.threads_batch as i32)
            .with_flash_attention_policy(flash)
            .with_type_k(cache_type(options.cache_type_k))
            .with_type_v(cache_type(options.cache_type_v))
            .with_swa_full(true) // a window-sized cache cannot be cut exactly
            .with_no_perf(true);
        forget_errors();
        let context = contained(|| self.weights.model.new_context(backend(), params));
        context.map_err(|e| self.refused(capacity, &reason().unwrap_or_else(|| e.to_string())))
    }

    /// Why there is no context: what was asked for, where llama.cpp's reason is about that.
    fn refused(&self, capacity: usize, reason: &str) -> anyhow::Error {
        let why = reason.rsplit_once("llama_init_from_model: ").map_or(reason, |(_, why)| why);
        let about_settings = ["flash", "cache type"].iter().any(|word| why.to_lowercase().contains(word));
        let given = self.options.unusual();
        if !about_settings || given.is_empty() {
            return anyhow!("no context of {capacity} tokens: {why}");
        }
        let given = given.join(" and ");
        Failure::usage(format!("this model does not go with {given}: {why}"))
            .hint("leave one of them out, or all: what is not set suits every model")
            .into()
    }
}

impl ContextOptions {
    /// How the KV cache was asked to be, where that is not as usual.
    fn unusual(&self) -> Vec<String> {
        let usual = Settings::default();
        let ours = Settings {
            flash_attn: self.flash_attn,
            cache_type_k: self.cache_type_k,
            cache_type_v: self.cache_type_v,
            ..usual.clone()
        };
        let rows = SETTINGS.iter().filter(|row| (row.get)(&ours) != (row.get)(&usual));
        let mut given: Vec<String> = rows.map(|row| format!("--{} {}", row.name, (row.get)(&ours))).collect();
        given.sort();
        given
    }
}

impl Model for Llama<'_> {
    fn tokenize(&self, text: &str, special: bool) -> Vec<Token> {
        // What stands on both sides of a character that is left out stays apart: together it might spell a marker.
        let left_out = |c| self.weights.alphabet().is_some_and(|alphabet| !alphabet.has(c));
        let tokens = |part: &str| self.tokens(part, special);
        text.split(left_out).filter(|part| !part.is_empty()).flat_map(tokens).collect()
    }

    fn piece(&self, token: Token, special: bool) -> Vec<u8> {
        if token < 0 || token as usize >= self.weights.vocabulary().len {
            return Vec::new(); // C++ would end the process
        }
        contained(|| self.weights.vocab().token_to_piece(LlamaToken(token), special, None))
    }

    fn ends(&self, token: Token) -> bool {
        self.weights.vocab().is_eog(LlamaToken(token))
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.weights.vocabulary()
    }

    fn sampler(&self, sampling: &Sampling, seed: u32) -> Result<Sampler> {
        Sampler::for_model(self.weights.words(), sampling, seed, self.options.limit)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn limit(&self) -> usize {
        self.options.limit
    }

    fn chunk(&self) -> usize {
        self.options.chunk
    }

    fn state_bytes(&self) -> usize {
        let size = |context: &LlamaContext| context.state_seq_get_size_ext(0, LlamaStateSeqFlags::empty());
        self.context.as_ref().filter(|_| self.len > 0).map_or(0, |context| 1 + contained(|| size(context)))
    }

    fn save(&self) -> Result<Vec<u8>> {
        let size = self.state_bytes();
        let context = self.context.as_ref().filter(|_| size > 1).context("there is nothing in memory")?;
        let mut state = Vec::new();
        state.try_reserve_exact(size).context("there is no room for a copy of the model's memory")?;
        state.push(u8::from(self.weights.far(self.capacity)));
        let rest = state.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        let flags = LlamaStateSeqFlags::empty();
        // SAFETY: `size - 1` bytes from `rest` on were reserved, as many as llama.cpp has just said that it will write.
        let written = contained(|| unsafe { context.state_seq_get_data_ext(rest, 0, flags) });
        if written != size - 1 {
            bail!("llama.cpp could not copy its memory");
        }
        // SAFETY: so many bytes were reserved and have been written.
        unsafe { state.set_len(size) };
        Ok(state)
    }

    fn restore(&mut self, state: &[u8], len: usize) -> Result<()> {
        let context = self.context.as_mut().context("nothing was made room for")?;
        context.clear_kv_cache();
        self.len = 0;
        let (far, state) = state.split_first().context("there is nothing saved")?;
        if *far != u8::from(self.weights.far(self.capacity)) {
            bail!("positions are encoded otherwise in a context of this size");
        }
        if len == 0 || len > self.capacity {
            bail!("{len} saved tokens do not fit a context of {}", self.capacity);
        }
        forget_errors();
        let flags = LlamaStateSeqFlags::empty();
        // SAFETY: the caller guarantees that llama.cpp itself wrote these bytes, for weights and a context like these; of lengths
        // it reads no further than the slice.
        let done = contained(|| unsafe { context.state_seq_set_data_ext(state, 0, flags) });
        if !done || context.kv_cache_seq_pos_max(0) != len as i32 - 1 {
            context.clear_kv_cache();
            bail!("llama.cpp did not take the saved memory: {}", reason().unwrap_or_default());
        }
        self.len = len;
        Ok(())
    }

    /// Recurrent memory is one state after all tokens, and of a sliding window llama.cpp saves only what the last token sees.
    fn restores_parts(&self) -> bool {
        let model = &self.weights.model;
        !model.is_recurrent() && !model.is_hybrid() && self.weights.window.is_none()
    }

    fn grow(&mut self, capacity: usize) -> Result<usize> {
        if capacity <= self.capacity {
            return Ok(self.len);
        }
        // The old context goes before the new one comes, so that both are never in memory together.
        let state = self.save().ok().filter(|_| self.len > 0);
        self.context = None;
        let kept = std::mem::take(&mut self.len);
        self.capacity = 0;
        self.context = Some(self.open(capacity)?);
        self.capacity = capacity;
        if let Some(state) = state {
            let _ = self.restore(&state, kept); // what could not be kept is read again
        }
        Ok(self.len)
    }

    fn can_return(&self) -> bool {
        let model = &self.weights.model;
        let whole = |context| whole(context, self.weights.window, self.len);
        !model.is_recurrent() && !model.is_hybrid() && self.context.as_ref().is_some_and(whole)
    }

    fn truncate(&mut self, len: usize) -> usize {
        let Some(context) = self.context.as_mut().filter(|_| len < self.len) else {
            return self.len;
        };
        let whole = whole(context, self.weights.window, len);
        let mut cut = || context.clear_kv_cache_seq(Some(0), Some(len as u32), None);
        if len > 0 && whole && matches!(cut(), Ok(true)) {
            self.len = len;
        } else {
            context.clear_kv_cache();
            self.len = 0;
        }
        self.len
    }

    fn decode(&mut self, tokens: &[Token], logits: Logits) -> Result<()> {
        let context = self.context.as_mut().context("nothing was made room for")?;
        let last = tokens.len().saturating_sub(1);
        self.batch.clear();
        for (i, token) in tokens.iter().enumerate() {
            if *token < 0 || *token as usize >= self.weights.vocabulary().len {
                bail!("token {token} is not in the vocabulary");
            }
            let wanted = logits == Logits::All || logits == Logits::Last && i == last;
            self.batch.add(LlamaToken(*token), (self.len + i) as i32, &[0], wanted)?;
        }
        match contained(|| context.decode(&mut self.batch)) {
            Ok(()) => {
                self.len += tokens.len();
                self.rows = match logits {
                    Logits::None => 0,
                    Logits::Last => 1,
                    Logits::All => tokens.len(),
                };
            }
            Err(error) => {
                let len = self.len;
                self.len += tokens.len(); // some of the batch may be in memory: cut it off
                self.truncate(len);
                return Err(error).context("llama.cpp could not evaluate the tokens");
            }
        }
        Ok(())
    }

    fn logits(&self, row: usize) -> &[f32] {
        assert!(row < self.rows, "there are {} rows of logits", self.rows);
        let context = self.context.as_ref().expect("decode made a context");
        context.get_logits_ith(row as i32 - self.rows as i32) // rows counted from the last one, which is -1
    }
}

/// Whether memory has all that a model with such a window needs to go on after `len` tokens: restored memory has only what was
/// needed after its last one.
fn whole(context: &LlamaContext, window: Option<usize>, len: usize) -> bool {
    let oldest = context.kv_cache_seq_pos_min(0).max(0) as usize;
    oldest <= len.saturating_sub(window.unwrap_or(len))
}

fn cache_type(kind: CacheType) -> KvCacheType {
    match kind {
        CacheType::F32 => KvCacheType::F32,
        CacheType::F16 => KvCacheType::F16,
        CacheType::BF16 => KvCacheType::BF16,
        CacheType::Q8_0 => KvCacheType::Q8_0,
        CacheType::Q5_1 => KvCacheType::Q5_1,
        CacheType::Q5_0 => KvCacheType::Q5_0,
        CacheType::Q4_1 => KvCacheType::Q4_1,
        CacheType::Q4_0 => KvCacheType::Q4_0,
        CacheType::Iq4Nl => KvCacheType::IQ4_NL,
    }
}
