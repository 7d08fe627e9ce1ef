//! A misspelled name → the one probably meant.

/// The name with the fewest edits from `typed`, if few enough: a third of its letters, at least one.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = names.map(|name| (edits(typed, name), name)).min();
    best.filter(|(edits, name)| *edits <= (name.chars().count() / 3).max(1)).map(|(_, name)| name)
}

/// Letters to change, add, drop or swap with their neighbour (optimal string alignment distance).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
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
