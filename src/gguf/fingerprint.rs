//! A model's files → two hashes: the fingerprint and the stamp.
//!
//! The fingerprint identifies the model wherever its files are. Hashing tens of gigabytes would take minutes,
//! so it covers sizes, whole headers and samples of the data; an edit between the samples goes unnoticed. The
//! stamp identifies these very files and changes with every modification. It covers the file system's facts
//! about them, including the change time, which programs cannot set; it is valid on one machine only, and not
//! for copies. Neither protects against forgery.

use std::{
    fs::{File, Metadata},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::{Header, parts, read};

const SAMPLES: u64 = 64;
/// The number of samples of each further file of a model.
const FEWEST_SAMPLES: u64 = 4;
const SAMPLE: u64 = 4096;
/// Changes this close together may have the same timestamp: by the system's clock tick, or on a file system
/// that stores only seconds.
const TICK: Duration = Duration::from_millis(20);
const COARSE_TICK: Duration = Duration::from_secs(2);

/// 32 hexadecimal digits: half a SHA-256 over the size, the header and 4 KiB samples of each file. The first
/// file has 64 samples, including the first and the last of its data.
///
/// Takes about a millisecond when the file is cached.
///
/// # Errors
/// If a file cannot be read, or is shorter than when `header` was read.
pub fn fingerprint(path: &Path, header: &Header) -> io::Result<String> {
    let mut hash = Sha256::new();
    sampled(&mut hash, path, header, SAMPLES)?;
    let parts = parts(header);
    let samples = (SAMPLES / parts.len() as u64).max(FEWEST_SAMPLES);
    for part in parts.iter().filter(|part| *part != path) {
        let header = read(part).map_err(io::Error::other)?;
        sampled(&mut hash, part, &header, samples)?;
    }
    Ok(digits(hash))
}

/// 32 hexadecimal digits that change whenever one of a model's files is replaced or modified: half a SHA-256
/// over device, inode, size, modification time and change time of each.
///
/// # Errors
/// If one of the files does not exist.
pub fn stamp(files: &[PathBuf]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for part in files {
        let mut about = part.metadata()?;
        if !unchanged_for_long(&about) {
            std::thread::sleep(TICK);
            about = part.metadata()?;
        }
        let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
        [about.dev(), about.ino(), about.size()].iter().for_each(|number| hash.update(number.to_le_bytes()));
        times.iter().for_each(|number| hash.update(number.to_le_bytes()));
        if !unchanged_for_long(&about) {
            // The next change may have the same timestamp, so this stamp must never match again.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            hash.update(now.as_nanos().to_le_bytes());
            hash.update(std::process::id().to_le_bytes());
        }
    }
    Ok(digits(hash))
}

/// Whether the next change will have another timestamp than the last one.
fn unchanged_for_long(about: &Metadata) -> bool {
    let coarse = about.mtime_nsec() == 0 && about.ctime_nsec() == 0;
    let tick = if coarse { COARSE_TICK } else { TICK };
    let changed = Duration::new(about.ctime().try_into().unwrap_or(0), about.ctime_nsec() as u32);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(changed).is_some_and(|since| since >= tick)
}

/// Hashes one file's part of the fingerprint.
fn sampled(hash: &mut Sha256, path: &Path, header: &Header, most: u64) -> io::Result<()> {
    let mut file = File::open(path)?;
    hash.update(header.file_size.to_le_bytes());
    hash.update(&header.bytes);
    let mut sample = Vec::with_capacity(SAMPLE as usize);
    for (start, len) in samples(header.data_start, header.file_size, most) {
        sample.clear();
        file.seek(SeekFrom::Start(start))?;
        if file.by_ref().take(len).read_to_end(&mut sample)? as u64 != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&sample);
    }
    Ok(())
}

/// 32 hexadecimal digits that identify a text: half its SHA-256.
pub fn fingerprint_of_text(text: &str) -> String {
    digits(Sha256::new_with_prefix(text))
}

fn digits(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Offsets and lengths of `most` samples, at least 2, spread over the data; small data is covered in full.
fn samples(data_start: u64, file_size: u64, most: u64) -> Vec<(u64, u64)> {
    let data = file_size.saturating_sub(data_start);
    if data <= SAMPLES * SAMPLE {
        let count = data.div_ceil(SAMPLE);
        return (0..count).map(|i| (data_start + i * SAMPLE, SAMPLE.min(data - i * SAMPLE))).collect();
    }
    let last = data - SAMPLE;
    // Divides before it multiplies, to avoid overflow.
    let offset = |i: u64| last / (most - 1) * i + last % (most - 1) * i / (most - 1);
    (0..most).map(|i| (data_start + offset(i), SAMPLE)).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{read, sample::Sample},
        *,
    };

    #[test]
    fn samples_stay_inside_the_data_and_reach_both_ends() {
        for (start, size) in
            [(0, 0), (32, 32), (64, 65), (64, 64 + 5000), (96, 96 + SAMPLES * SAMPLE + 1), (96, u64::MAX)]
        {
            let found = samples(start, size, SAMPLES);
            assert!(found.iter().all(|(at, len)| *at >= start && at + len <= size));
            if let (Some(first), Some(last)) = (found.first(), found.last()) {
                assert_eq!((first.0, last.0 + last.1), (start, size));
            }
        }
    }

    #[test]
    fn every_part_of_the_file_counts() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.gguf");
        let of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("temporary file");
            fingerprint(&path, &read(&path).expect("valid")).expect("readable")
        };
        let sample = Sample::default().text("general.name", "one").tensor("t", &[64]);
        let bytes = sample.bytes();
        let print = of(&bytes);
        assert_eq!((print.len(), &print), (32, &of(&bytes)));
        let mut data = bytes.clone();
        *data.last_mut().expect("not empty") ^= 1;
        assert_ne!(of(&data), print);
        assert_ne!(of(&[&bytes[..], b"more"].concat()), print);
        assert_ne!(of(&Sample::default().text("general.name", "two").tensor("t", &[64]).bytes()), print);
    }

    #[test]
    fn a_stamp_changes_with_every_change_and_no_other_time() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("m-00001-of-00002.gguf");
        let other = dir.path().join("m-00002-of-00002.gguf");
        let first = Sample::default().u32("split.count", 2).u32("split.no", 0).tensor("t", &[64]).bytes();
        let second = Sample::default().u16("split.no", 1).tensor("u", &[64]).bytes();
        std::fs::write(&path, &first).expect("temporary file");
        std::fs::write(&other, &second).expect("temporary file");
        let header = read(&path).expect("valid");
        let now = || stamp(&parts(&header)).expect("readable");
        let print = || fingerprint(&path, &header).expect("readable");
        let (stamped, printed) = (now(), print());
        assert_eq!((now(), stamped.len()), (stamped.clone(), 32));
        let modified = other.metadata().and_then(|about| about.modified()).expect("readable");
        let mut edited = second.clone();
        *edited.last_mut().expect("not empty") ^= 1;
        std::fs::write(&other, &edited).expect("temporary file");
        let file = File::options().write(true).open(&other).expect("readable");
        file.set_modified(modified).expect("ours");
        let edited = now();
        assert_ne!(edited, stamped);
        assert_ne!(print(), printed, "the fingerprint has a sample there");
        std::fs::copy(&other, dir.path().join("copy")).expect("temporary file");
        std::fs::rename(dir.path().join("copy"), &other).expect("temporary file");
        assert_ne!(now(), edited, "another inode");
    }

    #[test]
    fn a_file_cut_later_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("a.gguf");
        let bytes = Sample::default().tensor("t", &[64]).bytes();
        std::fs::write(&path, &bytes).expect("temporary file");
        let header = read(&path).expect("valid");
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("temporary file");
        assert!(fingerprint(&path, &header).is_err());
    }
}
