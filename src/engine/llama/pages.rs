//! A model file mapped into memory → its pages given back once its weights are copied: laid out anew for this
//! processor (repacked), or moved to a GPU.
//!
//! llama.cpp maps the whole file and copies from there, so such weights would count twice for as long as the
//! process lives. A page that is still needed returns at its next use: the system keeps the file cached. The
//! copies get huge pages: with small ones, a page fault for every 4 KiB takes longer than the copying.

use std::ffi::c_void;
use std::fs;
use std::path::Path;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise};

/// How often pages are given back while a file is loaded, at most.
const STEPS: u64 = 64;
/// The minimum size of a file in bytes: with less, the pages that return cost more than memory is worth. As in
/// build/include/mapped_pages.h.
const LEAST: u64 = 512 << 20;

/// The minimum size of memory for huge pages, in bytes.
#[cfg(target_os = "linux")]
const LARGE: usize = 16 << 20;

/// What a thread's memory for small allocations is aligned to, in glibc (HEAP_MAX_SIZE): of most such memory little is used.
#[cfg(target_os = "linux")]
const ARENA: usize = 64 << 20;

/// The pages of a file that is being loaded.
pub(super) struct MappedPages {
    /// Whether huge pages were asked for.
    asked: bool,
    /// A step's share of the file, in bytes; `None`: the file is small.
    step: Option<u64>,
    /// The steps so far.
    steps: u64,
    /// Whether all weights are copied.
    copied: bool,
    /// The memory that is no mapped file, at the last step, in bytes.
    own: u64,
}

impl MappedPages {
    /// `copied`: whether all weights are copied; otherwise the growth of memory shows which are.
    pub(super) fn of(path: &Path, copied: bool) -> MappedPages {
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        let step = Some(bytes / STEPS).filter(|_| bytes >= LEAST);
        MappedPages { asked: false, step, steps: 0, copied, own: own_memory() }
    }

    /// Call it before each tensor. The first time asks for huge pages, then gives pages back if the weights of
    /// the last step were copied. `fraction`: how much is loaded, 0 to 1.
    pub(super) fn loaded(&mut self, fraction: f32) {
        if !std::mem::replace(&mut self.asked, true) {
            ask_for_huge_pages();
        }
        let steps = (fraction * STEPS as f32) as u64;
        let Some(step) = self.step.filter(|_| steps > self.steps) else { return };
        let own = own_memory();
        let expected = (steps - self.steps) * step;
        if self.copied || own.saturating_sub(self.own) > expected / 2 {
            advise(MmapAdvise::MADV_DONTNEED, |mapping| mapped(mapping, Kind::File));
        }
        (self.steps, self.own) = (steps, own);
    }
}

/// The memory of this process that is no mapped file, in bytes; 0 if the system does not report it.
fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    number.unwrap_or(0) << 10
}

/// Advises the system on the mappings that `of` selects from the lines of /proc/self/maps.
fn advise(advice: MmapAdvise, of: impl Fn(&str) -> Option<(usize, usize)>) {
    for mapping in fs::read_to_string("/proc/self/maps").unwrap_or_default().lines() {
        let Some((start, length)) = of(mapping) else { continue };
        if let Some(start) = NonNull::new(start as *mut c_void) {
            // SAFETY: huge pages change no contents, and dropped ones are of files mapped for reading only: each
            // returns at its next use. A refusal (pages may be locked) does no harm.
            let _ = unsafe { madvise(start, length, advice) };
        }
    }
}

/// For all large memory that is no file.
pub(super) fn ask_for_huge_pages() {
    #[cfg(target_os = "linux")] // other systems have no such advice, and no /proc/self/maps
    advise(MmapAdvise::MADV_HUGEPAGE, |mapping| {
        mapped(mapping, Kind::Memory).filter(|(start, size)| *size >= LARGE && start % ARENA != 0)
    });
}

/// What is mapped.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
enum Kind {
    /// As a model file is: shared, for reading only, and on a disk. Drivers map their devices in the same way, and
    /// those pages do not return.
    File,
    /// Memory that is no file, for a large piece.
    Memory,
}

/// The start and length of a line of /proc/self/maps of this kind.
fn mapped(mapping: &str, kind: Kind) -> Option<(usize, usize)> {
    let mut fields = mapping.splitn(6, ' ');
    let (range, access, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
    let name = fields.next().unwrap_or_default().trim_start();
    let (start, end) = range.split_once('-')?;
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let right = match kind {
        Kind::File => access == "r--s" && inode != "0" && Path::new(name).is_file(),
        Kind::Memory => access == "rw-p" && inode == "0" && name.is_empty(), // nor heap, nor stack
    };
    right.then_some((start, end - start))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Kind, mapped};

    #[test]
    fn only_shared_files_for_reading_are_given_back_and_only_memory_gets_huge_pages() {
        let line = |access: &str, file: &str| format!("7f00a000-7f00c000 {access} 00001000 fe:01 {file}");
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model one.gguf");
        fs::write(&model, "").unwrap();
        let model = format!("42       {}", model.display());
        assert_eq!(mapped(&line("r--s", &model), Kind::File), Some((0x7f00_a000, 0x2000)));
        assert_eq!(mapped(&line("r--p", &model), Kind::File), None);
        assert_eq!(mapped(&line("rw-s", &model), Kind::File), None);
        assert_eq!(
            mapped(&line("r--s", "42       /dev/null"), Kind::File),
            None,
            "as a GPU's driver maps it"
        );
        assert_eq!(mapped(&line("r--s", "42       /memfd:shared (deleted)"), Kind::File), None);
        assert_eq!(mapped(&line("r--s", "0 "), Kind::File), None);
        assert_eq!(mapped("", Kind::File), None);
        assert_eq!(mapped(&line("rw-p", "0 "), Kind::Memory), Some((0x7f00_a000, 0x2000)));
        assert_eq!(mapped(&line("rw-p", &model), Kind::Memory), None);
        assert_eq!(mapped(&line("---p", "0 "), Kind::Memory), None);
    }
}
