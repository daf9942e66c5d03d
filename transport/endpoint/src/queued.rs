//! Owns messages that wait for a handshake for longer than their callers do.

use proto::io::Failure;
use proto::time::Instant;

use crate::error::Ended;
use crate::pool::Payload;
use crate::session::CallId;
use crate::state::{Event, State};

impl State {
    /// Messages whose deadline passes while they wait for a handshake fail: nothing of them was sent.
    pub(crate) fn fail_queued(&mut self, now: Instant) {
        if now < self.queue_deadline {
            return;
        }
        self.queue_deadline = Instant::FAR;
        for session in self.sessions.iter_mut().flatten() {
            for message in session.queued.iter_mut().filter(|message| !message.aborted) {
                if message.deadline > now {
                    self.queue_deadline = self.queue_deadline.min(message.deadline);
                    continue;
                }
                message.aborted = true;
                self.held_bytes -= core::mem::replace(&mut message.body, Payload::empty()).len() as u64;
                let id = CallId { session: session.id, rpc: message.id.message().rpc() };
                let (cookie, waited, address) = (message.cookie, message.waited, session.address);
                let (why, may_have_run) = (Ended::Failed(Failure::Deadline), message.early);
                self.events.push_back(Event::Failed { id, cookie, waited, why, may_have_run, address });
            }
        }
    }
}
