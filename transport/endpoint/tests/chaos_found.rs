//! What chaos runs of the simulator found, each reduced to the few packets that it takes.

mod world;

use std::time::Duration;

use world::{CLIENT, SERVER, World};

use endpoint::state::Event;

/// [P-6.6] Everything that a client says comes back to it, as if from its server: it does not answer itself. (Seed 31: it did, had
/// a session with itself, and its own requests ran at home.)
#[test]
fn a_client_does_not_answer_itself() {
    let mut world = World::new();
    world.request(CLIENT, 10);
    for _ in 0..200 {
        world.collect();
        while let Some(datagram) = world.wire.pop_front() {
            assert_eq!(datagram.to, SERVER);
            world.feed(SERVER, CLIENT, &datagram.bytes);
        }
        world.now += Duration::from_millis(20);
        world.ends[CLIENT].handle_timeout(world.now);
    }
    assert!(world.ends[CLIENT].open_sessions().is_empty());
    assert_eq!((world.ends[CLIENT].sessions().len(), world.counters(CLIENT).messages_delivered), (1, 0));
    assert!(world.counters(CLIENT).dropped_handshake > 10);
    assert!(!world.events[CLIENT].iter().any(|event| matches!(event, Event::Connected { .. } | Event::Request { .. })));
}

/// [P-6.4] A client that finishes its handshake and says nothing after it has a place among the handshakes for as long as these may
/// take, not for as long as sessions live. (Seed 18.)
#[test]
fn who_finishes_and_says_nothing_makes_room() {
    let mut world = World::with(1, 4, |at, config| config.handshakes_max = if at == SERVER { 4 } else { 4096 });
    world.lose = Box::new(|datagram| datagram.to == SERVER && datagram.sealed());
    for at in 1..=4 {
        world.request(at, 10);
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.ends[SERVER].open_sessions().len(), 4);
    assert_eq!(world.ends[SERVER].holdings().accepting, 4);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.ends[SERVER].holdings().accepting, 0);
}
