//! Owns what a socket does with what comes to it: recv, reply, refuse.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use endpoint::events::{Event, Inbox};
use endpoint::session::CallId;
use proto::time::Instant;

use crate::delivery::Delivery;
use crate::driver::Core;
use crate::error::Error;
use crate::message::{Body, Failed, OneWay, PeerInfo, ReplyToken, Request, Response, RpcId};
use crate::socket::Socket;
use crate::stream::MessageStream;
use crate::waiting::WaitEnd;

impl Socket {
    /// Waits for what comes next from anyone: a request, a response to something sent with [`Self::send`], a one-way
    /// message, or word that something sent failed.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv(&self) -> Result<Delivery, Error> {
        if self.is_spread() {
            return self.recv_any(None).map(|item| item.expect("it waits without end"));
        }
        self.recv_here()
    }

    pub(crate) fn recv_here(&self) -> Result<Delivery, Error> {
        let item = self.shared.wait_for(None, |core| core.inbox().pop()).map_err(|_| self.shared.ended())?;
        Ok(self.delivery(item))
    }

    /// [`Self::recv`] that waits at most for `span`; `None` when nothing came.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv_timeout(&self, span: Duration) -> Result<Option<Delivery>, Error> {
        if self.is_spread() { self.recv_any(Some(span)) } else { self.recv_timeout_here(span) }
    }

    pub(crate) fn recv_timeout_here(&self, span: Duration) -> Result<Option<Delivery>, Error> {
        match self.shared.wait_for(Some(span), |core| core.inbox().pop()) {
            Ok(item) => Ok(Some(self.delivery(item))),
            Err(WaitEnd::TimedOut) => Ok(None),
            Err(WaitEnd::Closed) => Err(self.shared.ended()),
        }
    }

    /// [`Self::recv`] that does not wait. Polls the network once.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn try_recv(&self) -> Result<Option<Delivery>, Error> {
        if self.is_spread() { self.try_recv_any() } else { self.try_recv_here() }
    }

    pub(crate) fn try_recv_here(&self) -> Result<Option<Delivery>, Error> {
        // What was just made is not moved: a processor waits for what it reads in other pieces than it was written in.
        let item = self.look(Inbox::pop)?;
        Ok(item.map(|item| self.delivery(item)))
    }

    /// Takes what has come, at most `most` at once, and gives how many those are; waits at most for `span` if nothing has. What they are
    /// answered with in one [`Self::batch`] then travels together.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn recv_many(&self, into: &mut VecDeque<Delivery>, most: usize, span: Duration) -> Result<usize, Error> {
        if most == 0 {
            // There is nothing to wait for.
            return self.try_recv_many(into, 0);
        }
        if self.is_spread() {
            let Some(first) = self.recv_any(Some(span))? else { return Ok(0) };
            into.push_back(first);
            return Ok(1 + self.try_recv_many(into, most - 1)?);
        }
        self.recv_many_here(into, most, span)
    }

    pub(crate) fn recv_many_here(
        &self,
        into: &mut VecDeque<Delivery>,
        most: usize,
        span: Duration,
    ) -> Result<usize, Error> {
        let some = |core: &mut Core| (!core.inbox().is_empty()).then(|| self.take_many(core.inbox(), into, most));
        match self.shared.wait_for(Some(span), some) {
            Ok(count) => Ok(count),
            Err(WaitEnd::TimedOut) => Ok(0),
            Err(WaitEnd::Closed) => Err(self.shared.ended()),
        }
    }

    /// [`Self::recv_many`] that does not wait: for event loops, which pay for one look at the network, not for one a message.
    ///
    /// # Errors
    /// [`Error::Closed`] when the socket was closed.
    pub fn try_recv_many(&self, into: &mut VecDeque<Delivery>, most: usize) -> Result<usize, Error> {
        let mut count = 0;
        for this in self.all() {
            count += this.try_recv_many_here(into, most - count)?;
        }
        Ok(count)
    }

    pub(crate) fn try_recv_many_here(&self, into: &mut VecDeque<Delivery>, most: usize) -> Result<usize, Error> {
        self.look(|inbox| self.take_many(inbox, into, most))
    }

    fn take_many(&self, inbox: &mut Inbox, into: &mut VecDeque<Delivery>, most: usize) -> usize {
        let count = inbox.len().min(most);
        into.reserve(count);
        for _ in 0..count {
            let Some(item) = inbox.pop() else { break };
            // Made where it goes.
            into.push_back(self.delivery(item));
        }
        count
    }

    /// Takes from what has come. Looks at the network once, unless there is something already.
    fn look<T>(&self, take: impl FnOnce(&mut Inbox) -> T) -> Result<T, Error> {
        let mut core = self.open_core()?;
        self.shared.attend(&mut core);
        core.attend_outside();
        if core.inbox().is_empty() {
            core.pump(true);
        }
        let taken = take(core.inbox());
        core.arm_outside();
        self.shared.leave(&mut core);
        Ok(taken)
    }

    /// What the application is given for an event that is for it.
    #[inline(always)]
    pub(crate) fn delivery(&self, event: Event) -> Delivery {
        match event {
            Event::Request { id, from, payload } => Delivery::Request(Request {
                protection: from.protection,
                peer: PeerInfo(from),
                id: RpcId(id),
                payload,
                token: ReplyToken(id),
            }),
            Event::OneWay { id, from, payload } => {
                let protection = from.protection;
                Delivery::OneWay(OneWay { peer: PeerInfo(from), id: RpcId(id), payload, protection })
            }
            Event::Response { id, from, cookie, payload, .. } => {
                let protection = from.protection;
                let peer = PeerInfo(from);
                Delivery::Response(Response { peer, id: RpcId(id), cookie, payload, protection })
            }
            Event::Stream { id, from, kind, length, cookie, .. } => {
                let peer = PeerInfo(from);
                Delivery::Stream(MessageStream::new(Arc::clone(&self.shared), id, peer, kind, cookie, length))
            }
            Event::Failed { id, cookie, why, may_have_run, address, .. } => {
                let error = Error::ended(*address, why, may_have_run);
                Delivery::Failed(Box::new(Failed { id: RpcId(id), cookie, error }))
            }
            _ => unreachable!("the inbox has nothing else"),
        }
    }

    /// Answers a request. Blocks while more than the configured bytes are held for sending; see [`Self::try_reply`].
    ///
    /// # Errors
    /// [`Error::UnknownRequest`] when its caller gave up meanwhile.
    pub fn reply<'a>(&self, token: ReplyToken, body: impl Into<Body<'a>>) -> Result<(), Error> {
        let (mut body, this) = (body.into(), self.of(token.0));
        while let Some(then) = this.replied(token.0, &mut body)? {
            this.shared.await_room(then, None)?;
        }
        Ok(())
    }

    /// [`Self::reply`] that never blocks: the right to answer comes back while too many bytes are held for sending, to be used when
    /// earlier messages have left. [`Self::readiness`] tells of that.
    ///
    /// # Errors
    /// As [`Self::reply`].
    pub fn try_reply<'a>(&self, token: ReplyToken, body: impl Into<Body<'a>>) -> Result<Option<ReplyToken>, Error> {
        let short = self.of(token.0).replied(token.0, &mut body.into())?;
        Ok(short.map(|_| token))
    }

    /// Where there is no room for the response, says how many messages had been let go then. If it fails otherwise the right to answer is
    /// used up: the caller must not wait for what cannot come.
    fn replied(&self, id: CallId, body: &mut Body<'_>) -> Result<Option<u64>, Error> {
        let mut core = self.open_core()?;
        match self.reply_now(&mut core, id, body) {
            Err(Error::WouldBlock { .. }) => Ok(Some(core.endpoint.let_go())),
            Err(why) => {
                let _ = core.endpoint.refuse(id);
                core.flush();
                Err(why)
            }
            Ok(()) => Ok(None),
        }
    }

    /// What is not taken stays where it is.
    #[inline]
    pub(crate) fn reply_now(&self, core: &mut Core, id: CallId, body: &mut Body<'_>) -> Result<(), Error> {
        let now = core.now();
        Self::reply_at(core, now, id, body)?;
        self.shared.stir(core);
        Ok(())
    }

    /// The same, at a time that is known. Whoever sleeps in the kernel is to be [told](crate::waiting::Shared::stir) afterwards.
    #[inline]
    pub(crate) fn reply_at(core: &mut Core, now: Instant, id: CallId, body: &mut Body<'_>) -> Result<(), Error> {
        let mut out = endpoint::pool::Body::default();
        core.take_in(body, &mut out)?;
        core.endpoint.reply_of(now, id, &mut out).map_err(|why| {
            *body = out.into();
            core.refused(why)
        })?;
        core.flush_soon(now, true);
        Ok(())
    }

    /// Refuses a request without a response: its caller gets [`Error::Refused`].
    ///
    /// # Errors
    /// [`Error::UnknownRequest`] when its caller gave up meanwhile.
    pub fn refuse(&self, token: ReplyToken) -> Result<(), Error> {
        let mut core = self.of(token.0).open_core()?;
        core.endpoint.refuse(token.0)?;
        core.flush();
        Ok(())
    }
}
