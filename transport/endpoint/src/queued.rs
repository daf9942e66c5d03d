//! Owns the ends of messages that wait for a session: it will not be, it is no more, or it takes longer than their callers wait.

use std::net::SocketAddr;

use handshake::error::Error;
use proto::io::Failure;
use proto::time::Instant;
use wire::ids::{SessionId, Side};

use crate::error::Ended;
use crate::events::Event;
use crate::session::{CallId, Queued};
use crate::state::State;
use crate::trail::Step;

impl State {
    /// Messages whose deadline passes while they wait for a handshake fail: nothing of them was sent.
    pub(crate) fn fail_queued(&mut self, now: Instant) {
        if now < self.queue_deadline {
            return;
        }
        self.queue_deadline = Instant::FAR;
        for (slot, session) in self.sessions.iter_mut().enumerate() {
            let Some(session) = session else { continue };
            for message in session.queued.iter_mut().filter(|message| !message.aborted) {
                if message.deadline > now {
                    self.queue_deadline = self.queue_deadline.min(message.deadline);
                    continue;
                }
                message.aborted = true;
                self.room.let_go(core::mem::take(&mut message.body).len());
                let id = CallId { session: session.id, rpc: message.id.message().rpc() };
                let (cookie, waited, address) = (message.cookie, message.waited, Box::new(session.address));
                let (why, may_have_run) = (Ended::Failed(Failure::Deadline), message.early);
                self.trail.mark(Step::Failed, slot as u32, id.rpc, may_have_run.into());
                self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address });
            }
        }
    }

    /// The session of `slot` will not be: whoever waits for it is told why. It stays until its peer was told, too.
    pub(crate) fn will_not_be(&mut self, slot: u32, why: &Error) {
        let session = self.at(slot);
        session.dying = true;
        session.may_send = false;
        let (side, id, address) = (session.side, session.id, session.address);
        let queued = core::mem::take(&mut session.queued);
        self.counters.handshakes_failed += 1;
        self.retire(slot);
        if side == Side::Client {
            self.events.push_back(Event::ConnectFailed { session: id, why: Box::new(why.clone()), address });
        }
        self.fail_all(queued, slot, id, address, &Ended::Handshake(Box::new(why.clone())));
    }

    /// Messages of `session`, which was in `slot`, that nothing was sent of, unless in a first flight, end.
    pub(crate) fn fail_all(
        &mut self,
        queued: impl IntoIterator<Item = Queued>,
        slot: u32,
        session: SessionId,
        address: SocketAddr,
        why: &Ended,
    ) {
        for message in queued.into_iter().filter(|message| !message.aborted) {
            self.room.let_go(message.body.len());
            let id = CallId { session, rpc: message.id.message().rpc() };
            let (cookie, waited, may_have_run, why) = (message.cookie, message.waited, message.early, why.clone());
            self.trail.mark(Step::Failed, slot, id.rpc, may_have_run.into());
            self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address: Box::new(address) });
        }
    }
}
