//! A conversation being held: its messages, its settings and who answers. One turn at a time, kept or rolled back.
//!
//! The chat, one-shot runs and `-i` all ask through here, so that they cannot differ in what a turn means.

mod keeping;
mod replay;
mod room;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::working;
use crate::backend::{Answering, Backend, Description, Rendered, Told};
use crate::chat::conversation::NodeId;
use crate::chat::options::{Effect, Setting};
use crate::chat::record;
use crate::chat::settings::Overflow;
use crate::chat::{
    Attachment, Conversation, Counts, Event, Left, Message, Role, Settings, Stats, StopReason, Turn,
};
use crate::clock::now;
use crate::config::{Assignment, Config, Source};
use crate::error::Failure;
use crate::store::conversations::fresh_id;
use crate::store::journal::{Heading, Journal};

pub use self::replay::{Again, Difference, Replay};

/// Most tokens of an answer in a chat: none of our own, the context ends it.
pub const NO_LIMIT: u32 = u32::MAX;
/// How long to wait for an event before asking whether to go on.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long the first word may wait for the disk.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How often an answer that is being written goes to the disk.
const KEEPING: Duration = Duration::from_millis(700);
/// How long a stopped answer may take to report its figures before they are done without.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Nothing of what took less to read is kept.
const WORTH_KEEPING: Duration = Duration::from_millis(30);
/// How long to wait until something is kept, as a share of the time that reading it took.
const SETTLING: f64 = 0.2;
const MOST_SETTLING: Duration = Duration::from_secs(5);

/// A finished answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub text: String,
    /// What was thought before it.
    pub thinking: Option<String>,
    pub stats: Stats,
    /// From the question to the first piece of text.
    pub first_token: Option<Duration>,
}

/// A turn that was not kept: the conversation is as it was before.
#[derive(Debug)]
pub struct Undone {
    pub failure: Failure,
    /// What the user had said, to be put back into the editor.
    pub message: Option<Box<Message>>,
}

/// Sees every event, and `None` now and then; decides whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Option<&Event>) -> ControlFlow<()>;

/// A backend that can be started, and what its model advises.
pub struct Candidate {
    pub start: Box<dyn FnOnce() -> Box<dyn Backend>>,
    pub settings: Settings,
    pub advice: Vec<Assignment>,
}

/// Finds a model by its name.
pub type Opener = fn(&Config, &str) -> Result<Candidate, Failure>;

pub struct Session {
    pub conversation: Conversation,
    pub settings: Settings,
    pub config: Config,
    advice: Vec<Assignment>,
    backend: Box<dyn Backend>,
    /// Tokens an answer may have when the user set no limit.
    pub default_predict: u32,
    /// What to do when the conversation no longer fits and the user did not say; `None`: fail, so that it can be asked.
    pub default_overflow: Option<Overflow>,
    /// Complete text instead of chatting.
    pub raw: bool,
    pub special: bool,
    pub last: Option<Answer>,
    /// What was evaluated may stay on disk, so that it need not be read again.
    pub keeps_evaluated: bool,
    /// Nothing is read before it is asked for: the program was ended when it last read or answered this conversation.
    careful: bool,
    /// Keeps the conversation on disk; `None`: it is kept nowhere.
    journal: Option<Journal>,
    /// What the conversation is called; `None`: as it begins.
    title: Option<String>,
    /// Its id as long as it is kept nowhere.
    id: String,
    /// The answer that was given last, and the turn it answered.
    answered: Option<(NodeId, Turn)>,
}

impl Session {
    /// Starts the backend, which begins to load at once.
    pub fn new(config: Config, candidate: Candidate) -> Session {
        let Candidate { start, settings, advice } = candidate;
        Session {
            conversation: Conversation::new(settings.system_prompt.clone()),
            settings,
            config,
            advice,
            backend: start(),
            default_predict: NO_LIMIT,
            default_overflow: None,
            raw: false,
            special: false,
            last: None,
            keeps_evaluated: true,
            careful: false,
            journal: None,
            title: None,
            id: fresh_id(),
            answered: None,
        }
    }

    pub fn model(&self) -> &Description {
        self.backend.describe()
    }

    /// Where the value of a setting came from.
    pub fn source(&self, row: &Setting) -> Source {
        self.config.source(row.name, &self.advice)
    }

    /// The turn that would be asked for now.
    fn turn(&self, messages: Vec<Arc<Message>>, begun: Message) -> Turn {
        Turn {
            messages,
            left: self.conversation.left(self.model().context_limit),
            overflow: self.settings.overflow.or(self.default_overflow),
            begun: begun.text,
            begun_thinking: begun.thinking.unwrap_or_default(),
            raw: self.raw,
            special: self.special,
            settings: self.settings.clone(),
            seed: self.seed(),
            predict: self.settings.predict.unwrap_or(self.default_predict),
            keep: self.keeps_evaluated,
            conversation: self.journal.as_ref().map(|journal| journal.id().to_string()),
            fresh: false,
            asked: Some(now()),
        }
    }

    /// The seed that was set, moved on for every further answer to the same message, or a fresh one.
    fn seed(&self) -> u32 {
        let others = self.conversation.branches(self.conversation.head()) as u32;
        let fresh = || RandomState::new().build_hasher().finish() as u32; // keyed by the system's randomness
        self.settings.sampling.seed.map_or_else(fresh, |seed| seed.wrapping_add(others))
    }

    /// Says something and gets an answer. On failure, and when stopped before the first word, nothing has happened.
    pub fn say(&mut self, message: Message, watch: Watch) -> Result<&Answer, Undone> {
        let before = self.conversation.head();
        match self.conversation.unanswered(&message) {
            Some(same) => self.conversation.move_to(Some(same)),
            None => _ = self.conversation.add(message.clone(), None, Some(now())),
        }
        self.keep_up();
        self.answer(nothing_yet(), watch).map_err(|failure| {
            self.conversation.move_to(before);
            self.keep_up();
            Undone { failure, message: Some(Box::new(message)) }
        })?;
        Ok(self.last.as_ref().expect("just answered"))
    }

    /// Another answer to the last message of the user, beside the one there is.
    pub fn retry(&mut self, watch: Watch) -> Result<&Answer, Undone> {
        let before = self.conversation.head();
        let nothing = || Failure::new("there is nothing to answer again");
        let question = self.conversation.last_user();
        let question = question.ok_or_else(nothing).map_err(|failure| Undone { failure, message: None })?;
        self.conversation.move_to(Some(question));
        self.instead(before, nothing_yet(), watch)
    }

    /// Goes on with the last answer where it ended.
    pub fn more(&mut self, watch: Watch) -> Result<&Answer, Undone> {
        let before = self.conversation.head();
        let Some(answer) = self.conversation.last_answer() else {
            let failure = Failure::new("there is no answer to go on with");
            return Err(Undone { failure, message: None });
        };
        if self.conversation.stop_reason(answer) == Some(StopReason::End) {
            let failure = Failure::new("the answer was not cut: the model had ended it");
            return Err(Undone { failure: failure.hint("/retry gets another one"), message: None });
        }
        let begun = self.conversation.message(answer).clone();
        self.conversation.move_to(self.conversation.parent(answer));
        self.instead(before, begun, watch)
    }

    fn instead(&mut self, before: Option<NodeId>, begun: Message, watch: Watch) -> Result<&Answer, Undone> {
        self.answer(begun, watch).map_err(|failure| {
            self.conversation.move_to(before);
            self.keep_up();
            Undone { failure, message: None }
        })?;
        Ok(self.last.as_ref().expect("just answered"))
    }

    /// Takes back the last exchange; returns what the user had said.
    pub fn undo(&mut self) -> Option<Message> {
        let question = self.conversation.undo()?;
        self.keep_up();
        Some(self.conversation.message(question).clone())
    }

    /// Brings the exchange back that was taken back last; returns what the user had said.
    pub fn redo(&mut self) -> Option<Message> {
        let question = self.conversation.redo()?;
        self.keep_up();
        Some(self.conversation.message(question).clone())
    }

    /// Says `message` instead of what was said at `place`, as a branch of its own.
    pub fn say_instead(&mut self, place: NodeId, message: Message, watch: Watch) -> Result<&Answer, Undone> {
        let before = self.conversation.head();
        self.conversation.move_to(self.conversation.parent(place));
        let after = self.conversation.head();
        if let Err(undone) = self.say(message, watch) {
            debug_assert_eq!(self.conversation.head(), after);
            self.conversation.move_to(before);
            self.keep_up();
            return Err(undone);
        }
        self.conversation.said_instead(before);
        Ok(self.last.as_ref().expect("just answered"))
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

    /// Asks for an answer to the path to the head and adds it there.
    fn answer(&mut self, begun: Message, watch: Watch) -> Result<(), Failure> {
        let turn = self.turn(self.conversation.view(), begun.clone());
        let (seed, mut asked_for, mut left_meanwhile) = (turn.seed, turn.clone(), false);
        let asked = Instant::now();
        let answering = self.backend.reply(turn);
        let mut message = begun.clone();
        let mut first_token = None;
        let mut kept = None; // when the answer was last written to the disk
        let mut unkept = false; // words have come since then
        let stats = loop {
            let told = answering.next(PATIENCE);
            let event = match told {
                Some(Told::Done(done)) => break done?,
                Some(Told::Event(event)) => Some(event),
                Some(Told::Ready) | None => None,
            };
            if let Some(Event::Left { left, .. }) = &event {
                asked_for.left.clone_from(left);
                left_meanwhile |= first_token.is_some();
            }
            if let Some(Event::Text(piece) | Event::Thinking { text: piece, .. }) = &event {
                match &event {
                    Some(Event::Thinking { .. }) => message.thinking.get_or_insert_default().push_str(piece),
                    _ => message.text.push_str(piece),
                }
                first_token.get_or_insert(asked.elapsed());
                unkept = true;
                if kept.is_none() {
                    // What the user said is on the disk before the first word of the answer is shown.
                    self.journal.iter_mut().for_each(|journal| journal.settle(FIRST_WORD));
                }
            }
            // Also while no more words come.
            if unkept && kept.is_none_or(|kept: Instant| kept.elapsed() >= KEEPING) {
                (kept, unkept) = (Some(Instant::now()), false);
                let so_far = self.how(&asked_for, &message, None);
                self.journal.iter_mut().for_each(|j| j.partial(&self.conversation, &message.text, &so_far));
            }
            if watch(event.as_ref()).is_break() {
                answering.cancel();
                break last_words(&answering, seed);
            }
        };
        if stats.stop == StopReason::Interrupted && message == begun {
            return Err(Failure::interrupted());
        }
        let how = self.how(&asked_for, &message, Some(&stats));
        let how = record::Answer { left_meanwhile, ..how };
        let Message { text, thinking, .. } = message.clone();
        let answer = self.conversation.add(message, Some(how), Some(now()));
        self.keep_up();
        self.last = Some(Answer { text, thinking, stats, first_token });
        self.careful = false;
        self.answered = Some((answer, asked_for));
        Ok(())
    }

    /// Waits until what was evaluated is kept for the next time: for a small part of the time that reading it took.
    pub fn settle(&mut self) {
        let reading = self.last.as_ref().map_or(Duration::ZERO, |answer| answer.stats.prompt);
        if reading >= WORTH_KEEPING {
            self.backend.settle(reading.mul_f64(SETTLING).min(MOST_SETTLING));
        }
    }

    /// From now on deals with a kept conversation. `true`: the program was ended when it last read or answered it, so that
    /// nothing of it is read ahead until an answer was given.
    pub fn beware(&mut self, id: &str) -> bool {
        let folder = self.config.paths.as_ref().map(|paths| &paths.working);
        self.careful = folder.is_some_and(|folder| working::was_ended(folder, id));
        self.careful
    }

    /// Reads ahead while the user types a message that these files go with.
    pub fn prepare(&mut self, attached: &[Attachment]) {
        if self.careful {
            return;
        }
        let turn = self.turn(self.conversation.view(), nothing_yet());
        let next = Message { attachments: attached.to_vec(), ..Message::new(Role::User, "") };
        self.backend.prepare(turn, next.with_headers(self.settings.file_header));
    }

    /// What the conversation takes of the context, with `next` said at its end.
    pub fn count(&mut self, next: Option<&Message>) -> Result<Counts, Failure> {
        let turn = self.next_turn(next);
        self.backend.count(turn)
    }

    /// About how many tokens each message of the path takes, the system prompt first if there is one, and how many of the
    /// others the model no longer sees.
    pub fn weigh(&mut self) -> Result<(Vec<usize>, Left), Failure> {
        let turn = self.next_turn(None);
        let left = turn.left.clone();
        Ok((self.backend.weigh(turn)?, left))
    }

    /// What the model would be given, with `next` said at its end.
    pub fn render(&mut self, next: Option<&Message>) -> Result<Rendered, Failure> {
        let turn = self.next_turn(next);
        self.backend.render(turn)
    }

    /// What the model was given for the answer at the head, or what it would be given now if there is none.
    pub fn render_last(&mut self) -> Result<Rendered, Failure> {
        let head = self.conversation.head();
        let turn = match &self.answered {
            Some((answer, turn)) if Some(*answer) == head => turn.clone(),
            _ => {
                let mut messages = self.conversation.view();
                messages.pop_if(|message| message.role == Role::Assistant);
                self.turn(messages, nothing_yet())
            }
        };
        self.backend.render(turn)
    }

    fn next_turn(&self, next: Option<&Message>) -> Turn {
        let messages = self.conversation.view().into_iter().chain(next.cloned().map(Arc::new));
        self.turn(messages.collect(), nothing_yet())
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
            return self.change_model(&self.model_name(), config, open, watch);
        }
        self.settings = config.settle(&self.advice)?;
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
        config: Config,
        open: Opener,
        watch: Watch,
    ) -> Result<(), Failure> {
        let candidate = open(&config, wanted)?;
        let old = self.model_name();
        self.backend.close(); // before the new one is loaded: both may not fit
        self.backend = (candidate.start)();
        if let Err(failure) = self.wait_until_loaded(watch) {
            self.backend.close();
            self.backend = (open(&self.config, &old)?.start)();
            return Err(failure);
        }
        self.settings = candidate.settings;
        self.advice = candidate.advice;
        self.config = config;
        let model = self.model_name();
        self.journal.iter_mut().for_each(|journal| journal.set_model(Some(model.clone())));
        Ok(())
    }

    /// Returns when the model can be used.
    pub fn wait_until_loaded(&mut self, watch: Watch) -> Result<(), Failure> {
        let loading = self.backend.load();
        loop {
            let event = match loading.next(PATIENCE) {
                Some(Told::Ready) => return Ok(()),
                Some(Told::Done(done)) => return done.map(|_| ()),
                Some(Told::Event(event)) => Some(event),
                None => None,
            };
            if watch(event.as_ref()).is_break() {
                loading.cancel();
                return Err(Failure::interrupted());
            }
        }
    }
}

/// An answer of which nothing is written.
fn nothing_yet() -> Message {
    Message::new(Role::Assistant, "")
}

/// What a stopped answer still has to say, or figures without it if that takes too long.
fn last_words(answering: &Answering, seed: u32) -> Stats {
    let deadline = Instant::now() + LAST_WORDS;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if let Some(Told::Done(Ok(stats))) = answering.next(left) {
            return Stats { stop: StopReason::Interrupted, ..stats };
        }
    }
    Stats::stopped(seed)
}
