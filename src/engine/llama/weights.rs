//! A model file → tensors and vocabulary in memory.
//!
//! llama.cpp reads the vocabulary and then the tensors, on one thread; for small models the vocabulary takes
//! most of the time. So a file can be loaded twice in parallel: once for the vocabulary only, once for the
//! tensors, with a dummy vocabulary of the right size. Evaluation needs no more than that.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_sys_2::{
    LLAMA_KV_OVERRIDE_TYPE_INT, LLAMA_KV_OVERRIDE_TYPE_STR, llama_model_kv_override,
    llama_model_kv_override__bindgen_ty_1 as Overriding,
};

use super::devices::{backend, spread};
use super::facts;
use super::fallback::Letters;
use super::lent::selected;
use super::log::{contained, forget_errors, reason};
use super::pages::MappedPages;
use super::placement::Placement;
use super::repack::repack_with;
use crate::chat::Settings;
use crate::chat::settings::Numa;
use crate::engine::alphabet::Alphabet;
use crate::engine::error::Error;
use crate::engine::token::{Token, Vocabulary};
use crate::rpc::Link;

/// Load parameters, all resolved.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    pub placement: Placement,
    pub numa: Numa,
    pub mmap: bool,
    pub mlock: bool,
    /// Whether weights may be repacked for this processor's instructions.
    pub repack: bool,
    /// The threads that repack them.
    pub threads: u32,
    pub parts: Parts,
    /// Special token ids known from an earlier load.
    pub special_ids: Option<SpecialIds>,
}

/// The parts of a file to load, and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Only the vocabulary: enough to tokenise, not to evaluate.
    Vocabulary,
    /// The vocabulary, then the tensors.
    InTurn,
    /// Both in parallel. `size_key`: the metadata key from which llama.cpp takes the vocabulary size;
    /// `tokens`: that size.
    AtOnce { size_key: CString, tokens: usize },
}

/// Special tokens that many files do not name: end of turn, and fill-in-the-middle. To find them, llama.cpp
/// compares the text of every token with some fifty names, a fifth of the load time of a small model; given
/// the ids of an earlier load, it skips that. The end-of-sequence token replaces a missing one: a token with
/// any of these meanings can only end the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds(pub [Token; SPECIAL_TEXTS.len()]);

/// The metadata keys of these tokens.
const SPECIAL_TEXTS: [&CStr; 7] = [
    c"tokenizer.ggml.eot_token_id",
    c"tokenizer.ggml.fim_pre_token_id",
    c"tokenizer.ggml.fim_suf_token_id",
    c"tokenizer.ggml.fim_mid_token_id",
    c"tokenizer.ggml.fim_pad_token_id",
    c"tokenizer.ggml.fim_rep_token_id",
    c"tokenizer.ggml.fim_sep_token_id",
];

impl SpecialIds {
    fn of(vocab: &LlamaVocab) -> Option<SpecialIds> {
        let known = |token: &LlamaToken| (0..vocab.n_tokens()).contains(&token.0);
        let end = Some(vocab.eos()).filter(known)?;
        let found = [
            vocab.eot(),
            vocab.fim_pre(),
            vocab.fim_suf(),
            vocab.fim_mid(),
            vocab.fim_pad(),
            vocab.fim_rep(),
            vocab.fim_sep(),
        ];
        Some(SpecialIds(found.map(|token| Some(token).filter(known).unwrap_or(end).0)))
    }
}

/// A model file in memory.
pub struct Weights {
    pub(super) model: LlamaModel,
    words: LazyLock<Result<Words>, Box<dyn FnOnce() -> Result<Words> + Send>>,
    /// The look-back of sliding-window layers in tokens, if there are any.
    pub(super) window: Option<usize>,
    /// The context size in tokens above which positions are encoded differently (LongRoPE).
    near: Option<usize>,
    /// Whether a GPU evaluates some layers.
    pub(super) on_gpu: bool,
    /// The workers that have some layers, perhaps.
    workers: Vec<Arc<Link>>,
}

/// A vocabulary and facts about it.
struct Words {
    /// The model that holds it, if it was loaded apart from the tensors.
    model: Option<LlamaModel>,
    vocabulary: Vocabulary,
    /// The characters that it can encode, if not all.
    alphabet: Option<Alphabet>,
    /// The characters of its tokens, computed when needed.
    letters: OnceLock<Option<Letters>>,
}

impl Weights {
    /// Loads a file. `progress` receives 0 to 1 and returns whether to continue. The error is llama.cpp's own
    /// reason.
    pub fn load(path: &Path, options: &LoadOptions, progress: impl FnMut(f32) -> bool) -> Result<Weights> {
        let weights = Weights::begin(path, options, progress)?;
        weights.complete()?;
        Ok(weights)
    }

    /// Like `load`, but the vocabulary may still be loading: until [`Weights::complete`] has returned, only
    /// contexts may be created.
    pub fn begin(
        path: &Path,
        options: &LoadOptions,
        mut progress: impl FnMut(f32) -> bool,
    ) -> Result<Weights> {
        spread(options.numa);
        repack_with(options.threads);
        forget_errors();
        let mut stopped = false;
        let workers = if options.placement.gpus.is_empty() { Vec::new() } else { selected() };
        let on_gpu = options.placement.on_gpu();
        let mut pages = (options.mmap && !options.mlock && (options.repack || on_gpu))
            .then(|| MappedPages::of(path, on_gpu));
        let mut watch = |fraction| {
            pages.iter_mut().for_each(|pages| pages.loaded(fraction));
            stopped = !progress(fraction);
            !stopped && check(&workers).is_ok()
        };
        let (model, words) = match &options.parts {
            Parts::Vocabulary => (options.read(path, Some(Half::Vocabulary), &mut watch), None),
            Parts::InTurn => (options.read(path, None, &mut watch), None),
            Parts::AtOnce { size_key, tokens } => {
                let words = options.read_words(path)?;
                (options.read(path, Some(Half::Tensors(size_key, *tokens)), &mut watch), Some(words))
            }
        };
        if stopped {
            bail!("loading was stopped");
        }
        check(&workers)?;
        let model = model?;
        let words: Box<dyn FnOnce() -> Result<Words> + Send> = match words {
            Some(thread) => {
                Box::new(|| thread.join().unwrap_or_else(|_| bail!("its vocabulary cannot be read")))
            }
            None => {
                let words = Words::of(&model)?;
                Box::new(|| Ok(words))
            }
        };
        let (window, near) = (facts::sliding_window(&model), facts::near_context(&model));
        Ok(Weights { model, words: LazyLock::new(words), window, near, on_gpu, workers })
    }

    /// llama.cpp's own model.
    pub(super) fn pointer(&self) -> *mut llama_cpp_sys_2::llama_model {
        // SAFETY: `LlamaModel` is a transparent wrapper around such a pointer in the version pinned in
        // Cargo.toml.
        unsafe { *(&raw const self.model).cast() }
    }

    /// Waits for the vocabulary.
    pub fn complete(&self) -> Result<()> {
        self.words.as_ref().map(|_| ()).map_err(|error| anyhow!("{error}"))
    }

    /// The special token ids, to speed up the next load of this file.
    pub fn special_ids(&self) -> Option<SpecialIds> {
        SpecialIds::of(&self.vocab())
    }

    pub(super) fn uses_workers(&self) -> bool {
        !self.workers.is_empty()
    }

    /// An error if a worker is lost: then nothing is true of what was computed since.
    pub(super) fn check_workers(&self) -> Result<()> {
        check(&self.workers)
    }

    fn complete_words(&self) -> &Words {
        self.words.as_ref().expect("whoever loaded it has seen that it is complete")
    }

    /// The model that holds the vocabulary.
    pub(super) fn words(&self) -> &LlamaModel {
        self.complete_words().model.as_ref().unwrap_or(&self.model)
    }

    pub(super) fn vocab(&self) -> LlamaVocab<'_> {
        self.words().vocab()
    }

    pub(super) fn vocabulary(&self) -> &Vocabulary {
        &self.complete_words().vocabulary
    }

    pub(super) fn letters(&self) -> Option<&Letters> {
        self.complete_words().letters.get_or_init(|| Letters::of(self.words())).as_ref()
    }

    pub(super) fn alphabet(&self) -> Option<&Alphabet> {
        self.complete_words().alphabet.as_ref()
    }

    /// Whether a context of this size uses the position encoding for long texts.
    pub(super) fn far(&self, capacity: usize) -> bool {
        self.near.is_some_and(|near| capacity > near)
    }
}

fn check(workers: &[Arc<Link>]) -> Result<()> {
    let lost = workers.iter().find_map(|worker| worker.lost());
    lost.map_or(Ok(()), |lost| Err(Error::Worker(lost).into()))
}

/// One half of a file; see [`Parts::AtOnce`].
#[derive(Clone, Copy)]
enum Half<'a> {
    Vocabulary,
    Tensors(&'a CStr, usize),
}

impl LoadOptions {
    /// For a file loaded for the first time.
    pub fn new(settings: &Settings, parts: Parts) -> LoadOptions {
        LoadOptions {
            placement: Placement::new(settings),
            numa: settings.numa,
            mmap: !settings.no_mmap,
            mlock: settings.mlock,
            repack: !settings.no_repack,
            threads: settings.threads.unwrap_or(1),
            parts,
            special_ids: None,
        }
    }

    /// Reads a file's vocabulary on its own thread.
    fn read_words(&self, path: &Path) -> Result<JoinHandle<Result<Words>>> {
        let (options, path) = (self.clone(), path.to_path_buf());
        let read = move || {
            let model = options.read(&path, Some(Half::Vocabulary), &mut |_| true)?;
            Words::of(&model).map(|words| Words { model: Some(model), ..words })
        };
        Ok(std::thread::Builder::new().name("vocabulary".into()).spawn(|| contained(read))?)
    }

    /// Loads a file, or half of it. Bypasses the binding, which writes to stderr when given metadata.
    fn read(
        &self,
        path: &Path,
        half: Option<Half>,
        mut progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<LlamaModel> {
        extern "C" fn on_progress(fraction: f32, to: *mut c_void) -> bool {
            // SAFETY: `to` is the pointer set below, to a value that lives until loading returns; only one
            // thread calls this.
            let progress = unsafe { &mut *to.cast::<&mut dyn FnMut(f32) -> bool>() };
            progress(fraction)
        }
        backend();
        // SAFETY: returns a plain value.
        let mut params = unsafe { llama_cpp_sys_2::llama_model_default_params() };
        let vocabulary = Placement::nowhere(); // the other half may be starting the GPUs at this moment
        let alone = matches!(half, Some(Half::Vocabulary));
        let placement = if alone { &vocabulary } else { &self.placement };
        let mut arrays = placement.arrays();
        placement.apply(&mut arrays, &mut params);
        params.load_mode = match (self.mmap, self.mlock) {
            (false, false) => llama_cpp_sys_2::LLAMA_LOAD_MODE_NONE,
            (true, false) => llama_cpp_sys_2::LLAMA_LOAD_MODE_MMAP,
            (false, true) => llama_cpp_sys_2::LLAMA_LOAD_MODE_MLOCK,
            (true, true) => llama_cpp_sys_2::LLAMA_LOAD_MODE_MMAP_MLOCK,
        };
        params.use_extra_bufts = self.repack;
        params.progress_callback = Some(on_progress);
        params.progress_callback_user_data = (&raw mut progress).cast();
        let mut metadata = match half {
            Some(Half::Tensors(size_key, tokens)) => no_vocabulary(size_key, tokens).to_vec(),
            _ => self.special_ids.iter().flat_map(SpecialIds::metadata).collect(),
        };
        metadata.push(entry(c"", 0, Overriding { val_i64: 0 })); // marks the end
        params.kv_overrides = metadata.as_ptr();
        params.vocab_only = alone;
        let name = path.to_str().context("llama.cpp takes no name that is not UTF-8")?;
        let name = CString::new(name)?;
        // SAFETY: the name and everything that `params` points to live until the call returns.
        let model =
            contained(|| unsafe { llama_cpp_sys_2::llama_model_load_from_file(name.as_ptr(), params) });
        let model = NonNull::new(model)
            .with_context(|| reason().unwrap_or_else(|| "llama.cpp does not say why".into()))?;
        // SAFETY: `LlamaModel` is a transparent wrapper around such a pointer in the version pinned in
        // Cargo.toml, and owns the model.
        Ok(unsafe { std::mem::transmute::<NonNull<llama_cpp_sys_2::llama_model>, LlamaModel>(model) })
    }
}

/// Metadata overrides for a dummy vocabulary of so many tokens.
fn no_vocabulary(size_key: &CStr, tokens: usize) -> [llama_model_kv_override; 2] {
    let none = Overriding { val_str: fixed(c"none") };
    [entry(c"tokenizer.ggml.model", LLAMA_KV_OVERRIDE_TYPE_STR, none), number(size_key, tokens as i64)]
}

impl SpecialIds {
    fn metadata(&self) -> impl Iterator<Item = llama_model_kv_override> {
        SPECIAL_TEXTS.iter().zip(self.0).map(|(key, token)| number(key, token.into()))
    }
}

fn number(key: &CStr, value: i64) -> llama_model_kv_override {
    entry(key, LLAMA_KV_OVERRIDE_TYPE_INT, Overriding { val_i64: value })
}

fn entry(key: &CStr, tag: u32, value: Overriding) -> llama_model_kv_override {
    llama_model_kv_override { key: fixed(key), tag, __bindgen_anon_1: value }
}

fn fixed(text: &CStr) -> [c_char; 128] {
    let mut bytes = [0; 128];
    bytes[..127].iter_mut().zip(text.to_bytes()).for_each(|(to, byte)| *to = *byte as c_char);
    bytes
}

impl Words {
    fn of(model: &LlamaModel) -> Result<Words> {
        let alphabet = facts::alphabet(model);
        if alphabet.as_ref().is_some_and(|alphabet| !alphabet.has(' ')) {
            bail!("its vocabulary has no token for a space");
        }
        Ok(Words {
            model: None,
            vocabulary: facts::read_vocabulary(model),
            alphabet,
            letters: OnceLock::new(),
        })
    }
}
