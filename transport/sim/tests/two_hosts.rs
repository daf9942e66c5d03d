//! Two hosts, and what a world does for them: times by closed form, faults, restarts, and the same run from the same seed.

use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use proto::time::Instant;
use sim::clock::{MS, NS, SEC, Time, US};
use sim::fabric::Network;
use sim::hooks::{Hooks, Lost, Spec, Verdict};
use sim::link::{Frame, on_wire};
use sim::world::{Stop, World};
use wire::trailer::Kind;

/// Answers requests with what they say, and remembers what came.
#[derive(Default)]
struct Watch {
    one_way: Vec<(Time, u32, usize)>,
    responses: Vec<(u64, usize)>,
    failed: Vec<u64>,
    lost: Vec<Lost>,
    faults: Vec<Verdict>,
}

impl Hooks for Watch {
    fn verdict(&mut self, _: Time, _: &Frame) -> Verdict {
        self.faults.pop().unwrap_or(Verdict::Pass)
    }
    fn lost(&mut self, _: Time, _: &Frame, why: Lost) {
        self.lost.push(why);
    }
    fn event(&mut self, now: Time, host: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        match event {
            Event::Request { id, payload, .. } => endpoint.reply(local, id, payload).expect("it is in service"),
            Event::OneWay { payload, .. } => self.one_way.push((now, host, payload.len())),
            Event::Response { cookie, payload, .. } => self.responses.push((cookie, payload.len())),
            Event::Failed { cookie, .. } => self.failed.push(cookie),
            _ => {}
        }
    }
}

fn world(seed: u64, network: Network) -> World<Watch> {
    let mut world = World::new(Spec::new(seed, network), Watch::default());
    let last = network.hosts() - 1;
    world.acquaint(0, last);
    world.connect(0, last).expect("a handshake begins");
    assert_ne!(world.run(10 * MS), Stop::Alarm(0));
    world.learn_sessions();
    world
}

fn bytes(len: usize) -> Payload {
    Payload::from(vec![7; len])
}

#[test]
fn calls_are_answered() {
    let mut world = world(1, Network::pair());
    for (cookie, len) in [0, 1, 1000, 100_000, 2_000_000].into_iter().enumerate() {
        world.send(0, 1, Kind::Request, bytes(len), cookie as u64).expect("it is taken");
    }
    world.run(SEC);
    let mut responses = world.hooks.responses.clone();
    responses.sort_unstable();
    assert_eq!(responses, [(0, 0), (1, 1), (2, 1000), (3, 100_000), (4, 2_000_000)]);
    assert_eq!(world.frames().0, 0, "every frame is accounted for");
    assert_eq!(world.counts.lost + world.counts.arrived, world.frames().1);
}

/// Store and forward: at each hop the whole frame, then the switch; software at both ends.
#[test]
fn a_message_alone_takes_what_the_closed_form_says() {
    for (network, hops, core) in [(Network::pair(), 0, 0), (Network::paper(16), 1, 0), (Network::paper(144), 3, 2)] {
        let mut world = world(2, network);
        let last = network.hosts() - 1;
        let start = 20 * MS;
        assert_eq!(world.run(start), Stop::Time);
        world.send(0, last, Kind::OneWay, bytes(100), 0).expect("it is taken");
        world.run(SEC);
        // 65 bytes of headers, tag and trailer.
        let frame = Time::from(on_wire(165));
        let edge = if hops == 0 { 1 } else { 2 };
        let expected = edge * frame * 800 + core * frame * 200 + hops * 250 * NS + 1500 * NS;
        assert_eq!(world.hooks.one_way, [(start + expected, last, 100)]);
    }
}

#[test]
fn what_the_network_does_is_repaired() {
    let mut world = world(3, Network::one_switch(3));
    world.hooks.faults = vec![
        Verdict::Duplicate(40 * US),
        Verdict::Delay(300 * US),
        Verdict::Truncate(30),
        Verdict::Corrupt { at: 50, xor: 4 },
        Verdict::Drop,
    ];
    for cookie in 0..5 {
        world.send(0, 2, Kind::Request, bytes(700), cookie).expect("it is taken");
    }
    world.run(SEC);
    assert_eq!(world.hooks.responses.len(), 5);
    assert_eq!((world.hooks.lost.len(), world.hooks.lost[0]), (1, Lost::Judged));
    let server = world.endpoint(2).expect("it is up").counters();
    assert_eq!((server.dropped_bad_tag, server.messages_delivered), (1, 5));
    assert!(server.dropped_duplicate > 0);
}

#[test]
fn a_host_that_was_away_is_called_again() {
    let mut world = world(4, Network::one_switch(2));
    world.crash(1);
    world.send(0, 1, Kind::Request, bytes(700), 1).expect("it is taken");
    world.run(10 * SEC);
    assert_eq!(world.hooks.failed, [1], "its peer is silent");
    world.start(1);
    world.send(0, 1, Kind::Request, bytes(700), 2).expect("it is taken");
    world.run(20 * SEC);
    assert_eq!(world.hooks.responses, [(2, 700)]);
    world.cut(Some(vec![0, 1]));
    world.send(0, 1, Kind::Request, bytes(700), 3).expect("it is taken");
    world.run(20 * SEC + 5 * MS);
    assert_eq!(world.hooks.responses.len(), 1);
    assert_eq!(world.hooks.lost.last(), Some(&Lost::Partition));
    world.cut(None);
    world.run(30 * SEC);
    assert_eq!(world.hooks.responses, [(2, 700), (3, 700)]);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = world(seed, Network::one_switch(4));
        world.hooks.faults = vec![Verdict::Pass, Verdict::Drop, Verdict::Pass];
        for cookie in 0..50 {
            world.send(0, 3, Kind::Request, bytes(cookie as usize * 300), cookie).expect("it is taken");
        }
        world.run(SEC);
        assert_eq!(world.hooks.responses.len(), 50);
        (world.trace.hash(), world.trace.entries(), world.frames().1)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}
