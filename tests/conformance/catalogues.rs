//! Schemas that people publish: catalogues of tools, and configuration files. What they allow can be written; what
//! fireside cannot enforce is refused for a known reason.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fireside::engine::constraint::{check, matches};
use serde_json::{Map, Value, json};

use super::schemas::{constraint, invalid};
use super::{Row, conclude, reference, work};
use crate::support::repository;

pub(super) const CHECK: &str = "published schemas";

/// The schemas of the package check-jsonschema by name: valid instances, in the order of the schema, or what the refusal
/// says.
const CONFIGURATIONS: &str = include_str!("configurations.json");
/// The longest schema that fireside takes, in bytes: src/settings/constraints.rs.
const LONGEST: u64 = 1 << 20;

/// A schema, and a list of valid instances or the refusal.
struct Published {
    name: String,
    schema: Value,
    expected: Value,
}

fn configurations(python: &Path) -> Vec<Published> {
    let folder = python.join("check_jsonschema/builtin_schemas/vendor");
    let expected: Map<String, Value> = serde_json::from_str(CONFIGURATIONS).unwrap();
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = files.filter(|file| file.metadata().unwrap().len() <= LONGEST);
    let files = files.filter(|file| file.path().extension().is_some_and(|end| end == "json"));
    let published = files.map(|file| {
        let name = file.path().file_stem().unwrap().to_string_lossy().into_owned();
        let schema = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
        let expected = expected.get(&name).unwrap_or(&Value::Null).clone();
        Published { name, schema, expected }
    });
    let published: Vec<Published> = published.collect();
    assert_eq!(published.len(), expected.len());
    published
}

/// Those of the package bfcl-eval.
fn tools(python: &Path) -> Vec<Published> {
    let script = repository().join("tests/conformance/catalogues.py");
    let done = Command::new("python3").arg(script).env("PYTHONPATH", python).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let published = |mut line: Value| Published {
        name: line["name"].as_str().unwrap().into(),
        schema: line["schema"].take(),
        expected: line["instances"].take(),
    };
    lines.map(published).collect()
}

#[test]
fn published_schemas_are_taken_or_refused_with_a_reason() {
    let Some(python) = reference("python") else { return };
    let (mut compared, mut differing, mut lines) = (0, Vec::new(), Vec::new());
    let mut slowest = (Duration::ZERO, String::new());
    for Published { name, schema, expected } in configurations(&python).into_iter().chain(tools(&python)) {
        let constraint = constraint(&schema);
        let started = Instant::now();
        let checked = check(&constraint);
        slowest = slowest.max((started.elapsed(), name.clone()));
        compared += 1;
        match (checked, &expected) {
            (Ok(_), Value::Array(instances)) => {
                compared += instances.len();
                for text in instances.iter().map(Value::to_string) {
                    if !matches(&constraint, &text) {
                        differing.push(format!("{name}: {text} cannot be written"));
                    }
                    lines.push(json!({ "keyword": name, "schema": schema, "text": text }));
                }
            }
            (Err(error), Value::String(why)) if error.to_string().contains(why) => {}
            (checked, _) => differing.push(format!("{name}: {checked:?}, expected was {expected}")),
        }
    }
    differing.extend(invalid(&python, "published.jsonl", &lines));
    let (took, name) = slowest;
    std::fs::write(work().join("published.slowest.txt"), format!("{took:?} for {name}\n")).unwrap();
    conclude(Row { check: CHECK, reference: "jsonschema 4.26.0", compared, differing, near_ties: None });
}
