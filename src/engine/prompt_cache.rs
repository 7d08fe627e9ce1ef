//! 4 — the prompt cache, on disk: which prefixes are worth saving, and which saved one spares a prefill.
//!
//! A cached prompt is a model's memory after some tokens, under a key of everything else that it depends on. It is a cache:
//! whatever is missing, damaged or for another model is evaluated again. If the model's memory can be truncated, a cached prompt
//! serves any prompt that has a beginning in common with it; elsewhere it must be, as a whole, a beginning of the prompt.
//!
//! `file.rs` is the format, `folder.rs` the place and its bounds, `writer.rs` the thread that writes. Next: prefill.rs.

mod file;
mod folder;
mod writer;

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use self::file::{CacheFileHeader, ReadError};
pub use self::folder::{DiskBounds, Usage, forget, usage};
use self::writer::{CacheWriter, Held};
use super::llama::{self, ContextOptions};
use super::token::Token;

/// Fewest tokens that are kept, or looked for.
pub const LEAST: usize = 16;
/// Bytes a second at which a state is restored on a slow machine.
const RESTORING: f64 = 400e6;
/// States that may be in memory at once on their way to the disk.
const MOST_WAITING: usize = 2;
/// What must be new in a cached prompt, as a share of it: when it goes on from one that is kept, and when it parts from one.
const NEW_GOING_ON: f64 = 0.05;
const NEW_PARTING: f64 = 0.25;

/// Bytes of memory that a state may take where the system does not say what is free.
const UNTOLD: u64 = 2 << 30;

/// When states are kept.
#[derive(Debug, Clone)]
pub struct Rules {
    /// What took less to read is not kept. Zero: everything is kept and restored, whatever that costs.
    pub worth: Duration,
    /// The same for what other conversations begin with, too: it saves something every time.
    pub worth_shared: Duration,
    pub bounds: DiskBounds,
    /// Says how many bytes of memory are free, if the system tells; a state may take half of them for a while.
    pub free: fn() -> Option<u64>,
}

impl Default for Rules {
    fn default() -> Rules {
        let (worth, worth_shared) = (Duration::from_millis(250), Duration::from_millis(30));
        Rules { worth, worth_shared, bounds: DiskBounds::default(), free: || None }
    }
}

impl Rules {
    /// The most bytes that a copy may take in memory for a while.
    fn room(&self) -> u64 {
        (self.free)().map_or(UNTOLD, |free| free / 2)
    }
}

/// What a state depends on besides the tokens, for people to read: every difference is a different state. `model` tells the
/// model's files, as they are, from any other's.
pub fn key(model: &str, context: &ContextOptions, gpu_layers: Option<u32>, repack: bool) -> String {
    format!(
        "model {model}\n{}\n{}\nkeys {:?}, values {:?}, flash attention {:?}, chunk {}, whole windows\ngpu layers {gpu_layers:?}, weights laid out anew {repack}",
        llama::BINDING,
        llama::system_info().trim(),
        context.cache_type_k,
        context.cache_type_v,
        context.flash_attn,
        context.chunk,
    )
}

/// What the model that asks can do with a state.
#[derive(Debug, Clone, Copy)]
pub struct Uses {
    /// Cut it.
    pub parts: bool,
    /// Hold so many tokens.
    pub limit: usize,
}

/// A cached prompt that saves reading.
#[derive(Debug)]
pub struct CacheHit {
    name: String,
    /// Seconds that each of its tokens took to read.
    pub secs_per_token: f64,
}

/// The cached prompts of one model with one set of settings.
pub struct PromptCache {
    folder: PathBuf,
    key: String,
    rules: Rules,
    /// Whether the model's files are still what the key says.
    unchanged: Unchanged,
    /// What is known of the files in the folder, by their names.
    known: HashMap<String, CachedPrompt>,
    /// Files that can neither be used nor removed.
    hopeless: HashSet<String>,
    /// To be written when nobody waits.
    held: Vec<Held>,
    /// The tokens of the state held last, whose file may not be there yet.
    latest: Vec<Token>,
    writer: CacheWriter,
}

/// Says whether the files of a model are as they were when it was opened.
pub type Unchanged = Arc<dyn Fn() -> bool + Send + Sync>;

struct CachedPrompt {
    tokens: Vec<Token>,
    conversations: Vec<String>,
    bytes: u64,
    secs_per_token: f64,
}

impl CachedPrompt {
    /// Tokens of `prompt` that need no reading with this; one is always left, for its logits.
    fn serves(&self, prompt: &[Token], uses: Uses) -> usize {
        let same = common(&self.tokens, prompt).min(prompt.len().saturating_sub(1));
        let usable = self.tokens.len() <= uses.limit && (uses.parts || same == self.tokens.len());
        if usable { same } else { 0 }
    }
}

pub(super) fn common(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PromptCache {
    /// Nothing is read or made before it is needed; only the folder of an older version is renamed.
    pub fn new(folder: PathBuf, key: String, rules: Rules) -> PromptCache {
        folder::adopt(&folder);
        PromptCache {
            folder,
            key,
            rules,
            unchanged: Arc::new(|| true),
            known: HashMap::new(),
            hopeless: HashSet::new(),
            held: Vec::new(),
            latest: Vec::new(),
            writer: CacheWriter::default(),
        }
    }

    /// The same for a model whose files somebody may write to: what is in memory of them then belongs to no key.
    pub fn while_they_are(self, unchanged: Unchanged) -> PromptCache {
        PromptCache { unchanged, ..self }
    }

    fn hashed_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.key.hash(&mut hasher);
        hasher.finish()
    }

    fn name_start(&self, tokens: &[Token]) -> String {
        folder::name_start(self.hashed_key(), beginning(tokens))
    }

    /// Learns of files that share at least the first tokens with these, whoever wrote them.
    fn look(&mut self, tokens: &[Token]) {
        let start = self.name_start(tokens);
        let names: HashSet<String> =
            folder::names(&self.folder).into_iter().filter(|name| name.starts_with(&start)).collect();
        self.known.retain(|name, _| names.contains(name) || !name.starts_with(&start));
        for name in names {
            if self.known.contains_key(&name) || self.hopeless.contains(&name) {
                continue;
            }
            match file::read_header(&self.folder.join(&name)) {
                Ok(header) if header.key == self.key => {
                    let CacheFileHeader { tokens, conversations, state: (bytes, _), secs_per_token, .. } = header;
                    let known =
                        CachedPrompt { tokens, conversations, bytes, secs_per_token: f64::from(secs_per_token) };
                    self.known.insert(name, known);
                }
                Err(ReadError::Damaged) => self.remove(&name),
                Ok(_) | Err(ReadError::Unreadable) => {}
            }
        }
    }

    /// The cached prompt that saves most of reading `prompt`, of which the first `here` tokens are in memory.
    pub fn find(&mut self, prompt: &[Token], here: usize, uses: Uses) -> Option<CacheHit> {
        if prompt.len() < here + LEAST || !(self.unchanged)() {
            return None;
        }
        self.look(prompt);
        let served = self.known.iter().map(|(name, known)| (known.serves(prompt, uses), name, known));
        let room = LazyCell::new(|| self.rules.room()); // the system is asked once, if at all
        let worth = served.filter(|(serves, _, known)| {
            let saved = serves.saturating_sub(here);
            let pays = saved as f64 * known.secs_per_token > known.bytes as f64 / RESTORING;
            saved >= LEAST && (pays || self.rules.worth.is_zero()) && known.bytes <= *room
        });
        let (_, name, known) = worth.max_by_key(|(serves, _, known)| (*serves, u64::MAX - known.bytes))?;
        Some(CacheHit { name: name.clone(), secs_per_token: known.secs_per_token })
    }

    /// The tokens and the state of what was found, exactly as they were when it was made. `None`: it is gone or was
    /// damaged, and will not be found again.
    pub fn load(&mut self, found: &CacheHit) -> Option<(Vec<Token>, Vec<u8>)> {
        let known = self.known.remove(&found.name)?;
        match file::read(&self.folder.join(&found.name)) {
            Ok((header, state)) if header.key == self.key && header.tokens == known.tokens => {
                self.known.insert(found.name.clone(), known);
                Some((header.tokens, state))
            }
            Ok(_) | Err(ReadError::Damaged) => {
                self.remove(&found.name);
                None
            }
            Err(ReadError::Unreadable) => {
                self.hopeless.insert(found.name.clone()); // or gone, which is as well
                None
            }
        }
    }

    /// Notes that something was looked for; what was found and used stays longer.
    pub fn note(&self, found: Option<&CacheHit>) {
        folder::note(&self.folder, found.is_some());
        found.iter().for_each(|found| folder::touch(&self.folder.join(&found.name)));
    }

    /// Removes what turned out to be of no use.
    pub fn discard(&mut self, found: &CacheHit) {
        self.known.remove(&found.name);
        self.remove(&found.name);
    }

    fn remove(&mut self, name: &str) {
        if let Err(error) = std::fs::remove_file(self.folder.join(name))
            && error.kind() != ErrorKind::NotFound
        {
            self.hopeless.insert(name.into());
        }
    }

    /// Whether reading a prompt of so many seconds is too short for keeping all of it, though not for keeping what others share.
    pub fn wants_shared_only(&self, reading: f64) -> bool {
        (self.rules.worth_shared.as_secs_f64()..self.rules.worth.as_secs_f64()).contains(&reading)
    }

    /// Whether it pays to keep the memory of these tokens: so many bytes, and seconds to read a token. `shared`: other
    /// conversations begin with them, too.
    pub fn wants(
        &mut self,
        tokens: &[Token],
        bytes: usize,
        secs_per_token: f64,
        parts: bool,
        shared: bool,
    ) -> bool {
        let worth = if shared { self.rules.worth_shared } else { self.rules.worth }.as_secs_f64();
        let waiting = self.held.len() + self.writer.waiting();
        let short = tokens.len() < LEAST || (tokens.len() as f64) * secs_per_token < worth;
        if short || waiting >= MOST_WAITING || self.writer.failed() {
            return false;
        }
        let (kept, goes_on) = self.kept(tokens, parts);
        let new = (tokens.len() - kept) as f64;
        let share = match (kept, goes_on) {
            (0, _) => 0.0,
            (_, true) => NEW_GOING_ON,
            (_, false) => NEW_PARTING,
        };
        new >= share * tokens.len() as f64
            && (worth == 0.0 || new * secs_per_token >= worth.max(self.writer.seconds(bytes)))
            && bytes as u64 <= self.rules.bounds.most
            && bytes as u64 <= self.rules.room()
            && (self.unchanged)()
    }

    /// How many of these tokens a cached prompt has already, and whether these go on from all that is in it.
    fn kept(&mut self, tokens: &[Token], parts: bool) -> (usize, bool) {
        self.look(tokens);
        let all = self.known.values().map(|known| &known.tokens).chain([&self.latest]);
        let of = |kept: &Vec<Token>| {
            let same = common(kept, tokens);
            let goes_on = same == kept.len();
            (if parts || goes_on { same } else { 0 }, goes_on)
        };
        all.map(of).max().unwrap_or((0, true))
    }

    /// Takes a state to be written later. It goes with `conversation`, if it belongs to one that is kept.
    pub fn hold(
        &mut self,
        tokens: Vec<Token>,
        state: Vec<u8>,
        secs_per_token: f64,
        parts: bool,
        conversation: Option<&str>,
    ) {
        self.look(&tokens);
        let mut hasher = DefaultHasher::new();
        tokens.hash(&mut hasher);
        let name = folder::name(self.hashed_key(), beginning(&tokens), hasher.finish());
        // What is much shorter stays: it is restored sooner where its tokens are enough.
        let covered = |kept: &[Token]| {
            tokens.starts_with(kept) && kept.len() < tokens.len() && kept.len() * 2 >= tokens.len()
        };
        let mut conversations: Vec<String> = conversation.map(str::to_string).into_iter().collect();
        let mut instead_of = Vec::new();
        for (name, known) in self.known.iter().filter(|(_, known)| parts && covered(&known.tokens)) {
            instead_of.push(name.clone());
            conversations.extend(known.conversations.iter().cloned());
        }
        conversations.sort();
        conversations.dedup();
        self.latest.clone_from(&tokens);
        let key = self.key.clone();
        self.held.push(Held { name, key, tokens, conversations, secs_per_token, state, instead_of });
    }

    /// Has what was taken written by a thread of its own.
    pub fn write(&mut self) {
        for held in self.held.drain(..) {
            self.writer.write(held, &self.folder, &self.rules.bounds);
        }
    }

    /// Drops `done` when everything that was taken is written, or cannot be.
    pub fn flush(&mut self, done: Sender<()>) {
        self.write();
        self.writer.tell(done);
    }
}

/// Tells the first tokens from others: only what shares these is worth looking at.
fn beginning(tokens: &[Token]) -> u32 {
    let mut hasher = DefaultHasher::new();
    tokens[..tokens.len().min(LEAST)].hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const CUT: Uses = Uses { parts: true, limit: 100_000 };
    const WHOLE: Uses = Uses { parts: false, ..CUT };
    const BYTES: usize = 10_000;

    fn prompt_cache(folder: &tempfile::TempDir) -> PromptCache {
        let bounds = DiskBounds { most: 1 << 30, share: 1.0, leave: 0 };
        PromptCache::new(folder.path().into(), "key".into(), Rules { bounds, ..Rules::default() })
    }

    fn tokens(count: usize) -> Vec<Token> {
        (0..count as Token).collect()
    }

    /// The first so many of these tokens, and then others.
    fn parting(at: usize, count: usize) -> Vec<Token> {
        (0..count).map(|i| if i < at { i as Token } else { -(i as Token) }).collect()
    }

    fn keep(prompt_cache: &mut PromptCache, tokens: &[Token], parts: bool) {
        prompt_cache.hold(tokens.to_vec(), vec![1; BYTES], 0.01, parts, None);
        let (done, flushed) = channel();
        prompt_cache.flush(done);
        assert!(flushed.recv().is_err());
    }

    #[test]
    fn what_took_longer_to_read_than_to_write_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        assert!(prompt_cache.wants(&tokens(100), BYTES, 0.01, true, false));
        assert!(!prompt_cache.wants(&tokens(LEAST - 1), BYTES, 1.0, true, false), "too few");
        assert!(!prompt_cache.wants(&tokens(100), BYTES, 0.002, true, false), "a fifth of a second");
        assert!(prompt_cache.wants(&tokens(100), BYTES, 0.002, true, true), "every time");
        assert!(!prompt_cache.wants(&tokens(100), 900_000_000, 0.01, true, false), "three seconds to write");
        prompt_cache.rules.free = || Some(BYTES as u64);
        assert!(!prompt_cache.wants(&tokens(100), BYTES, 0.01, true, false), "no memory for a copy");
    }

    #[test]
    fn what_is_nearly_kept_already_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        keep(&mut prompt_cache, &tokens(1000), true);
        assert!(!prompt_cache.wants(&tokens(1000), BYTES, 0.01, true, false));
        assert!(!prompt_cache.wants(&tokens(1040), BYTES, 0.01, true, false));
        assert!(prompt_cache.wants(&tokens(1060), BYTES, 0.01, true, false));
        assert!(!prompt_cache.wants(&parting(900, 1100), BYTES, 0.01, true, false));
        assert!(prompt_cache.wants(&parting(700, 1100), BYTES, 0.01, true, false));
        assert!(prompt_cache.wants(&parting(900, 1100), BYTES, 0.01, false, false), "of use only as a whole");
        let mut other = self::prompt_cache(&folder);
        assert!(!other.wants(&tokens(1000), BYTES, 0.01, true, false), "another process has kept it");
    }

    #[test]
    fn what_goes_on_from_a_cached_prompt_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        for count in [300, 1000, 1500] {
            keep(&mut prompt_cache, &tokens(count), true);
        }
        prompt_cache.look(&tokens(100));
        let mut kept: Vec<usize> = prompt_cache.known.values().map(|known| known.tokens.len()).collect();
        kept.sort();
        assert_eq!(kept, [300, 1500], "what is much shorter stays");
        keep(&mut prompt_cache, &tokens(1600), false);
        assert_eq!(usage(folder.path()).files, 3);
    }

    #[test]
    fn the_cached_prompt_that_saves_most_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        keep(&mut prompt_cache, &tokens(400), false);
        keep(&mut prompt_cache, &tokens(1000), false);
        let mut length = |prompt: &[Token], here, uses| {
            let found = prompt_cache.find(prompt, here, uses)?;
            prompt_cache.load(&found).map(|(tokens, state)| {
                assert_eq!(state, vec![1; BYTES]);
                tokens.len()
            })
        };
        assert_eq!(length(&tokens(2000), 0, CUT), Some(1000));
        assert_eq!(length(&parting(700, 900), 0, CUT), Some(1000), "a part of it");
        assert_eq!(length(&parting(700, 900), 0, WHOLE), Some(400));
        assert_eq!(length(&tokens(1000), 0, WHOLE), Some(400), "the last token is always read");
        assert_eq!(length(&tokens(1000), 0, CUT), Some(1000));
        assert_eq!(length(&tokens(2000), 990, CUT), None, "hardly more than is in memory");
        assert_eq!(length(&tokens(2000), 0, Uses { limit: 999, ..CUT }), Some(400));
        assert_eq!(length(&parting(15, 900), 0, CUT), None);
        assert_eq!(length(&tokens(16), 0, CUT), None);
        prompt_cache.rules.free = || Some(100);
        assert!(prompt_cache.find(&tokens(2000), 0, CUT).is_none(), "no memory for a copy");
    }

    #[test]
    fn what_can_be_neither_read_nor_removed_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        keep(&mut prompt_cache, &tokens(1000), true);
        let path = folder.path().join(&folder::names(folder.path())[0]);
        assert!(prompt_cache.find(&tokens(2000), 0, CUT).is_some());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("inside")).unwrap(); // even root cannot read or unlink this
        let found = prompt_cache.find(&tokens(2000), 0, CUT).unwrap();
        assert!(prompt_cache.load(&found).is_none());
        assert!(prompt_cache.find(&tokens(2000), 0, CUT).is_none());
    }
}
