//! Times as other programs write them → milliseconds since 1970 → a date for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

/// Greater numbers are milliseconds: in seconds this is the year 5138, in milliseconds early 1973.
const MILLISECONDS: f64 = 1e11;

/// The day in this machine's time zone, as `2025-03-04`; `None` for 0 (unknown) or an invalid time.
pub(super) fn day(milliseconds: i64) -> Option<String> {
    let time = Timestamp::from_millisecond(milliseconds).ok().filter(|_| milliseconds != 0)?;
    Some(time.to_zoned(TimeZone::system()).date().to_string())
}

/// The first of these fields that holds a time: seconds or milliseconds since 1970, or a date as text.
pub(super) fn field(object: &Map<String, Value>, names: &[&str]) -> Option<i64> {
    names.iter().find_map(|name| of(object.get(*name)?))
}

fn of(value: &Value) -> Option<i64> {
    if let Some(text) = value.as_str() {
        return text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
    }
    let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0)?;
    let scale = if number < MILLISECONDS { 1000.0 } else { 1.0 };
    let milliseconds = (number * scale).round() as i64;
    Timestamp::from_millisecond(milliseconds).ok().map(|_| milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_understood_however_they_are_written() {
        for (value, expected) in [
            (json!(1736209412.345), Some(1736209412345)),
            (json!(1736209412), Some(1736209412000)),
            (json!(1736209412345_u64), Some(1736209412345)),
            (json!("2025-01-07T00:23:32.345Z"), Some(1736209412345)),
            (json!("2025-01-07T00:23:32.345000+00:00"), Some(1736209412345)),
            (json!(null), None),
            (json!(-1), None),
            (json!(1e300), None),
            (json!("yesterday"), None),
            (json!([1]), None),
        ] {
            assert_eq!(of(&value), expected, "{value}");
        }
        assert_eq!(day(1741089600000).as_deref(), Some("2025-03-04")); // noon UTC
        assert_eq!(day(i64::MAX), None);
    }
}
