//! The times of reading and writing cached prompts → the speed of the disk they are on, checksums and copying
//! included, and from that how long the next one takes. Measured speeds are kept beside the cached prompts.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::files::{small_file, write_json};

const FILE: &str = "speeds";
/// For how long a measured speed counts: a disk that was only busy is then tried again.
const VALID: Duration = Duration::from_secs(24 * 3600);
/// The smallest state whose time shows the speed, in bytes.
const TELLING: usize = 4 << 20;
/// Until it is measured, a disk counts as fast: what is then tried shows its true speed.
const ASSUMED: Speeds = Speeds { read: 2e9, write: 1e9 };

/// In bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Speeds {
    read: f64,
    write: f64,
}

/// The disk of a prompt cache folder. Clones share what they measure.
#[derive(Clone)]
pub(super) struct Disk {
    file: PathBuf,
    /// `None`: not looked up yet.
    speeds: Arc<Mutex<Option<Speeds>>>,
}

impl Disk {
    /// Touches no file until it is asked.
    pub(super) fn of(folder: &Path) -> Disk {
        Disk { file: folder.join(FILE), speeds: Arc::default() }
    }

    /// The time to restore a state of `bytes` into a model, in seconds.
    pub(super) fn reading(&self, bytes: u64) -> f64 {
        bytes as f64 / self.with(|speeds| speeds.read)
    }

    /// The time to write one, in seconds.
    pub(super) fn writing(&self, bytes: u64) -> f64 {
        bytes as f64 / self.with(|speeds| speeds.write)
    }

    /// Learns how long restoring a state took.
    pub(super) fn has_read(&self, bytes: usize, took: Duration) {
        self.learn(bytes, took, |speeds| &mut speeds.read);
    }

    /// Learns how long writing one took.
    pub(super) fn has_written(&self, bytes: usize, took: Duration) {
        self.learn(bytes, took, |speeds| &mut speeds.write);
    }

    fn learn(&self, bytes: usize, took: Duration, of: fn(&mut Speeds) -> &mut f64) {
        if bytes >= TELLING {
            let speeds = self.with(|speeds| {
                *of(speeds) = bytes as f64 / took.as_secs_f64().max(1e-6);
                *speeds
            });
            let _ = write_json(&self.file, &speeds); // otherwise it is measured again
        }
    }

    fn with<T>(&self, run: impl FnOnce(&mut Speeds) -> T) -> T {
        let mut speeds = self.speeds.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        run(speeds.get_or_insert_with(|| kept(&self.file).unwrap_or(ASSUMED)))
    }
}

/// The speeds that an earlier process has measured, if they still count.
fn kept(file: &Path) -> Option<Speeds> {
    let measured = std::fs::metadata(file).ok()?.modified().ok()?;
    let age = SystemTime::now().duration_since(measured).ok()?;
    let speeds: Speeds = serde_json::from_str(&small_file(file)?).ok()?;
    (age < VALID && [speeds.read, speeds.write].iter().all(|speed| *speed >= 1.0)).then_some(speeds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_speeds_count_in_the_next_process_for_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::of(folder.path());
        assert_eq!((disk.reading(2_000_000_000), disk.writing(2_000_000_000)), (1.0, 2.0), "not measured");
        disk.has_read(1000, Duration::from_secs(1));
        assert!(!disk.file.exists(), "too small to show a speed");
        disk.has_read(100_000_000, Duration::from_secs(2));
        disk.clone().has_written(100_000_000, Duration::from_secs(4));
        let next = || Disk::of(folder.path());
        for disk in [&disk, &next()] {
            assert_eq!((disk.reading(50_000_000), disk.writing(50_000_000)), (1.0, 2.0));
        }
        let file = std::fs::File::options().append(true).open(&disk.file).unwrap();
        file.set_modified(SystemTime::now() - VALID).unwrap();
        assert_eq!(next().reading(2_000_000_000), 1.0, "too old");
        for wrong in ["", "{\"read\": 0, \"write\": 1e9}", "{\"read\": -1e9, \"write\": null}"] {
            std::fs::write(&disk.file, wrong).unwrap();
            assert_eq!(next().reading(2_000_000_000), 1.0, "{wrong}");
        }
    }
}
