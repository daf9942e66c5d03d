//! Owns the stage for those who have the keys: two hosts with a session, calls of every state under way in it, and a hand that says
//! whatever it likes in the client's name.

use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use proto::time::Instant;
use record::aead::Cipher;
use sim::checker::limits::{Peaks, everything};
use sim::clock::{MS, SEC, Time, US};
use sim::fabric::Network;
use sim::hooks::{Hooks, Spec};
use sim::link::Frame;
use sim::malice::forge::Forger;
use sim::wiretap::Wiretap;
use sim::world::World;
use wire::ids::{SessionId, Side};
use wire::trailer::Kind;

/// The host whose keys the fuzzer has, and the honest one.
pub const CLIENT: u32 = 0;
/// The honest one.
pub const SERVER: u32 = 1;
const SEED: u64 = 5;

/// Watches.
#[derive(Debug)]
pub struct Watch {
    tap: Wiretap,
    config: Config,
    /// Requests that were delivered to the honest host's application, by its names for them.
    delivered: std::collections::HashSet<(u64, u64)>,
}

impl Hooks for Watch {
    fn left(&mut self, now: Time, frame: &Frame) {
        self.tap.hear(now, frame);
    }

    fn settled(&mut self, _: Time, host: u32, endpoint: &Endpoint) {
        if host == SERVER {
            everything(endpoint, &self.config, &mut Peaks::default()).expect("all is below its cap");
        }
    }

    fn event(&mut self, _: Time, host: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        if let Event::Request { id, payload, .. } = event {
            let name = (id.session.as_u64(), id.rpc.as_u48());
            assert!(host != SERVER || self.delivered.insert(name), "a request ran twice");
            // Every second one is answered at once, of the others some later, by nobody.
            if id.rpc.sequence().is_multiple_of(2) {
                let _ = endpoint.reply(local, id, payload);
            }
        }
    }
}

fn config() -> Config {
    let mut config = Config::new(offload::software::crypto());
    let proto = &mut config.proto;
    proto.serving = true;
    proto.peer_timeout = Duration::from_millis(200);
    proto.stall_timeout = Duration::from_millis(500);
    proto.incoming_bytes_max = 60_000;
    proto.buffered_bytes_max = 4 << 20;
    proto.buffered_bytes_per_host_max = 2 << 20;
    proto.message_bytes_max = 4 << 20;
    config
}

/// Two hosts.
#[derive(Debug)]
pub struct Stage {
    /// Where they are.
    pub world: World<Watch>,
    /// Says what the client could say.
    pub forger: Forger,
}

impl Stage {
    /// With a session and calls in it.
    ///
    /// # Panics
    /// When not even that works.
    #[must_use]
    pub fn new() -> Self {
        let mut spec = Spec::new(SEED, Network::pair());
        spec.config = Box::new(|_| config());
        let tap = Wiretap::new(SEED, Cipher::Aes128Gcm);
        let watch = Watch { tap, config: config(), delivered: std::collections::HashSet::new() };
        let mut world = World::new(spec, watch);
        world.acquaint(CLIENT, SERVER);
        world.connect(CLIENT, SERVER).expect("a handshake begins");
        world.run(10 * MS);
        world.learn_sessions();
        for (from, to, kind, len) in [
            (CLIENT, SERVER, Kind::Request, 100),
            (CLIENT, SERVER, Kind::Request, 100),
            (CLIENT, SERVER, Kind::OneWay, 5_000),
            (SERVER, CLIENT, Kind::Request, 200),
            (SERVER, CLIENT, Kind::Request, 300_000),
            (CLIENT, SERVER, Kind::Request, 300_000),
        ] {
            world.send(from, to, kind, Payload::from(vec![1; len]), 0).expect("it is taken");
        }
        world.run(world.now() + 30 * US);
        let (_, session) = world.hooks.tap.sessions().first().map(|session| (0, session)).expect("a session");
        let forger = Forger::new(session.keys(Side::Client, 0), SessionId::from_u64(session.server.1));
        Self { world, forger }
    }

    /// The honest host is sent a packet of the client's.
    pub fn say(&mut self, packet: &[u8]) {
        let now = self.world.now();
        self.world.inject(CLIENT, SERVER, packet, now);
        self.world.run(now + US);
    }

    /// Time passes until nothing may be left under way, whatever was said: then the honest host holds nothing any more that a time
    /// limit is on.
    ///
    /// # Panics
    /// When it does.
    pub fn end(mut self) {
        self.world.run(self.world.now() + 5 * SEC);
        let is = self.world.endpoint(SERVER).expect("it is up").holdings();
        assert_eq!((is.machine.incoming_bytes, is.machine.waiting, is.accepting), (0, 0, 0), "{is:?}");
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
