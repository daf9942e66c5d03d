//! The key schedule and the bytes that it leads to, against bytes that were made from the specification by other code: the
//! wire cannot drift unnoticed. And control packets, whose clear bytes are covered.

mod common;

use common::{CRYPTO, SECRET, body, hex, outbound, trailer};
use record::aead::{Cipher, Crypto};
use record::budget::Limits;
use record::epochs::{Opening, Sealing};
use record::error::OpenError;
use record::keys::{Chain, ControlKey, Secret, expand_label};
use record::lanes::LaneSecrets;
use record::open::{open_control, open_in_place};
use record::seal::{Ids, Message, seal_control};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::record_at;
use wire::header::{Header, PacketType};
use wire::ids::{RpcId, SessionId, Side};
use wire::trailer::Kind;

fn expand(secret: &Secret, label: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    expand_label(&CRYPTO, secret, label, b"", &mut out);
    out
}

fn traffic(side: Side) -> Secret {
    let label: &[u8] = if side == Side::Client { b"c traffic" } else { b"s traffic" };
    Secret::new(expand(&Secret::new(SECRET), label, 32).try_into().unwrap())
}

fn header() -> Header {
    let session = SessionId::from_u64(0x8877_6655_4433_2211);
    Header { kind: PacketType::Control, flags: 0, epoch: 0, priority: 7, steer: 0x0102, segment: 0x30, session }
}

fn frames() -> Vec<u8> {
    let mut bytes = vec![0; Frame::LEN_MAX];
    let mut w = Writer::new(&mut bytes);
    Frame::Ack { rpc: RpcId::new(Side::Client, 5) }.emit(&mut w);
    Frame::Done.emit(&mut w);
    let len = w.len();
    bytes.truncate(len);
    bytes
}

fn control(key: &ControlKey, number: u64) -> Vec<u8> {
    let mut out = vec![0; 100];
    let len = seal_control(key, number, &header(), &frames(), &mut out);
    out.truncate(len);
    out
}

/// [P-9.3] The secret of each lane is its own, and none is the session's.
#[test]
fn secrets_of_lanes() {
    let session = Secret::new(SECRET);
    let lanes = LaneSecrets::new(&CRYPTO, &session);
    let root = Secret::new(expand(&session, b"lanes", 32).try_into().unwrap());
    let mut seen = std::collections::BTreeSet::from([SECRET]);
    for (client, server) in [(0, 0), (0, 1), (1, 0), (1, 1), (255, 0), (255, 255)] {
        let mut expected = [0; 32];
        expand_label(&CRYPTO, &root, b"lane", &[client, server], &mut expected);
        assert_eq!(*lanes.lane(&CRYPTO, client, server).expose(), expected);
        assert!(seen.insert(expected), "{client} {server}");
    }
}

/// [P-6.3] [P-1.2] HKDF-Expand-Label is that of TLS 1.3 with the prefix of this version.
#[test]
fn labels_are_spelled_out() {
    let version = wire::limits::VERSION;
    let label = format!("sealane{version} data key");
    let info = [&[0, 16, label.len() as u8][..], label.as_bytes(), &[0]].concat();
    let mut expected = [0; 16];
    CRYPTO.hkdf_expand(&SECRET, &info, &mut expected);
    assert_eq!(expand(&Secret::new(SECRET), b"data key", 16), expected);
}

/// [P-6.3] All keys and IVs of both directions, and the next epoch's, from one secret.
#[test]
fn keys_are_as_they_were() {
    let expected = [
        // traffic, data key of 16 bytes, of 32, data iv, ctl key of 16 bytes, ctl iv, next epoch
        CLIENT_KEYS,
        SERVER_KEYS,
    ];
    for (side, expected) in [Side::Client, Side::Server].into_iter().zip(expected) {
        let traffic = traffic(side);
        let labels: [(&[u8], usize); 6] =
            [(b"data key", 16), (b"data key", 32), (b"data iv", 12), (b"ctl key", 16), (b"ctl iv", 12), (b"epoch", 32)];
        let derived: Vec<String> = labels.iter().map(|(label, len)| hex(&expand(&traffic, label, *len))).collect();
        assert_eq!(hex(traffic.expose()), expected[0]);
        assert_eq!(derived, expected[1..], "{side:?}");
    }
}

/// [P-4.1] [P-6.3] A sealed record, byte for byte, with each cipher.
#[test]
fn a_record_is_as_it_was() {
    for (cipher, expected) in Cipher::ALL.into_iter().zip(RECORDS) {
        let acks = [RpcId::new(Side::Server, 7)];
        let trailer = wire::trailer::Trailer { unscheduled: 3, floor_distance: 0, ..trailer(Kind::Request, 20, 20) };
        let mut message = Message::freeze(Ids::new(Side::Client).take().unwrap(), body(20), trailer, &acks);
        let chain = Chain::new(&CRYPTO, &Secret::new(SECRET), cipher, Side::Client);
        let mut record = vec![0; message.record_len(0)];
        let mut keys = outbound(cipher, Side::Client);
        message.bind(&mut keys).unwrap();
        message.seal(&keys, 0, &mut record);
        assert_eq!(hex(&record), expected, "{cipher}");
        let view = record_at(&record, 0).unwrap();
        assert!(open_in_place(&Opening::new(&CRYPTO, &chain).data, &mut record, &view).is_ok());
    }
}

/// [P-5.3] [P-6.3] A sealed control packet, byte for byte, with each cipher.
#[test]
fn a_control_packet_is_as_it_was() {
    for (cipher, expected) in Cipher::ALL.into_iter().zip(CONTROLS) {
        let chain = Chain::new(&CRYPTO, &Secret::new(SECRET), cipher, Side::Server);
        let packet = control(&chain.control_key(&CRYPTO), 0x0102_0304);
        assert_eq!(hex(&packet), expected, "{cipher}");
    }
}

/// [P-5.3] A control packet opens to its frames; not one of its bits can be changed, the clear ones included, and it opens
/// under its own number and key only.
#[test]
fn control_packets_are_covered_whole() {
    for cipher in Cipher::ALL {
        let chain = Chain::new(&CRYPTO, &Secret::new(SECRET), cipher, Side::Client);
        let key = chain.control_key(&CRYPTO);
        let packet = control(&key, 9);
        let mut good = packet.clone();
        let range = open_control(&key, 9, &mut good).unwrap();
        assert_eq!(good[range], frames());
        for bit in 0..8 * packet.len() {
            let mut forged = packet.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_control(&key, 9, &mut forged), Err(OpenError::Tag), "bit {bit}");
        }
        assert_eq!(open_control(&key, 8, &mut packet.clone()), Err(OpenError::Tag));
        for len in 0..packet.len() {
            assert_eq!(open_control(&key, 9, &mut packet[..len].to_vec()), Err(OpenError::Tag), "{len} bytes");
        }
        let other = Chain::new(&CRYPTO, &Secret::new(SECRET), cipher, Side::Server).control_key(&CRYPTO);
        assert_eq!(open_control(&other, 9, &mut packet.clone()), Err(OpenError::Tag));
    }
}

/// Each epoch has keys of its own, which are those of who follows the chain at the other end, and a budget of its own. [P-6.7]
#[test]
fn epochs_have_their_own_keys() {
    let secret = Secret::new(SECRET);
    let (mut ours, mut theirs) = (
        Chain::new(&CRYPTO, &secret, Cipher::Aes128Gcm, Side::Client),
        Chain::new(&CRYPTO, &secret, Cipher::Aes128Gcm, Side::Client),
    );
    let mut before: Vec<Vec<u8>> = Vec::new();
    for epoch in 0..5 {
        let mut sealing = Sealing::new(&CRYPTO, &ours, Limits::PROTOCOL);
        assert_eq!((ours.epoch(), sealing.epoch()), (epoch, epoch));
        assert_eq!((sealing.budget().blocks(), sealing.next_control().unwrap().1), (0, 0));
        assert_eq!(sealing.lease(1, 16).unwrap().epoch(), epoch);
        assert_eq!((sealing.budget().blocks(), sealing.budget().records()), (3, 1));
        let packet = control(&ours.control_key(&CRYPTO), 0);
        let opening = Opening::new(&CRYPTO, &theirs);
        assert!(open_control(&opening.control, 0, &mut packet.clone()).is_ok());
        for old in &before {
            assert_eq!(open_control(&opening.control, 0, &mut old.clone()), Err(OpenError::Tag));
        }
        before.push(packet);
        ours.advance(&CRYPTO);
        theirs.advance(&CRYPTO);
    }
}

/// Nothing of a key is printed, by any type that has one.
#[test]
fn nothing_prints_a_key() {
    let chain = Chain::new(&CRYPTO, &Secret::new(SECRET), Cipher::Aes128Gcm, Side::Client);
    let printed = format!(
        "{:?} {:?} {:?} {:?}",
        Secret::new(SECRET),
        chain,
        Sealing::new(&CRYPTO, &chain, Limits::PROTOCOL),
        Opening::new(&CRYPTO, &chain)
    );
    assert!(printed.starts_with("Secret(..) Chain"), "{printed}");
    let numbers: Vec<&str> = printed.split(|c: char| !c.is_ascii_digit()).filter(|part| part.len() > 1).collect();
    // The cipher's name, and the limits of the budget.
    assert!(
        numbers.iter().all(|n| ["128", "4294967296", "17179869184", "67108864", "268435456"].contains(n)),
        "{printed}"
    );
}

const CLIENT_KEYS: [&str; 7] = [
    "99745996c5d9c7eb26a532924e8eb62ce021f69c8a8fe846371066bc076282aa",
    "84f3e79d661f0548277244d0f8bfa3e1",
    "dc5c8d6fed31f0b022fed74de6a0b9a2295ab58efd13e47006d3aa9ea25bf9fa",
    "76e52f7c34bc6f0010dd5080",
    "88aa919a02b52e52766172ef1cadd349",
    "8b19669ab847cdc4a160117a",
    "3d28d5469dbc902c36b68c0f32a3522143c23f6673fbce7066e15df4de1cb025",
];
const SERVER_KEYS: [&str; 7] = [
    "52d29d6203cfb376f4735340f74f894212b3ce043606acba92ddc6c73ec329ac",
    "9cd229cd88bb3266b463d0599922f8ac",
    "f85086ad4df649a6e5fd28e0f4b7d7e959cde26a9c45e4d37df8294e34d3e680",
    "ce31eda4932e3242d6895928",
    "d31dff3a7153bea888347a8dcf3dd8ad",
    "1a477d82647f22a4d4e7fef0",
    "c92862b42d0d6d53d3b1d76263ddafa30ca713ffd2807e10e57a972aaf543c1d",
];
const RECORDS: [&str; 3] = [
    "170303004200000000000000005902be1651d69a4b1dc635dd48f6a0843cdd38291111d718ad91842bd39063e982efb90dc782f86b61ad5d50e72e36dbb8e530bec4ab6b9bc4e3",
    "1703030042000000000000000081f363c1d326fd9fa4f41fdfa72505b995e074675d852bbaf69f5e1c7e2ae0e4161fa51bc4245ff21a1c4c184e147af1b90f4101ffdbebd3b8b5",
    "1703030042000000000000000048db2f2c3faa8fcc7f0da251f72b150bcdc467d04ad1a237c507c78e494c6086dbdbc90d56da880dafd4728254e8e1c9924786c3740bded2cd20",
];
const CONTROLS: [&str; 3] = [
    "120000070102003088776655443322110000000001020304206591af9365dace3bb56234cf56d8f03f6b8c4621983e61",
    "120000070102003088776655443322110000000001020304e2f238b737838d3bb3351b645e8cafea739aa8bcf2216521",
    "12000007010200308877665544332211000000000102030486cfb64465f28edae2178d4ef3cf0d2b1f582ee6349382cb",
];
