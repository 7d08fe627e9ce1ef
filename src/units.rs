//! Bytes for people.

/// `1.5 GiB`, rounded to what matters.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{:.0} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_rounded() {
        assert_eq!([1, 2047, 98_362_432, 4_920_739_232].map(size), ["1 bytes", "1 KiB", "94 MiB", "4.6 GiB"]);
    }
}
