//! Each way for a handshake to be refused: the error names it, on both sides, within one round trip where a packet can say so.
#![cfg(feature = "tls")]

mod common;

use common::pki::{Ca, client_config, server_config, usual, world};
use common::{CLIENT, Faults, ONE_WAY, World, setup};
use handshake::client::Client;
use handshake::config::{ClientConfig, Clients, ServerConfig, Trust};
use handshake::error::{Alert, Error, Fault, Stage};
use handshake::identity::Identity;
use handshake::limits::LIFETIME;
use proto::time::Instant;
use record::aead::Cipher;
use wire::ids::Side;

/// Runs to the end; both errors. Nobody has a session then, and both stop by themselves.
fn errors(world: &mut World) -> (Error, Error) {
    world.run();
    world.run_out();
    assert!(world.client.is_over() && world.server.as_ref().unwrap().is_over());
    assert!(!world.confirmed && world.at_server.established.is_none());
    (world.at_client.error.clone().unwrap(), world.at_server.error.clone().unwrap())
}

/// Whose certificate, what the one who refuses it says, and the alert that tells the other.
type Case = (Identity, fn(&Error) -> bool, u8);

fn proven(code: u8) -> Error {
    Error::Refused { alert: Alert(code), proven: true }
}

/// The client refuses the server's certificate when it sees it, after one round trip; the server is told why, under seal.
#[test]
fn server_certificate() {
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let client = client_config(&ca, None);
    let cases: [Case; 5] = [
        (other.issue(&["localhost"]), |e| *e == Error::Untrusted { whose: Side::Server }, 48),
        // Two authorities of one name, as when somebody made his anew.
        (Ca::new().issue(&["localhost"]), |e| *e == Error::Untrusted { whose: Side::Server }, 51),
        (ca.expired(&["localhost"]), |e| matches!(e, Error::Expired { whose: Side::Server, .. }), 45),
        (ca.future(&["localhost"]), |e| matches!(e, Error::NotYetValid { whose: Side::Server, .. }), 45),
        (ca.issue(&["a.example", "b.example"]), |e| matches!(e, Error::WrongName { .. }), 42),
    ];
    for (identity, is_it, alert) in cases {
        let mut world = world(&client, "localhost", &server_config(&identity, None), 1452);
        let (at_client, at_server) = errors(&mut world);
        assert!(is_it(&at_client), "{at_client}");
        assert_eq!(at_client.fault(), Fault::Peer);
        assert_eq!(at_server, proven(alert));
        assert_eq!(world.at_client.error_at, Some(Instant::ZERO + ONE_WAY * 2));
        assert!(world.at_client.established.is_none());
    }
}

/// The texts name what a person needs: both names, how long ago, who does not trust whom.
#[test]
fn texts() {
    let ca = Ca::new();
    let client = client_config(&ca, None);
    let text = |identity: &Identity| {
        errors(&mut world(&client, "localhost", &server_config(identity, None), 1452)).0.to_string()
    };
    assert_eq!(
        text(&ca.issue(&["a.example", "10.0.0.1"])),
        "the server's certificate is not for \"localhost\" but for \"a.example\", \"10.0.0.1\""
    );
    assert_eq!(text(&ca.expired(&["localhost"])), "the server's certificate expired 2089 days ago");
    let yet = text(&ca.future(&["localhost"]));
    assert!(yet.starts_with("the server's certificate becomes valid in 48"), "{yet}");
    let untrusted = text(&Ca::new().issue(&["localhost"]));
    assert_eq!(untrusted, "the server's certificate is not issued by anyone trusted here");
}

/// A client without certificate finds out by itself that it needs one, and sends nothing but that.
#[test]
fn client_certificate_missing() {
    let ca = Ca::new();
    let server = server_config(&ca.issue(&["localhost"]), Some(&ca));
    let mut world = world(&client_config(&ca, None), "localhost", &server, 1452);
    let (at_client, at_server) = errors(&mut world);
    assert_eq!((at_client, at_server), (Error::ClientCertificateRequired, Error::ClientCertificateMissing));
    assert_eq!(world.at_client.error_at, Some(Instant::ZERO + ONE_WAY * 2));
    assert_eq!(world.at_server.error_at, Some(Instant::ZERO + ONE_WAY * 3));
    assert!(world.at_client.established.is_none());
    assert!(world.sent[0][2..].iter().all(|&len| len < 80), "alerts only: {:?}", world.sent);
}

/// The server refuses the client's certificate: the client, which must wait for just that, is told why, under seal.
#[test]
fn client_certificate() {
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let server = server_config(&ca.issue(&["localhost"]), Some(&ca));
    let cases: [Case; 3] = [
        (other.issue(&["client"]), |e| *e == Error::Untrusted { whose: Side::Client }, 48),
        (ca.expired(&["client"]), |e| matches!(e, Error::Expired { whose: Side::Client, .. }), 45),
        (ca.future(&["client"]), |e| matches!(e, Error::NotYetValid { whose: Side::Client, .. }), 45),
    ];
    for (identity, is_it, alert) in cases {
        let mut world = world(&client_config(&ca, Some(&identity)), "localhost", &server, 1452);
        let (at_client, at_server) = errors(&mut world);
        assert!(is_it(&at_server), "{at_server}");
        assert_eq!(at_client, proven(alert));
        assert!(world.client.must_wait_for_done());
        assert_eq!(world.at_client.error_at, Some(Instant::ZERO + ONE_WAY * 4));
    }
}

/// [P-6.2.3] At 30 % loss the client still hears why, for the alert is repeated.
#[test]
fn refusals_survive_loss() {
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let server = server_config(&ca.issue(&["localhost"]), Some(&ca));
    let client = client_config(&ca, Some(&other.issue(&["client"])));
    let faults = Faults { loss: 30, duplicate: 10, corrupt: 0, jitter_us: 3000 };
    let mut heard = 0;
    for seed in 0..100 {
        let mut world = world(&client, "localhost", &server, 1232).with(faults, seed);
        let (at_client, at_server) = errors(&mut world);
        assert_eq!(at_server, Error::Untrusted { whose: Side::Client }, "seed {seed}");
        heard += u32::from(at_client == proven(48));
    }
    // Of four alerts and more all are lost sometimes.
    assert!(heard >= 97, "{heard}");
}

/// No common version or cipher: both say so after one round trip, although it can only be said in clear text.
#[test]
fn nothing_in_common() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    let client = client_config(&ca, None).danger_alpn(b"sealane/99");
    let mut alpn = world(&client, "localhost", &server_config(&identity, None), 1452);
    assert_eq!(errors(&mut alpn), (Error::AlpnMismatch, Error::AlpnMismatch));
    assert_eq!(alpn.at_client.error_at, Some(Instant::ZERO + ONE_WAY * 2));

    let client = ClientConfig::new(&ca.trust(), None, &[Cipher::ChaCha20Poly1305]).unwrap();
    let server = ServerConfig::new(&identity, Clients::Anonymous, &[Cipher::Aes128Gcm]).unwrap();
    let mut cipher = world(&client, "localhost", &server, 1452);
    assert_eq!(errors(&mut cipher), (Error::NothingInCommon, Error::NothingInCommon));
    assert_eq!(cipher.at_client.error_at, Some(Instant::ZERO + ONE_WAY * 2));
}

/// A chain of certificates that is longer than a handshake may be is refused; one that just fits is not.
#[test]
fn long_chains() {
    let ca = Ca::new();
    let filler: Vec<String> = (0..60).map(|i| format!("{i}.{}.example", "x".repeat(60))).collect();
    let filler: Vec<&str> = filler.iter().map(|s| &s[..]).collect();
    let (extra, _) = ca.pair(&filler, |_| ());
    let (certificate, key) = ca.pair(&["localhost"], |_| ());
    for (n, fits) in [(7, true), (12, false)] {
        let chain = format!("{certificate}{}", extra.repeat(n));
        let identity = Identity::pem("chain", chain.as_bytes(), key.as_bytes()).unwrap();
        let mut world = world(&client_config(&ca, None), "localhost", &server_config(&identity, None), 1232);
        if fits {
            world.run();
            world.assert_agreed();
            assert!(world.sent[1].iter().sum::<usize>() > 30_000);
        } else {
            assert_eq!(errors(&mut world), (Error::FlightTooLarge, proven(22)));
        }
    }
}

/// Nobody answers: an error after the lifetime that says how far it came.
#[test]
fn silence() {
    let swallowed = |side: Side, from: usize| {
        let mut world = usual(false, 1452);
        let mut n = 0;
        world.tap = Box::new(move |sender, bytes| {
            n += usize::from(sender == side);
            if sender == side && n > from {
                bytes.clear();
            }
        });
        world.run_out();
        assert!(world.now >= Instant::ZERO + LIFETIME);
        world
    };
    let silent = swallowed(Side::Client, 0);
    assert_eq!(silent.at_client.error, Some(Error::TimedOut { stage: Stage::Silence }));
    assert!(silent.server.is_none());
    assert!(silent.sent[0].len() < 100, "intervals grow: {}", silent.sent[0].len());

    let half = swallowed(Side::Server, 1);
    assert_eq!(half.at_client.error, Some(Error::TimedOut { stage: Stage::Underway }));
    assert_eq!(half.at_server.error, Some(Error::TimedOut { stage: Stage::Underway }));

    let unconfirmed = swallowed(Side::Server, 2);
    assert!(unconfirmed.at_server.established.is_some() && unconfirmed.at_server.error.is_none());
    assert_eq!(unconfirmed.at_client.error, Some(Error::TimedOut { stage: Stage::Confirmation }));
    assert_eq!(unconfirmed.at_client.error.unwrap().fault(), Fault::Path);
}

/// A lost confirmation is asked for again.
#[test]
fn lost_confirmation() {
    let mut world = usual(true, 1452);
    let mut lost = 3;
    world.tap = Box::new(move |sender, bytes| {
        if sender == Side::Server && bytes == b"DONE" && lost > 0 {
            lost -= 1;
            bytes.clear();
        }
    });
    world.run();
    world.assert_agreed();
}

/// Who gives up says so.
#[test]
fn cancelled() {
    let mut world = usual(false, 1452);
    world.step();
    world.client.cancel(world.now);
    world.run_out();
    assert!(world.client.is_over());
    assert!(world.at_client.established.is_none());
    // The client had no keys yet: its word is only believed because nothing else comes.
    let unproven = Error::Refused { alert: Alert::USER_CANCELED, proven: false };
    assert_eq!(world.at_server.error, Some(unproven));
}

/// Files and names that cannot be used are refused before anything is sent; the error says which, and why.
#[test]
fn configuration() {
    let ca = Ca::new();
    let (certificate, key) = ca.pair(&["localhost"], |_| ());
    let (_, other_key) = ca.pair(&["localhost"], |_| ());
    let identity = |chain: &str, key: &str| Identity::pem("id.pem", chain.as_bytes(), key.as_bytes()).unwrap_err();
    let origin = || String::from("id.pem");
    assert_eq!(identity(&certificate, &other_key), Error::KeyMismatch { origin: origin() });
    assert_eq!(identity("", &key), Error::NoCertificate { origin: origin() });
    assert_eq!(identity(&certificate, &certificate), Error::NoKey { origin: origin() });
    assert!(matches!(identity(&certificate[..100], &key), Error::Pem { .. }));
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(identity(hollow, &key), Error::OwnCertificate { .. }), "{}", identity(hollow, &key));
    let hollow_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert!(matches!(identity(&certificate, hollow_key), Error::OwnKey { .. }));
    assert!(matches!(Trust::pem("ca.pem", hollow.as_bytes()), Err(Error::OwnCertificate { .. })));

    let missing = Trust::pem_file("/does/not/exist.pem").unwrap_err();
    assert!(missing.to_string().starts_with("/does/not/exist.pem: "), "{missing}");
    assert_eq!(missing.fault(), Fault::Caller);
    assert!(Identity::pem_files("/does/not/exist.pem", "/nor/this.key").is_err());

    let nobody = Trust::nobody();
    assert!(nobody.is_nobody());
    let server = ca.issue(&["localhost"]);
    assert_eq!(
        ClientConfig::new(&nobody, None, &Cipher::ALL).unwrap_err(),
        Error::NothingTrusted { whose: Side::Server }
    );
    assert_eq!(
        ServerConfig::new(&server, Clients::Authenticated(&nobody), &Cipher::ALL).unwrap_err(),
        Error::NothingTrusted { whose: Side::Client }
    );
    assert_eq!(ServerConfig::new(&server, Clients::Anonymous, &[]).unwrap_err(), Error::NoCipher);
    let client = client_config(&ca, None);
    let wrong = Client::tls(&client, "not a name", &setup(CLIENT, 1452, Instant::ZERO)).unwrap_err();
    assert_eq!(wrong, Error::ServerName { name: "not a name".into() });
    for error in [identity("", &key), missing, wrong] {
        assert!(!error.to_string().is_empty());
    }
}
