//! What the time is, however wrong the clock: nothing here fails or overflows.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since 1970; 0 before.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The same as a date; the last one there is for a clock beyond the year 9999.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(now()).unwrap_or(Timestamp::MAX)
}
