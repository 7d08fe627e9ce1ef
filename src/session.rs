//! A session: a conversation with its settings and its backend. Each turn is saved; after a failed one the
//! head is where it was before, and the message stays in the tree.
//!
//! The chat, single answers and `-i` all use it, so that a turn is the same everywhere.

mod beginning;
mod compare;
mod error;
mod keeping;
mod leaving;
mod replay;
mod score;
mod truncate;
mod turn;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::crash_mark;
use crate::backend::{Backend, BackendEvent, Description, Inspect, Rendered};
use crate::chat::settings::Overflow;
use crate::chat::truncation;
use crate::chat::{
    Attachment, Conversation, Cost, Counts, Dropped, Event, Message, MessageId, Request, Role, Settings, Task,
};
use crate::history::database::fresh_id;
use crate::history::journal::{Heading, Journal};
use crate::models;
use crate::settings::{Config, Effect, SETTINGS, Setting, TakenRole};

pub use self::compare::SecondModel;
pub use self::error::Error;
pub use self::replay::{Difference, Replay, ReplayResult};
pub use self::score::Scored;
use self::turn::empty_answer;
pub use self::turn::{Answer, FailedTurn};

/// The default token limit of an answer in a chat: the context alone.
pub const NO_LIMIT: u32 = u32::MAX;
/// How long to wait for an event before calling the watcher.
const PATIENCE: Duration = Duration::from_millis(20);

/// Shortest prefill whose result is worth waiting for.
const WORTH_KEEPING: Duration = Duration::from_millis(30);
/// How long to wait for the prompt cache, at most.
const MOST_FLUSHING: Duration = Duration::from_secs(5);

/// A backend that is ready to start, and the settings with its model's recommendations.
pub struct ReadyModel {
    pub start: Box<dyn FnOnce() -> Box<dyn Backend>>,
    pub config: Config,
}

/// Options of a session besides its settings.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The system prompt of a new conversation.
    pub system: Option<String>,
    /// Complete text instead of chatting.
    pub raw: bool,
    /// With `raw`: parse control tokens in the text.
    pub special: bool,
    /// Token limit of an answer if the settings have none.
    pub default_predict: u32,
    /// What to do when the context is full, if the settings do not say; `None`: fail, so that the chat can
    /// ask the user.
    pub default_overflow: Option<Overflow>,
    /// Whether prompts may be saved in the prompt cache.
    pub prompt_cache: bool,
    /// What to do with each message.
    pub task: Task,
    /// Tell the probability of each token, and this many of the likeliest others.
    pub logprobs: Option<usize>,
}

impl Default for SessionOptions {
    /// The options of a chat.
    fn default() -> SessionOptions {
        SessionOptions {
            system: None,
            raw: false,
            special: false,
            default_predict: NO_LIMIT,
            default_overflow: None,
            prompt_cache: true,
            task: Task::Answer,
            logprobs: None,
        }
    }
}

/// Called with every event, and with `None` from time to time; decides whether to continue.
pub type OnEvent<'a> = &'a mut dyn FnMut(Option<&Event>) -> ControlFlow<()>;

/// Finds a model by its name, or by its path.
pub type ModelOpener = fn(&Config, &str) -> Result<ReadyModel, Error>;

pub struct Session {
    conversation: Conversation,
    config: Config,
    options: SessionOptions,
    backend: Box<dyn Backend>,
    last: Option<Answer>,
    /// Do not prefill ahead: fireside was killed when it last evaluated this conversation.
    prefill_disabled: bool,
    /// Saves the conversation; `None`: it is not saved.
    journal: Option<Journal>,
    /// The title; `None`: from the first message.
    title: Option<String>,
    /// The id of an unsaved conversation.
    id: String,
    /// The last answer and its request.
    answered: Option<(MessageId, Request)>,
    /// The conversation that the user agreed to send to a server, and the server's URL.
    agreed: Option<(String, String)>,
    /// The user's beginning of the next answer.
    beginning: Option<String>,
}

impl Session {
    /// Starts the backend, which begins loading the model at once.
    pub fn new(ready: ReadyModel, mut options: SessionOptions) -> Session {
        let mut conversation = Conversation::new(options.system.take());
        if let Some(role) = ready.config.role() {
            conversation.begin_with(&role.examples);
        }
        Session {
            conversation,
            config: ready.config,
            options,
            backend: (ready.start)(),
            last: None,
            prefill_disabled: false,
            journal: None,
            title: None,
            id: fresh_id(),
            answered: None,
            agreed: None,
            beginning: None,
        }
    }

    pub fn model(&self) -> &Description {
        self.backend.describe()
    }

    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// The configuration with the model's recommendations.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn settings(&self) -> &Settings {
        self.config.settings()
    }

    /// The last answer.
    pub fn last(&self) -> Option<&Answer> {
        self.last.as_ref()
    }

    /// Changes the system prompt from the next message on.
    pub fn set_system(&mut self, system: Option<String>) {
        self.conversation.system = system;
    }

    /// Keeps the prompts of the next answers out of the prompt cache.
    pub fn bypass_prompt_cache(&mut self) {
        self.options.prompt_cache = false;
    }

    /// Begins a new conversation with the same settings.
    pub fn clear(&mut self) {
        self.conversation = Conversation::new(self.conversation.system.take());
        self.begin_with_examples();
        (self.title, self.id) = (None, fresh_id());
        self.last = None;
        (self.answered, self.beginning) = (None, None);
        let about = Heading { model: Some(self.model_name()), ..Heading::default() };
        if let Some(journal) = &mut self.journal {
            journal.turn_to(about, &self.conversation);
        }
    }

    fn begin_with_examples(&mut self) {
        self.conversation.begin_with(self.config.role().map_or(&[], |role| &role.examples));
    }

    /// Waits for the prompt cache to save the last prompt, at most as long as its prefill took: what would take
    /// longer to write is not saved.
    pub fn flush(&mut self) {
        let reading = self.last.as_ref().map_or(Duration::ZERO, |answer| answer.stats.prompt);
        if reading >= WORTH_KEEPING
            && let Some(inspect) = self.backend.inspect()
        {
            inspect.flush(reading.min(MOST_FLUSHING));
        }
    }

    /// For a resumed conversation. `true`: fireside was killed when it last evaluated this conversation, so
    /// nothing is prefilled ahead until the next answer.
    pub fn disable_prefill_if_killed(&mut self, id: &str) -> bool {
        let folder = self.config.paths.as_ref().map(|paths| &paths.working);
        self.prefill_disabled = folder.is_some_and(|folder| crash_mark::was_killed(folder, id));
        self.prefill_disabled
    }

    /// Prefills ahead while the user types a message with these attached files.
    pub fn prepare(&mut self, attached: &[Attachment]) {
        if self.prefill_disabled {
            return;
        }
        let request = self.request(self.conversation.view(), empty_answer());
        let next = Message::new(Role::User, "").with_files(attached.to_vec());
        self.backend.prepare(request, next.with_headers(self.settings().file_header));
    }

    /// The tokens of the conversation with `next` at its end; estimated if the backend counts none.
    pub fn count(&mut self, next: Option<&Message>) -> Result<Counts, Error> {
        let request = self.next_request(next);
        if self.model().host.is_none() || self.shows_itself() {
            return Ok(self.inspect()?.count(request)?);
        }
        let prompt = truncation::estimate(&request.visible()).iter().map(|count| count.tokens).sum();
        let limit = self.model().context_limit;
        Ok(Counts { prompt, cached: 0, limit, prefill: None, estimated: true })
    }

    /// What `next` costs more than `before` at the end of the conversation.
    pub fn cost(&mut self, before: &Message, next: &Message) -> Result<Cost, Error> {
        Ok(Cost::between(self.count(Some(before))?, self.count(Some(next))?))
    }

    /// The tokens of each file of a message; estimated if the backend counts none.
    pub fn file_tokens(&mut self, message: &Message) -> Result<Vec<usize>, Error> {
        let alone = |file: &Attachment| Arc::new(Message::new(Role::User, "").with_files([file.clone()]));
        let messages: Vec<Arc<Message>> = message.files().map(alone).collect();
        let counts = match self.model().host.is_none() || self.shows_itself() {
            true => self.inspect()?.token_counts(messages)?,
            false => truncation::estimate(&messages),
        };
        Ok(counts.into_iter().map(|count| count.attached).collect())
    }

    /// Whether the backend may see the conversation, and gives access to prompts and tokens.
    fn shows_itself(&mut self) -> bool {
        self.leaves_for().is_none() && self.backend.inspect().is_some()
    }

    /// The approximate tokens of each message on the path, with the system prompt, if any, first; and which
    /// of the other messages were dropped.
    pub fn token_counts(&mut self) -> Result<(Vec<usize>, Dropped), Error> {
        let request = self.next_request(None);
        let counts = match self.model().host.is_none() || self.shows_itself() {
            true => self.inspect()?.token_counts(request.messages)?,
            false => truncation::estimate(&request.messages),
        };
        Ok((counts.into_iter().map(|count| count.tokens).collect(), request.dropped))
    }

    /// The prompt with `next` at the end of the conversation.
    pub fn render(&mut self, next: Option<&Message>) -> Result<Rendered, Error> {
        let request = self.next_request(next);
        Ok(self.inspect()?.render(request)?)
    }

    /// The prompt of the answer at the head; without an answer, the prompt of the next request.
    pub fn render_last(&mut self) -> Result<Rendered, Error> {
        let request = self.request_of_last();
        Ok(self.inspect()?.render(request)?)
    }

    /// The request of the answer at the head; without an answer, the next request.
    fn request_of_last(&self) -> Request {
        match &self.answered {
            Some((answer, request)) if Some(*answer) == self.conversation.head() => request.clone(),
            _ => {
                let mut messages = self.conversation.view();
                messages.pop_if(|message| message.role == Role::Assistant);
                self.request(messages, empty_answer())
            }
        }
    }

    /// The backend's access to prompts and tokens; an error if it has none.
    fn inspect(&mut self) -> Result<&mut dyn Inspect, Error> {
        let hidden = Error::Hidden(self.model().name.clone());
        if self.leaves_for().is_some() {
            return Err(hidden); // the server has not seen the conversation, and may not yet
        }
        let Session { backend, .. } = self;
        backend.inspect().ok_or(hidden)
    }

    fn next_request(&self, next: Option<&Message>) -> Request {
        let messages = self.conversation.view().into_iter().chain(next.cloned().map(Arc::new));
        self.request(messages.collect(), empty_answer())
    }

    /// Changes a setting; reloads the model if the setting needs it.
    pub fn set(
        &mut self,
        row: &'static Setting,
        value: Option<&str>,
        open: ModelOpener,
        watch: OnEvent,
    ) -> Result<(), Error> {
        if row.effect == Effect::Start {
            return Err(Error::AtStart(row.name));
        }
        let mut config = self.config.clone();
        config.set(row, value)?;
        if row.effect == Effect::Reload {
            return self.change_model(&self.model_name(), &config, open, watch);
        }
        self.config = config;
        Ok(())
    }

    /// Takes a role instead of the one before, or none; loads a model if the role needs it. The system prompt
    /// is the caller's. If that fails, nothing has changed.
    pub fn take_role(
        &mut self,
        role: Option<TakenRole>,
        open: ModelOpener,
        watch: OnEvent,
    ) -> Result<(), Error> {
        let config = self.config.with_role_in_chat(role);
        let model = config.role_model().filter(|model| !self.is_running(&config, model));
        let differs = |row: &&Setting| (row.get)(config.settings()) != (row.get)(self.settings());
        let reloads = SETTINGS.iter().filter(|row| row.effect == Effect::Reload).any(|row| differs(&row));
        match model {
            Some(model) => self.change_model(model, &config, open, watch)?,
            None if reloads => self.change_model(&self.model_name(), &config, open, watch)?,
            None => self.config = config,
        }
        self.begin_with_examples();
        Ok(())
    }

    fn is_running(&self, config: &Config, wanted: &str) -> bool {
        let path = self.model().path.as_ref();
        path.is_some_and(|path| models::find(config, wanted).as_ref() == Ok(path))
            || self.model_name() == wanted
    }

    /// The model as `-m` takes it anywhere: its path, which begins in no current folder, or its name.
    pub fn model_name(&self) -> String {
        let model = self.model();
        let whole = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        model.path.as_ref().map_or(model.name.clone(), |path| whole(path).display().to_string())
    }

    /// Switches to the model `wanted` with the settings of `config`. If that fails, the old model stays.
    pub fn change_model(
        &mut self,
        wanted: &str,
        config: &Config,
        open: ModelOpener,
        watch: OnEvent,
    ) -> Result<(), Error> {
        match open(config, wanted) {
            Err(error) if !error.lacks_memory() => return Err(error),
            _ => {} // what the old model takes still counts
        }
        let old = self.model_name();
        self.backend.close(); // before loading the new one: both might not fit into memory
        let changed = open(config, wanted).and_then(|ready| {
            self.backend = (ready.start)();
            self.wait_until_loaded(watch).map(|()| ready.config)
        });
        match changed {
            Ok(config) => self.config = config,
            Err(error) => {
                self.backend.close();
                self.reopen(&old, open)?;
                return Err(error);
            }
        }
        let model = self.model_name();
        self.journal.iter_mut().for_each(|journal| journal.set_model(Some(model.clone())));
        Ok(())
    }

    /// Opens the model of this name after it was closed.
    fn reopen(&mut self, name: &str, open: ModelOpener) -> Result<(), Error> {
        self.backend = (open(&self.config, name)?.start)();
        Ok(())
    }

    /// Waits until the model is loaded.
    pub fn wait_until_loaded(&mut self, watch: OnEvent) -> Result<(), Error> {
        let loading = self.backend.load();
        loop {
            let event = match loading.next(PATIENCE) {
                Some(BackendEvent::Ready) => return Ok(()),
                Some(BackendEvent::Done(done)) => return Ok(done.map(|_| ())?),
                Some(BackendEvent::Progress(event)) => Some(event),
                None => None,
            };
            if watch(event.as_ref()).is_break() {
                loading.cancel();
                return Err(Error::Interrupted);
            }
        }
    }
}
