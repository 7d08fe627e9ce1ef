//! A constraint → the fields with which a server keeps it, and a check of what the server writes.
//!
//! JSON schemas go into OpenAI's `response_format`, grammars into llama-server's `grammar`. A server may ignore a
//! field that it does not know, so nothing is shown that does not match.

use serde_json::{Value, json};

use super::facts::Kind;
use super::fault::Fault;
use crate::chat::Constraint;
use crate::engine::constraint::Follower;

/// Follows an answer as it comes.
pub(super) struct Guard {
    follower: Follower,
    kind: &'static str,
}

/// The field for a server of this kind, and what checks its answer, of which `begun` has come.
pub(super) fn constrained(
    constraint: &Constraint,
    kind: Kind,
    begun: &str,
) -> Result<((&'static str, Value), Guard), Fault> {
    let lacks = || Fault::Lacks(constraint.kind());
    let (field, constraint) = match constraint {
        Constraint::JsonSchema(text) => {
            let mut schema: Value = serde_json::from_str(text).map_err(|_| lacks())?;
            required_first(&mut schema);
            let asked = json!({ "name": "answer", "strict": true, "schema": schema });
            let field = json!({ "type": "json_schema", "json_schema": asked });
            (("response_format", field), Constraint::JsonSchema(schema.to_string()))
        }
        Constraint::Grammar(text) if kind == Kind::Llama => (("grammar", json!(text)), constraint.clone()),
        Constraint::Grammar(_) | Constraint::Regex(_) => return Err(lacks()),
    };
    let kind = constraint.kind();
    let follower = Follower::loosely(&constraint).map_err(|_| Fault::Lacks(kind))?;
    let mut guard = Guard { follower, kind };
    guard.takes(begun)?;
    Ok((field, guard))
}

impl Guard {
    /// Takes the next piece of the answer.
    pub(super) fn takes(&mut self, text: &str) -> Result<(), Fault> {
        if self.follower.push(text) { Ok(()) } else { Err(Fault::Unmatched(self.kind)) }
    }

    /// Takes the end of an answer that the model ended.
    pub(super) fn ends(&mut self) -> Result<(), Fault> {
        if self.follower.is_whole() { Ok(()) } else { Err(Fault::Unmatched(self.kind)) }
    }
}

/// llama-server writes required properties before others; the others follow the schema.
fn required_first(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(required_first);
            let required = map.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                let all = std::mem::take(properties).into_iter();
                let (first, others): (Vec<_>, Vec<_>) =
                    all.partition(|(name, _)| required.contains(&json!(name)));
                properties.extend(first.into_iter().chain(others));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(required_first),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_match_is_told_where_it_begins() {
        let schema = json!({ "properties": { "a": { "type": "integer" }, "b": true }, "required": ["b"] });
        let constraint = Constraint::JsonSchema(schema.to_string());
        let ((name, field), mut guard) = constrained(&constraint, Kind::Other, "{\n").unwrap();
        let sent: Vec<&String> =
            field["json_schema"]["schema"]["properties"].as_object().unwrap().keys().collect();
        assert_eq!((name, sent), ("response_format", vec![&"b".to_string(), &"a".to_string()]));
        guard.takes("  \"b\" :").unwrap();
        assert!(guard.ends().is_err());
        guard.takes("\"\\u00e9\",\n\"a\": 1}\n").unwrap();
        guard.ends().unwrap();
        assert_eq!(guard.takes("Sure!").unwrap_err(), Fault::Unmatched("schema"));
    }

    #[test]
    fn only_llama_server_takes_grammars() {
        let grammar = Constraint::Grammar("root ::= \"a\"".into());
        assert_eq!(constrained(&grammar, Kind::Llama, "").unwrap().0, ("grammar", json!("root ::= \"a\"")));
        assert!(constrained(&grammar, Kind::Vllm, "").is_err());
    }
}
