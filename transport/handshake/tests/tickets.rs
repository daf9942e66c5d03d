//! Resumption: a ticket of one session opens the next one faster, once, and only where it was given. [P-6.8]
#![cfg(feature = "tls")]

mod common;

use common::pki::{Ca, client_config, server_config, world};
use common::{Faults, World};
use handshake::config::{ClientConfig, ServerConfig};
use handshake::identity::PeerIdentity;
use wire::ids::Side;

/// A handshake to its end, tickets included: whether it was a resumption, on both sides alike.
fn resumed(world: &mut World) -> bool {
    world.run();
    world.assert_agreed();
    world.run_out();
    let [client, server] = [&world.at_client, &world.at_server].map(|end| end.established.as_ref().unwrap().resumed);
    assert_eq!(client, server);
    client
}

fn between(client: &ClientConfig, server: &ServerConfig) -> World {
    world(client, "localhost", server, 1232)
}

/// [P-6.8] The first handshake is a full one; each later one resumes the one before, has another secret, and sends less.
#[test]
fn a_chain() {
    let ca = Ca::new();
    let (client, server) = (client_config(&ca, None), server_config(&ca.issue(&["localhost"]), None));
    let mut secrets = Vec::new();
    let mut bytes = Vec::new();
    for n in 0..4 {
        let mut world = between(&client, &server);
        assert_eq!(resumed(&mut world), n > 0, "handshake {n}");
        secrets.push(*world.at_client.established.as_ref().unwrap().secret.expose());
        bytes.push(world.sent[1].iter().sum::<usize>());
        assert_eq!(client.tickets("localhost", None), 1);
    }
    secrets.dedup();
    assert_eq!(secrets.len(), 4);
    assert!(bytes[1] < bytes[0], "{bytes:?}");
}

/// [P-6.8] Who the other side is stays known, on both sides, and that both proved it.
#[test]
fn identities_stay() {
    let ca = Ca::new();
    let server = server_config(&ca.issue(&["localhost"]), Some(&ca));
    let client = client_config(&ca, Some(&ca.issue(&["client.example"])));
    let ends = [0, 1].map(|n| {
        let mut world = between(&client, &server);
        assert_eq!(resumed(&mut world), n > 0);
        [world.at_client, world.at_server].map(|end| {
            let established = end.established.unwrap();
            assert!(established.mutual);
            assert_ne!(established.identity, PeerIdentity::Anonymous);
            established.identity
        })
    });
    assert_eq!(ends[0], ends[1]);
}

/// [P-6.8] A server that was started again, or another one, knows nothing of a ticket: the handshake is a full one.
#[test]
fn forgotten() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    let client = client_config(&ca, None);
    for _ in 0..2 {
        assert!(!resumed(&mut between(&client, &server_config(&identity, None))));
    }
    let server = server_config(&identity, None);
    assert!(!resumed(&mut between(&client, &server)));
    assert!(resumed(&mut between(&client, &server)));
}

/// [P-6.8] A first flight that was recorded resumes nothing when it is sent again: the ticket was used.
#[test]
fn replayed() {
    let ca = Ca::new();
    let (client, server) = (client_config(&ca, None), server_config(&ca.issue(&["localhost"]), None));
    resumed(&mut between(&client, &server));
    let recorded = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut second = between(&client, &server);
    let into = recorded.clone();
    second.tap = Box::new(move |from, bytes| {
        if from == Side::Client {
            into.borrow_mut().push(bytes.clone());
        }
    });
    assert!(resumed(&mut second));
    // The same datagrams reach the same server again, from a network that swallows what the new client itself says.
    let mut third = between(&client, &server);
    third.tap = Box::new(|from, bytes| {
        if from == Side::Client {
            bytes.clear();
        }
    });
    for datagram in recorded.borrow().iter() {
        third.inject(Side::Server, datagram.clone());
    }
    third.run_out();
    assert!(third.at_server.established.is_none());
    let full: usize = third.sent[1].iter().sum();
    assert!(full > 0, "it answers, with a full handshake that nobody can finish");
}

/// [P-6.8] Where the network loses, repeats and reorders, a lost ticket costs a full handshake later and nothing else.
#[test]
fn under_loss() {
    let ca = Ca::new();
    let (client, server) = (client_config(&ca, None), server_config(&ca.issue(&["localhost"]), None));
    let mut count = 0;
    for seed in 0..100 {
        let faults = Faults { loss: 20, duplicate: 10, corrupt: 5, jitter_us: 2000 };
        let mut world = between(&client, &server).with(faults, seed);
        count += u32::from(resumed(&mut world));
    }
    assert!((20..100).contains(&count), "{count} of 100");
}

/// [P-6.8] Nothing is resumed where one side does not want it; tickets of one place are not shown elsewhere.
#[test]
fn switched_off() {
    let ca = Ca::new();
    let identity = ca.issue(&["localhost"]);
    for (at_client, at_server) in [(false, true), (true, false)] {
        let client = client_config(&ca, None).resumption(at_client);
        let server = server_config(&identity, None).resumption(at_server);
        for _ in 0..2 {
            assert!(!resumed(&mut between(&client, &server)));
        }
        assert_eq!(client.tickets("localhost", None), 0);
    }
}
