//! Owns first flights by published ticket at both ends: which ticket a handshake begins with, what is opened for strangers, and what
//! becomes of requests whose flight, by whichever ticket, was not taken. [P-6.9] [P-6.11] [P-6.12]
//!
//! A request of a first flight is begun again only when its server says under keys, and as the process that the ticket is of, that it was
//! not taken and never will be. Else nobody can know whether it ran: somebody may have brought a copy of the flight before, and the
//! caller is told so. [P-7.3]

use std::net::SocketAddr;

use handshake::client::Client;
use handshake::contract::Setup;
use handshake::error::Error;
use handshake::secrets::Established;
use handshake::server::Offer;
use proto::time::Instant;

use crate::error::Misuse;
use crate::state::State;

/// Without TLS there are no tickets.
#[cfg(not(feature = "tls"))]
impl State {
    pub(crate) fn first_client(
        &mut self,
        _: u32,
        name: &str,
        address: SocketAddr,
        setup: &Setup,
    ) -> Result<Client, Misuse> {
        self.tls_client(name, address, setup)
    }

    pub(crate) fn may_open_ticket(&mut self, _: Offer, _: Instant) -> bool {
        true
    }

    pub(crate) fn settle_flight(&mut self, _: u32, _: &Established, _: Instant) {}

    pub(crate) fn fall_back(&mut self, _: Instant, _: u32, _: &Error) -> bool {
        false
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use handshake::error::Alert;
    use handshake::published::{Publisher, Ticket, TicketId, Verdict, VerifiedTicket};
    use handshake::server::Server;
    use proto::io::Failure;
    use wire::handshake::HandshakePacket;
    use zeroize::Zeroizing;

    use super::{Client, Error, Established, Instant, Misuse, Offer, Setup, SocketAddr, State};
    use crate::endpoint::Endpoint;
    use crate::error::Ended;
    use crate::events::Event;
    use crate::session::{CallId, Phase, Upgrade};

    impl Endpoint {
        /// The ticket to be published now; `None` where first flights by published ticket are not taken. It changes when half of its
        /// time is over.
        ///
        /// # Errors
        /// When the certificate's key cannot sign, or there is no randomness.
        pub fn published_ticket(&self, now: Instant) -> Result<Option<Ticket>, Error> {
            let publisher = self.state.publisher();
            publisher.map(|publisher| publisher.ticket(self.state.unix_seconds(now))).transpose()
        }

        /// Sessions to `target` begin by this ticket from now on, where the message that they begin with may go early.
        pub fn use_ticket(&mut self, target: u32, ticket: VerifiedTicket, upgrade: Upgrade) {
            self.state.tickets.put(target, ticket, upgrade);
        }

        /// Nothing is published of `target` any more.
        pub fn forget_ticket(&mut self, target: u32) {
            self.state.tickets.forget(target);
        }

        /// The name of `target`, if a ticket of it would be used by the next early message: there is no session.
        pub fn wants_ticket(&self, target: u32) -> Option<&str> {
            let target = self.state.targets.get(target as usize)?;
            (target.session.is_none() && target.key.is_none()).then_some(&*target.name)
        }
    }

    impl State {
        fn unix_seconds(&self, now: Instant) -> u64 {
            self.config.unix_seconds_at_zero + now.as_nanos() / 1_000_000_000
        }

        fn publisher(&self) -> Option<&Publisher> {
            self.config.server.as_ref()?.publisher().map(|publisher| &**publisher)
        }

        // ---- Client ----

        /// The first words to a server: by its published ticket, if there is one and something may go early.
        pub(crate) fn first_client(
            &mut self,
            target: u32,
            name: &str,
            address: SocketAddr,
            setup: &Setup,
        ) -> Result<Client, Misuse> {
            let ticket = self.tickets.get(target, setup.unix_seconds).filter(|_| self.early_may_go());
            let Some((ticket, upgrade)) = ticket else { return self.tls_client(name, address, setup) };
            let mut secret = Zeroizing::new([0; 32]);
            (self.entropy)(&mut *secret);
            let nonce = self.nonce();
            let config = self.config.client.as_ref().ok_or(Misuse::NoTrust)?;
            let client = match upgrade {
                Upgrade::TicketOnly => Client::by_ticket(&ticket, self.config.cipher, &secret, nonce, setup),
                Upgrade::ForwardSecret => Client::tls_by_ticket(config, name, Some(address), &ticket, &secret, setup),
            };
            match client {
                Err(Error::NothingInCommon) => self.tls_client(name, address, setup),
                other => other.map_err(Misuse::Handshake),
            }
        }

        /// The session is open, and the server has said what became of the flight, or that it does not know the ticket.
        pub(crate) fn settle_flight(&mut self, slot: u32, established: &Established, _: Instant) {
            let session = self.at(slot);
            let Phase::Connecting(client) = &session.phase else { return };
            if !client.is_by_ticket() {
                // A handshake that resumes used up the ticket, here and now: no other one did, or ever will. [P-6.9]
                if !established.resumed {
                    self.fail_early(slot);
                }
                return;
            }
            let target = session.target;
            match established.verdict {
                Some(Verdict::Taken) => return,
                // It has not run and never will: it goes the ordinary way.
                Some(Verdict::Refused) => {}
                Some(Verdict::Seen) | None => self.fail_early(slot),
            }
            if let Some(target) = target {
                self.tickets.spend(target);
            }
        }

        /// Requests of a flight of which nobody knows whether it ran.
        fn fail_early(&mut self, slot: u32) {
            let session = self.sessions[slot as usize].as_mut().expect("a session in use");
            for message in session.queued.iter_mut().filter(|message| message.early && !message.aborted) {
                message.aborted = true;
                self.room.let_go(core::mem::take(&mut message.body).len());
                let id = CallId { session: session.id, rpc: message.id.message().rpc() };
                let (cookie, waited, address) = (message.cookie, message.waited, Box::new(session.address));
                let (why, may_have_run) = (Ended::Failed(Failure::PeerRestarted), true);
                self.trail.mark(crate::trail::Step::Failed, slot, id.rpc, may_have_run.into());
                self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address });
            }
        }

        /// A server does not know the ticket that was all there is of the handshake: in the same session an ordinary one begins.
        /// Who made that up gains nothing: what follows is stronger. What went in the flight fails, as it may have run.
        pub(crate) fn fall_back(&mut self, now: Instant, slot: u32, why: &Error) -> bool {
            let session = self.at(slot);
            let stale = matches!(why, Error::Refused { alert: Alert::UNKNOWN_PSK_IDENTITY, .. })
                && session.keys.is_none()
                && matches!(&session.phase, Phase::Connecting(client) if client.is_by_ticket());
            let (id, address, datagram_max) = (session.id, session.address, session.datagram_max);
            let Some(target) = session.target.filter(|_| stale) else { return false };
            self.tickets.spend(target);
            let name = self.targets[target as usize].name.clone();
            let setup = self.setup(id, datagram_max, None, now);
            let setup = Setup { datagram_max: datagram_max.max(wire::limits::DATAGRAM_MIN), ..setup };
            let Ok(client) = self.tls_client(&name, address, &setup) else { return false };
            self.fail_early(slot);
            self.counters.tickets_stale += 1;
            self.at(slot).phase = Phase::Connecting(Box::new(client));
            self.flights.push_back(slot);
            true
        }

        // ---- Server ----

        /// Whether what a stranger offers may be opened now, if it is a flight by a ticket of ours.
        pub(crate) fn may_open_ticket(&mut self, offer: Offer, now: Instant) -> bool {
            let Offer::Published(id) = offer else { return true };
            let known = self.publisher().is_some_and(|publisher| publisher.knows(id, self.unix_seconds(now)));
            !known || self.rates.may_open_ticket(now)
        }

        pub(crate) fn server_by_ticket(
            &mut self,
            id: TicketId,
            now: Instant,
            packet: &HandshakePacket<'_>,
            validated: bool,
            setup: &Setup,
        ) -> Option<Server> {
            let publisher = self.config.server.as_ref().and_then(|server| server.publisher().cloned());
            match publisher.filter(|publisher| publisher.knows(id, setup.unix_seconds)) {
                Some(publisher) => Server::by_ticket(&publisher, self.nonce(), packet, validated, setup).ok(),
                None => self.turn_away(now, packet, Alert::UNKNOWN_PSK_IDENTITY),
            }
        }
    }
}
