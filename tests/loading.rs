//! A file loaded in two halves at once, with the special tokens found before, gives the same model as one
//! loaded in turn.

use std::ffi::{CStr, CString};
use std::path::Path;

use fireside::chat::settings::Settings;
use fireside::engine::llama::{self, Hooks, Llama, LoadOptions, Parts, Weights};
use fireside::engine::model::{Logits, Model};
use fireside::gguf;
use llama_cpp_sys_2 as sys;

use crate::support::engine::{FLOAT_NOISE, QUANTISED_NOISE, Subject, TINY, load};
use crate::support::mutate::Random;
use crate::support::{Home, alone, default_model, tiny};

const TEXT: &str = "The cat sat on the mat.\n\n  Größe 🔥 <|im_end|> </s> <s> 12345 def f(x):";

pub(crate) fn same_vocabulary(one: &impl Model, other: &impl Model) {
    assert_eq!(format!("{:?}", one.vocabulary()), format!("{:?}", other.vocabulary()));
    for token in 0..one.vocabulary().len as i32 {
        assert_eq!(one.ends(token), other.ends(token), "{token}");
        for special in [false, true] {
            assert_eq!(one.piece(token, special), other.piece(token, special), "{token}");
        }
    }
}

fn halves(path: &Path) -> Parts {
    let header = gguf::read(path).unwrap();
    let size_key = CString::new(format!("{}.vocab_size", header.architecture().unwrap())).unwrap();
    Parts::AtOnce { size_key, tokens: header.array_len("tokenizer.ggml.tokens").unwrap() }
}

#[test]
fn in_halves_it_is_the_same_model() {
    let tiny = TINY.map(|name| (tiny(name), FLOAT_NOISE));
    let default = default_model().map(|path| (path, QUANTISED_NOISE));
    for (path, noise) in tiny.into_iter().chain(default) {
        let subject = Subject::load(&path, noise);
        let context = subject.context();
        let again = load(&path, halves(&path), subject.weights.special_ids());
        let [mut whole, mut halves] =
            [&subject.weights, &again].map(|weights| Llama::new(weights, context.clone()));
        same_vocabulary(&whole, &halves);
        for special in [false, true] {
            assert_eq!(whole.tokenize(TEXT, special), halves.tokenize(TEXT, special), "{path:?}");
        }
        let tokens = whole.tokenize(TEXT, true);
        for model in [&mut whole, &mut halves] {
            model.grow(tokens.len()).unwrap();
            model.append(0, &tokens, Logits::Last).unwrap();
        }
        assert_eq!(whole.logits(0), halves.logits(0), "{path:?}");
        assert_eq!(subject.weights.special_ids(), again.special_ids(), "{path:?}");
    }
}

#[test]
fn a_vocabulary_that_cannot_be_read_is_why_loading_fails() {
    llama::install(Hooks { log: None, abort: |_| {} }); // records the reason
    let path = tiny("llama-bpe");
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"tokenizer.ggml.merges";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at + name.len() - 1] = b'x'; // no merges, but unchanged tensors
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.gguf");
    std::fs::write(&broken, bytes).unwrap();
    let options = LoadOptions::new(&Settings::default(), halves(&broken));
    let weights = Weights::begin(&broken, &options, |_| true).unwrap();
    let failure = weights.complete().unwrap_err().to_string();
    assert!(failure.contains("merges"), "{failure}");
    let stopped = Weights::load(&path, &LoadOptions { parts: halves(&path), ..options }, |_| false);
    assert!(stopped.err().unwrap().to_string().contains("stopped"));
}

#[test]
fn the_log_does_not_spell_out_the_vocabulary() {
    let home = Home::new();
    let done = home.run(&["-p", "Hi", "-n", "1", "--verbose"]).model(&tiny("llama-bpe")).done().code(0);
    let line = done.stderr.lines().find(|line| line.contains("tokenizer.ggml.tokens")).unwrap();
    assert!(line.ends_with("= [...]"), "{line}");
}

/// The buffers in which the CPU lays weights out anew.
fn repacked_buffers() -> Vec<sys::ggml_backend_buffer_type_t> {
    let name = c"ggml_backend_dev_get_extra_bufts";
    // SAFETY: the function has this type; its list lives as long as the process and ends with null.
    unsafe {
        let device = sys::ggml_backend_dev_by_type(sys::GGML_BACKEND_DEVICE_TYPE_CPU);
        let address =
            sys::ggml_backend_reg_get_proc_address(sys::ggml_backend_dev_backend_reg(device), name.as_ptr());
        let function: sys::ggml_backend_dev_get_extra_bufts_t = std::mem::transmute(address);
        let list = function.unwrap()(device);
        (0..).map(|n| *list.add(n)).take_while(|buffer| !buffer.is_null()).collect()
    }
}

/// What weights look like in such a buffer; `None`: it does not lay out this type.
fn repacked(
    buffer: sys::ggml_backend_buffer_type_t,
    kind: sys::ggml_type,
    size: [i64; 3],
    data: &[u8],
) -> Option<Vec<u8>> {
    let params =
        sys::ggml_init_params { mem_size: 1 << 16, mem_buffer: std::ptr::null_mut(), no_alloc: true };
    // SAFETY: the tensor has the size of the data, and lives until the copy is made.
    unsafe {
        let context = sys::ggml_init(params);
        let tensor = sys::ggml_new_tensor_3d(context, kind, size[0], size[1], size[2]);
        assert_eq!(sys::ggml_nbytes(tensor), data.len());
        let memory = sys::ggml_backend_alloc_ctx_tensors_from_buft(context, buffer);
        let made = (!(*tensor).extra.is_null()).then(|| {
            sys::ggml_backend_tensor_set(tensor, data.as_ptr().cast(), 0, data.len());
            std::slice::from_raw_parts((*tensor).data.cast(), data.len()).to_vec()
        });
        sys::ggml_backend_buffer_free(memory);
        sys::ggml_free(context);
        made
    }
}

#[test]
fn weights_repacked_on_several_threads_are_those_of_one() {
    if !alone("loading::weights_repacked_on_several_threads_are_those_of_one") {
        return;
    }
    llama::install(Hooks { log: None, abort: |_| {} });
    // SAFETY: no other thread reads the environment now. The first tensor does.
    unsafe { std::env::set_var("GGML_FIRESIDE", "1") };
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let before = threads();
    const COLUMNS: i64 = 4096;
    let kinds = [
        sys::GGML_TYPE_Q4_0,
        sys::GGML_TYPE_Q8_0,
        sys::GGML_TYPE_Q2_K,
        sys::GGML_TYPE_Q4_K,
        sys::GGML_TYPE_Q5_K,
        sys::GGML_TYPE_Q6_K,
        sys::GGML_TYPE_IQ4_NL,
        sys::GGML_TYPE_MXFP4,
    ];
    let mut random = Random::new(1);
    let mut compared = 0;
    for buffer in repacked_buffers() {
        // SAFETY: it has a name.
        let name = unsafe { CStr::from_ptr(sys::ggml_backend_buft_name(buffer)) };
        if name != c"CPU_REPACK" {
            continue; // the others have their own way
        }
        for kind in kinds {
            // SAFETY: a number of a type.
            let row = unsafe { sys::ggml_row_size(kind, COLUMNS) };
            // Pieces of 1 MiB at most, the last one shorter; and experts.
            for size in [[COLUMNS, 5040, 1], [COLUMNS, 800, 5]] {
                let rows = (size[1] * size[2]) as usize;
                let data: Vec<u8> = (0..rows * row).map(|_| random.next() as u8).collect();
                let Some(whole) = repacked(buffer, kind, size, &data) else { continue };
                let parts = data.chunks(80 * row).flat_map(|part| {
                    let rows = (part.len() / row) as i64;
                    repacked(buffer, kind, [COLUMNS, rows, 1], part).unwrap()
                });
                assert!(whole.iter().copied().eq(parts), "{kind} {size:?}");
                assert_ne!(whole, data);
                compared += 1;
                let several = std::thread::available_parallelism().unwrap().get() > 1;
                assert!(threads() > before || !several || cfg!(not(target_os = "linux")), "on one thread");
            }
        }
    }
    let instructions = cfg!(any(target_feature = "avx2", target_feature = "dotprod"));
    assert!(compared > 1 || !instructions, "nothing was repacked");
}
