//! Model files that are missing, no models, broken, or too large: one line each, and never a signal.

use std::path::Path;

use crate::support::{Done, GGUF_STRING, Home, tiny, with_metadata};

/// A one-shot run with this model.
fn tried(home: &Home, model: &Path) -> Done {
    home.run(&["-p", "Hi", "-n", "1", "--temp", "0"]).model(model).done()
}

fn tiny_bytes() -> Vec<u8> {
    std::fs::read(tiny("llama-bpe")).unwrap()
}

/// The bytes of the tiny chat model with what follows `key` in the header changed by `change`, and how that ends.
fn patched(key: &str, change: impl Fn(&mut [u8])) -> Done {
    let home = Home::new();
    let mut bytes = tiny_bytes();
    let at = bytes.windows(key.len()).position(|w| w == key.as_bytes()).unwrap() + key.len();
    change(&mut bytes[at..]);
    tried(&home, &home.write("patched.gguf", bytes))
}

#[test]
fn a_name_that_is_no_model_gets_the_nearest() {
    let home = Home::new();
    home.write(".local/share/fireside/models/Gentle-Owl-3B.gguf", "");
    let hint = |name: &str| {
        home.run(&["-p", "Hi", "-m", name]).done().failed(1, &format!("there is no model '{name}'"))
    };
    hint("gentle-olw-3b").hint("did you mean Gentle-Owl-3B?");
    hint("owl").hint("did you mean Gentle-Owl-3B?");
    hint("smollm2-135").hint("did you mean smollm2-135m?");
    hint("zzz").hint("give the path of a GGUF file");
}

#[test]
fn a_path_where_nothing_is_gets_its_neighbour() {
    let home = Home::new();
    let near = home.write("models/owl.gguf", "").with_file_name("olw.gguf");
    tried(&home, &near).failed(1, "no such file").hint("models/owl.gguf?");
    tried(&home, &home.path("models/quite-different.gguf")).failed(1, "no such file");
}

#[test]
fn a_model_of_the_catalogue_that_is_not_there_comes_with_how_to_get_it() {
    let home = Home::new();
    let done = home.run(&["-p", "Hi", "-m", "smollm2-135m"]).done();
    done.failed(1, "not on this machine").hint("make model");
}

#[test]
fn what_is_no_model_file_is_named_for_what_it_is() {
    let home = Home::new();
    home.write("folder.gguf/inside", "");
    for (file, contents, why) in [
        ("empty.gguf", &b""[..], "the file is empty"),
        ("short.gguf", b"GGUF", "has only 4 bytes"),
        ("text.gguf", b"Dear model,\nplease be one.\n", "a text file"),
        ("page.gguf", b"<!DOCTYPE html><html>404</html>", "a web page"),
        ("archive.gguf", b"PK\x03\x04............................", "a zip archive"),
        ("noise.gguf", &[0x93; 64], "not a GGUF file"),
        ("zeros.gguf", &[0; 4096], "not a GGUF file"),
    ] {
        tried(&home, &home.write(file, contents)).failed(1, why);
    }
    tried(&home, &home.path("folder.gguf")).failed(1, "it is a folder").hint(".gguf file inside");
    tried(&home, Path::new("/dev/zero")).failed(1, "not a regular file");
}

#[test]
fn a_link_to_nothing_and_a_link_in_a_circle_are_one_line() {
    let home = Home::new();
    for target in ["nosuch", "circle.gguf"] {
        let link = home.path("circle.gguf");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(target, &link).unwrap();
        tried(&home, &link).failed(1, "could not use the model");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_model_does_not_hang() {
    let home = Home::new();
    let pipe = home.path("pipe.gguf");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    tried(&home, &pipe).failed(1, "not a regular file");
}

#[test]
fn a_file_nobody_may_read_is_one_line() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let model = home.write("locked.gguf", tiny_bytes());
    std::fs::set_permissions(&model, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&model).is_ok() {
        // Permissions do not stop root; a file where a folder is expected stops everybody.
        tried(&home, &model.join("inside.gguf")).failed(1, "could not use the model");
        return;
    }
    tried(&home, &model).failed(1, "permission denied").hint("ls -l");
}

#[test]
fn a_file_cut_anywhere_is_one_line() {
    let (home, bytes) = (Home::new(), tiny_bytes());
    for length in [5, 23, 24, 25, 100, 1000, 5000, bytes.len() / 2, bytes.len() - 1] {
        let done = tried(&home, &home.write("cut.gguf", &bytes[..length]));
        done.failed(1, "could not use the model").hint("fetch");
    }
}

#[test]
fn numbers_in_the_header_that_lie_are_one_line() {
    let huge = u64::MAX.to_le_bytes();
    for (at, why) in [(8, "tensors"), (16, "metadata")] {
        let home = Home::new();
        let mut bytes = tiny_bytes();
        bytes[at..at + 8].copy_from_slice(&huge);
        tried(&home, &home.write("lies.gguf", bytes)).failed(1, "could not use the model").says(why);
    }
    let set = |value: u32| move |rest: &mut [u8]| rest[4..8].copy_from_slice(&value.to_le_bytes());
    patched("llama.block_count", set(100_000)).failed(1, "block_count");
    patched("llama.embedding_length", set(0)).failed(1, "embedding_length");
    patched("llama.block_count", set(3)).failed(1, "could not load");
    patched("llama.attention.head_count", set(7)).failed(1, "could not");
    patched("tokenizer.ggml.tokens", |rest| rest[8..16].copy_from_slice(&u64::MAX.to_le_bytes()))
        .failed(1, "could not use");
    patched("general.architecture", |rest| rest[12..17].copy_from_slice(b"lamma")).failed(1, "could not");
}

#[test]
fn a_version_from_the_future_is_one_line() {
    let home = Home::new();
    let mut bytes = tiny_bytes();
    bytes[4] = 9;
    tried(&home, &home.write("future.gguf", bytes)).failed(1, "version 9");
}

#[test]
fn damage_anywhere_in_the_header_never_ends_in_a_signal() {
    // One byte changed, in 30 places spread over the header: an answer or one line, whatever llama.cpp makes of it.
    let (home, bytes) = (Home::new(), tiny_bytes());
    for place in (0..30).map(|n| 24 + n * 401) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x41;
        let done = tried(&home, &home.write("damaged.gguf", damaged));
        assert!(matches!(done.code, Some(0 | 1 | 3 | 4)), "byte {place}: {done:#?}");
        if done.code == Some(1) {
            done.failed(1, "");
        }
    }
}

#[test]
fn weights_that_are_not_numbers_are_one_line() {
    let home = Home::new();
    let mut bytes = tiny_bytes();
    let weights = bytes.len() - 200_000;
    bytes[weights..].fill(0xff);
    tried(&home, &home.write("nan.gguf", bytes)).failed(1, "not a number");
}

#[test]
fn a_file_that_makes_llama_cpp_abort_is_one_line_with_its_reason() {
    let done = tried(&Home::new(), &tiny("aborts")).failed(1, "llama.cpp stopped: src/models/jamba.cpp");
    done.hint("damaged");
}

#[test]
fn the_reason_of_llama_cpp_is_shown() {
    let done = patched("tokenizer.ggml.pre", |rest| rest[12..17].copy_from_slice(b"magic"));
    done.failed(1, "could not load").says("unknown pre-tokenizer type");
}

#[test]
fn the_chat_goes_on_with_a_good_model_after_a_bad_one() {
    let home = Home::new();
    let chat = format!("/model {}\n/model {}\nHi\n", tiny("aborts").display(), tiny("llama-spm").display());
    let run = home.run(&["--repl-stdin", "-n", "3", "--temp", "0"]).model(&tiny("llama-bpe")).stdin(chat);
    let done = run.done().code(0).says("llama.cpp stopped");
    assert!(!done.stdout.trim().is_empty(), "{done:#?}");
}

#[test]
fn a_model_that_loaded_is_not_tried_out_again() {
    let home = Home::new();
    let model = home.write("model.gguf", tiny_bytes());
    let state = home.path(".local/state/fireside/models.json");
    tried(&home, &model).code(0);
    let known = std::fs::read_to_string(&state).unwrap();
    assert!(known.contains("model.gguf") && known.contains("\"loaded_by\": \"fireside"), "{known}");
    // A file that kills the program that tries it out, under the name, size and time of the good one: it is believed to
    // be good, so it ends the program itself, where a trial would have said that loading failed.
    let modified = std::fs::metadata(&model).unwrap().modified().unwrap();
    let mut bad = std::fs::read(tiny("aborts")).unwrap();
    bad.resize(tiny_bytes().len(), 0);
    std::fs::write(&model, bad).unwrap();
    std::fs::File::options().write(true).open(&model).unwrap().set_modified(modified).unwrap();
    let done = tried(&home, &model).code(1).says("llama.cpp stopped");
    assert!(!done.stderr.contains("could not load"), "{done:#?}");
}

#[test]
fn a_model_that_failed_is_tried_again() {
    let home = Home::new();
    let model = home.write("model.gguf", std::fs::read(tiny("aborts")).unwrap());
    tried(&home, &model).failed(1, "could not load");
    tried(&home, &model).failed(1, "could not load");
    home.write("model.gguf", tiny_bytes());
    tried(&home, &model).code(0);
}

#[test]
fn a_damaged_memory_of_models_does_no_harm() {
    let home = Home::new();
    let state = home.write(".local/state/fireside/models.json", "{ not json");
    tried(&home, &tiny("llama-bpe")).code(0).stderr("");
    assert!(std::fs::read_to_string(state).unwrap().contains("llama-bpe.gguf"));
}

#[test]
fn a_context_that_memory_cannot_hold_is_refused_with_figures_and_remedies() {
    let run = Home::new().run(&["-p", "Hi", "-c", "2000000000"]).model(&tiny("llama-bpe"));
    let done = run.done().failed(1, "not enough memory: 2000000000 tokens of context need");
    done.hint("would fit");
}

#[test]
fn positions_that_a_model_never_learnt_are_refused() {
    let run = Home::new().run(&["-p", "Hi", "-c", "4096"]).model(&tiny("base"));
    run.done().failed(2, "--ctx-size 4096").hint("--ctx-size 256");
}

#[test]
fn a_prompt_beyond_the_learnt_positions_is_refused() {
    let home = Home::new();
    let run = home.run(&["-q", "-p", &"word ".repeat(300)]).model(&tiny("base"));
    run.done().failed(3, "the context holds 256");
}

#[test]
fn an_answer_stops_at_the_last_learnt_position() {
    let args = ["-q", "-p", "Once upon a time", "--temp", "0", "-n", "-1", "--json"];
    let object = Home::new().run(&args).model(&tiny("base")).done().code(4).json();
    assert_eq!(object["stop_reason"], "context");
    let count = |name: &str| object["tokens"][name].as_u64().unwrap();
    assert_eq!(
        count("prompt") + count("generated"),
        257,
        "the last token written needs no position: {object}"
    );
}

#[test]
fn a_template_in_the_file_that_is_wrong_is_one_line() {
    let base = std::fs::read(tiny("base")).unwrap();
    for (template, why) in [("{% for %}", "template"), ("{{ raise_exception('never') }}", "never")] {
        let home = Home::new();
        let text = [&(template.len() as u64).to_le_bytes()[..], template.as_bytes()].concat();
        let bytes = with_metadata(&base, "tokenizer.chat_template", GGUF_STRING, &text);
        tried(&home, &home.write("model.gguf", bytes)).failed(1, why);
    }
}
