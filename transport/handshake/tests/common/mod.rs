//! Two ends and a network between them that loses, delays, repeats and alters datagrams: one thread, one seed.
#![allow(dead_code, unreachable_pub, missing_debug_implementations, reason = "each test file uses its part")]

mod crypto;
mod setup;

use std::net::SocketAddr;
use std::time::Duration;

use handshake::client::Client;
use handshake::contract::{Progress, Reason};
use handshake::cookie::Cookies;
use handshake::error::Error;
use handshake::secrets::Established;
use handshake::server::{self, Server};
use proto::time::Instant;
use record::aead::Cipher;
use wire::handshake::HandshakePacket;
use wire::ids::{SessionId, Side};
use wire::packet::Packet;

pub use crypto::{CRYPTO, sign};
pub use setup::{params, setup};

/// A day in 2026.
pub const TODAY: u64 = 1_790_000_000;

/// What an endpoint sends, sealed, once it is done: here it stands for itself.
const DONE: &[u8] = b"DONE";

/// Makes the public check of a packet hold again after `change`: what anyone on the path can do.
pub fn forge(datagram: &mut [u8], change: impl FnOnce(&mut [u8])) {
    change(datagram);
    let Ok(Packet::Handshake(packet)) = Packet::parse(datagram) else { panic!("still a packet") };
    let covered = packet.covered.len();
    let tag = sign(b"sealane/1 handshake public check", packet.covered);
    datagram[covered..covered + 16].copy_from_slice(&tag[..16]);
}

pub fn packet(datagram: &[u8]) -> HandshakePacket<'_> {
    match Packet::parse(datagram) {
        Ok(Packet::Handshake(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// xorshift64*.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

pub const CLIENT: SessionId = SessionId::new(5, 0x1234_5678_9abc_def0);
pub const SERVER: SessionId = SessionId::new(9, 0x0fed_cba9_8765_4321);

pub fn client_addr() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

/// Chances in percent, and delays.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub loss: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub jitter_us: u64,
}

pub const ONE_WAY: Duration = Duration::from_micros(500);

pub type MakeServer = Box<dyn Fn(&HandshakePacket<'_>, bool, Instant) -> Result<Server, Reason>>;

pub type Tap = Box<dyn FnMut(Side, &mut Vec<u8>)>;

/// How one side ended.
#[derive(Debug, Default)]
pub struct Side1 {
    pub established: Option<Established>,
    pub established_at: Option<Instant>,
    pub error: Option<Error>,
    pub error_at: Option<Instant>,
}

/// Client, server, network.
pub struct World {
    pub now: Instant,
    pub client: Client,
    pub server: Option<Server>,
    pub make: MakeServer,
    pub faults: Faults,
    pub rng: Rng,
    pub cookies: Option<Cookies>,
    /// Looks at every datagram as it is sent, and may change or (by emptying it) swallow it.
    pub tap: Tap,
    pub at_client: Side1,
    pub at_server: Side1,
    pub confirmed: bool,
    /// Datagrams sent by client and server.
    pub sent: [Vec<usize>; 2],
    pub dropped: Vec<Reason>,
    datagram: usize,
    queue: Vec<(Instant, u64, Side, Vec<u8>)>,
    serial: u64,
}

impl World {
    pub fn new(client: Client, make: MakeServer, datagram: usize) -> Self {
        Self {
            now: Instant::ZERO,
            client,
            server: None,
            make,
            faults: Faults::default(),
            rng: Rng::new(1),
            cookies: None,
            tap: Box::new(|_, _| ()),
            at_client: Side1::default(),
            at_server: Side1::default(),
            confirmed: false,
            sent: [Vec::new(), Vec::new()],
            dropped: Vec::new(),
            datagram,
            queue: Vec::new(),
            serial: 0,
        }
    }

    pub fn with(mut self, faults: Faults, seed: u64) -> Self {
        self.faults = faults;
        self.rng = Rng::new(seed);
        self
    }

    /// Puts a datagram on its way to `to`, past the faults.
    pub fn inject(&mut self, to: Side, bytes: Vec<u8>) {
        self.serial += 1;
        self.queue.push((self.now + ONE_WAY, self.serial, to, bytes));
    }

    fn send(&mut self, from: Side, mut bytes: Vec<u8>) {
        (self.tap)(from, &mut bytes);
        if bytes.is_empty() {
            return;
        }
        let copies = 1 + usize::from(self.rng.percent(self.faults.duplicate));
        for _ in 0..copies {
            if self.rng.percent(self.faults.loss) {
                continue;
            }
            let mut copy = bytes.clone();
            if self.rng.percent(self.faults.corrupt) {
                let bit = self.rng.below(copy.len() as u64 * 8) as usize;
                copy[bit / 8] ^= 1 << (bit % 8);
            }
            let jitter = Duration::from_micros(self.rng.below(self.faults.jitter_us + 1));
            self.serial += 1;
            self.queue.push((self.now + ONE_WAY + jitter, self.serial, from.peer(), copy));
        }
    }

    fn drain(&mut self) {
        let mut out = vec![0xaa; self.datagram];
        while let Some(len) = self.client.poll_transmit(self.now, &mut out) {
            self.sent[0].push(len);
            self.send(Side::Client, out[..len].to_vec());
        }
        while let Some(len) = self.server.as_mut().and_then(|s| s.poll_transmit(self.now, &mut out)) {
            self.sent[1].push(len);
            self.send(Side::Server, out[..len].to_vec());
        }
    }

    fn note(&mut self, side: Side, result: Result<Progress, Error>) {
        let here = match side {
            Side::Client => &mut self.at_client,
            Side::Server => &mut self.at_server,
        };
        let done = matches!(result, Ok(Progress::Established | Progress::Unconfirmed));
        match result {
            Ok(Progress::Established) => {
                here.established = match side {
                    Side::Client => self.client.established(),
                    Side::Server => self.server.as_mut().unwrap().established(),
                };
                assert!(here.established.is_some());
                here.established_at = Some(self.now);
            }
            Ok(Progress::Dropped(reason)) => self.dropped.push(reason),
            Ok(_) => {}
            Err(error) => {
                assert!(here.error.is_none(), "one error only: {:?}, then {error:?}", here.error);
                (here.error, here.error_at) = (Some(error), Some(self.now));
            }
        }
        if side == Side::Server && done {
            // As an endpoint does: flights go first.
            self.drain();
            self.send(Side::Server, DONE.to_vec());
        }
    }

    fn deliver(&mut self, to: Side, bytes: &[u8]) {
        if bytes == DONE && to == Side::Client {
            assert!(self.at_server.established.is_some());
            if self.at_client.established.is_some() {
                self.client.confirmed();
                self.confirmed = true;
            }
            return;
        }
        match (Packet::parse(bytes), to) {
            (Ok(Packet::Handshake(p)), Side::Client) if p.header.session == CLIENT => {
                let result = self.client.handle(self.now, &p, bytes.len());
                self.note(to, result);
            }
            (Ok(Packet::Retry(retry)), Side::Client) => {
                let progress = self.client.retry(&retry);
                self.note(to, Ok(progress));
            }
            (Ok(Packet::Handshake(p)), Side::Server) => self.at_listener(&p, bytes.len()),
            _ => {}
        }
    }

    /// What an endpoint does: a known session by its id, a first packet by the client's id, else a new one.
    fn at_listener(&mut self, p: &HandshakePacket<'_>, len: usize) {
        if p.header.session != SERVER && p.header.session != SessionId::NONE {
            return;
        }
        if self.server.as_ref().is_none_or(|s| s.client() != p.fields.sender) {
            if server::offer(p).is_none() {
                return;
            }
            let mut validated = false;
            if let Some(cookies) = &self.cookies {
                validated = cookies.check(&CRYPTO, p, client_addr(), self.now);
                if !validated {
                    let mut out = vec![0; 200];
                    if let Some(n) = cookies.retry(&CRYPTO, p, client_addr(), self.now, &mut out) {
                        assert!(n <= len, "a retry is no larger than its cause");
                        out.truncate(n);
                        self.send(Side::Server, out);
                    }
                    return;
                }
            }
            match (self.make)(p, validated, self.now) {
                // Damaged client ids make other half-open handshakes; this listener has room for one.
                Ok(server) if self.server.is_none() => self.server = Some(server),
                Ok(_) => return,
                Err(reason) => return self.dropped.push(reason),
            }
        }
        let result = self.server.as_mut().unwrap().handle(self.now, p, len);
        self.note(Side::Server, result);
    }

    /// One event; false when nothing will happen any more.
    pub fn step(&mut self) -> bool {
        self.drain();
        let arrival = self.queue.iter().map(|(at, ..)| *at).min();
        let timeouts = [self.client.timeout(), self.server.as_ref().and_then(Server::timeout)];
        let Some(next) = timeouts.into_iter().flatten().chain(arrival).min() else { return false };
        assert!(next >= self.now || timeouts.into_iter().flatten().all(|t| t <= self.now));
        self.now = self.now.max(next);
        while let Some(i) = (0..self.queue.len())
            .filter(|&i| self.queue[i].0 <= self.now)
            .min_by_key(|&i| (self.queue[i].0, self.queue[i].1))
        {
            let (_, _, to, bytes) = self.queue.remove(i);
            self.deliver(to, &bytes);
        }
        if self.client.timeout().is_some_and(|at| at <= self.now)
            && let Err(error) = self.client.handle_timeout(self.now)
        {
            self.note(Side::Client, Err(error));
        }
        if self.server.as_ref().and_then(Server::timeout).is_some_and(|at| at <= self.now)
            && let Err(error) = self.server.as_mut().unwrap().handle_timeout(self.now)
        {
            self.note(Side::Server, Err(error));
        }
        true
    }

    /// Until both ends know how it ended.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let client = self.confirmed || self.at_client.error.is_some();
            let server = self.at_server.established.is_some() || self.at_server.error.is_some();
            if (client && server) || !self.step() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// Until nothing happens any more.
    pub fn run_out(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it goes on for ever");
    }

    /// Both ends agree.
    pub fn assert_agreed(&self) {
        let (client, server) = (&self.at_client, &self.at_server);
        assert_eq!((&client.error, &server.error), (&None, &None));
        let (client, server) = (client.established.as_ref().unwrap(), server.established.as_ref().unwrap());
        assert_eq!(client.secret.expose(), server.secret.expose());
        assert_eq!(client.cipher, server.cipher);
        assert_eq!(client.mutual, server.mutual);
        assert_eq!(client.peer, params(SERVER));
        assert_eq!(server.peer, params(CLIENT));
        assert!(self.confirmed);
    }

    /// Both ends measured the round trip, whatever was lost and repeated meanwhile: it is one of those that occur.
    pub fn assert_rtt(&self) {
        let most = 2 * (ONE_WAY + Duration::from_micros(self.faults.jitter_us)) + Duration::from_micros(1);
        for end in [&self.at_client, &self.at_server] {
            let rtt = end.established.as_ref().unwrap().rtt;
            assert!((2 * ONE_WAY..=most).contains(&rtt), "{rtt:?}");
        }
    }
}

#[cfg(feature = "tls")]
pub mod pki {
    use super::*;
    use handshake::config::{ClientConfig, Clients, ServerConfig, Trust};
    use handshake::identity::Identity;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyPair, RevocationReason,
        RevokedCertParams, date_time_ymd,
    };

    /// A certification authority.
    pub struct Ca {
        pub pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    impl Ca {
        pub fn new() -> Self {
            Self::named("one")
        }

        pub fn named(name: &str) -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            Self { pem, issuer: Issuer::new(params, key) }
        }

        pub fn trust(&self) -> Trust {
            Trust::pem("ca", self.pem.as_bytes()).unwrap()
        }

        /// Certificate and key in PEM.
        pub fn pair(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
            change(&mut params);
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        }

        pub fn issue(&self, names: &[&str]) -> Identity {
            self.issue_with(names, |_| ())
        }

        /// A revocation list in PEM that names the certificates with these serial numbers.
        pub fn revoke(&self, serials: &[u64], next_update: (i32, u8)) -> String {
            let revoked_certs = serials
                .iter()
                .map(|&serial| RevokedCertParams {
                    serial_number: serial.into(),
                    revocation_time: date_time_ymd(2026, 1, 1),
                    reason_code: Some(RevocationReason::KeyCompromise),
                    invalidity_date: None,
                })
                .collect();
            let list = CertificateRevocationListParams {
                this_update: date_time_ymd(2026, 1, 1),
                next_update: date_time_ymd(next_update.0, next_update.1, 1),
                crl_number: 1.into(),
                issuing_distribution_point: None,
                revoked_certs,
                key_identifier_method: rcgen::KeyIdMethod::Sha256,
            };
            list.signed_by(&self.issuer).unwrap().pem().unwrap()
        }

        pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
            let (certificate, key) = self.pair(names, change);
            Identity::pem("test", certificate.as_bytes(), key.as_bytes()).unwrap()
        }

        pub fn expired(&self, names: &[&str]) -> Identity {
            self.issue_with(names, |p| {
                (p.not_before, p.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            })
        }

        pub fn future(&self, names: &[&str]) -> Identity {
            self.issue_with(names, |p| {
                (p.not_before, p.not_after) = (date_time_ymd(2040, 1, 1), date_time_ymd(2041, 1, 1));
            })
        }
    }

    pub fn client_config(trust: &Ca, identity: Option<&Identity>) -> ClientConfig {
        ClientConfig::new(&trust.trust(), identity, &Cipher::ALL).unwrap()
    }

    pub fn server_config(identity: &Identity, clients: Option<&Ca>) -> ServerConfig {
        match clients {
            None => ServerConfig::new(identity, Clients::Anonymous, &Cipher::ALL).unwrap(),
            Some(ca) => ServerConfig::new(identity, Clients::Authenticated(&ca.trust()), &Cipher::ALL).unwrap(),
        }
    }

    pub fn world(client: &ClientConfig, name: &str, server: &ServerConfig, datagram: usize) -> World {
        let client = Client::tls(client, name, &setup(CLIENT, datagram, Instant::ZERO)).unwrap();
        let server = server.clone();
        let make: MakeServer = Box::new(move |first, validated, now| {
            Server::tls(&server, first, validated, &setup(SERVER, datagram, now))
        });
        World::new(client, make, datagram)
    }

    /// One authority, a server for "localhost", and a client with or without certificate.
    pub fn usual(mutual: bool, datagram: usize) -> World {
        let ca = Ca::new();
        let server = server_config(&ca.issue(&["localhost", "127.0.0.1"]), mutual.then_some(&ca));
        let identity = mutual.then(|| ca.issue(&["client.example"]));
        world(&client_config(&ca, identity.as_ref()), "localhost", &server, datagram)
    }
}

/// Two ends that were given the same secret.
pub mod shared {
    use super::*;
    use handshake::installed::InstalledKey;
    use record::keys::Secret;

    pub fn key(secret: u8, cipher: Cipher) -> InstalledKey {
        InstalledKey::new(&CRYPTO, &Secret::new([secret; 32]), cipher, "the other one")
    }

    pub fn world(client: &InstalledKey, server: &InstalledKey, nonces: [[u8; 16]; 2]) -> World {
        let client = Client::installed(client, nonces[0], &setup(CLIENT, 1232, Instant::ZERO));
        let key = server.clone();
        let make: MakeServer = Box::new(move |first, validated, now| {
            Server::installed(&key, nonces[1], first, validated, &setup(SERVER, 1232, now))
        });
        World::new(client, make, 1232)
    }
}
