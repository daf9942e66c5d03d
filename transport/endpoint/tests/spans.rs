//! Records that span packets, end to end: lost, late, doubled and forged slices; peers that do not take them; and that every message comes
//! whole, by the next attempt if need be.

mod world;

use std::time::Duration;

use proptest::prelude::*;
use wire::control::Frame;
use wire::header::{Header, PacketType};
use wire::ids::{MessageId, RecordNumber, RpcId, Side};
use wire::slice::{Part, SliceView, part_at, slice_header};
use world::forger::Forger;
use world::{CLIENT, Datagram, SERVER, World};

/// Bytes of a DATA packet before its records.
const AT: usize = 20;

fn slice(datagram: &Datagram) -> Option<SliceView> {
    match datagram.data().then(|| part_at(&datagram.bytes, AT)) {
        Some(Ok(Part::Slice(view))) => Some(view),
        _ => None,
    }
}

fn number(datagram: &Datagram) -> Option<RecordNumber> {
    datagram.data().then(|| datagram.number().0)
}

/// Until the call of `length` bytes has come back, and nothing is left.
fn finish(world: &mut World, length: usize) {
    world.pass(Duration::from_secs(20));
    assert_eq!((world.outcome(SERVER), world.outcome(CLIENT)), ((vec![length], 0), (vec![length], 0)));
    world.assert_quiet();
}

/// [P-4.6] A message of several packets goes as one ordinary record and slices of long ones, in packets of one length, with one seal and
/// one open for each record. What is short, or whose packets carry much, does not.
#[test]
fn long_messages_on_narrow_paths() {
    let mut world = World::new().warm();
    let before = (world.counters(CLIENT), world.counters(SERVER));
    world.request(CLIENT, 40_000);
    world.settle();
    assert_eq!((world.outcome(SERVER).0, world.outcome(CLIENT).0), (vec![40_000], vec![40_000]));
    let after = (world.counters(CLIENT), world.counters(SERVER));
    // 29 packets: the first, and 11, 11 and 6 slices.
    assert_eq!((after.0.slices_sent - before.0.slices_sent, after.0.records_sealed - before.0.records_sealed), (28, 4));
    assert_eq!(after.1.records_opened - before.1.records_opened, 4);
    let sizes: Vec<usize> = world.trace.iter().filter(|d| slice(d).is_some()).map(|d| d.bytes.len()).collect();
    assert_eq!(sizes.iter().filter(|size| **size != sizes[0]).count(), 2, "but the last of each message: {sizes:?}");
    assert!(sizes[0] <= 1452);
    for (datagram_max, length) in [(1452, 2_700), (9_000, 40_000), (16_367, 60_000)] {
        let mut world = World::on_path(1, 1, datagram_max, |_, _| ()).warm();
        world.request(CLIENT, length);
        world.settle();
        assert_eq!((world.outcome(CLIENT).0, world.counters(CLIENT).slices_sent), (vec![length], 0));
    }
}

/// [P-4.6] Only who says that it takes slices is sent any, and only who is to sends any.
#[test]
fn only_to_those_who_take_them() {
    for (who, sends) in [(CLIENT, true), (CLIENT, false), (SERVER, true), (SERVER, false)] {
        let change = |at: usize, config: &mut endpoint::config::Config| {
            (config.takes_slices, config.spans) = (sends || at != who, !sends || at != who);
        };
        let mut world = World::with(1, 1, change).warm();
        world.request(CLIENT, 40_000);
        world.settle();
        assert_eq!(world.outcome(CLIENT).0, [40_000]);
        let sent = [CLIENT, SERVER].map(|at| (at, world.counters(at).slices_sent > 0));
        assert!(sent.iter().all(|(at, any)| *any == ((*at == who) != sends)), "{who} {sends}: {sent:?}");
    }
}

/// [P-4.6] [P-5.4] Before a record of their message verified, and after it is complete, slices change nothing.
#[test]
fn slices_of_nothing() {
    let mut world = World::new().warm();
    world.request(CLIENT, 10_000);
    world.collect();
    let (first, slices): (Vec<_>, Vec<_>) = world.wire.drain(..).partition(|d| slice(d).is_none());
    assert_eq!((first.len(), slices.len()), (1, 7));
    for datagram in &slices {
        world.assert_dropped(CLIENT, SERVER, &datagram.bytes, &["dropped_slice"]);
    }
    world.deliver(&first[0]);
    // All but one: they wait, and wait once.
    for datagram in &slices[1..] {
        world.deliver(datagram);
        world.assert_dropped(CLIENT, SERVER, &datagram.bytes, &["dropped_duplicate"]);
    }
    // What says another place, length, number or attempt than its message has is none of its slices.
    for (at, bit) in [(4, 1), (11, 16), (12, 4), (14, 1), (16, 8)] {
        let mut other = slices[0].bytes.clone();
        other[AT + at] ^= bit;
        world.assert_dropped(CLIENT, SERVER, &other, &["dropped_slice", "dropped_truncated", "dropped_malformed"]);
    }
    world.deliver(&slices[0]);
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [10_000]);
    world.assert_dropped(CLIENT, SERVER, &slices[0].bytes, &["dropped_slice"]);
}

/// [P-4.6] [P-8.5] One slice is lost: that one is asked for and sent again, the same bytes, and no other.
#[test]
fn a_lost_slice_goes_again_alone() {
    let mut world = World::new().warm();
    let mut left = 1;
    world.lose = Box::new(move |datagram| {
        let lost = slice(datagram).is_some_and(|view| view.slice.start > 4_000) && left > 0;
        left -= i32::from(lost);
        lost
    });
    world.request(CLIENT, 10_000);
    finish(&mut world, 10_000);
    let of_client: Vec<&Datagram> = world.trace.iter().filter(|d| d.from == CLIENT && slice(d).is_some()).collect();
    let lost = of_client.iter().find(|d| slice(d).is_some_and(|view| view.slice.start > 4_000)).expect("it was sent");
    // Both ends may ask for it at one time.
    assert!((8..=9).contains(&of_client.len()), "{}", of_client.len());
    assert!(of_client[7..].iter().all(|again| again.bytes[AT..] == lost.bytes[AT..]));
}

/// [P-4.6] [P-3.4] Somebody on the path changes a slice, or is faster with one of his own: the record does not open, which is counted once,
/// and its message goes on in ordinary records under the next attempt, also when the word for that is lost at first.
#[test]
fn a_forged_slice_costs_an_attempt() {
    for words_lost in [0, 1, 3] {
        let mut world = World::new().warm();
        let mut left = words_lost;
        world.lose = Box::new(move |datagram| {
            let lost = datagram.from == SERVER && datagram.bytes[0] & 0xf == 2 && left > 0;
            left -= i32::from(lost);
            lost
        });
        world.request(CLIENT, 30_000);
        world.collect();
        let mut forged = world.wire.iter().filter(|d| slice(d).is_some()).nth(14).expect("there are many").clone();
        *forged.bytes.last_mut().expect("it is long") ^= 1;
        world.wire.insert(3, forged);
        finish(&mut world, 30_000);
        assert_eq!((world.counters(SERVER).dropped_bad_tag, world.counters(CLIENT).attempts), (1, 1), "{words_lost}");
        let later =
            world.trace.iter().filter(|d| d.from == CLIENT).filter_map(number).filter(|n| n.message().attempt() > 0);
        assert!(later.clone().count() > 0 && later.clone().all(|number| number.message().attempt() == 1));
        assert!(!world.trace.iter().any(|d| slice(d).is_some_and(|view| view.number.message().attempt() > 0)));
        assert_eq!(world.counters(SERVER).attempts, 0);
        // Who did that once can do it again: nothing more of this sender's spans in the session, and he wins nothing.
        let sent = world.counters(CLIENT).slices_sent;
        world.request(CLIENT, 30_000);
        world.settle();
        assert_eq!((world.counters(CLIENT).slices_sent, world.outcome(CLIENT).0), (sent, vec![30_000, 30_000]));
    }
}

/// [P-8.1] [P-8.2] What may be sent without grants ends amid a record, windows and the budget are less than one, and many messages want
/// grants at once: all come whole. A grant goes to the end of a record, of which less is worth nothing.
#[test]
fn grants_are_of_whole_records() {
    for (unscheduled, window, budget) in [(3_000, 9_000, 1 << 20), (9_000, 2_000, 20_000), (20_000, 1_000, 1_000)] {
        let mut world = World::with(3, 2, |_, config| {
            config.proto.unscheduled_bytes = unscheduled;
            config.proto.grant_window = proto::config::GrantWindow::Fixed(window);
            config.proto.incoming_bytes_max = budget;
        })
        .warm();
        for length in [60_000, 100_000, 30_000, 200_000] {
            world.request(CLIENT, length);
            world.request(CLIENT + 1, length);
        }
        world.settle();
        assert_eq!((world.outcome(CLIENT).0.len(), world.outcome(CLIENT + 1).0.len()), (4, 4), "{window} of {budget}");
        assert_eq!(world.counters(SERVER).dropped(), 0);
        assert!(world.counters(SERVER).slices_sent > 400);
        world.pass(Duration::from_millis(50));
        world.assert_quiet();
    }
}

/// [P-4.6] A word for the next attempt about what is not under way, has no slices, or was not sent yet, changes nothing.
#[test]
fn idle_words() {
    let mut world = World::new().warm();
    let mut forger = Forger::new(&world, CLIENT, Side::Server);
    forger.number = 1_000;
    for sequence in [0, 1, 2, 1 << 30] {
        for side in [Side::Client, Side::Server] {
            let word = forger.control(&[Frame::NextAttempt { rpc: RpcId::new(side, sequence) }]);
            world.feed(SERVER, CLIENT, &word);
        }
    }
    world.request(CLIENT, 2_000);
    finish(&mut world, 2_000);
    assert_eq!((world.counters(CLIENT).attempts, world.counters(CLIENT).dropped()), (0, 0));
}

/// [P-4.6] [P-8.5] A peer with the right keys whose slices make no sense together: what it says is dropped, and its message is asked for
/// under another attempt; nothing is delivered but what verified.
#[test]
fn a_faulty_peer() {
    let mut world = World::new().warm();
    world.echo = false;
    let forger = Forger::new(&world, CLIENT, Side::Client);
    let rpc = RpcId::new(Side::Client, 50);
    let geometry = wire::geometry::Geometry::stated(5_000, 1_000)
        .and_then(wire::geometry::Geometry::spanning)
        .expect("it is long");
    world.feed(CLIENT, SERVER, &forger.data(&[forger.part_cut(MessageId::new(rpc, 0), 0, geometry)]));
    let span = geometry.sealed_with(1);
    let record = forger
        .span(MessageId::new(rpc, 0), 1, geometry, |trailer| trailer[0..4].copy_from_slice(&4_999u32.to_be_bytes()));
    for index in 1..5 {
        let place = geometry.slice(&span, index);
        let mut bytes = slice_header(RecordNumber::new(MessageId::new(rpc, 0), 1), &place, record.len()).to_vec();
        bytes.extend(&record[place]);
        world.feed(CLIENT, SERVER, &forger.data(&[bytes]));
    }
    assert_eq!(world.counters(SERVER).dropped_nonsense, 1);
    for index in 1..5 {
        world.feed(CLIENT, SERVER, &forger.data(&[forger.part_cut(MessageId::new(rpc, 1), index, geometry)]));
    }
    world.settle();
    assert_eq!(world.outcome(SERVER).0, [5_000]);
}

/// [P-4.6] [P-6.5] A message that leaves its epoch goes on in ordinary records; slices of before that wait are given up.
#[test]
fn an_epoch_ends_amid_slices() {
    let mut world = World::new().warm();
    world.request(CLIENT, 30_000);
    world.collect();
    // Half of the slices of either record get through; then the sender's attempt ends.
    let sent: Vec<Datagram> = world.wire.drain(..).collect();
    for (_, datagram) in sent.iter().enumerate().filter(|(at, _)| at % 2 == 0) {
        world.deliver(datagram);
    }
    let rpc = number(&sent[1]).expect("a record").message().rpc();
    let mut forger = Forger::new(&world, CLIENT, Side::Server);
    // Not so far ahead that what the server says itself would be too old.
    forger.number = 1_000;
    let word = forger.control(&[Frame::NextAttempt { rpc }]);
    world.feed(SERVER, CLIENT, &word);
    finish(&mut world, 30_000);
    assert_eq!(world.counters(CLIENT).attempts, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// [P-4.6] Slices that come as a train do what they do one by one, whatever stands between them: another order, others' bytes, the same
    /// again, parts that are missing.
    #[test]
    fn a_train_of_slices(
        length in 5_000usize..60_000,
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<prop::sample::Index>(), 0u8..8), 0..4),
        cuts in prop::collection::vec(1usize..40, 1..6),
    ) {
        let mut ends = [false, true].map(|together| {
            let mut world = World::new().warm();
            world.request(CLIENT, length);
            world.collect();
            let mut sent: Vec<Vec<u8>> = world.wire.drain(..).map(|datagram| datagram.bytes).collect();
            for (which, act, other, bit) in &changes {
                let (at, two) = (which.index(sent.len()), other.index(sent.len()));
                match act {
                    0 => drop(sent.remove(at)),
                    1 => sent.insert(at, sent[at].clone()),
                    2 => sent.swap(at, two),
                    _ => {
                        let byte = other.index(40.min(sent[at].len()));
                        sent[at][byte] ^= 1 << bit;
                    }
                }
            }
            let mut cuts = cuts.iter().cycle();
            let mut rest = &sent[..];
            while let Some(first) = rest.first() {
                // A train's datagrams are of one length; a shorter one ends it.
                let most = if together { *cuts.next().expect("they go round") } else { 1 };
                let alike = rest.iter().take(most).take_while(|datagram| datagram.len() == first.len()).count();
                let ends_it = rest.get(alike).is_some_and(|next| alike < most && next.len() < first.len());
                let (train, left) = rest.split_at(alike + usize::from(ends_it));
                world.feed_from(SERVER, world::address(CLIENT), &train.concat(), first.len());
                rest = left;
            }
            world
        });
        let seen = |world: &mut World| format!("{:?} {}", world.counters(SERVER), world.view(SERVER));
        let [one_by_one, together] = ends.each_mut().map(seen);
        prop_assert_eq!(one_by_one, together);
        for mut world in ends {
            finish(&mut world, length);
        }
    }

    /// [P-4.6] [P-8.5] Whatever is lost, doubled, late, changed, or made up from what was seen: every call of several at once ends in its
    /// reply, whole, and nothing hangs.
    #[test]
    fn whatever_the_path_does(
        lengths in prop::collection::vec(1usize..70_000, 1..5),
        fates in prop::collection::vec(0u8..24, 1..200),
        seed in any::<u64>(),
    ) {
        let mut world = World::new().warm();
        for length in &lengths {
            world.request(CLIENT, *length);
        }
        let (mut acts, mut lost, mut random) = (0usize, 0, seed | 1);
        let mut held: Vec<Datagram> = Vec::new();
        for round in 0..4_000 {
            world.collect();
            let Some(datagram) = world.wire.pop_front() else {
                if !held.is_empty() {
                    held.drain(..).for_each(|datagram| world.deliver(&datagram));
                    continue;
                }
                if world.outcome(CLIENT).0.len() == lengths.len() || round == 3_999 {
                    break;
                }
                world.now = world.timeout().expect("somebody waits").max(world.now);
                let now = world.now;
                world.ends.iter_mut().for_each(|end| end.handle_timeout(now));
                continue;
            };
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // The path is bad for a while, and only then: it ends.
            let fate = if acts < 400 { fates[acts % fates.len()] } else { u8::MAX };
            acts += 1;
            match fate {
                // Who hears nothing for long gives up, rightly.
                0 if lost < 8 => lost += 1,
                1 => {
                    world.deliver(&datagram);
                    world.deliver(&datagram);
                }
                2 => held.push(datagram),
                // In clear or sealed: never by what the session's limit of bad tags would end it.
                3 if datagram.data() => {
                    let mut forged = datagram.clone();
                    let at = (random >> 33) as usize % forged.bytes.len();
                    forged.bytes[at] ^= 1 << (random & 7);
                    world.deliver(&forged);
                    world.deliver(&datagram);
                }
                _ => world.deliver(&datagram),
            }
        }
        world.pass(Duration::from_secs(30));
        let (mut asked, mut replied) = (world.outcome(SERVER).0, world.outcome(CLIENT).0);
        let mut expected = lengths;
        [&mut asked, &mut replied, &mut expected].into_iter().for_each(|lengths| lengths.sort_unstable());
        prop_assert_eq!(&asked, &expected);
        prop_assert_eq!(&replied, &expected);
        prop_assert_eq!(world.outcome(CLIENT).1, 0);
        world.assert_quiet();
    }
}

/// The header says whose packet it is, in either layout: nothing about spanning is in it.
#[test]
fn the_header_is_that_of_data() {
    let mut world = World::new().warm();
    world.request(CLIENT, 10_000);
    world.settle();
    for datagram in world.trace.iter().filter(|d| slice(d).is_some()) {
        assert_eq!(Header::parse(&datagram.bytes).map(|header| header.kind), Ok(PacketType::Data));
        assert_eq!(datagram.bytes[16..20], 10_000u32.to_be_bytes());
    }
}
