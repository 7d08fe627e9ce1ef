//! Lists of conversations, ids, and full-text search.

use rusqlite::{OptionalExtension, Row, params};

use super::{Conversations, Error, text};
use crate::chat::Role;
use crate::clock::now;

/// From then on a time is one that a wrong clock told. Such conversations come last, or they would be the newest for years;
/// clocks of which one is only a little fast change nothing.
fn future() -> i64 {
    now().saturating_add(24 * 3_600_000)
}

/// A conversation in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub id: String,
    pub title: String,
    pub changed: i64,
    pub model: Option<String>,
    /// All of its messages, and those on the path to its head.
    pub messages: u32,
    pub path: u32,
}

/// A message that was searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub conversation: Summary,
    pub role: Role,
    /// The place in the text, the words found between [`Hit::BEGIN`] and [`Hit::END`].
    pub snippet: String,
}

impl Hit {
    pub const BEGIN: char = '\u{2}';
    pub const END: char = '\u{3}';
}

/// How many messages of a conversation are on the path to its head. A parent always has a smaller number, or it is damage.
const PATH: &str = "(with recursive up(number, parent) as \
    (select number, parent from message where number = conversation.head and conversation = conversation.id \
    union all select message.number, message.parent from up join message on message.number = up.parent \
    where message.number < up.number) select count(*) from up)";

/// What is known of all conversations without going along their paths: how many messages they have, which one was kept last,
/// and in which of them something branches. Where nothing does and that last one is the head, all are on the path.
const ALL: &str = "with held(id, messages, first, last) as materialized \
    (select conversation, count(*), min(number), max(number) from message group by conversation), \
    forked(id) as materialized (select conversation from message where number in \
    (select parent from message where parent is not null group by parent having count(*) > 1) \
    union select conversation from message where parent is null and number not in (select first from held))";

/// Which conversations are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// A part of the model's name.
    pub model: Option<String>,
    /// Changed then or later, in milliseconds since 1970.
    pub since: Option<i64>,
    pub most: Option<usize>,
}

impl Conversations {
    /// The ids of conversations with at least one message that begin with `prefix`, at most a few.
    pub fn ids(&self, prefix: &str) -> Result<Vec<String>, Error> {
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Vec::new());
        }
        let query = "select id from conversation where id >= ?1 and id < ?1 || 'g' \
                     and exists (select 1 from message where conversation = conversation.id) order by id limit 20";
        let mut statement = self.connection.prepare(query)?;
        let ids = statement.query_map([prefix.to_lowercase()], |row| row.get(0))?;
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// Conversations with at least one message, the one changed last first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>, Error> {
        let query = format!(
            "{ALL} select conversation.id, title, changed, model, messages, \
             case when head is last and conversation.id not in forked then messages else {PATH} end \
             from conversation join held on held.id = conversation.id \
             where (?1 is null or instr(lower(coalesce(model, '')), lower(?1)) > 0) \
             and (?2 is null or changed >= ?2) order by changed > ?4, changed desc limit ?3"
        );
        let mut statement = self.connection.prepare(&query)?;
        let most = filter.most.map_or(-1, |most| most as i64);
        let rows = statement.query_map(params![filter.model, filter.since, most, future()], summary)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The beginning of what was said last, with `> ` before it if that was the user.
    pub fn last_words(&self, id: &str) -> Result<Option<String>, Error> {
        let query = "select role, substr(text, 1, 2000) from message \
                     where number = (select head from conversation where id = ?1)";
        let said = |row: &Row| {
            let who = if text(row, 0)?.as_deref() == Some(Role::User.name()) { "> " } else { "" };
            Ok(format!("{who}{}", text(row, 1)?.unwrap_or_default()))
        };
        Ok(self.connection.query_row(query, [id], said).optional()?)
    }

    /// Messages that have all these words, the one kept last first: to find the best of many, all would have to be ranked.
    /// The last word may be the beginning of one.
    pub fn search(&self, words: &str, filter: &Filter) -> Result<Vec<Hit>, Error> {
        let words: Vec<String> =
            words.split_whitespace().map(|word| format!("\"{}\"", word.replace('"', "\"\""))).collect();
        if words.is_empty() {
            return Ok(Vec::new());
        }
        let query = format!(
            "select conversation.id, title, changed, model, \
             (select count(*) from message where conversation = conversation.id), {PATH}, role, \
             snippet(word, 0, char(2), char(3), '…', 16) \
             from word join message on message.number = word.rowid \
             join conversation on conversation.id = message.conversation \
             where word match ?1 and (?2 is null or instr(lower(coalesce(model, '')), lower(?2)) > 0) \
             and (?3 is null or changed >= ?3) order by word.rowid desc limit ?4"
        );
        let mut statement = self.connection.prepare(&query)?;
        let most = filter.most.map_or(-1, |most| most as i64);
        let rows =
            statement.query_map(params![words.join(" ") + "*", filter.model, filter.since, most], |row| {
                Ok(Hit {
                    conversation: summary(row)?,
                    role: Role::from(text(row, 6)?.unwrap_or_default()),
                    snippet: text(row, 7)?.unwrap_or_default(),
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn summary(row: &Row) -> rusqlite::Result<Summary> {
    Ok(Summary {
        id: row.get(0)?,
        title: text(row, 1)?.unwrap_or_default(),
        changed: row.get(2)?,
        model: text(row, 3)?,
        messages: row.get(4)?,
        path: row.get(5)?,
    })
}
