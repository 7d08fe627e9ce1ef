//! The regular expressions of llama.cpp's vocabularies: for every pattern, the same pieces as std::regex, on
//! random text and on runs for which std::regex needs hundreds of megabytes of stack.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Row, conclude, work};
use crate::processor::{cached, command_for};
use crate::runs::RUNS;
use crate::support::engine::Chance;
use crate::support::repository;

pub(super) const CHECK: &str = "pre-tokenisers";

/// Random texts for each vocabulary's patterns.
const TEXTS: usize = 1500;
/// The length of a run in characters, for all runs and for some.
const LONG: usize = 5_000;
const LONGEST: usize = 1_000_000;
/// The stack that std::regex gets, in KiB.
const STACK: usize = 2 << 20;

/// The characters of random texts: letters and digits of several scripts, marks, all kinds of white space,
/// and those that patterns name.
const PIECES: [&str; 60] = [
    "a",
    "b",
    "Z",
    "Q",
    "é",
    "É",
    "ß",
    "1",
    "2",
    "٣",
    "½",
    " ",
    "  ",
    "\n",
    "\r",
    "\t",
    "\r\n",
    "\u{a0}",
    "\u{3000}",
    "\u{2028}",
    "\u{b}",
    "\u{85}",
    "=",
    "+",
    "'",
    "'s",
    "'LL",
    ".",
    ",",
    "!",
    "?",
    "。",
    "中",
    "文",
    "ひ",
    "カ",
    "한",
    "ก",
    "\u{e31}",
    "\u{301}",
    "<",
    "[",
    "]",
    "{",
    "\\",
    "^",
    "`",
    "~",
    "|",
    "$",
    "-",
    "_",
    "/",
    "😀",
    "\u{200d}",
    "Ａ",
    "<sentinel:12>",
    "IMGIMGABZ",
    "1234567",
    "don't",
];

/// The patterns of each kind of vocabulary, as llama.cpp's source has them.
fn patterns(source: &str) -> Vec<Vec<String>> {
    let (_, from) = source.split_once("struct llm_tokenizer_bpe : llm_tokenizer").unwrap();
    let (body, _) = from.split_once("std::vector<std::string> regex_exprs;").unwrap();
    let body: Vec<&str> = body.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let mut kinds: Vec<Vec<String>> = Vec::new();
    for list in body.join("\n").split("regex_exprs = {").skip(1) {
        let list = list.split("\n                };").next().unwrap();
        let kind = literals(list);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// The C++ string literals in a piece of source.
fn literals(source: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = source;
    while let Some((_, from)) = rest.split_once('"') {
        let mut literal = String::new();
        let mut characters = from.char_indices();
        loop {
            match characters.next().unwrap() {
                (at, '"') => break rest = &from[at + 1..],
                (_, '\\') => literal.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }),
                (_, other) => literal.push(other),
            }
        }
        all.push(literal);
        rest = rest.split_once('\n').map_or("", |(_, next)| next); // a comment follows
    }
    all
}

fn random_text(chance: &mut Chance) -> String {
    let longest = [1, 1, 3, 200][chance.below(4)];
    let some = 1 + chance.below(PIECES.len());
    let from = chance.below(PIECES.len());
    let piece = |chance: &mut Chance| {
        PIECES[(from + chance.below(some)) % PIECES.len()].repeat(1 + chance.below(longest))
    };
    (0..1 + chance.below(40)).map(|_| piece(chance)).collect()
}

/// llama.cpp's own splitter, compiled with or without this project's changes.
fn compile(source: &Path, ours: bool) -> PathBuf {
    let program = work().join(if ours { "splitter" } else { "splitter-std" });
    let mut command = Command::new(cached("CMAKE_CXX_COMPILER"));
    command.args(["-O2", "-std=c++17", "-w", "-o"]).arg(&program).arg("-I").arg(source);
    if ours {
        let headers = repository().join("src/engine/llama/build/include");
        command.arg("-isystem").arg(headers).args(["-include", "pretokenizer_regex.h"]);
    }
    command.arg(repository().join("tests/conformance/splitter.cpp"));
    command.args(["unicode.cpp", "unicode-data.cpp"].map(|file| source.join(file)));
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    program
}

/// One line of output per case.
fn pieces(program: &Path, cases: &Path) -> Vec<String> {
    let run = format!("ulimit -s {STACK} && exec \"$0\"");
    let input = std::fs::File::open(cases).unwrap();
    let done =
        Command::new("bash").args(["-c", &run]).arg(program).stdin(input).stderr(Stdio::inherit()).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{program:?}: {}", done.status);
    String::from_utf8(done.stdout).unwrap().lines().map(String::from).collect()
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "only there a program's stack can be made large enough")]
fn every_pattern_of_llama_cpp_gives_the_pieces_of_std_regex() {
    let source = Path::new(&cached("CMAKE_HOME_DIRECTORY")).join("src");
    let kinds = patterns(&std::fs::read_to_string(source.join("llama-vocab.cpp")).unwrap());
    assert!(kinds.len() >= 31, "{}", kinds.len());
    let used = command_for("src/unicode.cpp").iter().any(|word| word == "pretokenizer_regex.h");
    assert!(used, "the program itself was not built with it");

    let mut chance = Chance(5);
    let mut cases: Vec<(&[String], String)> = Vec::new();
    for kind in &kinds {
        cases.extend((0..TEXTS).map(|_| (&kind[..], random_text(&mut chance))));
        for run in RUNS {
            let long = |length: usize| run.chars().cycle().take(length).collect::<String>();
            cases.push((kind, format!("so {} 1 x", long(LONG))));
            cases.push((kind, format!("中{}中", long(LONG))));
        }
        // For white space at the end, std::regex takes time quadratic in its length.
        let quadratic = kind.iter().any(|pattern| pattern == r"\s+$") || kind.contains(&"\\s?\\p{L}+".into());
        let longest = ["=", "A", " "].into_iter().filter(|run| !(quadratic && *run == " "));
        cases.extend(longest.map(|run| (&kind[..], format!("so {} 1 x", run.repeat(LONGEST)))));
    }
    let file = work().join("splitter.cases");
    let mut bytes = Vec::new();
    for (patterns, text) in &cases {
        bytes.extend(format!("{}\n", patterns.len()).into_bytes());
        for string in patterns.iter().chain([text]) {
            bytes.extend(format!("{}\n{string}", string.len()).into_bytes());
        }
    }
    std::fs::write(&file, bytes).unwrap();
    let [ours, theirs] = [true, false].map(|ours| pieces(&compile(&source, ours), &file));
    assert_eq!((ours.len(), theirs.len()), (cases.len(), cases.len()));
    let differ = ours.iter().zip(&theirs).zip(&cases).filter(|((one, other), _)| one != other);
    let shown = |((one, other), (patterns, text)): ((&String, &String), &(&[String], String))| {
        let start: String = text.chars().take(60).collect();
        format!("{patterns:?} on {start:?}: {one}, not {other}")
    };
    let differing = differ.map(shown).collect();
    conclude(Row {
        check: CHECK,
        reference: "std::regex",
        compared: cases.len(),
        differing,
        near_ties: None,
    });
}
