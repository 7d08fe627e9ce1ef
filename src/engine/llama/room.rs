//! What a context takes of each device's memory → whether a larger one has room there now.
//!
//! Linux promises memory that it does not have, and kills the process that uses it: so main memory is asked, too.

use super::devices::{Device, devices};
use crate::engine::error::Error;
use crate::units::size;

/// The share of free memory that a growing context leaves, and the most of it in bytes.
const RESERVED_SHARE: u64 = 8;
const MOST_RESERVED: u64 = 256 << 20;

/// What a context takes of one device's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Part {
    /// Compute buffers: of any context, and for each token of it.
    pub compute: u64,
    pub compute_per_token: f64,
    /// Recurrent state, and the KV cache for each token.
    pub state: u64,
    pub kv_per_token: f64,
}

impl Part {
    fn bytes(&self, tokens: usize) -> u64 {
        let per_token = self.compute_per_token + self.kv_per_token;
        self.compute + self.state + (per_token * tokens as f64) as u64
    }
}

/// What a context takes of a GPU's memory.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuPart {
    pub gpu: String,
    /// Whether that is main memory.
    pub shared: bool,
    pub part: Part,
}

/// What a context takes of this machine's memory, and how to ask what is free.
#[derive(Debug, Clone)]
pub struct Room {
    pub gpus: Vec<GpuPart>,
    pub main: Part,
    /// Free main memory in bytes, if known.
    pub free: fn() -> Option<u64>,
}

/// A context that grows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// The tokens of the context that it replaces, if there is one, and its own.
    pub from: Option<usize>,
    pub to: usize,
}

impl Growth {
    fn bytes(self, from: &Part, to: &Part) -> u64 {
        to.bytes(self.to).saturating_sub(self.from.map_or(0, |tokens| from.bytes(tokens)))
    }
}

impl Room {
    /// The same with all of the KV cache in main memory.
    pub(super) fn off_gpus(&self) -> Room {
        let mut room = self.clone();
        for GpuPart { part, .. } in &mut room.gpus {
            room.main.state += std::mem::take(&mut part.state);
            room.main.kv_per_token += std::mem::take(&mut part.kv_per_token);
        }
        room
    }

    /// Whether each GPU has room.
    pub(super) fn on_gpus(&self, growth: Growth) -> bool {
        let (main, devices) = match &self.gpus[..] {
            [] => (None, Vec::new()),
            _ => ((self.free)(), devices()),
        };
        self.fits(growth, &devices, main)
    }

    fn fits(&self, growth: Growth, devices: &[Device], main: Option<u64>) -> bool {
        self.gpus.iter().all(|GpuPart { gpu, part, .. }| {
            let device = devices.iter().find(|device| device.name == *gpu);
            let free = device.and_then(|device| device.free_beside(main));
            free.is_none_or(|free| growth.bytes(part, part) <= spared(free))
        })
    }

    /// An error with the figures if main memory has no room for a context that takes the place of one in `before`, and
    /// for so many bytes of copies meanwhile.
    pub(super) fn in_main(&self, growth: Growth, before: &Room, copies: usize) -> Result<(), Error> {
        let shared = |room: &Room| -> Vec<Part> {
            let gpus = room.gpus.iter().filter(|gpu| gpu.shared).map(|gpu| gpu.part);
            gpus.chain([room.main]).collect()
        };
        let parts = shared(before).into_iter().zip(shared(self));
        let needed = parts.map(|(from, to)| growth.bytes(&from, &to)).sum::<u64>() + copies as u64;
        match (self.free)().map(spared) {
            Some(free) if needed > free => {
                let (needed, free) = (size(needed), size(free));
                let why = format!("it takes {needed} more, and {free} of main memory can be used");
                Err(Error::NoRoom { capacity: growth.to, why })
            }
            _ => Ok(()),
        }
    }
}

/// Of so many free bytes those that a context may take.
fn spared(free: u64) -> u64 {
    free - (free / RESERVED_SHARE).min(MOST_RESERVED)
}

#[cfg(test)]
mod tests {
    use super::super::devices::DeviceKind;
    use super::*;

    const MIB: u64 = 1 << 20;
    /// Of 1,000 tokens 110 MiB: with 10 MiB of buffers, and 0.1 for each token.
    const PART: Part =
        Part { compute: 10 * MIB, compute_per_token: 0.0, state: 0, kv_per_token: 0.1 * MIB as f64 };

    fn growth(from: Option<usize>) -> Growth {
        Growth { from, to: 1000 }
    }

    fn room(shared: bool, free: fn() -> Option<u64>) -> Room {
        Room { gpus: vec![GpuPart { gpu: "A".into(), shared, part: PART }], main: PART, free }
    }

    fn gpu(kind: DeviceKind, free: u64, total: u64) -> Device {
        let (name, description) = ("A".to_string(), String::new());
        Device { name, description, kind, free: free * MIB, total: total * MIB, hardware: None }
    }

    #[test]
    fn a_gpu_keeps_a_reserve_and_an_unknown_one_stands_in_the_way_of_nothing() {
        let room = room(false, || None);
        let fits = |device, from| room.fits(growth(from), &[device], Some(50 * MIB));
        assert!(fits(gpu(DeviceKind::Gpu, 126, 126), None));
        assert!(!fits(gpu(DeviceKind::Gpu, 125, 125), None), "an eighth stays free");
        assert!(fits(gpu(DeviceKind::Gpu, 60, 125), Some(500)), "the old context goes");
        assert!(fits(gpu(DeviceKind::Gpu, 0, 0), None), "its driver says nothing");
        assert!(!fits(gpu(DeviceKind::Integrated, 1000, 1000), None), "main memory has 50 MiB");
        assert!(!fits(gpu(DeviceKind::Integrated, 0, 0), None));
        assert!(room.fits(growth(None), &[], None), "it is no longer there");
    }

    #[test]
    fn main_memory_is_asked_for_all_that_lies_in_it() {
        let asked = |room: &Room, growth, copies| room.in_main(growth, room, copies);
        let own = room(false, || Some(160 * MIB));
        assert!(asked(&own, growth(None), 0).is_ok());
        let refused = asked(&own, growth(None), 40 << 20).unwrap_err().to_string();
        let why = "it takes 150 MiB more, and 140 MiB of main memory can be used";
        assert_eq!(refused, format!("not enough memory for a context of 1000 tokens: {why}"));
        assert!(asked(&own, growth(Some(500)), 40 << 20).is_ok());
        assert!(asked(&room(true, || Some(160 * MIB)), growth(None), 0).is_err(), "the GPU's part as well");
        assert!(asked(&room(true, || None), growth(None), 1 << 40).is_ok(), "nobody knows");
    }

    #[test]
    fn off_the_gpus_main_memory_holds_the_cache() {
        let room = room(false, || Some(240 * MIB));
        let off = room.off_gpus();
        assert_eq!((off.main.kv_per_token, off.main.compute), (2.0 * PART.kv_per_token, PART.compute));
        assert_eq!((off.gpus[0].part.kv_per_token, off.gpus[0].part.compute), (0.0, PART.compute));
        assert!(off.in_main(growth(None), &room, 0).is_ok());
        assert!(off.in_main(growth(Some(100)), &off, 25 << 20).is_ok());
        assert!(off.in_main(growth(Some(100)), &room, 25 << 20).is_err(), "the old one was on the GPU");
    }
}
