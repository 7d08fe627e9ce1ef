//! The command line: subcommands, options, the sources of values, wrong usage.

use crate::support::{GGUF_F32, Home, repository, tiny, with_metadata};

/// A run of a chat model that ends at once, for tests of everything before an answer.
const PROMPT: [&str; 4] = ["-p", "Hi", "-n", "0"];

#[test]
fn nothing_to_ask_is_wrong_usage_and_says_how_to_ask() {
    let home = Home::new();
    home.run(&["-q"]).done().failed(2, "there is no prompt").hint("fireside -p");
    home.run(&["--no-stdin"]).stdin("Hi").done().failed(2, "there is no prompt");
}

#[test]
fn an_empty_prompt_is_wrong_usage() {
    let home = Home::new();
    home.run(&["-p", ""]).done().failed(2, "the prompt is empty");
    home.run(&[""]).done().failed(2, "the prompt is empty");
}

#[test]
fn words_with_white_space_are_the_prompt() {
    let home = Home::new();
    let asked = home.scripted("yes\n", &["Why is the sky blue?"]).done();
    asked.code(0).stdout("yes\n").stderr("");
    let dry = home.run(&["Why so?", "--dry-run"]).model(&tiny("llama-bpe")).done();
    dry.code(0).stdout("<|im_start|>user\nWhy so?<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn one_word_is_a_prompt() {
    let home = Home::new();
    for word in ["Why?", "hi", "日本の首都はどこですか？", "banana", "2+2=?", "Lst", "poetry", "hm"]
    {
        home.scripted("yes\n", &[word]).done().code(0).stdout("yes\n").stderr("");
    }
}

#[test]
fn a_mistyped_subcommand_is_told_what_it_is_near_to_and_how_it_would_be_a_prompt() {
    let home = Home::new();
    for (typed, subcommand) in [("lst", "list"), ("confg", "config"), ("histroy", "history")] {
        let done = home.run(&[typed]).done().failed(2, &format!("there is no subcommand '{typed}'"));
        done.hint(&format!("did you mean {subcommand}? as a prompt: fireside -p {typed}"));
    }
    home.run(&["histroy", "list"])
        .done()
        .failed(2, "no subcommand 'histroy'")
        .hint("fireside \"histroy list\"");
}

#[test]
fn several_words_want_quotes() {
    let home = Home::new();
    for (words, quoted) in [
        (&["why", "is", "it"][..], "fireside \"why is it\""),
        (&["say", "\"hi\""], "fireside 'say \"hi\"'"),
        (&["what", "is", "list"], "fireside \"what is list\""),
    ] {
        home.run(words).done().failed(2, "a prompt of several words needs quotes").hint(quoted);
    }
}

#[test]
fn a_models_name_alone_is_no_prompt() {
    let home = Home::new();
    home.write("models/Tiny-One.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    for name in ["tiny-one", "Tiny-One", "llama-3.2-3b", "models/Tiny-One.gguf"] {
        let run = home.scripted("no\n", &[name]).env("FIRESIDE_MODELS", home.path("models"));
        let done = run.done().failed(2, &format!("'{name}' is a model"));
        done.hint(&format!("fireside -m {name}")).hint(&format!("fireside -p {name}"));
    }
    home.scripted("yes\n", &["Tiny"]).env("FIRESIDE_MODELS", home.path("models")).done().stdout("yes\n");
}

#[test]
fn config_takes_nothing_after_it() {
    Home::new().run(&["config", "temp"]).done().failed(2, "unexpected argument 'temp'");
}

#[test]
fn config_as_json_names_values_and_sources() {
    let object = Home::new().run(&["config", "--temp", "0.3", "--json"]).done().code(0).json();
    let temp = &object["settings"]["temp"];
    assert_eq!((&temp["value"], &temp["source"]), (&"0.3".into(), &"flag".into()));
    assert!(object["models"].as_str().unwrap().ends_with("fireside/models"));
}

#[test]
fn a_prompt_given_twice_is_wrong_usage() {
    Home::new().run(&["-p", "a", "b c"]).done().failed(2, "there are two prompts");
}

#[test]
fn a_misspelled_option_gets_the_one_meant() {
    let home = Home::new();
    home.run(&["--tmep", "0"]).done().failed(2, "--tmep").hint("--temp");
    home.run(&["-p", "a", "--temp"]).done().failed(2, "a value is required");
}

#[test]
fn options_out_of_range_say_the_range_before_any_model_is_looked_for() {
    let home = Home::new();
    for (option, value, range) in [
        ("--temp", "-1", "from 0 to 100"),
        ("--temp", "NaN", "from 0 to 100"),
        ("--temp", "inf", "from 0 to 100"),
        ("--top-p", "1.5", "from 0 to 1"),
        ("--top-k", "-2", "from 0"),
        ("-n", "-3", "--predict must be a whole number from 0"),
        ("-c", "3", "from 16"),
        ("-c", "99999999999", "from 16"),
        ("-t", "9999", "from 1 to 512"),
        ("--seed", "-2", "from 0 to 4294967295"),
        ("--mirostat", "3", "from 0 to 2"),
        ("--flash-attn", "maybe", "one of auto on off"),
        ("--cache-type-k", "q3", "one of f32"),
        ("--samplers", "top_k;magic", "a list of these stages: penalties"),
        ("--logit-bias", "abc", "a token id and a number"),
        ("--template-arg", "novalue", "KEY=VALUE"),
        ("--stop", "", "must not be empty"),
        ("--color", "blue", "one of auto always never"),
        ("--model", "", "must not be empty"),
    ] {
        let done = home.run(&["-p", "a", option, value]).done();
        let told = if value.is_empty() { range.to_string() } else { format!("not '{value}'") };
        done.failed(2, &told).says(range);
    }
}

#[test]
fn a_switch_takes_on_and_off_and_nothing_else() {
    let home = Home::new();
    home.run(&["-p", "a", "--no-mmap=maybe"]).done().failed(2, "--no-mmap must be one of on off");
    let done = home.run(&PROMPT).arg("--no-mmap=on").arg("--mlock=off").model(&tiny("llama-bpe")).done();
    done.code(0).stdout("\n").stderr("");
}

#[test]
fn a_bias_for_a_token_outside_the_vocabulary_is_wrong_usage() {
    let run = Home::new().run(&["-p", "a", "--logit-bias", "99999999+1"]);
    run.model(&tiny("llama-bpe")).done().failed(2, "token 99999999 is not in the vocabulary");
}

#[test]
fn options_of_others_are_unknown_like_any_other() {
    let home = Home::new();
    for option in ["--poll", "--draft-model", "-md", "-mv", "-mu"] {
        let done = home.run(&["-p", "a", option, "x"]).done();
        done.failed(2, &format!("unexpected argument '{option}'")).hint("-p");
    }
}

#[test]
fn options_that_contradict_one_another_are_refused() {
    let home = Home::new();
    for (args, why) in [
        (&["--incognito", "--keep"][..], "--incognito and --keep exclude each other"),
        (&["-q", "-v"], "--quiet and --verbose exclude each other"),
        (&["--raw", "--system-prompt", "x"], "--raw and --system-prompt exclude each other"),
        (&["--raw", "--system-prompt-file", "x"], "--raw and --system-prompt-file exclude each other"),
        (&["--chat-template", "chatml", "--raw"], "--raw and --chat-template exclude each other"),
        (&["--system", "x", "--system-prompt-file", "y"], "--system-prompt and --system-prompt-file exclude"),
        (&["-i", "--dry-run"], "--interactive and --dry-run exclude each other"),
        (&["--plain", "--color", "always"], "--plain and --color exclude each other"),
        (&["-q", "--stats"], "--quiet and --stats exclude each other"),
        (&["--think", "on", "--think-budget", "0"], "--think and --think-budget exclude each other"),
    ] {
        home.scripted("no\n", &[&["-p", "Hi"], args].concat()).done().failed(2, why);
    }
    home.scripted("yes\n", &["-p", "Hi", "--keep=off", "--incognito"]).done().code(0).stdout("yes\n");
}

#[test]
fn a_flag_beats_what_contradicts_it_elsewhere() {
    let home = Home::new();
    let config = |text: &str| home.write(".config/fireside/config.toml", text);
    let database = home.path(".local/share/fireside/conversations.db");
    let chat = |flag: &str| home.scripted("One.\n", &["--repl-stdin", flag]).stdin("Hi\n").done().code(0);
    config("keep = true\n");
    chat("--incognito");
    assert!(!database.exists());
    config("incognito = true\n");
    chat("--keep");
    assert!(database.exists());
    config("system-prompt = \"Be brief.\"\nchat-template = \"chatml\"\n");
    let file = home.write("long.txt", "Be long.");
    let dry =
        |args: &[&str]| home.run(&[&["-p", "Hi", "--dry-run"], args].concat()).model(&tiny("llama-bpe"));
    let prompt = dry(&["--system-prompt-file", file.to_str().unwrap()]).done().code(0).stdout;
    assert!(prompt.contains("Be long.") && !prompt.contains("Be brief."), "{prompt}");
    dry(&["--raw"]).done().code(0).stdout("Hi\n");
    config("incognito = true\nkeep = true\n");
    home.scripted("no\n", &["-p", "Hi"]).done().failed(2, "incognito and keep exclude each other");
}

#[test]
fn a_conversation_may_go_on_incognito_and_stays_as_it_was() {
    let home = Home::new();
    let chat = |args: &[&str], line: &str| home.scripted("One.\n", args).stdin(line).done().code(0);
    chat(&["--repl-stdin", "--keep"], "Hi\n");
    let before = crate::history::listed(&home);
    let gone_on = chat(&["--repl-stdin", "--continue", "--incognito"], "And?\n/show prompt\n");
    gone_on.stdout("One.\n").says("[user] Hi\n[assistant] One.\n[user] And?\n");
    assert_eq!(crate::history::listed(&home), before);
}

#[test]
fn a_repository_option_without_its_value_is_wrong_usage() {
    Home::new().run(&["-p", "a", "-hf"]).done().failed(2, "a value is required for '--model");
}

#[test]
fn spellings_of_llama_cpp_mean_the_same_here() {
    let home = Home::new();
    let args = "-st -no-cnv -cnv -ngl 0 -fa on -ctk f32 -ctv f32 -tb 1 -t 1 -sys Briefly. --temperature 0 --n-predict 0";
    let args: Vec<&str> = args.split(' ').collect();
    let run = home.run(&args).arg("-p").arg("Hi").arg("--dry-run").model(&tiny("llama-bpe"));
    let prompt =
        "<|im_start|>system\nBriefly.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    run.done().code(0).stdout(prompt);
    let listed = home.run(&args).arg("config").done().code(0).stdout;
    for row in ["gpu-layers 0", "flash-attn on", "cache-type-k f32", "threads-batch 1", "temp 0", "predict 0"]
    {
        assert!(rows(&listed).contains(&format!("{row} # flag")), "{row} in {listed}");
    }
}

#[test]
fn an_argument_that_is_no_text_is_wrong_usage_and_no_panic() {
    use std::os::unix::ffi::OsStrExt;
    let bad = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let home = Home::new();
    for option in ["-p", "-m", "--stop", "--nonsense"] {
        home.run(&[option]).arg(bad).done().failed(2, "");
    }
    home.run(&["-p", "a", "-f"]).arg(bad).model(&tiny("llama-bpe")).done().failed(1, "no such file");
}

#[test]
fn help_and_version_go_to_stdout() {
    let home = Home::new();
    let help = home.run(&["--help"]).done().code(0).stderr("");
    assert!(help.stdout.contains("--system-prompt-file"), "{help:#?}");
    let version = format!("fireside {}\n", env!("CARGO_PKG_VERSION"));
    home.run(&["-V"]).done().code(0).stdout(&version).stderr("");
}

#[test]
fn hidden_options_are_not_in_the_help() {
    let help = Home::new().run(&["--help"]).done().stdout;
    for hidden in ["--probe", "--repl-stdin", "--backend"] {
        assert!(!help.contains(hidden), "{hidden}");
    }
}

#[test]
fn staying_in_the_chat_needs_a_terminal() {
    let run = Home::new().run(&["-i", "-p", "Hi"]).without_terminal().model(&tiny("llama-bpe"));
    run.done().failed(2, "no terminal");
}

#[test]
fn staying_in_the_chat_excludes_one_json_object() {
    Home::new().run(&["-i", "-p", "Hi", "--json"]).done().failed(2, "--json");
}

#[test]
fn special_goes_with_raw_only() {
    Home::new().run(&["-p", "Hi", "--special"]).done().failed(2, "--raw");
}

#[test]
fn without_any_model_the_error_says_how_to_get_one() {
    let home = Home::new();
    home.run(&["-p", "Hi"]).done().failed(1, "no model is set").hint("-m FILE.gguf");
    home.write("here.gguf", std::fs::read(tiny("llama-bpe")).unwrap()); // the current folder is never searched
    home.run(&["-p", "Hi"]).done().failed(1, "no model is set");
}

#[test]
fn the_only_model_of_the_folder_is_used_and_two_are_a_question() {
    let home = Home::new();
    let model = std::fs::read(tiny("llama-bpe")).unwrap();
    home.write("models/one.gguf", &model);
    let models = home.path("models");
    home.run(&PROMPT).env("FIRESIDE_MODELS", &models).done().code(0);
    home.write("models/two.gguf", &model);
    home.run(&PROMPT).env("FIRESIDE_MODELS", &models).done().code(0); // the one used last
    std::fs::remove_dir_all(home.path(".local")).unwrap();
    let done = home.run(&PROMPT).env("FIRESIDE_MODELS", &models).done();
    done.failed(1, "several models").hint("one, two");
}

#[test]
fn a_model_is_found_by_its_name_in_any_case() {
    let home = Home::new();
    home.write("models/Tiny-One.gguf", std::fs::read(tiny("llama-bpe")).unwrap());
    for name in ["tiny-one", "Tiny-One.gguf"] {
        let run = home.run(&PROMPT).env("FIRESIDE_MODELS", home.path("models"));
        run.env("FIRESIDE_MODEL", name).done().code(0).stderr("");
    }
}

#[test]
fn flags_beat_environment_beats_file_and_config_says_which() {
    let home = Home::new();
    home.write(".config/fireside/config.toml", "temp = 0.1\ntop-k = 5\ntop_p = 0.5\nstop = [\"a\", \"b\"]\n");
    let run = home.run(&["--temp", "0.3", "config"]).env("FIRESIDE_TEMP", "0.2").env("FIRESIDE_TOP_K", "6");
    let listed = run.done().code(0).stderr("").stdout;
    for row in [
        "temp 0.3 # flag",
        "top-k 6 # FIRESIDE_TOP_K",
        "top-p 0.5 # config.toml line 3",
        "stop a, b # config.toml line 4",
        "min-p 0.05 # default",
    ] {
        assert!(rows(&listed).contains(&row.to_string()), "{row} in {listed}");
    }
}

/// The output of `config`, each line with single spaces.
fn rows(listed: &str) -> Vec<String> {
    listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn the_file_beats_the_models_advice_beats_the_catalogues() {
    let home = Home::new();
    let plain = std::fs::read(tiny("llama-bpe")).unwrap();
    let advised = with_metadata(&plain, "general.sampling.temp", GGUF_F32, &0.25f32.to_le_bytes());
    // The catalogue has this name and recommends temp 0.2, top-p 0.9.
    let model = home.write("SmolLM2-135M-Instruct.Q4_1.gguf", advised);
    let sampling = || home.run(&PROMPT).arg("--json").model(&model).done().code(0).json()["sampling"].clone();
    assert_eq!((&sampling()["temp"], &sampling()["top-p"]), (&0.25.into(), &0.9.into()));
    home.write(".config/fireside/config.toml", "temp = 0.75\n");
    assert_eq!(sampling()["temp"], 0.75);
}

#[test]
fn a_broken_config_file_is_named_with_what_is_wrong() {
    let home = Home::new();
    for (text, why) in [
        ("temp = ", "config.toml line 1: "),
        ("tepm = 1\n", "there is no setting 'tepm', did you mean temp?"),
        ("temp = \"hot\"\n", "config.toml line 1: temp must be a number"),
        ("[sampling]\ntemp = 1\n", "there is no setting 'sampling'"),
        ("temp = 0.5\ntemp = 0.6\n", "config.toml line 2: "),
    ] {
        home.write(".config/fireside/config.toml", text);
        home.run(&PROMPT).done().failed(2, why);
    }
    home.write(".config/fireside/config.toml", b"temp = 1 # \xff\n");
    home.run(&PROMPT).done().failed(2, "could not read the config file");
}

#[test]
fn a_folder_where_the_config_file_should_be_is_one_line() {
    let home = Home::new();
    home.write(".config/fireside/config.toml/inside", "");
    home.run(&PROMPT).done().failed(2, "could not read the config file");
}

#[test]
fn an_environment_variable_that_is_wrong_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    home.run(&PROMPT).env("FIRESIDE_TEMP", "hot").done().failed(2, "FIRESIDE_TEMP must be a number");
    let bad = std::ffi::OsStr::from_bytes(b"\xff");
    home.run(&PROMPT).env("FIRESIDE_TEMP", bad).done().failed(2, "FIRESIDE_TEMP is not UTF-8");
}

#[test]
fn a_home_that_cannot_be_used_is_no_reason_not_to_answer() {
    let home = Home::new();
    let file = home.write("file", "not a folder");
    for nowhere in [file.as_path(), "/proc/no/such/place".as_ref(), "relative".as_ref()] {
        let done = home.run(&PROMPT).env("HOME", nowhere).model(&tiny("llama-bpe")).done();
        done.code(0).stdout("\n").stderr("");
    }
    assert!(!home.path("relative").exists(), "the current folder is nobody's home");
}

#[test]
fn without_a_home_config_says_that_nothing_is_kept() {
    let listed = Home::new().run(&["config"]).env("HOME", "relative").done().code(0).stdout;
    assert!(listed.starts_with("# no home folder"), "{listed}");
}

#[test]
fn bench_tells_what_the_machine_does_with_a_model() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let told = home.run(&["bench", model.to_str().unwrap(), "--json"]).done().code(0).json();
    let runs = told["runs"].as_array().unwrap();
    assert!(!runs.is_empty(), "{told}");
    for run in runs {
        assert!(run["prefill"].as_f64().unwrap() > 0.0 && run["decode"].as_f64().unwrap() > 0.0, "{told}");
    }
    assert!(
        told["memory"].as_u64().unwrap() > 1 << 20 && told["first_token"].as_f64().unwrap() > 0.0,
        "{told}"
    );
    let device = &told["devices"][0];
    for what in ["bandwidth", "filling"] {
        assert!(device[what].as_f64().unwrap() > 0.0, "{what} of {told}");
    }
    assert_eq!(told["bandwidth"], device["bandwidth"], "there is one device");
    let weights = std::fs::metadata(&model).unwrap().len();
    assert!((1..weights + 100_000).contains(&device["read"].as_u64().unwrap()), "{weights} of {told}");
    assert!(!home.path(".cache/fireside/prompts").exists(), "nothing of it is kept");
    home.run(&["bench"]).model(&model).done().code(0).stderr("");
    home.run(&["bench", "no-such-model"]).done().failed(1, "no-such-model");
}

#[test]
fn after_two_dashes_everything_is_the_prompt() {
    let home = Home::new();
    let asked = |args: &[&str]| {
        let model = tiny("llama-bpe");
        let args = [&["-m", model.to_str().unwrap(), "--dry-run"], args].concat();
        let prompt = home.run(&args).done().code(0).stdout;
        let content = prompt.strip_prefix("<|im_start|>user\n").unwrap();
        content.strip_suffix("<|im_end|>\n<|im_start|>assistant\n").unwrap().to_string()
    };
    assert_eq!(asked(&["--", "list"]), "list");
    assert_eq!(asked(&["--", "--help"]), "--help");
    assert_eq!(asked(&["--", "-x is odd"]), "-x is odd");
    assert_eq!(asked(&["--temp", "0", "--", "why", "is", "-p", "--"]), "why is -p --");
    assert_eq!(asked(&["--", "banana"]), "banana");
    home.run(&["-p", "one", "--", "two"]).done().failed(2, "there are two prompts");
    home.run(&["--", ""]).done().failed(2, "the prompt is empty");
    home.run(&["rm", "--yes", "--", "-m"]).done().failed(1, "there is no model '-m'");
}

#[test]
fn an_unknown_option_says_how_it_would_be_a_prompt() {
    for odd in ["--odd", "-odd is what?", "--", "-Z"].into_iter().filter(|odd| *odd != "--") {
        let done = Home::new().run(&[odd]).done().failed(2, "unexpected argument");
        let done = done.hint("-p");
        assert!(done.hint("or --").code(2).stderr.contains("or --"), "{odd}");
    }
    let done = Home::new().run(&["--tmep", "0"]).done().failed(2, "--tmep").hint("did you mean --temp?");
    assert!(done.stderr.contains("-p") && done.stderr.contains(" --"), "{}", done.stderr);
}

/// JSON or TOML nested deeper than any stack: a one-line failure, not the end of the process.
#[test]
fn what_is_nested_without_end_is_one_line_everywhere() {
    const DEEP: usize = 200_000;
    let (lists, maps) =
        ("[".repeat(DEEP) + &"]".repeat(DEEP), "{\"a\":".repeat(DEEP) + "1" + &"}".repeat(DEEP));
    let home = Home::new();
    for json in [&lists, &maps, &format!("[{{\"role\":\"user\",\"content\":{lists}}}]")] {
        home.write("talk.json", json);
        home.run(&["history", "import", "talk.json"]).done().failed(1, "recursion limit");
    }
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json"] {
        for entry in std::fs::read_dir(repository().join("tests/families/gpt-j")).unwrap() {
            let path = entry.unwrap().path();
            home.write(
                &format!("in/{}", path.file_name().unwrap().to_str().unwrap()),
                std::fs::read(path).unwrap(),
            );
        }
        home.write(&format!("in/{file}"), &maps);
        home.run(&["convert", "in", "out.gguf"]).done().failed(1, "could not convert in: ");
        std::fs::remove_dir_all(home.path("in")).unwrap();
    }
    let run = home.run(&["-p", "Hi", "--dry-run"]).arg(format!("--template-arg=x={}", "[".repeat(60_000)));
    run.model(&tiny("llama-bpe")).done().code(0); // not JSON, so it is text
    let dotted = "a.".repeat(DEEP) + "a = 1";
    for toml in [format!("stop = {lists}"), format!("stop = {}", "{a=".repeat(DEEP)), dotted] {
        home.write(".config/fireside/config.toml", toml);
        home.run(&["list"]).done().failed(2, "config.toml line 1: ");
    }
}
