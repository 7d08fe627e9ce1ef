//! Model files that are missing, not models, broken, or too large: one line each, and never a signal.

use std::path::Path;

use fireside::gguf;

use crate::support::mutate::Document;
use crate::support::{Done, GGUF_STRING, Home, tiny, with_metadata};

/// A one-shot run with this model.
fn tried(home: &Home, model: &Path) -> Done {
    home.run(&["-p", "Hi", "-n", "1", "--temp", "0"]).model(model).done()
}

fn tiny_bytes() -> Vec<u8> {
    std::fs::read(tiny("llama-bpe")).unwrap()
}

/// Runs the tiny chat model after `change` has changed its bytes after `key` in the header.
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
    hint("zzz").hint("a path to a GGUF file works as well");
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
    done.failed(1, "not on this machine").hint("fireside pull smollm2-135m");
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
        // Permissions do not stop root; a file in place of a folder stops everyone.
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
    patched("general.architecture", |rest| rest[12..17].copy_from_slice(b"lamma"))
        .failed(1, "does not know the architecture 'lamma'")
        .hint("update it");
    // With nothing to rotate, llama.cpp would run forever.
    patched("llama.rope.dimension_count", set(0)).failed(1, "rope.dimension_count");
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
    // One byte changed, at 30 places across the header: an answer or one line, whatever llama.cpp does.
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
fn characters_that_a_vocabulary_cannot_write_do_not_end_the_program() {
    let home = Home::new();
    let bytes = std::fs::read(tiny("llama-spm")).unwrap();
    let at = bytes.windows(6).position(|w| w == b"<0xF0>").unwrap();
    let lacking = [&bytes[..at], b"<0yF0>", &bytes[at + 6..]].concat();
    let model = home.write("model.gguf", lacking);
    let run = home.run(&["-q", "-p", "Hi \u{1f525}", "-n", "2", "--temp", "0"]).model(&model);
    run.done().code(0).stderr("");
}

#[test]
fn what_llama_cpp_says_at_length_is_cut() {
    let long = "a".repeat(100_000);
    let home = Home::new();
    let mut document = Document::read(&tiny_bytes());
    document.set_text("tokenizer.ggml.pre", &long);
    let done = tried(&home, &home.write("model.gguf", document.bytes()));
    let done = done.failed(1, "unknown pre-tokenizer type: 'aaa");
    assert!(done.stderr.len() < 2000, "{}", done.stderr.len());
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
    // A file that kills its probe, with the name, size and time of the good one, is still a different file.
    let modified = std::fs::metadata(&model).unwrap().modified().unwrap();
    let mut bad = std::fs::read(tiny("aborts")).unwrap();
    bad.resize(tiny_bytes().len(), 0);
    std::fs::write(&model, bad).unwrap();
    std::fs::File::options().write(true).open(&model).unwrap().set_modified(modified).unwrap();
    tried(&home, &model).failed(1, "could not load");
    // With the stamp of the good one it ends the program itself: no file is probed twice.
    let stamp = |known: &str| known.split("\"stamp\": \"").nth(1).unwrap()[..32].to_string();
    let now = gguf::stamp(std::slice::from_ref(&model)).unwrap();
    std::fs::write(&state, known.replace(&stamp(&known), &now)).unwrap();
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

/// Settings that exclude each other: nothing is wrong with the file.
#[test]
fn settings_that_a_model_does_not_take_are_a_wrong_usage() {
    let refused = |args: &[&str], part: &str| {
        let home = Home::new();
        for known in [false, true] {
            if known {
                tried(&home, &tiny("llama-bpe")).code(0); // from now on no child probes it
            }
            let run = home.run(&[&["-p", "Hi", "-n", "1"], args].concat()).model(&tiny("llama-bpe"));
            let done = run.done().failed(2, part);
            assert!(!done.stderr.contains("damaged") && !done.stderr.contains("llama_"), "{}", done.stderr);
            let model = tiny("llama-bpe");
            let args = [&["--repl-stdin", "-q", "-n", "1", "-m", model.to_str().unwrap()], args].concat();
            let done = home
                .run(&args)
                .stdin("Hi\n/set flash-attn auto\n/set cache-type-k f16\n/set cache-type-v f16\nHo\n")
                .done();
            assert!(!done.code(0).stdout.trim().is_empty(), "the chat goes on");
        }
    };
    refused(&["--flash-attn", "off", "--cache-type-v", "q8_0"], "--cache-type-v q8_0 and --flash-attn off");
    refused(&["--cache-type-k", "q8_0"], "--cache-type-k q8_0"); // its heads have 16 numbers, a block 32
    refused(&["--cache-type-v", "q4_0"], "--cache-type-v q4_0");
}

/// A limit of 64 KiB; root loses the right to lock more.
#[test]
fn memory_that_could_not_be_locked_is_told_with_the_limit() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    tried(&home, &model).code(0);
    let locked = |drop: &str| {
        let line = format!("ulimit -l 64 && exec {drop} \"$0\" -m \"$1\" --mlock -p Hi -n 1");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &line, crate::support::program()]).arg(&model);
        let output = command.env_clear().envs(home.environment()).output().unwrap();
        Done::from(output)
    };
    // SAFETY: only queries.
    let drop = if unsafe { nix::libc::geteuid() } == 0 { "setpriv --bounding-set=-ipc_lock" } else { "" };
    let done = locked(drop).code(0);
    assert!(done.stderr.contains("not locked in memory") && done.stderr.contains("64 KiB"), "{done:#?}");
    let done = home.run(&["-p", "Hi", "-n", "1"]).model(&model).done().code(0);
    assert!(!done.stderr.contains("locked"), "{done:#?}");
}

/// Files that an uploader split with `split` must be joined; fetching them again does not help.
#[test]
fn a_piece_of_a_file_is_to_be_joined_and_not_fetched_again() {
    let home = Home::new();
    let bytes = tiny_bytes();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (one, two, whole) in [
        ("m.gguf.part1of2", "m.gguf.part2of2", "m.gguf"),
        ("n b.Q8_0.gguf-split-a", "n b.Q8_0.gguf-split-b", "'n b.Q8_0.gguf'"),
    ] {
        let (one, two) = (home.write(one, first), home.write(two, second));
        for piece in [&one, &two] {
            let done = tried(&home, piece).code(1).hint("cat ").hint(&format!(" > {whole}"));
            assert!(!done.stderr.contains("again"), "{}", done.stderr);
            home.run(&["show"]).arg(piece).done().code(1).hint(" > ");
            home.run(&["check"]).arg(piece).done().code(1).hint(" > ");
        }
        // The hint's command works.
        let hint = tried(&home, &one).stderr;
        let command = hint.split_once("them: ").unwrap().1.trim();
        let joined =
            std::process::Command::new("sh").args(["-c", command]).current_dir(home.path("")).status();
        assert!(joined.unwrap().success());
        let whole = home.path(whole.trim_matches('\''));
        assert_eq!(std::fs::read(&whole).unwrap(), bytes);
        tried(&home, &whole).code(0);
    }
    home.write("o.gguf.part1of3", first);
    tried(&home, &home.path("o.gguf.part1of3")).code(1).hint("o.gguf.part2of3");
}

/// Runs `show`, `check`, a conversion and a question on a file; all of them refuse it in a line.
#[track_caller]
fn refused_everywhere(home: &Home, bytes: Vec<u8>, part: &str) {
    let path = home.write("hole.gguf", bytes);
    let subcommands = [&["show"][..], &["check"], &["-p", "Hi", "-n", "1", "-m"], &["show", "--tensors"]];
    for subcommand in subcommands {
        let done = home.run(subcommand).arg(&path).done().code(1);
        assert!(done.stderr.contains(part), "{subcommand:?}: no {part:?}; {done:#?}");
        assert_eq!(done.stderr.lines().filter(|line| line.starts_with("fireside: ")).count(), 1, "{done:#?}");
    }
    let done = home.run(&["convert"]).arg(&path).arg("out.gguf").done();
    assert!(
        done.code.is_some_and(|code| code == 1 || code == 2) && !home.path("out.gguf").exists(),
        "{done:#?}"
    );
}

/// Published vulnerabilities of other readers of the format.
#[test]
fn the_known_holes_of_the_field_are_refused_everywhere() {
    let home = Home::new();
    let bytes = tiny_bytes();
    // general.alignment of another type than u32, and one that is no power of two: llama.cpp asserts, or used
    // to.
    for (kind, value) in
        [(10, &32u64.to_le_bytes()[..]), (2, &32u16.to_le_bytes()), (0, &[32]), (5, &32i32.to_le_bytes())]
    {
        refused_everywhere(
            &home,
            with_metadata(&bytes, "general.alignment", kind, value),
            "general.alignment",
        );
    }
    for value in [0u32, 3, 48, u32::MAX] {
        let broken = with_metadata(&bytes, "general.alignment", 4, &value.to_le_bytes());
        refused_everywhere(&home, broken, "general.alignment");
    }
    // Products of sizes that overflow (CVE-2026-27940, CVE-2026-33298), and data beyond the file
    // (CVE-2026-7482).
    let name = b"token_embd.weight";
    let at = bytes.windows(name.len()).rposition(|part| part == name).unwrap() + name.len();
    let (dims, offset) = (at + 4, at + 4 + 16 + 4);
    let with = |place: usize, value: u64| {
        let mut bytes = bytes.clone();
        bytes[place..place + 8].copy_from_slice(&value.to_le_bytes());
        bytes
    };
    for huge in [1 << 61, 1 << 62, (1 << 63) - 32, u64::MAX - 31, u64::MAX] {
        refused_everywhere(&home, with(dims, huge), "token_embd.weight");
        refused_everywhere(&home, with(dims + 8, huge), "token_embd.weight");
        refused_everywhere(&home, with(offset, huge), "token_embd.weight");
    }
    let mut both = with(dims, 1 << 32);
    both[dims + 8..dims + 16].copy_from_slice(&(1u64 << 32).to_le_bytes());
    refused_everywhere(&home, both, "token_embd.weight");
    refused_everywhere(&home, with(8, u64::MAX), "tensors"); // how many there are
    refused_everywhere(&home, with(16, u64::MAX), "metadata");
}

/// PLaMo-2 parses the byte from a token's name: with `<0x-1>` it wrote before the start of a table. All other
/// vocabularies parse from the fourth character, which must exist.
#[test]
fn byte_tokens_that_are_none_are_refused() {
    let home = Home::new();
    let odd = ["<0x-1>", "<0xzz>", "<0x 1>", "<0x0A", "\u{1}x"].map(|name| ("plamo2", name));
    for (tokenizer, name) in odd.into_iter().chain([("llama", "\u{1}x"), ("llama", "<")]) {
        let mut document = Document::read(&std::fs::read(tiny("llama-spm")).unwrap());
        document.set_text("tokenizer.ggml.model", tokenizer);
        document.set_token("<0x0A>", name);
        let path = home.write("hole.gguf", document.bytes());
        for subcommand in [&["check"][..], &["-p", "Hi", "-n", "1", "-m"]] {
            let done = home.run(subcommand).arg(&path).done().code(1);
            assert!(done.stderr.contains("names no byte") || name == "<", "{name}: {done:#?}");
        }
        home.run(&["show"]).arg(&path).done().code(0);
    }
}
