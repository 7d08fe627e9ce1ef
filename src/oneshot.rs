//! One answer: prompt, stdin and attached files → the answer on stdout, or in a file, and an exit code.
//!
//! output.rs prints it in the wanted shape, object.rs makes JSON of it.

mod block;
mod object;
mod forecast;
mod output;

use std::io::{self, ErrorKind};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use self::output::Printer;
pub use self::output::{NewFile, Shape};
use crate::chat::message::join_parts;
use crate::chat::probability::likeliest;
use crate::chat::settings::{Auto, Overflow};
use crate::chat::{Attachment, Constraint, Message, Role, Settings, StopReason, Task};
use crate::cli::{self, Args};
use crate::failure::{self, Exit, Failure};
use crate::files::{is_stdout, reason};
use crate::input;
use crate::session::{Answer, Session, SessionOptions};
use crate::settings::TakenRole;
use crate::ui::{Screen, stats, terminal};

/// The placeholder for stdin in a prompt.
const SLOT: &str = "{stdin}";

/// Default limit of an answer, in tokens.
const PREDICT: u32 = 2048;

/// The name of stdin among the files.
pub const STDIN: &str = "-";

/// The message: attached files, then stdin, then the prompt. `None` if all are empty. Calls `note` with a line
/// about files of a folder that are left out.
pub fn question(
    prompt: Option<&str>,
    files: &[impl AsRef<Path>],
    mut piped: Option<String>,
    header: Auto,
    mut note: impl FnMut(&str),
) -> Result<Option<Message>, Failure> {
    let mut attached = Vec::new();
    for file in files.iter().map(AsRef::as_ref) {
        if file == Path::new(STDIN) {
            let piped = piped.take().filter(|piped| !piped.is_empty()).ok_or_else(nothing_piped)?;
            attached.push(Attachment::new("stdin", piped));
            continue;
        }
        let found = input::attach(file)?;
        found.left_out.iter().for_each(|files| note(&format!("left out of {}: {files}", file.display())));
        attached.extend(found.files);
    }
    let prompt = prompt.unwrap_or_default();
    let is_document = !files.is_empty() || header == Auto::On;
    let text = match piped {
        Some(piped) if prompt.contains(SLOT) && piped.is_empty() => {
            return Err(Failure::usage(format!("nothing was piped in for {SLOT}"))
                .hint(format!("--no-stdin leaves {SLOT} in the prompt as it is")));
        }
        Some(piped) if prompt.contains(SLOT) => prompt.replace(SLOT, &piped),
        Some(piped) if is_document && !piped.is_empty() => {
            attached.push(Attachment::new("stdin", piped));
            prompt.into()
        }
        piped => join_parts([piped.as_deref().unwrap_or_default(), prompt]),
    };
    let nothing = text.is_empty() && attached.iter().all(|a| a.text.is_empty());
    Ok((!nothing).then(|| Message::new(Role::User, text).with_files(attached).with_headers(header)))
}

fn nothing_piped() -> Failure {
    Failure::usage("nothing was piped in for --file -")
        .hint("as in: git diff | fireside --file - -p \"Explain this.\"")
}

/// The message as the role's prompt puts it.
pub fn in_role(question: Option<Message>, role: Option<&TakenRole>) -> Result<Option<Message>, Failure> {
    let Some(role) = role else { return Ok(question) };
    if question.is_none() && role.needs_input() {
        return Err(Failure::usage(format!("the role {} needs a text", role.name))
            .hint(format!("pipe it in or give it as the prompt: fireside --role {} < FILE", role.name)));
    }
    let mut message = question.unwrap_or_else(|| Message::new(Role::User, ""));
    if let Some(text) = role.message(&message.text()) {
        message.set_text(&text);
    }
    Ok((!message.parts.is_empty()).then_some(message))
}

/// Session options for one answer: a token limit, no questions to the user, and what the output needs.
pub fn options(output: &cli::Output) -> Result<SessionOptions, Failure> {
    let choices = output.choices()?;
    Ok(SessionOptions {
        default_predict: PREDICT,
        default_overflow: Some(Overflow::Stop),
        task: if choices.is_empty() { Task::Answer } else { Task::Choose(choices) },
        logprobs: output.logprobs.map(usize::from),
        ..SessionOptions::default()
    })
}

/// How to print the answer.
#[derive(Debug)]
pub struct Manner {
    pub shape: Shape,
    /// `None`: stdout.
    pub file: Option<NewFile>,
    /// Whether the exit code tells which choice it is.
    pub exit_choice: bool,
    /// Whether the object has the log-probability of each token.
    pub tells: bool,
    pub stats: bool,
    /// When the process started.
    pub started: Instant,
}

impl Manner {
    /// As the command line wants it. Refuses a file that cannot be written, and code in JSON.
    pub fn of(args: &Args, settings: &Settings, started: Instant) -> Result<Manner, Failure> {
        let Args { output, .. } = args;
        let shape = match () {
            () if args.json => Shape::Json,
            () if output.json_stream => Shape::Events,
            () if let Some(language) = &output.code => Shape::Code(language.clone()),
            () => Shape::Text { raw: args.raw },
        };
        if matches!((&shape, &settings.constraint), (Shape::Code(_), Some(Constraint::JsonSchema(_)))) {
            return Err(Failure::usage("--code needs a code block in the answer, but a schema demands JSON")
                .hint("leave one of them out: without --code, the answer is the JSON; --schema none removes a schema"));
        }
        let file = output.output.as_deref().filter(|path| !is_stdout(path));
        let file = file.map(|path| NewFile::new(path, output.force)).transpose()?;
        Ok(Manner {
            shape,
            file,
            exit_choice: output.exit_choice,
            tells: output.logprobs.is_some(),
            stats: false,
            started,
        })
    }
}

/// Sends the message and prints the answer while it is generated. Returns the exit code.
pub fn run(
    session: &mut Session,
    message: Message,
    screen: &mut Screen,
    manner: &Manner,
) -> Result<Exit, Failure> {
    let mut printer = Printer::new(screen, manner, session);
    let said = session.say(message, &mut |event| match terminal::interrupted() {
        true => ControlFlow::Break(()),
        false => printer.watch(event),
    });
    printer.screen.end_progress();
    match said {
        Ok(answer) => {
            let answer = answer.clone();
            finish(session, &answer, printer)
        }
        Err(_) if printer.output.is_err() => gone(printer.output),
        Err(failed) => {
            printer.break_off();
            Err(failure::why(failed.error, failed.message.as_deref(), session, false))
        }
    }
}

fn finish(session: &mut Session, answer: &Answer, mut printer: Printer) -> Result<Exit, Failure> {
    let manner = printer.manner;
    let stop = answer.stats.stop;
    let own_limit = stop == StopReason::Length && session.settings().predict.is_none();
    let only_thought = stats::only_thought(&answer.text, &answer.stats);
    let unmatched = answer.unmatched.filter(|_| answer.error.is_none() && stop != StopReason::Interrupted);
    let exit = match stop {
        StopReason::Interrupted if printer.has_block() => Exit::Answered, // nothing after the block is wanted
        StopReason::Interrupted => Exit::Interrupted,
        StopReason::Error => Exit::Failed,
        _ if only_thought.is_some() || unmatched.is_some() => Exit::Cut,
        StopReason::Context | StopReason::Repetition => Exit::Cut,
        StopReason::Length if own_limit => Exit::Cut,
        _ if printer.lacks_block(&answer.text) => Exit::NoCode,
        StopReason::Choice if manner.exit_choice => {
            likeliest(&printer.choices).map_or(Exit::Failed, |place| Exit::Choice(place as u8))
        }
        _ => Exit::Answered,
    };
    let stopped = stop == StopReason::Interrupted && exit == Exit::Answered;
    if manner.shape.is_json() {
        // JSON has an id only for a conversation that is completely on disk.
        let kept = if session.finish() { session.saved_id() } else { None };
        let object = object::answered(session, answer, kept, printer.first_token, manner.started);
        printer.object(object);
    }
    let first_token = printer.first_token;
    let written = printer.end(exit)?;
    if written.is_err() {
        return gone(written);
    }
    let screen = printer.screen;
    if (stop != StopReason::Length || own_limit) && !stopped {
        stats::cut(stop).into_iter().for_each(|line| screen.note(line));
    }
    if let Some(line) = &only_thought {
        screen.note(line);
    }
    if let Some(kind) = unmatched {
        screen.note(&stats::unmatched(kind));
    }
    if manner.stats {
        screen.stats(&answer.stats, first_token);
    }
    if exit == Exit::NoCode
        && let Shape::Code(language) = &manner.shape
    {
        screen.failure(&output::no_block(language));
    }
    if let Some(error) = &answer.error {
        screen.failure(&Failure::from(error.clone()));
    }
    if stop != StopReason::Interrupted {
        session.flush(); // the answer is complete: this delays only the shell's prompt
    }
    Ok(exit)
}

/// Prints what a program reads of a failure, if a program reads it.
pub fn fail(
    args: &Args,
    session: Option<&Session>,
    failure: &Failure,
    started: Instant,
    screen: &mut Screen,
) {
    let in_file = args.output.output.as_deref().is_some_and(|path| !is_stdout(path));
    if !args.prints_json() || in_file || args.subcommand.is_some() {
        return;
    }
    let object = object::failed(session, failure, started);
    let lines = if args.json { vec![object] } else { object::last(object) };
    for line in lines {
        let _ = screen.json(&line.to_string()); // the failure itself matters more
    }
}

/// A closed pipe is not a failure; any other write error is.
fn gone(output: io::Result<()>) -> Result<Exit, Failure> {
    match output {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("could not write the answer: {}", reason(&e))))
        }
        _ => Ok(Exit::Answered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(prompt: Option<&str>, piped: Option<&str>) -> Option<String> {
        let no_files: [&Path; 0] = [];
        let message = question(prompt, &no_files, piped.map(String::from), Auto::Auto, |_| {});
        message.unwrap().map(|m| m.content())
    }

    #[test]
    fn documents_come_first_and_the_instruction_last() {
        assert_eq!(content(Some("Summarise."), Some("a\nb")).unwrap(), "a\nb\n\nSummarise.");
        assert_eq!(content(None, Some("a")).unwrap(), "a");
        assert_eq!(content(Some("q"), None).unwrap(), "q");
        assert_eq!(content(None, None), None);
        assert_eq!(content(None, Some("")), None);
    }

    #[test]
    fn a_slot_takes_what_was_piped_in() {
        assert_eq!(content(Some("Spell {stdin}, {stdin}!"), Some("7")).unwrap(), "Spell 7, 7!");
        assert_eq!(content(Some("Spell {stdin}"), None).unwrap(), "Spell {stdin}");
    }
}
