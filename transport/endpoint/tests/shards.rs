//! Endpoints with several shards, in one thread: each shard is an endpoint, and what shards tell each other the test carries. [P-9.2]
#![allow(missing_debug_implementations, reason = "a test")]

mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use endpoint::config::{Config, Shard};
use endpoint::counters::Counters;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::error::Misuse;
use endpoint::events::Event;
use endpoint::notes::Note;
use endpoint::session::CallId;
use proto::time::Instant;
use wire::header::{Header, PacketType};
use wire::ids::Side;
use wire::lanes::{Lane, receiver};
use wire::trailer::Kind;
use world::{CLIENT, Datagram, Rng, SERVER, address, body, secret};

/// Where a datagram comes out: at the shard that it is for, or at one that the seed picks, as in a system that cannot steer.
#[derive(Clone, Copy, PartialEq)]
enum Steering {
    Right,
    Random,
}

/// A server and a client, of several shards each.
struct Spread {
    now: Instant,
    ends: [Vec<Endpoint>; 2],
    notes: [Vec<VecDeque<Note>>; 2],
    wire: VecDeque<Datagram>,
    sent: Vec<Datagram>,
    events: [Vec<Vec<Event>>; 2],
    target: u32,
    steering: Steering,
    rng: Rng,
    echo: bool,
    /// Nobody is where the client was.
    gone: bool,
    lose: fn(&mut Rng, &Datagram) -> bool,
    /// How often each request ran, by body.
    ran: BTreeMap<Vec<u8>, u32>,
}

impl Spread {
    fn new(seed: u64, counts: [u16; 2], change: impl Fn(usize, &mut Config)) -> Self {
        let shard = |end: usize, number: u16| {
            let mut config = Config::new(offload::software::crypto());
            config.proto.serving = true;
            // What is left is looked at soon after.
            config.proto.short_ack_delay = config.proto.ack_delay;
            config.shard = Shard { number: number as u8, count: counts[end] };
            change(end, &mut config);
            let mut rng = Rng::new(seed * 1000 + end as u64 * 300 + u64::from(number));
            let entropy = move |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = rng.next() as u8);
            let mut endpoint = Endpoint::new(config, Box::new(entropy));
            let target = if end == SERVER {
                endpoint.install(address(CLIENT), Side::Server, &secret(CLIENT), "a client", 1452)
            } else {
                endpoint.install(address(SERVER), Side::Client, &secret(CLIENT), "the server", 1452)
            };
            (endpoint, target)
        };
        let end = |end: usize| (0..counts[end]).map(|number| shard(end, number).0).collect::<Vec<_>>();
        let each = |end: usize| counts[end] as usize;
        Self {
            now: Instant::from_nanos(1_000_000_000),
            ends: [end(SERVER), end(CLIENT)],
            notes: [SERVER, CLIENT].map(|end| (0..each(end)).map(|_| VecDeque::new()).collect()),
            wire: VecDeque::new(),
            sent: Vec::new(),
            events: [SERVER, CLIENT].map(|end| (0..each(end)).map(|_| Vec::new()).collect()),
            target: shard(CLIENT, 0).1.expect("a client's end has a target"),
            steering: Steering::Right,
            rng: Rng::new(seed),
            echo: true,
            gone: false,
            lose: |_, _| false,
            ran: BTreeMap::new(),
        }
    }

    /// With a session open, and quiet.
    fn open(mut self) -> Self {
        self.send(CLIENT, 0, Kind::Request, &body(10)).expect("the first shard begins sessions");
        self.pass(Duration::from_millis(50));
        assert_eq!(self.outcome(CLIENT), (1, 0));
        for end in &mut self.events {
            end.iter_mut().for_each(Vec::clear);
        }
        self.sent.clear();
        self.ran.clear();
        self
    }

    fn send(&mut self, end: usize, shard: usize, kind: Kind, body: &[u8]) -> Result<CallId, Misuse> {
        self.send_to(end, shard, To::Target(self.target), kind, body)
    }

    fn send_to(&mut self, end: usize, shard: usize, to: To, kind: Kind, body: &[u8]) -> Result<CallId, Misuse> {
        let endpoint = &mut self.ends[end][shard];
        let body = endpoint.copy(body);
        let sending = Sending { kind, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        endpoint.send(self.now, to, body, sending)
    }

    fn counters(&self, end: usize, shard: usize) -> Counters {
        *self.ends[end][shard].counters()
    }

    fn sum(&self, end: usize, of: impl Fn(&Counters) -> u64) -> u64 {
        self.ends[end].iter().map(|shard| of(shard.counters())).sum()
    }

    /// What the shards of both ends have to do now is done.
    fn collect(&mut self) {
        let mut out = vec![0; 1 << 16];
        for end in [SERVER, CLIENT] {
            for shard in 0..self.ends[end].len() {
                let endpoint = &mut self.ends[end][shard];
                while let Some(note) = self.notes[end][shard].pop_front() {
                    endpoint.take_note(self.now, note);
                }
                endpoint.tidy();
                if endpoint.timeout().is_some_and(|due| due <= self.now) {
                    endpoint.handle_timeout(self.now);
                }
                while let Some(event) = endpoint.poll_event() {
                    if let Event::Request { id, payload, .. } = &event {
                        *self.ran.entry(payload.to_vec()).or_default() += 1;
                        if self.echo {
                            let _ = endpoint.reply(self.now, *id, payload.clone());
                        }
                    }
                    self.events[end][shard].push(event);
                }
                while let Some(train) = endpoint.poll_transmit(self.now, &mut out) {
                    if self.gone && train.to == address(CLIENT) {
                        continue;
                    }
                    let to = if train.to == address(SERVER) { SERVER } else { CLIENT };
                    for bytes in out[..train.len].chunks(train.segment) {
                        let datagram = Datagram { from: end, to, bytes: bytes.to_vec() };
                        assert!(
                            !datagram.sealed() || usize::from(Lane::from_steer(datagram.header().steer).from) == shard
                        );
                        self.sent.push(datagram.clone());
                        self.wire.push_back(datagram);
                    }
                }
                while let Some((to, note)) = endpoint.poll_note() {
                    assert_ne!(usize::from(to), shard, "nobody tells itself");
                    self.notes[end][usize::from(to)].push_back(note);
                }
            }
        }
    }

    fn deliver(&mut self, datagram: &Datagram) {
        let shards = self.ends[datagram.to].len();
        let at = match self.steering {
            Steering::Right => usize::from(receiver(&datagram.bytes)).min(shards - 1),
            Steering::Random => self.rng.below(shards as u64) as usize,
        };
        let endpoint = &mut self.ends[datagram.to][at];
        let (mut buffer, len) = (endpoint.buffer(), datagram.bytes.len());
        buffer.bytes()[..len].copy_from_slice(&datagram.bytes);
        endpoint.handle_datagrams(self.now, address(datagram.from), buffer, len, len);
    }

    fn settle(&mut self) {
        for _ in 0..100_000 {
            self.collect();
            let told = self.notes.iter().flatten().any(|notes| !notes.is_empty());
            match self.wire.pop_front() {
                Some(datagram) if (self.lose)(&mut self.rng, &datagram) => {}
                Some(datagram) => self.deliver(&datagram),
                None if told => {}
                None => return,
            }
        }
        panic!("it goes on for ever");
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        for _ in 0..1_000_000 {
            let next = self.ends.iter().flatten().filter_map(Endpoint::timeout).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            self.settle();
        }
        panic!("it goes on for ever");
    }

    /// Responses that came at an end, and calls that failed.
    fn outcome(&self, end: usize) -> (usize, usize) {
        let count = |is: fn(&Event) -> bool| self.events[end].iter().flatten().filter(|event| is(event)).count();
        (count(|event| matches!(event, Event::Response { .. })), count(|event| matches!(event, Event::Failed { .. })))
    }

    /// Messages delivered at each shard of an end.
    fn delivered(&self, end: usize) -> Vec<u64> {
        self.ends[end].iter().map(|shard| shard.counters().messages_delivered).collect()
    }

    fn sessions(&self, end: usize) -> Vec<usize> {
        self.ends[end].iter().map(|shard| shard.sessions().len()).collect()
    }

    fn assert_quiet(&self) {
        for (end, shards) in self.ends.iter().enumerate() {
            for (shard, endpoint) in shards.iter().enumerate() {
                assert!(!endpoint.is_busy(), "end {end}, shard {shard}: {:?}", endpoint.calls());
            }
        }
    }
}

/// [P-9.2] One client without shards: its messages go to all shards of the server in turn, each answers by itself, and nothing is
/// handed over where the system steers.
#[test]
fn one_peers_messages_are_spread() {
    let mut spread = Spread::new(1, [3, 1], |_, _| ()).open();
    let before = spread.delivered(SERVER);
    for length in 0..60 {
        spread.send(CLIENT, 0, Kind::Request, &body(length * 97)).expect("it is taken");
    }
    spread.pass(Duration::from_millis(50));
    assert_eq!(spread.outcome(CLIENT), (60, 0));
    let after = spread.delivered(SERVER);
    assert!(before.iter().zip(&after).all(|(before, after)| after - before == 20), "{before:?} {after:?}");
    assert_eq!(spread.sum(SERVER, |c| c.datagrams_handed_over) + spread.sum(CLIENT, |c| c.dropped()), 0);
    assert_eq!((spread.sessions(SERVER), spread.sessions(CLIENT)), (vec![1, 1, 1], vec![3]));
    spread.assert_quiet();
}

/// [P-9.2] Responses come back to the shard that asked, whatever the two counts are; in a system that cannot steer too, by way of other
/// shards, unopened.
#[test]
fn responses_come_back_to_who_asked() {
    for (seed, counts) in [[1, 3], [3, 1], [2, 2], [2, 3], [5, 2], [4, 4]].into_iter().enumerate() {
        for steering in [Steering::Right, Steering::Random] {
            let mut spread = Spread::new(seed as u64, counts, |_, _| ()).open();
            spread.steering = steering;
            for round in 0..20 {
                for shard in 0..usize::from(counts[CLIENT]) {
                    spread.send(CLIENT, shard, Kind::Request, &body(round * 500 + shard)).expect("it is taken");
                }
            }
            spread.pass(Duration::from_millis(100));
            for (shard, events) in spread.events[CLIENT].iter().enumerate() {
                assert_eq!(events.len(), 20, "{counts:?}, shard {shard}: {events:?}");
            }
            let detours =
                spread.sum(SERVER, |c| c.datagrams_handed_over) + spread.sum(CLIENT, |c| c.datagrams_handed_over);
            assert_eq!(detours > 0, steering == Steering::Random && counts != [1, 1], "{counts:?}");
            let bad = |c: &Counters| c.dropped_bad_tag + c.dropped_malformed + c.dropped_nonsense;
            assert_eq!(spread.sum(SERVER, bad) + spread.sum(CLIENT, bad), 0);
            spread.assert_quiet();
        }
    }
}

/// [P-9.3] Each lane has keys of its own: what was sealed for one opens in no other, and changes nothing there.
#[test]
fn no_lane_opens_what_is_anothers() {
    let mut spread = Spread::new(2, [3, 3], |_, _| ()).open();
    for shard in 0..3 {
        spread.send(CLIENT, shard, Kind::Request, &body(100)).expect("it is taken");
    }
    spread.pass(Duration::from_millis(20));
    let packets: Vec<Datagram> = spread.sent.iter().filter(|d| d.sealed() && d.to == SERVER).cloned().collect();
    assert!(packets.iter().any(|d| d.header().kind == PacketType::Control) && packets.iter().any(Datagram::data));
    let (ran, opened) = (spread.ran.clone(), spread.sum(SERVER, |c| c.records_opened + c.controls_opened));
    // A packet number that the other lane saw, too, is dropped before its tag is looked at.
    let refused = |c: &Counters| c.dropped_bad_tag + c.dropped_replayed_control;
    let bad = spread.sum(SERVER, refused);
    for mut datagram in packets.clone() {
        let lane = Lane::from_steer(datagram.header().steer);
        let other = Lane { from: (lane.from + 1) % 3, to: (lane.to + 1) % 3 };
        datagram.bytes[4..6].copy_from_slice(&other.steer().to_be_bytes());
        spread.deliver(&datagram);
    }
    assert_eq!(spread.sum(SERVER, refused) - bad, packets.len() as u64);
    // A lane that there is not, and a shard that there is not.
    for (steer, name) in [(0x0100, "no lane"), (0x0001, "no lane"), (0x0303, "no shard")] {
        let mut datagram = packets[0].clone();
        datagram.bytes[4..6].copy_from_slice(&u16::to_be_bytes(steer));
        let before = spread.sum(SERVER, |c| c.dropped_malformed);
        spread.deliver(&datagram);
        assert_eq!(spread.sum(SERVER, |c| c.dropped_malformed), before + 1, "{name}");
    }
    spread.settle();
    assert_eq!(spread.ran, ran);
    assert_eq!(spread.sum(SERVER, |c| c.records_opened + c.controls_opened), opened);
}

/// [P-9.2] Another shard than the first says where sessions begin, and queues nothing.
#[test]
fn the_first_shard_opens_sessions() {
    let mut spread = Spread::new(3, [2, 2], |_, _| ());
    assert!(matches!(spread.send(CLIENT, 1, Kind::Request, b"?"), Err(Misuse::Elsewhere)));
    assert!(!spread.ends[CLIENT][1].reaches(spread.target));
    let (now, target) = (spread.now, spread.target);
    spread.ends[CLIENT][0].connect(now, target).expect("it may");
    spread.pass(Duration::from_millis(20));
    assert!(spread.ends[CLIENT][1].reaches(target));
    spread.send(CLIENT, 1, Kind::Request, b"now").expect("it is taken");
    spread.pass(Duration::from_millis(20));
    assert_eq!(spread.outcome(CLIENT), (1, 0));
    assert_eq!(spread.delivered(SERVER), [0, 1]);
}

/// [P-9.2] [P-2.4] Whichever shard is asked to end a session, it ends in all of them at both ends, and what was under way with it.
#[test]
fn a_session_ends_in_all_shards() {
    for (end, shard) in [(CLIENT, 0), (CLIENT, 1), (SERVER, 0), (SERVER, 2)] {
        let mut spread = Spread::new(4, [3, 2], |_, _| ()).open();
        spread.echo = false;
        for round in 0..6 {
            spread.send(CLIENT, round % 2, Kind::Request, &body(round)).expect("it is taken");
        }
        spread.pass(Duration::from_millis(5));
        let lane = spread.ends[end][shard].sessions()[0].id;
        spread.ends[end][shard].close_session(lane);
        spread.pass(Duration::from_millis(20));
        assert_eq!(spread.outcome(CLIENT), (0, 6), "end {end}, shard {shard}");
        assert_eq!((spread.sessions(SERVER), spread.sessions(CLIENT)), (vec![0; 3], vec![0; 2]));
        assert!(!spread.ends[CLIENT][1].reaches(spread.target));
        spread.assert_quiet();
        // And a new one begins.
        spread.echo = true;
        spread.send(CLIENT, 0, Kind::Request, b"again").expect("it is taken");
        spread.pass(Duration::from_millis(20));
        assert!(spread.ends[CLIENT][1].reaches(spread.target));
        spread.send(CLIENT, 1, Kind::Request, b"again, there").expect("it is taken");
        spread.pass(Duration::from_millis(20));
        assert_eq!(spread.outcome(CLIENT), (2, 6));
    }
}

/// [P-5.5] A packet of a session that no shard knows is answered by a RESET of the first, whichever shard it came to; one of a session
/// that only the others do not know is not.
#[test]
fn a_reset_when_no_shard_knows() {
    let mut spread = Spread::new(5, [2, 2], |_, _| ()).open();
    spread.send(CLIENT, 1, Kind::Request, &body(300)).expect("it is taken");
    spread.pass(Duration::from_millis(20));
    assert_eq!(spread.outcome(CLIENT), (1, 0));
    // The server's shards are started anew, and have forgotten all.
    let server = Spread::new(6, [2, 2], |_, _| ());
    let [shards, _] = server.ends;
    spread.ends[SERVER] = shards;
    let stray = spread.sent.iter().rfind(|d| d.data() && d.to == SERVER).expect("it was sent").clone();
    spread.send(CLIENT, 1, Kind::Request, &body(300)).expect("it is taken");
    spread.pass(Duration::from_millis(20));
    // However many come: what strangers cause is forgotten as soon as it was told.
    for _ in 0..10_000 {
        let datagram = stray.clone();
        spread.deliver(&datagram);
        spread.collect();
    }
    assert!(spread.counters(SERVER, 0).dropped_unknown_session > 9_000);
    assert!(spread.counters(SERVER, 0).resets_sent > 0 && spread.counters(SERVER, 1).resets_sent == 0);
    assert_eq!((spread.counters(CLIENT, 0).resets_taken, spread.outcome(CLIENT)), (1, (1, 1)));
    assert_eq!(spread.sessions(CLIENT), [0, 0]);
}

/// [P-9.3] [P-6.5] Keys change in each lane by itself, under load, with nothing lost; the epochs of lanes differ.
#[test]
fn each_lane_has_its_own_epochs() {
    let rekey = |_: usize, config: &mut Config| config.key_limits = config.key_limits.rekey_after(40);
    let mut spread = Spread::new(7, [2, 2], rekey).open();
    for round in 0..400 {
        // The second shard has four times as much to say.
        let shard = usize::from(round % 5 != 0);
        spread.send(CLIENT, shard, Kind::Request, &body(1 + round)).expect("it is taken");
        spread.pass(Duration::from_millis(1));
    }
    spread.pass(Duration::from_millis(50));
    assert_eq!(spread.outcome(CLIENT), (400, 0));
    let epochs = |shard: usize| spread.ends[CLIENT][shard].sessions()[0].epochs.expect("it is open").0;
    assert!(epochs(0) >= 1 && epochs(1) >= 3 * epochs(0), "{} {}", epochs(0), epochs(1));
    assert!(spread.ran.values().all(|times| *times == 1));
    spread.assert_quiet();
}

/// [P-7.1] [P-9.2] [P-9.3] Loss, copies and a system that steers at random: every call ends, every request runs once, and under no key
/// is a number sealed with different bytes.
#[test]
fn chaos_over_shards() {
    for seed in 0..12 {
        let counts = [[2, 2], [3, 2], [2, 3], [1, 3]][seed as usize % 4];
        let rekey = |end: usize, config: &mut Config| {
            config.key_limits = config.key_limits.rekey_after(60);
            config.bundles = end == CLIENT;
        };
        let mut spread = Spread::new(100 + seed, counts, rekey).open();
        spread.steering = if seed % 3 == 0 { Steering::Right } else { Steering::Random };
        spread.lose = |rng, _| rng.below(10) == 0;
        let mut begun = 0;
        for round in 0..60 {
            for shard in 0..usize::from(counts[CLIENT]) {
                let mut message = body(1 + (round * 389) % 9_000);
                message.extend_from_slice(&(round as u64 * 10 + shard as u64).to_be_bytes());
                spread.send(CLIENT, shard, Kind::Request, &message).expect("it is taken");
                begun += 1;
            }
            if round % 3 == 0 {
                // Something that was sent comes again.
                let at = spread.rng.below(spread.sent.len().max(1) as u64) as usize;
                if let Some(copy) = spread.sent.get(at).cloned() {
                    spread.deliver(&copy);
                }
            }
            spread.pass(Duration::from_micros(300));
        }
        spread.lose = |_, _| false;
        spread.pass(Duration::from_secs(5));
        assert_eq!(spread.outcome(CLIENT), (begun, 0), "seed {seed}");
        assert!(spread.ran.len() == begun && spread.ran.values().all(|times| *times == 1), "seed {seed}");
        spread.assert_quiet();
        assert_no_number_twice(&spread.sent);
    }
}

/// Of one lane, direction and epoch, a number was sealed to one string of bytes; that all lanes have different keys is
/// `no_lane_opens_what_is_anothers`.
fn assert_no_number_twice(sent: &[Datagram]) {
    let mut seen = BTreeMap::new();
    let mut lanes = BTreeSet::new();
    for datagram in sent.iter().filter(|datagram| datagram.sealed()) {
        let Header { epoch, steer, session, .. } = datagram.header();
        lanes.insert((datagram.from, steer));
        let (number, sealed) = if datagram.data() {
            let (number, slice) = datagram.number();
            ((number.as_u64(), slice), &datagram.bytes[20..])
        } else {
            ((wire::control::packet_number(&datagram.bytes).expect("a number"), 0), &datagram.bytes[24..])
        };
        let name = (datagram.from, session.as_u64(), steer, epoch, datagram.data(), number);
        if let Some(before) = seen.insert(name, sealed.to_vec()) {
            assert_eq!(before, sealed.to_vec(), "{name:?}");
        }
    }
    assert!(lanes.len() >= 4);
}

/// [P-2.3] [P-9.2] A peer that moved in one lane moved in all of them.
#[test]
fn all_lanes_move() {
    let mut spread = Spread::new(8, [2, 2], |_, _| ()).open();
    for shard in [0, 1] {
        spread.send(CLIENT, shard, Kind::Request, &body(10)).expect("it is taken");
    }
    spread.pass(Duration::from_millis(20));
    spread.gone = true;
    // What shard 1 of the client sends comes from another address from now on; answers to either reach it.
    let away = std::net::SocketAddr::from(([203, 0, 113, 7], 9));
    for round in 0..200 {
        spread.send(CLIENT, 1, Kind::OneWay, &body(round)).expect("it is taken");
        spread.collect();
        while let Some(datagram) = spread.wire.pop_front() {
            if datagram.to == SERVER {
                let at = usize::from(receiver(&datagram.bytes));
                let endpoint = &mut spread.ends[SERVER][at];
                let (mut buffer, len) = (endpoint.buffer(), datagram.bytes.len());
                buffer.bytes()[..len].copy_from_slice(&datagram.bytes);
                endpoint.handle_datagrams(spread.now, away, buffer, len, len);
            } else {
                spread.deliver(&datagram);
            }
            spread.collect();
        }
        spread.now += Duration::from_millis(1);
    }
    for shard in [0, 1] {
        let sessions = spread.ends[SERVER][shard].sessions();
        assert!(sessions.iter().all(|session| session.origin.address == away), "shard {shard}: {sessions:?}");
    }
}
