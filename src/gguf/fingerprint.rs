//! A model file in, a short text out that changes whenever the file does.
//!
//! Reading tens of gigabytes only to name a file would take minutes, so this hashes its size, the whole header and samples
//! spread over the data. It recognises a file; it does not protect against someone who forges one.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::Header;

const SAMPLES: u64 = 64;
const SAMPLE: u64 = 4096;

/// 32 hexadecimal digits: half a SHA-256 over file size, header and 64 samples of 4 KiB, the data's first and last among them.
///
/// Takes about a millisecond when the file is cached. A model in several files is known by its first.
///
/// # Errors
/// If the file cannot be read, or is shorter than when `header` was read.
pub fn fingerprint(path: &Path, header: &Header) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    hash.update(header.file_size.to_le_bytes());
    hash.update(&header.bytes);
    let mut sample = Vec::with_capacity(SAMPLE as usize);
    for (start, len) in samples(header.data_start, header.file_size) {
        sample.clear();
        file.seek(SeekFrom::Start(start))?;
        if file.by_ref().take(len).read_to_end(&mut sample)? as u64 != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&sample);
    }
    Ok(digits(hash))
}

/// 32 hexadecimal digits that are another text's only if that is the same.
pub fn fingerprint_of_text(text: &str) -> String {
    digits(Sha256::new_with_prefix(text))
}

fn digits(hash: Sha256) -> String {
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Offset and length of each sample; all of the data where it is small.
fn samples(data_start: u64, file_size: u64) -> Vec<(u64, u64)> {
    let data = file_size.saturating_sub(data_start);
    if data <= SAMPLES * SAMPLE {
        let count = data.div_ceil(SAMPLE);
        return (0..count).map(|i| (data_start + i * SAMPLE, SAMPLE.min(data - i * SAMPLE))).collect();
    }
    let last = data - SAMPLE;
    // Divided before multiplied, so that no file is too large.
    let offset = |i: u64| last / (SAMPLES - 1) * i + last % (SAMPLES - 1) * i / (SAMPLES - 1);
    (0..SAMPLES).map(|i| (data_start + offset(i), SAMPLE)).collect()
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
            let found = samples(start, size);
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
