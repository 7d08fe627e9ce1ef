//! OpenAI's `logprobs` in a chunk → tokens with their log-probabilities.

use serde_json::Value;

use crate::chat::probability::{TokenLogprob, TokenProbability};

/// The tokens of a choice, with the `most` likeliest others of each; `None`: it tells none.
pub(super) fn tokens(choice: &Value, most: usize) -> Option<Vec<TokenProbability>> {
    let content = choice.pointer("/logprobs/content")?.as_array()?;
    content.iter().map(|entry| token(entry, most)).collect()
}

fn token(entry: &Value, most: usize) -> Option<TokenProbability> {
    let chosen = logprob(entry)?;
    let top = entry.get("top_logprobs").and_then(Value::as_array);
    let others = top.into_iter().flatten().filter_map(logprob);
    let others = others.filter(|other| (&other.bytes, other.token) != (&chosen.bytes, chosen.token));
    Some(TokenProbability { others: others.take(most).collect(), chosen, drawn: None })
}

/// llama-server also tells the id.
fn logprob(entry: &Value) -> Option<TokenLogprob> {
    let bytes = entry.get("bytes").and_then(Value::as_array);
    let bytes = bytes.and_then(|bytes| bytes.iter().map(|byte| byte.as_u64()?.try_into().ok()).collect());
    let text = || entry.get("token").and_then(Value::as_str).map(|text| text.as_bytes().to_vec());
    Some(TokenLogprob {
        token: entry.get("id").and_then(Value::as_i64).and_then(|id| id.try_into().ok()),
        bytes: bytes.or_else(text)?,
        logprob: entry.get("logprob")?.as_f64()?,
    })
}
