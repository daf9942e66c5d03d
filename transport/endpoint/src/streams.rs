//! Owns the reading of messages while they still come: verified bytes from the front on, as far as there is no gap.

use proto::io::State as RpcState;
use wire::bytes::copy;

use crate::endpoint::Endpoint;
use crate::session::CallId;
use crate::state::State;

impl Endpoint {
    /// Copies the next verified bytes of a streamed message, from `offset` on, to `into`. Gives how many, and whether the
    /// message ends there; `None` when the stream broke.
    pub fn read(&mut self, id: CallId, offset: usize, into: &mut [u8]) -> Option<(usize, bool)> {
        let (peer, _) = self.state.session(id.session)?;
        let slot = self.state.machine.find(peer, id.rpc)?;
        let State { machine, calls, .. } = &mut self.state;
        let call = calls[slot as usize].as_mut()?;
        let (length, n) = match (&call.whole, &mut call.buffer) {
            (Some(whole), _) => {
                let n = whole.len().saturating_sub(offset).min(into.len());
                copy(&mut into[..n], &whole[offset..offset + n]);
                (whole.len(), n)
            }
            (None, Some(buffer)) => {
                let incoming = machine.incoming(slot)?;
                let n = (incoming.contiguous() as usize).saturating_sub(offset).min(into.len());
                copy(&mut into[..n], &buffer.bytes()[offset..offset + n]);
                (incoming.geometry().length() as usize, n)
            }
            (None, None) => return None,
        };
        Some((n, offset + n == length))
    }

    /// The application has read a stream to its end, or no longer wants the rest. A request stays open for its reply.
    pub fn end_stream(&mut self, id: CallId) {
        let Some((peer, session)) = self.state.session(id.session) else { return };
        let ours = id.rpc.began() == session.side;
        let Some(slot) = self.state.machine.find(peer, id.rpc) else { return };
        match self.state.machine.rpc(slot) {
            Some((_, _, RpcState::Complete)) => drop(self.state.drop_call(slot)),
            Some(_) if ours => drop(self.abort(id)),
            _ => {
                if let Some(call) = self.state.call(slot) {
                    call.whole = None;
                }
            }
        }
    }
}
