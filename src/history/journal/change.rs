//! What happens to a conversation, one word of the journal each → what that makes of the database.

use serde::{Deserialize, Serialize};

use crate::chat::record::{Answer, Entry};
use crate::clock::now;
use crate::history::database::{Conversations, Number, Trouble};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Change {
    /// A conversation that is in the database already is followed from here on. Nothing is written.
    Turn {
        id: String,
        numbers: Vec<Number>,
    },
    Begin {
        id: String,
        title: String,
        system: Option<String>,
        model: Option<String>,
    },
    /// The parent is counted as the journal counts.
    Add(Entry),
    Update {
        place: usize,
        text: String,
        answer: Answer,
    },
    Head(Option<usize>),
    System(Option<String>),
    Title(String),
    Model(Option<String>),
    /// Has been overtaken by a later one.
    Overtaken,
}

/// How far the changes to a database have come.
#[derive(Debug, Clone, Default)]
pub(super) struct Applied {
    /// The conversation that is followed, and the numbers of its messages in the database.
    pub(super) id: String,
    pub(super) numbers: Vec<Number>,
    /// It is in no database any more: what belongs to it is given again after another beginning.
    pub(super) gone: bool,
}

impl Applied {
    /// Makes a change. Where it is made `again`, some of it may be there already.
    pub(super) fn apply(
        &mut self,
        store: &mut Conversations,
        change: &Change,
        again: bool,
    ) -> Result<(), Trouble> {
        let real = |place: &usize| self.numbers.get(*place).copied();
        match change {
            Change::Turn { id, numbers } => {
                *self = Applied { id: id.clone(), numbers: numbers.clone(), gone: false };
            }
            Change::Begin { id, title, system, model } => {
                if !(again && store.has(id)?) {
                    store.begin(id, title, system.as_deref(), model.as_deref(), now())?;
                }
                *self = Applied { id: id.clone(), ..Applied::default() };
            }
            _ if self.gone => {}
            Change::Add(entry) => {
                let parent = entry.parent.as_ref().and_then(real);
                let there = if again { store.find_message(&self.id, parent, entry)? } else { None };
                let number = match there {
                    Some(number) => number,
                    None => store.add(&self.id, parent, entry, now())?,
                };
                self.numbers.push(number);
            }
            Change::Update { place, text, answer } => {
                if let Some(number) = real(place)
                    && !(again && store.says_more(number, text)?)
                {
                    store.update(number, text, answer)?;
                }
            }
            Change::Head(head) => store.move_head(&self.id, head.as_ref().and_then(real))?,
            Change::System(system) => store.set_system(&self.id, system.as_deref())?,
            Change::Title(title) => store.set_title(&self.id, title)?,
            Change::Model(model) => store.set_model(&self.id, model.as_deref())?,
            Change::Overtaken => {}
        }
        Ok(())
    }
}
