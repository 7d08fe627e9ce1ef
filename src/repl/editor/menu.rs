//! What Tab offers → rows of a menu: each candidate with its description if all fit the window, else the names
//! in columns.

use std::iter::once;

use rustyline::completion::Pair;

use crate::repl::candidate::Candidate;
use crate::ui::table::cut;
use crate::ui::{acts, sanitize, terminal, width};

/// Cells between the columns.
const GAP: usize = 2;
/// Fewest cells for a description.
const SHORTEST: usize = 12;

/// The menu. `true`: the names are followed by descriptions.
pub(super) fn menu(mut offered: Vec<Candidate>) -> (Vec<Pair>, bool) {
    offered.retain(|one| !one.name.contains(acts)); // a file name must not control the terminal
    let Some(window) = terminal::window() else { return (offered.into_iter().map(named).collect(), false) };
    described(&offered, window).map_or_else(|| (as_many_as_fit(offered, window), false), |menu| (menu, true))
}

fn named(one: Candidate) -> Pair {
    Pair { display: one.name, replacement: one.text }
}

/// How many rows the menu may have, so that the line stays on the screen.
fn most_rows(rows: usize) -> usize {
    rows.saturating_sub(3).max(2)
}

/// One row for each candidate; `None`: they do not fit, or nothing is known about them.
fn described(offered: &[Candidate], (columns, rows): (usize, usize)) -> Option<Vec<Pair>> {
    let widest = offered.iter().map(|one| width(&one.name)).max()?;
    let room = columns.checked_sub(widest + 2 * GAP).filter(|room| *room >= SHORTEST)?;
    if offered.len() > most_rows(rows) || offered.iter().all(|one| one.about.is_empty()) {
        return None;
    }
    let row = |one: &Candidate| {
        let about = sanitize(&one.about).replace(['\n', '\t'], " ");
        let gap = " ".repeat(widest + GAP - width(&one.name));
        let display = format!("{}{gap}{}", one.name, cut(&about, room));
        Pair { display: display.trim_end().to_string(), replacement: one.text.clone() }
    };
    let mut menu: Vec<Pair> = offered.iter().map(row).collect();
    // As wide as the window, so that rustyline makes one column.
    if let Some(first) = menu.first_mut() {
        first.display += &" ".repeat((columns - GAP).saturating_sub(width(&first.display)));
    }
    Some(menu)
}

/// The candidates that fit the window, with the number of the others in the last one. Otherwise rustyline
/// would ask whether to show them all, and take only few keys as an answer.
fn as_many_as_fit(offered: Vec<Candidate>, (columns, rows): (usize, usize)) -> Vec<Pair> {
    let mut offered: Vec<Pair> = offered.into_iter().map(named).collect();
    let more = |count: usize| format!("… and {count} more");
    let widths = offered.iter().map(|pair| width(&pair.display));
    let widest = widths.chain(once(width(&more(offered.len())))).max().unwrap_or_default();
    let most = (columns / (widest + GAP)).max(1) * most_rows(rows);
    if offered.len() > most {
        // Sorted, the first and the last candidate have the common prefix of all.
        offered.sort_by(|a, b| a.replacement.cmp(&b.replacement));
        let left_out = offered.len() - (most - 1);
        let last = offered.pop().map(|last| Pair { display: more(left_out), ..last });
        offered.truncate(most - 1);
        offered.extend(last);
    }
    offered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn displays(menu: Vec<Pair>) -> Vec<String> {
        menu.into_iter().map(|pair| pair.display.trim_end().to_string()).collect()
    }

    #[test]
    fn descriptions_are_aligned_and_cut() {
        let offered = [
            Candidate::new("max", "a number that is too long to be shown whole"),
            Candidate::new("日本", "two\nlines \u{9b}31m"),
            Candidate::from("longer"),
        ];
        let rows = described(&offered, (31, 10)).unwrap();
        assert_eq!(width(&rows[0].display), 29);
        assert_eq!(displays(rows), ["max     a number that is…", "日本    two lines <U+009B>31m", "longer"]);
        assert!(described(&offered, (20, 10)).is_none(), "no room for descriptions");
        assert!(described(&offered, (31, 5)).is_none(), "more than the screen has rows");
        assert!(described(&offered[2..], (80, 24)).is_none(), "nothing to describe");
        assert_eq!(displays(as_many_as_fit(offered.to_vec(), (20, 5))), ["longer", "… and 2 more"]);
    }
}
