//! What chaos runs of the simulator found, each reduced to the few packets that it takes.

mod world;

use std::time::Duration;

use world::{CLIENT, SERVER, World};

use endpoint::endpoint::To;
use endpoint::events::Event;
use wire::trailer::Kind;

const MINUTE: Duration = Duration::from_secs(60);

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

/// [P-7.3] A call in a session that was silent for almost as long as sessions live goes into a new one: the peer may have forgotten
/// the old one, and that is only found out by silence. (Seed 1257.)
#[test]
fn calls_late_in_a_silent_session_make_a_new_one() {
    let mut world = World::with(1, 1, |_, config| config.session_idle = MINUTE).warm();
    let old = world.session(CLIENT);
    world.pass(MINUTE * 44 / 60);
    assert_eq!(world.request(CLIENT, 10).session, old);
    world.pass(MINUTE * 46 / 60);
    assert_ne!(world.request(CLIENT, 10).session, old);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![10, 10], 0));
}

/// [P-8.5] What was begun in a silent session just before it would be forgotten is answered, not ended. (Seed 1257.)
#[test]
fn what_was_begun_keeps_its_session() {
    let mut world = World::with(1, 1, |at, config| {
        config.session_idle = if at == SERVER { MINUTE } else { 10 * MINUTE };
    })
    .warm();
    let session = world.session(SERVER);
    // It looks every quarter of a minute: at 60 s it is not silent for long enough yet, at 75 s it is.
    world.pass(MINUTE * 74 / 60);
    world.try_send(SERVER, To::Session(session), Kind::Request, b"late").expect("it is taken");
    world.collect();
    world.now += Duration::from_secs(2);
    world.ends[SERVER].handle_timeout(world.now);
    world.settle();
    assert!(!world.events[SERVER].iter().any(|event| matches!(event, Event::Failed { .. })));
    assert_eq!(world.session(SERVER), session);
    assert!(
        world.events[SERVER]
            .iter()
            .any(|event| matches!(event, Event::Response { payload, .. } if payload[..] == *b"late"))
    );
    world.pass(3 * MINUTE);
    assert!(world.ends[SERVER].sessions().is_empty(), "and then it is forgotten");
}
