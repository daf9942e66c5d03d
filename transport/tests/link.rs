//! What a socket does for the link: it holds back what the link cannot take yet, and marks datagrams when it is told to.
#![cfg(feature = "aws-lc")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use common::{Authority, bounded, echo, patient, pattern, until};
use sealane::{Builder, Caps, Datagrams, Error, Info, LinkRate, Received, SendError, Transmit, builder::Ready};
use udp::Mmsg;

/// [P-8.10] With a stated rate a message leaves as the link takes it: after one look at the network most of it is still
/// here, though all of it may go. A faster link is given more at once, because threads are late. Without a rate all has left.
#[test]
fn a_stated_rate_holds_back() {
    bounded(|| {
        let ca = Authority::new();
        let server = ca.server().bind("127.0.0.1:0").unwrap();
        let at = server.local_addr();
        let server = echo(server);
        for (rate, sent) in [(10_000_000, 0..2_000), (1_000_000_000, 5_000..15_000)] {
            let (info, allowed, gone) = one_look(ca.client().link_rate(rate), at);
            assert_eq!(info.link_rate, LinkRate::Stated(rate));
            assert!(allowed >= 8_000 && sent.contains(&gone), "{info}");
        }
        let (info, allowed, gone) = one_look(ca.client().link_rate(10_000_000).no_pacing(), at);
        assert_eq!((&info.link_rate, gone), (&LinkRate::NotPaced, allowed), "{info}");
        drop(server);
    });
}

/// Sends a long message, looks at the network once, and tells how much may go and has gone. Then lets it end.
fn one_look(client: Builder<Ready>, at: SocketAddr) -> (Info, u32, u32) {
    let client = client.mtu(1500).danger_helper_thread(false).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    client.connect(&peer).unwrap();
    // Nobody looks after the client between these two.
    let id = client.send(&peer, pattern(1, 40_000), 0).unwrap();
    let info = client.info();
    assert!(*client.wait(id).unwrap() == *pattern(1, 40_000));
    let rpc = info.rpcs[0].rpc;
    (info, rpc.out_granted, rpc.out_sent)
}

/// On loopback, which states no rate, nothing is known and nothing held back.
#[test]
fn loopback_is_unknown() {
    let ca = Authority::new();
    let client = ca.client().bind("127.0.0.1:0").unwrap();
    client.peer("127.0.0.1:9", "localhost").unwrap();
    let info = client.info();
    assert_eq!((info.link_rate.bits_per_second(), &info.link_rate), (None, &LinkRate::Unknown));
    assert!(info.to_string().contains("link rate unknown, not paced"), "{info}");
}

/// A rate that cannot be meant is refused in words: most of all one that was stated in Mbit/s.
#[test]
fn a_rate_that_cannot_work_is_refused() {
    let ca = Authority::new();
    for rate in [0, 1, 100_000] {
        let refused = ca.client().link_rate(rate).bind("127.0.0.1:0").unwrap_err();
        let Error::Config(why) = &refused else { panic!("{refused}") };
        assert!(why.contains(&format!("{rate} bits per second")), "{why}");
    }
    for rate in [1_000_000, 400_000_000_000, u64::MAX] {
        ca.client().link_rate(rate).bind("127.0.0.1:0").unwrap();
    }
}

/// What a datagram said of its priority: packet type, priority in the header, type of service of the IP packet.
type Seen = Arc<Mutex<Vec<(u8, u8, u8)>>>;

/// A socket that notes the type of service of all that arrives.
struct Noting(Mmsg, Seen);

impl Datagrams for Noting {
    fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.0.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.0.transmit(train)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        let received = self.0.receive(into)?;
        if let Some(train) = &received {
            let noted = train.datagrams(into).map(|datagram| (datagram[0] & 15, datagram[3], train.tos));
            self.1.lock().unwrap().extend(noted);
        }
        Ok(received)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.0.fds()
    }
}

fn noting(builder: Builder<Ready>, seen: &Seen) -> Builder<Ready> {
    let seen = Arc::clone(seen);
    builder.danger_wrap(move |inner| {
        let options = udp::Options { report_tos: true, ..udp::Options::default() };
        let at = SocketAddr::new(inner.local_addr().ip(), 0);
        Box::new(Noting(udp::bind(at, &options).expect("loopback has free ports"), seen))
    })
}

/// What a server gets of a client that sends a short and a long request, some of it in a socket for that peer alone.
fn at_the_server(marked: bool, address: &str) -> Vec<(u8, u8, u8)> {
    let ca = Authority::new();
    let seen = Seen::default();
    let server = noting(ca.server(), &seen).bind(address).unwrap();
    let at = server.local_addr();
    let server = echo(server);
    let client = ca.client().mtu(1500);
    let client = if marked { client.mark_priorities(true) } else { client };
    let client = client.bind(address).unwrap();
    let peer = client.peer(at, "localhost").unwrap();
    for length in [50, 2 << 20] {
        assert_eq!(client.call_with(&peer, pattern(1, length), patient()).unwrap().len(), length);
    }
    // The acknowledgement of the response is control too, and comes when nothing else goes.
    until("control came", || seen.lock().unwrap().iter().any(|packet| packet.0 == CONTROL));
    drop((client, server));
    let seen = seen.lock().unwrap();
    seen.clone()
}

const DATA: u8 = 1;
const CONTROL: u8 = 2;
const HANDSHAKE: u8 = 3;

/// [P-8.3] Marked datagrams carry the priority of their packets as the class selector, over both families: what was granted
/// of a long message another than control and handshakes.
#[test]
fn marked_datagrams_carry_their_priority() {
    bounded(|| {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let seen = at_the_server(true, address);
            for (kind, priority, tos) in &seen {
                assert_eq!(*tos, priority << 5, "type {kind} with priority {priority}");
            }
            let all_of = |kind| seen.iter().filter(move |packet| packet.0 == kind).map(|packet| packet.2);
            assert!(all_of(CONTROL).chain(all_of(HANDSHAKE)).all(|tos| tos == 7 << 5));
            assert!(all_of(HANDSHAKE).count() > 0 && all_of(CONTROL).count() > 0);
            // Unscheduled bytes carry 6 as long as nothing was measured, granted ones at most 3.
            assert!(all_of(DATA).any(|tos| tos == 6 << 5) && all_of(DATA).any(|tos| tos <= 3 << 5), "{seen:?}");
        }
    });
}

/// Nothing is marked unless it was asked for, whatever the priority.
#[test]
fn unmarked_datagrams_are_ordinary() {
    bounded(|| {
        let seen = at_the_server(false, "127.0.0.1:0");
        assert!(seen.iter().any(|packet| packet.0 == CONTROL && packet.1 == 7));
        assert!(seen.iter().all(|packet| packet.2 == 0), "{seen:?}");
    });
}
