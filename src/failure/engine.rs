//! Engine errors → failures with remedies.

use super::{Exit, Failure, worded};
use crate::engine::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match &error {
            Error::Interrupted => Failure::interrupted(),
            Error::Template(_) => worded(&error, None)
                .hint("--chat-template chatml uses the built-in template, --chat-template FILE another one"),
            Error::EmptyPrompt => {
                worded(&error, None).hint("--chat-template chatml uses the built-in template, --raw none")
            }
            Error::TooLong { .. } => worded(&error, None).exit(Exit::TooLong),
            Error::Bias { token, vocabulary } => Failure::usage(format!(
                "--logit-bias: token {token} is not in the vocabulary of {vocabulary}"
            )),
            Error::Settings { given, why } => {
                let given: Vec<String> =
                    given.iter().map(|(name, value)| format!("--{name} {value}")).collect();
                Failure::usage(format!("this model does not go with {}: {why}", given.join(" and ")))
                    .hint("leave out one of them, or all: the defaults suit every model")
            }
            Error::NoRoom { .. } => worded(&error, None).hint(
                "close other programs, shorten the prompt, or use smaller data types for the KV cache: \
                 --cache-type-k q8_0 --cache-type-v q8_0",
            ),
            Error::Constraint(error) => error.clone().into(),
            Error::Worker(error) => error.clone().into(),
            Error::Llama(_) => worded(&error, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_as_they_were_typed() {
        let given = vec![("cache-type-k", "q8_0".to_string()), ("flash-attn", "off".to_string())];
        let failure = Failure::from(Error::Settings { given, why: "no".into() });
        let line = "this model does not go with --cache-type-k q8_0 and --flash-attn off: no";
        assert_eq!((failure.message.as_str(), failure.exit), (line, Exit::Usage));
        let failure = Failure::from(Error::Bias { token: 7, vocabulary: 5 });
        assert_eq!(failure.message, "--logit-bias: token 7 is not in the vocabulary of 5");
    }

    #[test]
    fn another_template_is_the_remedy_for_one_that_fails() {
        let failure = Failure::from(Error::Template("the chat template raised: no".into()));
        assert!(failure.hint.unwrap().contains("--chat-template chatml"));
    }
}
