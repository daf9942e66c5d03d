//! Owns the choice of a network card that seals for a socket, and the climb to it when the socket is bound. [P-3.5]
//!
//! Nothing is looked for unless it is asked for, and nothing is used that did not prove itself.

use std::net::SocketAddr;

use endpoint::endpoint::Endpoint;
use mlx5_shim::device::Device;
use mlx5_shim::model::{Config as Card, Model};
use offload::frame::{Cable, Ways};
use offload::gcm::Provided;
use offload::ladder::{Climb, find, given, test};
use offload::nic::{Config, Nic};
use offload::proof::NoWire;
use offload::software::crypto;
use offload::ways::Kernel;

use crate::driver::tap::Returned;

/// Who seals the messages that a card could seal.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Offload {
    /// The processor. Nothing is looked for.
    #[default]
    Off,
    /// A ConnectX card, if there is one that proves itself; else the processor. Costs the time of the test when the socket is bound: some
    /// milliseconds, or a second for each frame that does not come back.
    Card {
        /// Its name, as in `mlx5_0`; otherwise the first one.
        device: Option<String>,
        /// Where `sealane offload reflect` returns the frames of the test.
        reflector: SocketAddr,
    },
    /// A card in software, which seals as a real one does and hands its frames to the socket. For tests: it is slower than the processor.
    Model,
    /// A climb that somebody made for a socket at that address, and the ways that its card has. For tests.
    #[doc(hidden)]
    Climbed(fn(SocketAddr) -> (Climb, Box<dyn Ways>)),
}

fn entropy(bytes: &mut [u8]) {
    // Without a source of randomness nothing here is safe: there is nothing to fall back to.
    getrandom::fill(bytes).expect("the system gives randomness");
}

/// Gives the endpoint of a socket at `local` what was asked for, as far as it is there. In words, what came of it.
pub(crate) fn start(offload: &Offload, local: SocketAddr, endpoint: &mut Endpoint) -> String {
    let (climb, ways): (Climb, Box<dyn Ways>) = match offload {
        Offload::Off => return "off".to_owned(),
        Offload::Card { device, reflector } => {
            let climb = find(device.as_deref());
            let climb = match Returned::new(*reflector).filter(|_| climb.device.is_some()) {
                Some((mut tap, from)) => {
                    test(climb, crypto(), &mut tap, &mut Kernel::new(from), *reflector, &mut entropy)
                }
                None => climb,
            };
            (climb, Box::new(Kernel::new(local)))
        }
        Offload::Model => {
            let model: Box<dyn Device> = Box::new(Model::new(Card::default(), Box::new(Provided(crypto()))));
            let mut cable = Cable { from: local, vlan: None };
            let climb = test(given(model), crypto(), &mut NoWire, &mut cable, local, &mut entropy);
            (climb, Box::new(cable))
        }
        Offload::Climbed(climb) => climb(local),
    };
    if let Some(rung) = climb.fault() {
        return format!("not used: {}: {}", rung.name, rung.why);
    }
    let Some(device) = climb.device.filter(|_| climb.rungs.len() == offload::ladder::NAMES.len()) else {
        return "not used: it was not put to the test".to_owned();
    };
    let name = device.name().to_owned();
    match Nic::new(device, ways, Config::default()) {
        Ok(nic) => {
            endpoint.set_nic(nic);
            format!("{name} seals")
        }
        Err(why) => format!("not used: {why}"),
    }
}
