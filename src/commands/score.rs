//! `fireside score`: a text → its perplexity, and the log-probability of each token.
//!
//! A long text is evaluated in chunks, each by itself, and the second half of each counts: as llama-perplexity
//! does it, so that the figures compare.

use std::mem::ManuallyDrop;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::CommandContext;
use crate::chat::probability::TokenProbability;
use crate::chat::settings::CtxSize;
use crate::chat::{Message, Role, Score};
use crate::cli;
use crate::failure::{Exit, Failure};
use crate::input;
use crate::session::{Session, SessionOptions};
use crate::settings::setting;
use crate::ui::probabilities::{Lines, lines};
use crate::ui::terminal;
use crate::units::count;

/// Tokens of a chunk, as in llama-perplexity.
const CHUNK: usize = 512;

pub(super) fn run(args: &cli::Score, context: &mut CommandContext) -> Result<Exit, Failure> {
    let text = text(&args.file, context)?;
    if text.is_empty() {
        return Err(Failure::usage("the text is empty"));
    }
    let mut config = context.config.clone();
    config.set(setting("no-prompt-cache").expect("it is in the table"), Some("on"))?;
    let wanted = super::wanted_model(None, &config)?;
    if config.remote(&wanted).is_some() {
        return Err(Failure::usage(format!(
            "score needs a model on this machine, and {wanted} is at a server"
        )));
    }
    let raw = args.prompt.is_none() || args.raw;
    let options = SessionOptions { raw, prompt_cache: false, ..SessionOptions::default() };
    // The process exits afterwards: after Ctrl-C it does not wait for an evaluation.
    let mut session = ManuallyDrop::new(Session::new((context.open)(&config, &wanted)?, options));
    let limit = session.model().context_limit;
    let chunk = match config.settings().ctx_size {
        CtxSize::Auto => CHUNK.min(limit),
        CtxSize::Trained | CtxSize::Tokens(_) => limit,
    };
    let score = Score {
        text,
        thinking: String::new(),
        chunk: args.prompt.is_none().then_some(chunk),
        most_chunks: args.chunks.map(|chunks| chunks as usize),
        others: args.logprobs.unwrap_or(0).into(),
    };
    let message = args.prompt.as_ref().map(|prompt| Message::new(Role::User, prompt));
    let screen = &mut *context.screen;
    let scored = session.score(message, score, &mut |event| {
        screen.show_progress(event);
        if terminal::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    context.screen.end_progress();
    let scored = scored?;
    let tokens = scored.stats.generated_tokens.unwrap_or(0);
    let chunks = scored.tokens.len() / (chunk - chunk / 2 - 1).max(1);
    let whole = tokens <= scored.tokens.len() + 1; // the first token may have no probability
    let chunks = (!whole).then_some(chunks);
    let sums = Sums::of(&scored.tokens);
    if sums.count == 0 {
        return Err(Failure::new("the text is too short: its first token has no probability"));
    }
    if context.json {
        let mut object = json!({
            "perplexity": sums.perplexity(),
            "perplexity_error": sums.error(),
            "logprob": sums.sum,
            "tokens": tokens,
            "counted": sums.count,
            "chunks": chunks,
            "chunk_size": chunks.map(|_| chunk),
            "model": session.model().name,
        });
        if args.logprobs.is_some() {
            object["logprobs"] = scored.tokens.iter().map(TokenProbability::to_json).collect::<Value>();
        }
        return context.print_json(&object);
    }
    if args.logprobs.is_some() {
        context.print_source(&lines(&scored.tokens, Lines::All).join("\n"))?;
    }
    let error = sums.error().map_or(String::new(), |error| format!(" ± {error:.4}"));
    let of = match chunks {
        None => String::new(),
        Some(1) => format!(": the second half of a chunk of {chunk}"),
        Some(chunks) => format!(": the second half of each of {chunks} chunks of {chunk}"),
    };
    context.print(&format!(
        "perplexity {:.4}{error}\n{:.4} nats per token, {:.4} bits\n{}, {} counted{of}",
        sums.perplexity(),
        -sums.mean(),
        -sums.mean() / std::f64::consts::LN_2,
        count(tokens, "token"),
        sums.count,
    ))
}

/// The text of a file, or of stdin, without one trailing newline.
fn text(file: &Path, context: &mut CommandContext) -> Result<String, Failure> {
    if file != Path::new("-") {
        return Ok(input::read_text(file)?);
    }
    let screen = &mut *context.screen;
    let piped = input::read_stdin(|| screen.note("reading stdin to its end"))?;
    piped.ok_or_else(|| Failure::usage("there is nothing on stdin"))
}

/// Sums over the tokens that count.
struct Sums {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn of(tokens: &[TokenProbability]) -> Sums {
        let logprobs = || tokens.iter().map(|token| token.chosen.logprob);
        Sums { count: tokens.len(), sum: logprobs().sum(), squares: logprobs().map(|x| x * x).sum() }
    }

    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    fn perplexity(&self) -> f64 {
        (-self.mean()).exp()
    }

    /// The standard error of the perplexity, as llama-perplexity computes it; `None`: too few tokens.
    fn error(&self) -> Option<f64> {
        let variance = self.squares / self.count as f64 - self.mean() * self.mean();
        let error = (variance / (self.count.checked_sub(1).filter(|n| *n > 0)? as f64)).sqrt();
        Some(error * self.perplexity()).filter(|error| error.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fair_coin_has_a_perplexity_of_two() {
        let sums = Sums { count: 8, sum: 8.0 * 0.5_f64.ln(), squares: 8.0 * 0.5_f64.ln().powi(2) };
        assert!((sums.perplexity() - 2.0).abs() < 1e-12 && sums.error().unwrap() < 1e-6);
        assert_eq!(Sums { count: 1, ..sums }.error(), None);
    }
}
