//! Settings are set, shown, reset and found the same way everywhere: flag, environment, config file, `/set`.
//! Wrong ones are all reported at once, each with the most similar valid one.

use fireside::chat::Settings;
use fireside::settings::{Effect, SETTINGS, Setting};

use crate::support::{Done, Home};

const CONFIG: &str = ".config/fireside/config.toml";

fn ask(home: &Home, args: &[&str]) -> Done {
    let args = [&["-p", "Hi", "-n", "1"], args].concat();
    home.scripted("yes\n", &args).done()
}

/// The lines that report errors.
fn wrong(done: &Done) -> Vec<&str> {
    done.stderr.lines().filter_map(|line| line.strip_prefix("fireside: ")).collect()
}

/// Chat lines in; stderr out.
fn chat(home: &Home, args: &[&str], lines: &str) -> Done {
    let args = [&["--repl-stdin"], args].concat();
    home.scripted("One.\nTwo.\nThree.\n", &args).stdin(lines).done().code(0)
}

#[test]
fn everything_wrong_in_file_and_environment_is_said_at_once() {
    let home = Home::new();
    home.write(CONFIG, "tepm = 0.2\n\ntop-p = 2\n[sampling]\ntop-k = 5\n");
    let done = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_MIN_P", "hot").env("FIRESIDE_SEED", "x");
    let done = done.done().code(2).stdout("");
    let expected = [
        "config.toml line 1: there is no setting 'tepm', did you mean temp?",
        "config.toml line 3: top-p must be a number from 0 to 1, not '2'",
        "config.toml line 4: there is no setting 'sampling'",
        "FIRESIDE_MIN_P must be a number from 0 to 1, not 'hot'",
        "FIRESIDE_SEED must be a whole number from 0 to 4294967295, or -1, not 'x'",
    ];
    assert_eq!(wrong(&done), expected, "{done:#?}");
    assert_eq!(done.stderr.matches("hint: ").count(), 1, "{done:#?}");
    done.hint(CONFIG);
}

#[test]
fn a_former_name_is_answered_with_the_present_one() {
    let home = Home::new();
    ask(&home, &["--no-guess"]).failed(2, "--no-guess is now --no-speculative");
    ask(&home, &["--no-snapshots=on"]).failed(2, "--no-snapshots is now --no-prompt-cache");
    home.run(&["list", "--no-guess"]).done().failed(2, "--no-guess is now --no-speculative");
    let run = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_NO_GUESS", "on");
    run.done().failed(2, "FIRESIDE_NO_GUESS is now FIRESIDE_NO_SPECULATIVE");
    let set = chat(&home, &[], "/set no-guess on\n").says("no-guess is now no-speculative");
    set.hint("/set no-speculative on");
    home.run(&["help", "no-snapshots"]).done().failed(2, "no-snapshots is now no-prompt-cache");
    home.write(CONFIG, "temp = 1\nno_snapshots = true\n");
    ask(&home, &[]).failed(2, "config.toml line 2: no_snapshots is now no-prompt-cache");
}

#[test]
fn every_syntax_error_of_the_config_file_has_its_line() {
    let home = Home::new();
    home.write(CONFIG, "temp = 0.2\ntop-k = \nmin-p = 0.1\ntop-p = hot\ntemp = 0.3\n");
    let done = ask(&home, &[]).code(2);
    let lines: Vec<String> = wrong(&done).iter().map(|line| line.chars().take(19).collect()).collect();
    assert_eq!(lines, ["config.toml line 2:", "config.toml line 4:", "config.toml line 5:"], "{done:#?}");
}

#[test]
fn a_value_of_another_kind_is_told_what_the_setting_takes() {
    let home = Home::new();
    for (line, why) in [
        ("temp = \"hot\"", "temp must be a number from 0 to 100, not 'hot'"),
        ("temp = [1, 2]", "temp takes one value, not a list"),
        ("temp = { a = 1 }", "temp takes one value, not a table"),
        ("temp = true", "temp must be a number from 0 to 100, not 'true'"),
        ("top-k = 1.5", "top-k must be a whole number from 0 to 2147483647, not '1.5'"),
        ("stop = 5", "stop takes text in quotes, as in stop = \"5\""),
        ("stop = [\"a\", 5]", "stop takes text in quotes, as in stop = \"5\""),
        ("stop = { a = \"b\" }", "stop takes no table"),
        ("mlock = \"maybe\"", "mlock must be one of on off"),
        ("chat-template = 2026-11-25", "chat-template takes text in quotes"),
    ] {
        home.write(CONFIG, line);
        ask(&home, &[]).failed(2, &format!("config.toml line 1: {why}"));
    }
    home.write(
        CONFIG,
        "temp = \"0.3\"\nseed = 0x10\nstop = [\n \"a\",\n \"b\"]\nflash-attn = true\n[template-arg]\nx = 1\n",
    );
    let object = home.run(&["config", "--json"]).done().code(0).json();
    let value = |name: &str| object["settings"][name]["value"].as_str().unwrap().to_string();
    let values = ["temp", "seed", "stop", "flash-attn", "template-arg"].map(value);
    assert_eq!(values, ["0.3", "16", "a, b", "on", "x=1"]);
}

#[test]
fn numbers_have_messages_of_their_own() {
    let home = Home::new();
    for (option, value, why) in [
        ("--temp", "hot", "--temp must be a number from 0 to 100, not 'hot'"),
        ("--temp", "1,5", "--temp must be written with a point, as in 1.5, not '1,5'"),
        ("--top-k", "1.5", "--top-k must be a whole number from 0 to 2147483647, not '1.5'"),
        ("--top-k", "many", "--top-k must be a whole number from 0 to 2147483647, not 'many'"),
        ("--threads", "0.5", "--threads must be a whole number from 1 to 512, or auto, not '0.5'"),
    ] {
        ask(&home, &[option, value]).failed(2, why);
    }
    let done = ask(&home, &["--temp", "hot", "--top-k", "many"]).code(2);
    assert_eq!(wrong(&done).len(), 2, "{done:#?}");
}

#[test]
fn an_empty_variable_is_not_set() {
    let home = Home::new();
    let run = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_TEMP", "").env("FIRESIDE_STOP", "");
    run.env("FIRESIDE_NO_SUCH", "").done().code(0).stdout("yes\n").stderr("");
}

#[test]
fn a_variable_that_is_no_setting_is_named_and_the_answer_comes() {
    let home = Home::new();
    let run = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_TEPM", "0.2").env("FIRESIDE_MODEL_S", "x");
    let done = run.done().code(0).stdout("yes\n");
    done.says("FIRESIDE_TEPM is not a setting, did you mean FIRESIDE_TEMP?").says("FIRESIDE_MODELS?");
    let quiet = home.scripted("yes\n", &["-p", "Hi", "-q"]).env("FIRESIDE_TEPM", "0.2").done();
    quiet.code(0).stderr("");
    let known = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_MODELS", home.path("models"));
    known.env("FIRESIDE_TEST_PATIENCE", "1").done().code(0).stderr("");
}

#[test]
fn variables_take_the_names_that_the_file_takes() {
    let run = Home::new().run(&["config", "--json"]).env("FIRESIDE_TEMPERATURE", "0.3");
    assert_eq!(run.done().code(0).json()["settings"]["temp"]["value"], "0.3");
}

#[test]
fn what_is_wrong_stops_none_of_the_subcommands_that_help_to_find_it() {
    let home = Home::new();
    home.write(CONFIG, "tepm = 0.2\ntop-k = 5\n");
    let run = |args: &[&str]| home.run(args).env("FIRESIDE_MIN_P", "hot").env("FIRESIDE_ODD", "1").done();
    let config = run(&["config"]).code(0);
    assert!(config.stdout.contains("top-k"), "{config:#?}");
    for what in
        ["line 1: there is no setting 'tepm'", "FIRESIDE_MIN_P must be", "FIRESIDE_ODD is not a setting"]
    {
        let last = config.stdout.lines().rev().take(4).collect::<String>();
        assert!(last.contains(what), "{what} below the table; {config:#?}");
    }
    let object = run(&["config", "--json"]).code(0).json();
    assert_eq!(object["problems"].as_array().unwrap().len(), 3, "{object}");
    assert_eq!(object["settings"]["top-k"]["value"], "5");
    let doctor = run(&["doctor"]).code(1);
    assert!(doctor.stdout.contains("problem: ") && doctor.stdout.contains("'tepm'"), "{doctor:#?}");
    let object = run(&["doctor", "--json"]).code(1).json();
    assert!(
        object["findings"]["settings"]["trouble"].as_str().unwrap().contains("FIRESIDE_MIN_P"),
        "{object}"
    );
    for args in [&["completions", "bash"][..], &["--help"], &["-h"], &["--version"], &["help"]] {
        let done = run(args).code(0);
        assert!(!done.stdout.is_empty(), "{done:#?}");
    }
    run(&["list"]).code(2);
    run(&["config", "--temp", "hot"]).failed(2, "--temp must be a number");
}

#[test]
fn a_model_that_is_not_here_stops_config_as_little() {
    let home = Home::new();
    home.write(CONFIG, "model = \"nowhere\"\n");
    let done = home.run(&["config"]).done().code(0);
    assert!(done.stdout.contains("# error: there is no model 'nowhere'"), "{done:#?}");
    let object = home.run(&["config", "--json"]).done().code(0).json();
    assert_eq!(object["problems"][0], "there is no model 'nowhere'");
    let doctor = home.run(&["doctor", "--json"]).done().code(1).json();
    assert_eq!(doctor["findings"]["models"]["trouble"], "there is no model 'nowhere'");
}

#[test]
fn lists_take_none_everywhere() {
    let home = Home::new();
    let listed = |args: &[&str], variable: &str| {
        let args = [&["config", "--json"], args].concat();
        home.run(&args).env("FIRESIDE_STOP", variable).done().code(0).json()["settings"]["stop"].clone()
    };
    let stop = listed(&[], "none");
    assert_eq!((&stop["value"], &stop["source"]), (&"none".into(), &"environment".into()));
    assert_eq!(listed(&["--stop", "a", "--stop", "none"], "x")["value"], "none");
    assert_eq!(listed(&["--stop", "none", "--stop", "b"], "x")["value"], "b");
    home.write(CONFIG, "stop = \"none\"\nlogit-bias = \"none\"\ntemplate-arg = \"none\"\nmodel-folder = \"none\"\ndry-sequence-breaker = \"none\"\n");
    let object = home.run(&["config", "--json"]).done().code(0).json();
    for name in ["stop", "logit-bias", "template-arg", "model-folder", "dry-sequence-breaker"] {
        assert_eq!(object["settings"][name]["value"], "none", "{name}");
        assert_eq!(object["settings"][name]["source"], "config file", "{name}");
    }
    let done = chat(&home, &["--stop", "One"], "Hi\n/set stop none\n/set stop\nHo\n");
    done.stdout("One.\nTwo.\n").says("stop                   none");
}

#[test]
fn set_default_goes_back_to_what_held_before() {
    let home = Home::new();
    home.write(CONFIG, "top-k = 7\n");
    let lines = "/set temp 0.9\n/set temp default\n/set top-k 3\n/set top-k default\n/set min-p 0.9\n/set min-p default\n\
                 /set stop b\n/set stop default\n/set temp default\n";
    let done = chat(&home, &["--temp", "0.5", "--stop", "a"], lines);
    let expected = [
        "temp is 0.5 (flag)",
        "top-k is 7 (config file)",
        "min-p is 0.05 (default)",
        "stop is a (flag)",
        "temp is 0.5 (flag)",
    ];
    let shown: Vec<&str> = done.stderr.lines().filter(|line| line.ends_with(')')).collect();
    assert_eq!(shown, expected, "{done:#?}");
}

#[test]
fn set_takes_an_equals_sign() {
    let home = Home::new();
    let lines = "/set temp=0.3\n/set temp\n/set temp = 0.4\n/set temp\n/set stop \"=\"\n/set stop\n";
    let done = chat(&home, &[], lines);
    let row = |value: &str| format!("{:22} {value} ", "temp");
    let done = done.says(&row("0.3")).says(&row("0.4")).says(&format!("{:22} = ", "stop"));
    assert!(!done.stderr.contains("fireside: "), "{done:#?}");
}

#[test]
fn set_points_to_the_command_that_a_setting_belongs_to() {
    let home = Home::new();
    for (line, hint) in [
        ("/set model tiny", "hint: /model tiny"),
        ("/set system-prompt Be brief.", "hint: /system Be brief."),
        ("/set system=Be brief.", "hint: /system Be brief."),
        ("/set title My talk", "hint: /title My talk"),
        ("/set file notes.txt", "hint: /file notes.txt"),
        ("/set resume 3f", "hint: /resume 3f"),
        ("/set verbose", "/set stats on"),
    ] {
        chat(&home, &[], &format!("{line}\n")).failed(0, "").says(hint);
    }
}

#[test]
fn what_counts_at_the_start_only_says_how_to_give_it_there() {
    let home = Home::new();
    for (line, ways) in [
        ("no-prompt-cache on", "--no-prompt-cache, FIRESIDE_NO_PROMPT_CACHE=on or no-prompt-cache = true"),
        ("incognito=off", "--incognito=off, FIRESIDE_INCOGNITO=off or incognito = false"),
        ("model-folder /m", "--model-folder /m, FIRESIDE_MODEL_FOLDER=/m or model-folder = \"/m\""),
    ] {
        let done =
            chat(&home, &[], &format!("/set {line}\n")).failed(0, "can only be set when fireside starts");
        done.hint(ways).hint("config.toml");
    }
}

#[test]
fn the_nearest_name_may_be_another_spelling_or_one_for_the_start() {
    let home = Home::new();
    chat(&home, &[], "/set temperatur 1\n").failed(0, "temperatur").hint("did you mean /set temperature?");
    chat(&home, &[], "/set incognitoo on\n").failed(0, "incognitoo").hint("did you mean /set incognito?");
    home.write(CONFIG, "temperatur = 1\n");
    ask(&home, &[]).failed(2, "there is no setting 'temperatur', did you mean temperature?");
    home.write(CONFIG, "");
    let run = home.scripted("yes\n", &["-p", "Hi"]).env("FIRESIDE_TEMPERATUR", "1");
    run.done().code(0).says("did you mean FIRESIDE_TEMPERATURE?");
}

#[test]
fn a_setting_without_a_value_says_so() {
    let done = chat(&Home::new(), &[], "/set think-tags\n/set think-tags a b\n/set think-tags default\n");
    done.says(&format!("{:22} not set ", "think-tags")).says("think-tags is not set (default)");
}

/// The settings that show their value. Those left out set what another one shows: tests/constrained.rs.
fn settings_with_a_value() -> impl Iterator<Item = &'static Setting> {
    let elsewhere = ["json-schema-file", "schema", "schema-multi", "grammar-file"];
    SETTINGS.iter().filter(move |row| !elsewhere.contains(&row.name))
}

/// A valid value of the setting other than its default.
fn another(row: &Setting) -> &'static str {
    match row.name {
        "json-schema" => return "{}", // anything else is a file
        "grammar" => return "root ::= \"a\"",
        _ => {}
    }
    const VALUES: &[&str] = &[
        "7", "0.5", "0.25", "1", "q8_0", "on", "off", "never", "roll", "a b", "x=1", "5+1", "top_k", "x",
        "64", "row", "isolate", "a:1", "light", "vi",
    ];
    let shown = |settings: &Settings| (row.get)(settings);
    let differs = |value: &&&str| {
        let mut settings = Settings::default();
        (row.set)(&mut settings, value).is_ok() && shown(&settings) != shown(&Settings::default())
    };
    VALUES.iter().find(differs).unwrap_or_else(|| panic!("no value for {}", row.name))
}

#[test]
fn every_setting_is_the_same_in_flag_variable_and_file() {
    let home = Home::new();
    for row in settings_with_a_value() {
        let value = another(row);
        let shown = |run: crate::support::Run, source: &str| {
            let setting = run.done().code(0).stderr("").json()["settings"][row.name].clone();
            assert_eq!(setting["source"], source, "{}", row.name);
            setting["value"].as_str().unwrap().to_string()
        };
        let config = || home.run(&["config", "--json"]);
        let variable = shown(config().env(&row.env(), value), "environment");
        let flag = shown(home.run(&[&format!("--{}={value}", row.name), "config", "--json"]), "flag");
        home.write(
            CONFIG,
            if row.takes_text() { format!("{} = {value:?}", row.name) } else { bare(row, value) },
        );
        let file = shown(home.run(&["config", "--json"]).env("FIRESIDE_THREADS", ""), "config file");
        home.write(CONFIG, "");
        // A relative path in the file begins in the file's folder.
        let path = matches!(row.value, "FILE" | "FOLDER");
        let in_file = match path {
            true => home.path(CONFIG).with_file_name(value).display().to_string(),
            false => variable.clone(),
        };
        assert_eq!((&flag, &file), (&variable, &in_file), "{}", row.name);
    }
}

/// The value in TOML: numbers and switches bare, choices in quotes.
fn bare(row: &Setting, value: &str) -> String {
    match value {
        "on" if row.value.is_empty() => format!("{} = true", row.name),
        value if value.parse::<f64>().is_ok() => format!("{} = {value}", row.name),
        value => format!("{} = {value:?}", row.name),
    }
}

#[test]
fn every_setting_of_the_chat_is_changed_shown_and_taken_back() {
    let rows = || settings_with_a_value().filter(|row| row.effect == Effect::Now);
    let lines = rows().map(|row| format!("/set {0} {1}\n/set {0} default\n", row.name, another(row)));
    let done = chat(&Home::new(), &[], &lines.collect::<String>());
    assert!(!done.stderr.contains("hint:"), "{done:#?}");
    for row in rows() {
        let mut settings = Settings::default();
        (row.set)(&mut settings, another(row)).unwrap();
        let changed = format!(
            "{0} is {1}\n{0} is {2} (default)\n",
            row.name,
            (row.get)(&settings),
            row.shown(&Settings::default())
        );
        assert!(done.stderr.contains(&changed), "{changed:?} in {done:#?}");
    }
}

#[test]
fn doctor_says_how_many_threads_there_are_and_why() {
    let home = Home::new();
    let threads = |setting: &str| {
        let object = home.run(&["doctor", "--json", "--threads", setting]).done().code(0).json();
        object["findings"]["threads"]["found"].as_str().unwrap().to_string()
    };
    assert_eq!(threads("3"), "3: as set");
    let (number, why) = (threads("auto"), "one per ");
    let (number, reason) = number.split_once(": ").unwrap();
    assert!(number.parse::<u32>().unwrap() >= 1, "{number}");
    assert!(reason.starts_with(why) || reason.contains("quota"), "{reason}");
}
