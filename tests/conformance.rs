//! Compares fireside with other programs on the same input, by `make conformance`. Each check has a row, and
//! no row may have a difference.
//!
//! scripts/references fetches the references into target/references. Each check is a test of its own and
//! compares its row with the docs; the last one to finish prints the table. All but those of parity.rs, for which
//! llama.cpp's tools must be compiled, also run in CI.

mod catalogues;
mod parity;
mod schemas;
mod splitter;
mod templates;
mod tokens;
mod vocabularies;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::families;
use crate::support::{cannot_run, repository};
use crate::tidy;

/// Every check, in the order of the table.
const CHECKS: [&str; 15] = [
    templates::CHECK,
    splitter::CHECK,
    vocabularies::VECTORS,
    vocabularies::RANDOM,
    vocabularies::INJECTION,
    FAMILIES,
    schemas::INSTANCES,
    schemas::GENERATIONS,
    schemas::VOCABULARIES,
    tokens::CHECK,
    catalogues::CHECK,
    parity::CHECK,
    parity::server::CHECK,
    parity::logprobs::CHECK,
    parity::perplexity::CHECK,
];

const FAMILIES: &str = "families";

/// The outcome of a check.
struct Row {
    check: &'static str,
    /// The program or data compared with.
    reference: &'static str,
    compared: usize,
    /// The differences, one line each.
    differing: Vec<String>,
    /// Differences within the noise of the kernels, one line each; `None` if nothing is computed.
    near_ties: Option<Vec<String>>,
}

const HEAD: &str = "\
| check | compared with | compared | differing | near ties | cut off |
|---|---|---|---|---|---|
";

/// A file or folder of the references, or `None` with a line on stderr if they were not fetched. In CI that
/// is a failure.
fn reference(inside: &str) -> Option<PathBuf> {
    let path = repository().join("target/references").join(inside);
    if path.exists() {
        return Some(path);
    }
    cannot_run("the references are not there (make conformance)");
    None
}

/// The folder for everything made from the references.
fn work() -> PathBuf {
    let folder = repository().join("target/conformance");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Records the outcome, prints the table if it is the last, and fails if anything differs or
/// docs/conformance.md has another row. All differences are in target/conformance/CHECK.txt.
#[track_caller]
fn conclude(row: Row) {
    conclude_with_cut(row, None);
}

/// The same with the number of answers that a limit cut off, which could not be compared.
#[track_caller]
#[allow(clippy::print_stdout)] // the table is the result
fn conclude_with_cut(row: Row, cut: Option<usize>) {
    static ROWS: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
    let ties = row.near_ties.as_ref().map_or("".into(), |ties| ties.len().to_string());
    let cut = cut.map_or("".into(), |cut| cut.to_string());
    let line = format!(
        "| {} | {} | {} | {} | {ties} | {cut} |",
        row.check,
        row.reference,
        row.compared,
        row.differing.len()
    );
    let lines: Vec<&String> = row.differing.iter().chain(row.near_ties.iter().flatten()).collect();
    let report = work().join(format!("{}.txt", row.check));
    std::fs::write(&report, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let mut rows = ROWS.lock().unwrap();
    rows.insert(row.check, line.clone());
    if rows.len() == CHECKS.len() {
        let lines = CHECKS.iter().map(|check| format!("{}\n", rows[check])).collect::<String>();
        let table = format!("{HEAD}{lines}");
        println!("\n{table}");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            tidy::check_table(PAGE, "conformance", &table, |_, _| true, "make conformance");
        }
    }
    drop(rows);
    let first: Vec<&str> = row.differing.iter().take(5).map(String::as_str).collect();
    assert!(
        first.is_empty(),
        "{} of {} differ, see {}:\n{}",
        row.differing.len(),
        row.compared,
        report.display(),
        first.join("\n")
    );
    hold_against_docs(&line);
}

/// The page with the table.
const PAGE: &str = "docs/conformance.md";

/// The page has the rows of the default model. Near ties depend on the processor, and so does how many answers of
/// random models are whole.
fn hold_against_docs(row: &str) {
    let fixed = |line: &str| {
        let mut fields: Vec<String> = line.split('|').map(|field| field.trim().to_string()).collect();
        fields.truncate(5); // check, reference, compared, differing
        let random = [schemas::GENERATIONS, schemas::VOCABULARIES];
        if fields.get(1).is_some_and(|check| random.contains(&check.as_str())) {
            fields.remove(3);
        }
        fields
    };
    let page = std::fs::read_to_string(repository().join(PAGE)).unwrap();
    let there = page.lines().any(|line| fixed(line) == fixed(row));
    let others = std::env::var_os("UPDATE_DOCS").is_some() || parity::models().len() > 1;
    assert!(there || others, "a row of {PAGE} is out of date: UPDATE_DOCS=1 make conformance\n{row}");
}

#[test]
fn families_give_what_transformers_gives() {
    let (mut compared, mut differing) = (0, Vec::new());
    for (name, reference) in families::references() {
        compared += reference.cases.len();
        if !families::gives_what_the_reference_gives(&name) {
            differing.push(format!("{name}: cargo test families says how"));
        }
    }
    conclude(Row { check: FAMILIES, reference: "transformers", compared, differing, near_ties: None });
}
