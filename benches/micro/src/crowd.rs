//! Many sessions between two endpoints in memory, and many messages under way: what holds memory, without a kernel.

use std::net::SocketAddr;
use std::time::Duration;

use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use endpoint::pool::{Buffer, Payload};
use proto::time::Instant;
use record::keys::Secret;
use wire::ids::Side;
use wire::trailer::Kind;

use crate::{ADDRESSES, DATAGRAM_MAX, endpoint_with};

/// Between two requests: so slow that nobody takes it for a flood.
const STEP: Duration = Duration::from_millis(1);
/// Sessions that are opened between two looks at timers. Without them none would come to rest before all are there.
const TURN: usize = 20;
/// How long nothing happens before everything is at rest, in steps of timers.
const REST: Duration = Duration::from_millis(500);
const RESTS: usize = 20;
/// Idle sessions rest after a minute; here sooner, so that those that are opened first rest before the last are there.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// A client and a server with as many sessions as are asked for.
#[derive(Debug)]
pub struct Crowd {
    client: Endpoint,
    server: Endpoint,
    targets: Vec<u32>,
    now: Instant,
    train: Vec<u8>,
    /// What the client and the server receive into, as a driver keeps it.
    spare: [Option<Buffer>; 2],
    /// Requests that the server does not answer.
    held: Vec<Payload>,
}

impl Default for Crowd {
    fn default() -> Self {
        Self::with_rest(RESTS_AFTER)
    }
}

impl Crowd {
    fn with_rest(after: Duration) -> Self {
        let endpoint = |seed| endpoint_with(seed, |config| config.session_rests_after = after);
        let (client, server) = (endpoint(1), endpoint(2));
        let (targets, now) = (Vec::new(), Instant::from_nanos(1_000_000_000));
        Self { client, server, targets, now, train: vec![0; 1 << 16], spare: [None, None], held: Vec::new() }
    }

    fn open(&mut self) {
        let mut secret = [9; 32];
        secret[..8].copy_from_slice(&(self.targets.len() as u64).to_le_bytes());
        let secret = Secret::new(secret);
        self.server.install(SocketAddr::from(ADDRESSES[0]), Side::Server, &secret, "client", DATAGRAM_MAX);
        let target = self.client.install(SocketAddr::from(ADDRESSES[1]), Side::Client, &secret, "server", DATAGRAM_MAX);
        let target = target.expect("a client's end has a target");
        self.targets.push(target);
        self.request(target, b"hello");
        assert_eq!(self.carry(true), 1, "a session did not open");
        if self.targets.len().is_multiple_of(TURN) {
            self.look_after();
        }
    }

    /// Opens sessions until there are so many, each by one request and its answer, and waits until all of them rest. Does nothing where there
    /// are as many already: of those, one may hold messages.
    ///
    /// # Panics
    /// When a session does not open, or not all come to rest.
    pub fn grow(&mut self, sessions: usize) {
        if self.targets.len() >= sessions {
            return;
        }
        self.targets.reserve_exact(sessions.saturating_sub(self.targets.len()));
        while self.targets.len() < sessions {
            self.open();
        }
        self.rest();
        // What is held by sessions that are awake is another figure.
        assert_eq!(self.resting(), self.targets.len(), "sessions that rest");
    }

    /// So many sessions that stay awake.
    ///
    /// # Panics
    /// When one does not open.
    #[must_use]
    pub fn awake(sessions: usize) -> Self {
        let mut crowd = Self::with_rest(Duration::from_secs(1 << 20));
        while crowd.targets.len() < sessions {
            crowd.open();
        }
        crowd
    }

    /// One RPC of 64 bytes in each of these sessions, one after the other, so long apart. Timers are served as a driver does.
    ///
    /// # Panics
    /// When one does not end.
    pub fn calls(&mut self, sessions: impl Iterator<Item = usize>, apart: Duration) {
        for session in sessions {
            self.request(self.targets[session], &[7; 64]);
            assert_eq!(self.carry(true), 1, "a call did not end");
            self.now += apart;
            if [&self.client, &self.server].into_iter().any(|end| end.timeout().is_some_and(|at| at <= self.now)) {
                self.look_after();
            }
        }
    }

    /// How many sessions of the server rest.
    #[must_use]
    pub fn resting(&self) -> usize {
        self.server.holdings().resting
    }

    /// Sends requests of `size` bytes in the first session until the server has so many, which it does not answer.
    ///
    /// # Panics
    /// When one does not arrive, or there is no session.
    pub fn hold(&mut self, size: usize, count: usize) {
        let body = vec![7; size];
        self.held.reserve_exact(count.saturating_sub(self.held.len()));
        for _ in self.held.len()..count {
            self.request(self.targets[0], &body);
            self.carry(false);
        }
        assert_eq!(self.held.len(), count, "a request did not arrive");
    }

    fn request(&mut self, target: u32, body: &[u8]) {
        self.now += STEP;
        let sending =
            Sending { kind: Kind::Request, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        let body = self.client.copy(body);
        self.client.send(self.now, To::Target(target), body, sending).expect("it is taken");
    }

    /// Carries datagrams until nothing moves; what the server does not answer it keeps. How many answers came.
    fn carry(&mut self, answers: bool) -> usize {
        let mut responses = 0;
        loop {
            let moved = self.carry_from(Side::Client) | self.carry_from(Side::Server);
            while let Some(event) = self.server.poll_event() {
                if let Event::Request { id, payload, .. } = event {
                    if answers {
                        self.server.reply(self.now, id, payload).expect("it is taken");
                    } else {
                        self.held.push(payload);
                    }
                }
            }
            while let Some(event) = self.client.poll_event() {
                responses += usize::from(matches!(event, Event::Response { .. }));
            }
            if !moved {
                return responses;
            }
        }
    }

    fn carry_from(&mut self, side: Side) -> bool {
        let [clients, servers] = &mut self.spare;
        let (from, to, spare, address) = match side {
            Side::Client => (&mut self.client, &mut self.server, servers, ADDRESSES[0]),
            Side::Server => (&mut self.server, &mut self.client, clients, ADDRESSES[1]),
        };
        let mut moved = false;
        while let Some(transmit) = from.poll_transmit(self.now, &mut self.train) {
            let mut buffer = spare.take().unwrap_or_else(|| to.buffer());
            buffer.bytes()[..transmit.len].copy_from_slice(&self.train[..transmit.len]);
            *spare = to.handle_datagrams(self.now, SocketAddr::from(address), buffer, transmit.len, transmit.segment);
            moved = true;
        }
        moved
    }

    fn rest(&mut self) {
        for _ in 0..RESTS {
            self.now += REST;
            self.look_after();
        }
    }

    /// What a driver does when timers are due.
    fn look_after(&mut self) {
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        self.carry(true);
        self.client.tidy();
        self.server.tidy();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_to_rest_and_messages_are_held() {
        let mut crowd = Crowd::default();
        for sessions in [1, 10, 50] {
            crowd.grow(sessions);
            assert_eq!((crowd.targets.len(), crowd.resting()), (sessions, sessions));
        }
        for held in [5, 40] {
            crowd.grow(1);
            crowd.hold(1000, held);
            assert!(crowd.held.len() == held && crowd.held.iter().all(|payload| payload.len() == 1000));
        }
    }
}
