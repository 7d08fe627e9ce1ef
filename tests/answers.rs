//! One-shot answers and how they end: limits, stop strings, raw text, seeds, templates, base models.

use crate::support::parrot::{CHATML, Kind, Parrot, raw};
use crate::support::{Done, Home, Run, tiny};

/// A run of the tiny chat model at temperature 0.
fn run(home: &Home, args: &[&str]) -> Run {
    home.run(args).arg("--temp").arg("0").model(&tiny("llama-bpe"))
}

fn answer(home: &Home, args: &[&str]) -> String {
    run(home, args).done().code(0).stdout
}

#[test]
fn the_users_own_limit_is_no_failure() {
    let done = run(&Home::new(), &["-p", "Hi", "-n", "5", "--stats"]).done();
    done.code(0).says("5 tokens");
}

#[test]
fn a_longer_limit_goes_on_where_the_shorter_ended() {
    let home = Home::new();
    let (short, long) = (answer(&home, &["-p", "Hi", "-n", "5"]), answer(&home, &["-p", "Hi", "-n", "15"]));
    assert!(long.len() > short.len() && long.starts_with(short.trim_end_matches('\n')), "{short:?} {long:?}");
}

#[test]
fn our_own_limit_cuts_the_answer_short() {
    let script = "word ".repeat(2100);
    let done = Home::new().scripted(&script, &["-p", "a"]).done().code(4);
    assert_eq!(done.stdout.split_whitespace().count(), 2048);
    done.says("cut off: the token limit");
    let done = Home::new().scripted(&script, &["-p", "a", "-n", "-1"]).done().code(0);
    assert_eq!(done.stdout.split_whitespace().count(), 2100);
}

#[test]
fn a_context_that_fills_up_cuts_the_answer_short() {
    let done = run(&Home::new(), &["-p", "Hi", "-c", "40"]).done().code(4);
    assert!(!done.stdout.is_empty());
    done.stderr("cut off: the context is full (a larger ctx-size holds more)\n");
}

#[test]
fn endless_repetition_is_cut_short() {
    let done = run(&Home::new(), &["-p", "Hi", "--logit-bias", "66+999"]).done().code(4);
    assert!((500..600).contains(&done.stdout.trim_end().len()), "{done:#?}");
    done.says("cut off: the model was repeating itself");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused_with_both_counts() {
    let done = run(&Home::new(), &["-p", &"word ".repeat(60), "-c", "32"]).done();
    done.failed(3, "tokens, and the context holds 32").hint("--ctx-size");
}

#[test]
fn the_largest_prompt_that_fits_is_answered() {
    let home = Home::new();
    let tokens =
        run(&home, &["-p", "Hi", "-n", "0", "--json"]).done().json()["tokens"]["prompt"].as_u64().unwrap();
    run(&home, &["-p", "Hi", "-c", "16"]).done().failed(3, &format!("{tokens} tokens")); // 16 is the minimum
    let just = (tokens + 1).to_string();
    run(&home, &["-p", "Hi", "-c", &just]).done().code(4);
    run(&home, &["-p", "Hi", "-c", &tokens.to_string()]).done().failed(3, "too long");
}

#[test]
fn a_stop_string_ends_the_answer_and_is_not_shown() {
    let home = Home::new();
    let whole = answer(&home, &["-p", "Hi", "-n", "30"]);
    let words: Vec<&str> = whole.split_whitespace().collect();
    let stop = words.iter().skip(3).find(|w| w.len() > 2 && w.chars().all(char::is_alphabetic)).unwrap();
    let (before, _) = whole.split_once(*stop).unwrap();
    let stopped = answer(&home, &["-p", "Hi", "-n", "30", "--stop", "not there", "--stop", stop]);
    assert_eq!(stopped.trim_end(), before.trim_end());
}

#[test]
fn raw_text_is_continued_without_template_and_without_a_newline() {
    let home = Home::new();
    run(&home, &["--raw", "-p", "Once upon a time", "--dry-run"]).done().code(0).stdout("Once upon a time\n");
    let text = answer(&home, &["--raw", "-p", "Once upon a time", "-n", "8"]);
    assert!(!text.is_empty() && !text.ends_with('\n'), "{text:?}");
}

#[test]
fn markers_in_raw_text_count_only_with_special() {
    let home = Home::new();
    let tokens = |args: &[&str]| {
        let run = run(&home, &["--raw", "-p", "<|im_start|><|im_end|>", "-n", "0", "--json"]);
        let run = args.iter().fold(run, |run, arg| run.arg(arg));
        run.done().code(0).json()["tokens"]["prompt"].as_u64().unwrap()
    };
    assert_eq!(tokens(&["--special"]), 2);
    assert!(tokens(&[]) > 10);
}

/// Twenty tokens from the whole vocabulary, nearly at random. Raw: the first one may begin a thought that does not end.
fn varied(seed: &str) -> [&str; 11] {
    ["--raw", "-p", "Hi", "-n", "20", "--temp", "9", "--samplers", "temp", "--seed", seed]
}

#[test]
fn a_seed_decides_the_answer() {
    let home = Home::new();
    let with = |seed: &str| home.run(&varied(seed)).model(&tiny("llama-bpe")).done().code(0).stdout;
    assert_eq!(with("7"), with("7"));
    assert_ne!(with("7"), with("8"));
}

#[test]
fn without_a_seed_answers_differ_and_the_one_used_is_told() {
    let home = Home::new();
    let ask =
        |seed: &str| home.run(&varied(seed)).arg("--json").model(&tiny("llama-bpe")).done().code(0).json();
    let (one, other) = (ask("-1"), ask("-1"));
    assert_ne!(one["seed"], other["seed"]);
    assert_ne!(one["text"], other["text"]);
    assert_eq!(ask(&one["seed"].to_string())["text"], one["text"]);
}

#[test]
fn every_sampler_of_the_table_can_be_used() {
    let args = "--top-k 5 --top-p 0.9 --min-p 0.1 --typical-p 0.9 --top-n-sigma 2 --xtc-probability 0.5 \
        --xtc-threshold 0.1 --dry-multiplier 0.8 --dry-base 1.5 --dry-allowed-length 2 --dry-penalty-last-n -1 \
        --dry-sequence-breaker none --repeat-penalty 1.1 --repeat-last-n -1 --presence-penalty 0.1 \
        --frequency-penalty 0.1 --logit-bias 66-inf --samplers penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temp";
    let home = Home::new();
    for mirostat in ["0", "1", "2"] {
        let run = home.run(&args.split_whitespace().collect::<Vec<_>>()).model(&tiny("llama-bpe"));
        let run = ["-p", "Hi", "-n", "5", "--mirostat", mirostat, "--temp", "0.7"]
            .iter()
            .fold(run, |run, a| run.arg(a));
        let done = run.done().code(0).stderr("");
        assert!(!done.stdout.is_empty());
    }
}

#[test]
fn the_system_prompt_comes_first_from_the_option_or_a_file() {
    let home = Home::new();
    home.write("system.txt", "Rhyme.\n");
    let prompt =
        "<|im_start|>system\nRhyme.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    for option in
        [["--system-prompt", "Rhyme."], ["--system", "Rhyme."], ["--system-prompt-file", "system.txt"]]
    {
        run(&home, &["-p", "Hi", "--dry-run", option[0], option[1]]).done().code(0).stdout(prompt);
    }
    let both = ["-p", "Hi", "--system-prompt", "a", "--system-prompt-file", "system.txt"];
    run(&home, &both).done().failed(2, "exclude each other");
    run(&home, &["-p", "Hi", "--system-prompt-file", "nosuch"])
        .done()
        .failed(1, "could not read nosuch: no such file");
}

#[test]
fn a_template_that_refuses_a_system_role_gets_it_in_the_first_message() {
    let home = Home::new();
    let args = ["-p", "Hi", "--system-prompt", "Rhyme.", "--dry-run"];
    let done = home.run(&args).model(&tiny("llama-spm")).done().code(0);
    assert!(done.stdout.contains("<start_of_turn>user\nRhyme.\n\nHi<end_of_turn>"), "{done:#?}");
}

#[test]
fn a_dry_run_says_what_it_would_cost_and_writes_nothing() {
    let done = run(&Home::new(), &["-p", "Hi", "--dry-run"]).done().code(0);
    done.says("tokens; the context holds 4096")
        .stdout("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn a_base_model_goes_on_with_the_text_and_says_so() {
    let home = Home::new();
    let base =
        |args: &[&str]| home.run(args).arg("-n").arg("8").arg("--temp").arg("0").model(&tiny("base")).done();
    let plain = base(&["-p", "Once upon"]).code(0).says("base model");
    base(&["-p", "Once upon", "--dry-run"]).stdout("Once upon\n");
    let raw = base(&["-p", "Once upon", "--raw"]).code(0).stderr("");
    assert_eq!(plain.stdout, raw.stdout + "\n");
}

/// A dry run with this chat template from a file.
fn templated(template: &str, args: &[&str]) -> Done {
    let home = Home::new();
    home.write("t.jinja", template);
    let run = run(&home, &["-p", "Hi", "--dry-run", "--chat-template", "t.jinja"]);
    args.iter().fold(run, |run, arg| run.arg(arg)).done()
}

#[test]
fn a_template_from_a_file_replaces_the_models() {
    let template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ bos_token }}\n";
    templated(template, &[]).code(0).stdout("[user]Hi<|endoftext|>\n");
}

#[test]
fn a_built_in_template_makes_a_base_model_chat() {
    let run = Home::new().run(&["-p", "Hi", "--dry-run", "--chat-template", "chatml"]).model(&tiny("base"));
    let done = run.done().code(0);
    assert!(!done.stderr.contains("base model"), "{done:#?}");
    done.stdout("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}

#[test]
fn template_arguments_are_json_or_text() {
    let template = "{{ a + 1 }} {{ b }} {{ messages[0].content }}";
    let args = ["--template-arg", "a=41", "--template-arg", "b=so so"];
    templated(template, &args).code(0).stdout("42 so so Hi\n");
}

#[test]
fn the_models_own_template_takes_arguments() {
    let done =
        run(&Home::new(), &["-p", "Hi", "--dry-run", "--template-arg", "enable_thinking=false"]).done();
    done.code(0).stdout("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}

#[test]
fn a_template_that_raises_is_one_line_with_its_reason() {
    templated("{{ raise_exception('only on Sundays') }}", &[]).failed(1, "only on Sundays");
}

#[test]
fn a_template_without_an_end_is_stopped() {
    let endless = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    templated(endless, &[]).failed(1, "template");
    templated("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", &[]).failed(1, "template");
    templated("{% set x = 'a' * 9999999999 %}{{ x }}", &[]).failed(1, "template");
}

#[test]
fn a_template_that_is_no_template_is_one_line() {
    templated("{% for m in messages %}", &[]).failed(1, "template");
    templated("{{ messages | nosuch }}", &[]).failed(1, "nosuch");
}

#[test]
fn a_template_that_wants_endless_memory_is_one_line() {
    let doubling = "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}";
    templated(doubling, &[]).failed(1, "endless memory");
}

#[test]
fn a_template_that_is_not_there_is_one_line() {
    let done = run(&Home::new(), &["-p", "Hi", "--chat-template", "nosuch"]).done();
    done.failed(1, "the chat template: could not read nosuch: no such file").hint("chatml");
}

#[test]
fn a_template_that_writes_nothing_is_one_line() {
    let home = Home::new();
    home.write("t.jinja", "{# nothing #}");
    let done = run(&home, &["-p", "Hi", "-n", "3", "--chat-template", "t.jinja"]).done();
    done.failed(1, "template");
}

#[test]
fn the_control_token_that_the_template_writes_after_an_answer_ends_it() {
    let home = Home::new();
    let ending = |end: &str, after: &str| CHATML.replace("<|im_end|>", &format!("{after}{end}"));
    let answer =
        |parrot: Parrot| home.run(&["-p", "Hi", "--temp", "0"]).model(&parrot.write(&home, "parrot")).done();
    let says = || Parrot::saying(&["Yes.", "<|fin|>", " And more."]);
    for (end, after) in [("<|fin|>", ""), ("<|fin|>", "\n"), ("<|fin|><|im_end|>", "")] {
        for kind in [Kind::Control, Kind::UserDefined] {
            let model = says().template(&ending(end, after)).marker("<|fin|>", kind);
            answer(model).code(0).stdout("Yes.\n");
        }
    }
    let other = says().template(&ending("<|im_end|>", "")).marker("<|fin|>", Kind::Control);
    answer(other).code(0).stdout("Yes. And more.\n");
    let turns = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}<|assistant|>";
    let next = Parrot::saying(&["Yes.", "<|user|>", " And me?"]).template(turns).after("<|assistant|>");
    answer(next.marker("<|user|>", Kind::Control).marker("<|assistant|>", Kind::Control))
        .code(0)
        .stdout("Yes.\n");
}

#[test]
fn templates_by_name_are_taken() {
    let home = Home::new();
    let rag = CHATML.replace("<|im_start|>assistant\n", "Documents:\n");
    let both = [("rag", rag.as_str()), ("default", CHATML)];
    let path = Parrot::saying(&["Yes."]).named_templates(&both).write(&home, "both");
    let prompt = |args: &[&str]| {
        home.run(&[&["-p", "Hi", "--dry-run"], args].concat()).model(&path).done().code(0).stdout
    };
    assert!(prompt(&[]).ends_with("<|im_start|>assistant\n"), "{}", prompt(&[]));
    assert!(prompt(&["--chat-template", "rag"]).ends_with("Documents:\n"));
    assert!(prompt(&["--chat-template", "alpaca"]).contains("### Instruction:"), "the built-in ones stay");
    home.run(&["-p", "Hi", "--temp", "0"]).model(&path).done().code(0).stdout("Yes.\n").stderr("");
    let path_text = path.to_str().unwrap();
    let show = home.run(&["show", path_text]).done().code(0).stdout;
    assert!(show.contains("chat template     system yes") && show.contains("rag, default"), "{show}");
    let object = home.run(&["show", path_text, "--json", "--template"]).done().code(0).json();
    assert_eq!(object["chat_template"], true);
    assert_eq!(object["chat_templates"], serde_json::json!(["rag", "default"]));
    assert_eq!(object["template"], CHATML);
    assert_eq!(
        home.run(&["show", path_text, "--template", "--chat-template", "rag"]).done().code(0).stdout,
        rag.clone() + "\n"
    );
    home.run(&["-p", "Hi", "--chat-template", "rga"])
        .model(&path)
        .done()
        .failed(1, "rga")
        .hint("rag, default");

    let one = [("rag", rag.as_str())];
    let path = Parrot::saying(&["Yes."]).after("\n").named_templates(&one).write(&home, "one");
    let shown = home.run(&["-p", "Hi", "--dry-run"]).model(&path).done().code(0).stdout;
    assert!(shown.ends_with("Documents:\n"), "the only one: {shown}");
    let two = [("rag", rag.as_str()), ("tool_use", CHATML)];
    let path = Parrot::saying(&["Yes."]).named_templates(&two).write(&home, "two");
    let refused = home.run(&["-p", "Hi", "--dry-run"]).model(&path).done();
    refused.failed(1, "several named chat templates and no default").hint("--chat-template rag");
}

#[test]
fn a_limit_that_falls_into_a_character_leaves_it_out() {
    let home = Home::new();
    let bytes = |text: &str| text.bytes().map(raw).collect::<Vec<String>>();
    let whole = |text: &str| vec![text.to_string()];
    // The answer, and its length after each token.
    let says = [
        ([whole("n"), bytes("é"), whole("!")].concat(), vec!["n", "n", "né", "né!"]),
        (bytes("😀"), vec!["", "", "", "😀"]),
        // An emoji of three characters: a woman, a joiner, a laptop.
        (
            [whole("👩"), bytes("\u{200d}"), whole("💻")].concat(),
            vec!["👩", "👩", "👩", "👩", "👩\u{200d}💻"],
        ),
        // A flag of two.
        ([whole("So "), whole("🇫"), whole("🇮")].concat(), vec!["So ", "So ", "So 🇫🇮"]),
    ];
    for (pieces, after) in says {
        let model = Parrot::saying(&pieces.iter().map(String::as_str).collect::<Vec<_>>());
        let model = model.write(&home, "parrot");
        for (number, expected) in (1..).zip(after) {
            let args = ["-p", "Hi", "--temp", "0", "-n", &format!("{number}")];
            home.run(&args).model(&model).done().code(0).stdout(&format!("{expected}\n"));
        }
    }
}
