//! The state that the journal and its two threads share: pending changes, their progress, and problems.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::change::Change;

/// How long the database may take before a file beside it takes a change: the longest wait for the first word
/// of an answer.
const GRACE: Duration = Duration::from_millis(200);
const UNBROKEN: &str = "no thread panics while holding the lock";

#[derive(Default)]
pub(super) struct JournalProgress {
    state: Mutex<JournalState>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct JournalState {
    /// Changes that are not in the database yet, oldest first, each with its time.
    waiting: VecDeque<(Instant, Arc<Change>)>,
    /// Number of changes in the database.
    written: usize,
    /// How many of all changes have been written to the file beside the database.
    pub(super) aside: usize,
    /// The database cannot be written, and waiting does not help: the file does not replace it.
    pub(super) refused: bool,
    /// Problems, one line each: those not yet shown to the user, and all.
    troubles: Vec<String>,
    told: Vec<String>,
    /// The database has been replaced and may lack the conversation: everything must be written again.
    pub(super) gone: bool,
    /// How many retries the writer was asked for, and how many it has made.
    asked: usize,
    pub(super) tries: usize,
    /// The journal has ended.
    over: bool,
}

impl JournalState {
    fn given(&self) -> usize {
        self.written + self.waiting.len()
    }

    /// Whether everything is on the disk.
    pub(super) fn is_kept(&self) -> bool {
        self.is_written() || self.aside >= self.given()
    }

    /// Whether everything is in the database.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether there is a problem that the user has not been told, or waiting does not help.
    pub(super) fn is_in_trouble(&self) -> bool {
        !self.troubles.is_empty() || self.refused
    }

    /// Adds a problem for the user, each line once.
    pub(super) fn complain(&mut self, line: String) {
        if !self.told.contains(&line) {
            self.troubles.push(line.clone());
            self.told.push(line);
        }
    }
}

/// The next step of the thread that writes the file beside the database.
pub(super) enum AsideStep {
    /// Write these changes to the file; `end` is the total number of changes after that.
    Write {
        changes: Vec<Arc<Change>>,
        end: usize,
    },
    /// Remove the file: all its changes are in the database.
    Remove,
    Over,
}

impl JournalProgress {
    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().expect(UNBROKEN)
    }

    /// Changes the state and wakes all waiting threads.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut JournalState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    pub(super) fn is(&self, so: impl Fn(&JournalState) -> bool) -> bool {
        so(&self.state())
    }

    /// Waits until the state is as wanted, or until `deadline`.
    pub(super) fn wait(&self, deadline: Instant, wanted: impl Fn(&JournalState) -> bool) {
        let most = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.state(), most, |state| !wanted(state));
        drop(waited.expect(UNBROKEN));
    }

    // For the journal.

    pub(super) fn give(&self, change: Change) {
        self.change(|state| {
            // A later version of the same answer replaces the earlier one.
            if let Some((_, last)) = state.waiting.back_mut()
                && change.overtakes(last)
            {
                *last = Arc::new(last.overtaken());
            }
            state.waiting.push_back((Instant::now(), Arc::new(change)));
        });
    }

    pub(super) fn take_troubles(&self) -> Vec<String> {
        std::mem::take(&mut self.state().troubles)
    }

    pub(super) fn take_gone(&self) -> bool {
        std::mem::take(&mut self.state().gone)
    }

    /// Asks the writer for a retry; returns the value that `tries` reaches with it.
    pub(super) fn try_again(&self) -> usize {
        self.change(|state| {
            state.asked += 1;
            state.asked
        })
    }

    pub(super) fn end(&self) {
        self.change(|state| state.over = true);
    }

    // For the writer.

    /// The next change, and the number of retries asked for so far; `None` when the journal has ended.
    pub(super) fn next_change(&self) -> Option<(Arc<Change>, usize)> {
        let idle = |state: &mut JournalState| state.waiting.is_empty() && !state.over;
        let state = self.changed.wait_while(self.state(), idle).expect(UNBROKEN);
        state.waiting.front().map(|(_, change)| (change.clone(), state.asked))
    }

    /// The oldest pending change is in the database.
    pub(super) fn written(&self) {
        self.change(|state| {
            state.waiting.pop_front();
            state.written += 1;
            state.refused = false;
            if state.waiting.is_empty() {
                state.tries = state.asked;
            }
        });
    }

    /// The oldest pending change could not be written. Returns when there is a reason to retry; `false`: the
    /// journal has ended.
    pub(super) fn failed(&self, asked: usize, patience: Duration) -> bool {
        let given = self.change(|state| {
            state.tries = asked;
            state.given()
        });
        let deadline = Instant::now() + patience;
        self.wait(deadline, |state| state.asked > asked || state.given() > given || state.over);
        !self.is(|state| state.over)
    }

    // For the thread that writes the file.

    /// Waits for the next step. `begun`: the file exists.
    pub(super) fn next_aside(&self, begun: bool, not_before: Instant) -> AsideStep {
        let mut state = self.state();
        loop {
            if begun && state.written >= state.aside {
                return AsideStep::Remove;
            }
            let oldest = state.waiting.get(state.aside.saturating_sub(state.written));
            let due = oldest.filter(|_| !state.refused).map(|(given, _)| (*given + GRACE).max(not_before));
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => {
                    // A new file gets all pending changes.
                    let there = if begun { state.aside - state.written } else { 0 };
                    let changes = state.waiting.iter().skip(there).map(|(_, change)| change.clone());
                    let changes = changes.collect();
                    return AsideStep::Write { changes, end: state.given() };
                }
                None if state.over => return AsideStep::Over,
                None => self.changed.wait(state).expect(UNBROKEN),
                Some(left) => self.changed.wait_timeout(state, left).expect(UNBROKEN).0,
            };
        }
    }
}
