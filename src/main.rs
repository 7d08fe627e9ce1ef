//! Parse, run, leave; a failure becomes a line and an exit code.

use std::time::Instant;

use fireside::cli::Instead;
use fireside::engine::llama::{self, Hooks};
use fireside::engine::template;
use fireside::error::Exit;
use fireside::ui::{self, crash, terminal};
use fireside::{cli, completions, start};

fn main() {
    let started = Instant::now();
    if template::render_apart() {
        return;
    }
    llama::in_large_steps();
    crash::install();
    completions::answer();
    llama::without_debugger();
    let verbose = std::env::args_os().any(|word| word == "-v" || word == "--verbose");
    llama::install(Hooks { log: verbose.then_some(ui::log as fn(&str)), abort: die });
    let exit = match cli::parse(std::env::args_os()) {
        Ok(args) => start::run(args, started),
        Err(Instead::Help { styled, plain }) => start::help(&styled, &plain),
        Err(Instead::Failure(failure)) => start::report(&failure),
    };
    // Not the usual way out: that would wait for, or trip over, a model still being loaded or evaluated.
    signal_hook::low_level::exit(exit as i32);
}

/// llama.cpp is about to abort the process: say why and leave the terminal as it was.
fn die(reason: &str) {
    terminal::restore();
    let reason = reason.rsplit_once("/llama.cpp/").map_or(reason, |(_, inside)| inside); // not where it was built
    ui::last_line(&format!("fireside: llama.cpp stopped: {reason}"));
    signal_hook::low_level::exit(Exit::Failed as i32);
}
