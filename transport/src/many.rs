//! Owns the forms of sending and of replying that take many messages at once, with one lock and one reading of the clock for all of them.
//! Those of receiving are in `serving`.

use std::collections::VecDeque;
use std::ptr;

use proto::time::Instant;
use wire::trailer::Kind;

use crate::config::CallOptions;
use crate::driver::Core;
use crate::error::Error;
use crate::message::{Body, Peer, ReplyToken};
use crate::socket::{Socket, sending};

/// Messages that are taken before others may have the socket, and before the time is asked for again: what a train may hold.
const AT_ONCE: usize = 128;

impl Socket {
    /// [`Self::send`] of many requests, each with its cookie, to one peer. They travel together, as in a [`Self::batch`], and each costs
    /// less than by itself. Those that are taken are taken out of `requests`, from its front. Blocks while more than the configured bytes
    /// are held for sending.
    ///
    /// # Errors
    /// Why the first of those that are left is not taken, as [`Self::send`]. It stays, and so do those behind it.
    pub fn send_many<'a>(&self, peer: &Peer, requests: &mut VecDeque<(Body<'a>, u64)>) -> Result<(), Error> {
        if self.is_spread() {
            return self.send_many_spread(peer, requests);
        }
        self.all_of(|core, now| {
            let Some((body, cookie)) = requests.front_mut() else { return Ok(false) };
            let sending = sending(Kind::Request, *cookie, false, Instant::FAR, false);
            self.submit_now(core, now, peer, body, sending)?;
            requests.pop_front();
            Ok(true)
        })
    }

    /// The same where each may go by another shard, or wait for that one's session.
    fn send_many_spread(&self, peer: &Peer, requests: &mut VecDeque<(Body<'_>, u64)>) -> Result<(), Error> {
        let this = self.sender(peer, false);
        let _together = this.batch_here();
        while let Some((body, cookie)) = requests.front_mut() {
            self.submit_at(this, peer, body, Kind::Request, *cookie, false, CallOptions::new(), false)?;
            requests.pop_front();
        }
        Ok(())
    }

    /// [`Self::reply`] to many requests, whoever sent them. The responses travel together, as in a [`Self::batch`], and each costs less
    /// than by itself. Those that are taken are taken out of `replies`, from its front. Blocks while more than the configured bytes are
    /// held for sending.
    ///
    /// # Errors
    /// Why the next one cannot be given, as [`Self::reply`]: [`Error::UnknownRequest`] when its caller gave up meanwhile. The right to
    /// answer that one is used up, so it is taken out as well; those behind it stay, to be given by calling this again.
    pub fn reply_many<'a>(&self, replies: &mut VecDeque<(ReplyToken, Body<'a>)>) -> Result<(), Error> {
        while let Some((token, _)) = replies.front() {
            // As many as are of one shard.
            let this = self.of(token.0);
            this.all_of(|core, now| {
                let Some((token, body)) = replies.front_mut() else { return Ok(false) };
                let id = token.0;
                if !ptr::eq(self.of(id), this) {
                    return Ok(false);
                }
                let replied = Self::reply_at(core, now, id, body);
                if let Err(Error::WouldBlock { .. }) = replied {
                    return Err(replied.expect_err("it was just seen"));
                }
                replies.pop_front();
                if replied.is_err() {
                    // Its caller must not wait for what cannot come.
                    let _ = core.endpoint.refuse(id);
                    core.flush_at(now);
                }
                replied.map(|()| true)
            })?;
        }
        Ok(())
    }

    /// Does `next` until it says that there is no more; where there is no room, waits for some and goes on.
    fn all_of(&self, mut next: impl FnMut(&mut Core, Instant) -> Result<bool, Error>) -> Result<(), Error> {
        loop {
            let mut core = self.open_core()?;
            let now = core.now();
            core.corks += 1;
            let done = (0..AT_ONCE).find_map(|_| match next(&mut core, now) {
                Ok(true) => None,
                done => Some(done),
            });
            let then = core.endpoint.let_go();
            core.corks -= 1;
            if core.corks == 0 {
                core.flush_waiting();
            }
            self.shared.stir(&mut core);
            drop(core);
            match done {
                None => {}
                Some(Ok(_)) => return Ok(()),
                Some(Err(Error::WouldBlock { .. })) => {
                    self.shared.await_room(then, None)?;
                }
                Some(Err(why)) => return Err(why),
            }
        }
    }
}
