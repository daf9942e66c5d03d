//! What the profiles differ in, counted: looks at the network in vain while a caller waits, and packets that messages share.
#![expect(clippy::disallowed_methods, reason = "a server that takes its time")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::bounded;
use sealane::{Caps, Datagrams, Delivery, Profile, Received, Role, SendError, Socket, Transmit};

const CALLS: u64 = 100;
/// What the server takes for an answer: longer than an adaptive wait looks.
const WORK: Duration = Duration::from_micros(300);

/// Counts looks that find nothing.
struct Counted(Box<dyn Datagrams>, Arc<AtomicU64>);

impl Datagrams for Counted {
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
        self.1.fetch_add(u64::from(received.is_none()), Ordering::Relaxed);
        Ok(received)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.0.fds()
    }

    fn next_due(&self) -> Option<Duration> {
        self.0.next_due()
    }
}

/// A client with a profile, a server that works for each answer, and how often the client looked in vain for them.
fn looks_in_vain(profile: Profile) -> u64 {
    let looks = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&looks);
    let client = Socket::builder().installed_only().profile(profile);
    let client = client.danger_wrap(move |inner| Box::new(Counted(inner, counting))).bind("127.0.0.1:0").unwrap();
    let server = Socket::builder().installed_only().serve_installed().bind("127.0.0.1:0").unwrap();
    server.install_session(client.local_addr(), Role::Server, [1; 32], "test");
    let peer = client.install_session(server.local_addr(), Role::Client, [1; 32], "test").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(Delivery::Request(request)) = server.recv() {
                thread::sleep(WORK);
                server.reply(request.token, request.payload).unwrap();
            }
        });
        client.call(&peer, b"first").unwrap();
        let before = looks.load(Ordering::Relaxed);
        for _ in 0..CALLS {
            client.call(&peer, b"ping").unwrap();
        }
        let after = looks.load(Ordering::Relaxed);
        server.close().unwrap();
        after - before
    })
}

#[test]
fn who_pays_for_latency_looks_more_often_in_vain() {
    bounded(|| {
        let [latency, balanced, throughput] =
            [Profile::Latency, Profile::Balanced, Profile::Throughput].map(looks_in_vain);
        println!("looks in vain per call: {latency} {balanced} {throughput}, in {CALLS} calls");
        assert!(latency > 2 * balanced, "{latency} against {balanced}");
        assert!(balanced > 2 * throughput, "{balanced} against {throughput}");
    });
}

/// Small messages that are ready at once, until some of them shared a packet: how many did, of how many.
fn bundled(profile: Profile, rounds: u32) -> (u64, u64) {
    let client = Socket::builder().installed_only().profile(profile).bind("127.0.0.1:0").unwrap();
    let server = Socket::builder().installed_only().serve_installed().bind("127.0.0.1:0").unwrap();
    server.install_session(client.local_addr(), Role::Server, [1; 32], "test");
    let peer = client.install_session(server.local_addr(), Role::Client, [1; 32], "test").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| while server.recv().is_ok() {});
        client.tell(&peer, b"first").unwrap();
        let mut sent = 0;
        for _ in 0..rounds {
            let batch = client.batch();
            for _ in 0..16 {
                client.send_one_way(&peer, b"small").unwrap();
            }
            drop(batch);
            sent += 16;
            client.tell(&peer, b"last").unwrap();
            if client.info().counters.messages_bundled > 0 {
                break;
            }
        }
        let bundled = client.info().counters.messages_bundled;
        server.close().unwrap();
        (bundled, sent)
    })
}

#[test]
fn only_where_latency_counts_messages_share_no_packets() {
    bounded(|| {
        assert_eq!(bundled(Profile::Latency, 50), (0, 800));
        for profile in [Profile::Balanced, Profile::Throughput] {
            let (shared, sent) = bundled(profile, 1000);
            assert!(shared > 1, "{profile:?}: {shared} of {sent}");
        }
    });
}
