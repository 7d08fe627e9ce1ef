//! The remote backend: a server with OpenAI's API (llama-server, vLLM, SGLang, Ollama and others) → answers.
//!
//! Opening asks the server what it is and has (facts.rs, over client.rs and reach.rs). A request becomes JSON
//! (question.rs), the answer comes as server-sent events (sse.rs) whose chunks become events and statistics
//! (delta.rs). count.rs counts tokens where a server can; fault.rs has what may go wrong,
//! constrained.rs what schemas and grammars need.

mod client;
mod constrained;
mod count;
mod delta;
mod facts;
mod logprobs;
mod fault;
mod question;
mod reach;
mod reply;
mod sse;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::client::{Client, at};
pub use self::facts::{Facts, Kind, Listed};
pub use self::fault::{Fault, listed};
use super::{Backend, BackendEvent, Description, Error, Inspect, ReplyStream};
use crate::chat::{Request, Settings, Task};
use crate::settings::{Server, servers};
use crate::units::{count, size};

/// How often an opening looks whether it was cancelled.
const TICK: Duration = Duration::from_millis(20);

/// One model at a server.
pub struct Remote {
    description: Description,
    open: Arc<Open>,
}

/// What the threads of answers share.
struct Open {
    client: Client,
    facts: Facts,
    template_args: Vec<(String, String)>,
    /// The settings that the user was told the server lacks.
    told: Mutex<Vec<&'static str>>,
}

impl Remote {
    /// Asks a server for a model, and what is known of both. `wanted`: its name there; empty: the only one.
    /// `cancelled` is called from time to time.
    pub fn open(
        server: &Server,
        wanted: &str,
        settings: &Settings,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Remote, Error> {
        let (client, facts) = ask(server, settings.offline, server.timeout, cancelled, {
            let wanted = wanted.to_string();
            move |client| facts::facts(client, &wanted)
        })?;
        let template_args = settings.template_args.clone();
        let description = description(&client.server, &facts);
        let open = Arc::new(Open { client, facts, template_args, told: Mutex::default() });
        Ok(Remote { description, open })
    }
}

/// The models of a server, asked for no longer than `patience`.
pub fn models(
    server: &Server,
    offline: bool,
    patience: Duration,
    cancelled: &dyn Fn() -> bool,
) -> Result<Vec<Listed>, Error> {
    let started = Instant::now();
    let late = || started.elapsed() > patience;
    match ask(server, offline, patience, &|| cancelled() || late(), facts::models) {
        Ok((_, models)) => Ok(models.unwrap_or_default()),
        Err(Error::Interrupted) if late() => Err(at(server, Fault::Unreachable("no answer in time".into()))),
        Err(error) => Err(error),
    }
}

/// What a server tells of a model and of itself.
pub fn facts(
    server: &Server,
    wanted: &str,
    offline: bool,
    cancelled: &dyn Fn() -> bool,
) -> Result<Facts, Error> {
    let wanted = wanted.to_string();
    let asked = ask(server, offline, server.timeout, cancelled, move |client| facts::facts(client, &wanted));
    asked.map(|(_, facts)| facts)
}

/// Runs a question on another thread, so that nobody waits for a network that does not answer.
fn ask<T: Send + 'static>(
    server: &Server,
    offline: bool,
    patience: Duration,
    cancelled: &dyn Fn() -> bool,
    question: impl FnOnce(&Client) -> Result<T, Error> + Send + 'static,
) -> Result<(Client, T), Error> {
    if offline {
        return Err(at(server, Fault::Offline));
    }
    let client = Client::new(server.clone(), patience)?;
    let (sender, answer) = channel();
    std::thread::spawn(move || {
        let answer = question(&client);
        let _ = sender.send(answer.map(|answer| (client, answer))); // fails if nobody waits any more
    });
    loop {
        match answer.recv_timeout(TICK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Timeout) if cancelled() => return Err(Error::Interrupted),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Error::Stopped),
        }
    }
}

impl Backend for Remote {
    fn load(&mut self) -> ReplyStream {
        let (events, inbox) = channel();
        let _ = events.send(BackendEvent::Ready);
        ReplyStream::new(inbox, Arc::default(), Arc::default())
    }

    fn reply(&mut self, request: Request) -> ReplyStream {
        if request.task != Task::Answer {
            return ReplyStream::failed(Error::NoProbabilities(self.description.name.clone()));
        }
        let (events, inbox) = channel();
        let cancel: Arc<AtomicBool> = Arc::default();
        let (open, watched) = (self.open.clone(), cancel.clone());
        std::thread::spawn(move || {
            let mut show = |event| _ = events.send(BackendEvent::Progress(event)); // fails if the receiver has gone
            let done = reply::answer(&open, &request, &watched, &mut show);
            let _ = events.send(BackendEvent::Done(done));
        });
        let open = self.open.clone();
        ReplyStream::new(inbox, cancel, Arc::default()).interrupted_by(move || open.client.interrupt())
    }

    fn describe(&self) -> &Description {
        &self.description
    }

    fn inspect(&mut self) -> Option<&mut dyn Inspect> {
        self.open.counts().then_some(self as &mut dyn Inspect)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.open.client.interrupt();
    }
}

fn description(server: &Server, facts: &Facts) -> Description {
    let model = &facts.model;
    let parameters = model.parameters.map(|n| match n {
        0..1_000_000_000 => format!("{:.0}M parameters", n as f64 / 1e6),
        n => format!("{:.1}B parameters", n as f64 / 1e9),
    });
    let bytes = model.size.map(size);
    let about: Vec<String> = parameters.into_iter().chain(bytes).collect();
    let version = facts.version.as_ref().map_or(String::new(), |version| format!(" {version}"));
    let kind = format!("{}{version}", facts.kind.name());
    Description {
        name: format!("{}{}{}", model.name(), servers::AT, server.title()),
        host: Some(if server.name.is_empty() { server.host().into() } else { server.name.clone() }),
        facts: if about.is_empty() { "a remote model".into() } else { about.join(", ") },
        device: format!("{kind} at {}", server.url),
        chats: true,
        cannot_continue: !facts.kind.continues(),
        template: facts.template.clone(),
        context_limit: model.context.unwrap_or(0),
        trained_context: model.trained_context,
        ..Description::default()
    }
}

/// The names of settings as a list.
fn together(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => only.to_string(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl Open {
    /// A line about the settings that the server lacks, once each.
    fn lacking(&self, request: &Request) -> Option<String> {
        let mut told = self.told.lock().ok()?;
        let mut lacking = question::lacking(&request.generation, self.facts.kind);
        if self.facts.kind == Kind::Other && !self.template_args.is_empty() {
            lacking.push("template-arg");
        }
        lacking.retain(|name| !told.contains(name));
        told.extend(&lacking);
        let server = self.client.server.title();
        let them = if lacking.len() == 1 { "it has" } else { "they have" };
        let line = format!("{server} does not know {}: {them} no effect there", together(&lacking));
        (!lacking.is_empty()).then_some(line)
    }

    /// A line about counts that are estimated.
    fn estimated(&self, prompt: usize) -> String {
        let tokens = count(prompt, "token");
        format!("{} counts no tokens: the prompt has about {tokens}", self.client.server.title())
    }
}

fn is_cancelled(cancel: &AtomicBool) -> bool {
    cancel.load(Ordering::Relaxed)
}
