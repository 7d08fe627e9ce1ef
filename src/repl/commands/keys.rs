//! The keys of the chat: one table for `/help keys`, `fireside help keys` and docs/chat.md.

/// Keys, or what is typed, and what they do; in Markdown.
pub const KEYS: &[(&str, &str)] = &[
    ("Enter", "send the message"),
    ("Alt-Enter, Shift-Enter, Ctrl-J", "start a new line (Shift-Enter where the terminal reports it)"),
    ("`\\` at the end of a typed line", "continue on the next line"),
    ("`\"\"\"` … `\"\"\"`", "enclose several lines"),
    ("Ctrl-C, Esc during an answer", "stop the answer and keep the text so far"),
    ("text during an answer", "stands below it and goes into the next prompt"),
    ("Ctrl-C at the prompt", "clear the line (Up brings it back); twice on an empty line: leave"),
    ("Ctrl-D", "leave"),
    ("Esc at the prompt", "cancel a search or a completion; with `/set keys vi`, leave insert mode"),
    ("Esc at a question", "answer no"),
    ("Up, Ctrl-R", "recall or search earlier lines, including those of earlier sessions"),
    (
        "Right, End, Ctrl-E at the end",
        "accept the dim suggestion: the rest of the path that you type after `@`, or of the latest line with this beginning \
         (`/set hints off`)",
    ),
    (
        "Tab",
        "complete commands, settings and their values, models, conversation IDs and paths, also after `@`; twice: list them \
         with descriptions, twice more: the next page",
    ),
    ("`@PATH` in a typed message", "attach a file or a folder (`\\@PATH` stays text)"),
    ("`!COMMAND`", "run a command of the shell and attach its output"),
    ("Ctrl-W, Alt-Backspace", "delete a word"),
    ("Ctrl-G, Ctrl-X Ctrl-E", "edit the line in `$VISUAL` or `$EDITOR`; Ctrl-G cancels a search"),
    ("Ctrl-L", "clear the screen and keep the line"),
    ("Ctrl-Z", "suspend fireside; in the background (`bg`), an answer goes on"),
];

/// The table as a terminal shows it.
pub fn keys() -> Vec<[String; 2]> {
    KEYS.iter().map(|(key, does)| [key.replace('`', ""), does.replace('`', "")]).collect()
}
