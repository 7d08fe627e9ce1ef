//! The process: set up, parse the command line, run, exit. A failure becomes a line and an exit code.

use std::time::Instant;

use fireside::cli::Instead;
use fireside::engine::llama::{self, Hooks};
use fireside::engine::prompt::template;
use fireside::failure::Exit;
use fireside::ui::{self, crash, terminal};
use fireside::{app, cli, completions};
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use nix::libc;

fn main() {
    let started = Instant::now();
    if template::render_apart() {
        return;
    }
    allocate_in_large_steps();
    crash::install();
    completions::answer();
    // SAFETY: there is only one thread yet.
    unsafe { llama::prepare() };
    let verbose = std::env::args_os().any(|word| word == "-v" || word == "--verbose");
    llama::install(Hooks { log: verbose.then_some(ui::log as fn(&str)), abort: die });
    let exit = match cli::parse(std::env::args_os()) {
        Ok(args) => app::run(args, started),
        Err(Instead::Help { styled, plain }) => app::help(&styled, &plain),
        Err(Instead::Failure(failure)) => app::report(&failure),
    };
    // A regular exit runs destructors, which wait for, or crash on, a model that still loads or evaluates.
    signal_hook::low_level::exit(exit.code());
}

/// Makes the C library request memory from the system in steps of 16 MiB instead of 128 KiB. Every step
/// blocks all page faults of the process, and the two threads that load a model took hundreds of steps.
/// Allocations below 4 MiB come out of these steps.
fn allocate_in_large_steps() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (what, bytes) in
        [(libc::M_TOP_PAD, 16 << 20), (libc::M_MMAP_THRESHOLD, 4 << 20), (libc::M_TRIM_THRESHOLD, 32 << 20)]
    {
        // SAFETY: sets a parameter of the allocator while there is only one thread.
        unsafe { libc::mallopt(what, bytes) };
    }
}

/// Called when llama.cpp is about to abort the process: reports the reason and restores the terminal.
fn die(reason: &str) {
    terminal::restore();
    let reason = reason.rsplit_once("/llama.cpp/").map_or(reason, |(_, inside)| inside); // drops the build path
    ui::last_line(&format!("fireside: llama.cpp stopped: {reason}"));
    signal_hook::low_level::exit(Exit::Failed.code());
}
