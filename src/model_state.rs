//! Model files → what fireside remembers about them: the model used last, the results of loading, the facts
//! in the headers, and which files fireside downloaded. Also the signals that killed llama.cpp on this
//! machine, and how many threads prefill fastest on it.
//!
//! One small JSON file in the user's state folder. It is only a cache, with two exceptions: without it, the
//! model used last is unknown, and downloads in the hub's cache count as another program's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{folder_of, lock_folder};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    /// The model used last.
    last: Option<PathBuf>,
    files: BTreeMap<PathBuf, FileState>,
    /// A build of llama.cpp on a processor → the signal that kills it there when weights are repacked.
    crashes: BTreeMap<String, String>,
    /// A build of llama.cpp on a machine, with the numbers of threads tried there → the one that prefills fastest.
    prefill_threads: BTreeMap<String, u32>,
    headers: Headers,
    /// Files that fireside downloaded; `None` if version 0.1 wrote last, which listed them in `fetched.json`.
    fetched: Option<BTreeSet<PathBuf>>,
}

/// What a batch costs: the smallest depth beyond a class of depths, the size, the cost.
pub type BatchCost = (usize, usize, f64);

/// The results of loading a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FileState {
    /// Stamp of all files of the model: everything else is valid only while it stays the same.
    #[serde(default)]
    stamp: String,
    pub fingerprint: String,
    /// The build of llama.cpp that loaded it, if one did.
    pub loaded_by: Option<String>,
    /// The conditions of what follows, and the costs of batches under them. Earlier versions keep
    /// others as `costs`.
    #[serde(default)]
    batch_costs: Option<(String, Vec<BatchCost>)>,
    /// The same conditions, and the batch size that was chosen.
    #[serde(default)]
    batch_size: Option<(String, u32)>,
    /// Conditions, and whether flash attention is the better way under them.
    #[serde(default)]
    flash_is_better: Option<(String, bool)>,
    /// A build of llama.cpp, and the special tokens that it found by name.
    #[serde(default)]
    special_ids: Option<(String, Vec<i32>)>,
}

impl FileState {
    /// The batch size, if chosen under these `conditions`.
    pub fn batch_size(&self, conditions: &str) -> Option<u32> {
        self.batch_size.as_ref().filter(|(under, _)| under == conditions).map(|(_, size)| *size)
    }

    /// Whether flash attention is the better way, if measured under these `conditions`.
    pub fn flash_is_better(&self, conditions: &str) -> Option<bool> {
        self.flash_is_better.as_ref().filter(|(under, _)| under == conditions).map(|(_, faster)| *faster)
    }

    /// The costs of batches, as far as learnt under these `conditions`.
    pub fn batch_costs(&self, conditions: &str) -> &[BatchCost] {
        let costs = self.batch_costs.as_ref().filter(|(under, _)| under == conditions);
        costs.map_or(&[], |(_, costs)| costs)
    }

    /// The special tokens that `build` found, if it has searched.
    pub fn special_ids(&self, build: &str) -> Option<&[i32]> {
        self.special_ids.as_ref().filter(|(by, _)| by == build).map(|(_, tokens)| &tokens[..])
    }
}

/// Facts from the headers of model files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Headers {
    /// The version that wrote them; another one may need other facts.
    by: String,
    files: BTreeMap<PathBuf, HeaderFacts>,
}

/// Valid while the file's size and modification time stay the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct HeaderFacts {
    size: u64,
    modified: u64,
    facts: Value,
}

/// The state file. Cheap to create; read at every use, since several processes share it.
#[derive(Debug, Clone, Default)]
pub struct ModelState {
    file: Option<PathBuf>,
    /// Whether it is only read.
    unchanged: bool,
}

impl ModelState {
    /// `None` remembers nothing.
    pub fn at(file: Option<PathBuf>) -> ModelState {
        ModelState { file, unchanged: false }
    }

    /// The same, to be read only: nothing that is learnt from now on is kept.
    pub fn unchanged(self) -> ModelState {
        ModelState { unchanged: true, ..self }
    }

    /// The entry for the model at `path`, valid while its files have this stamp.
    pub fn entry(&self, path: &Path, stamp: &str) -> ModelEntry {
        ModelEntry { state: self.clone(), path: absolute(path), stamp: stamp.to_string() }
    }

    pub fn last_used(&self) -> Option<PathBuf> {
        self.read().last.filter(|path| path.exists())
    }

    /// Remembers the model used last.
    ///
    /// # Errors
    /// The state file cannot be written; the caller reports that once, for all later writes, too.
    pub fn remember_last_used(&self, path: &Path) -> io::Result<()> {
        let path = absolute(path);
        self.change(|contents| contents.last = Some(path))
    }

    /// The signal that killed llama.cpp on this machine when it repacked weights for the processor, if that
    /// happened.
    pub fn crash(&self, machine: &str) -> Option<String> {
        self.read().crashes.remove(machine)
    }

    pub fn remember_crash(&self, machine: &str, signal: &str) {
        let found = (machine.to_string(), signal.to_string());
        let _ = self.change(|contents| contents.crashes.extend([found])); // otherwise it crashes again
    }

    /// The number of threads that prefills fastest, if measured under these `conditions`.
    pub fn prefill_threads(&self, conditions: &str) -> Option<u32> {
        self.read().prefill_threads.remove(conditions)
    }

    pub fn remember_prefill_threads(&self, conditions: &str, count: u32) {
        let found = (conditions.to_string(), count);
        let _ = self.change(|contents| contents.prefill_threads.extend([found])); // otherwise it is measured again
    }

    /// The facts about each of these files (path, bytes, modification time in nanoseconds since 1970), in the
    /// same order. Calls `read` for files of which `by` has stored no facts. Forgets all other files.
    pub fn header_facts<'a, T: Serialize + DeserializeOwned>(
        &self,
        by: &str,
        files: impl Iterator<Item = (&'a Path, u64, u64)>,
        read: impl Fn(&Path) -> T,
    ) -> Vec<T> {
        let before = self.read().headers;
        let mut now = Headers { by: by.to_string(), files: BTreeMap::new() };
        let facts = files.map(|(path, size, modified)| {
            let known = before.files.get(path).filter(|_| before.by == by);
            let known = known.filter(|header| header.size == size && header.modified == modified);
            let known = known.and_then(|header| T::deserialize(&header.facts).ok());
            let facts = known.unwrap_or_else(|| read(path));
            if let Ok(facts) = serde_json::to_value(&facts) {
                now.files.insert(path.to_path_buf(), HeaderFacts { size, modified, facts });
            }
            facts
        });
        let facts = facts.collect();
        let _ = self.change(|contents| contents.headers = now); // it only saves work
        facts
    }

    /// Whether fireside downloaded this file.
    pub fn has_fetched(&self, path: &Path) -> bool {
        self.read().fetched.is_some_and(|files| files.contains(path))
    }

    /// Records downloaded files, in the models folder or in the hub's cache: there, a blob and the link to
    /// it.
    pub fn remember_fetched(&self, paths: &[PathBuf]) -> io::Result<()> {
        self.change(|contents| contents.fetched.get_or_insert_default().extend(paths.iter().cloned()))
    }

    pub fn forget_fetched(&self, paths: &[PathBuf]) -> io::Result<()> {
        self.change(|contents| contents.fetched.get_or_insert_default().retain(|path| !paths.contains(path)))
    }

    fn read(&self) -> Contents {
        let Some(file) = &self.file else { return Contents::default() };
        let mut contents: Contents = read_json(file).unwrap_or_default();
        if contents.fetched.is_none() {
            let old: Option<BTreeMap<String, BTreeSet<PathBuf>>> =
                read_json(&file.with_file_name("fetched.json"));
            contents.fetched = old.and_then(|mut old| old.remove("files"));
        }
        contents
    }

    /// Changes the file under a lock; an error if another process holds it for too long.
    fn change(&self, change: impl FnOnce(&mut Contents)) -> io::Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| !self.unchanged) else { return Ok(()) };
        let _lock = lock_folder(folder_of(file))?;
        let before = self.read();
        let mut contents = before.clone();
        change(&mut contents);
        if contents == before { Ok(()) } else { crate::files::write_json(file, &contents) }
    }
}

/// One model in the state. A failed write goes unreported: it would only have saved work.
#[derive(Debug, Clone)]
pub struct ModelEntry {
    state: ModelState,
    path: PathBuf,
    stamp: String,
}

impl ModelEntry {
    /// The state of the model, if the stamp is still the same.
    pub fn get(&self) -> Option<FileState> {
        self.state.read().files.remove(&self.path).filter(|file| file.stamp == self.stamp)
    }

    pub fn remember_loaded(&self, fingerprint: &str, by: &str) {
        let before = self.get().unwrap_or_default();
        let (stamp, fingerprint) = (self.stamp.clone(), fingerprint.to_string());
        self.put(FileState { stamp, fingerprint, loaded_by: Some(by.to_string()), ..before });
    }

    /// Does nothing for a model that was never loaded; the same goes for `remember_special_ids`.
    pub fn remember_batch_size(&self, conditions: &str, size: u32) {
        self.learn(|file| file.batch_size = Some((conditions.to_string(), size)));
    }

    pub fn remember_flash_is_better(&self, conditions: &str, faster: bool) {
        self.learn(|file| file.flash_is_better = Some((conditions.to_string(), faster)));
    }

    pub fn remember_batch_costs(&self, conditions: &str, costs: Vec<BatchCost>) {
        self.learn(|file| file.batch_costs = Some((conditions.to_string(), costs)));
    }

    pub fn remember_special_ids(&self, build: &str, tokens: &[i32]) {
        self.learn(|file| file.special_ids = Some((build.to_string(), tokens.to_vec())));
    }

    /// Applies to the machine, not only to this model.
    pub fn remember_crash(&self, machine: &str, signal: &str) {
        self.state.remember_crash(machine, signal);
    }

    fn learn(&self, learn: impl FnOnce(&mut FileState)) {
        if let Some(mut file) = self.get() {
            learn(&mut file);
            self.put(file);
        }
    }

    fn put(&self, file: FileState) {
        let _ = self.state.change(|contents| _ = contents.files.insert(self.path.clone(), file));
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn read_json<T: DeserializeOwned>(file: &Path) -> Option<T> {
    serde_json::from_str(&crate::files::small_file(file)?).ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn state(folder: &tempfile::TempDir) -> ModelState {
        ModelState::at(Some(folder.path().join("state/models.json")))
    }

    #[test]
    fn a_changed_file_is_unknown_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        std::fs::write(&path, "one").unwrap();
        let state = state(&folder);
        let model = state.entry(&path, "s1");
        assert_eq!(model.get(), None);
        model.remember_loaded("abc", "b1");
        state.remember_last_used(&path).unwrap();
        assert_eq!(model.get().unwrap().fingerprint, "abc");
        assert_eq!(state.last_used().unwrap(), path);
        model.remember_batch_costs("one thread", vec![(512, 17, 1.25)]);
        model.remember_batch_size("one thread", 256);
        model.remember_loaded("abc", "b2");
        assert_eq!(model.get().unwrap().batch_costs("one thread"), [(512, 17, 1.25)]);
        assert_eq!(model.get().unwrap().batch_costs("two threads"), []);
        let batch_size = |conditions| model.get().unwrap().batch_size(conditions);
        assert_eq!((batch_size("one thread"), batch_size("two threads")), (Some(256), None));
        model.remember_special_ids("b2", &[5, 7]);
        model.remember_loaded("abc", "b3");
        assert_eq!(model.get().unwrap().special_ids("b2"), Some(&[5, 7][..]));
        assert_eq!(model.get().unwrap().special_ids("b3"), None);
        assert_eq!(state.entry(&path, "s2").get(), None);
    }

    #[test]
    fn a_header_is_read_once_until_its_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder);
        let ask = |by: &str, size: u64| {
            let reads = Cell::new(0);
            let read = |_: &Path| {
                reads.set(reads.get() + 1);
                "llama".to_string()
            };
            assert_eq!(
                state.header_facts(by, [(Path::new("/m.gguf"), size, 7)].into_iter(), read),
                ["llama"]
            );
            reads.get()
        };
        assert_eq!(ask("1", 5), 1);
        assert_eq!(ask("1", 5), 0);
        assert_eq!(ask("1", 6), 1);
        let none = std::iter::empty::<(&Path, u64, u64)>();
        assert!(state.header_facts("1", none, |_| String::new()).is_empty());
        assert_eq!(ask("1", 6), 1);
        assert_eq!(ask("2", 6), 1);
        std::fs::write(folder.path().join("state/models.json"), "{ not json").unwrap();
        assert_eq!(ask("2", 6), 1);
    }

    #[test]
    fn a_fetched_file_is_known_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(&folder);
        let [a, b] = ["/x/a.gguf", "/x/b.gguf"].map(PathBuf::from);
        assert!(!state.has_fetched(&a));
        state.remember_fetched(&[a.clone(), b.clone()]).unwrap();
        state.forget_fetched(std::slice::from_ref(&a)).unwrap();
        assert!(!state.has_fetched(&a) && state.has_fetched(&b));
        assert!(ModelState::at(None).remember_fetched(&[a]).is_ok());
    }

    #[test]
    fn what_version_0_1_has_fetched_is_still_known() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let write =
            |name: &str, json: &str| std::fs::write(folder.path().join("state").join(name), json).unwrap();
        write("fetched.json", r#"{ "files": ["/x/a.gguf", "/x/b.gguf"] }"#);
        write("models.json", r#"{ "last": null, "files": {}, "crashes": { "m": "SIGILL" } }"#);
        let state = state(&folder);
        let [a, b] = ["/x/a.gguf", "/x/b.gguf"].map(PathBuf::from);
        assert!(state.has_fetched(&a) && state.has_fetched(&b));
        state.forget_fetched(std::slice::from_ref(&a)).unwrap();
        assert!(!state.has_fetched(&a) && state.has_fetched(&b));
        assert_eq!(state.crash("m").as_deref(), Some("SIGILL"));
    }

    #[test]
    fn costs_in_another_versions_form_cost_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.json");
        let entry =
            r#"{ "stamp": "s", "fingerprint": "f", "loaded_by": null, "costs": ["one thread", [1.0, 2.5]] }"#;
        std::fs::write(&file, format!(r#"{{ "files": {{ "/m.gguf": {entry} }} }}"#)).unwrap();
        let model = ModelState::at(Some(file)).entry(Path::new("/m.gguf"), "s");
        assert_eq!(model.get().unwrap().fingerprint, "f");
        assert_eq!(model.get().unwrap().batch_costs("one thread"), []);
    }

    #[test]
    fn a_damaged_file_is_no_reason_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("models.json");
        std::fs::write(&file, "{ not json").unwrap();
        assert_eq!(ModelState::at(Some(file)).last_used(), None);
        assert_eq!(ModelState::at(Some("/proc/no/such/place".into())).last_used(), None);
        assert_eq!(ModelState::at(None).last_used(), None);
    }
}
