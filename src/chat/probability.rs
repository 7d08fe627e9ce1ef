//! Probabilities of tokens and of whole texts, as natural logarithms: plain data.

use serde_json::{Value, json};

/// A token and its log-probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// `None`: the server does not tell.
    pub token: Option<i32>,
    /// Its bytes, perhaps part of a character; a control token is spelled out.
    pub bytes: Vec<u8>,
    /// 0 or less; -∞: it cannot occur.
    pub logprob: f64,
}

impl TokenLogprob {
    /// Its text; bytes that are not whole characters are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A token of a text, with the likeliest others in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenProbability {
    /// By the model's own distribution, before the sampler chain.
    pub chosen: TokenLogprob,
    /// The likeliest first.
    pub others: Vec<TokenLogprob>,
    /// After the sampler chain: the same token and others, by the distribution from which it was drawn. `None`:
    /// it was not drawn, or the backend does not know.
    pub drawn: Option<(f64, Vec<TokenLogprob>)>,
}

impl TokenLogprob {
    fn to_json(&self) -> Value {
        json!({ "token": self.token, "text": self.text(), "bytes": self.bytes, "logprob": self.logprob })
    }
}

impl TokenProbability {
    /// As the programs that read our JSON know it; an infinite logarithm is null.
    pub fn to_json(&self) -> Value {
        let all = |others: &[TokenLogprob]| others.iter().map(TokenLogprob::to_json).collect::<Value>();
        let mut object = self.chosen.to_json();
        object["others"] = all(&self.others);
        object["after_samplers"] = self
            .drawn
            .as_ref()
            .map_or(Value::Null, |(logprob, others)| json!({ "logprob": logprob, "others": all(others) }));
        object
    }
}

/// One of several given answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub text: String,
    /// Of the whole text and the end of the turn.
    pub logprob: f64,
    /// Its share among the choices.
    pub probability: f64,
}

/// Choices with these log-probabilities, and their shares.
pub fn choices(texts: &[String], logprobs: &[f64]) -> Vec<Choice> {
    let most = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weight = |logprob: f64| if most.is_finite() { (logprob - most).exp() } else { 1.0 };
    let all: f64 = logprobs.iter().map(|logprob| weight(*logprob)).sum();
    let choice = |(text, logprob): (&String, &f64)| Choice {
        text: text.clone(),
        logprob: *logprob,
        probability: weight(*logprob) / all,
    };
    texts.iter().zip(logprobs).map(choice).collect()
}

/// The place of the likeliest choice; the first of equals.
pub fn likeliest(choices: &[Choice]) -> Option<usize> {
    let most = choices.iter().map(|choice| choice.logprob).fold(f64::NEG_INFINITY, f64::max);
    choices.iter().position(|choice| choice.logprob == most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_the_first_of_equals_wins() {
        let texts = ["a", "b", "c"].map(String::from);
        let found = choices(&texts, &[-1000.0, -1000.0 - 3_f64.ln(), f64::NEG_INFINITY]);
        assert!((found[0].probability - 0.75).abs() < 1e-12 && found[2].probability == 0.0);
        assert_eq!(likeliest(&found), Some(0));
        assert_eq!(likeliest(&choices(&texts, &[-2.0, -1.0, -1.0])), Some(1));
        assert_eq!(choices(&texts, &[f64::NEG_INFINITY; 3])[1].probability, 1.0 / 3.0);
    }
}
