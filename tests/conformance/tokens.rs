//! Schemas once more, with the tokens of real vocabularies instead of bytes: what is valid is forced token by token,
//! as a tokeniser would split it, and each token must be allowed.

use fireside::chat::Constraint;
use fireside::engine::constraint::{Allowed, Error, Tokens, check, matches};
use fireside::engine::model::Model;
use fireside::engine::token::Token;

use super::schemas::{MODELS, constraint, spellings, suite};
use super::{Row, conclude};
use crate::support::engine::{FLOAT_NOISE, Subject};
use crate::support::tiny;

pub(super) const CHECK: &str = "schema tokens";

/// The text after which these tokens are not allowed, or the whole if it must not end there.
fn masked(
    model: &impl Model,
    tokens: &Tokens,
    constraint: &Constraint,
    written: &[Token],
) -> Result<Option<String>, Error> {
    let mut matcher = tokens.matcher(constraint, "", &[], Vec::new())?;
    let so_far = |place: usize| {
        let bytes: Vec<u8> = written[..place].iter().flat_map(|token| model.piece(*token, false)).collect();
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    };
    for (place, token) in written.iter().enumerate() {
        match matcher.allowed(&[])? {
            Allowed::Tokens(allowed) if allowed.contains(token) => {}
            _ => return so_far(place),
        }
        matcher.take(*token)?;
    }
    match matcher.allowed(&[])? {
        Allowed::Tokens(allowed) if !allowed.iter().any(|token| model.ends(*token)) => so_far(written.len()),
        _ => Ok(None),
    }
}

/// The tokens of JSON text inside an answer: some vocabularies begin a text with a space of their own.
fn inside(model: &impl Model, text: &str) -> Vec<Token> {
    let tokens = model.tokenize(&format!("\n{text}"), false).into_iter();
    tokens.skip_while(|token| model.piece(*token, false).trim_ascii().is_empty()).collect()
}

#[test]
fn no_token_of_what_is_valid_is_masked() {
    let Some(suite) = suite() else { return };
    let mut texts: Vec<(&str, Constraint, String)> = Vec::new();
    for (keyword, groups) in &suite {
        for group in groups {
            let constraint = constraint(&group.schema);
            if check(&constraint).is_err() {
                continue;
            }
            for instance in group.tests.iter().filter(|instance| instance.valid) {
                let written = spellings(&instance.data).into_iter().filter(|text| matches(&constraint, text));
                texts.extend(written.map(|text| (keyword.as_str(), constraint.clone(), text)));
            }
        }
    }
    let (mut compared, mut differing) = (0, Vec::new());
    for name in MODELS {
        let subject = Subject::load(&tiny(name), FLOAT_NOISE);
        let model = subject.model();
        let tokens = Tokens::of(&model);
        for (keyword, constraint, text) in &texts {
            let written = inside(&model, text);
            let bytes: Vec<u8> = written.iter().flat_map(|token| model.piece(*token, false)).collect();
            compared += 1;
            let told = match masked(&model, &tokens, constraint, &written) {
                _ if bytes != text.as_bytes() => {
                    format!("the vocabulary writes {:?}", String::from_utf8_lossy(&bytes))
                }
                Ok(None) => continue,
                Ok(Some(so_far)) => format!("masked after {so_far:?}"),
                Err(error) => error.to_string(),
            };
            differing.push(format!("{name}, {keyword}: {text}: {told}"));
        }
    }
    let reference = "JSON-Schema-Test-Suite";
    conclude(Row { check: CHECK, reference, compared, differing, near_ties: None });
}
