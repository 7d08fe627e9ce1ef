//! A misspelled name → the most similar valid one.

use strsim::osa_distance;

/// The name closest to `typed`, at most one edit per three letters away, or one. An edit changes, adds or
/// removes a letter, or swaps two adjacent ones.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let best = names.map(|name| (osa_distance(&typed, &name.to_lowercase()), name)).min();
    best.filter(|(edits, name)| *edits <= (name.chars().count() / 3).max(1)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        let names = ["temp", "top-k", "retry", "exit"];
        assert_eq!(nearest("tepm", names.into_iter()), Some("temp"));
        assert_eq!(nearest("rety", names.into_iter()), Some("retry"));
        assert_eq!(nearest("banana", names.into_iter()), None);
    }
}
