//! The current time. Nothing here fails or overflows, however wrong the clock is.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since 1970; 0 before.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The same as a timestamp; the last one for a clock beyond the year 9999.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(now()).unwrap_or(Timestamp::MAX)
}
