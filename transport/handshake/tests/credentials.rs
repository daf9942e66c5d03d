//! Who is believed and how that is shown: key exchanges, revocation lists, raw public keys, several certificates, key logs.
#![cfg(feature = "tls")]

mod common;

use std::sync::{Arc, Mutex};

use common::pki::{Ca, client_config, server_config, world};
use common::{Faults, World};
use handshake::config::{Algorithms, ClientConfig, Clients, ServerConfig, Trust};
use handshake::error::Error;
use handshake::exchange::KeyExchange;
use handshake::identity::{Identity, Name, PeerIdentity};
use handshake::keylog::{KeyLogSink, SESSION_LABEL};
use rcgen::KeyPair;
use record::aead::Cipher;
use wire::ids::Side;

fn exchanges(client: &[KeyExchange], server: &[KeyExchange]) -> World {
    let ca = Ca::new();
    let with = |exchanges| Algorithms { exchanges, ..Algorithms::default() };
    let client = ClientConfig::with(&ca.trust(), None, &with(client)).unwrap();
    let server = ServerConfig::with(&ca.issue(&["localhost"]), Clients::Anonymous, &with(server)).unwrap();
    world(&client, "localhost", &server, 1232)
}

fn agreed(mut world: World) -> Option<KeyExchange> {
    world.run();
    world.assert_agreed();
    let [client, server] = [&world.at_client, &world.at_server].map(|end| end.established.as_ref().unwrap().exchange);
    assert_eq!(client, server);
    client
}

/// [P-6.1] The hybrid is what two ends agree on by default. An end that lacks it gets X25519 without another round trip, and
/// one that lacks both with one.
#[test]
fn key_exchange() {
    let all = &KeyExchange::ALL[..];
    assert_eq!(agreed(exchanges(all, all)), Some(KeyExchange::X25519MlKem768));
    let datagrams = |mut world: World| {
        world.run();
        world.sent[0].len()
    };
    let usual = datagrams(exchanges(all, all));
    for lacking in [&[KeyExchange::X25519][..], &[KeyExchange::Secp256r1], &[KeyExchange::Secp384r1]] {
        assert_eq!(agreed(exchanges(all, lacking)), Some(lacking[0]));
        assert_eq!(agreed(exchanges(lacking, all)), Some(lacking[0]));
        assert_eq!(datagrams(exchanges(all, lacking)) > usual, lacking[0] != KeyExchange::X25519);
    }
    let mut nothing = exchanges(&[KeyExchange::X25519], &[KeyExchange::Secp256r1]);
    nothing.run();
    assert_eq!(nothing.at_server.error, Some(Error::NothingInCommon));
}

/// [P-6.2] The hybrid's ClientHello is longer than a datagram, and comes through all the same where a third of all datagrams
/// is lost.
#[test]
fn long_hello_under_loss() {
    for seed in 0..50 {
        let faults = Faults { loss: 30, duplicate: 10, corrupt: 0, jitter_us: 2000 };
        let world = exchanges(&KeyExchange::ALL, &KeyExchange::ALL).with(faults, seed);
        assert_eq!(agreed(world), Some(KeyExchange::X25519MlKem768));
    }
}

fn errors(mut world: World) -> (Option<Error>, Option<Error>) {
    world.run();
    (world.at_client.error, world.at_server.error)
}

/// Certificates on a list are refused, on both sides; so are those of an issuer without a current list, unless that is
/// allowed. Others pass.
#[test]
fn revocation() {
    let (ca, other) = (Ca::new(), Ca::named("two"));
    let serial = |n: u64| move |p: &mut rcgen::CertificateParams| p.serial_number = Some(n.into());
    let [server, client] = [("localhost", 7), ("client", 8)].map(|(name, n)| ca.issue_with(&[name], serial(n)));
    let foreign = other.issue(&["localhost"]);
    let both = format!("{}{}", ca.pem, other.pem);
    let trust = |list: &str| Trust::pem("ca", both.as_bytes()).unwrap().revoked("list", list.as_bytes()).unwrap();
    let run = |at_client: Trust, at_server: Trust, server: &Identity| {
        let at_client = ClientConfig::new(&at_client, Some(&client), &Cipher::ALL).unwrap();
        let server = ServerConfig::new(server, Clients::Authenticated(&at_server), &Cipher::ALL).unwrap();
        errors(world(&at_client, "localhost", &server, 1400))
    };
    let [none, ours, theirs] = [vec![], vec![7], vec![8]].map(|serials| ca.revoke(&serials, (2030, 1)));
    let (whose, of_client) = (Side::Server, Side::Client);
    assert_eq!(run(trust(&none), trust(&none), &server), (None, None));
    assert_eq!(run(trust(&ours), trust(&none), &server).0, Some(Error::Revoked { whose }));
    assert_eq!(run(trust(&none), trust(&theirs), &server).1, Some(Error::Revoked { whose: of_client }));
    assert_eq!(run(trust(&none), trust(&none), &foreign).0, Some(Error::RevocationUnknown { whose }));
    assert_eq!(run(trust(&none).allow_unknown_revocation(), trust(&none), &foreign), (None, None));
    let stale = ca.revoke(&[], (2026, 6));
    assert_eq!(run(trust(&stale), trust(&none), &server).0, Some(Error::RevocationUnknown { whose }));
    // A list that another authority signed in this one's name says nothing of it.
    let forged = Ca::new().revoke(&[], (2030, 1));
    assert!(run(trust(&forged), trust(&none), &server).0.is_some());
    let nonsense = Trust::pem("ca", both.as_bytes()).unwrap().revoked("list", b"nothing").unwrap_err();
    assert!(matches!(nonsense, Error::RevocationList { .. }), "{nonsense}");
}

fn raw() -> (Identity, Trust) {
    let identity = Identity::raw_key("key", KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
    let trust = Trust::raw_keys("pin", &identity.public_key()).unwrap();
    (identity, trust)
}

/// RFC 7250: both ends show keys instead of certificates and know the other's beforehand. Another key is refused on either
/// side, and so is a certificate where a key is wanted.
#[test]
fn raw_public_keys() {
    let ((server, trust_server), (client, trust_client)) = (raw(), raw());
    let run = |client: &Identity, at_client: &Trust, server: &Identity, at_server: &Trust| {
        let client = ClientConfig::new(at_client, Some(client), &Cipher::ALL).unwrap();
        let server = ServerConfig::new(server, Clients::Authenticated(at_server), &Cipher::ALL).unwrap();
        let mut world = world(&client, "whatever", &server, 1400);
        world.run();
        world
    };
    let world = run(&client, &trust_server, &server, &trust_client);
    world.assert_agreed();
    for (end, key) in [(&world.at_client, &server), (&world.at_server, &client)] {
        let established = end.established.as_ref().unwrap();
        let PeerIdentity::RawKey(shown) = &established.identity else { panic!("{:?}", established.identity) };
        assert_eq!(shown.der(), key.public_key());
        assert!(established.mutual);
    }
    let (stranger, _) = raw();
    let untrusted = |whose| Some(Error::Untrusted { whose });
    assert_eq!(run(&client, &trust_server, &stranger, &trust_client).at_client.error, untrusted(Side::Server));
    assert_eq!(run(&stranger, &trust_server, &server, &trust_client).at_server.error, untrusted(Side::Client));
    let ca = Ca::new();
    let certified = ca.issue(&["localhost"]);
    let mixed = run(&client, &trust_server, &certified, &trust_client);
    assert!(mixed.at_client.error.is_some() && mixed.at_server.established.is_none());
    let mixed = run(&client, &ca.trust(), &server, &trust_client);
    assert!(mixed.at_client.established.is_none(), "a key where a certificate is wanted");
}

/// A list of pins in PEM, and what is no key.
#[test]
fn pins() {
    let keys = [KeyPair::generate().unwrap(), KeyPair::generate().unwrap()];
    let text: String = keys.iter().map(rcgen::KeyPair::public_key_pem).collect();
    assert!(format!("{:?}", Trust::raw_keys("pins", text.as_bytes()).unwrap()).contains("2 raw keys"));
    assert!(matches!(Trust::raw_keys("pins", b"nothing"), Err(Error::NoPublicKey { .. })));
}

/// SNI: of several certificates a client is shown the one with the name that it asks for; one that asks for another name
/// sees the first, and refuses it.
#[test]
fn several_certificates() {
    let ca = Ca::new();
    let [a, b, any] = [["a.example"], ["b.example"], ["*.c.example"]].map(|names| ca.issue(&names));
    let server = server_config(&a.and(b).unwrap().and(any).unwrap(), None);
    for (wanted, shown) in [("a.example", "a.example"), ("b.example", "b.example"), ("x.c.example", "*.c.example")] {
        let mut world = world(&client_config(&ca, None), wanted, &server, 1400);
        world.run();
        world.assert_agreed();
        let established = world.at_client.established.as_ref().unwrap();
        let PeerIdentity::Certificate(certificate) = &established.identity else { panic!() };
        assert_eq!(certificate.names(), [Name::Dns(shown.into())]);
    }
    let refused = errors(world(&client_config(&ca, None), "d.example", &server, 1400)).0;
    assert!(matches!(refused, Some(Error::WrongName { .. })), "{refused:?}");
    let (key, _) = raw();
    assert!(key.and(ca.issue(&["e.example"])).is_err());
}

/// The log has what takes TLS apart and our own secret, from either side alike, and only where it was asked for.
#[test]
fn key_log() {
    let ca = Ca::new();
    let [at_client, at_server] = [(); 2].map(|()| Arc::new(Mutex::new(Vec::<String>::new())));
    let sink = |lines: &Arc<Mutex<Vec<String>>>| {
        let lines = Arc::clone(lines);
        Some(KeyLogSink::new(move |line: &str| lines.lock().unwrap().push(line.into())))
    };
    let client = client_config(&ca, None).danger_key_log(sink(&at_client));
    let server = server_config(&ca.issue(&["localhost"]), None).danger_key_log(sink(&at_server));
    let mut world = world(&client, "localhost", &server, 1400);
    world.run();
    world.assert_agreed();
    let [mut a, mut b] = [at_client, at_server].map(|lines| lines.lock().unwrap().clone());
    a.sort();
    b.sort();
    assert_eq!(a, b);
    let secret = world.at_client.established.as_ref().unwrap().secret.expose();
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let ours = a.iter().find(|line| line.starts_with(SESSION_LABEL)).unwrap();
    assert!(ours.ends_with(&hex));
    assert_eq!(ours.split(' ').count(), 3);
    assert!(a.iter().any(|line| line.starts_with("CLIENT_HANDSHAKE_TRAFFIC_SECRET ")));
}
