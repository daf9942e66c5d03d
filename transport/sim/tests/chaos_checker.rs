//! The checker by itself: that it tells keys apart by what they are, over restarts as well, and knows a live path from a dead one.

use endpoint::config::Config;
use endpoint::pool::Payload;
use proto::time::Instant;
use sim::checker::Checker;
use sim::checker::calls::Wish;
use sim::checker::paths::Paths;
use sim::clock::{MS, SEC, Time};
use sim::fabric::Network;
use sim::hooks::{Hooks, Spec};
use sim::link::Frame;
use sim::wiretap::Wiretap;
use sim::world::World;
use wire::ids::Side;
use wire::trailer::Kind;

const SEED: u64 = 5;

struct Watch(Checker);

impl Hooks for Watch {
    fn left(&mut self, now: Time, frame: &Frame) {
        self.0.left(now, frame);
    }
}

fn checker() -> Checker {
    let config = Config::new(offload::software::crypto());
    let wiretap = Wiretap::new(SEED, config.cipher);
    Checker::new(SEED, None, config, wiretap, Paths::new(2, SEC, true))
}

/// Two hosts that know each other say something. Their randomness is the seed's.
fn say(checker: Checker, seed: u64, restart: bool, text: &str) -> Checker {
    let mut world = World::new(Spec::new(seed, Network::pair()), Watch(checker));
    world.acquaint(0, 1);
    if restart {
        for host in [0, 1] {
            world.crash(host);
            world.start(host);
        }
    }
    world.send(0, 1, Kind::OneWay, Payload::from(text.as_bytes().to_vec()), 0).expect("it is taken");
    world.run(100 * MS);
    world.hooks.0
}

/// Both ends come back with the same randomness as before: then keys repeat, and so do nonces, whatever is said under them.
#[test]
fn randomness_that_repeats_is_noticed() {
    let once = say(checker(), SEED, false, "one thing");
    assert_eq!(once.broken(), None);
    let again = say(once, SEED, false, "other one");
    assert_eq!(again.broken().map(|violation| violation.invariant), Some(1));
    assert_eq!(again.wiretap.sessions().len(), 1, "it is the same session");
}

/// The same secret, the same message, new randomness: that is what a restart is.
#[test]
fn a_restart_is_no_repetition() {
    let once = say(checker(), SEED, false, "one thing");
    let again = say(once, SEED, true, "other one");
    assert_eq!(again.broken(), None);
    assert_eq!(again.wiretap.sessions().len(), 2);
    let names = |at: usize| [Side::Client, Side::Server].map(|side| again.wiretap.sessions()[at].key_name(side, 0));
    assert_ne!(names(0), names(1));
}

#[test]
fn paths_that_are_dead_for_a_while() {
    let wish = |from, to| Wish {
        from,
        to,
        kind: Kind::Request,
        len: 1,
        response_len: 1,
        deadline: Instant::FAR,
        patient: false,
        must_succeed: false,
    };
    let mut checker = checker();
    let mut live = |begun: Time, change: &mut dyn FnMut(&mut Checker)| {
        let call = checker.calls.begin(begun, wish(0, 1));
        change(&mut checker);
        checker.paths.is_live(checker.calls.get(call), &checker.wiretap)
    };
    // A handshake may take a second, so what is older than that before the call began cannot have harmed it.
    assert!(live(0, &mut |_| ()));
    assert!(!live(10 * SEC, &mut |checker| checker.paths.cut(10 * SEC, Some(vec![0, 1]))));
    assert!(!live(20 * SEC, &mut |checker| checker.paths.cut(21 * SEC, None)));
    assert!(!live(21 * SEC + MS, &mut |_| ()));
    assert!(live(23 * SEC, &mut |_| ()));
    assert!(live(24 * SEC, &mut |checker| checker.paths.cut(24 * SEC, Some(vec![1, 1]))));
    assert!(!live(25 * SEC, &mut |checker| checker.paths.restart(25 * SEC, 1)));
}
