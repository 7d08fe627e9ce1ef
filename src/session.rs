//! A conversation being held: its messages, its settings and who answers. One turn at a time, kept or rolled back.
//!
//! The chat, one-shot runs and `-i` all ask through here, so that they cannot differ in what a turn means.

mod keeping;
mod replay;
mod room;
mod truncate;
mod turn;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::working;
use crate::backend::{Backend, BackendEvent, Description, Inspect, Rendered};
use crate::chat::settings::Overflow;
use crate::chat::{
    Attachment, Conversation, Counts, Dropped, Event, Message, MessageId, Request, Role, Settings,
};
use crate::error::Failure;
use crate::history::database::fresh_id;
use crate::history::journal::{Heading, Journal};
use crate::settings::{Config, Effect, Setting};

pub use self::replay::{Again, Difference, Replay};
use self::turn::empty_answer;
pub use self::turn::{Answer, FailedTurn};

/// Most tokens of an answer in a chat: none of our own, the context ends it.
pub const NO_LIMIT: u32 = u32::MAX;
/// How long to wait for an event before asking whether to go on.
const PATIENCE: Duration = Duration::from_millis(20);

/// Nothing of what took less to read is kept.
const WORTH_KEEPING: Duration = Duration::from_millis(30);
/// How long to wait until something is kept, as a share of the time that reading it took.
const FLUSHING: f64 = 0.2;
const MOST_FLUSHING: Duration = Duration::from_secs(5);

/// A backend that can be started, and the settings with its model's advice.
pub struct Candidate {
    pub start: Box<dyn FnOnce() -> Box<dyn Backend>>,
    pub config: Config,
}

/// How a session asks, apart from what its settings say.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The system prompt of a new conversation.
    pub system: Option<String>,
    /// Complete text instead of chatting.
    pub raw: bool,
    /// With `raw`: parse control tokens in the text.
    pub special: bool,
    /// Most tokens of an answer where the settings have no limit.
    pub default_predict: u32,
    /// What to do where the settings leave open what happens when the context is full; `None`: fail, so that the user can
    /// be asked.
    pub default_overflow: Option<Overflow>,
    /// Evaluated prompts may stay on disk.
    pub prompt_cache: bool,
}

impl Default for SessionOptions {
    /// A chat's.
    fn default() -> SessionOptions {
        SessionOptions {
            system: None,
            raw: false,
            special: false,
            default_predict: NO_LIMIT,
            default_overflow: None,
            prompt_cache: true,
        }
    }
}

/// Sees every event, and `None` now and then; decides whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Option<&Event>) -> ControlFlow<()>;

/// Finds a model by its name.
pub type Opener = fn(&Config, &str) -> Result<Candidate, Failure>;

pub struct Session {
    conversation: Conversation,
    config: Config,
    options: SessionOptions,
    backend: Box<dyn Backend>,
    last: Option<Answer>,
    /// Nothing is read before it is asked for: the program was ended when it last read or answered this conversation.
    prefill_disabled: bool,
    /// Keeps the conversation on disk; `None`: it is kept nowhere.
    journal: Option<Journal>,
    /// What the conversation is called; `None`: as it begins.
    title: Option<String>,
    /// Its id as long as it is kept nowhere.
    id: String,
    /// The answer that was given last, and the request for it.
    answered: Option<(MessageId, Request)>,
}

impl Session {
    /// Starts the backend, which begins to load at once.
    pub fn new(candidate: Candidate, mut options: SessionOptions) -> Session {
        Session {
            conversation: Conversation::new(options.system.take()),
            config: candidate.config,
            options,
            backend: (candidate.start)(),
            last: None,
            prefill_disabled: false,
            journal: None,
            title: None,
            id: fresh_id(),
            answered: None,
        }
    }

    pub fn model(&self) -> &Description {
        self.backend.describe()
    }

    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// With the model's advice.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub fn settings(&self) -> &Settings {
        self.config.settings()
    }

    /// The answer that was given last.
    pub fn last(&self) -> Option<&Answer> {
        self.last.as_ref()
    }

    /// Tells the model something else before the conversation, from the next message on.
    pub fn set_system(&mut self, system: Option<String>) {
        self.conversation.system = system;
    }

    /// Leaves nothing of the next answers' prompts on disk.
    pub fn bypass_prompt_cache(&mut self) {
        self.options.prompt_cache = false;
    }

    /// Begins a new conversation with the same settings.
    pub fn clear(&mut self) {
        self.conversation = Conversation::new(self.conversation.system.take());
        (self.title, self.id) = (None, fresh_id());
        self.last = None;
        self.answered = None;
        let about = Heading { model: Some(self.model_name()), ..Heading::default() };
        if let Some(journal) = &mut self.journal {
            journal.turn_to(about, &self.conversation);
        }
    }

    /// Waits until what was evaluated is kept for the next time: for a small part of the time that reading it took.
    pub fn flush(&mut self) {
        let reading = self.last.as_ref().map_or(Duration::ZERO, |answer| answer.stats.prompt);
        if reading >= WORTH_KEEPING
            && let Some(inspect) = self.backend.inspect()
        {
            inspect.flush(reading.mul_f64(FLUSHING).min(MOST_FLUSHING));
        }
    }

    /// From now on deals with a kept conversation. `true`: the program was ended when it last read or answered it, so that
    /// nothing of it is read ahead until an answer was given.
    pub fn disable_prefill_if_killed(&mut self, id: &str) -> bool {
        let folder = self.config.paths.as_ref().map(|paths| &paths.working);
        self.prefill_disabled = folder.is_some_and(|folder| working::was_killed(folder, id));
        self.prefill_disabled
    }

    /// Reads ahead while the user types a message that these files go with.
    pub fn prepare(&mut self, attached: &[Attachment]) {
        if self.prefill_disabled {
            return;
        }
        let request = self.request(self.conversation.view(), empty_answer());
        let next = Message::new(Role::User, "").with_files(attached.to_vec());
        self.backend.prepare(request, next.with_headers(self.settings().file_header));
    }

    /// What the conversation takes of the context, with `next` said at its end.
    pub fn count(&mut self, next: Option<&Message>) -> Result<Counts, Failure> {
        let request = self.next_request(next);
        self.inspect()?.count(request)
    }

    /// About how many tokens each message of the path takes, the system prompt first if there is one, and how many of the
    /// others the model no longer sees.
    pub fn token_counts(&mut self) -> Result<(Vec<usize>, Dropped), Failure> {
        let request = self.next_request(None);
        let counts = self.inspect()?.token_counts(request.messages)?;
        Ok((counts.into_iter().map(|count| count.tokens).collect(), request.dropped))
    }

    /// What the model would be given, with `next` said at its end.
    pub fn render(&mut self, next: Option<&Message>) -> Result<Rendered, Failure> {
        let request = self.next_request(next);
        self.inspect()?.render(request)
    }

    /// What the model was given for the answer at the head, or what it would be given now if there is none.
    pub fn render_last(&mut self) -> Result<Rendered, Failure> {
        let head = self.conversation.head();
        let request = match &self.answered {
            Some((answer, request)) if Some(*answer) == head => request.clone(),
            _ => {
                let mut messages = self.conversation.view();
                messages.pop_if(|message| message.role == Role::Assistant);
                self.request(messages, empty_answer())
            }
        };
        self.inspect()?.render(request)
    }

    /// The backend's prompts and tokens, or why they cannot be had.
    fn inspect(&mut self) -> Result<&mut dyn Inspect, Failure> {
        let Session { backend, .. } = self;
        let hidden =
            format!("{} does not show its prompts and counts no tokens ahead", backend.describe().name);
        backend.inspect().ok_or_else(|| Failure::new(hidden))
    }

    fn next_request(&self, next: Option<&Message>) -> Request {
        let messages = self.conversation.view().into_iter().chain(next.cloned().map(Arc::new));
        self.request(messages.collect(), empty_answer())
    }

    /// Changes a setting from now on; loads the model again where the setting needs that.
    pub fn set(
        &mut self,
        row: &'static Setting,
        value: Option<&str>,
        open: Opener,
        watch: Watch,
    ) -> Result<(), Failure> {
        if row.effect == Effect::Start {
            return Err(Failure::usage(format!("{} can only be given when fireside starts", row.name)));
        }
        let mut config = self.config.clone();
        config.set(row, value)?;
        if row.effect == Effect::Reload {
            return self.change_model(&self.model_name(), &config, open, watch);
        }
        self.config = config;
        Ok(())
    }

    /// As `-m` takes it.
    pub fn model_name(&self) -> String {
        let model = self.model();
        model.path.as_ref().map_or(model.name.clone(), |p| p.display().to_string())
    }

    /// Goes on with the model called `wanted`, run as `config` says. If it cannot be used, the old one stays.
    pub fn change_model(
        &mut self,
        wanted: &str,
        config: &Config,
        open: Opener,
        watch: Watch,
    ) -> Result<(), Failure> {
        let candidate = open(config, wanted)?;
        let old = self.model_name();
        self.backend.close(); // before the new one is loaded: both may not fit
        self.backend = (candidate.start)();
        if let Err(failure) = self.wait_until_loaded(watch) {
            self.backend.close();
            self.backend = (open(&self.config, &old)?.start)();
            return Err(failure);
        }
        self.config = candidate.config;
        let model = self.model_name();
        self.journal.iter_mut().for_each(|journal| journal.set_model(Some(model.clone())));
        Ok(())
    }

    /// Returns when the model can be used.
    pub fn wait_until_loaded(&mut self, watch: Watch) -> Result<(), Failure> {
        let loading = self.backend.load();
        loop {
            let event = match loading.next(PATIENCE) {
                Some(BackendEvent::Ready) => return Ok(()),
                Some(BackendEvent::Done(done)) => return done.map(|_| ()),
                Some(BackendEvent::Event(event)) => Some(event),
                None => None,
            };
            if watch(event.as_ref()).is_break() {
                loading.cancel();
                return Err(Failure::interrupted());
            }
        }
    }
}
