//! Tests of the way from a route to the pacer, through whole sockets. Only the table of rates is made up, so they stand inside:
//! no user of the crate can give another.

use crate::link::tests::table;
use crate::{Cipher, LinkRate, Role, Socket};

/// [P-8.10] From the route of a peer to the pacer, with real routes; only the table of rates is made up.
#[test]
fn a_route_tells_the_rate() {
    let (_folder, links) = table(&[("lo", "10000")]);
    for mtu in [None, Some(1500)] {
        let mut builder = Socket::builder().installed_only().cipher(Cipher::Aes128Gcm).links(links.clone());
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        let socket = builder.bind("0.0.0.0:0").unwrap();
        let used = || socket.shared.lock().endpoint.config().proto.link_bits_per_second;
        // What goes to itself never leaves by the interface.
        socket.install_session("127.0.0.1:9".parse().unwrap(), Role::Client, [7; 32], "itself").unwrap();
        assert_eq!((used(), socket.info().link_rate), (None, LinkRate::Unknown));
        socket.install_session("127.0.0.2:9".parse().unwrap(), Role::Client, [7; 32], "another").unwrap();
        let found = LinkRate::Found { bits_per_second: 10_000_000_000, interface: "lo".to_owned() };
        assert_eq!((used(), socket.info().link_rate), (Some(10_000_000_000), found));
        assert!(socket.info().to_string().contains("link rate 10 Gbit/s, of lo"), "{}", socket.info());
    }
}

/// [P-8.10] A socket that is bound to one address leaves by its interface: servers look up no peers.
#[test]
fn an_address_of_its_own_tells_the_rate() {
    let (_folder, links) = table(&[("lo", "2500")]);
    let bind = |address: &str| Socket::builder().installed_only().links(links.clone()).bind(address).unwrap();
    let used = |socket: &Socket| socket.shared.lock().endpoint.config().proto.link_bits_per_second;
    let (one, all) = (bind("127.0.0.1:0"), bind("0.0.0.0:0"));
    assert_eq!((used(&one), used(&all)), (Some(2_500_000_000), None));
    let stated = Socket::builder().installed_only().links(links.clone()).link_rate(5_000_000);
    assert_eq!(used(&stated.bind("127.0.0.1:0").unwrap()), Some(5_000_000));
}
