//! Owns what came for the application until it takes it.

use std::collections::VecDeque;

use endpoint::state::Event;

/// Messages that wait for the application before nothing more is taken from the network.
const ITEMS_MAX: usize = 1 << 17;

/// Whether the application is given this; the rest is the driver's.
pub(crate) const fn is_for_application(event: &Event) -> bool {
    match event {
        Event::Request { .. } | Event::OneWay { .. } => true,
        Event::Response { waited, .. } | Event::Stream { waited, .. } | Event::Failed { waited, .. } => !*waited,
        _ => false,
    }
}

/// Bytes of messages that it keeps.
fn bytes(event: &Event) -> usize {
    match event {
        Event::Request { payload, .. } | Event::OneWay { payload, .. } | Event::Response { payload, .. } => {
            payload.len()
        }
        _ => 0,
    }
}

/// What came for the application and was not taken yet. Bounded: see [`crate::driver::Core::pump`].
#[derive(Default)]
pub(crate) struct Inbox {
    items: VecDeque<Event>,
    bytes: usize,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// Takes in what [`is_for_application`].
    #[inline]
    pub(crate) fn push(&mut self, item: Event) {
        self.bytes += bytes(&item);
        self.items.push_back(item);
    }

    /// Whether nothing more may be taken from the network until something is taken out of here.
    pub(crate) fn is_full(&self, bytes_max: u64) -> bool {
        self.items.len() >= ITEMS_MAX || self.bytes as u64 >= bytes_max
    }

    /// What came first.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let item = self.items.pop_front()?;
        self.bytes -= bytes(&item);
        Some(item)
    }

    /// What came first of those that `is_it` is true for.
    pub(crate) fn take(&mut self, is_it: impl Fn(&Event) -> bool) -> Option<Event> {
        let item = self.items.iter().position(is_it).and_then(|at| self.items.remove(at))?;
        self.bytes -= bytes(&item);
        Some(item)
    }
}
