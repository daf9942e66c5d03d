//! Owns which published ticket there is of each server that sessions are opened to.

use std::collections::HashMap;

use handshake::published::VerifiedTicket;

use crate::session::Upgrade;

/// By target.
#[derive(Debug, Default)]
pub(crate) struct Tickets(HashMap<u32, (VerifiedTicket, Upgrade)>);

impl Tickets {
    pub(crate) fn put(&mut self, target: u32, ticket: VerifiedTicket, upgrade: Upgrade) {
        self.0.insert(target, (ticket, upgrade));
    }

    /// The one for `target`, if it holds.
    pub(crate) fn get(&self, target: u32, unix_seconds: u64) -> Option<(VerifiedTicket, Upgrade)> {
        self.0.get(&target).filter(|(ticket, _)| ticket.holds(unix_seconds)).cloned()
    }

    pub(crate) fn forget(&mut self, target: u32) {
        self.0.remove(&target);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
