//! Published tickets as texts: what is written is read, and each reason not to believe one has its own name. [P-6.10]
#![cfg(feature = "tls")]

mod common;

use std::time::Duration;

use common::TODAY;
use common::pki::Ca;
use handshake::config::Trust;
use handshake::error::Error;
use handshake::identity::{Identity, PeerIdentity};
use handshake::limits::{PUBLISHED_BACKDATED, PUBLISHED_LIFETIME};
use handshake::published::{Damage, Invalid, Publisher, TEXT_MAX, TXT_STRING_MAX, Ticket};
use proptest::prelude::*;
use record::aead::Cipher;
use wire::ids::Side;

fn publisher(identity: &Identity) -> Publisher {
    Publisher::new(identity, &[Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305], PUBLISHED_LIFETIME, 10)
}

fn ticket(identity: &Identity) -> Ticket {
    publisher(identity).ticket(TODAY).unwrap()
}

/// [P-6.10] One text, one ticket: with other text around it, in DNS strings, cut into lines or not.
#[test]
fn written_and_read() {
    let ca = Ca::new();
    let ticket = ticket(&ca.issue(&["a.example"]));
    let text = ticket.to_text();
    assert!(text.lines().all(|line| line.len() <= 64));
    assert_eq!(Ticket::from_text(&text).unwrap(), ticket);
    assert_eq!(Ticket::from_text(&format!("# of today\n{}\n# end", text.replace('\n', "\r\n"))).unwrap(), ticket);
    assert_eq!(Ticket::decode(ticket.as_bytes()).unwrap(), ticket);
    let strings = ticket.to_txt();
    assert!(strings.len() > 1 && strings.iter().all(|string| string.len() <= TXT_STRING_MAX));
    assert_eq!(Ticket::from_txt(&strings).unwrap().unwrap(), ticket);
    assert_eq!(Ticket::from_txt(["v=spf1 -all"]), None);
    let verified = ticket.clone().verify(&ca.trust(), "a.example", TODAY).unwrap();
    assert!(matches!(verified.identity(), PeerIdentity::Certificate(_)));
    assert_eq!(verified.id(), ticket.id());
    assert!(ticket.takes(Cipher::Aes128Gcm) && !ticket.takes(Cipher::Aes256Gcm));
}

/// [P-6.10] Texts that are damaged, each in its own way.
#[test]
fn damaged() {
    let ticket = ticket(&Ca::new().issue(&["a.example"]));
    let text = ticket.to_text();
    let read = |text: &str| Ticket::from_text(text).unwrap_err();
    assert_eq!(read(""), Damage::NoBlock);
    assert_eq!(read(text.split_once("-----END").unwrap().0), Damage::NoBlock);
    assert_eq!(read(&text.repeat(2)), Damage::Several);
    assert_eq!(read(&text.replacen("\nA", "\n!", 1)), Damage::Base64);
    assert_eq!(read(&" ".repeat(TEXT_MAX + 1)), Damage::TooLong);
    let mut bytes = ticket.as_bytes().to_vec();
    bytes[0] = 2;
    assert_eq!(Ticket::decode(&bytes), Err(Damage::Version(2)));
    bytes[0] = 1;
    bytes[2] ^= 1;
    assert_eq!(Ticket::decode(&bytes), Err(Damage::Suite));
    bytes[2] ^= 1;
    for cut in 0..bytes.len() {
        assert!(Ticket::decode(&bytes[..cut]).is_err());
    }
    bytes.push(0);
    assert_eq!(Ticket::decode(&bytes), Err(Damage::Layout));
}

/// [P-6.10] Each check fails by its own name: time, issuer, name, certificate's time, revocation, signature.
#[test]
fn refused() {
    let (ca, other) = (Ca::new(), Ca::named("two"));
    let good = ticket(&ca.issue(&["a.example"]));
    let judge =
        |ticket: &Ticket, trust: &Trust, name: &str, now: u64| ticket.clone().verify(trust, name, now).map(drop);
    let (start, end) = (good.not_before(), good.not_after());
    assert_eq!((start, end), (TODAY - PUBLISHED_BACKDATED.as_secs(), start + PUBLISHED_LIFETIME.as_secs()));
    assert_eq!(judge(&good, &ca.trust(), "a.example", end - 1), Ok(()));
    assert_eq!(judge(&good, &ca.trust(), "a.example", end + 5), Err(Invalid::Expired { seconds: 5 }));
    assert_eq!(judge(&good, &ca.trust(), "a.example", end), Err(Invalid::Expired { seconds: 0 }));
    assert_eq!(judge(&good, &ca.trust(), "a.example", start - 7), Err(Invalid::NotYetValid { seconds: 7 }));
    let untrusted = Err(Invalid::Certificate(Error::Untrusted { whose: Side::Server }));
    assert_eq!(judge(&good, &other.trust(), "a.example", TODAY), untrusted);
    let name = judge(&good, &ca.trust(), "b.example", TODAY).unwrap_err();
    let presented = vec!["a.example".to_owned()];
    assert_eq!(name, Invalid::Certificate(Error::WrongName { wanted: "b.example".into(), presented }));
    let none = judge(&good, &ca.trust(), "no name!", TODAY).unwrap_err();
    assert!(matches!(none, Invalid::Certificate(Error::ServerName { .. })));
    let nobody = judge(&good, &Trust::nobody(), "a.example", TODAY).unwrap_err();
    assert!(matches!(nobody, Invalid::Certificate(Error::NothingTrusted { .. })));
    // A time that no publisher states, whoever signed it.
    let mut long = good.as_bytes().to_vec();
    long[16..24].copy_from_slice(&(end + 1).to_be_bytes());
    let long = judge(&Ticket::decode(&long).unwrap(), &ca.trust(), "a.example", TODAY);
    assert_eq!(long, Err(Invalid::TooLong { seconds: PUBLISHED_LIFETIME.as_secs() + 1 }));
    for (identity, expired) in [(ca.expired(&["a.example"]), true), (ca.future(&["a.example"]), false)] {
        match judge(&ticket(&identity), &ca.trust(), "a.example", TODAY).unwrap_err() {
            Invalid::Certificate(Error::Expired { .. }) => assert!(expired),
            Invalid::Certificate(Error::NotYetValid { .. }) => assert!(!expired),
            other => panic!("{other:?}"),
        }
    }
    let revoked = ca.issue_with(&["a.example"], |params| params.serial_number = Some(77u64.into()));
    let trust = ca.trust().revoked("list", ca.revoke(&[77], (2040, 1)).as_bytes()).unwrap();
    let why = judge(&ticket(&revoked), &trust, "a.example", TODAY).unwrap_err();
    assert_eq!(why, Invalid::Certificate(Error::Revoked { whose: Side::Server }));
}

/// [P-6.10] No byte can be changed: what is signed is all of it, and the signature is the certificate's owner's.
#[test]
fn every_byte_counts() {
    let ca = Ca::new();
    let good = ticket(&ca.issue(&["a.example"]));
    let (trust, mut signatures) = (ca.trust(), 0);
    for at in 0..good.as_bytes().len() {
        let mut bytes = good.as_bytes().to_vec();
        bytes[at] ^= 1;
        let Ok(changed) = Ticket::decode(&bytes) else { continue };
        let why = changed.verify(&trust, "a.example", TODAY).unwrap_err();
        signatures += u32::from(why == Invalid::Signature);
    }
    assert!(signatures > 100);
    // A chain that is trusted and a signature by somebody else's key.
    let stranger = ticket(&Ca::named("two").issue(&["a.example"]));
    let chain_len = |ticket: &Ticket| u16::from_be_bytes(ticket.as_bytes()[57..59].try_into().unwrap()) as usize;
    let (g, s) = (good.as_bytes(), stranger.as_bytes());
    let joined = [&g[..59 + chain_len(&good)], &s[59 + chain_len(&stranger)..]].concat();
    let why = Ticket::decode(&joined).unwrap().verify(&trust, "a.example", TODAY).unwrap_err();
    assert_eq!(why, Invalid::Signature);
}

/// [P-6.10] Raw public keys sign as well as certificates do (RFC 7250), and are asked for no name.
#[test]
fn raw_keys() {
    let key = rcgen::KeyPair::generate().unwrap();
    let identity = Identity::raw_key("test", key.serialize_pem().as_bytes()).unwrap();
    let trust = Trust::raw_keys("test", &identity.public_key()).unwrap();
    let verified = ticket(&identity).verify(&trust, "whatever", TODAY).unwrap();
    assert!(matches!(verified.identity(), PeerIdentity::RawKey(_)));
    let other = Identity::raw_key("test", rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
    let why = ticket(&other).verify(&trust, "whatever", TODAY).unwrap_err();
    assert_eq!(why, Invalid::Certificate(Error::Untrusted { whose: Side::Server }));
}

/// [P-6.10] A ticket is replaced at half of its time, with a key of its own; three live at once, however often one is asked for, and
/// each until its own time is over.
#[test]
fn renewed() {
    let identity = Ca::new().issue(&["a.example"]);
    let publisher = publisher(&identity);
    let one = publisher.ticket(TODAY).unwrap();
    assert_eq!(publisher.ticket(TODAY + 600).unwrap(), one);
    let half = one.not_after() - PUBLISHED_LIFETIME.as_secs() / 2;
    let two = publisher.ticket(half).unwrap();
    assert_ne!(one.id(), two.id());
    assert!(publisher.knows(one.id(), half) && publisher.knows(two.id(), half));
    // [P-6.12] A clock that is set back makes no key live longer, and no more keys.
    for n in 0..20 {
        publisher.ticket(TODAY - 100_000 * n).unwrap();
    }
    assert_eq!(format!("{publisher:?}"), "Publisher(3 keys, 0 flights)");
    assert!(!publisher.knows(two.id(), two.not_after()));
    // No knob makes one that nobody believes.
    let long = Publisher::new(&identity, &Cipher::ALL, Duration::from_secs(1 << 30), 1).ticket(TODAY).unwrap();
    assert_eq!(long.not_after() - long.not_before(), PUBLISHED_LIFETIME.as_secs());
}

proptest! {
    /// [P-6.10] Any text and any bytes have a meaning or a refusal; and what has a meaning is written as it was read.
    #[test]
    fn any_text(text in "\\PC{0,300}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Ticket::from_text(&text);
        let _ = Ticket::from_txt([&text]);
        let block = format!("-----BEGIN SEALANE TICKET-----\n{text}\n-----END SEALANE TICKET-----");
        let _ = Ticket::from_text(&block);
        let head = [1, 0, 0x20, 0, 1, 0, 1, 7];
        for bytes in [bytes.clone(), [&head[..], &bytes].concat()] {
            if let Ok(ticket) = Ticket::decode(&bytes) {
                prop_assert_eq!(ticket.as_bytes(), &bytes[..]);
                prop_assert_eq!(&Ticket::from_text(&ticket.to_text()).unwrap(), &ticket);
                prop_assert_eq!(&Ticket::from_txt(ticket.to_txt()).unwrap().unwrap(), &ticket);
            }
        }
    }

    /// [P-6.10] Texts survive every layout; any chain, any signature.
    #[test]
    fn round_trip(chain in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 1..4),
                  times in any::<[u64; 2]>(), key in any::<[u8; 32]>(), signature in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = vec![1, 0, 0x20, 0, 1, 0, 1, 7];
        times.iter().for_each(|time| bytes.extend(time.to_be_bytes()));
        bytes.extend(key);
        bytes.push(chain.len() as u8);
        for der in chain.iter() {
            bytes.extend((der.len() as u16).to_be_bytes());
            bytes.extend(der);
        }
        bytes.extend([4, 3]);
        bytes.extend((signature.len() as u16).to_be_bytes());
        bytes.extend(&signature);
        let ticket = Ticket::decode(&bytes).unwrap();
        prop_assert_eq!((ticket.not_before(), ticket.not_after()), (times[0], times[1]));
        prop_assert_eq!(&Ticket::from_text(&ticket.to_text()).unwrap(), &ticket);
        prop_assert_eq!(&Ticket::from_txt(ticket.to_txt()).unwrap().unwrap(), &ticket);
    }
}
