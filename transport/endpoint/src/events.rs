//! Owns what an endpoint tells: events, those for its driver and, apart from them if it wants that, those for the application.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::ids::SessionId;
use wire::trailer::Kind;

use crate::error::Ended;
use crate::pool::Payload;
use crate::session::{CallId, Origin};

/// What an endpoint tells its driver.
// Its kind takes a word, and the fields begin at one: those of an event that was just copied are read at once, and a processor waits for
// what it reads across the boundary of two writes.
#[derive(Debug)]
#[repr(u64)]
pub enum Event {
    /// A request to be answered.
    Request {
        /// Its name.
        id: CallId,
        /// The message.
        payload: Payload,
        /// Who asks.
        from: Arc<Origin>,
    },
    /// A one-way message.
    OneWay {
        /// Its name.
        id: CallId,
        /// The message.
        payload: Payload,
        /// Who sent it.
        from: Arc<Origin>,
    },
    /// The response to a request of ours.
    Response {
        /// The request's name.
        id: CallId,
        /// The message.
        payload: Payload,
        /// Who answers.
        from: Arc<Origin>,
        /// The caller's own number.
        cookie: u64,
    },
    /// The response to a request of ours, where somebody waits for just this one.
    Answer {
        /// The request's name.
        id: CallId,
        /// The message.
        payload: Payload,
    },
    /// The first bytes of a long message are there: it is read with `read` while it arrives.
    Stream {
        /// Its name.
        id: CallId,
        /// From whom.
        from: Arc<Origin>,
        /// What it is.
        kind: Kind,
        /// Its length.
        length: usize,
        /// The caller's own number, when it is a response.
        cookie: u64,
        /// Somebody waits for just this one.
        waited: bool,
    },
    /// More contiguous bytes of a stream can be read, or it broke.
    Readable {
        /// Its name.
        id: CallId,
    },
    /// An RPC of ours ended without a reply.
    Failed {
        /// Its name.
        id: CallId,
        /// The caller's own number.
        cookie: u64,
        /// Why.
        why: Ended,
        /// Somebody waits for just this one.
        waited: bool,
        /// Whether the peer may have executed it.
        may_have_run: bool,
        /// Where the peer is. Few fail, so it takes little room here.
        address: Box<SocketAddr>,
    },
    /// A one-way message of ours arrived in full.
    Arrived {
        /// Its name.
        id: CallId,
        /// The caller's own number.
        cookie: u64,
        /// Somebody waits for just this one.
        waited: bool,
    },
    /// The caller of a request that the application has no longer wants the response.
    Cancelled {
        /// Its name.
        id: CallId,
    },
    /// A session that we began is open.
    Connected {
        /// Its name.
        session: SessionId,
    },
    /// The peer of a session proved that it is at another address now. What the way there carries is to be told by
    /// [`crate::endpoint::Endpoint::path_carries`]; till then the session uses what every path does.
    Moved {
        /// The session's name.
        session: SessionId,
        /// Where it is.
        address: SocketAddr,
    },
    /// A handshake that we began failed.
    ConnectFailed {
        /// The session's name.
        session: SessionId,
        /// Why.
        why: Box<handshake::error::Error>,
        /// With whom.
        address: SocketAddr,
    },
}

/// Messages that wait for the application before nothing more is taken from the network.
const ITEMS_MAX: usize = 1 << 17;

/// Whether the application is given this; the rest is the driver's.
#[inline(always)]
const fn is_for_application(event: &Event) -> bool {
    match event {
        Event::Request { .. } | Event::OneWay { .. } | Event::Response { .. } => true,
        Event::Stream { waited, .. } | Event::Failed { waited, .. } => !*waited,
        _ => false,
    }
}

/// Bytes of messages that it keeps.
#[inline(always)]
fn bytes(event: &Event) -> usize {
    match event {
        Event::Request { payload, .. } | Event::OneWay { payload, .. } | Event::Response { payload, .. } => {
            payload.len()
        }
        _ => 0,
    }
}

/// What came for the application and was not taken yet. Bounded by whoever takes nothing more from the network while it
/// [is full](Self::is_full).
#[derive(Debug, Default)]
pub struct Inbox {
    items: VecDeque<Event>,
    bytes: usize,
    came: u64,
}

impl Inbox {
    /// How many have ever come.
    pub const fn came(&self) -> u64 {
        self.came
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many are there.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes in what [is for the application](is_for_application).
    #[inline(always)]
    fn push(&mut self, item: Event) {
        self.bytes += bytes(&item);
        self.came += 1;
        self.items.push_back(item);
    }

    /// Whether nothing more may be taken from the network until something is taken out of here.
    pub fn is_full(&self, bytes_max: u64) -> bool {
        self.items.len() >= ITEMS_MAX || self.bytes as u64 >= bytes_max
    }

    /// What came first.
    #[inline]
    pub fn pop(&mut self) -> Option<Event> {
        let item = self.items.pop_front()?;
        self.bytes -= bytes(&item);
        Some(item)
    }

    /// What came first of those that `is_it` is true for.
    pub fn take(&mut self, is_it: impl Fn(&Event) -> bool) -> Option<Event> {
        let item = self.items.iter().position(is_it).and_then(|at| self.items.remove(at))?;
        self.bytes -= bytes(&item);
        Some(item)
    }
}

/// What happened and was not told yet, in the order in which it did.
#[derive(Debug, Default)]
pub(crate) struct Events {
    told: VecDeque<Event>,
    pub(crate) inbox: Inbox,
    /// What is for the application goes to the inbox at once: to pass it on from one queue to another is most of what an event costs.
    pub(crate) is_apart: bool,
}

impl Events {
    #[inline(always)]
    pub(crate) fn push_back(&mut self, event: Event) {
        if self.is_apart && is_for_application(&event) {
            self.inbox.push(event);
        } else {
            self.told.push_back(event);
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Event> {
        self.told.pop_front()
    }
}
