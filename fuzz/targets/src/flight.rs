//! Target `flight`: a client, a server, and somebody between them who carries, drops, repeats, changes and makes up their HANDSHAKE
//! packets. Nothing panics, and when both believe to be done they have the same secret.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use handshake::client::Client;
use handshake::config::{ClientConfig, Clients, ServerConfig, Trust};
use handshake::contract::Setup;
use handshake::identity::Identity;
use handshake::installed::InstalledKey;
use handshake::params::TransportParams;
use handshake::published::{Publisher, VerifiedTicket};
use handshake::secrets::Established;
use handshake::server::{Offer, Server, offer};
use proto::time::Instant;
use record::aead::Cipher;
use record::keys::Secret;
use wire::ids::SessionId;
use wire::limits::DATAGRAM_MIN;
use wire::packet::Packet;

use crate::input::Input;

/// Seconds since 1970 of a day in 2026.
const TODAY: u64 = 1_780_000_000;
const NAME: &str = "server.test";

/// A certificate's ends, made once.
static TLS: LazyLock<(ClientConfig, ServerConfig)> = LazyLock::new(|| {
    let client = ClientConfig::new(&IDENTITY.1, None, &Cipher::ALL).expect("it is whole");
    let server = ServerConfig::new(&IDENTITY.0, Clients::Anonymous, &Cipher::ALL).expect("it is whole");
    (client, server)
});

/// The server, and who believes it.
static IDENTITY: LazyLock<(Identity, Trust)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::pem("made here", certificate.as_bytes(), key.as_bytes()).expect("it is whole");
    let trust = Trust::pem("made here", certificate.as_bytes()).expect("it is whole");
    (identity, trust)
});

/// What takes first flights, and the ticket that it published.
static PUBLISHER: LazyLock<(Publisher, VerifiedTicket)> = LazyLock::new(|| {
    let publisher = Publisher::new(&IDENTITY.0, &Cipher::ALL, Duration::from_secs(3600), 1);
    let ticket = publisher.ticket(TODAY).expect("it signs").verify(&IDENTITY.1, NAME, TODAY).expect("it is good");
    (publisher, ticket)
});
/// A request of a first flight: its name, and what it says.
const EARLY: &[u8] = b"\0\0\0\0\0\0early";

fn setup(session: SessionId, now: Instant) -> Setup {
    let local = TransportParams {
        session,
        datagram_max: 1452,
        message_max: 1 << 20,
        unscheduled: 60_000,
        layouts: handshake::params::LAYOUT_ALIGNED,
        shards: 1,
        reset_token: [3; 16],
        idle: Duration::ZERO,
        shows: None,
        demands: None,
    };
    let lifetime = Duration::from_secs(10);
    Setup { crypto: offload::software::crypto(), local, datagram_max: DATAGRAM_MIN, now, unix_seconds: TODAY, lifetime }
}

/// Both ends, and what is under way to each.
struct Between {
    now: Instant,
    key: Option<InstalledKey>,
    publisher: Option<Arc<Publisher>>,
    client: Client,
    server: Option<Server>,
    /// To the client, to the server.
    queues: [Vec<Vec<u8>>; 2],
    done: [Option<Established>; 2],
    /// Requests that came early, copies of one included: whole endpoints tell those apart.
    early: u32,
}

impl Between {
    fn new(how: u8) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let setup = setup(SessionId::new(5, 0x1234_5678_9abc_def0), now);
        let key =
            (how == 0).then(|| InstalledKey::new(setup.crypto, &Secret::new([9; 32]), Cipher::Aes128Gcm, "a host"));
        let publisher = (how >= 2).then(|| PUBLISHER.0.danger_forgetful());
        let mut client = match (&key, how) {
            (Some(key), _) => Client::installed(key, [1; 16], &setup),
            (None, 2) => {
                Client::by_ticket(&PUBLISHER.1, Cipher::Aes128Gcm, &[4; 32], [1; 16], &setup).expect("it is taken")
            }
            (None, 3) => Client::tls_by_ticket(&TLS.0, NAME, None, &PUBLISHER.1, &[4; 32], &setup).expect("a name"),
            (None, _) => Client::tls(&TLS.0, NAME, &setup).expect("a name"),
        };
        if client.takes_early() {
            client.send_early(EARLY.to_vec());
        }
        Self {
            now,
            key,
            publisher,
            client,
            server: None,
            queues: [Vec::new(), Vec::new()],
            done: [None, None],
            early: 0,
        }
    }

    /// What they have to send goes on its way.
    fn collect(&mut self) {
        let mut out = [0; 1500];
        while let Some(len) = self.client.poll_transmit(self.now, &mut out) {
            self.queues[1].push(out[..len].to_vec());
        }
        while let Some(len) = self.server.as_mut().and_then(|server| server.poll_transmit(self.now, &mut out)) {
            self.queues[0].push(out[..len].to_vec());
        }
        assert!(self.queues.iter().all(|queue| queue.len() < 10_000), "it talks without end");
    }

    fn arrive(&mut self, to_server: bool, bytes: &[u8]) {
        match Packet::parse(bytes) {
            Ok(Packet::Handshake(packet)) if to_server => {
                if self.server.is_none() && offer(&packet).is_some() {
                    let setup = setup(SessionId::new(9, 0x0fed_cba9_8765_4321), self.now);
                    self.server = match (&self.key, offer(&packet), &self.publisher) {
                        (Some(key), ..) => Server::installed(key, [2; 16], &packet, false, &setup).ok(),
                        (None, Some(Offer::Published(_)), Some(publisher)) => {
                            Server::by_ticket(publisher, [2; 16], &packet, false, &setup).ok()
                        }
                        (None, _, publisher) => {
                            let config = TLS.1.clone().publish(publisher.clone());
                            Server::tls(&config, &packet, false, &setup).ok()
                        }
                    };
                }
                if let Some(server) = &mut self.server {
                    let _ = server.handle(self.now, &packet, bytes.len());
                    self.done[1] = server.established().or(self.done[1].take());
                    while let Some(request) = server.early() {
                        assert_eq!(request, EARLY, "a request that nobody sent");
                        self.early += 1;
                        if server.takes_early() {
                            server.send_early(request);
                        }
                    }
                }
            }
            Ok(Packet::Handshake(packet)) => {
                let _ = self.client.handle(self.now, &packet, bytes.len());
                self.done[0] = self.client.established().or(self.done[0].take());
            }
            Ok(Packet::Retry(packet)) if !to_server => drop(self.client.retry(&packet)),
            _ => {}
        }
        self.collect();
    }

    fn pass(&mut self, span: Duration) {
        self.now += span;
        let _ = self.client.handle_timeout(self.now);
        if let Some(server) = &mut self.server {
            let _ = server.handle_timeout(self.now);
        }
        self.collect();
    }

    fn act(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        let to_server = what & 0x80 == 0;
        let queue = &mut self.queues[usize::from(to_server)];
        let first = (!queue.is_empty()).then(|| queue.remove(0));
        match (what % 8, first) {
            (0..3, Some(bytes)) => self.arrive(to_server, &bytes),
            (3, _) => {}
            (4, Some(mut bytes)) => {
                let (at, with) = (usize::from(input.u16()) % bytes.len(), input.u8());
                bytes[at] ^= with;
                self.arrive(to_server, &bytes);
            }
            (5, first) => {
                let made_up = usize::from(input.u16()) % 1500;
                self.queues[usize::from(to_server)].splice(0..0, first);
                let bytes = input.take(made_up);
                self.arrive(to_server, bytes);
            }
            (6, Some(bytes)) => {
                self.queues[usize::from(to_server)].insert(0, bytes.clone());
                self.arrive(to_server, &bytes);
            }
            (_, first) => {
                self.queues[usize::from(to_server)].splice(0..0, first);
                self.pass(Duration::from_micros(1 << (input.u8() % 24)));
            }
        }
    }
}

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn flight(data: &[u8]) {
    let mut input = Input::new(data);
    let mut between = Between::new(input.u8() % 4);
    between.collect();
    for _ in 0..300 {
        if input.is_empty() {
            break;
        }
        between.act(&mut input);
    }
    // What is left is carried, so that most inputs come to an end.
    for _ in 0..40 {
        for to_server in [true, false] {
            for bytes in core::mem::take(&mut between.queues[usize::from(to_server)]) {
                between.arrive(to_server, &bytes);
            }
        }
        between.pass(Duration::from_millis(30));
    }
    if let [Some(client), Some(server)] = &between.done {
        assert_eq!(client.secret.expose(), server.secret.expose(), "both are done, with different secrets");
        assert_eq!((client.cipher, client.peer.session), (server.cipher, SessionId::new(9, 0x0fed_cba9_8765_4321)));
    }
}
