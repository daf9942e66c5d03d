//! Two endpoints in one thread, datagrams handed over in memory: what a message costs without a kernel.
//!
//! Owns the pair and the ways of messages through it, sessions that begin, and a crowd of them. Refuses: clocks; who measures brings one.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod beginnings;
mod crowd;

pub use beginnings::Beginnings;
pub use crowd::Crowd;

use std::net::SocketAddr;
use std::time::Duration;

use endpoint::config::Config;
use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use endpoint::pool::Buffer;
use proto::time::Instant;
use record::keys::Secret;
use wire::ids::Side;
use wire::trailer::Kind;

const ADDRESSES: [([u8; 4], u16); 2] = [([127, 0, 0, 1], 1), ([127, 0, 0, 1], 2)];

/// Largest datagram on the path between the two, unless another is asked for: what loopback carries.
pub const DATAGRAM_MAX: usize = wire::limits::PACKET_MAX;

/// Datagrams of one length, the last perhaps shorter, as `poll_transmit` gave them.
#[derive(Debug)]
pub struct Train {
    bytes: Vec<u8>,
    len: usize,
    segment: usize,
}

/// Trains on their way, in memory that is used again.
#[derive(Debug, Default)]
pub struct Trains {
    trains: Vec<Train>,
    used: usize,
}

/// A client and a server with an installed secret.
#[derive(Debug)]
pub struct Pair {
    client: Endpoint,
    server: Endpoint,
    target: u32,
    now: Instant,
    body: Vec<u8>,
    /// What the client and the server receive into, as a driver keeps it.
    spare: [Option<Buffer>; 2],
}

fn endpoint(seed: u8, rekey_after: u64) -> Endpoint {
    endpoint_with(seed, |config| config.key_limits = config.key_limits.rekey_after(rekey_after))
}

fn endpoint_with(seed: u8, change: impl FnOnce(&mut Config)) -> Endpoint {
    let mut config = Config::new(offload::software::crypto());
    config.proto.serving = true;
    change(&mut config);
    let mut state = u64::from(seed) << 56;
    let entropy = move |bytes: &mut [u8]| {
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let n = chunk.len();
            chunk.copy_from_slice(&state.to_le_bytes()[..n]);
        }
    };
    Endpoint::new(config, Box::new(entropy))
}

impl Trains {
    /// They carry the right names and the wrong tags from now on: what somebody forges who has seen the session on its way.
    pub fn spoil(&mut self) {
        for train in &mut self.trains[..self.used] {
            train.bytes[train.len - 1] ^= 1;
        }
    }
}

impl Pair {
    /// A pair whose messages have `bytes` bytes, with an open session.
    pub fn new(bytes: usize) -> Self {
        Self::on_path(bytes, DATAGRAM_MAX, u64::MAX)
    }

    /// The same on a path that carries datagrams of so many bytes, and each side takes a new key after so many records.
    pub fn on_path(bytes: usize, datagram_max: usize, rekey_after: u64) -> Self {
        let (mut client, mut server) = (endpoint(1, rekey_after), endpoint(2, rekey_after));
        let secret = Secret::new([7; 32]);
        server.install(SocketAddr::from(ADDRESSES[0]), Side::Server, &secret, "client", datagram_max);
        let target = client.install(SocketAddr::from(ADDRESSES[1]), Side::Client, &secret, "server", datagram_max);
        let target = target.expect("a client's end has a target");
        let (now, body) = (Instant::from_nanos(1_000_000_000), vec![5; bytes]);
        let mut pair = Self { client, server, target, now, body, spare: [None, None] };
        pair.round(1, &mut Trains::default());
        pair
    }

    /// The client begins so many requests.
    pub fn request(&mut self, count: usize) {
        self.now += Duration::from_micros(5);
        let sending =
            Sending { kind: Kind::Request, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        for _ in 0..count {
            let body = self.client.copy(&self.body);
            self.client.send(self.now, To::Target(self.target), body, sending).expect("it is taken");
        }
    }

    /// Everything that `from` has to send is sealed into `trains`.
    pub fn egress(&mut self, from: Side, trains: &mut Trains) {
        let from = match from {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        trains.used = 0;
        loop {
            if trains.used == trains.trains.len() {
                trains.trains.push(Train { bytes: vec![0; 1 << 16], len: 0, segment: 0 });
            }
            let train = &mut trains.trains[trains.used];
            let Some(transmit) = from.poll_transmit(self.now, &mut train.bytes) else { return };
            (train.len, train.segment) = (transmit.len, transmit.segment);
            trains.used += 1;
        }
    }

    /// `trains` arrive at `to`. The copy into its buffers stands for the kernel's.
    pub fn ingress(&mut self, to: Side, trains: &Trains) {
        let [clients, servers] = &mut self.spare;
        let (to, spare, from) = match to {
            Side::Client => (&mut self.client, clients, ADDRESSES[1]),
            Side::Server => (&mut self.server, servers, ADDRESSES[0]),
        };
        for train in &trains.trains[..trains.used] {
            let mut buffer = spare.take().unwrap_or_else(|| to.buffer());
            buffer.bytes()[..train.len].copy_from_slice(&train.bytes[..train.len]);
            *spare = to.handle_datagrams(self.now, SocketAddr::from(from), buffer, train.len, train.segment);
        }
        if to.timeout().is_some_and(|at| at <= self.now) {
            to.handle_timeout(self.now);
        }
    }

    /// Nothing happens until the server has put the session to rest.
    ///
    /// # Panics
    /// When it never does.
    pub fn rest(&mut self) {
        for _ in 0..100 {
            self.now += Duration::from_secs(5);
            for end in [&mut self.client, &mut self.server] {
                end.handle_timeout(self.now);
                while end.poll_transmit(self.now, &mut vec![0; 1 << 16]).is_some() {}
                end.tidy();
            }
            if self.rests() {
                return;
            }
        }
        panic!("the server's session does not come to rest");
    }

    /// Whether the server's session is at rest.
    pub fn rests(&self) -> bool {
        self.server.holdings().resting == 1
    }

    /// The server answers what it has, with what was asked.
    pub fn answer(&mut self) {
        while let Some(event) = self.server.poll_event() {
            if let Event::Request { id, payload, .. } = event {
                self.server.reply(self.now, id, payload).expect("it is taken");
            }
        }
    }

    /// How many responses the client has got since it was asked last.
    ///
    /// # Panics
    /// When a call failed, or a response is not what was sent.
    pub fn responses(&mut self) -> usize {
        let mut count = 0;
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Response { payload, .. } => {
                    assert_eq!(payload.len(), self.body.len());
                    count += 1;
                }
                Event::Failed { why, .. } => panic!("{why}"),
                _ => {}
            }
        }
        count
    }

    /// So many RPCs at once, from the first call to the last response.
    pub fn round(&mut self, outstanding: usize, trains: &mut Trains) {
        self.request(outstanding);
        self.finish(outstanding, trains);
    }

    /// Carries everything until so many responses are there.
    ///
    /// # Panics
    /// When nothing moves any more.
    pub fn finish(&mut self, outstanding: usize, trains: &mut Trains) {
        let mut done = self.responses();
        while done < outstanding {
            self.egress(Side::Client, trains);
            let moved = trains.used > 0;
            self.ingress(Side::Server, trains);
            self.answer();
            self.egress(Side::Server, trains);
            assert!(moved || trains.used > 0, "nothing moves");
            self.ingress(Side::Client, trains);
            done += self.responses();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_end() {
        for (bytes, outstanding) in [(0, 1), (64, 100), (2_000_000, 3)] {
            let (mut pair, mut trains) = (Pair::new(bytes), Trains::default());
            for _ in 0..10 {
                pair.round(outstanding, &mut trains);
            }
        }
    }
}
