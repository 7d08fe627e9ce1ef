//! Messages of the libraries → what they mean to the user.

/// The line of llguidance's message that says what is wrong.
pub(super) fn of_llguidance(text: &str) -> String {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find_map(|line| line.strip_prefix("error: ")).or_else(|| lines().next());
    let line = line.unwrap_or("it is not understood");
    let said = match (plainer(line, &LLGUIDANCE), line.split_once("Unsatisfiable schema: ")) {
        (Some(plain), _) => plain.to_string(),
        (None, Some((_, why))) => match why.strip_suffix(" is unsatisfiable") {
            Some(what) => format!("nothing matches it: nothing is allowed for its {what}"),
            None => format!("nothing matches it: {why}"),
        },
        (None, None) => line.to_string(),
    };
    said.chars().take(200).collect()
}

/// serde_json's error, with its place first.
pub(super) fn of_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let why = text.rsplit_once(" at line ").map_or(&*text, |(why, _)| why);
    format!("line {}, column {}: {}", error.line(), error.column(), plainer(why, &JSON).unwrap_or(why))
}

/// What the first part that is in a message means.
fn plainer<'p>(text: &str, parts: &[(&str, &'p str)]) -> Option<&'p str> {
    parts.iter().find(|(part, _)| text.contains(part)).map(|(_, plain)| *plain)
}

pub(super) const INNER_ANCHORS: &str = "anchors and word boundaries (^, $, \\b) inside it are not supported";

const LLGUIDANCE: [(&str, &str); 18] = [
    ("NoExtensionBias", "it matches no text"),
    ("lookarounds not supported", INNER_ANCHORS),
    (
        "oneOf constraints are not",
        "oneOf: a value might match two of its schemas; use anyOf, or tell them apart, as by a const property",
    ),
    (
        "min/maxProperties only",
        "minProperties and maxProperties are not supported beside optional properties; use 'required'",
    ),
    ("are not disjoint", "two of its patternProperties might match the same name"),
    ("can't determine if patternProperty", "two of its patternProperties might match the same name"),
    ("circular references with sibling", "a $ref to a schema around it can have no other keywords beside it"),
    ("Schema intersection stack level", "the schemas that apply to one value are nested too deeply"),
    ("schema is false", "nothing matches it: it is false"),
    ("incompatible types", "nothing matches it: its keywords demand different types"),
    ("Regex is empty", "nothing matches it: no text of this length matches its pattern"),
    ("Unable to determine if regex is empty", "its pattern, format and length are too complex together"),
    ("Current row has", "too many alternatives are possible at one place"),
    ("too many expressions", "too many alternatives are possible at one place"),
    ("has too many digits", "its multipleOf has too many digits"),
    ("schema too large", TOO_LARGE),
    ("too big", TOO_LARGE),
    ("fuel", TOO_LARGE),
];
const TOO_LARGE: &str = "it is too large: it has too many parts";

const JSON: [(&str, &str); 9] = [
    ("recursion limit", "it is nested deeper than 127 levels"),
    ("EOF while parsing", "the text ends before the JSON does"),
    ("trailing characters", "something follows the end of the JSON"),
    ("key must be a string", "the name of a property must stand in double quotes"),
    ("expected value", "no value begins here; texts stand in double quotes"),
    ("expected ident", "neither true, false nor null"),
    ("control character", "a line break or control character in a text must be written with a backslash"),
    ("trailing comma", "a comma before the end"),
    ("invalid escape", "there is no such escape"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_errors_have_a_place() {
        let why = |text: &str| of_json(&serde_json::from_str::<serde_json::Value>(text).unwrap_err());
        assert_eq!(why("{\n \"a\": tru }"), "line 2, column 10: neither true, false nor null");
        assert_eq!(why("{'a': 1}"), "line 1, column 2: the name of a property must stand in double quotes");
        assert_eq!(why("[1,]"), "line 1, column 4: a comma before the end");
        assert!(why(&"[".repeat(500)).ends_with("nested deeper than 127 levels"));
        assert!(why("{\"a\"").ends_with("the text ends before the JSON does"));
    }

    #[test]
    fn the_reason_of_a_contradiction_is_kept() {
        let said = "Unsatisfiable schema: minLength (5) is greater than maxLength (2)\n  while processing #";
        assert_eq!(of_llguidance(said), "nothing matches it: minLength (5) is greater than maxLength (2)");
    }
}
