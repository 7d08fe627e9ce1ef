//! Session errors → failures with remedies. For a prompt that does not fit, the likeliest remedy comes first.

use super::{Exit, Failure, usage, worded};
use crate::chat::Message;
use crate::chat::settings::CtxSize;
use crate::session::{Error, Session};

/// The remedy for a conversation that does not fit the context.
const DROPPING: &str =
    "--overflow roll drops the oldest messages from the model's view, compact summarises them first";

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let hint = match error {
            Error::Interrupted => return Failure::interrupted(),
            Error::Backend(error) => return error.into(),
            Error::Model(error) => return error.into(),
            Error::Settings(error) => return error.into(),
            Error::AtStart(_) => return usage(&error),
            Error::TooLong { error, droppable } => {
                return Failure { hint: droppable.then(|| DROPPING.into()), ..error.into() };
            }
            Error::NothingToCompare => Some("/compare adds a second answer to a message that has one".into()),
            Error::ContinuesText(_) => Some("write the beginning at the end of your message".into()),
            Error::Thinks(_) => Some("/set think off, if the model can do without".into()),
            Error::NotCut => Some("/retry gets another one".into()),
            Error::NoModel { ref path, .. } => Some(format!("the file was {path}; -m says where it is now")),
            Error::OtherModel(_) => {
                Some("-m says which file is meant, also if it was moved or copied".into())
            }
            Error::Hidden(_)
            | Error::NoAnswer
            | Error::NothingToAnswer
            | Error::CannotContinue(_)
            | Error::NothingToContinue
            | Error::NoSummary(_)
            | Error::NotReplayable(_) => None,
        };
        worded(&error, hint)
    }
}

/// The failure to answer `message`. A prompt that is too long gets remedies for the mode.
pub fn why(error: Error, message: Option<&Message>, session: &Session, in_chat: bool) -> Failure {
    let failure = Failure::from(error);
    if failure.exit != Exit::TooLong {
        return failure;
    }
    // The largest part of the message is the one to shorten.
    let attached = message.is_some_and(|message| {
        let files: usize = message.files().map(|file| file.text.len()).sum();
        files > message.text().len()
    });
    let model = session.model();
    let limited = model.host.is_none()
        && matches!(session.settings().ctx_size, CtxSize::Tokens(_))
        && model.trained_context.is_none_or(|trained| model.context_limit < trained);
    let raise = if in_chat { "raise the context with /set ctx-size" } else { "raise --ctx-size" };
    let less = match (attached, in_chat) {
        (true, true) => {
            "take the file back with /file none (Ctrl-C empties the line first) and attach a part of it"
        }
        (true, false) => "give it a part of the file",
        (false, _) => "shorten the prompt",
    };
    let other = if in_chat {
        "switch to a model with a longer context (/model)"
    } else {
        "use a model with a longer context"
    };
    let dropping = failure.hint.clone();
    let remedies = match &dropping {
        Some(dropping) => vec![Some(dropping.as_str()), limited.then_some(raise)],
        None => vec![limited.then_some(raise), Some(less), Some(other)],
    };
    failure.hint(remedies.into_iter().flatten().collect::<Vec<_>>().join(", or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{backend, engine};

    #[test]
    fn dropping_is_offered_where_it_would_help() {
        let too_long = |droppable| {
            let error = backend::Error::Engine(engine::Error::TooLong { prompt: 5, limit: 4 });
            Failure::from(Error::TooLong { error, droppable })
        };
        assert!(too_long(true).hint.unwrap().contains("--overflow roll"));
        assert_eq!((too_long(false).exit, too_long(false).hint), (Exit::TooLong, None));
    }
}
