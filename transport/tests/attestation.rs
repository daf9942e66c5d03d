//! Attestation over real sockets: certificates, raw keys and tickets beside evidence, threads that wait, and what cannot be combined. [P-6.16]
#![cfg(feature = "aws-lc")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{Authority, Server, bounded, hostile, patient, with_faults};
use sealane::attestation::{
    Asks, Attester, Claims, Error as EvidenceError, Format, Measurement, Mock, Policy, Verdict, Verifier,
};
use sealane::builder::Ready;
use sealane::{
    Builder, CallOptions, Clients, Delivery, Error, Fault, HandshakeError, Identity, Peer, Side, Socket, Trust,
};

fn measured(value: &str) -> Measurement {
    Measurement { register: 0, value: value.as_bytes().to_vec() }
}

fn mock(value: &str) -> Arc<dyn Attester> {
    Arc::new(Mock::measured(vec![measured(value)]))
}

fn pinned(value: &str) -> Policy {
    Asks::new().verifier(Mock::default()).pin(measured(value)).development()
}

/// Both sides show that they are GOOD, and want to see it.
fn both(builder: Builder<Ready>) -> Builder<Ready> {
    builder.attester(mock("GOOD")).attestation_policy(pinned("GOOD"))
}

/// A server that answers with what its client was measured to run.
fn serve(builder: Builder<Ready>) -> Server {
    Server::new(builder.bind("127.0.0.1:0").unwrap(), |request| {
        let ran = request.peer.attested();
        ran.map_or("nothing".to_owned(), |ran| ran.measurements[0].to_string()).into_bytes()
    })
}

/// What the client knows of the server in its open session.
fn seen(client: &Socket) -> Option<String> {
    let info = client.info();
    let session = info.sessions.iter().find(|session| session.open)?;
    session.origin.report.as_ref().map(|report| report.measurements[0].to_string())
}

fn client_of(client: Builder<Ready>, server: &Server, name: &str) -> (Socket, Peer) {
    let client = client.bind("127.0.0.1:0").unwrap();
    let peer = client.peer(server.socket.local_addr(), name).unwrap();
    (client, peer)
}

/// [P-6.16] Whatever keys the two sides show, both compute the same binding; a resumed session attests again, over a bad network too.
#[test]
fn every_kind_of_key() {
    bounded(|| {
        let ca = Authority::new();
        let raw = || Identity::raw_key(rcgen::KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
        let (server_key, client_key) = (raw(), raw());
        let two = || ca.identity("first.example").and(ca.identity("localhost")).unwrap();
        let cases: [(Builder<Ready>, Builder<Ready>); 4] = [
            (
                Socket::builder().trust(Trust::nobody()).identity(two()).serve(Clients::Anonymous),
                Socket::builder().trust(ca.trust()).anonymous(),
            ),
            (
                Socket::builder().trust(ca.trust()).identity(two()).serve(Clients::Authenticated),
                Socket::builder().trust(ca.trust()).identity(ca.identity("a client")),
            ),
            (
                Socket::builder()
                    .trust(Trust::raw_keys(&client_key.public_key()).unwrap())
                    .identity(server_key.clone())
                    .serve(Clients::Authenticated),
                Socket::builder().trust(Trust::raw_keys(&server_key.public_key()).unwrap()).identity(client_key),
            ),
            // Who has an identity and is not asked for it shows no key.
            (
                Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost")).serve(Clients::Anonymous),
                Socket::builder().trust(ca.trust()).identity(ca.identity("a client")),
            ),
        ];
        for (n, (server, client)) in cases.into_iter().enumerate() {
            let server = serve(with_faults(both(server), hostile(n as u64 + 1)));
            let (client, peer) = client_of(both(client), &server, "localhost");
            for session in 0..4 {
                let reply = client.call_with(&peer, b"what am I?", patient()).unwrap();
                assert_eq!((&*reply, seen(&client).as_deref()), (&b"0=GOOD"[..], Some("0=GOOD")), "{n} {session}");
                assert!(client.info().to_string().contains("mock evidence 0=GOOD"));
                client.disconnect(&peer).unwrap();
            }
            let counters = client.info().counters;
            assert_eq!((counters.evidence_taken, counters.evidence_shown), (4, 4), "{n}");
            assert_eq!(server.socket.info().counters.evidence_taken, 4);
        }
    });
}

/// [P-6.16] A resumed session is one like any other: its evidence is fresh, and looked at.
#[test]
fn a_resumed_session_attests_again() {
    bounded(|| {
        let ca = Authority::new();
        let server = serve(both(ca.server()));
        let (client, peer) = client_of(both(ca.client()), &server, "localhost");
        for resumed in [false, true, true] {
            client.call(&peer, b"x").unwrap();
            client.call(&peer, b"and its ticket is here").unwrap();
            assert!(client.info().sessions.iter().any(|session| session.open && session.resumed == resumed));
            client.disconnect(&peer).unwrap();
        }
        assert_eq!(server.socket.info().counters.evidence_taken, 3);
    });
}

#[test]
fn refused_before_any_byte() {
    bounded(|| {
        let ca = Authority::new();
        let server = serve(ca.server().attester(mock("GOOD")));
        let (client, peer) = client_of(ca.client().attestation_policy(pinned("BAD")), &server, "localhost");
        for error in [client.call(&peer, b"x").unwrap_err(), client.connect(&peer).unwrap_err()] {
            let Error::Handshake { source: HandshakeError::Evidence { whose: Side::Server, why }, .. } = &error else {
                panic!("{error}")
            };
            assert_eq!(why.to_string(), "register 0: expected BAD, found GOOD");
            assert!(!error.may_have_run() && error.fault() == Fault::Peer);
        }
        assert_eq!((server.socket.info().counters.messages_delivered, client.info().counters.evidence_refused), (0, 2));
        // The other way round, and an error that reaches who does not block.
        let server = serve(ca.server().attestation_policy(pinned("BAD")));
        let (client, peer) = client_of(ca.client().attester(mock("GOOD")), &server, "localhost");
        client.send(&peer, b"x", 7).unwrap();
        let Delivery::Failed(failed) = client.recv().unwrap() else { panic!("a failure") };
        let verdict = HandshakeError::EvidenceRefused { whose: Side::Server, verdict: Verdict::Measurement };
        assert!(matches!(&failed.error, Error::Handshake { source, .. } if *source == verdict), "{}", failed.error);
        assert_eq!(server.socket.info().counters.messages_delivered, 0);
    });
}

/// [P-6.16] Nothing goes in a first flight, whichever side has the policy.
#[test]
fn no_first_flight() {
    bounded(|| {
        let ca = Authority::new();
        let early = CallOptions::new().early(true);
        let server =
            || Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost")).serve(Clients::Anonymous);
        let client = || Socket::builder().trust(ca.trust()).anonymous();
        let cases = [
            (server().accept_early_data(1 << 14).attester(mock("GOOD")), client().attestation_policy(pinned("GOOD"))),
            (server().attestation_policy(pinned("GOOD")), client().attester(mock("GOOD"))),
        ];
        for (server, client) in cases {
            let server = serve(server);
            let (client, peer) = client_of(client, &server, "localhost");
            for _ in 0..4 {
                client.call_with(&peer, b"x", early).unwrap();
                client.call(&peer, b"and its ticket is here").unwrap();
                client.disconnect(&peer).unwrap();
            }
            let (client, server) = (client.info().counters, server.socket.info().counters);
            assert_eq!((client.early_sent, server.early_taken), (0, 0));
            assert_eq!(client.evidence_taken + server.evidence_taken, 4);
        }
    });
}

#[test]
fn what_cannot_be_combined() {
    #[derive(Debug)]
    struct Genuine;
    impl Verifier for Genuine {
        fn format(&self) -> Format {
            Format { code: 900, name: "genuine", is_mock: false }
        }
        fn verify(&self, _: &[u8], _: u64) -> Result<Claims, EvidenceError> {
            Err(EvidenceError::Malformed("always"))
        }
    }
    let ca = Authority::new();
    let production = || Asks::new().verifier(Genuine).pin(measured("x")).production().unwrap();
    let refused = |builder: Builder<Ready>| match builder.bind("127.0.0.1:0") {
        Err(Error::Config(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(ca.client().attester(mock("GOOD")).attestation_policy(production()));
    assert!(why.contains("mock"), "{why}");
    let server = Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost")).serve(Clients::Anonymous);
    let why = refused(server.accept_early_data(1 << 14).attestation_policy(production()));
    assert!(why.contains("early data"), "{why}");
    let server = Socket::builder().trust(Trust::nobody()).identity(ca.identity("localhost")).serve(Clients::Anonymous);
    let why = refused(server.publish_tickets(Duration::from_secs(60)).attestation_policy(production()));
    assert!(why.contains("published ticket"), "{why}");
    // A production policy itself is closed: without a pin, or with a mock's verifier, there is none.
    assert_eq!(Asks::new().verifier(Genuine).production().unwrap_err(), EvidenceError::NoPins);
    let mocked = Asks::new().verifier(Mock::default()).pin(measured("x")).production();
    assert_eq!(mocked.unwrap_err(), EvidenceError::MockInProduction);
    // And it takes no mock, whatever it says: the server shows what nobody here can judge.
    bounded(move || {
        let server = serve(ca.server().attester(mock("x")));
        let (client, peer) = client_of(ca.client().attestation_policy(production()), &server, "localhost");
        let error = client.call(&peer, b"x").unwrap_err();
        let missing = HandshakeError::EvidenceMissing { whose: Side::Server };
        assert!(matches!(&error, Error::Handshake { source, .. } if *source == missing), "{error}");
    });
}

/// A verifier that waits until it is let, as slow ones do.
#[derive(Clone, Debug, Default)]
struct Slow(Arc<(Mutex<bool>, Condvar)>, Arc<AtomicBool>);

impl Verifier for Slow {
    fn format(&self) -> Format {
        Verifier::format(&Mock::default())
    }
    fn verify(&self, evidence: &[u8], unix_seconds: u64) -> Result<Claims, EvidenceError> {
        self.1.store(true, Ordering::SeqCst);
        let (open, changed) = &*self.0;
        drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        Mock::default().verify(evidence, unix_seconds)
    }
}

impl Slow {
    fn let_pass(&self, open: bool) {
        *self.0.0.lock().unwrap() = open;
        self.0.1.notify_all();
    }
}

/// While one peer's evidence is judged, others are served.
#[test]
fn nobody_waits_for_the_judge() {
    bounded(|| {
        let ca = Authority::new();
        let slow = Slow::default();
        slow.let_pass(true);
        let policy = Asks::new().verifier(slow.clone()).pin(measured("GOOD")).development();
        let server = serve(ca.server().attestation_policy(policy));
        let (first, peer) = client_of(ca.client().attester(mock("GOOD")), &server, "localhost");
        first.call(&peer, b"x").unwrap();
        slow.let_pass(false);
        slow.1.store(false, Ordering::SeqCst);
        let (second, of_second) = client_of(ca.client().attester(mock("GOOD")), &server, "localhost");
        second.send(&of_second, b"x", 1).unwrap();
        while !slow.1.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        for _ in 0..100 {
            first.call(&peer, b"x").unwrap();
        }
        assert!(second.try_recv().unwrap().is_none());
        slow.let_pass(true);
        assert!(matches!(second.recv().unwrap(), Delivery::Response(_)));
    });
}

/// A platform's library that panics refuses its own peer and nobody else.
#[test]
fn a_judge_that_panics() {
    #[derive(Debug)]
    struct Panics(AtomicBool);
    impl Verifier for Panics {
        fn format(&self) -> Format {
            Verifier::format(&Mock::default())
        }
        fn verify(&self, evidence: &[u8], unix_seconds: u64) -> Result<Claims, EvidenceError> {
            assert!(self.0.swap(true, Ordering::SeqCst), "a bug in somebody's parser");
            Mock::default().verify(evidence, unix_seconds)
        }
    }
    bounded(|| {
        let ca = Authority::new();
        let policy = Asks::new().verifier(Panics(AtomicBool::new(false))).pin(measured("GOOD")).development();
        let server = serve(ca.server().attester(mock("GOOD")));
        let (client, peer) = client_of(ca.client().attestation_policy(policy), &server, "localhost");
        let error = client.call(&peer, b"x").unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        client.call(&peer, b"x").unwrap();
    });
}
