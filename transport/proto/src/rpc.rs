//! Owns one RPC's life, on either side, as a table of events.
//!
//! | state       | begun by | leaves when                                   | to                       |
//! |-------------|----------|-----------------------------------------------|--------------------------|
//! | Requesting  | us       | first record of the response                  | Answering                |
//! | Answering   | us       | last record of the response                   | Complete                 |
//! | Telling     | us       | ACK                                           | released                 |
//! | Receiving   | peer     | last record of a request / one-way message    | InService / Complete     |
//! | InService   | peer     | the application replies                       | Responding               |
//! | Responding  | peer     | ACK, or a floor above it                      | released                 |
//! | Complete    | either   | the endpoint took the message                 | freed                    |
//!
//! From every state of ours, silence, the deadline, REFUSED or the caller's abort lead to "failed"; from every state of
//! the peer's, its CANCEL, its floor or its silence lead to "released".

use wire::ids::{RpcId, Side};

use crate::incoming::Incoming;
use crate::io::{RpcInfo, State};
use crate::outgoing::Outgoing;
use crate::time::Instant;

/// One RPC.
#[derive(Debug)]
pub struct Rpc {
    /// It is one: else the rest is what the last in this slot left.
    pub open: bool,
    /// Its peer.
    pub peer: u32,
    /// Its name.
    pub id: RpcId,
    /// Whether we began it.
    pub ours: bool,
    /// Where it stands.
    pub state: State,
    /// Our message.
    pub out: Option<Outgoing>,
    /// The peer's message, if it has several records.
    pub inc: Option<Incoming>,
    /// Bytes of the peer's message that is here, if it is one record.
    pub whole: u32,
    /// Order of birth: ties in SRPT go to the older.
    pub age: u64,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The last sign of life that concerns this RPC.
    pub heard: Instant,
    /// When we last sent something of it; [`Instant::FAR`] before that.
    pub sent_at: Instant,
    /// Questions asked since the last sign of life.
    pub asked: u8,
    /// Something was sent twice: no sample of the answer time.
    pub repeated: bool,
    /// Its response came and found no room: it is not for us to ask until there is some. [P-8.7]
    pub waits_for_room: bool,
    /// Our message waits for the next epoch: it is not among what is ready. [P-6.5]
    pub held: bool,
    /// Its client waits for many responses. [P-8.11]
    pub incast: bool,
    /// It already failed or was released; only the endpoint's `free` is awaited.
    pub ended: bool,
    /// The endpoint was told that it ended.
    pub told: bool,
}

impl Rpc {
    /// None, where one may begin.
    pub const fn vacant() -> Self {
        Self {
            open: false,
            peer: 0,
            id: RpcId::new(Side::Client, 0),
            ours: false,
            state: State::Complete,
            out: None,
            inc: None,
            whole: 0,
            age: 0,
            deadline: Instant::FAR,
            heard: Instant::ZERO,
            sent_at: Instant::FAR,
            asked: 0,
            repeated: false,
            waits_for_room: false,
            held: false,
            incast: false,
            ended: false,
            told: false,
        }
    }

    /// One begins where none is, or where one was that left no message behind.
    #[inline(always)]
    pub fn begin(&mut self, peer: u32, id: RpcId, ours: bool, state: State, now: Instant) {
        debug_assert!(!self.open && self.out.is_none() && self.inc.is_none(), "it ended");
        (self.open, self.peer, self.id, self.ours, self.state) = (true, peer, id, ours, state);
        (self.whole, self.age, self.deadline, self.heard, self.sent_at) = (0, 0, Instant::FAR, now, Instant::FAR);
        (self.asked, self.repeated, self.waits_for_room, self.held) = (0, false, false, false);
        (self.incast, self.ended, self.told) = (false, false, false);
    }

    /// Whether the peer may have executed it: something of the request left us.
    pub fn may_have_run(&self) -> bool {
        self.state != State::Requesting && self.state != State::Telling
            || !self.out.as_ref().is_none_or(Outgoing::is_untouched)
    }

    /// Whether it is a request of ours whose response is not complete.
    pub const fn awaits_response(&self) -> bool {
        self.ours && matches!(self.state, State::Requesting | State::Answering)
    }

    /// Whether this is the response to what `peer` began as `sequence`, waiting for its ack.
    pub fn is_response(&self, peer: u32, sequence: u64) -> bool {
        let awaited = self.state == State::Responding && !self.ours && !self.ended;
        awaited && self.peer == peer && self.id.sequence() == sequence
    }

    /// Bytes that are buffered of the peer's message, which is all of it.
    pub fn buffered(&self) -> u32 {
        self.inc.as_ref().map_or(self.whole, |inc| inc.geometry().length())
    }

    /// A snapshot.
    pub fn info(&self) -> RpcInfo {
        let out = self.out.as_ref();
        let inc = self.inc.as_ref();
        RpcInfo {
            rpc: self.id,
            peer: self.peer,
            state: self.state,
            out_length: out.map_or(0, |o| o.geometry().length()),
            out_sent: out.map_or(0, Outgoing::bytes_sent),
            out_granted: out.map_or(0, Outgoing::bytes_granted),
            in_length: inc.map_or(self.whole, |i| i.geometry().length()),
            in_received: inc.map_or(self.whole, Incoming::received),
            in_granted: inc.map_or(self.whole, Incoming::granted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    /// Nothing is left of the one that was in the slot before. All fields stand here by name, so whoever adds one thinks of it.
    #[test]
    fn one_that_begins_where_another_was() {
        let now = Instant::from_nanos(5);
        let mut used = Rpc {
            open: false,
            peer: 9,
            id: RpcId::new(Side::Server, 9),
            ours: true,
            state: State::Responding,
            out: None,
            inc: None,
            whole: 9,
            age: 9,
            deadline: now,
            heard: Instant::ZERO,
            sent_at: now,
            asked: 9,
            repeated: true,
            waits_for_room: true,
            held: true,
            incast: true,
            ended: true,
            told: true,
        };
        let mut fresh = Rpc::vacant();
        for rpc in [&mut used, &mut fresh] {
            rpc.begin(3, RpcId::new(Side::Client, 4), false, State::Receiving, now);
        }
        assert_eq!(format!("{used:?}"), format!("{fresh:?}"));
    }
}
