//! `fireside pull` of 1 GiB from loopback against `curl -o` of the same URL from the same server.
//!
//! `cargo bench --bench pull [-- RUNS [FOLDER]]`: curl and fireside in turn, each into a fresh file in FOLDER (the system's
//! temporary one if not given; one in memory takes the disk out of the comparison). fireside also computes the SHA-256
//! and sends the file to the disk before it gives it its name; curl does neither, so it is timed with each of them as well.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

#[allow(dead_code, unreachable_pub)] // the tests need more of it
#[path = "../tests/support/hub.rs"]
mod hub;

use hub::{Content, FakeHub, Served};

const SIZE: u64 = 1 << 30;
const NAME: &str = "model-Q4_K_M.gguf";
const FIRESIDE: &str = env!("CARGO_BIN_EXE_fireside");
/// Words of the commands below that stand for others.
const TARGET: &str = "TARGET";
const URL: &str = "URL";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let runs = args.first().map_or(7, |runs| runs.parse().expect("RUNS is a number"));
    let folder = match args.get(1) {
        Some(folder) => tempfile::tempdir_in(folder).expect("FOLDER takes files"),
        None => tempfile::tempdir().expect("the temporary folder takes files"),
    };
    let hub = FakeHub::new(vec![served(&folder.path().join(NAME))]);
    let url = hub.plain(NAME);
    let (home, target) = (folder.path().join("home"), folder.path().join("home/curl"));
    let ways: [(&str, &[&[&str]]); 5] = [
        ("curl", &[&["curl", "-sS", "-o", TARGET, URL]]),
        ("curl and sync", &[&["curl", "-sS", "-o", TARGET, URL], &["sync", TARGET]]),
        ("curl and sha256sum", &[&["curl", "-sS", "-o", TARGET, URL], &["sha256sum", TARGET]]),
        ("fireside, a URL", &[&[FIRESIDE, "pull", "-q", URL]]),
        ("fireside, the hub", &[&[FIRESIDE, "pull", "-q", "hf:some/repo"]]),
    ];
    let mut seconds = [(); 5].map(|()| Vec::new());
    for turn in 0..runs * ways.len() {
        let way = (turn + turn / ways.len()) % ways.len(); // nobody always comes after the same one
        std::fs::create_dir(&home).expect("the folder takes folders");
        let mut commands: Vec<Command> =
            ways[way].1.iter().map(|words| command(words, &target, &url, &hub)).collect();
        seconds[way].push(timed(&mut commands));
        std::fs::remove_dir_all(&home).expect("it was just made");
    }
    let medians = seconds.map(|mut seconds: Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        (seconds[seconds.len() / 2], seconds[0])
    });
    for ((name, _), (median, best)) in ways.iter().zip(medians) {
        let speed = SIZE as f64 / median / 1e9;
        println!(
            "{name:18} median {median:.3} s, best {best:.3} s, {speed:.2} GB/s, {:.2} of curl",
            medians[0].0 / median
        );
    }
}

fn served(path: &Path) -> Served {
    let mut file = File::create(path).expect("the folder takes files");
    let mut state = 1u64;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        for word in piece.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.copy_from_slice(&state.to_le_bytes());
        }
        piece[..4].copy_from_slice(b"GGUF"); // whatever else it is
        file.write_all(&piece).expect("there is room for it");
    }
    let sum = Command::new("sha256sum").arg(path).output().expect("sha256sum is there").stdout;
    let sha256 = String::from_utf8_lossy(&sum[..64]).into_owned();
    Served { name: NAME.into(), sha256, size: SIZE, content: Content::Disk(path.into()) }
}

fn command(words: &[&str], target: &Path, url: &str, hub: &FakeHub) -> Command {
    let given = |word: &&str| match *word {
        TARGET => target.display().to_string(),
        URL => url.to_string(),
        word => word.to_string(),
    };
    let mut command = Command::new(words[0]);
    let home = target.parent().expect("it is in a folder");
    command.args(words[1..].iter().map(given)).env("HOME", home).env("HF_ENDPOINT", &hub.endpoint);
    command.stdout(Stdio::null());
    command
}

/// Seconds of the commands together, on a disk that has nothing left to write.
fn timed(commands: &mut [Command]) -> f64 {
    nix::unistd::sync();
    let started = Instant::now();
    for command in commands {
        assert!(command.status().expect("it can be started").success());
    }
    started.elapsed().as_secs_f64()
}
