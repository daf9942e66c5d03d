//! Captures of every kind are read; what is none, or ends in the middle, is refused with a word on what and where; nothing panics.

use capture::analyze::{Analyzer, Options};
use capture::error::Error;
use capture::file::{Reader, Writer};
use capture::frame::{Datagram, Framed, Link, read, write_ethernet};
use capture::generate::{Plan, generate};
use capture::keys::KeyLog;
use proptest::prelude::*;
use record::aead::Cipher;

const NS: u64 = 1_700_000_000_123_456_789;

fn number(big: bool, value: u32) -> [u8; 4] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn half(big: bool, value: u16) -> [u8; 2] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn pcap(big: bool, nanos: bool, link: u32, packet: &[u8]) -> Vec<u8> {
    let n = |value| number(big, value);
    let magic = if nanos { 0xa1b2_3c4d } else { 0xa1b2_c3d4 };
    let fraction = if nanos { NS % 1_000_000_000 } else { NS % 1_000_000_000 / 1000 };
    let len = packet.len() as u32;
    let version = [half(big, 2), half(big, 4)].concat();
    [n(magic).to_vec(), version, [n(0), n(0), n(65_535), n(link)].concat()]
        .concat()
        .into_iter()
        .chain([n((NS / 1_000_000_000) as u32), n(fraction as u32), n(len), n(len)].concat())
        .chain(packet.iter().copied())
        .collect()
}

fn block(big: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let len = number(big, padded as u32 + 12);
    let mut block = [number(big, kind), len].concat();
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(len);
    block
}

fn pcapng(big: bool, nanos: bool, link: u16, packet: &[u8]) -> Vec<u8> {
    let n = |value| number(big, value);
    let section = [&n(0x1a2b_3c4d)[..], &half(big, 1), &half(big, 0), &[0xff; 8]].concat();
    let mut interface = [&half(big, link)[..], &[0, 0], &n(0)].concat();
    if nanos {
        interface.extend([&half(big, 9)[..], &half(big, 1), &[9, 0, 0, 0], &[0; 4]].concat());
    }
    let time = if nanos { NS } else { NS / 1000 };
    let len = packet.len() as u32;
    let body = [&n(0)[..], &n((time >> 32) as u32), &n(time as u32), &n(len), &n(len), packet].concat();
    let blocks = [
        block(big, 0x0a0d_0d0a, &section),
        block(big, 1, &interface),
        block(big, 0x777, b"unknown"),
        block(big, 6, &body),
    ];
    blocks.concat()
}

/// A datagram behind each kind of link's header.
fn links(v6: bool) -> Vec<(u32, Vec<u8>)> {
    let (from, to) = if v6 { ("[fd00::1]:7", "[fd00::2]:8") } else { ("10.0.0.1:7", "10.0.0.2:8") };
    let mut ethernet = Vec::new();
    write_ethernet(from.parse().unwrap(), to.parse().unwrap(), b"payload", &mut ethernet);
    let (ip, kind) = (ethernet[14..].to_vec(), ethernet[12..14].to_vec());
    let tagged = [&ethernet[..12], &[0x81, 0, 0, 5], &kind, &ip].concat();
    let cooked2 = [&kind[..], &[0; 18], &ip].concat();
    vec![
        (1, ethernet.clone()),
        (1, tagged),
        (101, ip.clone()),
        (12, ip.clone()),
        (0, [&[2, 0, 0, 0][..], &ip].concat()),
        (108, [&[0, 0, 0, 2][..], &ip].concat()),
        (113, [&[0; 14][..], &kind, &ip].concat()),
        (276, cooked2),
    ]
}

#[test]
fn every_kind_is_read() {
    for v6 in [false, true] {
        for (link, packet) in links(v6) {
            for (big, nanos) in [(false, false), (false, true), (true, false), (true, true)] {
                for file in [pcap(big, nanos, link, &packet), pcapng(big, nanos, link as u16, &packet)] {
                    let mut reader = Reader::new(&file[..]).unwrap();
                    let found = reader.next().unwrap().expect("a packet");
                    assert_eq!(found.time_ns, if nanos { NS } else { NS / 1000 * 1000 });
                    assert_eq!((found.bytes, found.original_len as usize), (&packet[..], packet.len()));
                    let Framed::Udp(Datagram { from, to, payload }) = read(found.link, found.bytes) else {
                        panic!("link {link}: {found:?}")
                    };
                    assert_eq!((from.port(), to.port(), payload), (7, 8, &b"payload"[..]));
                    assert!(reader.next().unwrap().is_none() && reader.bytes_read() == file.len() as u64);
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_is_named() {
    let error = |bytes: &[u8]| {
        let mut reader = match Reader::new(bytes) {
            Ok(reader) => reader,
            Err(error) => return error.to_string(),
        };
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => return String::new(),
                Err(error) => return error.to_string(),
            }
        }
    };
    let packet = &links(false)[0].1;
    assert!(error(b"").contains("not a capture"));
    assert!(error(b"GIF89a").contains("not a capture: it begins with [47, 49, 46, 38]"));
    assert!(error(&pcap(false, true, 147, packet)).starts_with("link type 147 is not read"));
    assert!(error(&pcapng(true, true, 147, packet)).starts_with("link type 147 is not read"));
    for whole in [pcap(false, true, 1, packet), pcapng(false, true, 1, packet)] {
        let cut = whole.len() - 5;
        assert!(error(&whole[..cut]).contains(&format!("truncated: it ends at byte {cut}, in the middle of a")));
    }
    let mut long = pcap(false, true, 1, packet);
    long[24 + 8..24 + 12].fill(0xff);
    assert!(error(&long).contains("damaged: a packet longer than any at byte 24"));
}

#[test]
fn key_logs() {
    assert!(matches!(KeyLog::parse("CLIENT_RANDOM 00 00\n"), Err(Error::KeyLogEmpty)));
    let bad = KeyLog::parse("# comment\nSEALANE_SESSION_SECRET 00 11\n").unwrap_err();
    assert_eq!(bad.to_string(), "key log, line 2: its client random is not 64 hexadecimal digits");
    let (random, secret) = ("ab".repeat(32), "cd".repeat(31));
    let bad = KeyLog::parse(&format!("SEALANE_SESSION_SECRET {random} {secret}")).unwrap_err();
    assert!(bad.to_string().contains("its secret"));
}

/// Reads and analyses whatever it is.
fn swallow(bytes: &[u8], keys: Option<&str>) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let key_log = keys.map(|keys| KeyLog::parse(keys).unwrap());
    let mut analyzer = Analyzer::new(Options { key_log, followed: 3, port: None });
    while let Ok(Some(packet)) = reader.next() {
        analyzer.packet(&packet);
    }
    analyzer.finish();
}

fn made(seed: u64) -> (String, Vec<u8>) {
    let plan = Plan {
        packets: 60,
        flows: 3,
        gap_rate: 0.1,
        reorder: 0.1,
        dup: 0.1,
        replay: 0.1,
        retransmit: 0.1,
        seed,
        cipher: Cipher::Aes128Gcm,
        mtu: 1280,
        spanning_records: false,
    };
    let (_, keys, file) = generate(&plan, Vec::new()).unwrap();
    (keys, file)
}

/// A capture of these payloads of one sender, with their times.
fn captured(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), Link::Ethernet).unwrap();
    for (time_ns, payload) in packets {
        let mut frame = Vec::new();
        write_ethernet("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), payload, &mut frame);
        writer.packet(*time_ns, &frame).unwrap();
    }
    writer.finish().unwrap()
}

/// CONTROL packets may bear any number: the lowest and the highest that there are, in each epoch.
#[test]
fn numbers_of_control_packets_from_end_to_end() {
    let control = |epoch: u8, number: u64| {
        let mut packet = vec![0x12, 0, epoch, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
        packet.extend(number.to_be_bytes());
        packet.extend([0; 32]);
        (1, packet)
    };
    let file = captured(&(0..8).flat_map(|epoch| [control(epoch, 0), control(epoch, u64::MAX)]).collect::<Vec<_>>());
    let mut analyzer = Analyzer::new(Options::default());
    let mut reader = Reader::new(&file[..]).unwrap();
    while let Some(packet) = reader.next().unwrap() {
        analyzer.packet(&packet);
    }
    analyzer.finish();
    assert_eq!((analyzer.counts().control, analyzer.counts().control_missing), (16, u64::MAX));
}

#[test]
fn a_section_has_so_many_interfaces_and_no_more() {
    let mut file = pcapng(false, true, 1, &links(false)[0].1);
    let one = block(false, 1, &[half(false, 1).as_slice(), &[0, 0], &number(false, 0)].concat());
    file.extend(one.repeat(1 << 16));
    let mut reader = Reader::new(&file[..]).unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap_err().to_string().contains("one interface more than any machine has"));
}

proptest! {
    #[test]
    fn garbage_is_swallowed(start in prop::sample::select(vec![0xa1b2_c3d4u32, 0xa1b2_3c4d, 0x0a0d_0d0a, 0]), big in any::<bool>(), rest in prop::collection::vec(any::<u8>(), 0..400)) {
        swallow(&[&number(big, start)[..], &rest].concat(), None);
    }

    #[test]
    fn a_capture_with_bytes_changed_is_swallowed(seed in 0u64..8, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30), cut in any::<prop::sample::Index>()) {
        let (keys, mut file) = made(seed);
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        swallow(&file, Some(&keys));
        swallow(&file[..cut.index(file.len())], None);
    }

    #[test]
    fn any_packet_is_swallowed(link in prop::sample::select(vec![Link::Ethernet, Link::Raw, Link::Null, Link::Cooked1, Link::Cooked2]), bytes in prop::collection::vec(any::<u8>(), 0..120), first in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(link, &bytes);
        let mut payload = payload;
        payload.insert(0, 0x10 | (first % 6));
        let mut frame = Vec::new();
        write_ethernet("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), &payload, &mut frame);
        let mut writer = Writer::new(Vec::new(), Link::Ethernet).unwrap();
        writer.packet(1, &frame).unwrap();
        swallow(&writer.finish().unwrap(), None);
    }
}
