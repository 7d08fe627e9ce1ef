//! A wrong clock: a library, loaded before the program, that returns the time in `FIRESIDE_TEST_NOW`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
    long done = syscall(SYS_clock_gettime, clock, time);
    const char *now = getenv("FIRESIDE_TEST_NOW");
    if (done == 0 && clock == CLOCK_REALTIME && now)
        time->tv_sec = atoll(now);
    return done;
}
"#;

/// The library, compiled once; `None` if there is no C compiler.
pub(super) fn stopped() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
        compile.status().is_ok_and(|status| status.success()).then_some((folder, library))
    });
    made.as_ref().map(|(_, library)| library.as_path())
}
