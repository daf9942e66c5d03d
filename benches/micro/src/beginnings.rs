//! Owns sessions that begin by a handshake: what one costs both sides without a kernel.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use endpoint::pool::Buffer;
use handshake::config::{ClientConfig, Clients, ServerConfig};
use handshake::identity::Identity;
use handshake::trust::Trust;
use load::certs::{Credentials, SERVER_NAME};
use load::handshake::{Kind, REQUEST};
use proto::time::Instant;
use record::aead::Cipher;
use wire::trailer::Kind as MessageKind;

use crate::ADDRESSES;

/// A client and a server that know each other's authority, and nothing else before the first session.
#[derive(Debug)]
pub struct Beginnings {
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

impl Beginnings {
    /// The two, at this time, and sessions that begin in this way.
    ///
    /// # Panics
    /// When the credentials are not taken.
    pub fn new(credentials: &Credentials, kind: Kind, unix_seconds: u64) -> Self {
        let trust = Trust::pem("authority", credentials.authority.as_bytes()).expect("an authority");
        let identity =
            Identity::pem("server", credentials.server.certificate.as_bytes(), credentials.server.key.as_bytes());
        let client = ClientConfig::new(&trust, None, &[Cipher::Aes128Gcm]).expect("a client");
        let server = ServerConfig::new(&identity.expect("an identity"), Clients::Anonymous, &[Cipher::Aes128Gcm]);
        let mut configs = [config(unix_seconds), config(unix_seconds)];
        configs[0].client = Some(Arc::new(client.resumption(kind != Kind::Full)));
        configs[1].server = Some(Arc::new(server.expect("a server").early_data(true)));
        configs[1].early_data_bytes_max = 1 << 14;
        let entropy = || Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives randomness"));
        let mut ends = configs.map(|config| Endpoint::new(config, entropy()));
        let target = ends[0].target(SocketAddr::from(ADDRESSES[1]), SERVER_NAME, wire::limits::PACKET_MAX);
        let now = Instant::from_nanos(1_000_000_000);
        let mut both = Self { ends, target, now, wire: vec![0; 1 << 16], spare: [None, None], kind };
        both.call();
        both.settle();
        both.end();
        both
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

    fn call(&mut self) {
        let early = self.kind == Kind::EarlyData;
        let sending =
            Sending { kind: MessageKind::Request, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
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
                    Event::Response { payload, .. } => {
                        assert!(*payload == REQUEST, "the reply is not what was asked for");
                        done = true;
                    }
                    Event::Failed { why, .. } => panic!("{why}"),
                    _ => {}
                }
            }
            assert!(moved || done, "nothing moves");
        }
    }

    /// What waits for something to leave with goes now: the client's last packet, then the ticket for the next session.
    fn settle(&mut self) {
        for _ in 0..2 {
            self.now += Duration::from_millis(1);
            while self.carry(0) | self.carry(1) {}
        }
    }

    /// A handshake, the first reply, and the ticket for the next session.
    ///
    /// # Panics
    /// When it does not come about, or not in the way that was asked for.
    pub fn begin(&mut self) {
        self.call();
        self.settle();
        let session = &self.ends[0].sessions()[0];
        assert!(session.resumed == (self.kind != Kind::Full), "it is of the kind that was asked for");
    }

    /// The session's end, on both sides.
    pub fn end(&mut self) {
        for end in &mut self.ends {
            for session in end.open_sessions() {
                end.close_session(session);
            }
            while end.poll_event().is_some() {}
        }
        while self.carry(0) | self.carry(1) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_begins_again_and_again() {
        let credentials = Credentials::generate().unwrap();
        for kind in Kind::ALL {
            let mut both = Beginnings::new(&credentials, kind, 1_700_000_000);
            for _ in 0..3 {
                both.begin();
                both.end();
            }
        }
    }
}
