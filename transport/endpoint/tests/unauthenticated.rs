//! What has not been opened changes nothing but a counter, whatever was altered of whatever was sent, and the exchange that it
//! was taken from ends as if nothing had been. [P-5.4]

mod world;

use world::{CLIENT, Datagram, Rng, SERVER, World, address};

use std::time::Duration;

use endpoint::rates::Rate;
use wire::trailer::Kind;

/// Several messages of one and of several records both ways, with grants, acks and questions.
fn exchange(world: &mut World) {
    world.request(CLIENT, 5_000);
    world.request(CLIENT, 0);
    world.send(CLIENT, Kind::OneWay, &world::body(700));
    world.request(CLIENT, 40_000);
}

fn small_windows() -> World {
    World::with(7, 1, |_, config| {
        // What is answered to packets of unknown sessions is the subject of tests/resets.rs.
        config.limits.resets = Rate::new(0, 1);
        // Nor what altered slices of records do, which tests/spans.rs is about: they wait for others before a tag tells.
        config.spans = false;
        config.proto.unscheduled_bytes = 3_000;
        config.proto.grant_window = proto::config::GrantWindow::Fixed(9_000);
    })
    .warm()
}

/// The fields of a DATA packet that are for the network alone, and that no tag covers: priority, segment, the message's length;
/// of the steering field, the lane that it names has other keys, or there is none. [P-5.2] [P-9.1]
fn for_the_network(datagram: &Datagram, at: usize) -> bool {
    datagram.data() && matches!(at, 3 | 6..8 | 16..20)
}

/// Alters one byte of every sealed datagram at `place`, feeds that first and expects nothing of it, then goes on with the
/// datagram itself.
fn alter_all(world: &mut World, rng: &mut Rng) {
    for _ in 0..10_000 {
        world.collect();
        let Some(datagram) = world.wire.pop_front() else { return };
        let mut forged = datagram.bytes.clone();
        let at = rng.below(forged.len() as u64) as usize;
        if datagram.sealed() && !for_the_network(&datagram, at) {
            forged[at] ^= 1 + rng.below(255) as u8;
            let reasons = [
                "dropped_bad_tag",
                "dropped_truncated",
                "dropped_oversized",
                "dropped_wrong_version",
                "dropped_unknown_type",
                "dropped_malformed",
                "dropped_unknown_session",
                "dropped_wrong_epoch",
                "dropped_replayed_control",
                "dropped_duplicate",
                "dropped_nonsense",
                "dropped_handshake",
            ];
            drops_quietly(world, &datagram, &forged, &reasons);
        }
        world.deliver(&datagram);
    }
    panic!("it goes on for ever");
}

/// As [`World::assert_dropped`], while the ends may have other things to say.
fn drops_quietly(world: &mut World, datagram: &Datagram, forged: &[u8], reasons: &[&str]) {
    world.collect();
    let said = world.trace.len();
    let (view, before) = (world.view(datagram.to), world.counters(datagram.to).dropped());
    world.feed(datagram.from, datagram.to, forged);
    world.collect();
    assert_eq!(world.view(datagram.to), view);
    assert_eq!(world.trace.len(), said, "nothing is answered");
    // One, or two: when a record's length is what was altered, what follows it is none.
    assert!((before + 1..=before + 2).contains(&world.counters(datagram.to).dropped()));
    let known: u64 =
        world.counters(datagram.to).iter().filter(|(name, _)| reasons.contains(name)).map(|(_, count)| count).sum();
    assert_eq!(known, world.counters(datagram.to).dropped());
}

/// [P-5.4] One altered byte in a copy of every packet that comes: only drops are counted, and afterwards the exchange is
/// the same to the byte.
#[test]
fn altered_packets_change_nothing() {
    let mut reference = small_windows();
    exchange(&mut reference);
    reference.settle();
    reference.pass(Duration::from_secs(1));
    for seed in 0..150 {
        let mut rng = Rng::new(seed);
        let mut world = small_windows();
        exchange(&mut world);
        alter_all(&mut world, &mut rng);
        world.pass(Duration::from_secs(1));
        assert_eq!(world.trace, reference.trace, "seed {seed}");
        assert_eq!(world.outcome(SERVER), reference.outcome(SERVER));
        assert_eq!(world.outcome(CLIENT), (vec![0, 5_000, 40_000], 0));
        world.assert_quiet();
    }
}

/// [P-5.4] Every byte of a DATA and of a CONTROL packet once, in all its bits.
#[test]
fn not_one_bit_passes() {
    let mut world = small_windows();
    world.request(CLIENT, 100);
    world.send(CLIENT, Kind::OneWay, &[1; 60]);
    world.collect();
    let mut sealed: Vec<Datagram> = world.wire.drain(..).collect();
    // The server answers and acknowledges what came.
    for datagram in &sealed {
        world.deliver(datagram);
    }
    world.now += Duration::from_millis(2);
    world.ends[SERVER].handle_timeout(world.now);
    world.collect();
    sealed = world.wire.drain(..).collect();
    assert!(sealed.iter().any(Datagram::data) && sealed.iter().any(|d| !d.data()), "one of each");
    for datagram in sealed {
        let to = datagram.to;
        for at in (0..datagram.bytes.len()).filter(|at| !for_the_network(&datagram, *at)) {
            for bit in 0..8 {
                let mut forged = datagram.bytes.clone();
                forged[at] ^= 1 << bit;
                let (view, before) = (world.view(to), world.counters(to).dropped());
                world.deliver(&Datagram { bytes: forged, ..datagram.clone() });
                assert_eq!(world.view(to), view, "{at}.{bit}");
                assert!(world.counters(to).dropped() > before, "{at}.{bit}");
                world.assert_silent(to);
            }
        }
        world.deliver(&datagram);
        world.settle();
    }
    world.pass(Duration::from_millis(50));
    assert_eq!(world.outcome(CLIENT), (vec![100], 0));
    world.assert_quiet();
}

/// [P-5.4] What is cut short anywhere changes nothing either.
#[test]
fn nothing_passes_cut_short() {
    let mut world = small_windows();
    world.request(CLIENT, 100);
    world.collect();
    let datagram = world.wire.pop_front().expect("the request");
    for len in 1..datagram.bytes.len() {
        let names = ["dropped_truncated", "dropped_bad_tag"];
        world.assert_dropped(CLIENT, SERVER, &datagram.bytes[..len], &names);
    }
    world.deliver(&datagram);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![100], 0));
}

/// [P-1.1] Another version is counted as that, for every type, and never answered.
#[test]
fn other_versions_are_silence() {
    let mut world = small_windows();
    world.request(CLIENT, 100);
    world.collect();
    let datagrams: Vec<Datagram> = world.trace.iter().filter(|d| d.to == SERVER).cloned().collect();
    for mut datagram in datagrams {
        for version in (0..16u8).filter(|version| *version != 1) {
            datagram.bytes[0] = version << 4 | datagram.bytes[0] & 0xf;
            world.assert_dropped(CLIENT, SERVER, &datagram.bytes, &["dropped_wrong_version"]);
        }
    }
}

/// [P-5.4] [P-2.1] Unknown sessions create nothing: no state, no answer. A slot that is in use does not make up for a wrong
/// id, nor does the id 0.
#[test]
fn unknown_sessions_create_nothing() {
    let mut world = small_windows();
    world.request(CLIENT, 100);
    world.collect();
    let datagram = world.wire.pop_front().expect("the request");
    let mut rng = Rng::new(3);
    for round in 0..500 {
        let mut forged = datagram.bytes.clone();
        match round {
            0 => forged[8..16].fill(0),
            1 => forged[8..16].fill(0xff),
            // The random part only: the slot is right.
            _ => forged[8] ^= 1 + rng.below(255) as u8,
        }
        world.assert_dropped(CLIENT, SERVER, &forged, &["dropped_unknown_session"]);
    }
}

/// [P-2.2] A session is found by its id alone: what comes from elsewhere is taken, and the answer goes where the peer was all
/// the time. [P-2.3]
#[test]
fn the_address_does_not_matter() {
    let mut world = small_windows();
    let elsewhere = address(77);
    world.request(CLIENT, 100);
    world.collect();
    let datagram = world.wire.pop_front().expect("the request");
    world.feed_from(SERVER, elsewhere, &datagram.bytes, datagram.bytes.len());
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![100], 0));
    assert_eq!(world.ends[SERVER].sessions()[0].origin.address, address(CLIENT));
}

/// [P-5.5] A RESET that proves nothing is dropped, whatever session it names; the session goes on.
#[test]
fn forged_resets_are_dropped() {
    let mut world = small_windows();
    for to in [CLIENT, SERVER] {
        let mut reset = vec![0x14, 0, 0, 0, 0, 0, 0, 0];
        reset.extend(world.session(to).as_u64().to_be_bytes());
        reset.extend([7; 16]);
        world.assert_dropped(1 - to, to, &reset, &["dropped_reset"]);
        // The name that the peer gave it is the one that counts.
        reset[8..16].copy_from_slice(&world.session(1 - to).as_u64().to_be_bytes());
        for guess in 0..300_u16 {
            reset[16..18].copy_from_slice(&guess.to_be_bytes());
            world.assert_dropped(1 - to, to, &reset, &["dropped_reset"]);
        }
        reset[8..16].fill(9);
        world.assert_dropped(1 - to, to, &reset, &["dropped_reset"]);
    }
    world.request(CLIENT, 10);
    world.settle();
    assert_eq!(world.outcome(CLIENT), (vec![10], 0));
}

/// [P-10.1] Types that are not there yet, those of data in the first flight among them, are unknown.
#[test]
fn other_types_are_unknown() {
    let mut world = small_windows();
    world.request(CLIENT, 100);
    world.collect();
    let mut bytes = world.wire.pop_front().expect("the request").bytes;
    for kind in [0, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] {
        bytes[0] = 0x10 | kind;
        world.assert_dropped(CLIENT, SERVER, &bytes, &["dropped_unknown_type"]);
    }
}

/// Whatever anyone sends to a port that is open, nothing panics and little is kept.
#[test]
fn noise() {
    let mut world = small_windows();
    let mut rng = Rng::new(11);
    let session = world.session(SERVER).as_u64().to_be_bytes();
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..rng.below(120)).map(|_| rng.next() as u8).collect();
        if let Some(first) = bytes.first_mut().filter(|_| rng.0 & 1 == 0) {
            *first = 0x10 | *first & 7;
        }
        if rng.below(2) == 0 && bytes.len() >= 16 {
            bytes[1..8].fill(0);
            bytes[8..16].copy_from_slice(&session);
        }
        world.feed(CLIENT, SERVER, &bytes);
    }
    world.collect();
    world.wire.clear();
    assert_eq!(world.ends[SERVER].sessions().len(), 1);
    world.request(CLIENT, 100);
    world.settle();
    assert_eq!(world.outcome(CLIENT).0, [100]);
}
