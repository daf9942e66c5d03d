//! Owns the way from "there may be a card" to "it is used": rungs, each with its outcome in words. One that does not hold ends the climb, and
//! all is sealed in software.

use std::net::SocketAddr;

use mlx5_shim::device::Device;
use mlx5_shim::error::Missing;
use mlx5_shim::guard::Guarded;
use mlx5_shim::hw::Hw;
use mlx5_shim::load;
use record::aead::Crypto;

use crate::frame::Ways;
use crate::proof::{Step, Tap, prove};

/// Bytes of memory that a card is given for what it is to send.
pub const MEMORY_BYTES: usize = 16 << 20;

/// A rung.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// Which one.
    pub name: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What was found, in words.
    pub why: String,
}

/// The rungs, from below.
pub const NAMES: [&str; 4] = ["libraries", "device", "capabilities", "self-test"];

/// How far a climb got.
#[derive(Debug)]
pub struct Climb {
    /// The rungs that were tried, the last one maybe without success.
    pub rungs: Vec<Rung>,
    /// The card, if all that were tried hold.
    pub device: Option<Box<dyn Device>>,
}

impl Climb {
    /// The reason why all is sealed in software, if it is.
    pub fn fault(&self) -> Option<&Rung> {
        self.rungs.iter().find(|rung| !rung.holds)
    }

    fn holds(&mut self, why: String) {
        let name = NAMES[self.rungs.len()];
        self.rungs.push(Rung { name, holds: true, why });
    }

    fn fails(mut self, why: String) -> Self {
        let name = NAMES[self.rungs.len()];
        self.rungs.push(Rung { name, holds: false, why });
        self.device = None;
        self
    }
}

/// Looks for a card of that name, or for any, up to its capabilities. Nothing is sent.
pub fn find(name: Option<&str>) -> Climb {
    let mut climb = Climb { rungs: Vec::new(), device: None };
    let devices = match load::devices() {
        Ok(devices) => devices,
        Err(missing) => return climb.fails(missing.to_string()),
    };
    climb.holds("libibverbs.so.1 and libmlx5.so.1 are there".to_owned());
    let count = devices.iter().filter(|(_, ours)| *ours).count();
    match Hw::open(name, MEMORY_BYTES) {
        Ok(hw) => {
            climb.holds(format!("{}, of {count} ConnectX devices", hw.name()));
            climb.holds(format!("it seals TLS 1.2 records with AES-GCM: {:?}", hw.caps()));
            climb.device = Some(Box::new(Guarded::new(hw)));
            climb
        }
        Err(missing @ Missing::NoTls { .. }) => {
            climb.holds(format!("{count} ConnectX devices"));
            climb.fails(missing.to_string())
        }
        Err(missing) => climb.fails(missing.to_string()),
    }
}

/// A card that is there without looking: a model.
pub fn given(device: Box<dyn Device>) -> Climb {
    let mut climb = Climb { rungs: Vec::new(), device: None };
    climb.holds("none are needed".to_owned());
    climb.holds(device.name().to_owned());
    match device.caps().lacks() {
        Some(lacks) => climb.fails(Missing::NoTls { lacks }.to_string()),
        None => {
            climb.holds(format!("{:?}", device.caps()));
            climb.device = Some(Box::new(Guarded::new(device)));
            climb
        }
    }
}

/// The last rung: real frames, sealed by the card and compared with software's.
pub fn test(
    mut climb: Climb,
    crypto: &dyn Crypto,
    tap: &mut dyn Tap,
    ways: &mut dyn Ways,
    to: SocketAddr,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Climb {
    let Some(device) = climb.device.as_mut() else { return climb };
    match prove(&mut **device, crypto, tap, ways, to, entropy) {
        Ok(steps) => {
            let names: Vec<&str> = steps.into_iter().map(Step::name).collect();
            climb.holds(format!("it {}", names.join(", ").replace('_', " ")));
            climb
        }
        Err(unproven) => climb.fails(format!("it is not what it should be: {unproven}")),
    }
}
