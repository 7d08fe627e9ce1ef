//! Numbers as people read them: sizes, counts, durations.

use std::fmt::Display;

/// `1.5 GiB`, rounded.
pub fn size(bytes: u64) -> String {
    let of = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..1024 => count(bytes, "byte"),
        1024..1_048_064 => format!("{:.0} KiB", of(1 << 10)),
        1_048_064..1_073_217_536 => format!("{:.0} MiB", of(1 << 20)),
        _ => format!("{:.1} GiB", of(1 << 30)),
    }
}

/// `1 token`, `2 tokens`.
pub fn count<N: Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    format!("{number} {}", noun(number == N::from(1), what))
}

/// The same, aligned in a column.
pub fn count_in_column(number: usize, digits: usize, what: &str) -> String {
    let longest = noun(false, what).len();
    format!("{number:>digits$} {:longest$}", noun(number == 1, what))
}

fn noun(one: bool, what: &str) -> String {
    match what.strip_suffix("ry") {
        _ if one => what.to_string(),
        Some(stem) => format!("{stem}ries"),
        None => format!("{what}s"),
    }
}

/// `0.2 s`, `12 s`, `4 min 20 s`, `4 h 20 min`, `2 days`: rounded as in speech.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as usize;
    let and = |large: String, rest: usize, unit: &str| match rest {
        0 => large,
        rest => format!("{large} {rest} {unit}"),
    };
    match whole {
        _ if seconds < 0.1 => "less than 0.1 s".to_string(),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..90 => format!("{whole} s"),
        90..600 => and(format!("{} min", whole / 60), whole % 60, "s"),
        600..5400 => format!("{} min", (whole + 30) / 60),
        5400..86_400 => and(format!("{} h", whole / 3600), whole % 3600 / 60, "min"),
        _ => count((whole + 43_200) / 86_400, "day"),
    }
}

/// `about 3 s`, `about 40 s`, `about 1.5 h`: an estimate, in steps of one up to ten and of five above; hours
/// in halves.
pub fn about(seconds: f64) -> String {
    let (minutes, hours) = (seconds / 60.0, seconds / 3600.0);
    let rough = |number: f64| if number < 10.0 { number.round() } else { (number / 5.0).round() * 5.0 };
    match seconds {
        ..1.0 => "less than 1 s".into(),
        ..92.5 => format!("about {} s", rough(seconds)),
        ..3450.0 => format!("about {} min", rough(minutes)),
        ..36_000.0 => format!("about {} h", (hours * 2.0).round() / 2.0),
        ..129_600.0 => format!("about {hours:.0} h"),
        _ => format!("about {:.0} days", hours / 24.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded() {
        let sizes = [0, 1, 2047, 1_048_400, 98_362_432, 1_073_700_000, 4_920_739_232].map(size);
        assert_eq!(sizes, ["0 bytes", "1 byte", "2 KiB", "1 MiB", "94 MiB", "1.0 GiB", "4.6 GiB"]);
    }

    #[test]
    fn one_is_one() {
        assert_eq!([0, 1, 2].map(|n: usize| count(n, "message")), ["0 messages", "1 message", "2 messages"]);
        assert_eq!([1, 2].map(|n: u64| count(n, "entry")), ["1 entry", "2 entries"]);
        assert_eq!([1, 2].map(|n: u32| count(n, "day")), ["1 day", "2 days"]);
        assert_eq!([1, 12].map(|n| count_in_column(n, 3, "token")), ["  1 token ", " 12 tokens"]);
    }

    #[test]
    fn times_are_as_people_say_them() {
        let times = [0.0, 0.24, 9.94, 9.96, 59.6, 200.0, 300.0, 1800.0, 15_488.4, 200_000.0].map(duration);
        let said = [
            "less than 0.1 s",
            "0.2 s",
            "9.9 s",
            "10 s",
            "60 s",
            "3 min 20 s",
            "5 min",
            "30 min",
            "4 h 18 min",
            "2 days",
        ];
        assert_eq!(times, said);
    }

    #[test]
    fn estimates_claim_no_more_than_they_are_worth() {
        let seconds =
            [0.0, 2.5, 12.4, 41.0, 88.0, 162.0, 1380.0, 3500.0, 4800.0, 15_488.4, 60_000.0, 200_000.0];
        let said = [
            "less than 1 s",
            "about 3 s",
            "about 10 s",
            "about 40 s",
            "about 90 s",
            "about 3 min",
            "about 25 min",
            "about 1 h",
            "about 1.5 h",
            "about 4.5 h",
            "about 17 h",
            "about 2 days",
        ];
        assert_eq!(seconds.map(about), said);
    }
}
