//! A ChatGPT export of 200 MB, imported as a file and as a zip: seconds and memory.
//!
//! `cargo bench --bench import [-- MEGABYTES]`. The memory is the program's most so far, writing the
//! files included.

#![allow(clippy::print_stdout)] // its figures are what it is for

use std::fs::File;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use fireside::history::exchange::{Error, import};

#[allow(unreachable_pub)] // a library for the tests
#[path = "../tests/support/chats.rs"]
mod chats;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let megabytes: usize = args.next().map_or(200, |arg| arg.parse().expect("MEGABYTES is a number"));
    let folder = tempfile::tempdir().expect("the temporary folder takes files");
    let (plain, zip) = (folder.path().join("conversations.json"), folder.path().join("export.zip"));
    let file = File::create(&plain).expect("the folder takes files");
    let conversations = chats::write_export(file, megabytes * 1_000_000).expect("there is room");
    pack(&plain, &zip);
    println!("{conversations} conversations");
    for path in [&plain, &zip] {
        let started = Instant::now();
        let summary = import::<Error>(path, &mut |_, _| ControlFlow::Continue(()), &mut |_| Ok(()))
            .expect("it is whole");
        let seconds = started.elapsed().as_secs_f64();
        let size = std::fs::metadata(path).expect("it is there").len() / 1_000_000;
        println!(
            "{} ({size} MB): {} conversations, {} messages in {seconds:.2} s, {} MiB",
            path.file_name().expect("it has one").display(),
            summary.conversations,
            summary.messages,
            most_memory() >> 10
        );
    }
}

fn pack(from: &Path, to: &Path) {
    let mut zip = zip::ZipWriter::new(File::create(to).expect("the folder takes files"));
    let options = zip::write::SimpleFileOptions::default().large_file(true);
    zip.start_file("conversations.json", options).expect("a zip takes files");
    let (mut file, mut buffer) = (File::open(from).expect("it was written"), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).expect("it can be read") {
            0 => break,
            read => zip.write_all(&buffer[..read]).expect("there is room"),
        }
    }
    zip.finish().expect("there is room");
}

/// KiB this program has used at most.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux has it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("it is a number")
}
