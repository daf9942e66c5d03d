//! Who can talk to whom, under which address, and what a failed bind says.

mod common;

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::{bind, over_each_backend};
use udp::{Datagrams, Options, SendError, Transmit, connect};

fn any_port(ip: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(ip.into(), 0)
}

fn bound(ip: impl Into<IpAddr>) -> Box<dyn Datagrams> {
    bind(any_port(ip), &Options { report_tos: true, ..Options::default() }).unwrap()
}

/// Sends and tells from whom it came.
fn pass(from: &mut dyn Datagrams, to: &mut dyn Datagrams, address: SocketAddr, bytes: &[u8]) -> SocketAddr {
    from.transmit(&Transmit { to: address, bytes, segment: 700, tos: Some(0x28) }).unwrap();
    let mut into = [0; 65_535];
    let got = to.receive(&mut into).unwrap().expect("loopback delivers at once");
    assert_eq!(&into[..got.len], bytes);
    assert_eq!(got.segment, bytes.len().min(700));
    assert_eq!(got.tos, 0x28);
    got.from
}

fn v6_wildcard_talks_to_both_families() {
    let mut server = bound(Ipv6Addr::UNSPECIFIED);
    assert!(server.caps().v4 && server.caps().v6);
    let port = server.local_addr().port();
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let mut client = bound(ip);
        for len in [50, 5000] {
            let bytes = vec![7; len];
            let from = pass(&mut client, &mut server, (ip, port).into(), &bytes);
            assert_eq!(from, client.local_addr(), "a v4 peer has a plain v4 address");
            assert_eq!(pass(&mut server, &mut client, from, &bytes), SocketAddr::new(ip, port));
        }
    }
}

fn v4_mapped_address_is_v4_on_a_v4_socket() {
    let (mut a, mut b) = (bound(Ipv4Addr::LOCALHOST), bound(Ipv4Addr::LOCALHOST));
    let mapped = (Ipv4Addr::LOCALHOST.to_ipv6_mapped(), b.local_addr().port()).into();
    assert_eq!(pass(&mut a, &mut b, mapped, b"hello"), a.local_addr());
}

fn other_family_is_an_error_and_not_a_crash() {
    let mut v4 = bound(Ipv4Addr::LOCALHOST);
    assert!(v4.caps().v4 && !v4.caps().v6);
    let to = (Ipv6Addr::LOCALHOST, 9).into();
    assert!(matches!(v4.transmit(&Transmit::single(to, b"x")), Err(SendError::Other(_))));

    let options = Options { only_v6: true, ..Options::default() };
    let mut v6 = bind(any_port(Ipv6Addr::UNSPECIFIED), &options).unwrap();
    assert!(!v6.caps().v4 && v6.caps().v6);
    let to = (Ipv4Addr::LOCALHOST, 9).into();
    assert!(matches!(v6.transmit(&Transmit::single(to, b"x")), Err(SendError::Other(_))));
}

fn taken_port_is_named() {
    let first = bound(Ipv4Addr::LOCALHOST);
    let address = first.local_addr();
    let error = bind(address, &Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
}

fn port_is_shared_where_all_agree() {
    let shared = Options { reuse_port: true, ..Options::default() };
    let first = bind(any_port(Ipv4Addr::LOCALHOST), &shared).unwrap();
    bind(first.local_addr(), &shared).unwrap();
    assert!(bind(first.local_addr(), &Options::default()).is_err());
}

#[test]
fn connected_socket_hears_its_peer_only() {
    for (ip, server_ip) in [
        (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        (IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)),
        (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    ] {
        let options = Options { report_tos: true, reuse_port: true, ..Options::default() };
        let mut server = bind(any_port(server_ip), &options).unwrap();
        let at = SocketAddr::new(ip, server.local_addr().port());
        let (mut friend, mut stranger) = (bound(ip), bound(ip));
        let (near, far) = (friend.local_addr(), stranger.local_addr());
        // A lane of its own for one peer, at the same address.
        let mut lane = connect(server.local_addr(), near, &options).unwrap();
        assert_eq!(lane.local_addr().port(), at.port());
        assert_eq!(pass(&mut stranger, &mut server, at, b"hello"), far);
        for len in [50, 5000] {
            let bytes = vec![7; len];
            assert_eq!(pass(&mut friend, &mut lane, at, &bytes), near);
            assert_eq!(pass(&mut lane, &mut friend, near, &bytes), at);
            lane.transmit(&Transmit::single(near, &bytes)).unwrap();
            assert_eq!(friend.receive(&mut [0; 5000]).unwrap().map(|got| got.len), Some(len));
        }
        assert_eq!(pass(&mut lane, &mut stranger, far, b"to others too"), at);
    }
}

#[test]
fn news_of_a_lost_datagram_costs_no_other() {
    let silent = bound(Ipv4Addr::LOCALHOST);
    let address = silent.local_addr();
    drop(silent);
    let local = any_port(Ipv4Addr::LOCALHOST);
    let mut sender = connect(local, address, &Options::default()).unwrap();
    let mut into = [0; 100];
    // The port is unreachable, which the kernel tells to the next call, whatever that is.
    sender.transmit(&Transmit::single(address, b"anyone?")).unwrap();
    assert_eq!(sender.receive(&mut into).unwrap(), None);
    sender.transmit(&Transmit::single(address, b"anyone?")).unwrap();
    let mut receiver = bind(address, &Options::default()).unwrap();
    sender.transmit(&Transmit::single(address, b"hello")).unwrap();
    assert_eq!(receiver.receive(&mut into).unwrap().map(|got| got.len), Some(5));
}

fn foreign_address_is_named() {
    // Reserved for documentation, so nobody's.
    let address = SocketAddr::from(([192, 0, 2, 1], 4000));
    let error = bind(address, &Options::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    assert!(error.to_string().contains("192.0.2.1:4000"), "{error}");
}

fn silent_port_does_not_harm_later_datagrams() {
    let mut sender = bound(Ipv4Addr::LOCALHOST);
    let gone = bound(Ipv4Addr::LOCALHOST).local_addr();
    let mut receiver = bound(Ipv4Addr::LOCALHOST);
    let mut into = [0; 100];
    for _ in 0..10 {
        sender.transmit(&Transmit::single(gone, b"anyone?")).unwrap();
        assert_eq!(sender.receive(&mut into).unwrap(), None);
        sender.transmit(&Transmit::single(receiver.local_addr(), b"hello")).unwrap();
        assert_eq!(receiver.receive(&mut into).unwrap().map(|got| got.len), Some(5));
    }
}

fn buffers_report_what_was_obtained() {
    let small = Options { receive_buffer_bytes: 64 << 10, send_buffer_bytes: 32 << 10, ..Options::default() };
    let socket = bind(any_port(Ipv4Addr::LOCALHOST), &small).unwrap();
    // The kernel doubles.
    assert_eq!(socket.caps().receive_buffer_bytes, 128 << 10);
    assert_eq!(socket.caps().send_buffer_bytes, 64 << 10);
    let text = socket.caps().to_string();
    assert!(text.contains("receive buffer  128 KiB"), "{text}");

    // Whatever may be had, asking for too much is no error.
    let huge = Options { receive_buffer_bytes: usize::MAX, ..Options::default() };
    let socket = bind(any_port(Ipv4Addr::LOCALHOST), &huge).unwrap();
    assert!(socket.caps().receive_buffer_bytes >= 128 << 10);
}

over_each_backend!(
    v6_wildcard_talks_to_both_families,
    v4_mapped_address_is_v4_on_a_v4_socket,
    other_family_is_an_error_and_not_a_crash,
    taken_port_is_named,
    port_is_shared_where_all_agree,
    foreign_address_is_named,
    silent_port_does_not_harm_later_datagrams,
    buffers_report_what_was_obtained,
);
