//! Owns the end of single sessions: a socket that stays open and talks to a peer anew.

use endpoint::endpoint::To;

use crate::error::Error;
use crate::message::Peer;
use crate::socket::Socket;

impl Socket {
    /// Ends the session with `peer`, if there is one: the peer is told, and what is under way in it fails. The next message
    /// makes a new session, which resumes this one where both sides allow that.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn disconnect(&self, peer: &Peer) -> Result<(), Error> {
        let this = match peer.to {
            To::Session(session) => self.owner(session.shard()),
            To::Target(_) => self,
        };
        let mut core = this.open_core()?;
        let session = match peer.to {
            To::Target(target) => core.endpoint.session_of(target),
            To::Session(session) => Some(session),
        };
        if let Some(session) = session {
            core.endpoint.close_session(session);
            core.flush();
            core.file();
        }
        Ok(())
    }
}
