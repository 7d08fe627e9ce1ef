//! What every test needs: a run of the real program in a home of its own, and the models to run it with.

pub mod pty;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One of the tiny models made by tests/models/make.py.
pub fn tiny(name: &str) -> PathBuf {
    let path = repository().join("tests/models").join(format!("{name}.gguf"));
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// The default model, or `None` with a line on stderr where it was not fetched. In CI its absence is a failure.
pub fn default_model() -> Option<PathBuf> {
    let path = repository().join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.exists() {
        return Some(path);
    }
    cannot_run("the default model is not there (make model)");
    None
}

/// Says that a test did not run, and why; in CI that is a failure.
pub fn cannot_run(why: &str) {
    assert!(std::env::var_os("FIRESIDE_TEST_NO_SKIP").is_none(), "cannot run: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The program, as built for this test run.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_fireside")
}

/// A home folder for one test: configuration, models, history and state live and die there.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Home {
        Home { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// Writes a file below the home folder and returns its path.
    pub fn write(&self, inside: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// What a run in this home sees: nothing of the machine's own settings.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("HOME".into(), self.folder.path().into()),
            ("TERM".into(), "xterm-256color".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("OMP_WAIT_POLICY".into(), "passive".into()), // runs in parallel must not spin against one another
        ];
        environment.extend(std::env::var_os("PATH").map(|path| ("PATH".into(), path)));
        environment
    }

    /// A run of the program in this home.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Run {
        let mut command = Command::new(program());
        command.args(args.iter().map(AsRef::as_ref)).env_clear().envs(self.environment());
        command.current_dir(self.folder.path());
        Run { command, stdin: None }
    }

    /// A run whose answers come from a script: each line one answer (see src/backend/script.rs).
    pub fn scripted<S: AsRef<str>>(&self, answers: &str, args: &[S]) -> Run {
        let script = self.write("script.txt", answers);
        let mut run = self.run(args);
        run.command.arg("--backend").arg(format!("script:{}", script.display()));
        run
    }
}

/// One run of the program. stdin is empty and closed unless given.
pub struct Run {
    command: Command,
    stdin: Option<Vec<u8>>,
}

impl Run {
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Run {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Run {
        self.command.env(name, value);
        self
    }

    pub fn model(mut self, path: &Path) -> Run {
        self.command.arg("-m").arg(path);
        self
    }

    /// Runs to the end.
    pub fn done(mut self) -> Done {
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(bytes) = self.stdin {
            let mut pipe = child.stdin.take().unwrap();
            std::thread::spawn(move || pipe.write_all(&bytes)); // a program that does not read it all is no failure
        }
        Done::from(child.wait_with_output().unwrap())
    }
}

/// How a run ended. Every check shows all of it when it fails.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Done {
        Done {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    #[track_caller]
    pub fn code(self, code: i32) -> Done {
        assert_eq!(self.code, Some(code), "exit code; {self:#?}");
        self
    }

    #[track_caller]
    pub fn stdout(self, expected: &str) -> Done {
        assert_eq!(self.stdout, expected, "stdout; {self:#?}");
        self
    }

    #[track_caller]
    pub fn stderr(self, expected: &str) -> Done {
        assert_eq!(self.stderr, expected, "stderr; {self:#?}");
        self
    }

    /// stderr has this text somewhere.
    #[track_caller]
    pub fn says(self, part: &str) -> Done {
        assert!(self.stderr.contains(part), "stderr lacks {part:?}; {self:#?}");
        self
    }

    /// A failure as the contract wants it: this code, nothing on stdout, one `fireside:` line with `part` in it, then at
    /// most a `hint:` line.
    #[track_caller]
    pub fn failed(self, code: i32, part: &str) -> Done {
        let done = self.code(code).stdout("");
        let failures: Vec<&str> = done.stderr.lines().filter(|l| l.starts_with("fireside: ")).collect();
        assert_eq!(failures.len(), 1, "one failure line; {done:#?}");
        assert!(failures[0].contains(part), "the failure lacks {part:?}; {done:#?}");
        assert!(!done.stderr.contains("panicked") && !done.stderr.contains("RUST_BACKTRACE"), "{done:#?}");
        done
    }

    #[track_caller]
    pub fn hint(self, part: &str) -> Done {
        let hint = self.stderr.lines().find(|l| l.starts_with("hint: ")).unwrap_or_default();
        assert!(hint.contains(part), "the hint lacks {part:?}; {self:#?}");
        self
    }
}
