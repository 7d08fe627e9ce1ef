//! Text ↔ addresses of workers.

use super::values::words;

/// Addresses of workers, separated by `,`.
pub(super) fn workers(value: &str) -> Result<Vec<String>, String> {
    if value.trim() == "none" {
        return Ok(Vec::new());
    }
    let valid = |address: &&str| {
        address.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    let all: Vec<&str> = words(value).collect();
    match all.iter().find(|address| !valid(address)) {
        Some(wrong) if all.len() > 1 => {
            Err(format!("must be HOST:PORT, as in 127.0.0.1:50052, and '{wrong}' is not"))
        }
        None if !all.is_empty() => Ok(all.into_iter().map(String::from).collect()),
        _ => Err("must be HOST:PORT, as in 127.0.0.1:50052, or none".into()),
    }
}

pub(super) fn show_workers(addresses: &[String]) -> String {
    if addresses.is_empty() { "none".into() } else { addresses.join(",") }
}
