//! A server is killed without a word and started again on its port: who waits for it learns so at once, whose outcome is unknown is
//! told that, nothing runs twice, and the next call works. [P-5.5] [P-7.3]
#![cfg(feature = "aws-lc")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::tap::Tap;
use common::{Authority, bounded, patient, rebind, until};
use sealane::builder::Ready;
use sealane::{Builder, Delivery, Error, Fault, Peer, Socket};
use sealane::{Role, RpcId};

/// Far longer than any of these tests waits.
const SILENCE: Duration = Duration::from_secs(60);
const KEY: [u8; 32] = [7; 32];

/// A server that a test kills: what it would say when it is dropped is lost.
struct Victim {
    at: SocketAddr,
    tap: Tap,
    socket: Arc<Socket>,
    serving: thread::JoinHandle<()>,
    answers: Arc<AtomicBool>,
}

/// How often the application had a request, over all lives of the server.
type Runs = Arc<AtomicU64>;

impl Victim {
    fn start(builder: impl Fn() -> Builder<Ready>, at: SocketAddr, runs: &Runs) -> Self {
        let tap = Tap::new();
        let socket = Arc::new(rebind(at, || builder().danger_wrap(tap.wrap())));
        let (answers, serving, runs) = (Arc::new(AtomicBool::new(true)), Arc::clone(&socket), Arc::clone(runs));
        let answering = Arc::clone(&answers);
        let at = socket.local_addr();
        let serving = thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { continue };
                runs.fetch_add(1, Ordering::SeqCst);
                if answering.load(Ordering::SeqCst) {
                    let _ = serving.reply(request.token, request.payload);
                }
            }
        });
        Self { at, tap, socket, serving, answers }
    }

    /// As SIGKILL would: no goodbye leaves.
    fn kill(self) -> SocketAddr {
        self.tap.cut();
        let _ = self.socket.close();
        self.serving.join().unwrap();
        drop(self.socket);
        self.at
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn ends_with_a_restart(client: &Socket, call: RpcId) {
    let error = client.wait(call).unwrap_err();
    assert!(matches!(error, Error::PeerRestarted { may_have_run: true, .. }), "{error:?}");
    assert!(error.may_have_run() && error.fault() == Fault::Peer);
    assert_eq!(error.to_string(), format!("{} restarted: the outcome of the call is unknown", address(&error)));
}

fn address(error: &Error) -> SocketAddr {
    let Error::PeerRestarted { address, .. } = error else { panic!("{error:?}") };
    *address
}

/// Kills and restarts, with a call under way and without one.
fn lives(client: &Socket, peer: &Peer, mut victim: Victim, runs: &Runs, again: impl Fn(SocketAddr) -> Victim) {
    client.call_with(peer, b"warm", patient()).unwrap();
    for life in 1..4 {
        victim.answers.store(false, Ordering::SeqCst);
        let call = client.send(peer, b"never answered", 0).unwrap();
        let had = 1 + 2 * (life - 1) + 1;
        until("the request is in service", || runs.load(Ordering::SeqCst) == had);
        victim = again(victim.kill());
        ends_with_a_restart(client, call);
        assert_eq!(client.call_with(peer, b"again", patient()).unwrap()[..], *b"again");
        assert_eq!(runs.load(Ordering::SeqCst), had + 1, "each ran once");
        assert_eq!(client.info().counters.resets_taken, life);
    }
    // Nothing was under way: the next call is what finds out.
    victim = again(victim.kill());
    let error = client.call_with(peer, b"first", patient()).unwrap_err();
    assert!(matches!(error, Error::PeerRestarted { .. }), "{error:?}");
    client.call_with(peer, b"second", patient()).unwrap();
    victim.kill();
}

#[test]
fn a_server_with_certificates_and_a_kept_key() {
    bounded(|| {
        let (ca, runs) = (Authority::new(), Runs::default());
        let start = |at| Victim::start(|| ca.server().reset_key(KEY), at, &runs);
        let victim = start(ANY);
        let client = ca.client().peer_timeout(SILENCE).bind(ANY).unwrap();
        let peer = client.peer(victim.at, "localhost").unwrap();
        lives(&client, &peer, victim, &runs, start);
    });
}

/// Without any key that was kept: the secret is what both remember. The server need not know the client's port.
#[test]
fn a_server_with_an_installed_secret() {
    bounded(|| {
        let runs = Runs::default();
        let start = |at| {
            let victim = Victim::start(|| Socket::builder().installed_only().serve_installed(), at, &runs);
            victim.socket.install_session(ANY, Role::Server, [3; 32], "the client");
            victim
        };
        let victim = start(ANY);
        let client = Socket::builder().installed_only().peer_timeout(SILENCE).bind(ANY).unwrap();
        let peer = client.install_session(victim.at, Role::Client, [3; 32], "the server").unwrap();
        lives(&client, &peer, victim, &runs, start);
    });
}

/// A server that kept no key can prove nothing: its peers find out by silence, and nobody believes what it says.
#[test]
fn a_server_that_kept_no_key() {
    bounded(|| {
        let (ca, runs) = (Authority::new(), Runs::default());
        let start = |at| Victim::start(|| ca.server(), at, &runs);
        let victim = start(ANY);
        let client = ca.client().peer_timeout(Duration::from_millis(300)).bind(ANY).unwrap();
        let peer = client.peer(victim.at, "localhost").unwrap();
        client.call_with(&peer, b"warm", patient()).unwrap();
        let victim = start(victim.kill());
        let error = client.call_with(&peer, b"first", patient()).unwrap_err();
        assert!(matches!(error, Error::PeerSilent { .. }), "{error:?}");
        assert!(client.info().counters.dropped_reset > 0);
        until("a new session", || client.call_with(&peer, b"second", patient()).is_ok());
        victim.kill();
    });
}
