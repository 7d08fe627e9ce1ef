//! `fireside --list-devices`: the devices that a model can be put on, with their memory.

use serde_json::{Value, json};

use super::printed;
use crate::failure::{Exit, Failure};
use crate::models::{self, Device};
use crate::ui::Screen;

/// As llama.cpp's option of this name: the CPU, which is always used, is not listed.
pub fn run(screen: &mut Screen, as_json: bool) -> Result<Exit, Failure> {
    let devices = models::listed_devices();
    if as_json {
        let devices: Vec<Value> = devices.iter().map(object).collect();
        return printed(screen.json(&json!({ "devices": devices }).to_string()));
    }
    let lines = devices.iter().map(|device| format!("  {}", models::described(device)));
    let lines: Vec<String> = lines.collect();
    let lines = if lines.is_empty() { "  (none)".into() } else { lines.join("\n") };
    printed(screen.source(&format!("Available devices:\n{lines}")))
}

fn object(device: &Device) -> Value {
    json!({
        "name": device.name,
        "description": device.description,
        "kind": models::kind(device),
        "total": device.total,
        "free": device.free,
    })
}
