//! `/why` on terminals of several widths: what `--logprobs` tells of the same answer, in colours and in words.

use serde_json::Value;

use crate::support::pty::*;
use crate::support::{Home, default_model};

const QUESTION: &str = "Name a fruit.";
/// Probabilities at which nobody can err: batches of other sizes round the default model's otherwise.
const SURPRISING: f64 = 0.12;
const EXPECTED: f64 = 0.75;

/// The options for an answer of this model. At such a temperature some tokens surprise.
fn asking(model: &str) -> [&str; 10] {
    ["-m", model, "--temp", "1.3", "--seed", "5", "-n", "14", "--no-prompt-cache", "--no-speculative"]
}

/// Text and probability of each token of the answer, with the texts of its likeliest others.
fn told(home: &Home, args: &[&str]) -> Vec<(String, f64, Vec<String>)> {
    let text = |token: &Value| token["text"].as_str().unwrap().to_string();
    let one = ["-p", QUESTION, "--json", "--logprobs", "2"];
    let object = home.run(&[args, &one].concat()).done().code(0).json();
    let tokens = object["logprobs"].as_array().unwrap().iter();
    tokens
        .map(|token| {
            let others = token["others"].as_array().unwrap().iter().map(text).collect();
            (text(token), token["logprob"].as_f64().unwrap().exp(), others)
        })
        .collect()
}

/// As `/why` writes a token.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', "\\n"))
}

/// The colours of the cells of this text where it first stands on the screen.
fn colours(screen: &vt100::Screen, text: &str) -> Vec<vt100::Color> {
    let (rows, columns) = screen.size();
    let (rows, columns) = (u16::from(rows), u16::from(columns));
    let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let cells: Vec<_> = places.filter_map(|(row, column)| screen.cell(row, column)).collect();
    let shown: Vec<&str> = cells.iter().map(|cell| cell.contents()).collect();
    let wanted: Vec<String> = text.chars().map(String::from).collect();
    let at = shown.windows(wanted.len()).position(|shown| shown == wanted);
    let at = at.unwrap_or_else(|| panic!("{text:?} is not there:\n{}", screen.contents()));
    cells[at..at + wanted.len()].iter().map(|cell| cell.fgcolor()).collect()
}

#[test]
fn surprising_tokens_are_coloured_and_their_others_listed() {
    let Some(model) = default_model() else { return };
    let (home, args) = (Home::new(), asking(model.to_str().unwrap()));
    let tokens = told(&home, &args);
    let clear = |token: &&(String, f64, Vec<String>)| {
        let word = token.0.trim();
        let once = tokens.iter().filter(|other| other.0.contains(word)).count() == 1;
        once && word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let surprising: Vec<_> = tokens.iter().filter(|token| token.1 < SURPRISING).collect();
    assert!(surprising.iter().copied().any(|token| clear(&token)), "no token surprises: {tokens:?}");
    assert!(tokens.iter().filter(clear).any(|token| token.1 > EXPECTED), "no token is expected: {tokens:?}");
    for columns in [20, 80, 200] {
        let setup = Setup { columns, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &args);
        terminal.at_prompt().line(QUESTION).sees_wrapped("tokens/s").at_prompt();
        terminal.wiped().line("/why").sees_wrapped("cyan: below").at_prompt();
        let flat = terminal.rows(columns).concat();
        let without = |text: &str| text.replace(' ', "");
        for (text, _, others) in &surprising {
            let line = format!("{}{}", quoted(text), quoted(&others[0]));
            let listed = without(&flat).contains(&without(&line));
            assert!(listed, "{columns} columns: {line} is not listed:\n{}", terminal.screen());
        }
        for (text, probability, _) in tokens.iter().filter(clear) {
            let shown = terminal.screen_as(|screen| colours(screen, text.trim()));
            let plain = shown.iter().all(|colour| *colour == vt100::Color::Default);
            if *probability < SURPRISING {
                let red_or_yellow = [vt100::Color::Idx(1), vt100::Color::Idx(3)];
                assert!(shown.iter().all(|colour| red_or_yellow.contains(colour)), "{text:?}: {shown:?}");
            }
            assert!(plain || *probability < EXPECTED, "{columns} columns: {text:?} is coloured: {shown:?}");
        }
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}

#[test]
fn plain_text_has_a_line_for_each_token() {
    let Some(model) = default_model() else { return };
    let (home, args) = (Home::new(), asking(model.to_str().unwrap()));
    let tokens = told(&home, &args);
    for columns in [20, 80, 200] {
        let setup = Setup { columns, ..Setup::default() };
        let mut terminal = home.terminal_as(&setup, &[&args[..], &["--plain"]].concat());
        terminal.at_prompt().line(QUESTION).sees_wrapped("tokens/s").at_prompt();
        let before = terminal.bytes().len();
        terminal.line("/why");
        let (last, ..) = &tokens[tokens.len() - 1];
        terminal.sees_wrapped(&format!("%  {}", quoted(last))).at_prompt();
        let shown = String::from_utf8(terminal.bytes()[before..].to_vec()).unwrap();
        let listed: Vec<&str> = shown.lines().filter(|line| line.contains(" %  \"")).collect();
        assert_eq!(listed.len(), tokens.len(), "{shown}");
        for (line, (text, probability, others)) in listed.iter().zip(&tokens) {
            assert!(line.contains(&format!(" %  {}", quoted(text))), "{line}: {text:?}");
            let alternative = *probability > SURPRISING || line.contains(&quoted(&others[0]));
            assert!(alternative, "{line}: {others:?}");
        }
        assert!(!shown.contains("\x1b[3") && !shown.contains("below 5 %"), "{shown:?}");
        assert_eq!(terminal.keys(CTRL_D).ends(), 0);
    }
}
