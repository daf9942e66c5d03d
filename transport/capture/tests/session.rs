//! A real session between two sockets is understood from its capture: in clear, and with its key log all of it.

mod common;

use capture::counts::What;
use common::{Fate, SAID, analyze, gentle, real_session, spanning_session};
use sealane::Cipher;

/// Bytes of the long messages: more than is sent without grants.
const LONG: usize = 200_000;

/// Loses one in nine of the packets of data behind the capture, and doubles another.
fn rough(count: u64, bytes: &[u8]) -> usize {
    match (bytes[0], count % 9) {
        (0x11, 4) => 0,
        (0x11, 7) => 2,
        _ => 1,
    }
}

/// Everything opens and verifies, in every epoch and with every cipher; what is asked and answered is there, whole.
#[test]
fn with_a_key_log_all_of_it() {
    for cipher in Cipher::ALL {
        let folder = tempfile::tempdir().unwrap();
        let (capture, keys) = real_session(cipher, gentle, LONG, folder.path());
        let found = analyze(&capture, Some(&keys));
        let (counts, sealed) = (found.analyzer.counts(), found.analyzer.sealed_counts().unwrap());
        assert_eq!((counts.not_sealane, counts.not_udp, counts.cut_short), (0, 0, 0), "{cipher}");
        assert_eq!((sealed.bad_tags, sealed.nonsense, sealed.without_key, sealed.false_lengths), (0, 0, 0, 0));
        assert_eq!(sealed.opened_records, counts.records);
        assert_eq!(sealed.opened_control, counts.control);
        assert!(sealed.opened_bytes >= 2 * SAID.len() as u64 + 2 * 6 * LONG as u64, "{sealed:?}");
        assert!(counts.handshake >= 4 && sealed.grants > 0 && sealed.acks > 0, "{counts:?} {sealed:?}");
        let kinds = |kind| {
            let whole = |row: &&capture::counts::MessageRow| row.complete_ns.is_some();
            let of_kind =
                |row: &&capture::counts::MessageRow| row.told.as_ref().and_then(|told| told.kind) == Some(kind);
            found.rows.iter().filter(of_kind).filter(whole).count()
        };
        assert!(kinds("request") >= 6 && kinds("response") >= 6, "{:?}", found.rows);
        let long = found.rows.iter().filter(|row| row.length == LONG as u32 && row.complete_ns.is_some());
        assert_eq!(long.clone().count(), 12);
        assert!(long.clone().all(|row| row.told.as_ref().unwrap().unscheduled < LONG as u32));
        assert!(found.events.iter().any(|event| event.what == What::Grant));
        assert!(found.analyzer.flows().all(|flow| flow.keys));
    }
}

/// The same without one: as many messages, and nothing that only keys tell.
#[test]
fn in_clear() {
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = real_session(Cipher::Aes128Gcm, gentle, LONG, folder.path());
    let (clear, opened) = (analyze(&capture, None), analyze(&capture, Some(&keys)));
    assert!(clear.analyzer.sealed_counts().is_none());
    let counts = |found: &common::Found| {
        let counts = found.analyzer.counts();
        (counts.data, counts.control, counts.messages, counts.complete, counts.gaps, counts.records)
    };
    assert_eq!(counts(&clear), counts(&opened));
    assert_eq!(clear.analyzer.counts().gaps, 0);
}

/// Records that span packets: with keys all of them open, each slice counting as one of its message's records; without, as many count,
/// copies of slices too, however many a busy machine or a rough network makes the ends send again.
#[test]
fn slices() {
    for (is_rough, fate) in [(false, gentle as Fate), (true, rough)] {
        let folder = tempfile::tempdir().unwrap();
        let (capture, keys) = spanning_session(fate, LONG, folder.path());
        let (clear, opened) = (analyze(&capture, None), analyze(&capture, Some(&keys)));
        let (counts, sealed) = (opened.analyzer.counts(), opened.analyzer.sealed_counts().unwrap());
        assert_eq!((sealed.bad_tags, sealed.nonsense, sealed.without_key, sealed.false_lengths), (0, 0, 0, 0));
        assert!(sealed.opened_bytes >= 2 * 6 * LONG as u64, "{sealed:?}");
        // Most records were opened several at a time.
        assert!(2 * sealed.opened_records < counts.records, "{sealed:?} {counts:?}");
        let long = opened.rows.iter().filter(|row| row.length == LONG as u32 && row.complete_ns.is_some());
        assert_eq!(long.count(), 12);
        let of = |counts: &capture::counts::Counts| {
            (counts.data, counts.control, counts.messages, counts.complete, counts.gaps, counts.records)
        };
        assert_eq!(of(clear.analyzer.counts()), of(counts), "{sealed:?}");
        assert_eq!((counts.gaps, counts.conflicts), (0, 0));
        if is_rough {
            assert!(sealed.resends > 0 && counts.retransmissions > 0 && counts.duplicates > 0, "{counts:?} {sealed:?}");
        }
    }
}

/// A capture that begins when the session is there already: the key is found by trial.
#[test]
fn without_its_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = real_session(Cipher::ChaCha20Poly1305, gentle, LONG, folder.path());
    let mut rest = capture[..24].to_vec();
    let mut at = 24;
    while at < capture.len() {
        let len = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        let packet = &capture[at..at + 16 + len];
        // Behind the headers of Ethernet, IPv4 and UDP.
        if packet[16 + 42] != 0x13 {
            rest.extend(packet);
        }
        at += packet.len();
    }
    let found = analyze(&rest, Some(&keys));
    let (counts, sealed) = (found.analyzer.counts(), found.analyzer.sealed_counts().unwrap());
    assert_eq!((counts.handshake, sealed.bad_tags, sealed.without_key), (0, 0, 0));
    assert_eq!(sealed.opened_records, counts.records);
}

/// What somebody forges in a session's name before its handshake was seen is not opened, and keeps nothing else from being opened.
#[test]
fn forged_before_its_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = real_session(Cipher::Aes128Gcm, gentle, LONG, folder.path());
    let mut at = 24;
    let data = loop {
        let len = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        let packet = &capture[at..at + 16 + len];
        if packet[16 + 42] == 0x11 {
            break packet;
        }
        at += packet.len();
    };
    let mut forged = data.to_vec();
    // In the tag at its end.
    *forged.last_mut().unwrap() ^= 1;
    // Its time is that of the capture's first packet.
    forged[..8].copy_from_slice(&capture[24..32]);
    let file = [&capture[..24], &forged, &forged, &capture[24..]].concat();
    let found = analyze(&file, Some(&keys));
    let (counts, sealed) = (found.analyzer.counts(), found.analyzer.sealed_counts().unwrap());
    assert_eq!(sealed.without_key, 2, "{sealed:?}");
    assert_eq!(sealed.opened_records + 2, counts.records);
}

/// Packets that are lost behind the capture are asked for and sent again; copies that the network makes are copies.
#[test]
fn losses_and_copies() {
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = real_session(Cipher::Aes128Gcm, rough, LONG, folder.path());
    let found = analyze(&capture, Some(&keys));
    let (counts, sealed) = (found.analyzer.counts(), found.analyzer.sealed_counts().unwrap());
    assert_eq!((sealed.bad_tags, sealed.nonsense, sealed.without_key, counts.conflicts), (0, 0, 0, 0));
    assert!(sealed.resends > 0 && counts.retransmissions > 0 && counts.duplicates > 0, "{counts:?} {sealed:?}");
    // All of it was seen before it was lost.
    assert_eq!(counts.gaps, 0, "{counts:?}");
    // What keys tell is only which copies were asked for.
    let clear = analyze(&capture, None);
    let clear = clear.analyzer.counts();
    let again = |counts: &capture::counts::Counts| counts.duplicates + counts.retransmissions + counts.out_of_order;
    assert!(
        again(clear) >= clear.duplicates && clear.retransmissions <= counts.retransmissions,
        "{clear:?} {counts:?}"
    );
}
