//! The user's folders, as the system names them → every path that fireside reads or writes.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::files::expanded;

/// Where things are kept. Every folder may be missing; none is made before something is written to it.
#[derive(Debug, Clone)]
pub struct Paths {
    pub config_file: PathBuf,
    /// GGUF files that can be named without their path.
    pub models: PathBuf,
    /// Lines typed in the chat.
    pub line_history: PathBuf,
    /// What is known of model files, and the model used last.
    pub known_models: PathBuf,
    /// Marks of the conversations that are being read or answered.
    pub working: PathBuf,
    /// Is there once the user was told where conversations are kept.
    pub told: PathBuf,
    /// The conversations that are kept.
    pub conversations: PathBuf,
    /// What the headers of model files say, so that a list need not read them again.
    pub headers: PathBuf,
    /// What models have evaluated, so that it need not be read again.
    pub prompt_cache: PathBuf,
    /// The user's home folder.
    pub home: PathBuf,
    /// Which files fireside itself has fetched.
    pub fetched: PathBuf,
}

impl Paths {
    /// What is where, for people.
    pub fn table(&self) -> [(&'static str, &Path); 10] {
        [
            ("the config file", &self.config_file),
            ("models, in folders or not", &self.models),
            ("conversations", &self.conversations),
            ("lines typed in the chat", &self.line_history),
            ("what is known of model files", &self.known_models),
            ("what their headers say", &self.headers),
            ("what models have read", &self.prompt_cache),
            ("which files fireside has fetched", &self.fetched),
            ("which conversation is being answered", &self.working),
            ("that you were told where these are", &self.told),
        ]
    }

    pub(super) fn find() -> Option<Paths> {
        let base = etcetera::choose_base_strategy().ok()?;
        if !base.home_dir().is_absolute() {
            return None; // HOME is empty or relative: the current folder is nobody's home
        }
        let state = base.state_dir().unwrap_or_else(|| base.data_dir()).join("fireside");
        let models =
            std::env::var_os("FIRESIDE_MODELS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let models = models.map(|folder| expanded(&folder));
        Some(Paths {
            config_file: base.config_dir().join("fireside").join("config.toml"),
            models: models.unwrap_or_else(|| base.data_dir().join("fireside").join("models")),
            line_history: state.join("lines"),
            known_models: state.join("models.json"),
            working: state.join("working"),
            told: state.join("told"),
            conversations: base.data_dir().join("fireside").join("conversations.db"),
            headers: base.cache_dir().join("fireside").join("headers.json"),
            prompt_cache: base.cache_dir().join("fireside").join("prompts"),
            home: base.home_dir().to_path_buf(),
            fetched: state.join("fetched.json"),
        })
    }
}
