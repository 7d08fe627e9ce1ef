//! 4 — the on-disk prompt cache: decides which prefixes to save and which saved one to restore.
//!
//! A cached prompt is the state of a model's memory after some tokens, stored under a key of everything else
//! it depends on. It is only a cache: whatever is missing, damaged or made for another model is evaluated
//! again. If the model can truncate restored memory, a cached prompt serves any prompt that shares a prefix
//! with it; otherwise all of its tokens must be a prefix of the prompt, or those of one of its checkpoints.
//!
//! `rules.rs` says from when on it pays, `cached.rs` what a cached prompt spares; `file.rs` is the format, `folder.rs`
//! the folder and its limits, `disk.rs` the disk's speed, `writer.rs` the writing thread. Next: prefill.rs.

mod cached;
mod disk;
mod file;
mod folder;
mod rules;
mod writer;

use std::cell::LazyCell;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use self::cached::CachedPrompt;
pub use self::cached::Uses;
pub(super) use self::cached::common;
use self::disk::Disk;
use self::file::ReadError;
pub use self::folder::{DiskBounds, Usage, forget, usage};
pub use self::rules::Rules;
use self::writer::{CacheWriter, Held};
use super::cache::SavedMemory;
use super::checkpoints::Checkpoint;
use super::llama::{self, ContextOptions, Placement};
use super::token::Token;

/// The minimum length of a cached prompt, in tokens.
pub const LEAST: usize = 16;
/// The maximum number of states in memory waiting to be written.
const MOST_WAITING: usize = 2;
/// The minimum share of new tokens in a cached prompt: if it extends a saved one, and if it branches off from
/// one.
const NEW_GOING_ON: f64 = 0.05;
const NEW_PARTING: f64 = 0.25;

/// Everything besides the tokens that a state depends on, in readable form; any difference means a different
/// state. `model` identifies the model's files and their contents.
pub fn key(model: &str, context: &ContextOptions, placement: &Placement, repack: bool) -> String {
    format!(
        "model {model}\n{}\n{}\nkeys {:?}, values {:?}, flash attention {:?}, batch size {}, whole windows\n{placement:?}, offloaded {}, weights repacked {repack}",
        llama::BINDING,
        llama::system_info().trim(),
        context.cache_type_k,
        context.cache_type_v,
        context.flash_attn,
        context.batch_size,
        context.kv_offload,
    )
}

/// A cached prompt that shortens a prefill.
#[derive(Debug)]
pub struct CacheHit {
    name: String,
    /// How long each of its tokens took to evaluate, in seconds.
    pub secs_per_token: f64,
}

/// The cached prompts of one model with one set of settings.
pub struct PromptCache {
    folder: PathBuf,
    key: String,
    rules: Rules,
    /// Whether the model's files still match the key.
    unchanged: Unchanged,
    /// The known files in the folder, by name.
    known: HashMap<String, CachedPrompt>,
    /// Files that can neither be used nor removed.
    hopeless: HashSet<String>,
    /// To be written when idle.
    held: Vec<Held>,
    /// The last state held, whose file may not exist yet.
    latest: CachedPrompt,
    disk: Disk,
    writer: CacheWriter,
}

/// Says whether the model's files are unchanged since it was opened.
pub type Unchanged = Arc<dyn Fn() -> bool + Send + Sync>;

impl PromptCache {
    /// Touches no files until needed, except to rename the folder of an older version.
    pub fn new(folder: PathBuf, key: String, rules: Rules) -> PromptCache {
        folder::adopt(&folder);
        let disk = Disk::of(&folder);
        PromptCache {
            folder,
            key,
            rules,
            unchanged: Arc::new(|| true),
            known: HashMap::new(),
            hopeless: HashSet::new(),
            held: Vec::new(),
            latest: CachedPrompt::default(),
            writer: CacheWriter::new(disk.clone()),
            disk,
        }
    }

    /// For a model whose files may be modified: once they change, memory made from them belongs to no key.
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

    /// Finds the files that share at least the first tokens with these, whichever process wrote them.
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
                    let known = CachedPrompt {
                        tokens: header.tokens,
                        checkpoints: header.checkpoints.iter().map(|(tokens, _)| *tokens as usize).collect(),
                        conversations: header.conversations,
                        bytes: header.state.0,
                        secs_per_token: f64::from(header.secs_per_token),
                    };
                    self.known.insert(name, known);
                }
                Err(ReadError::Damaged) => self.remove(&name),
                Ok(_) | Err(ReadError::Unreadable) => {}
            }
        }
    }

    /// The cached prompt that spares the most evaluation of `prompt`, given that `here` tokens of it are in
    /// memory.
    pub fn find(&mut self, prompt: &[Token], here: usize, uses: Uses) -> Option<CacheHit> {
        if prompt.len() < here + LEAST || !(self.unchanged)() {
            return None;
        }
        self.look(prompt);
        let served = self.known.iter().map(|(name, known)| (known.serves(prompt, uses), name, known));
        let room = LazyCell::new(|| self.rules.room()); // asks the system at most once
        let worth = served.filter(|(serves, _, known)| {
            let saved = serves.saturating_sub(here);
            let pays = saved as f64 * known.secs_per_token > self.disk.reading(known.bytes);
            saved >= LEAST && (pays || self.rules.worth.is_zero()) && known.bytes <= *room
        });
        let (_, name, known) = worth.max_by_key(|(serves, _, known)| (*serves, u64::MAX - known.bytes))?;
        Some(CacheHit { name: name.clone(), secs_per_token: known.secs_per_token })
    }

    /// The memory of a hit, exactly as saved. `None`: the file is gone or damaged, and will not be found again.
    pub fn load(&mut self, found: &CacheHit) -> Option<SavedMemory> {
        let known = self.known.remove(&found.name)?;
        match file::read(&self.folder.join(&found.name)) {
            Ok((header, state)) if header.key == self.key && header.tokens == known.tokens => {
                self.known.insert(found.name.clone(), known);
                Some(header.memory(state))
            }
            Ok(_) | Err(ReadError::Damaged) => {
                self.remove(&found.name);
                None
            }
            Err(ReadError::Unreadable) => {
                self.hopeless.insert(found.name.clone()); // or gone, to the same effect
                None
            }
        }
    }

    /// Records a lookup without a hit.
    pub fn missed(&self) {
        folder::note(&self.folder, false);
    }

    /// Records a hit, and how long its state of `bytes` took to restore. It counts as used, so that it is
    /// evicted later.
    pub fn restored(&self, found: &CacheHit, bytes: usize, took: Duration) {
        folder::note(&self.folder, true);
        folder::touch(&self.folder.join(&found.name));
        self.disk.has_read(bytes, took);
    }

    /// Removes a cached prompt that turned out to be unusable.
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

    /// Whether a prefill of `reading` seconds is too short to save as a whole, but long enough to save the
    /// prefix that other conversations share.
    pub fn wants_shared_only(&self, reading: f64) -> bool {
        (self.rules.worth_shared.as_secs_f64()..self.rules.worth.as_secs_f64()).contains(&reading)
    }

    /// Whether prompts are saved whatever their evaluation costs.
    pub fn saves_everything(&self) -> bool {
        self.rules.worth.is_zero()
    }

    /// Whether saving the memory of these tokens pays: `bytes` in size, and `secs_per_token` to evaluate.
    /// `shared`: other conversations start with them too.
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
        let sooner = tokens.len() as f64 * secs_per_token - self.disk.reading(bytes as u64);
        let useless = tokens.len() < LEAST || worth > 0.0 && sooner < worth;
        if useless || waiting >= MOST_WAITING || self.writer.failed() {
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
            && (worth == 0.0 || new * secs_per_token >= worth.max(self.disk.writing(bytes as u64)))
            && bytes as u64 <= self.rules.bounds.most
            && bytes as u64 <= self.rules.room()
            && (self.unchanged)()
    }

    /// How many of these tokens a cached prompt already covers, and whether these tokens extend all of it.
    fn kept(&mut self, tokens: &[Token], parts: bool) -> (usize, bool) {
        self.look(tokens);
        let all = self.known.values().chain([&self.latest]);
        let of = |kept: &CachedPrompt| {
            let same = common(&kept.tokens, tokens);
            (kept.usable(same, parts), same == kept.tokens.len())
        };
        all.map(of).max().unwrap_or((0, true))
    }

    /// Holds a memory to be written later, tied to `conversation` if that is stored.
    pub fn hold(&mut self, saved: SavedMemory, secs_per_token: f64, parts: bool, conversation: Option<&str>) {
        let SavedMemory { tokens, mut state, checkpoints } = saved;
        self.look(&tokens);
        let mut hasher = DefaultHasher::new();
        tokens.hash(&mut hasher);
        let name = folder::name(self.hashed_key(), beginning(&tokens), hasher.finish());
        // Keep much shorter ones: they restore faster where their tokens suffice.
        let covered = |kept: &[Token]| {
            tokens.starts_with(kept) && kept.len() < tokens.len() && kept.len() * 2 >= tokens.len()
        };
        let mut conversations: Vec<String> = conversation.map(str::to_string).into_iter().collect();
        let mut instead_of = Vec::new();
        let serves_parts = parts || !checkpoints.is_empty();
        for (name, known) in self.known.iter().filter(|(_, known)| serves_parts && covered(&known.tokens)) {
            instead_of.push(name.clone());
            conversations.extend(known.conversations.iter().cloned());
        }
        conversations.sort();
        conversations.dedup();
        self.latest = CachedPrompt {
            tokens: tokens.clone(),
            checkpoints: checkpoints.iter().map(|checkpoint| checkpoint.tokens.len()).collect(),
            ..CachedPrompt::default()
        };
        let length = |c: &Checkpoint| (c.tokens.len() as u32, c.state.len() as u64);
        let lengths = checkpoints.iter().map(length).collect();
        checkpoints.iter().for_each(|checkpoint| state.extend_from_slice(&checkpoint.state));
        self.held.push(Held {
            name,
            key: self.key.clone(),
            tokens,
            conversations,
            secs_per_token,
            state,
            checkpoints: lengths,
            instead_of,
        });
    }

    /// Hands the held states to the writing thread.
    pub fn write(&mut self) {
        for held in self.held.drain(..) {
            self.writer.write(held, &self.folder, &self.rules.bounds);
        }
    }

    /// Drops `done` when all held states are written or have failed to be.
    pub fn flush(&mut self, done: Sender<()>) {
        self.write();
        self.writer.tell(done);
    }
}

/// A hash of the first tokens; only files that share them are worth reading.
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

    /// `count` tokens, of which the first `at` are those of `tokens`.
    fn parting(at: usize, count: usize) -> Vec<Token> {
        (0..count).map(|i| if i < at { i as Token } else { -(i as Token) }).collect()
    }

    fn keep(prompt_cache: &mut PromptCache, tokens: &[Token], parts: bool) {
        keep_with(prompt_cache, tokens, parts, &[]);
    }

    /// With checkpoints after these numbers of tokens.
    fn keep_with(prompt_cache: &mut PromptCache, tokens: &[Token], parts: bool, checkpoints: &[usize]) {
        let state = |length: usize| vec![length as u8; BYTES];
        let of = |length: &usize| Checkpoint { tokens: tokens[..*length].to_vec(), state: state(*length) };
        let checkpoints = checkpoints.iter().map(of).collect();
        let saved = SavedMemory { tokens: tokens.to_vec(), state: vec![1; BYTES], checkpoints };
        prompt_cache.hold(saved, 0.01, parts, None);
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
        assert!(
            prompt_cache.wants(&tokens(100), BYTES, 0.002, true, true),
            "saves time in every conversation"
        );
        prompt_cache.disk.has_written(300_000_000, Duration::from_secs(1));
        assert!(!prompt_cache.wants(&tokens(100), 900_000_000, 0.01, true, false), "three seconds to write");
        prompt_cache.rules.free = || Some(BYTES as u64);
        assert!(!prompt_cache.wants(&tokens(100), BYTES, 0.01, true, false), "no memory for a copy");
    }

    /// As on a GPU: 3,000 tokens are evaluated in half a second, and their state is large.
    #[test]
    fn a_large_state_is_saved_and_restored_where_the_disk_is_faster_than_the_model() {
        const STATE: usize = 50_000_000;
        let secs_per_token = 0.35 / 3000.0;
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        let mut wants = |count| prompt_cache.wants(&tokens(count), STATE, secs_per_token, true, false);
        assert!(wants(3000), "nothing is known of the disk: it is tried");
        let saved = SavedMemory { tokens: tokens(3000), state: vec![1; STATE], checkpoints: Vec::new() };
        prompt_cache.hold(saved, secs_per_token, true, None);
        let (done, flushed) = channel();
        prompt_cache.flush(done);
        assert!(flushed.recv().is_err());
        let other = |seconds: f64| {
            let mut prompt_cache = self::prompt_cache(&folder);
            let found = prompt_cache.find(&tokens(3000), 0, CUT).unwrap();
            prompt_cache.restored(&found, STATE, Duration::from_secs_f64(seconds));
            prompt_cache.disk.has_written(STATE, Duration::from_millis(50));
            let again = prompt_cache.find(&tokens(3000), 0, CUT).is_some();
            (again, prompt_cache.wants(&parting(100, 3000), STATE, secs_per_token, true, false))
        };
        assert_eq!(other(0.05), (true, true), "a fast disk");
        assert_eq!(other(0.2), (true, false), "it saves little");
        assert_eq!(other(0.4), (false, false), "evaluating is faster");
        assert!(
            self::prompt_cache(&folder).find(&tokens(3000), 0, CUT).is_none(),
            "as another process knows"
        );
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
        assert!(prompt_cache.wants(&parting(900, 1100), BYTES, 0.01, false, false), "usable only as a whole");
        let mut other = self::prompt_cache(&folder);
        assert!(!other.wants(&tokens(1000), BYTES, 0.01, true, false), "another process has saved it");
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
        assert_eq!(kept, [300, 1500], "the much shorter one stays");
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
            prompt_cache.load(&found).map(|saved| {
                assert_eq!(saved.state, vec![1; BYTES]);
                saved.tokens.len()
            })
        };
        assert_eq!(length(&tokens(2000), 0, CUT), Some(1000));
        assert_eq!(length(&parting(700, 900), 0, CUT), Some(1000), "a part of it");
        assert_eq!(length(&parting(700, 900), 0, WHOLE), Some(400));
        assert_eq!(length(&tokens(1000), 0, WHOLE), Some(400), "the last token is always evaluated");
        assert_eq!(length(&tokens(1000), 0, CUT), Some(1000));
        assert_eq!(length(&tokens(2000), 990, CUT), None, "hardly longer than what is in memory");
        assert_eq!(length(&tokens(2000), 0, Uses { limit: 999, ..CUT }), Some(400));
        assert_eq!(length(&parting(15, 900), 0, CUT), None);
        assert_eq!(length(&tokens(16), 0, CUT), None);
        prompt_cache.rules.free = || Some(100);
        assert!(prompt_cache.find(&tokens(2000), 0, CUT).is_none(), "no memory for a copy");
    }

    #[test]
    fn a_checkpoint_serves_what_begins_like_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut prompt_cache = prompt_cache(&folder);
        keep_with(&mut prompt_cache, &tokens(1000), false, &[300, 600]);
        let mut found = |prompt: &[Token], here| {
            let found = prompt_cache.find(prompt, here, WHOLE)?;
            prompt_cache.load(&found)
        };
        let saved = found(&parting(700, 900), 0).unwrap();
        assert_eq!((saved.tokens, saved.state), (tokens(1000), vec![1; BYTES]));
        let lengths: Vec<usize> = saved.checkpoints.iter().map(|c| c.tokens.len()).collect();
        assert_eq!(lengths, [300, 600]);
        assert!(saved.checkpoints.iter().all(|c| c.state == vec![c.tokens.len() as u8; BYTES]));
        assert!(found(&parting(700, 900), 600).is_none(), "memory has as much");
        assert!(found(&parting(299, 900), 0).is_none(), "no checkpoint is that short");
        assert!(!prompt_cache.wants(&parting(700, 790), BYTES, 0.01, false, false), "600 of them are saved");
        assert!(prompt_cache.wants(&parting(500, 790), BYTES, 0.01, false, false), "300 of them are");
        keep_with(&mut prompt_cache, &tokens(1200), false, &[1000]);
        assert_eq!(usage(folder.path()).files, 1, "what goes on from it takes its place");
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
