//! `fireside pull` from a hub on loopback that does everything wrong: afterwards the file is right, or one
//! line says why not; and nothing is fetched twice.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::support::hub::{COMMIT, Content, Duty, FakeHub, Fault, Request, Served};
use crate::support::{Done, Home, Run, cannot_run, tiny};

const MIB: usize = 1 << 20;
/// Several ranges, the last one shorter.
const SIZE: usize = 6 * MIB + 12_345;
const NAME: &str = "tiny-Q4_K_M.gguf";
/// Bytes that each connection of an ended run may have received but not written, including those in sockets.
const LOST_EACH: u64 = 512 * 1024 + 192 * 1024;

fn served(name: &str, size: usize) -> Served {
    let mut state = size as u64 ^ name.len() as u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut bytes: Vec<u8> = (0..size).map(step).collect();
    bytes[..4].copy_from_slice(b"GGUF"); // so that it looks like a model
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Served { name: name.into(), sha256, size: size as u64, content: Content::Bytes(Arc::new(bytes)) }
}

/// Whether the file at `path` has these bytes. Reads it in pieces, since the tests' own memory counts in
/// measurements.
fn has(path: &Path, bytes: &[u8]) -> bool {
    let mut file = std::fs::File::open(path).unwrap();
    let mut piece = vec![0; 64 * 1024];
    let same = |expected: &[u8]| {
        file.read_exact(&mut piece[..expected.len()]).is_ok() && piece[..expected.len()] == *expected
    };
    bytes.chunks(64 * 1024).all(same) && std::fs::metadata(path).unwrap().len() == bytes.len() as u64
}

fn bytes(file: &Served) -> &[u8] {
    match &file.content {
        Content::Bytes(bytes) => bytes,
        Content::Disk(_) => panic!("these tests serve from memory"),
    }
}

/// A hub with one file, and a home to fetch it into.
struct Place {
    hub: FakeHub,
    home: Home,
    file: Served,
}

impl Place {
    fn new() -> Place {
        Place::of(SIZE)
    }

    fn of(size: usize) -> Place {
        let file = served(NAME, size);
        Place { hub: FakeHub::new(vec![file.clone()]), home: Home::new(), file }
    }

    fn run(&self, args: &[&str]) -> Run {
        run(&self.hub, &self.home, args)
    }

    fn pull(&self) -> Run {
        self.run(&["pull", "hf:some/repo"])
    }

    /// The same with short waits, for lasting faults and stalls.
    fn hasty_pull(&self) -> Run {
        self.pull().env("FIRESIDE_TEST_PATIENCE", "1")
    }

    fn blob(&self) -> PathBuf {
        self.home.path(".cache/huggingface/hub/models--some--repo/blobs").join(&self.file.sha256)
    }

    fn snapshot(&self) -> PathBuf {
        self.home.path(".cache/huggingface/hub/models--some--repo/snapshots").join(COMMIT).join(NAME)
    }

    fn part(&self) -> PathBuf {
        PathBuf::from(format!("{}.fireside-part", self.blob().display()))
    }

    /// The run succeeded and the file is right.
    #[track_caller]
    fn right(&self, done: Done) -> Done {
        let done = done.code(0).stdout(&format!("{}\n", self.snapshot().display()));
        assert!(has(&self.snapshot(), bytes(&self.file)), "the file is wrong; {done:#?}");
        let left: Vec<_> = std::fs::read_dir(self.blob().parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "the blob only; {left:?}");
        done
    }
}

fn run(hub: &FakeHub, home: &Home, args: &[&str]) -> Run {
    home.run(args).env("HF_ENDPOINT", &hub.endpoint).env("FIRESIDE_TEST_PATIENCE", "10")
}

/// A fault for the first requests for bytes.
fn first(count: usize, fault: Fault) -> impl Fn(&Request) -> Fault + Send + Sync {
    let met = std::sync::atomic::AtomicUsize::new(0);
    let of_pieces = matches!(fault, Fault::Status(416, _)); // no server refuses a whole file with 416
    move |request| {
        let wanted = request.wants_bytes() && (request.range.is_some() || !of_pieces);
        let meets = wanted && met.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < count;
        if meets { fault.clone() } else { Fault::None }
    }
}

fn slow(request: &Request) -> Fault {
    if request.wants_bytes() { Fault::Slow(60) } else { Fault::None }
}

fn read_to_string(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_pull_is_laid_out_as_huggingface_hub_does_and_done_once() {
    let place = Place::new();
    let done = place.right(place.pull().done());
    done.says("fetching tiny-Q4_K_M.gguf from some/repo: 6 MiB; licence: apache-2.0\n")
        .says("fetched 6 MiB in ");
    let link = std::fs::read_link(place.snapshot()).unwrap();
    assert_eq!(link, PathBuf::from(format!("../../blobs/{}", place.file.sha256)));
    let repository = place.home.path(".cache/huggingface/hub/models--some--repo");
    assert_eq!(read_to_string(&repository.join("refs/main")), COMMIT);
    let lock = format!(".cache/huggingface/hub/.locks/models--some--repo/{}.lock", place.file.sha256);
    assert!(place.home.path(&lock).exists());
    let noted = read_to_string(&place.home.path(".local/state/fireside/models.json"));
    assert!(
        noted.contains(place.blob().to_str().unwrap()) && noted.contains(place.snapshot().to_str().unwrap())
    );

    let sent = place.hub.sent();
    assert!(sent < SIZE as u64 + 10, "{sent}");
    place.right(place.pull().done()).stderr("already downloaded\n");
    std::fs::remove_file(place.snapshot()).unwrap();
    place.right(place.pull().done());
    assert_eq!(place.hub.sent(), sent);
}

#[test]
fn what_is_left_of_a_pull_goes_when_another_program_has_brought_the_file() {
    let place = Place::new();
    place.hub.trouble(|request| match request.range {
        Some((first, _)) if first == 5 * MIB as u64 => Fault::Status(400, String::new()),
        _ => Fault::None,
    });
    place.pull().done().failed(1, "400");
    assert!(place.part().exists());
    std::fs::write(place.blob(), bytes(&place.file)).unwrap();
    place.right(place.pull().done()).stderr("already downloaded\n");
}

#[test]
fn all_ways_of_naming_a_file_mean_the_same() {
    let place = Place::new();
    for what in [
        "hf:some/repo:q4_k_m",
        "hf:some/repo:tiny-Q4_K_M.gguf",
        "hf:some/repo/tiny-Q4_K_M.gguf",
        "hf:some/repo@main:Q4_K_M",
        "hf.co/some/repo",
        "https://huggingface.co/some/repo/blob/main/tiny-Q4_K_M.gguf",
    ] {
        place.right(place.run(&["pull", what, "-q"]).done()).stderr("");
    }
    assert!(place.hub.sent() < SIZE as u64 + 10);
    place.run(&["pull", "hf:some/repo@v1:Q4_K_M"]).done().code(0);
    let tag = place.home.path(".cache/huggingface/hub/models--some--repo/refs/v1");
    assert_eq!(read_to_string(&tag), COMMIT);
}

#[test]
fn passing_troubles_are_tried_again() {
    let head = |text: &str| text.to_string();
    for fault in [
        Fault::Truncate(700_000),
        Fault::Truncate(0),
        Fault::Stall(100_000),
        Fault::Status(500, head("")),
        Fault::Status(503, head("retry-after: 0\r\n")),
        Fault::Status(429, head("retry-after: 0.1\r\n")),
        Fault::Status(429, head("retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n")),
        Fault::Range("bytes 5-9/10".into()),
        Fault::Range(format!("bytes 1-1048576/{SIZE}")),
        Fault::Longer(10),
        Fault::NoRanges,
        Fault::Status(403, head("")),
        Fault::Status(416, head("")),
    ] {
        let place = Place::new();
        place.hub.trouble(first(3, fault.clone()));
        let done = place.right(place.hasty_pull().done());
        assert!(!done.stderr.contains("fireside:"), "{fault:?}: {done:#?}");
    }
}

#[test]
fn the_list_of_files_is_asked_for_again_too() {
    for fault in [Fault::Status(502, String::new()), Fault::Status(429, "retry-after: 0\r\n".into())] {
        let place = Place::new();
        place.hub.trouble(move |request| {
            if request.number < 2 && request.duty == Duty::List { fault.clone() } else { Fault::None }
        });
        place.right(place.hasty_pull().done());
    }
}

#[test]
fn troubles_that_last_are_one_line_and_what_came_is_kept() {
    let place = Place::new();
    place.hub.trouble(|request| match request.range {
        Some((first, _)) if request.wants_bytes() && first >= 5 * MIB as u64 => {
            Fault::Status(503, String::new())
        }
        _ => Fault::None,
    });
    place
        .hasty_pull()
        .done()
        .failed(1, "the server is in trouble (503)")
        .hint("the same command resumes the download")
        .says("trying again in ");
    assert!(place.part().exists());
    let sent = place.hub.sent();
    place.hub.trouble(|_| Fault::None);
    place.right(place.pull().done()).says(" of it already here");
    assert!(place.hub.sent() < SIZE as u64 + 10, "{sent} and then {}", place.hub.sent());
}

#[test]
fn refusals_are_one_line_and_say_what_to_do() {
    let code = |code: &str| format!("x-error-code: {code}\r\n");
    let cases = [
        (
            Duty::List,
            401,
            code("RepoNotFound"),
            "there is no repository some/repo on the hub, or it is private",
            "HF_TOKEN",
        ),
        (Duty::List, 401, String::new(), "there is no repository some/repo", "HF_TOKEN"),
        (
            Duty::List,
            403,
            code("GatedRepo"),
            "some/repo is gated: its conditions must be accepted first",
            "accept them",
        ),
        (
            Duty::List,
            404,
            code("RevisionNotFound"),
            "some/repo has no revision 'main'",
            "a branch, a tag or a commit",
        ),
        (Duty::List, 404, String::new(), "there is no repository some/repo", "private"),
        (Duty::List, 418, String::new(), "the hub refused access to some/repo (418)", ""),
        (Duty::Resolve, 401, code("GatedRepo"), "some/repo is gated", "accept them on the model's page"),
        (Duty::Resolve, 403, String::new(), "some/repo is gated", "set HF_TOKEN"),
        (Duty::Resolve, 404, code("EntryNotFound"), "some/repo has no file tiny-Q4_K_M.gguf", ""),
        (Duty::List, 429, "retry-after: 3600\r\n".into(), "it asks to wait 3600 s", ""),
    ];
    for (duty, status, headers, message, hint) in cases {
        let place = Place::new();
        place.hub.trouble(move |request| match request.duty == duty {
            true => Fault::Status(status, headers.clone()),
            false => Fault::None,
        });
        place.pull().done().failed(1, message).hint(hint);
    }
}

#[test]
fn what_is_not_there_is_said_with_what_there_is() {
    let files = ["a-Q8_0.gguf", "b-Q8_0.gguf", "mmproj-a-f16.gguf"].map(|name| served(name, 3 * MIB / 2));
    let (hub, home) = (FakeHub::new(files.to_vec()), Home::new());
    let pull = |what: &str| run(&hub, &home, &["pull", what]).done();
    pull("hf:some/repo")
        .failed(1, "contains several models: a-Q8_0.gguf (2 MiB), b-Q8_0.gguf")
        .hint("hf:some/repo:a-Q8_0.gguf");
    pull("hf:some/repo:Q9_0")
        .failed(1, "some/repo has no 'Q9_0'")
        .hint("did you mean Q8_0? it has a-Q8_0.gguf");
    pull("hf:some/repo:a-Q8.gguf").failed(1, "has no 'a-Q8.gguf'").hint("did you mean a-Q8_0.gguf?");
    pull("some/repo").failed(2, "neither in the catalogue").hint("did you mean hf:some/repo?");
    pull("smolm2-135m").failed(2, "neither in the catalogue").hint("did you mean smollm2-135m?");
    assert_eq!(hub.sent(), 0);
}

#[test]
fn a_killed_pull_goes_on_where_it_was() {
    for pause in [30, 150, 300] {
        let place = Place::of(12 * MIB + 7);
        place.hub.trouble(slow);
        let pull = place.pull().start();
        wait_until(|| place.hub.sent() > 2);
        std::thread::sleep(Duration::from_millis(pause));
        pull.kill();
        place.right(place.pull().done());
        let bound = place.file.size + 8 * LOST_EACH;
        assert!(place.hub.sent() < bound, "{} of {bound} after {pause} ms", place.hub.sent());
    }
}

#[test]
fn ctrl_c_ends_a_pull_at_once_and_says_that_it_goes_on() {
    let place = Place::new();
    place.hub.trouble(|request| if request.wants_bytes() { Fault::Stall(400_000) } else { Fault::None });
    let pull = place.pull().env("FIRESIDE_TEST_PATIENCE", "30").start();
    wait_until(|| place.hub.sent() > 2_000_000);
    let pressed = Instant::now();
    pull.interrupt();
    pull.done().code(130).stdout("").says("interrupted: run the same command again to continue");
    assert!(pressed.elapsed() < Duration::from_secs(1), "{:?}", pressed.elapsed());
    place.hub.trouble(|_| Fault::None);
    place.right(place.pull().done());

    let place = Place::new();
    place.hub.trouble(|_| Fault::Status(503, "retry-after: 60\r\n".into()));
    let mut pull = place.pull().start();
    pull.stderr.wait_for("trying again in 60 s");
    pull.interrupt();
    pull.done().code(130).stdout("");
}

#[test]
fn of_two_pulls_at_once_the_second_waits() {
    let place = Place::new();
    place.hub.trouble(slow);
    let one = place.pull().start();
    wait_until(|| place.hub.sent() > 2);
    let mut other = place.pull().start();
    other.stderr.wait_for("another program is fetching tiny-Q4_K_M.gguf: waiting for it");
    place.right(one.done());
    place.right(other.done());
    assert!(place.hub.sent() < SIZE as u64 + 10);
}

#[test]
fn a_lock_that_nobody_lets_go_is_not_waited_for_without_end() {
    let place = Place::new();
    let lock = format!(".cache/huggingface/hub/.locks/models--some--repo/{}.lock", place.file.sha256);
    let held = std::fs::File::open(place.home.write(&lock, "")).unwrap();
    held.lock().unwrap();
    let measured = place.hasty_pull().measured(Duration::from_secs(40));
    assert_eq!(measured.signal, None, "it hangs; {measured:#?}");
    measured
        .done
        .failed(1, "another program has locked tiny-Q4_K_M.gguf and fetched nothing for 15 s")
        .hint(".lock");
    drop(held);
    place.right(place.pull().done());
}

#[test]
fn only_the_damaged_range_is_fetched_again() {
    // Damaged on the way: the checksum of the whole detects it, and ranges are compared with a second copy.
    let place = Place::of(12 * MIB);
    let damaged = std::sync::atomic::AtomicBool::new(false);
    place.hub.trouble(move |request| match request.range {
        Some((first, _))
            if first == 3 * MIB as u64 && !damaged.swap(true, std::sync::atomic::Ordering::SeqCst) =>
        {
            Fault::Damage
        }
        _ => Fault::None,
    });
    place
        .right(place.pull().done())
        .says("the checksum of tiny-Q4_K_M.gguf is wrong: looking for the damaged part");
    assert!(place.hub.sent() < place.file.size + 8 * MIB as u64 + 10, "{}", place.hub.sent());

    // Lost in a power cut: the journal records bytes that are not on the disk.
    let place = Place::new();
    place.hub.trouble(|request| match request.range {
        Some((first, _)) if first == 5 * MIB as u64 => Fault::Status(503, String::new()),
        _ => Fault::None,
    });
    place.hasty_pull().done().failed(1, "503");
    let part = std::fs::OpenOptions::new().write(true).open(place.part()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&part, &[0; 4096], 2 * MIB as u64).unwrap();
    place.hub.trouble(|_| Fault::None);
    place.right(place.pull().done()).says("part of tiny-Q4_K_M.gguf was lost on disk");
    assert!(place.hub.sent() < place.file.size + MIB as u64 + 20, "{}", place.hub.sent());
}

#[test]
fn a_hub_that_always_sends_wrong_bytes_is_given_up() {
    let place = Place::new();
    place.hub.trouble(|request| match request.range {
        Some((first, _)) if first == MIB as u64 => Fault::Damage,
        _ => Fault::None,
    });
    place.pull().done().failed(1, "fails its SHA-256 check, even when fetched again");
    assert!(!place.blob().exists());
    assert!(place.hub.sent() <= 2 * SIZE as u64 + 10);
}

#[test]
fn a_server_without_ranges_sends_one_stream() {
    let place = Place::new();
    place.hub.trouble(|request| if request.duty == Duty::Bytes { Fault::NoRanges } else { Fault::None });
    place.right(place.hasty_pull().done());

    // After an interruption it starts over: there is nothing to continue from.
    let place = Place::new();
    place.hub.trouble(|request| match request.duty == Duty::Bytes {
        true if request.number == 1 => Fault::Truncate(2 * MIB as u64),
        true => Fault::NoRanges,
        false => Fault::None,
    });
    place.right(place.hasty_pull().done());
}

#[test]
fn a_model_in_several_files_comes_whole() {
    let names = ["q/m-Q8_0-00001-of-00002.gguf", "q/m-Q8_0-00002-of-00002.gguf", "q/m-F16.gguf"];
    let files = names.map(|name| served(name, MIB + name.len()));
    let (hub, home) = (FakeHub::new(files.to_vec()), Home::new());
    let done = run(&hub, &home, &["pull", "hf:some/repo:Q8_0", "--json"]).done().code(0);
    let object = done.json();
    let snapshot = home.path(".cache/huggingface/hub/models--some--repo/snapshots").join(COMMIT);
    assert_eq!(object["path"], snapshot.join(names[0]).to_str().unwrap());
    assert_eq!(object["bytes"], files[0].size + files[1].size);
    assert_eq!(object["files"][1]["path"], snapshot.join(names[1]).to_str().unwrap());
    for file in &files[..2] {
        assert!(has(&snapshot.join(&file.name), bytes(file)));
    }
    assert!(!snapshot.join(names[2]).exists());

    let files: Vec<Served> = names[..2].iter().map(|name| served(&name[2..], MIB)).collect();
    let (hub, home) = (FakeHub::new(files.clone()), Home::new());
    run(&hub, &home, &["pull", &hub.plain(&files[1].name)]).done().code(0);
    for file in &files {
        assert!(has(&home.path(".local/share/fireside/models").join(&file.name), bytes(file)));
    }
}

#[test]
fn json_is_one_object_whatever_happens() {
    let place = Place::new();
    let object = place.run(&["pull", "hf:some/repo", "--json"]).done().code(0).json();
    assert_eq!(object["reference"], "hf:some/repo");
    assert_eq!(object["sha256"], place.file.sha256.as_str());
    assert_eq!(
        (&object["bytes"], &object["path"]),
        (&SIZE.into(), &place.snapshot().to_str().unwrap().into())
    );
    assert!(object["fetched"].as_u64() >= Some(SIZE as u64) && object["seconds"].as_f64() > Some(0.0));
    assert_eq!(place.run(&["pull", "hf:some/repo", "--json"]).done().json()["fetched"], 0);
    place.hub.trouble(|_| Fault::Status(404, String::new()));
    let done = place.run(&["pull", "hf:some/repo", "--json"]).done().code(1);
    let error = &done.json()["error"];
    assert!(
        error["message"].as_str().unwrap().contains("no repository some/repo") && error["hint"].is_string()
    );
    let error = place.run(&["pull", "nonsense", "--json"]).done().code(2).json();
    assert!(error["error"]["message"].as_str().unwrap().contains("'nonsense'"));
}

#[test]
fn the_token_goes_to_the_hub_alone_and_is_never_shown() {
    let secret = "hf_verysecret";
    let pull = |place: &Place| place.run(&["pull", "hf:some/repo", "-v"]);
    let place = Place::new();
    let done = place.right(pull(&place).env("HF_TOKEN", secret).done());
    let failing = Place::new();
    failing.hub.trouble(|request| {
        if request.duty == Duty::Resolve { Fault::Status(401, String::new()) } else { Fault::None }
    });
    let failed = pull(&failing)
        .env("HF_TOKEN", secret)
        .done()
        .failed(1, "conditions must be accepted first")
        .hint("check that HF_TOKEN");
    for text in [&done.stdout, &done.stderr, &failed.stderr] {
        assert!(!text.contains("secret"), "{text}");
    }
    for request in place.hub.requests() {
        let sent = request.header("authorization");
        assert_eq!(sent, (request.duty != Duty::Bytes).then_some("Bearer hf_verysecret"), "{request:?}");
    }

    // Read from its file; not sent if the user forbids it, to other hosts, or with a line break in it.
    let tokens = |env: &[(&str, &str)], what: &str| {
        let place = Place::new();
        place.home.write(".cache/huggingface/token", format!("{secret}\n"));
        let run = place.run(&["pull", &what.replace("HUB", place.hub.cdn())]);
        env.iter().fold(run, |run, (name, value)| run.env(name, value)).done();
        let requests = place.hub.requests();
        assert!(!requests.is_empty());
        requests.iter().filter(|request| request.header("authorization").is_some()).count()
    };
    assert!(tokens(&[], "hf:some/repo") >= 2);
    assert_eq!(tokens(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], "hf:some/repo"), 0);
    assert_eq!(tokens(&[], "HUB/plain/tiny-Q4_K_M.gguf"), 0);
    let wrong = place.pull().env("HF_TOKEN", "hf_very\nsecret\u{7}").done().failed(2, "the token");
    assert!(!wrong.stderr.contains("secret"));
}

#[test]
fn offline_asks_nobody() {
    let place = Place::new();
    for run in [
        place.run(&["pull", "hf:some/repo", "--offline"]),
        place.run(&["--offline", "pull", "hf:some/repo"]),
        place.pull().env("FIRESIDE_OFFLINE", "1"),
        place.pull().env("HF_HUB_OFFLINE", "1"),
    ] {
        run.done().failed(1, "could not fetch hf:some/repo: fireside is offline");
    }
    assert!(place.hub.requests().is_empty());
}

#[test]
fn nobody_there_is_one_line() {
    let home = Home::new();
    let pull = home
        .run(&["pull", "hf:some/repo"])
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("FIRESIDE_TEST_PATIENCE", "0.2");
    pull.done().failed(1, "could not fetch from 127.0.0.1:9: connection refused").hint("check the network");
    home.run(&["pull", "hf:some/repo"]).env("HF_ENDPOINT", "nowhere").done().failed(2, "HF_ENDPOINT");
}

/// Accepts every connection and never responds.
fn silent() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let met = Arc::new(AtomicUsize::new(0));
    let count = met.clone();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            held.push(stream);
        }
    });
    (address, met)
}

#[test]
fn a_network_that_never_answered_is_given_up_soon() {
    let (address, met) = silent();
    let home = Home::new();
    let run = home.run(&["pull", "hf:some/repo"]).env("HF_ENDPOINT", format!("http://{address}"));
    // The long patience is only for a network that has responded before.
    let measured = run.env("FIRESIDE_TEST_PATIENCE", "100").measured(Duration::from_secs(50));
    assert_eq!(measured.signal, None, "{measured:#?}");
    let done = measured.done.failed(1, &format!("could not fetch from {address}: no answer in time"));
    done.hint("HTTPS_PROXY").hint("--offline");
    assert_eq!(met.load(Ordering::SeqCst), 1);
}

#[test]
fn a_name_that_no_host_has_is_said() {
    let home = Home::new();
    let nobody = format!("{}.invalid", "x".repeat(64)); // longer than a name may be, so no server is asked
    let run = home.run(&["pull", "hf:some/repo"]).env("HF_ENDPOINT", format!("http://{nobody}"));
    let done = run.env("FIRESIDE_TEST_PATIENCE", "0.2").done();
    done.failed(1, &format!("could not fetch from {nobody}: there is no such host, or no network"));
}

#[test]
fn a_url_goes_into_the_models_folder() {
    let place = Place::new();
    let url = place.hub.plain(NAME);
    let target = place.home.path(".local/share/fireside/models").join(NAME);
    let pull = || place.run(&["pull", &url, "--json"]).done().code(0).json();
    assert_eq!(pull()["sha256"], place.file.sha256.as_str());
    assert!(has(&target, bytes(&place.file)));
    assert_eq!(pull()["fetched"], 0);
    assert_eq!(std::fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
    std::fs::write(&target, "another").unwrap();
    place.run(&["pull", &url]).done().failed(1, "already exists and is a different file");
    assert_eq!(read_to_string(&target), "another");
}

#[test]
fn two_versions_of_a_url_are_never_mixed() {
    // Between two runs.
    let place = Place::new();
    let pull = || place.run(&["pull", &place.hub.plain(NAME)]);
    let other: Vec<u8> = bytes(&place.file).iter().map(|byte| byte ^ (byte >> 7)).collect();
    let target = place.home.path(".local/share/fireside/models").join(NAME);
    place.hub.trouble(|request| match request.range {
        Some((first, _)) if first >= 4 * MIB as u64 => Fault::Status(400, String::new()),
        _ => Fault::None,
    });
    pull().done().failed(1, "refused the request (400)");
    place.hub.trouble(|_| Fault::OtherVersion);
    pull().done().code(0);
    assert!(has(&target, &other));

    // Between two ranges: with another ETag, and with the 200 that If-Range asks for.
    for first_of_other in [2, 5] {
        std::fs::remove_file(&target).unwrap();
        let seen = std::sync::atomic::AtomicUsize::new(0);
        place.hub.trouble(move |_| {
            match seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= first_of_other {
                true => Fault::OtherVersion,
                false => Fault::None,
            }
        });
        pull().done().code(0).says("the file has changed meanwhile: tiny-Q4_K_M.gguf starts over");
        assert!(has(&target, &other));
    }
}

#[test]
fn a_url_that_is_gone_is_one_line() {
    let place = Place::new();
    let pull = |url: String| place.run(&["pull", &url]).done();
    pull(place.hub.plain("other.gguf")).failed(1, "has no such file (404)");
    pull(format!("{}/plain/x.bin", place.hub.endpoint)).failed(2, "neither in the catalogue");
}

/// The calls with which a program reaches the network; socket pairs inside the process do not count.
const CALLS: &str = "socket,bind,connect,sendto,sendmsg";

#[test]
fn answering_and_chatting_open_no_socket() {
    if Command::new("strace").arg("-V").output().is_err() {
        return cannot_run("strace is not there");
    }
    let home = Home::new();
    let log = home.path("calls");
    let calls = |run: Run| {
        let _ = std::fs::remove_file(&log);
        run.model(&tiny("llama-bpe")).traced(CALLS, &log).done().code(0);
        read_to_string(&log)
    };
    let answering = calls(home.run(&["-p", "Hello", "-n", "4", "--temp", "0"]));
    assert_eq!(answering, "", "one answer");
    let chatting = calls(home.run(&["--repl-stdin", "-n", "4"]).stdin("Hello\n/exit\n"));
    assert_eq!(chatting, "", "a chat");
    // The test does notice a pull.
    let pull = home
        .run(&["pull", "hf:some/repo"])
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("FIRESIDE_TEST_PATIENCE", "0.1");
    pull.traced(CALLS, &log).done().code(1);
    assert!(read_to_string(&log).contains("socket(AF_INET"));
}

#[track_caller]
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happens");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_repository_of_two_hundred_thousand_files_is_looked_up_soon() {
    let one = served(NAME, 4096);
    let named = |number: usize| Served { name: format!("m{number}-Q4_K_M.gguf"), ..one.clone() };
    let hub = FakeHub::new((0..200_000).map(named).collect());
    let measured = run(&hub, &Home::new(), &["pull", "hf:some/repo"]).measured(Duration::from_secs(20));
    assert_eq!(measured.signal, None, "{measured:#?}");
    let done = measured.done.failed(1, "some/repo contains several models");
    assert!(done.stderr.len() < 3000, "{done:#?}");
}

#[test]
fn what_somebody_else_put_where_a_part_will_be_is_not_written_to() {
    use std::os::unix::fs::symlink;
    for kind in ["part", "ranges"] {
        let place = Place::new();
        let victim = place.home.write("victim", "somebody else's");
        std::fs::create_dir_all(place.blob().parent().unwrap()).unwrap();
        let foreseen = PathBuf::from(format!("{}.fireside-{kind}", place.blob().display()));
        symlink(&victim, &foreseen).unwrap();
        place.pull().done().failed(1, "is a link");
        assert_eq!(read_to_string(&victim), "somebody else's");
        std::fs::remove_file(&foreseen).unwrap();
        std::fs::hard_link(&victim, &foreseen).unwrap();
        place.pull().done().failed(1, "belongs to another user");
        assert_eq!(read_to_string(&victim), "somebody else's");
        std::fs::remove_file(&foreseen).unwrap();
        place.right(place.pull().done());
    }
}

#[test]
fn nobody_else_may_write_what_is_fetched_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    place.hub.trouble(slow);
    let running = place.pull().after("umask 0").start();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.part().exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(50)); // until it is not only created
    assert_eq!(mode(&place.part()), 0o644);
    running.done().code(0);
    assert_eq!(mode(&place.snapshot()), 0o644);
    assert_eq!(mode(place.blob().parent().unwrap()), 0o755);
}
