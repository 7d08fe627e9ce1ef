//! The config file as a whole: `config init`, sections for models, aliases, what beats what and where each value
//! comes from; and that nothing comes from the current folder.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::server::{FakeServer, answer};
use crate::support::{Done, GGUF_F32, Home, Run, tiny, with_metadata};

const CONFIG: &str = ".config/fireside/config.toml";
const MODELS: &str = ".local/share/fireside/models";

/// Puts a tiny model under this name into the models folder.
fn put(home: &Home, name: &str) -> PathBuf {
    home.write(&format!("{MODELS}/{name}.gguf"), std::fs::read(tiny("llama-bpe")).unwrap())
}

fn row_of(listed: &str, begin: &str) -> String {
    listed.lines().find(|line| line.starts_with(begin)).unwrap_or_default().into()
}

fn settings(home: &Home, args: &[&str]) -> Value {
    home.run(&[&["config", "--json"], args].concat()).done().code(0).stderr("").json()["settings"].clone()
}

fn value(home: &Home, args: &[&str], name: &str) -> String {
    settings(home, args)[name]["value"].as_str().unwrap().to_string()
}

/// A source of the temperature: its name, its value, and the origin that `config` prints.
struct Origin {
    name: &'static str,
    value: &'static str,
    origin: &'static str,
}

/// Every source, the weakest first.
const SOURCES: [Origin; 8] = [
    Origin { name: "default", value: "0.8", origin: "default" },
    Origin { name: "catalogue", value: "0.2", origin: "the catalogue's advice for this model" },
    Origin { name: "GGUF", value: "0.25", origin: "the model file's advice" },
    Origin { name: "file", value: "0.3", origin: "config.toml line 2" },
    Origin { name: "section", value: "0.35", origin: "[models.\"*\"], config.toml line 4" },
    Origin { name: "role", value: "0.45", origin: "role cool" },
    Origin { name: "environment", value: "0.55", origin: "FIRESIDE_TEMP" },
    Origin { name: "flag", value: "0.65", origin: "flag" },
];

/// `fireside config` where only these sources have a temperature.
fn with_sources(sources: &[&str]) -> Run {
    let home = Home::new();
    let has = |name: &str| sources.contains(&name);
    let plain = std::fs::read(tiny("llama-bpe")).unwrap();
    let advised = with_metadata(&plain, "general.sampling.temp", GGUF_F32, &0.25f32.to_le_bytes());
    let name = if has("catalogue") { "SmolLM2-135M-Instruct.Q4_1" } else { "other" };
    let model = home.write(&format!("{MODELS}/{name}.gguf"), if has("GGUF") { advised } else { plain });
    let line = if has("file") { "temp = 0.3" } else { "" };
    let section = if has("section") { "temp = 0.35" } else { "" };
    home.write(CONFIG, format!("\n{line}\n[models.\"*\"]\n{section}\n"));
    home.write(
        ".config/fireside/roles/cool.md",
        if has("role") { "---\ntemp: 0.45\n---\n" } else { "Be cool.\n" },
    );
    let mut run = home.run(&["config", "--json", "--role", "cool"]).model(&model);
    if has("environment") {
        run = run.env("FIRESIDE_TEMP", "0.55");
    }
    if has("flag") { run.arg("--temp").arg("0.65") } else { run }
}

#[test]
fn every_source_beats_all_those_below_it_and_is_named() {
    for (at, higher) in SOURCES.iter().enumerate() {
        for lower in &SOURCES[..=at] {
            let object = with_sources(&[lower.name, higher.name]).done().code(0).stderr("").json();
            let temp = &object["settings"]["temp"];
            let shown = (temp["value"].as_str().unwrap(), temp["origin"].as_str().unwrap());
            assert_eq!(shown, (higher.value, higher.origin), "{} over {}", higher.name, lower.name);
        }
    }
}

#[test]
fn a_system_prompt_beats_the_files_of_the_sources_below_it() {
    let home = Home::new();
    home.write(".config/fireside/file.txt", "from the file");
    home.write(".config/fireside/roles/r.md", "from the role");
    home.write(".config/fireside/roles/none.md", "---\ntemp: 0\n---\n");
    home.write("typed.txt", "typed");
    home.write(
        CONFIG,
        "system-prompt-file = \"file.txt\"\n[models.\"scr*\"]\nsystem-prompt = \"from the section\"\n",
    );
    let system = |args: &[&str]| {
        let args = [&["-p", "Hi", "--dry-run"], args].concat();
        home.scripted("x\n", &args).done().code(0).stdout
    };
    assert_eq!(system(&[]), "[system] from the section\n[user] Hi\n");
    assert_eq!(system(&["--role", "r"]), "[system] from the role\n[user] Hi\n");
    let typed = system(&["--role", "r", "--system-prompt-file", "typed.txt"]);
    assert_eq!(typed, "[system] typed\n[user] Hi\n");
    home.write(CONFIG, "system-prompt-file = \"file.txt\"\n");
    assert_eq!(system(&[]), "[system] from the file\n[user] Hi\n");
}

#[test]
fn init_writes_every_setting_as_a_comment_and_replaces_nothing() {
    let home = Home::new();
    let path = home.path(CONFIG);
    let init = |more: &[&str]| home.run(&[&["config", "init"], more].concat()).done();
    init(&[]).code(0).stdout(&format!("{}\n", path.display()));
    home.run(&["config", "path"]).done().code(0).stdout(&format!("{}\n", path.display()));
    let text = std::fs::read_to_string(&path).unwrap();
    let before = settings(&Home::new(), &[]);
    assert_eq!(settings(&home, &[]), before, "all of it is comments");
    // With the # taken away from all that has a default, the file holds and changes nothing.
    let lines = text.lines().zip(text.lines().skip(1)).map(|(about, line)| {
        let unset = about.starts_with("# default: not set");
        let name = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        name.filter(|_| !unset && !line.starts_with("#small") && !line.starts_with("#url")).unwrap_or("")
    });
    let all: Vec<&str> =
        lines.filter(|line| !line.is_empty()).take_while(|line| !line.contains("8192")).collect();
    assert!(all.len() > 50, "{all:#?}");
    let without_example = all.iter().filter(|line| **line != "temp = 0.6").map(|line| format!("{line}\n"));
    home.write(CONFIG, without_example.collect::<String>());
    let after = settings(&home, &[]);
    for (name, setting) in before.as_object().unwrap() {
        let set = after[name].clone();
        assert_eq!(set["value"], setting["value"], "{name}");
        let is_set = !setting["value"].as_str().unwrap().is_empty() && name != "threads";
        assert!(!is_set || set["source"] == "config file", "{name}: {set}");
    }
    init(&[]).failed(1, "config.toml already exists").hint("--force replaces it");
    init(&["--force"]).code(0);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    home.run(&["config", "--force"]).done().failed(2, "--force goes with config init");
    home.run(&["config", "inti"]).done().failed(2, "unexpected argument 'inti'").hint("init or path");
}

#[test]
fn a_section_holds_for_the_models_whose_names_match() {
    let home = Home::new();
    for name in ["Tiny-Llama-1B-Q4_0", "Tiny-Llama-3B-Q4_0", "Other-Q4_0"] {
        put(&home, name);
    }
    home.write(
        CONFIG,
        "temp = 0.5\nmin-p = 0.3\n[models.\"tiny-*\"]\ntemp = 0.1\nstop = [\"a\", \"b\"]\n\
         [models.\"*3b*\"]\ntop-k = 3\n[models.\"TINY-llama-3b-*\"]\ntemp = 0.2\n[models.absent]\nchat-template = \"llama2\"\n",
    );
    let of = |model: &str| {
        let all = settings(&home, &["-m", model]);
        ["temp", "top-k", "stop", "min-p"].map(|name| all[name]["value"].as_str().unwrap().to_string())
    };
    assert_eq!(of("tiny-llama-1b"), ["0.1", "40", "a, b", "0.3"]);
    assert_eq!(of("tiny-llama-3b"), ["0.2", "3", "a, b", "0.3"]);
    assert_eq!(of("other"), ["0.5", "40", "none", "0.3"]);
    let listed = home.run(&["config", "-m", "other"]).done().code(0).stdout;
    let row = |begin: &str| row_of(&listed, begin);
    assert!(
        row("models.\"absent\"").ends_with("line 10; no model on this machine has such a name"),
        "{listed}"
    );
    assert!(row("models.\"tiny-*\"").ends_with("# config.toml line 3"), "{listed}");
    let elsewhere = home.write("elsewhere/Absent.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let listed = home.run(&["config", "-m", elsewhere.to_str().unwrap()]).done().code(0).stdout;
    assert!(row_of(&listed, "models.\"absent\"").ends_with("# config.toml line 10"), "{listed}");
    let template = |model: &str| home.run(&["show", model, "--template"]).done().code(0).stdout;
    home.write(CONFIG, "[models.\"other-*\"]\nchat-template = \"llama2\"\n");
    assert!(template("other").contains("[INST]") && !template("tiny-llama-1b").contains("[INST]"));
    home.write(CONFIG, "temp = 0.5\n[models.\"tiny-*\"]\ntemp = 0.1\n[models.\"*llama-3b*\"]\ntemp = 0.2\n");
    // The chat follows the model.
    let lines = "/set temp\n/model other\n/set temp\n/model tiny-llama-3b\n/set temp\n";
    let chat = home.run(&["--repl-stdin", "-m", "tiny-llama-1b"]).stdin(lines).done().code(0);
    let temps = chat.stderr.lines().filter(|line| line.starts_with("temp "));
    let temps: Vec<String> =
        temps.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        temps,
        ["temp 0.1 model section", "temp 0.5 config file", "temp 0.2 model section"],
        "{chat:#?}"
    );
}

#[test]
fn what_is_wrong_in_sections_and_aliases_has_its_line() {
    let home = Home::new();
    let text = "[modles.x]\ntemp = 1\n[models.a]\ntepm = 1\ntop-p = 3\noffline = true\nno-guess = true\n[models]\n\
                b = 1\n[models.c]\nsystem-prompt = \"x\"\nsystem-prompt-file = \"y\"\n[aliases]\n\"a b\" = \"x\"\n\
                one = \"two\"\ntwo = \"three\"\nself = \"self\"\nSix = 6\n\"x.gguf\" = \"y\"\nTWO = \"z\"\n[models.v1.2]\ntemp = 1\n";
    home.write(CONFIG, text);
    let done = home.scripted("x\n", &["-p", "Hi"]).done().code(2).stdout("");
    let lines: Vec<&str> =
        done.stderr.lines().filter_map(|line| line.strip_prefix("fireside: config.toml ")).collect();
    let expected = [
        "line 1: there is no setting 'modles', did you mean models?",
        "line 4: there is no setting 'tepm', did you mean temp?",
        "line 21: there is no setting '2': a name with a dot needs quotes, as in [models.\"llama-3.2-1b\"]",
        "line 5: top-p must be a number from 0 to 1, not '3'",
        "line 6: offline holds for all models: it goes above all sections",
        "line 7: no-guess is now no-speculative",
        "line 9: a section is a table: [models.\"b\"]",
        "line 10: system-prompt and system-prompt-file exclude each other",
        "line 14: an alias consists of letters, digits, -, _ and ., and does not end in .gguf",
        "line 15: the alias one must name a model, and two is an alias",
        "line 17: the alias self must name a model, and self is an alias",
        "line 18: an alias takes a model's name in quotes, as in Six = \"NAME\"",
        "line 19: an alias consists of letters, digits, -, _ and ., and does not end in .gguf",
    ];
    assert_eq!(lines.len(), expected.len() + 1, "{done:#?}");
    for line in expected {
        assert!(lines.contains(&line), "{line} in {done:#?}");
    }
    let twice = |line: &&str| line.ends_with("already") && (line.contains("'TWO'") || line.contains("'two'"));
    assert!(lines.iter().any(twice), "{done:#?}");
}

#[test]
fn an_alias_is_a_model_wherever_one_is_named() {
    let home = Home::new();
    let path = put(&home, "Tiny-Llama-1B-Q4_0");
    put(&home, "Other-Q4_0");
    home.write(CONFIG, "model = \"little\"\n[aliases]\nlittle = \"tiny-llama-1b\"\nrest = \"other\"\n");
    let run = |args: &[&str]| home.run(args).done();
    let object = run(&["-m", "LITTLE", "-p", "Hi", "-n", "1", "--json"]).code(0).json();
    assert_eq!(object["model"]["path"], path.to_str().unwrap());
    assert_eq!(
        run(&["-p", "Hi", "-n", "1", "--json"]).code(0).json()["model"]["path"],
        path.to_str().unwrap()
    );
    assert!(run(&["show", "little"]).code(0).stdout.contains(path.to_str().unwrap()));
    assert!(run(&["check", "little"]).code(0).stdout.contains("Tiny-Llama-1B"));
    run(&["little"]).failed(2, "'little' is a model, not a prompt");
    let chat = home.run(&["--repl-stdin"]).stdin("/model rest\n/show\n").done().code(0);
    chat.says("Other-Q4_0.gguf");
    run(&["rm", "rest", "-y"]).code(0).stdout_has("removed Other-Q4_0");
    let done = run(&["config", "--json"]).code(0).json();
    assert_eq!(done["aliases"]["little"]["model"], "tiny-llama-1b");
    run(&["-m", "litle", "-p", "Hi"]).failed(1, "there is no model 'litle'").hint("did you mean little?");
    home.write(CONFIG, "[aliases]\nlittle = \"nowhere\"\n");
    run(&["-m", "little", "-p", "Hi"]).failed(1, "there is no model 'nowhere'");
}

#[test]
fn an_alias_may_stand_before_a_server_or_name_one() {
    let home = Home::new();
    let server = FakeServer::new(|asked| asked.wants_answer().then(|| answer("Hello there.")));
    let tables = "[models.\"*@work\"]\ntemp = 0.5\n[aliases]\nbig = \"tiny\"\nfar = \"tiny@work\"\n";
    home.write(CONFIG, format!("{tables}[servers.work]\nurl = \"{}\"\n", server.url));
    for name in ["big@work", "far"] {
        let done = home.run(&["-m", name, "-p", "Hi", "--json"]).done().code(0).json();
        assert_eq!(done["text"], "Hello there.", "{name}");
        let asked = server.questions().pop().unwrap().json();
        assert_eq!((&asked["model"], &asked["temperature"]), (&"tiny".into(), &0.5.into()), "{name}");
    }
    let done = home.run(&["-m", "big", "--server", "work", "-p", "Hi"]).done().code(0);
    done.stdout("Hello there.\n");
}

#[test]
fn an_alias_hides_no_model() {
    let home = Home::new();
    let path = put(&home, "Tiny-Llama-1B-Q4_0");
    put(&home, "Other-Q4_0");
    home.write(CONFIG, "[aliases]\nTiny-Llama-1B = \"other\"\nsmollm2-135m = \"other\"\n");
    let done = home.run(&["-m", "tiny-llama-1b", "-p", "Hi", "-n", "1", "--json"]).done().code(0);
    let done = done.says("config.toml line 2: the alias Tiny-Llama-1B is ignored: a model has this name");
    assert_eq!(done.json()["model"]["path"], path.to_str().unwrap());
    done.says("line 3: the alias smollm2-135m is ignored");
}

#[test]
fn tab_in_the_shell_completes_aliases_and_roles() {
    let home = Home::new();
    home.write(CONFIG, "[aliases]\nlittle = \"tiny\"\n");
    home.write(".config/fireside/roles/reviewer.md", "---\ndescription: Reviews code\n---\nReview.\n");
    home.write(".config/fireside/roles/broken.md", "---\n");
    let completed = |words: &[&str]| {
        let words = [&["--", "fireside"], words].concat();
        let run = home.run(&words).env("FIRESIDE_COMPLETE", "bash");
        let run = run.env("_CLAP_COMPLETE_INDEX", (words.len() - 2).to_string()).env("_CLAP_IFS", "\n");
        run.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("_CLAP_COMPLETE_SPACE", "true").done().code(0).stdout
    };
    for words in [&["--role", "re"][..], &["roles", "re"]] {
        assert!(completed(words).contains("reviewer"), "{words:?}");
    }
    for words in [&["-m", "li"][..], &["show", "li"]] {
        assert!(completed(words).contains("little"), "{words:?}");
    }
}

/// A folder that someone else has prepared, and a home whose config file names relative things.
fn hostile() -> (Home, PathBuf) {
    let home = Home::new();
    put(&home, "tiny");
    let files = [
        "config.toml",
        "fireside.toml",
        ".fireside.toml",
        ".config/fireside/config.toml",
        "fireside/config.toml",
        "roles/evil.md",
        "evil.md",
        ".config/fireside/roles/evil.md",
        "tiny.gguf",
        "system.txt",
        "template.jinja",
    ];
    for file in files {
        let text =
            if file.ends_with(".toml") { "temp = 1.9\n[servers.x]\nurl = \"http://h\"\n" } else { "evil" };
        home.write(&format!("hostile/{file}"), text);
    }
    home.write(".config/fireside/system.txt", "mine");
    home.write(
        CONFIG,
        "model = \"tiny.gguf\"\nsystem-prompt-file = \"system.txt\"\nmodel-folder = \"folder\"\n[aliases]\nmine = \"tiny.gguf\"\n",
    );
    home.write("hostile/folder/other.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    let folder = home.path("hostile");
    (home, folder)
}

#[test]
fn nothing_comes_from_the_current_folder() {
    let (home, folder) = hostile();
    let there = |args: &[&str]| -> Done {
        home.run(args).after(&format!("cd '{}'", folder.display())).without_terminal().done()
    };
    let here = home.run(&["config", "--json"]).done().code(0).json();
    assert_eq!(there(&["config", "--json"]).code(0).json(), here);
    assert_eq!(here["settings"]["temp"]["value"], "0.8");
    for args in [&["-p", "Hi"][..], &["-m", "mine", "-p", "Hi"]] {
        let done = there(&[args, &["-n", "1", "--json"]].concat()).code(0).json();
        assert!(done["model"]["path"].as_str().unwrap().ends_with("models/tiny.gguf"), "{done}");
    }
    let shown = there(&["-p", "Hi", "--dry-run"]).code(0).stdout;
    assert!(shown.contains("mine") && !shown.contains("evil"), "{shown}");
    there(&["-m", "other", "-p", "Hi"]).failed(1, "there is no model 'other'");
    there(&["--role", "evil", "-p", "Hi"]).failed(2, "there is no role 'evil'");
    for path in ["./evil", "evil.md", "roles/evil", "../hostile/evil", "/etc/passwd", ".."] {
        there(&["--role", path, "-p", "Hi"]).failed(2, "role");
    }
    let list = there(&["roles"]).code(0).stdout("");
    list.says("there are no roles yet");
    there(&["--server", "x", "-p", "Hi"]).failed(2, "there is no server 'x'");
    home.write("hostile/rag", "evil");
    home.write(CONFIG, "chat-template = \"rag\"\n");
    there(&["-m", "tiny", "-p", "Hi"]).failed(1, "could not read rag: there is no such template");
    home.write(CONFIG, "chat-template = \"template.jinja\"\n");
    there(&["-m", "tiny", "-p", "Hi"]).failed(1, ".config/fireside/template.jinja");
}

#[test]
fn a_conversation_goes_on_with_its_own_model_not_with_one_of_that_name_here() {
    let home = Home::new();
    let path = home.write("a/x.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    home.write("b/x.gguf", "something else");
    let run = |folder: &str, args: &[&str]| {
        let args = [args, &["-p", "Hi", "-n", "1", "--json"]].concat();
        home.run(&args).after(&format!("cd '{}'", home.path(folder).display())).done().code(0).json()
    };
    run("a", &["-m", "x.gguf", "--keep"]);
    assert_eq!(run("b", &["--continue"])["model"]["path"], path.to_str().unwrap());
}

#[test]
fn relative_homes_and_config_folders_are_not_the_current_folder() {
    let (home, folder) = hostile();
    let cd = format!("cd '{}'", folder.display());
    for (name, value) in
        [("HOME", "."), ("HOME", ""), ("XDG_CONFIG_HOME", "."), ("XDG_CONFIG_HOME", ".config")]
    {
        let run = home.run(&["config", "--json"]).env(name, value).after(&cd).done();
        let object = run.code(0).json();
        assert_ne!(object["settings"]["temp"]["value"], "1.9", "{name}={value}");
        let done = home.scripted("x\n", &["--role", "evil", "-p", "Hi"]).env(name, value).after(&cd).done();
        done.failed(2, "role");
    }
}

#[test]
fn an_answer_is_repeated_whatever_the_section_says_now() {
    let home = Home::new();
    put(&home, "tiny");
    home.write(CONFIG, "[models.tiny]\ntemp = 0\ntop-k = 7\nstop = \"zz\"\n");
    home.run(&["-m", "tiny", "--keep", "-p", "Hi", "-n", "6"]).done().code(0);
    home.write(
        CONFIG,
        "[models.tiny]\ntemp = 2\nmin-p = 0.5\nstop = [\"a\", \"e\"]\nchat-template = \"chatml\"\n",
    );
    let id = home.run(&["history", "list", "--json"]).done().code(0).json()["conversations"][0]["id"].clone();
    let object = home.run(&["history", "replay", id.as_str().unwrap(), "--json"]).done().code(0).json();
    assert_eq!(object["identical"], true, "{object}");
    let settings = &object["answers"][0]["settings"];
    assert_eq!((&settings["top-k"], &settings["stop"]), (&"7".into(), &"zz".into()));
    assert_eq!(value(&home, &["-m", "tiny"], "temp"), "2");
}
