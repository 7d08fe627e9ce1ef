//! Whether the next message takes a conversation to a server that has not seen it.

use super::Session;
use crate::settings::Server;

impl Session {
    /// The server that the next message goes to.
    pub fn server(&self) -> Option<Server> {
        self.model().host.as_ref()?;
        self.config.remote(&self.model_name()).map(|(_, server)| server)
    }

    /// The server that would see this conversation for the first time, unless the user has agreed: there are
    /// messages, and the last answer is not the server's.
    pub fn leaves_for(&self) -> Option<Server> {
        self.unless_known(self.server()?)
    }

    /// The same if the model of this name answers it.
    pub fn leaves_with(&self, model: &str) -> Option<Server> {
        self.unless_known(self.config.remote(model)?.1)
    }

    fn unless_known(&self, server: Server) -> Option<Server> {
        if self.conversation.has_only_examples() || self.agreed.as_ref() == Some(&self.going(&server)) {
            return None;
        }
        let path = self.conversation.path();
        let last = path.iter().rev().find_map(|entry| entry.answer.as_ref());
        let before = last.and_then(|record| self.config.remote(&record.path));
        let known = before.is_some_and(|(_, before)| before.url == server.url);
        (!known).then_some(server)
    }

    /// The user has agreed that this conversation goes to the server.
    pub fn agree(&mut self, server: &Server) {
        self.agreed = Some(self.going(server));
    }

    /// This conversation and a server.
    fn going(&self, server: &Server) -> (String, String) {
        (self.record_id(), server.url.clone())
    }
}
