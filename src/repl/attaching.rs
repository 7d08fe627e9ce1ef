//! Files for the next message: attached by a command or mentioned in the message itself, with what they cost; and
//! the question before a message is sent whose files take long to read or much of the context.

use std::path::Path;

use super::commands::NextAction;
use super::editor::Editor;
use super::shell::{self, MOST_BYTES};
use super::typed::{self, mentions, without_escapes};
use super::{Ask, Chat};
use crate::chat::{Attachment, Message, Role};
use crate::failure::{Exit, Failure};
use crate::files::{expanded, reason};
use crate::input::{self, Attached};
use crate::ui::stats;
use crate::units::{count, size};

const AS_TEXT: &str = "to send it as plain text, put a backslash before the @";

/// A message as it was typed, to be put back into the line editor if it is not sent.
pub(super) struct Draft {
    /// With marks.
    line: String,
    /// The text of the message, which a role's prompt may have put differently.
    sent: String,
    /// The files attached before.
    attached: Vec<Attachment>,
    /// Whether it mentions files.
    mentions: bool,
}

/// `src/a.rs`, or `12 files of src`.
fn named(shown: &str, files: &[Attachment]) -> String {
    match files {
        [file] if file.name == shown => shown.to_string(),
        [file] => format!("{} ({shown})", file.title()),
        files => format!("{} of {shown}", count(files.len(), "file")),
    }
}

/// `a.rs is`, or `12 files of src are`; `forms`: the word after one file and after several.
fn which(shown: &str, files: &[Attachment], forms: [&str; 2]) -> String {
    format!("{} {}", named(shown, files), forms[usize::from(files.len() > 1)])
}

/// Files to attach, of which some may be attached already.
#[derive(Default)]
struct Sorted {
    new: Vec<Attachment>,
    /// Attached with the same text.
    same: Vec<Attachment>,
    /// Attached with an older text.
    changed: Vec<Attachment>,
}

/// The text of a message: without marks, and without the backslashes that keep mentions of files from attaching them.
fn said(line: &str) -> String {
    without_escapes(line, |mention| mention.paths().any(exists))
}

fn exists(path: &str) -> bool {
    expanded(Path::new(path)).exists()
}

fn bytes(files: &[Attachment]) -> String {
    size(files.iter().map(|file| file.text.len() as u64).sum())
}

impl Chat<'_> {
    /// The next message as far as it is known: its files.
    pub(super) fn next_message(&self) -> Message {
        let message = Message::new(Role::User, "").with_files(self.attached.clone());
        message.with_headers(self.session.settings().file_header)
    }

    /// Attaches files like `attach`, each once: if one is attached already, with the text that it has now.
    pub(super) fn attach_once(&mut self, shown: &str, found: Attached) -> Result<(), Failure> {
        let Sorted { new, same, changed } = self.sorted(found.files);
        if !same.is_empty() {
            self.screen.note(&format!("{} attached already", which(shown, &same, ["is", "are"])));
        }
        self.say_changed(shown, &changed);
        if new.is_empty() {
            return Ok(());
        }
        self.attach(shown, Attached { files: new, ..found })
    }

    /// Which of the files are new, and which are attached already: those get the text that they have now.
    fn sorted(&mut self, files: Vec<Attachment>) -> Sorted {
        let place = |file: &Attachment| std::path::absolute(expanded(Path::new(&file.name))).ok();
        let places: Vec<_> = self.attached.iter().map(place).collect();
        let mut sorted = Sorted::default();
        for file in files {
            let place = place(&file);
            match places.iter().position(|other| *other == place).map(|at| &mut self.attached[at]) {
                None => sorted.new.push(file),
                Some(other) if other.text == file.text => sorted.same.push(file),
                Some(other) => {
                    other.text.clone_from(&file.text);
                    sorted.changed.push(file);
                }
            }
        }
        sorted
    }

    fn say_changed(&mut self, shown: &str, changed: &[Attachment]) {
        if !changed.is_empty() {
            let which = which(shown, changed, ["has", "have"]);
            self.screen.note(&format!("{which} changed since, and the new text replaces the old one"));
        }
    }

    /// Attaches files, which `shown` names, to the next message, and says what they cost.
    pub(super) fn attach(&mut self, shown: &str, found: Attached) -> Result<(), Failure> {
        let before = self.next_message();
        let what = format!("{} to your next message: {}", named(shown, &found.files), bytes(&found.files));
        self.attached.extend(found.files);
        let next = self.next_message();
        let cost = self.wait_for_model().and_then(|()| Ok(self.session.cost(&before, &next)?));
        let cost = cost.inspect_err(|_| self.screen.note(&format!("attached {what}")))?;
        self.screen.note(&format!("attached {what}, {}", stats::cost(&cost)));
        found.left_out.iter().for_each(|files| self.screen.note(&format!("left out of {shown}: {files}")));
        if cost.is_too_long() {
            let limit = count(cost.limit, "token");
            let part = if before.parts.is_empty() { "it" } else { "all files" };
            self.screen.note(&format!(
                "too long for the context of {limit}: /file none detaches {part}; a part of it may fit"
            ));
        }
        Ok(())
    }

    /// A line that is no command → the message, with the files that it mentions.
    pub(super) fn message(&mut self, line: String) -> NextAction {
        let (text, before) = (said(&line).trim_end().to_string(), self.attached.clone());
        let found = match self.mentioned(&line) {
            Ok(found) => found,
            Err(failure) => {
                if failure.exit != Exit::Interrupted {
                    self.screen.failure(&failure);
                }
                return NextAction::Edit(line);
            }
        };
        let mut mentions = false;
        for (path, found) in found {
            let Sorted { new, changed, .. } = self.sorted(found.files);
            mentions |= !(new.is_empty() && changed.is_empty());
            self.say_changed(&path, &changed);
            if !new.is_empty() {
                self.screen.note(&format!("attached {}: {}", named(&path, &new), bytes(&new)));
                let left_out = found.left_out.map(|files| format!("left out of {path}: {files}"));
                left_out.iter().for_each(|line| self.screen.note(line));
                // The text speaks of the files by name, so the model needs their names too.
                self.attached.extend(new.into_iter().map(Attachment::with_header));
            }
        }
        if text.trim().is_empty() && self.attached.is_empty() {
            return NextAction::Prompt;
        }
        let role = self.session.config().role();
        let sent = role.and_then(|role| role.message(&text)).unwrap_or(text);
        let message = Message::new(Role::User, sent.clone()).with_files(std::mem::take(&mut self.attached));
        self.draft = Some(Draft { line, sent, attached: before, mentions });
        NextAction::Ask(Ask::Say(message.with_headers(self.session.settings().file_header)))
    }

    /// Reads the files that typed mentions name, if they exist; each with its path.
    fn mentioned(&self, line: &str) -> Result<Vec<(String, Attached)>, Failure> {
        let mut found = Vec::new();
        for mention in mentions(line).iter().filter(|mention| !mention.escaped) {
            for path in mention.paths() {
                match input::attach(Path::new(path)) {
                    Ok(attached) => found.push((path.to_string(), attached)),
                    Err(_) if !exists(path) => continue,
                    Err(error) => {
                        let failure = Failure::from(error);
                        let more = failure.hint.clone().map_or_else(String::new, |hint| format!("; {hint}"));
                        return Err(failure.hint(format!("{AS_TEXT}{more}")));
                    }
                }
                break;
            }
        }
        Ok(found)
    }

    /// Asks before mentioned files leave this machine, shows what they cost, and asks before the message is sent if
    /// its files cost much. `false`: it is not sent.
    pub(super) fn may_be_sent(&mut self, message: &Message, editor: &mut Editor) -> Result<bool, Failure> {
        if message.files().next().is_none() {
            return Ok(true);
        }
        let mentions = self.draft.as_ref().is_some_and(|draft| draft.mentions);
        // First of all: a server may count tokens, too.
        if let Some(host) = self.session.model().host.clone().filter(|_| mentions)
            && !self.agrees(&format!("Send the files to {host} with your message?"), editor)?
        {
            return Ok(false);
        }
        match self.wait_for_model() {
            Err(failure) if failure.exit == Exit::Interrupted => {
                self.screen.note("stopped before the answer began");
                return Ok(false);
            }
            Err(_) => return Ok(true), // the turn reports it
            Ok(()) => {}
        }
        let Ok(cost) = self.session.cost(&Message::new(Role::User, ""), message) else { return Ok(true) };
        let high = cost.is_high() && !cost.is_too_long(); // else the turn asks what to do
        if mentions || high {
            self.screen.note(&format!("your message has {}", stats::cost(&cost)));
        }
        Ok(!high || self.agrees("Send it?", editor)?)
    }

    /// Asks before a message is sent. Without anyone to ask, it is.
    fn agrees(&mut self, question: &str, editor: &mut Editor) -> Result<bool, Failure> {
        let agrees = !editor.asks() || editor.confirms(question)?;
        if !agrees {
            self.screen.note("nothing was sent");
        }
        Ok(agrees)
    }

    /// Whether the message is what was typed last, so that Up recalls it.
    pub(super) fn was_typed(&self, message: &Message) -> bool {
        self.draft.as_ref().is_some_and(|draft| draft.sent == message.text())
    }

    /// A message that was not sent → the line for the editor. Its files are attached again.
    pub(super) fn unsent(&mut self, message: &Message) -> String {
        let was_typed = self.was_typed(message);
        match self.draft.take() {
            Some(draft) if was_typed => {
                self.attached = draft.attached;
                draft.line
            }
            _ => {
                self.attached = message.files().cloned().collect();
                typed::inert(&message.text())
            }
        }
    }

    /// Runs a command of the shell, and attaches its output to the next message.
    pub(super) fn run_command(&mut self, command: &str, editor: &mut Editor) -> Result<(), Failure> {
        let command = command.trim();
        if command.is_empty() {
            return Err(Failure::usage("there is no command after !")
                .hint("as in: !git diff; to send a message that begins with !, put a space before it"));
        }
        let ran = shell::run(command);
        let output = ran.map_err(|e| Failure::new(format!("could not run '{command}': {}", reason(&e))))?;
        let ended = output.status.to_string();
        let ended = ended.replace("exit status:", "exit code").replace("signal:", "ended by signal");
        self.screen.note(&ended);
        if output.cut {
            let most = size(MOST_BYTES as u64);
            self.screen.note(&format!("the output is cut after {most}: the model gets only its beginning"));
        }
        if output.text.trim().is_empty() {
            self.screen.note("there is no output to attach");
            return Ok(());
        }
        if let Some(host) = &self.session.model().host
            && editor.asks()
            && !editor.confirms(&format!("Attach the output? It goes to {host} with your next message."))?
        {
            self.screen.note("not attached");
            return Ok(());
        }
        let ended = if output.status.success() { String::new() } else { format!(" ({ended})") };
        let name = format!("$ {command}{ended}");
        let text = crate::chat::message::without_final_newline(output.text);
        let files = vec![Attachment::new(&name, text).with_header()];
        self.attach(&name, Attached { files, left_out: None })
    }
}
