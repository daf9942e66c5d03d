//! Handshakes between two willing ends: what comes out is the same on both, and says who the other is.
#![cfg(feature = "tls")]

mod common;

use common::pki::{Ca, client_config, server_config, usual, world};
use common::{CLIENT, ONE_WAY, SERVER};
use handshake::config::{ClientConfig, Clients, ServerConfig};
use handshake::identity::{Name, PeerIdentity};
use proto::time::Instant;
use record::aead::Cipher;
use wire::limits::DATAGRAM_MIN;

/// [P-6.1] A client without certificate knows its server; the server knows that it does not know its client. Both have the
/// same secret and the other's parameters after one round trip and a half, in five datagrams; a sixth is the ticket.
#[test]
fn anonymous() {
    let mut world = usual(false, 1452);
    world.run();
    world.assert_agreed();
    world.assert_rtt();
    let client = world.at_client.established.take().unwrap();
    let PeerIdentity::Certificate(certificate) = &client.identity else { panic!("{:?}", client.identity) };
    let names = [Name::Dns("localhost".into()), Name::Ip([127, 0, 0, 1].into())];
    assert_eq!(certificate.names(), names);
    assert_eq!(certificate.chain().len(), 1);
    assert_eq!(certificate.der(), &certificate.chain()[0][..]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.der());
    assert_eq!(certificate.sha256(), digest.as_ref());
    assert!(!client.mutual && !world.client.must_wait_for_done());
    assert_eq!(client.cipher, Cipher::Aes128Gcm);
    let server = world.at_server.established.as_ref().unwrap();
    assert_eq!(server.identity, PeerIdentity::Anonymous);
    assert_eq!((client.peer.session, server.peer.session), (SERVER, CLIENT));
    assert_eq!(world.at_client.established_at, Some(Instant::ZERO + ONE_WAY * 2));
    assert_eq!(world.at_server.established_at, Some(Instant::ZERO + ONE_WAY * 3));
    assert_eq!([world.sent[0].len(), world.sent[1].len()], [3, 3], "no packet that is not needed: {:?}", world.sent);
}

/// [P-6.1] Both ends know each other; the client must not send before the server has accepted its certificate.
#[test]
fn mutual() {
    let mut world = usual(true, 1452);
    world.run();
    world.assert_agreed();
    world.assert_rtt();
    assert!(world.at_client.established.as_ref().unwrap().mutual);
    assert!(world.client.must_wait_for_done());
    let server = world.at_server.established.as_ref().unwrap();
    let PeerIdentity::Certificate(certificate) = &server.identity else { panic!("{:?}", server.identity) };
    assert_eq!(certificate.names(), [Name::Dns("client.example".into())]);
    world.run_out();
    assert!(world.client.is_over());
}

/// [P-6.1] A client that has a certificate shows it only where it is asked for.
#[test]
fn certificate_not_asked_for() {
    let ca = Ca::new();
    let client = client_config(&ca, Some(&ca.issue(&["client.example"])));
    let mut world = world(&client, "localhost", &server_config(&ca.issue(&["localhost"]), None), 1452);
    world.run();
    world.assert_agreed();
    assert_eq!(world.at_server.established.as_ref().unwrap().identity, PeerIdentity::Anonymous);
    assert!(!world.client.must_wait_for_done());
}

/// [P-6.1] The suite decides the cipher: the client's order where both allow several, else what is left.
#[test]
fn ciphers() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    for cipher in Cipher::ALL {
        let mut all = Cipher::ALL.to_vec();
        all.sort_by_key(|&c| c != cipher);
        for (offered, accepted) in [(&[cipher][..], &Cipher::ALL[..]), (&Cipher::ALL, &[cipher]), (&all, &Cipher::ALL)]
        {
            let client = ClientConfig::new(&ca.trust(), None, offered).unwrap();
            let server = ServerConfig::new(&identity, Clients::Anonymous, accepted).unwrap();
            let mut world = world(&client, "localhost", &server, 1452);
            world.run();
            world.assert_agreed();
            assert_eq!(world.at_client.established.as_ref().unwrap().cipher, cipher);
        }
    }
}

/// A server can be named by its address.
#[test]
fn named_by_address() {
    let ca = Ca::new();
    let server = server_config(&ca.issue(&["127.0.0.1"]), None);
    let mut world = world(&client_config(&ca, None), "127.0.0.1", &server, 1452);
    world.run();
    world.assert_agreed();
}

/// [P-6.2] Every datagram fits the path: the post-quantum ClientHello goes in fragments, and a long chain too. Where a
/// datagram takes all, each flight is one.
#[test]
fn datagram_sizes() {
    for mutual in [false, true] {
        for datagram in [DATAGRAM_MIN, 1400, 9000, 65_507] {
            let mut world = usual(mutual, datagram);
            world.run();
            world.assert_agreed();
            assert!(world.sent.iter().flatten().all(|&len| len <= datagram));
            assert!(world.sent[0][0] >= DATAGRAM_MIN, "the first datagram is padded");
            assert_eq!(world.sent[0].len() > 2, datagram < 1500, "{:?}", world.sent);
        }
    }
}

/// Two handshakes between the same two ends have nothing in common.
#[test]
fn fresh_secrets() {
    let ca = Ca::new();
    let (client, server) = (client_config(&ca, None), server_config(&ca.issue(&["localhost"]), None));
    let secrets = [0, 1].map(|_| {
        let mut world = world(&client, "localhost", &server, 1452);
        world.run();
        *world.at_client.established.unwrap().secret.expose()
    });
    assert_ne!(secrets[0], secrets[1]);
}

/// Nothing secret is printed.
#[test]
fn printed() {
    let mut world = usual(true, 1452);
    world.run();
    let text = format!("{:?} {:?} {:?}", world.at_client.established, world.client, world.server);
    assert!(text.contains("Secret(..)") && text.contains("client") && !text.contains("reset_token"), "{text}");
}
