//! Owns which published ticket there is of each server that sessions are opened to.

use std::collections::HashMap;

use handshake::published::{TicketId, VerifiedTicket};

use crate::session::Upgrade;

/// By target.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    good: HashMap<u32, (VerifiedTicket, Upgrade)>,
    /// The last one that its server did not take: it is not tried again, however often it is found.
    spent: HashMap<u32, TicketId>,
}

impl Tickets {
    pub(crate) fn put(&mut self, target: u32, ticket: VerifiedTicket, upgrade: Upgrade) {
        if self.spent.get(&target) != Some(&ticket.id()) {
            self.good.insert(target, (ticket, upgrade));
        }
    }

    /// The one for `target`, if it holds.
    pub(crate) fn get(&self, target: u32, unix_seconds: u64) -> Option<(VerifiedTicket, Upgrade)> {
        self.good.get(&target).filter(|(ticket, _)| ticket.holds(unix_seconds)).cloned()
    }

    pub(crate) fn forget(&mut self, target: u32) {
        self.good.remove(&target);
    }

    /// The server does not take it, or no longer.
    pub(crate) fn spend(&mut self, target: u32) {
        if let Some((ticket, _)) = self.good.remove(&target) {
            self.spent.insert(target, ticket.id());
        }
    }

    pub(crate) fn clear(&mut self) {
        self.good.clear();
    }
}
