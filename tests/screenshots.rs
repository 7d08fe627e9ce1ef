//! Pictures of the terminal for the README: a screen → SVG, as text. `scripts/screenshots` makes them from runs
//! with the default model.

use std::fmt::Write;
use std::fs;

use vt100::{Cell, Color, Screen};

use crate::support::pty::*;
use crate::support::{Home, cannot_run, default_model, program, repository};

/// The size of a character, and the space around all of them, in pixels.
const CELL: (f32, f32) = (8.4, 19.0);
const AROUND: f32 = 16.0;
const FOREGROUND: &str = "#d7dae0";
const BACKGROUND: &str = "#16181d";
/// The 16 colours of terminals.
const COLOURS: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf", "#6b7280",
    "#f08d94", "#b5d99c", "#f0d399", "#8cc8f7", "#d9a1e8", "#82d0da", "#ffffff",
];
/// Set by `scripts/screenshots`: the folder for the pictures.
const FOLDER: &str = "FIRESIDE_TEST_SCREENSHOTS";

/// How a run of characters looks.
#[derive(PartialEq)]
struct Look {
    class: String,
    colour: String,
    behind: Option<String>,
}

impl Look {
    fn of(cell: &Cell) -> Look {
        let (front, back) = (shade(cell.fgcolor()), shade(cell.bgcolor()));
        let (front, back) = match cell.inverse() {
            true => (Some(back.unwrap_or(BACKGROUND.into())), Some(front.unwrap_or(FOREGROUND.into()))),
            false => (front, back),
        };
        let marks = [('b', cell.bold()), ('d', cell.dim()), ('i', cell.italic()), ('u', cell.underline())];
        let class = marks.iter().filter(|(_, is)| *is).map(|(mark, _)| mark.to_string()).collect::<Vec<_>>();
        Look { class: class.join(" "), colour: front.unwrap_or_default(), behind: back }
    }
}

/// A colour of a terminal; `None`: the default.
fn shade(colour: Color) -> Option<String> {
    Some(match colour {
        Color::Default => return None,
        Color::Idx(n @ 0..16) => COLOURS[usize::from(n)].to_string(),
        Color::Idx(n @ 16..232) => {
            let level = |n: u8| [0, 95, 135, 175, 215, 255][usize::from(n % 6)];
            let n = n - 16;
            format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6), level(n))
        }
        Color::Idx(n) => format!("#{:02x}{0:02x}{0:02x}", 8 + 10 * (n - 232)),
        Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
    })
}

/// A screen of this many columns as an SVG file, without the empty rows at its end.
fn svg(screen: &Screen, columns: u16) -> String {
    let rows = screen.rows(0, columns).collect::<Vec<_>>();
    let used = rows.iter().rposition(|row| !row.trim_end().is_empty()).map_or(1, |last| last + 1);
    let (wide, high) = (f32::from(columns) * CELL.0 + 2.0 * AROUND, used as f32 * CELL.1 + 2.0 * AROUND);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\">\n\
         <style>text {{ font: 14px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre; fill: {FOREGROUND} }}\n\
         .b {{ font-weight: bold }} .d {{ opacity: .6 }} .i {{ font-style: italic }} .u {{ text-decoration: underline }}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    for row in 0..used as u16 {
        let mut column = 0;
        while let Some(cell) = screen.cell(row, column) {
            let (look, first) = (Look::of(cell), column);
            let mut run = String::new();
            while let Some(cell) =
                screen.cell(row, column).filter(|cell| cell.is_wide_continuation() || Look::of(cell) == look)
            {
                if !cell.is_wide_continuation() {
                    run += if cell.has_contents() { cell.contents() } else { " " };
                }
                column += 1;
            }
            drawn(&mut text, &run, &look, (row, first, column - first));
        }
    }
    text + "</svg>\n"
}

/// A run of characters; row, column and length in cells.
fn drawn(svg: &mut String, run: &str, look: &Look, (row, column, length): (u16, u16, u16)) {
    let (left, top) = (AROUND + f32::from(column) * CELL.0, AROUND + f32::from(row) * CELL.1);
    if let Some(colour) = &look.behind {
        let (wide, high) = (f32::from(length) * CELL.0, CELL.1);
        writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{wide:.1}\" height=\"{high}\" fill=\"{colour}\"/>"
        )
        .unwrap();
    }
    let shown = run.trim_end();
    let before = run.chars().take_while(|c| *c == ' ').count();
    if shown.is_empty() {
        return;
    }
    let cells = usize::from(length) - before - (run.len() - shown.len());
    let (left, wide) = (left + before as f32 * CELL.0, cells as f32 * CELL.0);
    let class = if look.class.is_empty() { String::new() } else { format!(" class=\"{}\"", look.class) };
    let fill =
        if look.colour.is_empty() { String::new() } else { format!(" style=\"fill: {}\"", look.colour) };
    let escaped = shown.trim_start_matches(' ').replace('&', "&amp;").replace('<', "&lt;");
    let bottom = top + 14.0;
    writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{bottom}\" textLength=\"{wide:.1}\"{class}{fill}>{escaped}</text>"
    )
    .unwrap();
}

#[test]
fn a_picture_has_the_text_in_its_places_and_colours() {
    let size = |n| std::num::NonZeroU16::new(n).unwrap();
    let mut terminal = vt100::Parser::new(size(4), size(20), 0);
    terminal.process("\x1b[1mbold\x1b[m <a & b>\r\n  \x1b[2;31m日本\x1b[m x\x1b[7minverse\x1b[m".as_bytes());
    let picture = svg(terminal.screen(), 20);
    let lines: Vec<&str> = picture.lines().skip(4).collect();
    assert_eq!(
        lines,
        [
            "<text x=\"16.0\" y=\"30\" textLength=\"33.6\" class=\"b\">bold</text>",
            "<text x=\"58.0\" y=\"30\" textLength=\"58.8\">&lt;a &amp; b></text>",
            "<text x=\"32.8\" y=\"49\" textLength=\"33.6\" class=\"d\" style=\"fill: #e06c75\">日本</text>",
            "<text x=\"74.8\" y=\"49\" textLength=\"8.4\">x</text>",
            "<rect x=\"83.2\" y=\"35\" width=\"58.8\" height=\"19\" fill=\"#d7dae0\"/>",
            "<text x=\"83.2\" y=\"49\" textLength=\"58.8\" style=\"fill: #16181d\">inverse</text>",
            "</svg>",
        ]
    );
    assert!(picture.contains("viewBox=\"0 0 200 70\""), "two rows: {picture}");
}

/// Writes the pictures, if it is told where.
#[test]
fn the_pictures_of_the_readme() {
    let Some(folder) = std::env::var_os(FOLDER).map(|folder| repository().join(folder)) else { return };
    let Some(model) = default_model() else { return cannot_run("the default model is not there") };
    fs::create_dir_all(&folder).unwrap();
    let save = |name: &str, terminal: &Terminal, columns: u16| {
        let picture = terminal.screen_as(|screen| svg(screen, columns));
        fs::write(folder.join(name).with_extension("svg"), picture).unwrap();
    };
    let home = Home::new();
    fs::create_dir_all(home.path(".cache/fireside/prompts")).unwrap(); // would be named otherwise
    home.write("notes.txt", "The meeting is on Tuesday at ten in the library. Bring the blue folder.\n");
    // No times, and nothing that was measured decides a token.
    home.write(".config/fireside/config.toml", "stats = false\nseed = 1\n");
    home.scripted("x\n", &["--keep", "-p", "x"]).done().code(0); // says where conversations are saved
    let model = model.to_str().unwrap();
    let columns = 90;
    let setup = |rows, environment| Setup { columns, rows, environment };

    let mut chat = home.terminal_as(&setup(56, Vec::new()), &["-m", model, "--temp", "0"]);
    chat.at_prompt();
    for question in QUESTIONS {
        chat.line(question).sees(question).at_prompt();
    }
    save("chat", &chat, columns);
    chat.resize_to(columns, 14);
    for line in ["/begin In short:", "/retry", "And which is faster?"] {
        chat.line(line).sees(line).at_prompt();
    }
    chat.line("/tree").sees("Enter selects");
    save("tree", &chat, columns);
    chat.keys(ESC).at_prompt().keys(CTRL_D).ends();
    drop(chat);

    let commands = [
        "cat notes.txt | fireside -p 'When is the meeting?' --temp 0",
        "cat notes.txt | fireside -p 'Where is the meeting?' --temp 0 > answer.txt",
        "cat answer.txt",
    ];
    let run = commands.map(|line| format!("printf '\\033[1m$\\033[m %s\\n' \"{line}\"; {line}"));
    let line = format!("program=$1; fireside() {{ \"$program\" \"$@\"; }}; {}", run.join("; "));
    let model = setup(14, vec![("FIRESIDE_MODEL", model.into())]);
    let mut pipe = home.shell_command(&model, &line, &[program().to_string()]);
    pipe.ends();
    save("pipe", &pipe, columns);
}

/// Questions that the default model answers with Markdown.
const QUESTIONS: [&str; 2] = [
    "Give three tips for naming variables, as a short numbered list.",
    "How do I reverse a string in Python? Give a list of two ways with code.",
];
