//! Owns peers that change their address: a session goes on where its peer proved to be, and assumes nothing of the new path. [P-2.3]

use std::net::SocketAddr;

use proto::time::Instant;
use wire::bytes::Writer;
use wire::control::Frame;
use wire::limits::DATAGRAM_MIN;

use crate::egress::Transmit;
use crate::events::Event;
use crate::session::Phase;
use crate::state::State;

impl State {
    /// Something valid came that was not here before: perhaps from another address than the peer's. (What was here before proves nothing
    /// of now: anyone may have kept it.)
    #[inline]
    pub(crate) fn fresh(&mut self, slot: u32, now: Instant) {
        if self.sessions[slot as usize].as_ref().is_some_and(|session| session.address != self.from) {
            self.elsewhere(slot, now);
        }
    }

    fn elsewhere(&mut self, slot: u32, now: Instant) {
        let rtt = self.machine.rtt(slot).unwrap_or_default();
        let Some(session) = self.sessions[slot as usize].as_ref() else { return };
        // A handshake that is not over knows its peer by the address, and has no time to move.
        if session.closing || session.dying || !matches!(session.phase, Phase::Open) {
            return;
        }
        let places = (session.address, self.from);
        let entropy = &mut self.entropy;
        let mut random = || {
            let mut bytes = [0; 8];
            entropy(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        if self.paths.heard(now, slot, places, rtt, &mut random) {
            self.relocate(slot);
        }
    }

    /// The peer returns a token.
    pub(crate) fn path_response(&mut self, slot: u32, now: Instant, token: u64) {
        self.paths.answer(now, slot, self.from, token);
    }

    /// The session goes on at the address that a packet just came from.
    fn relocate(&mut self, slot: u32) {
        let address = self.from;
        self.move_to(slot, address);
        self.lanes_follow(slot, address);
    }

    pub(crate) fn move_to(&mut self, slot: u32, address: SocketAddr) {
        let session = self.at(slot);
        session.address = address;
        session.origin = None;
        // What every path carries, until somebody knows better; and what is measured from now on. [P-5.6]
        session.datagram_max = DATAGRAM_MIN;
        let session = session.id;
        self.machine.path_changed(slot);
        self.counters.sessions_moved += 1;
        self.events.push_back(Event::Moved { session, address });
    }

    /// The next question to an address where a peer may be.
    pub(crate) fn question(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        loop {
            let question = self.paths.next_question()?;
            let frame = Frame::PathChallenge { token: question.token };
            let mut bytes = [0; Frame::LEN_MAX];
            let mut w = Writer::new(&mut bytes);
            frame.emit(&mut w);
            let len = w.len();
            if let Some(transmit) = self.seal_frames(now, question.slot, question.to, &bytes[..len], out) {
                return Some(transmit);
            }
        }
    }

    /// The way to `address` takes datagrams of `datagram_max` bytes: of sessions that moved there nothing was known.
    pub(crate) fn path_carries(&mut self, session: wire::ids::SessionId, datagram_max: usize) {
        let most = datagram_max.min(self.config.datagram_bytes_max);
        self.rouse(session);
        if let Some((slot, _)) = self.session(session) {
            let session = self.at(slot);
            session.datagram_max = most.min(session.peer_datagram_max).max(DATAGRAM_MIN);
            let (root, datagram_max) = (session.root, session.datagram_max);
            self.lanes_carry(root, datagram_max);
        }
    }
}
