//! Failures as users see them: one line, a hint if there is a remedy, and an exit code.

use std::fmt;

/// The program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Answered; also if the user's own limit ended the answer.
    Answered = 0,
    /// Something failed.
    Failed = 1,
    /// Wrong command line or setting, or no prompt.
    Usage = 2,
    /// The prompt does not fit the context.
    TooLong = 3,
    /// The answer was cut off: context full, default length limit, endless repetition, nothing but thinking.
    Cut = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// All exit codes with their meanings.
    pub const ALL: [(Exit, &str); 6] = [
        (Exit::Answered, "answered; also if your own -n ended the answer"),
        (Exit::Failed, "failed; also if doctor, check or history replay found a problem"),
        (Exit::Usage, "wrong command line or setting, or no prompt"),
        (Exit::TooLong, "the prompt does not fit the context"),
        (
            Exit::Cut,
            "the answer was cut off: context full, fireside's default limit, endless repetition, or nothing but thinking",
        ),
        (Exit::Interrupted, "interrupted (Ctrl-C)"),
    ];
}

/// A failure: line, hint, exit code.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Failed, message: message.into(), hint: None }
    }

    /// The command line or a setting is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Usage, ..Failure::new(message) }
    }

    /// The user stopped it.
    pub fn interrupted() -> Failure {
        Failure { exit: Exit::Interrupted, ..Failure::new("interrupted") }
    }

    pub fn exit(mut self, exit: Exit) -> Failure {
        self.exit = exit;
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<anyhow::Error> for Failure {
    /// Takes the exit code and hint of a failure in the chain; the message is the whole chain on one line.
    fn from(error: anyhow::Error) -> Failure {
        let message = format!("{error:#}").replace('\n', " ");
        let inner = error.chain().find_map(|e| e.downcast_ref::<Failure>()).cloned();
        Failure { message: message.clone(), ..inner.unwrap_or(Failure::new(message)) }
    }
}
