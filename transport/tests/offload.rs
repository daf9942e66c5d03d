//! Sockets whose messages a modelled card seals, over real UDP, beside stock ones: full and resumed sessions, first flights, long messages in
//! both directions, losses. [P-3.5]
#![cfg(feature = "aws-lc")]

mod common;

use common::{Authority, Server, hostile, numbered, with_faults};
use sealane::builder::Ready;
use sealane::{Builder, CallOptions, Cipher, Clients, Offload, Socket, Trust};

fn server(ca: &Authority) -> Builder<Ready> {
    let server = Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost")).serve(Clients::Anonymous);
    server.accept_early_data(1 << 14)
}

fn client(ca: &Authority) -> Builder<Ready> {
    Socket::builder().trust(ca.trust()).anonymous()
}

const SIZES: [usize; 6] = [100, 1200, 5000, 20_000, 300_000, 2_000_000];

/// Card at the client, at the server, and at both; the other end is a stock socket and cannot tell.
#[test]
fn a_stock_socket_opens_what_a_card_sealed() {
    let ca = Authority::new();
    for (left, right) in [(true, false), (false, true), (true, true)] {
        for cipher in [Cipher::Aes128Gcm, Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305] {
            let with = |builder: Builder<Ready>, card| if card { builder.offload(Offload::Model) } else { builder };
            let server = Server::echo(with(server(&ca), right).bind("127.0.0.1:0").unwrap());
            let client = with(client(&ca), left).mtu(1500).cipher(cipher).bind("127.0.0.1:0").unwrap();
            let peer = client.peer(server.at, "localhost").unwrap();
            for round in 0..2u64 {
                for (n, len) in (round..).zip(SIZES) {
                    let message = numbered(n, len);
                    assert_eq!(*client.call_with(&peer, &message, CallOptions::new().early(true)).unwrap(), *message);
                }
                // Then once more with a ticket, and a first flight.
                client.disconnect(&peer).unwrap();
            }
            let (here, there) = (client.info(), server.socket.info());
            let sealable = cipher != Cipher::ChaCha20Poly1305;
            // How many is the machine's affair: where it is slow, repeats end the card's part in a session.
            assert_eq!(here.counters.records_by_device > 0, left && sealable, "{here}");
            assert_eq!(there.counters.records_by_device > 0, right && sealable, "{there}");
            assert_eq!((here.counters.dropped_bad_tag, there.counters.dropped_bad_tag), (0, 0));
            assert_eq!((here.offload == "model seals", there.offload == "model seals"), (left, right));
            assert_eq!(here.counters.early_sent, 1, "{here}");
        }
    }
}

/// What is lost of what the card sealed comes from the processor, under another attempt.
#[test]
fn losses_are_repaired() {
    let ca = Authority::new();
    let server = Server::echo(server(&ca).offload(Offload::Model).bind("127.0.0.1:0").unwrap());
    let lossy = with_faults(client(&ca).offload(Offload::Model).mtu(1500), hostile(7));
    let client = lossy.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    for n in 0..10 {
        let message = numbered(n, 200_000);
        assert_eq!(*client.call(&peer, &message).unwrap(), *message);
    }
    let info = client.info();
    assert!(info.counters.device_repairs > 0 && info.counters.records_by_device > 0, "{info}");
}

/// A card that is asked for and not there is said, and changes nothing.
#[test]
fn without_a_card_the_processor_seals() {
    let ca = Authority::new();
    let server = Server::echo(server(&ca).bind("127.0.0.1:0").unwrap());
    let wish = Offload::Card { device: Some("no_such_card_0".to_owned()), reflector: "127.0.0.1:9".parse().unwrap() };
    let client = client(&ca).offload(wish).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.at, "localhost").unwrap();
    let message = numbered(1, 100_000);
    assert_eq!(*client.call(&peer, &message).unwrap(), *message);
    let info = client.info();
    assert!(info.offload.starts_with("not used: "), "{}", info.offload);
    assert_eq!(info.counters.records_by_device, 0);
}
