//! What the config file, the environment and the command line say, collected: values, servers, aliases,
//! sections for models, and what is wrong.

use super::assignment::{Assignment, Source, Wrong, value_of, value_of_flag};
use super::models::{Alias, Section};
use super::servers::Server;

/// The values from all sources, lowest precedence first.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// Valid values only.
    pub assignments: Vec<Assignment>,
    pub wrong: Vec<Wrong>,
    pub servers: Vec<Server>,
    pub aliases: Vec<Alias>,
    pub sections: Vec<Section>,
}

impl Collected {
    /// Adds a value, or records why it is invalid. `called`: the setting's name as the user wrote it.
    pub(super) fn add(&mut self, given: Assignment, called: &str) {
        let read = if given.source == Source::Flag { value_of_flag } else { value_of };
        match read(given.setting, &given.value, called) {
            Ok(value) => self.assignments.push(Assignment { value, ..given }),
            Err(what) => self.wrong.push(Wrong { source: given.source, what, harmless: false }),
        }
    }
}
