//! The user's folders, as the system defines them → the paths that fireside reads and writes.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

use crate::files::expanded;

/// All paths. Folders may be missing; fireside creates them when it writes to them.
#[derive(Debug, Clone)]
pub struct Paths {
    pub config_file: PathBuf,
    /// The folder of roles.
    pub roles: PathBuf,
    /// The models folder: its GGUF files are found by name.
    pub models: PathBuf,
    /// Lines typed in the chat.
    pub line_history: PathBuf,
    /// Facts about model files, and the model used last.
    pub model_state: PathBuf,
    /// Lock files, one per conversation that a model is working on.
    pub working: PathBuf,
    /// Marker file: exists once the user has seen the path of the database.
    pub told: PathBuf,
    /// The database of conversations.
    pub conversations: PathBuf,
    /// The prompt cache.
    pub prompt_cache: PathBuf,
    /// The token of workers on this machine.
    pub worker_token: PathBuf,
    /// Tensors that clients sent to workers on this machine.
    pub tensor_cache: PathBuf,
    /// The user's home folder.
    pub home: PathBuf,
}

impl Paths {
    /// The paths with descriptions, for `help files`.
    pub fn table(&self) -> [(&'static str, &Path); 11] {
        [
            ("config file", &self.config_file),
            ("roles", &self.roles),
            ("models, also in subfolders", &self.models),
            ("conversations", &self.conversations),
            ("input history of the chat", &self.line_history),
            ("facts about model files, and the model used last", &self.model_state),
            ("prompt cache", &self.prompt_cache),
            ("lock files of conversations in use", &self.working),
            ("token of workers on this machine", &self.worker_token),
            ("tensors that workers keep", &self.tensor_cache),
            ("empty; marks that the path of the conversations has been shown", &self.told),
        ]
    }

    pub(super) fn find() -> Option<Paths> {
        let base = etcetera::choose_base_strategy().ok()?;
        if !base.home_dir().is_absolute() {
            return None; // HOME is empty or relative: the current folder must not become the home folder
        }
        let state = base.state_dir().unwrap_or_else(|| base.data_dir()).join("fireside");
        let models =
            std::env::var_os("FIRESIDE_MODELS").filter(|folder| !folder.is_empty()).map(PathBuf::from);
        let models = models.map(|folder| expanded(&folder));
        Some(Paths {
            config_file: base.config_dir().join("fireside").join("config.toml"),
            roles: base.config_dir().join("fireside").join("roles"),
            models: models.unwrap_or_else(|| base.data_dir().join("fireside").join("models")),
            line_history: state.join("lines"),
            model_state: state.join("models.json"),
            working: state.join("working"),
            told: state.join("told"),
            conversations: base.data_dir().join("fireside").join("conversations.db"),
            prompt_cache: base.cache_dir().join("fireside").join("prompts"),
            worker_token: state.join("worker-token"),
            tensor_cache: base.cache_dir().join("fireside").join("tensors"),
            home: base.home_dir().to_path_buf(),
        })
    }
}
