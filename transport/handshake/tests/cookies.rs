//! Stateless cookies: a server under load keeps nothing of a client that has not shown that it receives at its address. [P-6.4]
#![cfg(feature = "tls")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::pki::usual;
use common::{CLIENT, CRYPTO, ONE_WAY, client_addr, setup};
use handshake::contract::{Progress, Reason};
use handshake::cookie::{Cookies, RETRY_LEN};
use handshake::limits::RETRIES_MAX;
use proto::time::Instant;
use record::keys::Secret;
use wire::handshake::RetryPacket;
use wire::header::Header;
use wire::packet::Packet;

fn cookies(secret: u8) -> Cookies {
    Cookies::new(&CRYPTO, &Secret::new([secret; 32]))
}

/// One more round trip, and the session is there.
#[test]
fn with_a_cookie() {
    let mut world = usual(true, 1232);
    world.cookies = Some(cookies(1));
    world.run();
    world.assert_agreed();
    assert_eq!(world.at_client.established_at, Some(Instant::ZERO + ONE_WAY * 4));
}

fn retry(bytes: &[u8]) -> RetryPacket<'_> {
    RetryPacket::parse(Header::parse(bytes).unwrap(), bytes).unwrap()
}

/// A cookie holds for its client at its address, for a while; a client takes a few and puts them into its packets.
#[test]
fn whose_and_when() {
    let ca = common::pki::Ca::new();
    let config = common::pki::client_config(&ca, None);
    let start = Instant::from_nanos(1_000_000_000_000);
    let client_of = |id| handshake::client::Client::tls(&config, "localhost", &setup(id, 1232, start)).unwrap();
    let mut client = client_of(CLIENT);
    let mut out = vec![0; 1232];
    let next = |client: &mut handshake::client::Client, out: &mut [u8]| {
        let len = client.poll_transmit(start, out).unwrap();
        out[..len].to_vec()
    };
    let first = next(&mut client, &mut out);
    let Ok(Packet::Handshake(packet)) = Packet::parse(&first) else { panic!() };
    let (cookies, here) = (cookies(1), client_addr());
    assert!(!cookies.check(&CRYPTO, &packet, here, start));

    let mut answer = [0; RETRY_LEN];
    assert_eq!(cookies.retry(&CRYPTO, &packet, here, start, &mut answer[1..]), None, "no room");
    assert_eq!(cookies.retry(&CRYPTO, &packet, here, start, &mut answer), Some(RETRY_LEN));
    let mut altered = answer;
    altered[30] ^= 1;
    assert_eq!(client.retry(&retry(&altered)), Progress::Dropped(Reason::Tag));
    assert_eq!(client_of(common::SERVER).retry(&retry(&answer)), Progress::Dropped(Reason::Session));
    assert_eq!(client.retry(&retry(&answer)), Progress::Taken);

    // Every fragment carries it now.
    let again = [next(&mut client, &mut out), next(&mut client, &mut out)];
    for bytes in &again {
        let Ok(Packet::Handshake(packet)) = Packet::parse(bytes) else { panic!() };
        assert!(cookies.check(&CRYPTO, &packet, here, start));
        assert!(cookies.check(&CRYPTO, &packet, here, start + Duration::from_secs(15)));
        assert!(!cookies.check(&CRYPTO, &packet, here, start + Duration::from_secs(33)), "too old");
        assert!(!cookies.check(&CRYPTO, &packet, SocketAddr::new(here.ip(), here.port() + 1), start), "another port");
        assert!(!cookies.check(&CRYPTO, &packet, "192.0.2.2:4000".parse().unwrap(), start), "another address");
        assert!(cookies.check(&CRYPTO, &packet, "[::ffff:192.0.2.1]:4000".parse().unwrap(), start), "the same one");
        assert!(!cookies_of_another().check(&CRYPTO, &packet, here, start), "another server");
        let mut other = bytes.clone();
        other[16] ^= 1;
        let Ok(Packet::Handshake(packet)) = Packet::parse(&other) else { panic!() };
        assert!(!cookies.check(&CRYPTO, &packet, here, start), "another client");
    }

    for _ in 1..RETRIES_MAX {
        assert_eq!(client.retry(&retry(&answer)), Progress::Taken);
    }
    assert_eq!(client.retry(&retry(&answer)), Progress::Dropped(Reason::Cookie));
}

fn cookies_of_another() -> Cookies {
    cookies(2)
}

/// A packet that fails its check gets no cookie: nothing is answered that could not be a client's.
#[test]
fn no_cookie_for_noise() {
    let mut world = usual(false, 1232);
    let mut out = vec![0; 1232];
    let len = world.client.poll_transmit(Instant::ZERO, &mut out).unwrap();
    out[len - 40] ^= 1;
    let Ok(Packet::Handshake(packet)) = Packet::parse(&out[..len]) else { panic!() };
    assert_eq!(cookies(1).retry(&CRYPTO, &packet, client_addr(), Instant::ZERO, &mut [0; 100]), None);
}
