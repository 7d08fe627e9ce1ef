//! Rows of cells → lines, with columns as wide as their widest cell. A terminal that is too narrow gets fewer
//! and narrower columns, or a block of lines per row if even those do not fit.

use super::sanitize;
use super::wrap::{TextKind, width, wrapped};

/// How a column adapts to a narrow terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Always shown in full: arguments for commands, the most important facts.
    Whole,
    /// Left out if necessary, the highest number first.
    Spare(u8),
    /// Its cells wrap to the next line.
    Wraps,
    /// Its cells are cut at the end.
    Cut,
}

/// The gap between columns, in cells.
const GAP: usize = 2;
/// Narrowest width of cells while a spare column remains.
const ENOUGH: usize = 24;
/// Narrowest width of cut cells.
const LEAST: usize = 12;

/// The table: an entry for the headings (empty if there are none) and one for each row. An entry may have
/// several lines; without a terminal width it has one.
pub fn table<const N: usize>(
    columns: [(&str, Column); N],
    rows: &[[String; N]],
    terminal: Option<usize>,
) -> Vec<String> {
    // Names may contain anything; line breaks and tabs must not break the layout.
    let cell = |cell: &String| sanitize(&cell.replace(['\n', '\r', '\t'], "\u{2424}")).into_owned();
    let headings = columns.map(|(heading, _)| heading.to_string());
    let mut cells = vec![headings];
    cells.extend(rows.iter().map(|row| row.each_ref().map(cell)));
    let natural: Vec<usize> =
        (0..N).map(|column| cells.iter().map(|row| width(&row[column])).max().unwrap_or(0)).collect();
    let kinds = columns.map(|(_, kind)| kind);
    match terminal.map(|terminal| fitted(&kinds, &natural, &cells, terminal)) {
        None => cells.iter().map(|row| line(row, &kinds, &natural)).collect(),
        Some(Some(widths)) => cells.iter().map(|row| line(row, &kinds, &widths)).collect(),
        Some(None) => {
            let blocks = cells[1..].iter().map(|row| block(&cells[0], row));
            [String::new()].into_iter().chain(blocks).collect()
        }
    }
}

/// Names and their descriptions, without headings.
pub fn pairs(rows: &[[String; 2]], terminal: Option<usize>) -> Vec<String> {
    table([("", Column::Whole), ("", Column::Wraps)], rows, terminal).split_off(1)
}

/// The widths of the columns, 0 for those left out; `None`: the required ones do not fit.
fn fitted<const N: usize>(
    kinds: &[Column; N],
    natural: &[usize],
    cells: &[[String; N]],
    terminal: usize,
) -> Option<Vec<usize>> {
    let least: Vec<usize> = (0..N)
        .map(|column| match kinds[column] {
            Column::Cut => natural[column].min(LEAST),
            Column::Wraps => {
                cells.iter().flat_map(|row| row[column].split(' ').map(width)).max().unwrap_or(0)
            }
            _ => natural[column],
        })
        .collect();
    let mut widths = natural.to_vec();
    let gaps = |widths: &[usize]| GAP * widths.iter().filter(|width| **width > 0).count().saturating_sub(1);
    loop {
        let enough = |column: usize| widths[column].min(ENOUGH.max(least[column]));
        let needed = (0..N).map(|column| match kinds[column] {
            Column::Cut | Column::Wraps => enough(column),
            _ => widths[column],
        });
        if needed.sum::<usize>() + gaps(&widths) <= terminal {
            break;
        }
        let spare = (0..N).filter(|column| widths[*column] > 0).filter_map(|column| match kinds[column] {
            Column::Spare(rank) => Some((rank, column)),
            _ => None,
        });
        let Some((_, column)) = spare.max() else { break };
        widths[column] = 0;
    }
    while widths.iter().sum::<usize>() + gaps(&widths) > terminal {
        let widest =
            (0..N).filter(|column| widths[*column] > least[*column]).max_by_key(|column| widths[*column]);
        widths[widest?] -= 1;
    }
    Some(widths)
}

fn line<const N: usize>(row: &[String; N], kinds: &[Column; N], widths: &[usize]) -> String {
    let shown: Vec<usize> = (0..N).filter(|column| widths[*column] > 0).collect();
    let cells: Vec<Vec<String>> = shown
        .iter()
        .map(|column| match kinds[*column] {
            Column::Cut => vec![cut(&row[*column], widths[*column])],
            Column::Wraps => {
                let lines = wrapped(&row[*column], TextKind::Columns, widths[*column]);
                lines.split('\n').map(String::from).collect()
            }
            _ => vec![row[*column].clone()],
        })
        .collect();
    let height = cells.iter().map(Vec::len).max().unwrap_or(0);
    let lines = (0..height).map(|at| {
        let mut line = String::new();
        for (cell, column) in cells.iter().zip(&shown) {
            let text = cell.get(at).map_or("", String::as_str);
            line += &format!("{text}{:1$}", "", (widths[*column] + GAP).saturating_sub(width(text)));
        }
        line.trim_end().to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A row as a block: the first cell, and below it the others with their headings.
fn block<const N: usize>(headings: &[String; N], row: &[String; N]) -> String {
    let widest = headings[1..].iter().map(|heading| width(heading)).max().unwrap_or(0);
    let mut lines = vec![row[0].trim_end().to_string()];
    for (heading, cell) in headings.iter().zip(row).skip(1).filter(|(_, cell)| !cell.trim().is_empty()) {
        let heading = if widest > 0 { format!("{heading:widest$}  ") } else { String::new() };
        lines.push(format!("  {heading}{}", cell.trim()));
    }
    lines.join("\n")
}

/// The beginning of a text, at most `most` cells wide. Ends between words unless the word there is too long.
pub fn cut(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_string();
    }
    let (beginning, rest) = text.split_at(beginning(text, most.saturating_sub(1)));
    let begun = beginning.rfind(' ').map_or(0, |at| at + 1);
    let word = width(&beginning[begun..]) + width(rest.split(' ').next().unwrap_or_default());
    let whole = beginning[..begun].trim_end();
    let ends = if word > most || whole.is_empty() { beginning } else { whole };
    format!("{}…", ends.trim_end())
}

/// The beginning and the end of a name, at most `most` cells wide: names may differ at either end.
pub fn squeezed(name: &str, most: usize) -> String {
    if width(name) <= most {
        return name.to_string();
    }
    let room = most.saturating_sub(1);
    let backwards: String = name.chars().rev().collect();
    let end = name.len() - beginning(&backwards, room - room / 3);
    format!("{}…{}", &name[..beginning(name, room / 3)], &name[end..])
}

/// The byte where the first `cells` cells of a text end.
fn beginning(text: &str, cells: usize) -> usize {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.take_while(|end| width(&text[..*end]) <= cells).last().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(terminal: Option<usize>) -> String {
        let columns = [("NAME", Column::Whole), ("KIND", Column::Spare(1)), ("ABOUT", Column::Cut)];
        let rows = [
            ["one", "first", "日本語の長い題名です"],
            ["another", "second", "a title of some words that is long"],
        ];
        table(columns, &rows.map(|row| row.map(String::from)), terminal).join("\n")
    }

    #[test]
    fn columns_are_left_out_and_cut_until_they_fit() {
        let all = "NAME     KIND    ABOUT\none      first   日本語の長い題名です\nanother  second  a title of some words that is long";
        assert_eq!(lines(None), all);
        assert_eq!(lines(Some(80)), all);
        let narrow = "NAME     ABOUT\none      日本語の長い題名です\nanother  a title of some words…";
        assert_eq!(lines(Some(34)), narrow);
        assert_eq!(lines(Some(22)), "NAME     ABOUT\none      日本語の長い…\nanother  a title of…");
        let blocks = "\none\n  KIND   first\n  ABOUT  日本語の長い題名です\nanother\n  KIND   second\n  ABOUT  a title of some words that is long";
        assert_eq!(lines(Some(15)), blocks);
    }

    #[test]
    fn a_text_is_cut_between_words() {
        assert_eq!(cut("Explain gravitational waves", 18), "Explain…");
        assert_eq!(cut("Explain gravitational waves", 24), "Explain gravitational…");
        assert_eq!(cut("See https://example.org/a/path", 20), "See https://example…", "the word is too long");
        assert_eq!(cut("Incomprehensible", 8), "Incompr…");
        assert_eq!(squeezed("Some-Model-7B-Instruct-Q4_K_M", 16), "Some-…uct-Q4_K_M");
    }

    #[test]
    fn a_cell_may_go_on_in_the_next_line() {
        let columns = [("NAME", Column::Whole), ("FITS", Column::Wraps), ("SIZE", Column::Whole)];
        let rows = [["a", "with 2048 tokens of context", "1 GiB"].map(String::from)];
        let lines = table(columns, &rows, Some(30)).join("\n");
        assert_eq!(lines, "NAME  FITS               SIZE\na     with 2048 tokens   1 GiB\n      of context");
    }
}
