//! A prompt that does not fit the context → remedies, the most likely first.

use super::{FailedTurn, Session};
use crate::chat::settings::CtxSize;
use crate::error::{Exit, Failure};

impl Session {
    /// Why there is no answer; for a prompt that is too long, with remedies for a chat or for a single answer.
    pub fn why(&self, failed: &FailedTurn, in_chat: bool) -> Failure {
        let failure = failed.failure.clone();
        if failure.exit != Exit::TooLong {
            return failure;
        }
        // The largest part of the message is the one to shorten.
        let attached = failed.message.as_ref().is_some_and(|message| {
            let files: usize = message.files().map(|file| file.text.len()).sum();
            files > message.text().len()
        });
        let model = self.model();
        let limited = matches!(self.settings().ctx_size, CtxSize::Tokens(_))
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
            "go on with a model with a longer context (/model)"
        } else {
            "use a model with a longer context"
        };
        let roll = failure.hint.clone();
        let remedies = match &roll {
            Some(roll) => vec![Some(roll.as_str()), limited.then_some(raise)],
            None => vec![limited.then_some(raise), Some(less), Some(other)],
        };
        failure.hint(remedies.into_iter().flatten().collect::<Vec<_>>().join(", or "))
    }
}
