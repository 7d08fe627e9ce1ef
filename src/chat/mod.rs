//! Conversations, messages, requests, events, settings: plain data for all other parts. Imports none of them.

pub mod id;
pub mod part;
pub mod message;
pub mod conversation;
pub mod settings;
pub mod record;
pub mod tree;
pub mod dropped;
pub mod request;
pub mod probability;
pub mod events;
pub mod truncation;
pub mod fences;
pub mod blocks;
pub mod language;
pub mod cost;

pub use conversation::Conversation;
pub use cost::Cost;
pub use dropped::Dropped;
pub use events::{Counts, DraftCounts, Event, Stats, StopReason};
pub use id::MessageId;
pub use message::{Message, Role};
pub use part::{Attachment, Part};
pub use probability::{Choice, TokenProbability};
pub use request::{Generation, Request, Score, Task};
pub use settings::Settings;
pub use truncation::TokenCount;
