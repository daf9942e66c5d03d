//! Each mechanism is worth something: what it is for gets worse without it. The same messages, at the same times, in the same network.

use endpoint::endpoint::Endpoint;
use endpoint::events::Event;
use endpoint::pool::Payload;
use proto::config::GrantWindow;
use proto::time::Instant;
use sim::clock::{MS, SEC, Time, US};
use sim::experiment::{self, Mechanism, Outcome, Plan};
use sim::fabric::Network;
use sim::framing::Framing;
use sim::hooks::{Hooks, Spec};
use sim::incast::{self, Pattern};
use sim::published::Figure;
use sim::workload::Workload;
use sim::world::World;
use wire::trailer::Kind;

const SMALL: u32 = 300;
const LARGE: u32 = 200_000;

/// With everything, and without one mechanism.
fn with_and_without(mechanism: Mechanism) -> [Outcome; 2] {
    [vec![], vec![mechanism]].map(|without| {
        let outcome = experiment::run(
            &Plan {
                network: Network::one_switch(12),
                workload: Workload::mixed(SMALL, LARGE, 0.95),
                load: 0.8,
                framing: Framing::Sealane,
                seed: 7,
                messages: 12_000,
                warmup: 0.1,
                drain: 1.0,
                measured: false,
                pacer: false,
                without,
            },
            |_| (),
        );
        assert_eq!((outcome.refused, outcome.failed), (0, 0));
        assert_eq!(outcome.slowdowns.samples(), 12_000);
        outcome
    })
}

fn small(outcome: &Outcome) -> Figure {
    outcome.slowdowns.between(0, SMALL).measured
}

fn large(outcome: &Outcome) -> Figure {
    outcome.slowdowns.between(SMALL, LARGE).measured
}

#[test]
fn with_all_of_them_small_messages_hardly_wait() {
    let [with, _] = with_and_without(Mechanism::Srpt);
    assert!(small(&with).p99 < 2.5, "{:?}", small(&with));
}

/// Without grants all of each message is sent at once, and waits in the switch.
#[test]
fn without_grants_queues_grow() {
    let [with, without] = with_and_without(Mechanism::Grants);
    assert!(without.edge_queue_peak > 5 * with.edge_queue_peak, "{} {}", without.edge_queue_peak, with.edge_queue_peak);
    assert!(large(&without).p99 > 1.25 * large(&with).p99, "{:?} {:?}", large(&without), large(&with));
}

/// Without SRPT a short message waits for the long ones that came before it.
#[test]
fn without_srpt_short_messages_wait_for_long_ones() {
    let [with, without] = with_and_without(Mechanism::Srpt);
    assert!(small(&without).mean > 10.0 * small(&with).mean, "{:?} {:?}", small(&without), small(&with));
}

/// Without priorities a short message waits in the switch behind all that overcommitment keeps there.
#[test]
fn without_priorities_short_messages_wait_in_the_switch() {
    let [with, without] = with_and_without(Mechanism::Priorities);
    assert!(small(&without).p99 > 5.0 * small(&with).p99, "{:?} {:?}", small(&without), small(&with));
}

/// Without overcommitment a receiver waits for a sender that is busy with another.
#[test]
fn without_overcommitment_links_lie_idle() {
    let [with, without] = with_and_without(Mechanism::Overcommitment);
    assert!(without.used < 0.96 * with.used, "{} {}", without.used, with.used);
    assert!(large(&without).mean > 1.25 * large(&with).mean, "{:?} {:?}", large(&without), large(&with));
}

/// Without incast control all responses come at once, most are lost, and asking again takes time.
#[test]
fn without_incast_control_responses_are_lost() {
    let [with, without] = [vec![], vec![Mechanism::IncastControl]].map(|without| {
        let (pattern, senders, servers) = (Pattern::Requests, 128, 32);
        let plan = incast::Plan {
            pattern,
            senders,
            servers,
            bytes: 10_000,
            messages: 1280,
            buffer: 1 << 20,
            seed: 3,
            without,
        };
        incast::run(&plan, |_| ())
    });
    assert_eq!((with.failed, without.failed, with.latency.len(), without.latency.len()), (0, 0, 1280, 1280));
    assert!(without.dropped > 10 * with.dropped.max(10), "{} {}", without.dropped, with.dropped);
    assert!(without.throughput < 0.7 * with.throughput, "{} {}", without.throughput, with.throughput);
}

/// Remembers when messages arrived.
#[derive(Default)]
struct Arrivals {
    long: Option<Time>,
    short: [u32; 8],
}

const LONG: usize = 3_000_000;

impl Hooks for Arrivals {
    fn event(&mut self, now: Time, _: u32, _: &mut Endpoint, _: Instant, event: Event) {
        if let Event::OneWay { from, payload, .. } = event {
            match payload.len() {
                LONG => self.long = Some(now),
                _ => self.short[sim::host::host_at(from.address).expect("a host") as usize] += 1,
            }
        }
    }
}

/// One long message, while there are always shorter ones than the receiver grants at once: when it arrives, within 100 ms.
fn long_among_short(without: Vec<Mechanism>) -> Option<Time> {
    let mut spec = Spec::new(5, Network::one_switch(6));
    let default = spec.config;
    spec.config = Box::new(move |host| {
        let mut config = default(host);
        config.proto.unscheduled_bytes = 10_000;
        config.proto.grant_window = GrantWindow::Fixed(10_000);
        config.proto.overcommit = Some(2);
        without.iter().for_each(|mechanism| mechanism.turn_off(&mut config.proto));
        config
    });
    let mut world = World::new(spec, Arrivals::default());
    let zeros = Payload::from(vec![0; LONG]);
    for sender in 1..6 {
        world.acquaint(sender, 0);
        world.connect(sender, 0).expect("a handshake begins");
    }
    world.run(10 * MS);
    world.send(5, 0, Kind::OneWay, zeros.clone(), 0).expect("it is taken");
    let mut sent = [0; 5];
    while world.now() < 110 * MS && world.hooks.long.is_none() {
        for (sender, sent) in sent.iter_mut().enumerate().skip(1) {
            while *sent < world.hooks.short[sender] + 2 {
                world.send(sender as u32, 0, Kind::OneWay, zeros.slice(0..100_000), 0).expect("it is taken");
                *sent += 1;
            }
        }
        world.run(world.now() + 20 * US);
    }
    let long = world.hooks.long;
    world.run(SEC);
    assert!(world.hooks.long.is_some(), "when the others are done it has its turn");
    long
}

/// Without the share of the oldest a long message starves as long as there are shorter ones.
#[test]
fn without_the_fifo_share_a_long_message_starves() {
    assert!(long_among_short(vec![]).is_some());
    assert_eq!(long_among_short(vec![Mechanism::FifoShare]), None);
}
