//! Floods in virtual time: 200,000 forged packets per second of all types and from any number of sources. No call is lost, what is
//! kept and what is answered has bounds, and nothing changes but counters. [P-5.4] [P-5.5] [P-6.4]

mod world;

use world::{CLIENT, Rng, SERVER, World, address};

use std::net::SocketAddr;
use std::time::Duration;

use endpoint::events::Event;
use endpoint::rates::{Limits, Rate};
use wire::handshake::{HANDSHAKE_OVERHEAD, HandshakeFields, HandshakePacket, Method};
use wire::ids::SessionId;
use wire::trailer::Kind;

/// Time between two forged packets.
const EVERY: Duration = Duration::from_micros(5);

/// What an attacker makes up, and what it made itself of what it saw.
struct Flood {
    rng: Rng,
    seen: Vec<Vec<u8>>,
    sources: u64,
}

impl Flood {
    fn source(&mut self) -> SocketAddr {
        let [b, c, d, ..] = self.rng.below(self.sources).to_le_bytes();
        SocketAddr::from(([10, b, c, d], 1 + self.rng.below(60_000) as u16))
    }

    /// A first packet of a client that never says more, with a good public check or a bad one.
    fn hello(&mut self) -> Vec<u8> {
        let sender = SessionId::from_u64(self.rng.next() | 1 << 63);
        let header = HandshakePacket::header(wire::handshake::FLAG_CLIENT, SessionId::NONE, sender);
        let method = if self.rng.below(2) == 0 { Method::Tls } else { Method::Installed };
        let fields = HandshakeFields::first(sender, method);
        let cookie: Vec<u8> = if self.rng.below(4) == 0 { vec![0; 20] } else { Vec::new() };
        let mut bytes = vec![0; HANDSHAKE_OVERHEAD + cookie.len() + 300];
        let mut w = wire::bytes::Writer::new(&mut bytes);
        HandshakePacket::emit(&header, &fields, &cookie, 300, &mut w);
        let at = w.len();
        bytes[at] = 1;
        let end = bytes.len() - 16;
        let tag = offload::software::crypto().hmac(b"sealane/1 handshake public check", &bytes[..end]);
        bytes[end..].copy_from_slice(&tag[..16]);
        bytes
    }

    fn packet(&mut self) -> Vec<u8> {
        let mut bytes = match self.rng.below(8) {
            0 => self.hello(),
            1 => {
                let mut bytes: Vec<u8> = (0..1 + self.rng.below(400)).map(|_| self.rng.next() as u8).collect();
                bytes[0] = 0x10 | (self.rng.below(6) as u8);
                return bytes;
            }
            _ => self.seen[self.rng.below(self.seen.len() as u64) as usize].clone(),
        };
        // Of what was seen, another session, or another byte somewhere behind the clear fields.
        let at = if self.rng.below(2) == 0 { 8 + self.rng.below(8) as usize } else { bytes.len() - 1 };
        bytes[at] ^= 1 + self.rng.below(255) as u8;
        bytes
    }
}

fn flooded(sources: u64, spoof_the_client: bool, change: impl Fn(&mut Limits)) -> (World, u64) {
    let mut world = World::with(9, 1, |_, config| {
        config.handshakes_max = 64;
        change(&mut config.limits);
    })
    .warm();
    let seen = world.trace.iter().filter(|d| d.to == SERVER).map(|d| d.bytes.clone()).collect();
    let mut flood = Flood { rng: Rng::new(sources), seen, sources };
    let (mut out, mut answers) = (vec![0; 1 << 16], 0);
    let end = world.now + Duration::from_millis(500);
    let mut next_call = world.now;
    while world.now < end {
        if world.now >= next_call {
            world.request(CLIENT, 3_000);
            world.send(CLIENT, Kind::OneWay, &world::body(60));
            next_call = world.now + Duration::from_millis(5);
        }
        let packet = flood.packet();
        let from = if spoof_the_client { address(CLIENT) } else { flood.source() };
        world.feed_from(SERVER, from, &packet, packet.len());
        // What is for nobody of this world goes nowhere; the rest goes its way.
        let mut kept = Vec::new();
        while let Some(train) = world.ends[SERVER].poll_transmit(world.now, &mut out) {
            if train.to == address(CLIENT) {
                kept.extend(out[..train.len].chunks(train.segment).map(<[u8]>::to_vec));
            } else {
                answers += 1;
            }
        }
        kept.iter().for_each(|bytes| world.feed(SERVER, CLIENT, bytes));
        world.settle_with_strangers(&mut answers);
        world.now += EVERY;
    }
    world.wire.clear();
    world.pass(Duration::from_secs(20));
    (world, answers)
}

impl World {
    /// Until nothing is on the wire; answers to nobody are counted.
    fn settle_with_strangers(&mut self, answers: &mut u64) {
        let mut out = vec![0; 1 << 16];
        for _ in 0..100 {
            let mut moved = false;
            for at in [CLIENT, SERVER] {
                if self.ends[at].timeout().is_some_and(|due| due <= self.now) {
                    self.ends[at].handle_timeout(self.now);
                }
                self.ends[at].tidy();
                while let Some(event) = self.ends[at].poll_event() {
                    if let Event::Request { id, payload, .. } = &event {
                        let _ = self.ends[at].reply(self.now, *id, payload.clone());
                    }
                    self.events[at].push(event);
                }
                while let Some(train) = self.ends[at].poll_transmit(self.now, &mut out) {
                    moved = true;
                    if train.to != address(1 - at) {
                        *answers += 1;
                        continue;
                    }
                    let bytes: Vec<Vec<u8>> = out[..train.len].chunks(train.segment).map(<[u8]>::to_vec).collect();
                    bytes.iter().for_each(|bytes| self.feed(at, 1 - at, bytes));
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it goes on for ever");
    }
}

fn nothing_was_lost(world: &mut World) {
    let (delivered, failed) = world.outcome(CLIENT);
    assert_eq!((delivered.len(), failed), (100, 0));
    assert_eq!(world.outcome(SERVER).0.len(), 200);
    assert_eq!(world.ends[SERVER].sessions().len(), 1, "{:?}", world.ends[SERVER].sessions());
    let holdings = world.ends[SERVER].holdings();
    assert_eq!((holdings.accepting, holdings.strangers, holdings.held_bytes), (0, 0, 0));
    let counters = world.counters(SERVER);
    assert_eq!(counters.handshakes_completed, 1);
    assert!(counters.dropped() > 90_000, "{counters:?}");
}

/// From one source, from a few, from very many; and as if from the peer itself.
#[test]
fn no_call_is_lost() {
    for (sources, spoof) in [(1, false), (50, false), (1 << 24, false), (1, true)] {
        let (mut world, answers) = flooded(sources, spoof, |_| ());
        nothing_was_lost(&mut world);
        // Half a second of each rate and its burst.
        let Limits { resets, answers: most, handshakes_unproven, .. } = Limits::default();
        let of = |rate: Rate| u64::from(rate.per_second / 2 + rate.burst);
        // A RESET of each of up to four secrets; a handshake that begins says up to three things.
        let bound = 4 * of(resets) + of(most) + 3 * of(handshakes_unproven);
        assert!(answers <= bound, "{answers} answers to {sources} sources, at most {bound}");
    }
}

/// [P-6.4] With a low limit, hardly anything is answered, and nothing less is known.
#[test]
fn limits_hold() {
    let few = |limits: &mut Limits| {
        *limits = Limits {
            resets: Rate::new(100, 10),
            resets_per_source: Rate::new(2, 1),
            answers: Rate::new(100, 10),
            answers_per_source: Rate::new(2, 1),
            handshakes_per_source: Rate::new(2, 2),
            handshakes_unproven: Rate::new(20, 4),
            tickets_opened: Rate::new(20, 4),
            wakes_by_repeats: Rate::new(20, 4),
        };
    };
    for sources in [1, 1 << 24] {
        let (mut world, answers) = flooded(sources, false, few);
        nothing_was_lost(&mut world);
        let most = if sources == 1 { 4 * 2 + 2 + 3 * 3 } else { 4 * (50 + 10) + 60 + 3 * 14 };
        assert!(answers <= most, "{answers} answers to {sources} sources");
        assert!(world.counters(SERVER).dropped_rate_limited > 1_000);
    }
}

/// [P-6.2] Packets that look like a client's last flight are answered with DONE a bounded number of times in a session's life.
#[test]
fn dones_are_bounded() {
    let mut world = World::new().warm();
    let session = world.session(SERVER);
    let repeat = (world.trace.iter())
        .rfind(|d| d.to == SERVER && d.bytes[0] == 0x13 && d.bytes[8..16] == session.as_u64().to_be_bytes())
        .expect("the client named the session")
        .bytes
        .clone();
    let said = |world: &World| world.counters(SERVER).controls_sealed;
    let before = said(&world);
    for n in 0..5_000_u32 {
        let mut bytes = repeat.clone();
        let at = bytes.len() - 1;
        bytes[at] ^= n as u8;
        world.now += Duration::from_millis(2);
        world.feed(CLIENT, SERVER, &bytes);
        world.settle();
    }
    assert!((1..=64).contains(&(said(&world) - before)), "{}", said(&world) - before);
    world.request(CLIENT, 10);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![10], 0));
}
