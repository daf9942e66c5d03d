//! The fault layer does what it is told, counts it, and tells nobody two different stories for one seed.

mod common;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;

use common::{bind, over_each_backend};
use proptest::prelude::*;
use udp::fault::{Counts, Cut};
use udp::{Caps, Datagrams, Faults, Faulty, Options, Received, SendError, Transmit, poll};

fn bound() -> Box<dyn Datagrams> {
    bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &Options::default()).unwrap()
}

/// A datagram that says which one it is.
fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; len.max(4)];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Receives until both ends have nothing left, neither now nor later.
fn drain(sender: &mut dyn Datagrams, receiver: &mut dyn Datagrams) -> Vec<Vec<u8>> {
    let (mut into, mut all) = (vec![0; 65_535], Vec::new());
    loop {
        assert_eq!(sender.receive(&mut into).unwrap(), None);
        while let Some(got) = receiver.receive(&mut into).unwrap() {
            assert_eq!(got.segment, got.len, "datagrams come one by one");
            all.push(into[..got.len].to_vec());
        }
        match [sender.next_due(), receiver.next_due()].into_iter().flatten().min() {
            Some(due) => drop(poll::wait_readable(&[], Some(due)).unwrap()),
            // Where much else runs, what was sent may still be on its way through the kernel.
            None if poll::wait_readable(&[receiver.fds()], Some(Duration::from_millis(5))).unwrap().has(0) => {}
            None => return all,
        }
    }
}

/// Sends datagrams of these lengths in trains through `faults` in the given direction.
fn run(lens: &[(usize, usize)], faults: &Faults, is_out: bool) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, Counts) {
    let (out, back) = if is_out { (faults.clone(), Faults::default()) } else { (Faults::default(), faults.clone()) };
    let mut sender = Faulty::each_way(bound(), out, Faults::default());
    let mut receiver = Faulty::each_way(bound(), Faults::default(), back);
    let tally = if is_out { sender.tally() } else { receiver.tally() };
    let (mut sent, mut got, to) = (Vec::new(), Vec::new(), receiver.local_addr());
    for &(count, len) in lens {
        let train: Vec<_> = (0..count).map(|i| numbered((sent.len() + i) as u32, len)).collect();
        let bytes = train.concat();
        sender.transmit(&Transmit { to, bytes: &bytes, segment: len.max(4), tos: None }).unwrap();
        sent.extend(train);
        got.extend(drain_now(&mut receiver));
    }
    got.extend(drain(&mut sender, &mut receiver));
    (sent, got, if is_out { tally.transmitted() } else { tally.received() })
}

fn drain_now(receiver: &mut dyn Datagrams) -> Vec<Vec<u8>> {
    let (mut into, mut all) = (vec![0; 65_535], Vec::new());
    while let Some(got) = receiver.receive(&mut into).unwrap() {
        all.push(into[..got.len].to_vec());
    }
    all
}

fn multiset(all: &[Vec<u8>]) -> BTreeMap<&[u8], usize> {
    all.iter().fold(BTreeMap::new(), |mut set, bytes| {
        *set.entry(bytes.as_slice()).or_default() += 1;
        set
    })
}

fn without_faults_nothing_changes() {
    for is_out in [true, false] {
        let (sent, got, counts) = run(&[(40, 1000), (1, 9000), (3, 4)], &Faults::default(), is_out);
        assert_eq!(got, sent);
        assert_eq!(counts, Counts { seen: 44, ..Counts::default() });
    }
}

fn losses_are_counted_and_independent_within_a_train() {
    let faults = Faults { loss: 0.25, seed: 7, ..Faults::default() };
    for is_out in [true, false] {
        let (sent, got, counts) = run(&[(40, 500); 50], &faults, is_out);
        assert_eq!(counts.seen, sent.len() as u64);
        assert_eq!(got.len() as u64, counts.seen - counts.lost);
        // 500 expected, with a deviation of 19.
        assert!((400..600).contains(&counts.lost), "{counts:?}");
        let trains_hurt = (0..50_u32).filter(|train| {
            let in_train = |d: &&Vec<u8>| u32::from_be_bytes(d[..4].try_into().unwrap()) / 40 == *train;
            (1..40).contains(&got.iter().filter(in_train).count())
        });
        assert!(trains_hurt.count() > 45, "trains must not live or die as one");
    }
}

fn corruption_flips_one_bit() {
    let faults = Faults { corrupt: 1.0, ..Faults::default() };
    let (sent, got, counts) = run(&[(30, 100)], &faults, true);
    assert_eq!((counts.corrupted, got.len()), (30, 30));
    for (sent, got) in sent.iter().zip(&got) {
        let flipped: u32 = sent.iter().zip(got).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
    }
}

fn truncation_takes_the_end() {
    let faults = Faults { truncate: 1.0, ..Faults::default() };
    let (sent, got, counts) = run(&[(30, 100)], &faults, false);
    assert_eq!((counts.truncated, got.len()), (30, 30));
    for (sent, got) in sent.iter().zip(&got) {
        assert!(got.len() < sent.len() && sent.starts_with(got));
    }
}

fn reordered_are_passed_by_eight_at_most() {
    let faults = Faults { reorder: 0.1, seed: 3, ..Faults::default() };
    let (sent, got, counts) = run(&[(40, 100); 10], &faults, true);
    assert_eq!(multiset(&got), multiset(&sent));
    assert_ne!(got, sent);
    assert!(counts.reordered > 10, "{counts:?}");
    let order: Vec<_> = got.iter().map(|d| u32::from_be_bytes(d[..4].try_into().unwrap())).collect();
    for (place, number) in order.iter().enumerate() {
        let passed_by = order[..place].iter().filter(|&earlier| earlier > number).count();
        // Besides those that pass by its own count: held ones let go together with it.
        assert!(passed_by <= 16, "{number} was passed by {passed_by}");
    }
}

fn last_reordered_datagram_is_not_kept_for_ever() {
    let faults = Faults { reorder: 1.0, ..Faults::default() };
    let (sent, got, counts) = run(&[(1, 100)], &faults, true);
    assert_eq!(got, sent);
    assert_eq!(counts.reordered, 1);
}

fn delay_holds_and_next_due_says_how_long() {
    let delay = Duration::from_millis(3)..=Duration::from_millis(3);
    let faults = Faults { delay, ..Faults::default() };
    let mut sender = Faulty::each_way(bound(), faults, Faults::default());
    let mut receiver = bound();
    let mut into = [0; 100];
    assert_eq!(sender.next_due(), None);
    sender.transmit(&Transmit::single(receiver.local_addr(), b"late")).unwrap();
    let due = sender.next_due().expect("something is held");
    assert!(due <= Duration::from_millis(3));
    let silent = poll::wait_readable(&[sender.fds()], Some(due)).unwrap();
    assert!(!silent.any());
    assert_eq!(sender.receive(&mut into).unwrap(), None);
    assert_eq!(receiver.receive(&mut into).unwrap().map(|got| got.len), Some(4));
    assert_eq!(sender.next_due(), None);
    assert_eq!(sender.tally().transmitted().delayed, 1);
}

fn unread_datagrams_of_a_train_are_due_at_once() {
    let asks = Options { report_tos: true, ..Options::default() };
    let inner = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &asks).unwrap();
    let (mut sender, mut receiver) = (bound(), Faulty::new(inner, Faults::default()));
    let to = receiver.local_addr();
    sender.transmit(&Transmit { to, bytes: &[1; 100], segment: 10, tos: Some(4) }).unwrap();
    let mut into = [0; 6];
    let got = receiver.receive(&mut into).unwrap().unwrap();
    assert_eq!((got.from, got.len, got.tos, got.truncated), (sender.local_addr(), 6, 4, true));
    // The socket is silent now, yet nine wait.
    assert_eq!(receiver.next_due(), Some(Duration::ZERO));
    assert_eq!(drain_now(&mut receiver).len(), 9);
    assert_eq!(receiver.next_due(), None);
}

fn refusals_reach_the_caller_and_the_counts() {
    let mut sender = Faulty::new(bound(), Faults::default());
    let to = sender.local_addr();
    let result = sender.transmit(&Transmit::single(to, &[0; 65_530]));
    assert!(matches!(result, Err(SendError::TooBig)), "{result:?}");
    assert_eq!(sender.tally().transmitted().refused, 1);
    assert_eq!(sender.next_due(), None);
}

/// A backend that is full every other time.
struct Stubborn(Box<dyn Datagrams>, bool);

impl Datagrams for Stubborn {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.1 = !self.1;
        if self.1 { self.0.transmit(train) } else { Err(SendError::WouldBlock { sent: 0 }) }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        self.0.receive(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.0.fds()
    }
}

fn full_backend_keeps_datagrams_for_later() {
    let mut sender = Faulty::new(Stubborn(bound(), false), Faults::default());
    let mut receiver = bound();
    let (bytes, to) = (vec![5; 1000 * 6], receiver.local_addr());
    let train = Transmit { to, bytes: &bytes, segment: 1000, tos: None };
    // The first passes, the rest is kept; while something is, nothing else is taken.
    sender.transmit(&train).unwrap();
    assert!(sender.next_due().is_some());
    let refused = sender.transmit(&Transmit::single(to, b"later"));
    assert!(matches!(refused, Err(SendError::WouldBlock { sent: 0 })));
    assert_eq!(drain(&mut sender, &mut receiver).concat(), bytes);
}

/// All that happened to `count` datagrams, by numbers only.
fn story(seed: u64, count: usize) -> (Vec<Vec<u8>>, Counts) {
    let faults =
        Faults { loss: 0.1, reorder: 0.1, duplicate: 0.1, corrupt: 0.1, truncate: 0.1, seed, ..Faults::default() };
    // Lengths are told apart by content, so the multiset tells the story; the order depends on the clock by a little.
    let (_, mut got, counts) = run(&vec![(8, 64); count / 8], &faults, true);
    got.sort();
    (got, counts)
}

fn one_seed_tells_one_story() {
    assert_eq!(story(1, 400), story(1, 400));
    assert_ne!(story(1, 400), story(2, 400));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is reordered, duplicated and delayed: each datagram arrives, and copies are accounted for.
    #[test]
    fn nothing_vanishes_without_loss(
        lens in prop::collection::vec((1_usize..40, 4_usize..1200), 1..12),
        reorder in 0.0..1.0_f64,
        duplicate in prop_oneof![Just(0.0), 0.0..1.0_f64],
        delay_us in (0_u64..200, 0_u64..400),
        seed: u64,
        is_out: bool,
    ) {
        let delay = Duration::from_micros(delay_us.0)..=Duration::from_micros(delay_us.0 + delay_us.1);
        let faults = Faults { reorder, duplicate, delay, seed, ..Faults::default() };
        let (sent, got, counts) = run(&lens, &faults, is_out);
        prop_assert_eq!(got.len() as u64, counts.seen + counts.duplicated);
        let (sent, got) = (multiset(&sent), multiset(&got));
        prop_assert!(sent.keys().eq(got.keys()));
        prop_assert!(sent.iter().all(|(bytes, count)| (*count..=2 * count).contains(&got[bytes])));
        if duplicate == 0.0 {
            prop_assert_eq!(sent, got);
        }
    }
}

over_each_backend!(
    without_faults_nothing_changes,
    losses_are_counted_and_independent_within_a_train,
    corruption_flips_one_bit,
    truncation_takes_the_end,
    reordered_are_passed_by_eight_at_most,
    last_reordered_datagram_is_not_kept_for_ever,
    delay_holds_and_next_due_says_how_long,
    unread_datagrams_of_a_train_are_due_at_once,
    refusals_reach_the_caller_and_the_counts,
    full_backend_keeps_datagrams_for_later,
    one_seed_tells_one_story,
);

#[test]
fn nothing_passes_a_wire_that_is_cut() {
    let (cut, mut other) = (Cut::default(), bound());
    let mut wire = cut.wrap()(bound());
    let at = [wire.local_addr(), other.local_addr()];
    let send =
        |from: &mut dyn Datagrams, to| from.transmit(&Transmit { to, bytes: b"one", segment: 3, tos: None }).unwrap();
    for arrive in [1, 0] {
        send(&mut *wire, at[1]);
        assert_eq!(drain(&mut *wire, &mut *other).len(), arrive);
        send(&mut *other, at[0]);
        assert_eq!(drain(&mut *other, &mut *wire).len(), arrive);
        cut.cut();
    }
}
