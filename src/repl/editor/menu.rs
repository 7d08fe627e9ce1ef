//! What Tab offers → rows of a menu: each candidate with its description if the window is wide enough, else the
//! names in columns. More than the window has rows for come in pages.

use std::cell::{Cell, RefCell};

use rustyline::completion::Pair;

use crate::repl::candidate::Candidate;
use crate::ui::table::cut;
use crate::ui::{acts, sanitize, terminal, width};

/// Cells between the columns.
const GAP: usize = 2;
/// Fewest cells for a description.
const SHORTEST: usize = 12;

/// The menu of the last Tab.
#[derive(Default)]
pub(super) struct Menu {
    /// What the line would become by it, and its page.
    last: RefCell<(String, usize)>,
    /// Whether it was on the screen: the first Tab only completes, the second one lists.
    shown: Cell<bool>,
    /// Whether its names are followed by descriptions.
    described: Cell<bool>,
}

impl Menu {
    /// The menu of these candidates, which would stand after `before`; the next page if it was shown before.
    pub(super) fn page(&self, before: &str, mut offered: Vec<Candidate>) -> Vec<Pair> {
        offered.retain(|one| !one.name.contains(acts)); // a file name must not control the terminal
        let Some(window) = terminal::window() else { return offered.into_iter().map(named).collect() };
        let common = common(&offered);
        let mut last = self.last.borrow_mut();
        let line = format!("{before}{common}");
        let again = self.shown.take() && last.0 == line;
        *last = (line, if again { last.1 + 1 } else { 0 });
        let (rows, described) = page(&offered, &common, last.1, window);
        self.described.set(described);
        rows
    }

    /// Begins anew with the first page once the line is another one.
    pub(super) fn follow(&self, line: &str) {
        if !line.starts_with(&self.last.borrow().0) {
            self.shown.set(false);
        }
    }

    /// A row on the screen, with its description apart from its name.
    pub(super) fn split<'r>(&self, row: &'r str) -> (&'r str, &'r str) {
        self.shown.set(true);
        let gap = if self.described.get() { row.find("  ") } else { None };
        row.split_at(gap.unwrap_or(row.len()))
    }
}

fn named(one: Candidate) -> Pair {
    Pair { display: one.name, replacement: one.text }
}

/// What all candidates begin with.
fn common(offered: &[Candidate]) -> String {
    let texts = || offered.iter().map(|one| one.text.as_str());
    let (first, last) = (texts().min().unwrap_or_default(), texts().max().unwrap_or_default());
    first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c).collect()
}

/// A page of the candidates, the first one again after the last; and whether they have descriptions. The last row
/// counts those of the other pages. Otherwise rustyline would show more rows than the window has. `common`: what
/// all candidates begin with.
fn page(offered: &[Candidate], common: &str, page: usize, window: (usize, usize)) -> (Vec<Pair>, bool) {
    let (columns, rows) = window;
    let rows = rows.saturating_sub(3).max(2); // so that the line stays on the screen
    let widest = offered.iter().map(|one| width(&one.name)).max().unwrap_or_default();
    let room = columns.checked_sub(widest + 2 * GAP).filter(|room| *room >= SHORTEST);
    let room = room.filter(|_| offered.iter().any(|one| !one.about.is_empty()));
    let more = |count: usize| match room {
        Some(_) => format!("… and {count} more: press Tab twice"),
        None => format!("… and {count} more"),
    };
    let widest = if room.is_some() { widest } else { widest.max(width(&more(offered.len()))) };
    let most = rows * if room.is_some() { 1 } else { (columns / (widest + GAP)).max(1) };
    let row = |one: &Candidate| {
        let described = room.map(|room| described(one, widest, room));
        Pair { display: described.unwrap_or_else(|| one.name.clone()), replacement: one.text.clone() }
    };
    let pages = if offered.len() > most { offered.chunks(most - 1).collect() } else { vec![offered] };
    let shown = pages[page % pages.len()];
    let mut menu: Vec<Pair> = shown.iter().map(row).collect();
    if shown.len() < offered.len() {
        let display = more(offered.len() - shown.len());
        menu.push(Pair { display, replacement: common.into() }); // rustyline completes what all rows begin with
    }
    if let Some(first) = menu.first_mut().filter(|_| room.is_some()) {
        // As wide as the window, so that rustyline makes one column.
        first.display += &" ".repeat((columns - GAP).saturating_sub(width(&first.display)));
    }
    (menu, room.is_some())
}

/// A name, in `widest` cells, and as much of its description as `room` cells hold.
fn described(one: &Candidate, widest: usize, room: usize) -> String {
    let about = sanitize(&one.about).replace(['\n', '\t'], " ");
    let gap = " ".repeat(widest + GAP - width(&one.name));
    format!("{}{gap}{}", one.name, cut(&about, room)).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(offered: &[Candidate], number: usize, window: (usize, usize)) -> Vec<String> {
        let (menu, _) = page(offered, &common(offered), number, window);
        menu.into_iter().map(|pair| pair.display.trim_end().to_string()).collect()
    }

    fn offered() -> [Candidate; 3] {
        [
            Candidate::new("max", "a number that is too long to be shown whole"),
            Candidate::new("日本", "two\nlines \u{9b}31m"),
            Candidate::from("longer"),
        ]
    }

    #[test]
    fn descriptions_are_aligned_and_cut() {
        let offered = offered();
        assert_eq!(width(&page(&offered, "", 0, (31, 10)).0[0].display), 29);
        let whole = ["max     a number that is…", "日本    two lines <U+009B>31m", "longer"];
        assert_eq!(shown(&offered, 0, (31, 10)), whole);
        assert_eq!(shown(&offered, 0, (20, 10)), ["max", "日本", "longer"], "no room for descriptions");
        assert!(!page(&offered[2..], "", 0, (80, 24)).1, "nothing to describe");
    }

    #[test]
    fn what_does_not_fit_comes_in_pages() {
        let offered = offered();
        let pages = [0, 1, 2, 3].map(|number| shown(&offered, number, (31, 5))[0].clone());
        assert_eq!(pages.map(|row| row[..3].to_string()), ["max", "日", "lon", "max"]);
        assert_eq!(shown(&offered, 0, (20, 5)), ["max", "… and 2 more"]);
        let files = ["src/a", "src/b", "src/bc"].map(Candidate::from);
        assert_eq!(common(&files), "src/");
        assert_eq!(page(&files, "src/", 1, (20, 5)).0[1].replacement, "src/", "not src/b");
        assert_eq!(common(&[]), "");
    }
}
