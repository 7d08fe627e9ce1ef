//! A model file → its tensors and its vocabulary in memory.
//!
//! llama.cpp reads the vocabulary first and the tensors after it, on one thread; for small models the vocabulary takes most of
//! the time. So a file can be loaded twice at once, each time in part: once for the vocabulary only, once for the tensors, with
//! a vocabulary of which llama.cpp is told nothing but its size. Evaluating needs no more of it.

use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{LazyLock, OnceLock};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, anyhow, bail};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::vocab::LlamaVocab;
use llama_cpp_sys_2::{
    LLAMA_KV_OVERRIDE_TYPE_INT, LLAMA_KV_OVERRIDE_TYPE_STR, llama_model_kv_override,
    llama_model_kv_override__bindgen_ty_1 as Overriding,
};

use super::devices::backend;
use super::facts;
use super::fallback::Letters;
use super::log::{contained, forget_errors, reason};
use crate::chat::Settings;
use crate::engine::alphabet::Alphabet;
use crate::engine::token::{Token, Vocabulary};

/// What loading needs to know, all of it resolved before.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// `None`: as many as fit.
    pub gpu_layers: Option<u32>,
    pub mmap: bool,
    pub mlock: bool,
    /// Whether weights may be laid out anew for this processor's instructions.
    pub repack: bool,
    pub parts: Parts,
    /// What is known of the vocabulary from an earlier time.
    pub special_ids: Option<SpecialIds>,
}

/// What is loaded of a file, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parts {
    /// Only the vocabulary: what makes tokens of text, and evaluates none.
    Vocabulary,
    /// The vocabulary, and then the tensors.
    InTurn,
    /// Both at once. `size_key` is the metadata key under which llama.cpp looks for the size of a vocabulary, `tokens` that size.
    AtOnce { size_key: CString, tokens: usize },
}

/// Tokens with a meaning of their own that many files do not name: the end of a turn, and those for filling gaps in code. For
/// them llama.cpp compares the text of every token with some fifty names, which takes a fifth of the time in which a small
/// model is loaded. What it has found once it can be told. Where there is no such token, the one that ends all answers stands
/// in for it: with these meanings too a token ends the answer, if it does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialIds(pub [Token; SPECIAL_TEXTS.len()]);

/// The metadata keys that name these tokens.
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
    /// Tokens that the layers with a sliding window look back at, if there are such layers.
    pub(super) window: Option<usize>,
    /// Contexts larger than this many tokens encode positions in another way (LongRoPE).
    near: Option<usize>,
}

/// A vocabulary and what is known of it.
struct Words {
    /// Where it is, if it is not beside the tensors.
    model: Option<LlamaModel>,
    vocabulary: Vocabulary,
    /// What can be written, for a vocabulary that cannot write everything.
    alphabet: Option<Alphabet>,
    /// What its tokens are made of, once that matters.
    letters: OnceLock<Option<Letters>>,
}

impl Weights {
    /// Loads a file. `progress` gets 0 to 1 and says whether to go on. The error is llama.cpp's own reason.
    pub fn load(path: &Path, options: &LoadOptions, progress: impl FnMut(f32) -> bool) -> Result<Weights> {
        let weights = Weights::begin(path, options, progress)?;
        weights.complete()?;
        Ok(weights)
    }

    /// The same, but the vocabulary may still be on its way: until [`Weights::complete`] has returned, contexts can be made,
    /// and nothing else.
    pub fn begin(
        path: &Path,
        options: &LoadOptions,
        mut progress: impl FnMut(f32) -> bool,
    ) -> Result<Weights> {
        forget_errors();
        let mut stopped = false;
        let mut watch = |fraction| {
            stopped = !progress(fraction);
            !stopped
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
        Ok(Weights { model, words: LazyLock::new(words), window, near })
    }

    /// llama.cpp's own model.
    pub(super) fn pointer(&self) -> *mut llama_cpp_sys_2::llama_model {
        // SAFETY: `LlamaModel` is a transparent wrapper around such a pointer, in the version that Cargo.toml pins.
        unsafe { *(&raw const self.model).cast() }
    }

    /// Waits for the vocabulary.
    pub fn complete(&self) -> Result<()> {
        self.words.as_ref().map(|_| ()).map_err(|error| anyhow!("{error}"))
    }

    /// What loading the file again can be told.
    pub fn special_ids(&self) -> Option<SpecialIds> {
        SpecialIds::of(&self.vocab())
    }

    fn complete_words(&self) -> &Words {
        self.words.as_ref().expect("whoever loaded it has seen that it is complete")
    }

    /// The model that has the vocabulary.
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

    /// Whether a context of this size encodes positions as those for long texts do.
    pub(super) fn far(&self, capacity: usize) -> bool {
        self.near.is_some_and(|near| capacity > near)
    }
}

/// A part of a file; see [`Parts::AtOnce`].
#[derive(Clone, Copy)]
enum Half<'a> {
    Vocabulary,
    Tensors(&'a CStr, usize),
}

impl LoadOptions {
    /// For a file of which nothing is known yet.
    pub fn new(settings: &Settings, parts: Parts) -> LoadOptions {
        LoadOptions {
            gpu_layers: settings.gpu_layers,
            mmap: !settings.no_mmap,
            mlock: settings.mlock,
            repack: !settings.no_repack,
            parts,
            special_ids: None,
        }
    }

    /// Reads a file's vocabulary on a thread of its own.
    fn read_words(&self, path: &Path) -> Result<JoinHandle<Result<Words>>> {
        let (options, path) = (self.clone(), path.to_path_buf());
        let read = move || {
            let model = options.read(&path, Some(Half::Vocabulary), &mut |_| true)?;
            Words::of(&model).map(|words| Words { model: Some(model), ..words })
        };
        Ok(std::thread::Builder::new().name("vocabulary".into()).spawn(|| contained(read))?)
    }

    /// Has llama.cpp load a file, or half of it. Not by the binding's way, which writes on stderr when it is given metadata.
    fn read(
        &self,
        path: &Path,
        half: Option<Half>,
        mut progress: &mut dyn FnMut(f32) -> bool,
    ) -> Result<LlamaModel> {
        extern "C" fn on_progress(fraction: f32, to: *mut c_void) -> bool {
            // SAFETY: it is the pointer set below, to what lives until loading returns and is called by one thread only.
            let progress = unsafe { &mut *to.cast::<&mut dyn FnMut(f32) -> bool>() };
            progress(fraction)
        }
        backend();
        // SAFETY: returns a plain value.
        let mut params = unsafe { llama_cpp_sys_2::llama_model_default_params() };
        if let Some(layers) = self.gpu_layers {
            params.n_gpu_layers = i32::try_from(layers).unwrap_or(i32::MAX);
        }
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
        metadata.push(entry(c"", 0, Overriding { val_i64: 0 })); // says that it is the last
        params.kv_overrides = metadata.as_ptr();
        params.vocab_only = matches!(half, Some(Half::Vocabulary));
        let name = path.to_str().context("llama.cpp takes no name that is not UTF-8")?;
        let name = CString::new(name)?;
        // SAFETY: the name and all that the parameters point to live until it returns.
        let model =
            contained(|| unsafe { llama_cpp_sys_2::llama_model_load_from_file(name.as_ptr(), params) });
        let model = NonNull::new(model)
            .with_context(|| reason().unwrap_or_else(|| "llama.cpp does not say why".into()))?;
        // SAFETY: `LlamaModel` is a transparent wrapper around such a pointer, in the version that Cargo.toml pins, and owns
        // what it points to.
        Ok(unsafe { std::mem::transmute::<NonNull<llama_cpp_sys_2::llama_model>, LlamaModel>(model) })
    }
}

/// Metadata that takes the place of a file's own: a vocabulary of so many tokens, of which nothing is known.
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
