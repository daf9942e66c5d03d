//! A peer that is authenticated and says anything at all: nothing panics, budgets hold, honest calls go on, and when it
//! falls silent nothing of it is left.

mod half;
#[path = "net/rng.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the network harness")]
mod rng;

use std::time::Duration;

use half::{Half, Message, message, ours, theirs};
use proto::config::{Config, GrantWindow};
use proto::io::{Arrival, State};
use wire::control::{Frame, RefusalCode};
use wire::geometry::Geometry;
use wire::ids::RpcId;
use wire::trailer::{Kind, Trailer};

use rng::Rng;

const HOSTILE: u32 = 0;
const HONEST: u32 = 1;

fn config() -> Config {
    Config {
        serving: true,
        unscheduled_bytes: 10_000,
        grant_window: GrantWindow::Fixed(40_000),
        incoming_bytes_max: 100_000,
        buffered_bytes_max: 8_000_000,
        message_bytes_max: 1_000_000,
        rpcs_per_peer_max: 50,
        intervals_max: 16,
        peer_timeout: Duration::from_millis(500),
        ..Config::default()
    }
}

/// Mostly an RPC near `theirs_at` of the peer's, or `ours_at` of ours, so that something comes of it.
fn some_rpc(rng: &mut Rng, theirs_at: u64, ours_at: u64) -> RpcId {
    if rng.below(5_000) == 0 {
        return theirs(rng.next() & RpcId::SEQUENCE_MAX);
    }
    if rng.chance(60) { theirs(theirs_at + rng.below(20)) } else { ours((ours_at + 2).saturating_sub(rng.below(12))) }
}

/// A trailer as `Trailer::parse` lets it pass: mostly what all records of that RPC say, sometimes anything.
fn some_record(rng: &mut Rng, rpc: RpcId) -> (u16, Trailer) {
    let of_ours = rpc.began() == ours(0).began();
    let (mut kind, mut length, mut payload) = match rpc.sequence() % 4 {
        _ if of_ours => (Kind::Response, 25_000, 1_000),
        0 => (Kind::Request, 900, 1_000),
        1 => (Kind::OneWay, 4_000, 1_000),
        2 => (Kind::Request, 12_000, 1_000),
        _ => (Kind::OneWay, 300_000, 16_000),
    };
    match rng.below(100) {
        0 => kind = [Kind::Request, Kind::Response, Kind::OneWay][rng.below(3) as usize],
        1 => length = rng.below(2_000_000) as u32,
        2 => length = rng.below(3) as u32,
        3 => payload = 1 + rng.below(16_000) as u16,
        _ => {}
    }
    let geometry = Geometry::stated(length, payload).unwrap_or(Geometry::cut(9_000, 1472));
    let unscheduled = [0, geometry.length(), 10_000.min(geometry.length())][rng.below(3) as usize];
    let floor_distance = match rng.below(3_000) {
        0 => rng.next() as u32,
        1 => 0,
        _ => rpc.sequence().min(100) as u32,
    };
    let index = match rng.below(50) {
        0 => rng.next() as u16,
        _ => rng.below(geometry.records().into()) as u16,
    };
    let (incast, cutoffs) = (rng.chance(10), rng.below(32) as u8);
    (index, Trailer { geometry, unscheduled, floor_distance, kind, aux_len: 0, incast, cutoffs })
}

fn some_frame(rng: &mut Rng, rpc: RpcId) -> Frame {
    let offset = |rng: &mut Rng| [0, 1, 10_000, 50_000, u32::MAX, rng.next() as u32][rng.below(6) as usize];
    // What ends an RPC comes seldom, or little else would happen.
    let kind = if rng.chance(80) { rng.below(4) } else { rng.below(9) };
    match kind {
        0 => Frame::Grant { rpc, offset: offset(rng), priority: rng.below(8) as u8 },
        1 => {
            let (a, b) = (offset(rng), offset(rng));
            Frame::Resend { rpc, start: a.min(b), end: a.max(b) }
        }
        2 => Frame::Busy { rpc },
        3 => Frame::Unknown { rpc },
        4 => Frame::Ack { rpc },
        5 => Frame::NeedAck { rpc },
        6 => Frame::Cancel { rpc },
        7 => {
            let codes = [RefusalCode::NotServing, RefusalCode::TooLong, RefusalCode::Forgotten, RefusalCode::Aborted];
            Frame::Refused { rpc, code: codes[rng.below(4) as usize] }
        }
        _ => Frame::Close,
    }
}

/// What an endpoint does with what arrives and happens.
fn attend(half: &mut Half, rng: &mut Rng, arrival: Arrival) {
    if let Arrival::New { slot, complete: true, .. } = arrival {
        let (rpc, _, state) = half.machine.rpc(slot).expect("it is open");
        match state {
            State::InService if rng.chance(50) => {
                assert!(half.machine.respond(half.now, slot, Geometry::cut(20_000, 1472)))
            }
            State::InService => half.machine.refuse(slot),
            State::Complete => drop(half.machine.free(slot)),
            other => panic!("{rpc:?} is complete and {other:?}"),
        }
    }
    half.events();
    half.said();
    half.sent();
}

/// [P-7.1] [P-4.4] [P-8.2]
#[test]
fn anything_at_all() {
    for seed in 0..60 {
        let mut rng = Rng::new(seed);
        let mut half = Half::new(config());
        let mut begun = 0;
        for step in 0..3_000 {
            let rpc = some_rpc(&mut rng, step / 30, begun);
            let mut arrival = Arrival::Duplicate;
            match rng.below(20) {
                0..14 => {
                    let (index, trailer) = some_record(&mut rng, rpc);
                    arrival = half.record_of(HOSTILE, &(rpc, trailer), index);
                }
                14..17 => drop(half.frame(some_frame(&mut rng, rpc))),
                17 => {
                    let kind = if rng.chance(30) { Kind::OneWay } else { Kind::Request };
                    half.begin(ours(begun), kind, rng.below(60_000) as u32);
                    begun += 1;
                }
                _ => drop(half.pass(Duration::from_micros(rng.below(3_000)))),
            }
            attend(&mut half, &mut rng, arrival);
            if let Some(slot) = half.machine.find(HOSTILE, rpc).filter(|_| rng.below(500) == 0) {
                half.machine.cancel(slot);
            }
            let m = &half.machine;
            let fits = m.incoming_bytes() <= 100_000 && m.buffered_bytes() <= 8_000_000;
            assert!(fits && m.rpcs_open() <= 50 + begun as usize, "seed {seed}, step {step}");
        }
        for _ in 0..5 {
            half.pass(config().peer_timeout);
            half.events();
        }
        let left = (half.machine.rpcs_open(), half.machine.buffered_bytes(), half.machine.incoming_bytes());
        assert_eq!(left, (0, 0, 0), "seed {seed}: {:?}", half.machine.rpcs().collect::<Vec<_>>());
    }
}

/// An honest peer's message arrives and is granted while another peer begins all that it may, and keeps it alive.
#[test]
fn others_go_on() {
    let mut half = Half::new(Config { rpcs_per_peer_max: 10_000, ..config() });
    half.open(HONEST);
    let lie = |sequence| -> Message { message(theirs(sequence), Kind::Request, 12_000, u32::MAX) };
    for sequence in 0..10_000 {
        half.record_of(HOSTILE, &lie(sequence), 0);
    }
    half.said();
    let m = message(theirs(0), Kind::Request, 900_000, 10_000);
    for index in 0..900 {
        let open = half.machine.find(HONEST, m.0).and_then(|slot| half.machine.incoming(slot));
        assert!(open.is_none_or(|incoming| u32::from(index) * 1000 < incoming.granted()), "no grant at {index}");
        assert!(matches!(half.record_of(HONEST, &m, index), Arrival::New { .. }));
        half.frame(Frame::Busy { rpc: theirs(u64::from(index)) });
        half.said();
    }
    assert!(half.machine.rpcs().any(|info| info.peer == HONEST && info.state == State::InService));
}
