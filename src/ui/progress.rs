//! A progress line on stderr for loading, prefill, downloads and other long steps, with indicatif.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chat::Event;
use crate::units::{count, duration, size};

/// Shortest prefill that gets a progress line.
const PATIENCE: Duration = Duration::from_secs(1);
/// Shortest load that gets one.
const LOADING_PATIENCE: Duration = Duration::from_millis(200);

/// Fewest columns for a bar beside a text.
const BAR: usize = 45;
/// Fewest columns for a percentage and the time left.
const TIME: usize = 30;

pub(super) struct ProgressLine {
    moving: bool,
    bar: Option<ProgressBar>,
    loading_since: Option<Instant>,
    reading: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    since: Instant,
    done: usize,
    total: usize,
}

impl ProgressLine {
    /// `moving`: whether stderr is a terminal that allows animation.
    pub(super) fn new(moving: bool) -> ProgressLine {
        ProgressLine { moving, bar: None, loading_since: None, reading: None }
    }

    pub(super) fn loading(&mut self, fraction: f32) {
        let since = *self.loading_since.get_or_insert_with(Instant::now);
        if !self.moving || since.elapsed() < LOADING_PATIENCE {
            return;
        }
        let bar = self.bar("loading {bar:10} {percent}%", 1000);
        bar.set_position((fraction * 1000.0) as u64);
    }

    pub(super) fn move_if(&mut self, moving: bool) {
        self.moving = moving;
    }

    /// Whether a line is on the screen.
    pub(super) fn is_drawn(&self) -> bool {
        self.bar.is_some()
    }

    /// Whether progress is drawn.
    pub(super) fn moves(&self) -> bool {
        self.moving
    }

    /// Shows the number of thinking tokens.
    pub(super) fn thinking(&mut self, tokens: usize) {
        if self.moving {
            self.reading = None;
            self.bar("thinking… {msg}", u64::MAX).set_message(count(tokens, "token"));
        }
    }

    /// Verification of a file, in bytes.
    pub(super) fn checking(&mut self, done: u64, total: u64) {
        self.going_through("checking {bar:10} {percent}% {msg}", done, total);
    }

    /// Conversion of a model, in numbers.
    pub(super) fn converting(&mut self, done: u64, total: u64) {
        self.going_through("converting {bar:10} {percent}% {msg}", done, total);
    }

    /// Import of a file, in bytes.
    pub(super) fn importing(&mut self, done: u64, total: u64) {
        self.going_through("importing {bar:10} {percent}% {msg}", done, total);
    }

    /// A step of a benchmark: prefill or decode.
    pub(super) fn measuring(&mut self, step: &str, event: Option<&Event>) {
        if !self.moving {
            return;
        }
        let doing = match event {
            Some(Event::Prefill { done, total }) => format!("{step}, prefill {done} of {total}"),
            Some(Event::Text(_)) => format!("{step}, decode"),
            _ if self.bar.is_some() => return,
            _ => step.to_string(),
        };
        self.bar("{msg}", u64::MAX).set_message(doing);
    }

    fn going_through(&mut self, template: &str, done: u64, total: u64) {
        let since = *self.loading_since.get_or_insert_with(Instant::now);
        if !self.moving || since.elapsed() < LOADING_PATIENCE {
            return;
        }
        let left = since.elapsed().as_secs_f64() * total.saturating_sub(done) as f64 / done.max(1) as f64;
        let bar = self.bar(template, total);
        bar.set_position(done);
        bar.set_message(format!("{} left", duration(left)));
    }

    /// Prefill, in tokens. After a second it shows a percentage and the time left.
    pub(super) fn reading(&mut self, done: usize, total: usize) {
        let since = self.reading.map_or_else(Instant::now, |reading| reading.since);
        if done >= total {
            return self.clear();
        }
        self.reading = Some(Reading { since, done, total });
        self.tick();
    }

    /// Called from time to time: shows a prefill that takes long.
    pub(super) fn tick(&mut self) {
        let Some(Reading { since, done, total }) = self.reading else { return };
        if !self.moving || since.elapsed() < PATIENCE {
            return;
        }
        let left = since.elapsed().as_secs_f64() * (total - done) as f64 / done.max(1) as f64;
        let bar = self.bar("prefill {bar:10} {percent}% {msg}", total as u64);
        bar.set_position(done as u64);
        if done > 0 {
            bar.set_message(format!("{} left", duration(left)));
        }
    }

    /// A download, in bytes. Bytes from an earlier run do not count toward the speed.
    pub(super) fn fetching(&mut self, done: u64, total: u64) {
        if !self.moving || total == 0 {
            return;
        }
        let new = self.bar.is_none();
        let template = match columns() {
            ..BAR => "fetching {percent}%",
            BAR..80 => "fetching {msg}",
            _ => "fetching {bar:10} {msg}",
        };
        let bar = self.bar(template, total);
        bar.set_position(done);
        if new {
            bar.reset_eta();
        }
        let speed = size(bar.per_sec() as u64);
        let left = duration(bar.eta().as_secs_f64());
        bar.set_message(format!("{} of {}, {speed}/s, {left} left", size(done), size(total)));
    }

    pub(super) fn clear(&mut self) {
        self.loading_since = None;
        self.reading = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn bar(&mut self, template: &str, length: u64) -> &ProgressBar {
        if self.bar.as_ref().is_some_and(|bar| bar.length() != Some(length)) {
            self.bar.take().into_iter().for_each(|bar| bar.finish_and_clear());
        }
        self.bar.get_or_insert_with(|| {
            let template = fitting(template, columns());
            let style = ProgressStyle::with_template(&template).expect("the templates above are valid");
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_style(style)
        })
    }
}

fn columns() -> usize {
    super::terminal::columns_of(std::io::stderr()).unwrap_or(super::DEFAULT_COLUMNS)
}

/// The template without what a window of this many columns has no room for.
fn fitting(template: &str, columns: usize) -> String {
    let template = if columns < BAR { template.replace("{bar:10} ", "") } else { template.into() };
    let has_percentage = template.contains("{percent}");
    if columns < TIME && has_percentage { template.replace(" {msg}", "") } else { template }
}
