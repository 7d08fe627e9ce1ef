//! Where a stream of thinking and answer is, and what leads on from there.

use crate::engine::prompt::format::{ANALYSIS, ThinkingFormat};

/// What reasoning.rs does with text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Only white space so far.
    Undecided,
    Thinking,
    /// Before the answer: white space is skipped.
    Before,
    Answer,
    /// Harmony: in the header of a message, up to `<|message|>`.
    Header,
    /// Harmony: between two messages.
    Between,
}

/// What the next token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The answer, or the tag that opens the thinking.
    Undecided,
    Thinking,
    /// The answer, or white space before it.
    Before,
    Answer,
    /// Harmony: the header of the first message.
    First,
    /// Harmony: a later header, from its role on.
    Role,
    /// Harmony: a header from its channel on.
    Channel,
    /// Harmony: between two messages.
    Between,
}

impl Phase {
    /// `role`: a header is still at its role.
    pub(super) fn stage(self, harmony: bool, role: bool) -> Stage {
        match self {
            Phase::Undecided if harmony => Stage::First,
            Phase::Undecided => Stage::Undecided,
            Phase::Thinking => Stage::Thinking,
            Phase::Before => Stage::Before,
            Phase::Answer => Stage::Answer,
            Phase::Header if role => Stage::Role,
            Phase::Header => Stage::Channel,
            Phase::Between => Stage::Between,
        }
    }
}

/// Texts that lead from a stage to the answer, or to the thinking before it. With tags there are none: the model
/// chooses whether to think.
pub fn leads(format: &ThinkingFormat) -> &'static [(Stage, &'static str)] {
    match format {
        ThinkingFormat::Tags { .. } => &[],
        ThinkingFormat::Harmony => &[
            (Stage::First, ANALYSIS),
            (Stage::Between, "<|start|>assistant<|channel|>final<|message|>"),
            (Stage::Role, "assistant<|channel|>final<|message|>"),
            (Stage::Channel, "final<|message|>"),
        ],
    }
}
