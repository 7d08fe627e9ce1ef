//! One line on stderr that shows how far loading, reading and fetching have come. The only file naming indicatif.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::chat::Event;
use crate::units::{count, duration, size};

/// Reading that takes less than this is not worth a line.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for loading.
const LOADING_PATIENCE: Duration = Duration::from_millis(200);

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
    /// `moving`: whether stderr is a terminal that may be drawn on.
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

    /// Whether anything is drawn.
    pub(super) fn moves(&self) -> bool {
        self.moving
    }

    /// Tokens that were thought.
    pub(super) fn thinking(&mut self, tokens: usize) {
        if self.moving {
            self.reading = None;
            self.bar("thinking… {msg}", u64::MAX).set_message(count(tokens, "token"));
        }
    }

    /// Bytes of a file that is verified.
    pub(super) fn checking(&mut self, done: u64, total: u64) {
        self.going_through("checking {bar:10} {percent}% {msg}", done, total);
    }

    /// Numbers of a model that is converted.
    pub(super) fn converting(&mut self, done: u64, total: u64) {
        self.going_through("converting {bar:10} {percent}% {msg}", done, total);
    }

    /// Bytes of a file that is taken in.
    pub(super) fn importing(&mut self, done: u64, total: u64) {
        self.going_through("importing {bar:10} {percent}% {msg}", done, total);
    }

    /// A step of a measurement: reading, or writing.
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

    /// Tokens. A percentage and the time left appear after a second.
    pub(super) fn reading(&mut self, done: usize, total: usize) {
        let since = self.reading.map_or_else(Instant::now, |reading| reading.since);
        if done >= total {
            return self.clear();
        }
        self.reading = Some(Reading { since, done, total });
        self.tick();
    }

    /// Time goes by: shows what is being read once that takes long.
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

    /// Bytes. What was there before is not counted as speed.
    pub(super) fn fetching(&mut self, done: u64, total: u64) {
        if !self.moving || total == 0 {
            return;
        }
        let new = self.bar.is_none();
        let wide = super::terminal::columns_of(std::io::stderr()).is_none_or(|columns| columns >= 80);
        let bar = self.bar(if wide { "fetching {bar:10} {msg}" } else { "fetching {msg}" }, total);
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
            let style = ProgressStyle::with_template(template).expect("the templates above are valid");
            ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr()).with_style(style)
        })
    }
}
