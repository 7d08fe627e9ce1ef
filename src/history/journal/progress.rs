//! The state that the journal and its two threads share: pending changes, their progress, and problems.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::change::Change;

/// How long the database may take before a file beside it takes a change. The first word of an answer waits that long at most.
const GRACE: Duration = Duration::from_millis(200);
const UNBROKEN: &str = "no thread panics while holding the lock";

#[derive(Default)]
pub(super) struct JournalProgress {
    state: Mutex<JournalState>,
    changed: Condvar,
}

#[derive(Default)]
pub(super) struct JournalState {
    /// Given and not yet in the database, the oldest first, each with when it was given.
    waiting: VecDeque<(Instant, Arc<Change>)>,
    /// How many are in the database.
    written: usize,
    /// How many of all are in the file beside it, or were.
    pub(super) aside: usize,
    /// The database cannot be written, and waiting does not help: no file stands in for it.
    pub(super) refused: bool,
    /// A line each, for the user: what was not told yet, and all.
    troubles: Vec<String>,
    told: Vec<String>,
    /// The database is another one than before, and the conversation may not be in it: all of it is to be given again.
    pub(super) gone: bool,
    /// How often the writer was asked to try again, and how often it has.
    asked: usize,
    pub(super) tries: usize,
    /// Nobody gives changes any more.
    over: bool,
}

impl JournalState {
    fn given(&self) -> usize {
        self.written + self.waiting.len()
    }

    /// Whether everything is on the disk.
    pub(super) fn is_kept(&self) -> bool {
        self.waiting.is_empty() || self.aside >= self.given()
    }

    pub(super) fn is_in_trouble(&self) -> bool {
        !self.troubles.is_empty()
    }

    /// Tells the user, each line once.
    pub(super) fn complain(&mut self, line: String) {
        if !self.told.contains(&line) {
            self.troubles.push(line.clone());
            self.told.push(line);
        }
    }
}

/// What the thread that stands in for the database is to do.
pub(super) enum AsideStep {
    /// Changes to put aside, up to the one of that number.
    Write {
        changes: Vec<Arc<Change>>,
        end: usize,
    },
    /// All that was put aside is in the database.
    Remove,
    Over,
}

impl JournalProgress {
    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().expect(UNBROKEN)
    }

    /// Changes the state and wakes whoever waits for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut JournalState) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    pub(super) fn is(&self, so: impl Fn(&JournalState) -> bool) -> bool {
        so(&self.state())
    }

    /// Waits until the state is as wanted, or until then.
    pub(super) fn wait(&self, deadline: Instant, wanted: impl Fn(&JournalState) -> bool) {
        let most = deadline.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout_while(self.state(), most, |state| !wanted(state));
        drop(waited.expect(UNBROKEN));
    }

    // What the journal does.

    pub(super) fn give(&self, change: Change) {
        self.change(|state| {
            // What an answer says so far, later: the one before need not be kept any more.
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

    /// Has the writer try again; `tries` is this when it has.
    pub(super) fn try_again(&self) -> usize {
        self.change(|state| {
            state.asked += 1;
            state.asked
        })
    }

    pub(super) fn end(&self) {
        self.change(|state| state.over = true);
    }

    // What the writer does.

    /// The change that is next, and how often trying again was asked for before; `None`: there will be none.
    pub(super) fn next_change(&self) -> Option<(Arc<Change>, usize)> {
        let idle = |state: &mut JournalState| state.waiting.is_empty() && !state.over;
        let state = self.changed.wait_while(self.state(), idle).expect(UNBROKEN);
        state.waiting.front().map(|(_, change)| (change.clone(), state.asked))
    }

    /// The first of those that wait is in the database.
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

    /// It could not be written. Returns when there is a reason to try again; `false`: there is none any more.
    pub(super) fn failed(&self, asked: usize, patience: Duration) -> bool {
        let given = self.change(|state| {
            state.tries = asked;
            state.given()
        });
        let deadline = Instant::now() + patience;
        self.wait(deadline, |state| state.asked > asked || state.given() > given || state.over);
        !self.is(|state| state.over)
    }

    // What the thread that stands in does.

    /// What is next; `begun`: there is a file.
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
                    // A new file has all that waits.
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
