//! `fireside check`: what it verifies, what it reports, and how it ends.

use std::time::Duration;

use crate::support::mutate::{Document, Random};
use crate::support::{Done, Home, alone, default_model, tiny};

fn checked(home: &Home, file: &std::path::Path) -> Done {
    home.run(&["check", file.to_str().unwrap()]).done()
}

#[test]
fn a_sound_file_is_said_to_be_sound() {
    let home = Home::new();
    for model in ["llama-bpe", "llama-spm", "gemma3", "mamba", "falcon-h1", "base"] {
        let done = checked(&home, &tiny(model)).code(0).stderr("");
        assert!(done.stdout.contains("no NaN") && done.stdout.contains("sha256"), "{done:#?}");
    }
    let object = home.run(&["check", "--json"]).arg(tiny("base")).done().code(0).stderr("").json();
    assert_eq!(object["ok"], true);
    assert_eq!(object["problems"], serde_json::json!([]));
    assert_eq!(object["bytes"], std::fs::metadata(tiny("base")).unwrap().len());
    assert!(object["tensors"].as_u64().unwrap() > 10, "{object}");
    assert_eq!(object["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(object["expected_sha256"], serde_json::Value::Null);
}

#[test]
fn weights_that_are_no_numbers_are_found_by_name() {
    let home = Home::new();
    let mut bytes = std::fs::read(tiny("llama-bpe")).unwrap();
    let end = bytes.len();
    bytes[end - 8..end - 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let file = home.write("nan.gguf", &bytes);
    let done = home.run(&["check"]).arg(&file).done().code(1).says("nan.gguf is damaged: tensor 'blk.1.");
    assert!(done.stdout.contains("NaN) in element "), "{done:#?}");
    let done = home.run(&["check", "--json"]).arg(&file).done().code(1);
    assert_eq!(done.json()["ok"], false);
    assert_eq!(done.json()["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn what_is_wrong_with_a_header_is_said() {
    let home = Home::new();
    let bytes = std::fs::read(tiny("llama-bpe")).unwrap();
    let cut = home.write("cut.gguf", &bytes[..bytes.len() - 100]);
    checked(&home, &cut).code(1).says("the file ends too early").hint("fetch the file again");
    checked(&home, &home.write("page.gguf", "<!DOCTYPE html>")).code(1).says("a web page");
    checked(&home, &home.path("nothing.gguf")).code(1).says("no such file");
    checked(&home, &home.path("")).code(1).says("a folder");
    home.run(&["check", "smollm2-135m"]).done().failed(1, "not on this machine");
}

#[test]
fn names_that_are_checksums_are_compared() {
    let home = Home::new();
    let bytes = std::fs::read(tiny("base")).unwrap();
    let object = |run: Done| run.json();
    let sha256 = object(home.run(&["check", "--json"]).arg(tiny("base")).done())["sha256"]
        .as_str()
        .unwrap()
        .to_string();
    let wrong = "0".repeat(64);
    for (digest, code) in [(&sha256, 0), (&wrong, 1)] {
        let ollama = home.write(&format!("ollama/sha256-{digest}"), &bytes);
        let done = checked(&home, &ollama).code(code);
        assert_eq!(done.stderr.contains("its checksum differs from the name Ollama gave"), code == 1);
        let blob = home.write(&format!("hub/blobs/{digest}"), &bytes);
        let link = home.path(&format!("model-{code}.gguf"));
        std::os::unix::fs::symlink(&blob, &link).unwrap();
        let done = home.run(&["check", "--json"]).arg(&link).done().code(code);
        assert_eq!(done.json()["expected_sha256"], **digest);
    }
}

#[test]
fn the_default_model_is_the_catalogues() {
    if !alone("check::the_default_model_is_the_catalogues") {
        return;
    }
    let Some(model) = default_model() else { return };
    let run = Home::new().run(&["check"]).arg(&model).measured(Duration::from_secs(60));
    assert_eq!(run.done.code, Some(0), "{run:#?}");
    assert!(run.done.stdout.contains("(matches "), "{run:#?}");
    assert!(run.memory < 64 << 20, "{} MiB", run.memory >> 20);
}

#[test]
fn a_model_in_several_files_is_checked_whole() {
    let home = Home::new();
    let mut document = Document::read(&std::fs::read(tiny("base")).unwrap());
    let (first, mut second) = document.split_in_two(&mut Random::new(1));
    let file = home.write("m-00001-of-00002.gguf", &first);
    checked(&home, &file).code(1).says("m-00002-of-00002.gguf is missing");
    home.write("m-00002-of-00002.gguf", &second);
    let done = home.run(&["check", "--json"]).arg(&file).done().code(0);
    assert_eq!(done.json()["parts"].as_array().unwrap().len(), 2);
    // llama.cpp accepts it, too, and all parts together equal the single file.
    let said = |file: &std::path::Path| {
        home.run(&["-qp", "Hi", "-n", "4", "--temp", "0"]).model(file).done().code(0).stdout
    };
    assert_eq!(said(&file), said(&tiny("base")));
    let end = second.len();
    second[end - 4..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    home.write("m-00002-of-00002.gguf", &second);
    checked(&home, &file).code(1).says("an infinite value in element ");
    home.write("m-00002-of-00002.gguf", &second[..end / 2]);
    home.run(&["-p", "Hi"])
        .model(&file)
        .done()
        .failed(1, "m-00002-of-00002.gguf is not usable: the file ends too early");
}

#[test]
fn ctrl_c_ends_it() {
    let home = Home::new();
    let file = home.path("large.gguf");
    std::fs::write(&file, std::fs::read(tiny("base")).unwrap()).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1 << 36).unwrap(); // a hole, read as zeros
    let run = home.run(&["check"]).arg(&file).start();
    run.wait_for_handler();
    run.interrupt();
    run.done().code(130).stdout("");
}
