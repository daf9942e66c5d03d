//! Owns published tickets at a socket: a server's own, and the ones that a client finds and judges before it uses them. [P-6.10]

use std::sync::{Arc, PoisonError};

use endpoint::endpoint::To;
use endpoint::session::Upgrade;
use handshake::identity::PeerIdentity;
use handshake::published::VerifiedTicket;

use crate::credentials::{Choices, Trust};
use crate::driver::unix_seconds;
use crate::error::Error;
use crate::message::Peer;
use crate::socket::Socket;
use crate::ticket::{InvalidTicket, Ticket, TicketSource};

impl Ticket {
    /// Checks it as a client checks a server in a handshake: the chain against `trust`, the certificate for `name`, the time of both, and
    /// the signature. Says whose it is.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify(&self, trust: &Trust, name: &str) -> Result<PeerIdentity, InvalidTicket> {
        self.verify_at(trust, name, unix_seconds())
    }

    /// [`Self::verify`] at another time, in seconds since 1970.
    ///
    /// # Errors
    /// The first check that failed.
    pub fn verify_at(&self, trust: &Trust, name: &str, unix_seconds: u64) -> Result<PeerIdentity, InvalidTicket> {
        self.0.clone().verify(&trust.0, name, unix_seconds).map(|verified| verified.identity().clone())
    }
}

/// What a socket does with tickets of servers.
#[derive(Clone)]
pub(crate) struct Sought {
    source: Arc<dyn TicketSource>,
    pub(crate) name: String,
    target: u32,
    upgrade: Upgrade,
}

impl Sought {
    /// Asks; may block.
    pub(crate) fn ask(&self) -> Option<Ticket> {
        self.source.ticket(&self.name)
    }
}

impl Socket {
    /// The ticket to be published now, where [`crate::Builder::publish_tickets`] was chosen. It changes when half of its time is over:
    /// ask again from time to time, and publish what is new. The private half lives in this process only.
    ///
    /// # Errors
    /// [`Error::Config`] where no tickets are published, [`Error::Credentials`] when the certificate's key cannot sign.
    pub fn publish_ticket(&self) -> Result<Ticket, Error> {
        let core = self.open_core()?;
        let ticket = core.endpoint.published_ticket(core.now()).map_err(Error::Credentials)?;
        let none = || Error::Config("this socket publishes no tickets: see Builder::publish_tickets".to_owned());
        ticket.map(Ticket).ok_or_else(none)
    }

    /// Finds a ticket for a session that an early call may begin.
    pub(crate) fn find_ticket(&self, peer: &Peer) {
        if let Some(sought) = self.seek_ticket(peer) {
            self.use_ticket(&sought, sought.ask());
        }
    }

    /// What to ask for, if a ticket would be of use.
    pub(crate) fn seek_ticket(&self, peer: &Peer) -> Option<Sought> {
        let To::Target(target) = peer.to else { return None };
        let (source, upgrade) = self.credentials.lock().unwrap_or_else(PoisonError::into_inner).tickets_from.clone()?;
        let name = self.open_core().ok()?.endpoint.wants_ticket(target)?.to_owned();
        Some(Sought { source, name, target, upgrade })
    }

    /// Judges what was found, and uses it if it is good. What was found before is not used any more.
    pub(crate) fn use_ticket(&self, sought: &Sought, ticket: Option<Ticket>) {
        let mut choices = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        let verified = ticket.and_then(|ticket| Self::judge(&choices, sought, ticket));
        if let Some(verified) = &verified {
            choices.judged.insert(sought.target, verified.clone());
        }
        // With the choices still locked: what is no longer trusted must not come in behind a reload.
        if let Ok(mut core) = self.open_core() {
            match verified {
                Some(verified) => core.endpoint.use_ticket(sought.target, verified, sought.upgrade),
                None => core.endpoint.forget_ticket(sought.target),
            }
        }
    }

    /// A ticket is judged once.
    fn judge(choices: &Choices, sought: &Sought, ticket: Ticket) -> Option<VerifiedTicket> {
        let now = unix_seconds();
        let known = choices.judged.get(&sought.target).filter(|known| *known.ticket() == ticket.0 && known.holds(now));
        if let Some(known) = known {
            return Some(known.clone());
        }
        let judged = ticket.0.verify(&choices.trust.as_ref()?.0, &sought.name, now);
        judged.inspect_err(|why| tracing::debug!(name = sought.name, %why, "a ticket is not believed")).ok()
    }
}
