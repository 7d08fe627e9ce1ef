//! Lists of conversations, ids, and full-text search.

use rusqlite::{OptionalExtension, Row, params};

use super::{Conversations, Error, text};
use crate::chat::Role;
use crate::clock::now;

/// Times after this one come from a wrong clock: such conversations come last, or they would stay the newest
/// for years. Clocks that are only a little fast do no harm.
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
    /// The number of all messages, and of those on the path to the head.
    pub messages: u32,
    pub path: u32,
}

/// A message found by a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub conversation: Summary,
    pub role: Role,
    /// An excerpt of the text, with the matching words between [`Hit::BEGIN`] and [`Hit::END`].
    pub snippet: String,
}

impl Hit {
    pub const BEGIN: char = '\u{2}';
    pub const END: char = '\u{3}';
}

/// Counts the messages on the path to the head. A parent has a smaller row number than its child; otherwise
/// the database is damaged.
const PATH: &str = "(with recursive up(number, parent) as \
    (select number, parent from message where number = conversation.head and conversation = conversation.id \
    union all select message.number, message.parent from up join message on message.number = up.parent \
    where message.number < up.number) select count(*) from up)";

/// Facts about all conversations without walking their paths: the number of messages, the first and the last
/// one, and whether there are branches. Without branches and with the last message as head, all messages are
/// on the path.
const ALL: &str = "with held(id, messages, first, last) as materialized \
    (select conversation, count(*), min(number), max(number) from message group by conversation), \
    forked(id) as materialized (select conversation from message where number in \
    (select parent from message where parent is not null group by parent having count(*) > 1) \
    union select conversation from message where parent is null and number not in (select first from held))";

/// Selects conversations.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Part of the model's name.
    pub model: Option<String>,
    /// Changed at this time or later, in milliseconds since 1970.
    pub since: Option<i64>,
    pub most: Option<usize>,
}

impl Conversations {
    /// The ids that begin with `prefix`, of conversations with at least one message; at most 20.
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

    /// Conversations with at least one message, most recently changed first.
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

    /// The beginning of the last message, after `> ` if it is the user's.
    pub fn last_words(&self, id: &str) -> Result<Option<String>, Error> {
        let query = "select role, substr(text, 1, 2000) from message \
                     where number = (select head from conversation where id = ?1)";
        let said = |row: &Row| {
            let who = if text(row, 0)?.as_deref() == Some(Role::User.name()) { "> " } else { "" };
            Ok(format!("{who}{}", text(row, 1)?.unwrap_or_default()))
        };
        Ok(self.connection.query_row(query, [id], said).optional()?)
    }

    /// Messages that contain all these words, newest first: ranking would have to read all matches. The last
    /// word may be a prefix.
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
