//! Owns the forms of sending that never block: what an event loop uses. That of replying is beside the blocking one, in `serving`.

use endpoint::endpoint::To;
use proto::time::Instant;
use wire::trailer::Kind;

use crate::error::Error;
use crate::message::{Body, Peer, RpcId};
use crate::socket::{Socket, sending};

impl Socket {
    /// [`Self::send`] that never blocks. [`Self::readiness`] tells when there is room again.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when too many bytes are held for sending.
    pub fn try_send<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>, cookie: u64) -> Result<RpcId, Error> {
        self.try_send_at(self.sender(peer, false), peer, &mut body.into(), Kind::Request, cookie)
    }

    /// [`Self::send_one_way`] that never blocks, as [`Self::try_send`].
    ///
    /// # Errors
    /// [`Error::WouldBlock`] when too many bytes are held for sending.
    pub fn try_send_one_way<'a>(&self, peer: &Peer, body: impl Into<Body<'a>>) -> Result<RpcId, Error> {
        self.try_send_at(self.sender(peer, false), peer, &mut body.into(), Kind::OneWay, 0)
    }

    pub(crate) fn try_send_at(
        &self,
        this: &Self,
        peer: &Peer,
        body: &mut Body<'_>,
        kind: Kind,
        cookie: u64,
    ) -> Result<RpcId, Error> {
        let mut core = this.open_core()?;
        let sending = sending(kind, cookie, false, Instant::FAR, false);
        let now = core.now();
        let sent = this.submit_now(&mut core, now, peer, body, sending);
        this.shared.stir(&mut core);
        drop(core);
        if let (Err(Error::Connecting), To::Target(target)) = (&sent, peer.to) {
            let mut core = self.open_core()?;
            let now = core.now();
            core.endpoint.connect(now, target)?;
            core.flush_at(now);
            self.shared.stir(&mut core);
        }
        sent.map(RpcId)
    }
}
