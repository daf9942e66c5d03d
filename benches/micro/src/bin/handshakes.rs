//! What a handshake and its first call cost without a kernel, both sides together, beside rustls's own in memory:
//! `cargo run --release -p micro --bin handshakes -- [full|resumed|early-data] [count] [sealane|rustls|both]`.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "it measures")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock, SystemTime, UNIX_EPOCH};

use endpoint::config::Config;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::pool::Buffer;
use endpoint::state::Event;
use handshake::config::{ClientConfig, Clients, ServerConfig};
use handshake::identity::Identity;
use handshake::trust::Trust;
use load::certs::{Credentials, SERVER_NAME};
use load::handshake::{InMemory, Kind, REQUEST};
use proto::time::Instant;
use record::aead::Cipher;
use wire::trailer::Kind as MessageKind;

const ADDRESSES: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 1), ([127, 0, 0, 1], 2)];

struct Pair {
    ends: [Endpoint; 2],
    target: u32,
    now: Instant,
    wire: Vec<u8>,
    /// What came in it was used up: it takes the next.
    spare: [Option<Buffer>; 2],
    kind: Kind,
}

fn config(unix_seconds: u64) -> Config {
    let mut config = Config::new(offload::software::crypto());
    config.proto.serving = true;
    config.unix_seconds_at_zero = unix_seconds;
    config.datagram_bytes_max = wire::limits::PACKET_MAX;
    config
}

impl Pair {
    fn new(credentials: &Credentials, kind: Kind) -> Self {
        let trust = Trust::pem("authority", credentials.authority.as_bytes()).expect("an authority");
        let identity =
            Identity::pem("server", credentials.server.certificate.as_bytes(), credentials.server.key.as_bytes());
        let client = ClientConfig::new(&trust, None, &[Cipher::Aes128Gcm]).expect("a client");
        let server = ServerConfig::new(&identity.expect("an identity"), Clients::Anonymous, &[Cipher::Aes128Gcm]);
        let unix_seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut configs = [config(unix_seconds), config(unix_seconds)];
        configs[0].client = Some(Arc::new(client.resumption(kind != Kind::Full)));
        configs[1].server = Some(Arc::new(server.expect("a server").early_data(true)));
        configs[1].early_data_bytes_max = 1 << 14;
        let entropy = || Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives randomness"));
        let mut ends = configs.map(|config| Endpoint::new(config, entropy()));
        let target = ends[0].target(SocketAddr::from(ADDRESSES[1]), SERVER_NAME, wire::limits::PACKET_MAX);
        Self {
            ends,
            target,
            now: Instant::from_nanos(1_000_000_000),
            wire: vec![0; 1 << 16],
            spare: [None, None],
            kind,
        }
    }

    /// Everything that one end has to send arrives at the other. Whether that was anything.
    fn carry(&mut self, from: usize) -> bool {
        let mut moved = false;
        while let Some(train) = self.ends[from].poll_transmit(self.now, &mut self.wire) {
            let to = &mut self.ends[1 - from];
            let mut buffer = self.spare[1 - from].take().unwrap_or_else(|| to.buffer());
            buffer.bytes()[..train.len].copy_from_slice(&self.wire[..train.len]);
            let address = SocketAddr::from(ADDRESSES[from]);
            self.spare[1 - from] = to.handle_datagrams(self.now, address, buffer, train.len, train.segment);
            moved = true;
        }
        moved
    }

    fn call(&mut self, early: bool) {
        let sending =
            Sending { kind: MessageKind::Request, cookie: 0, waited: true, deadline: Instant::FAR, streamed: false };
        self.ends[0].early_next(early);
        let body = self.ends[0].copy(&REQUEST);
        self.ends[0].send(self.now, To::Target(self.target), body, sending).expect("it is taken");
        self.ends[0].early_next(false);
        let mut done = false;
        while !done {
            self.now += Duration::from_micros(5);
            let mut moved = self.carry(0);
            while let Some(event) = self.ends[1].poll_event() {
                if let Event::Request { id, payload, .. } = event {
                    self.ends[1].reply(self.now, id, payload).expect("it is taken");
                }
            }
            moved |= self.carry(1);
            while let Some(event) = self.ends[0].poll_event() {
                match event {
                    Event::Response { .. } => done = true,
                    Event::Failed { why, .. } => panic!("{why}"),
                    _ => {}
                }
            }
            assert!(moved || done, "nothing moves");
        }
    }

    /// A handshake, the first reply, and what is left to carry.
    fn one(&mut self, as_asked: bool) {
        self.call(self.kind == Kind::EarlyData);
        // What waits for something to leave with goes now: the client's last packet, then the ticket for the next.
        for _ in 0..2 {
            self.now += Duration::from_millis(1);
            while self.carry(0) | self.carry(1) {}
        }
        let session = &self.ends[0].sessions()[0];
        assert!(!as_asked || session.resumed == (self.kind != Kind::Full), "it is of the kind that was asked for");
        for end in &mut self.ends {
            for session in end.open_sessions() {
                end.close_session(session);
            }
            while end.poll_event().is_some() {}
        }
        while self.carry(0) | self.carry(1) {}
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let kind = Kind::ALL.into_iter().find(|kind| args.first().is_some_and(|arg| arg == kind.name()));
    let kind = kind.unwrap_or(Kind::Full);
    let count: u32 = args.get(1).map_or(500, |count| count.parse().expect("a number"));
    let who = args.get(2).map_or("both", String::as_str);
    let credentials = Credentials::generate().expect("certificates");
    let mut pair = Pair::new(&credentials, kind);
    let memory = InMemory::new(&credentials.authority, &credentials.server, kind).expect("rustls takes them");
    pair.one(false);
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..count {
        if who != "rustls" {
            let start = Clock::now();
            pair.one(true);
            ours += start.elapsed();
        }
        if who != "sealane" {
            let start = Clock::now();
            memory.one(true).expect("a handshake");
            theirs += start.elapsed();
        }
    }
    let us = |sum: Duration| sum.as_secs_f64() * 1e6 / f64::from(count.max(1));
    println!("{}: sealane {:.0} us, rustls {:.0} us, both sides, without a kernel", kind.name(), us(ours), us(theirs));
}
