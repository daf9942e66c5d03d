//! Owns what came for the application until it takes it.

use std::collections::VecDeque;

use endpoint::pool::Payload;
use endpoint::session::CallId;
use endpoint::state::Origin;
use wire::trailer::Kind;

use crate::error::Error;

/// Messages that wait for the application before nothing more is taken from the network.
const ITEMS_MAX: usize = 1 << 17;

/// What came for the application.
#[derive(Debug)]
pub(crate) enum Item {
    Request { id: CallId, from: Origin, payload: Payload },
    OneWay { id: CallId, from: Origin, payload: Payload },
    Response { id: CallId, from: Origin, cookie: u64, payload: Payload },
    Stream { id: CallId, from: Origin, kind: Kind, length: usize, cookie: u64 },
    Failed { id: CallId, cookie: u64, error: Error },
}

impl Item {
    /// Bytes of messages that it keeps.
    fn bytes(&self) -> usize {
        match self {
            Self::Request { payload, .. } | Self::OneWay { payload, .. } | Self::Response { payload, .. } => {
                payload.len()
            }
            Self::Stream { .. } | Self::Failed { .. } => 0,
        }
    }
}

/// What came for the application and was not taken yet. Bounded: see [`crate::driver::Core::pump`].
#[derive(Default)]
pub(crate) struct Inbox {
    items: VecDeque<Item>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
    }

    /// Whether nothing more may be taken from the network until something is taken out of here.
    pub(crate) fn is_full(&self, bytes_max: u64) -> bool {
        self.items.len() >= ITEMS_MAX || self.bytes as u64 >= bytes_max
    }

    /// What came first.
    pub(crate) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }

    /// What came first of those that `is_it` is true for.
    pub(crate) fn take(&mut self, is_it: impl Fn(&Item) -> bool) -> Option<Item> {
        let item = self.items.iter().position(is_it).and_then(|at| self.items.remove(at))?;
        self.bytes -= item.bytes();
        Some(item)
    }
}
