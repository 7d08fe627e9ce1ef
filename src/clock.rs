//! The system's clock → the current time. Nothing here fails or overflows, even if the clock is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Milliseconds since 1970; 0 for a clock before 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The same as a timestamp; the last one for a clock beyond the year 9999.
pub fn timestamp() -> Timestamp {
    Timestamp::from_millisecond(now()).unwrap_or(Timestamp::MAX)
}
