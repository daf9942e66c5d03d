//! Owns one connection of TCP, with or without TLS: what came and did not run yet, what was answered and has not left yet. A connection at
//! rest has no buffers: those that are needed are the loop's, lent for a turn.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::Result;
use sealane::Payload;

use crate::engine::{Client, Engine};
use crate::requests::{self, Stop};
use crate::resp::{Out, Parser};
use crate::tls::Tls;

/// Bytes of replies of one connection after which others have their turn.
const REPLIES_PER_TURN: usize = 1 << 20;
/// Unsent bytes of a subscriber after which it is hung up on.
pub(crate) const UNSENT_MAX: usize = 32 << 20;
/// Bytes that are read at once.
pub(crate) const READ_BYTES: usize = 64 << 10;

/// Buffers that all connections share.
#[derive(Debug)]
pub(crate) struct Lent {
    read: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Replies that the socket has.
    sent: VecDeque<Payload>,
    /// Bytes of the buffers of both.
    bytes: usize,
}

impl Default for Lent {
    fn default() -> Self {
        Self {
            read: vec![0; READ_BYTES],
            plain: Vec::new(),
            sealed: Vec::new(),
            spare: Vec::new(),
            sent: VecDeque::new(),
            bytes: 0,
        }
    }
}

/// Buffers that are kept for the next turn.
const SPARES: usize = 64;
/// Bytes of these, and of replies that the socket has. What is beyond is given back to the system, which fills pages with zeros anew when it gives them: for a reply of 512 KB that
/// takes as long as to seal it.
const SPARE_BYTES: usize = 8 << 20;
/// Replies that the socket has and that are looked at for one that it has no longer.
const TRIES: usize = 4;

impl Lent {
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.came_back().or_else(|| self.spare.pop()).unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    fn came_back(&mut self) -> Option<Vec<u8>> {
        for _ in 0..TRIES.min(self.sent.len()) {
            match self.sent.pop_front()?.reclaim() {
                Ok(buffer) => return Some(buffer),
                Err(sent) => self.sent.push_back(sent),
            }
        }
        None
    }

    /// Whether one more of so many bytes is kept.
    fn keeps(&self, capacity: usize) -> bool {
        (1..=SPARE_BYTES - self.bytes).contains(&capacity)
    }

    /// What the socket sends from where it is comes back here later.
    pub(crate) fn lend(&mut self, replies: Vec<u8>) -> Payload {
        let capacity = replies.capacity();
        let replies = Payload::from(replies);
        if self.sent.len() < SPARES && self.keeps(capacity) {
            self.bytes += capacity;
            self.sent.push_back(replies.clone());
        }
        replies
    }

    pub(crate) fn put(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARES && self.keeps(buffer.capacity()) {
            buffer.clear();
            self.bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }
}

/// What becomes of a connection after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It waits for the other end.
    Wait,
    /// It has more to do than one turn allows.
    Again,
    /// It is over.
    Close,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    pub(crate) client: Client,
    parser: Parser,
    /// Bytes that came and did not run.
    left: Vec<u8>,
    /// Replies of this turn.
    pub(crate) replies: Vec<u8>,
    /// Bytes for the network that it did not take.
    unsent: Vec<u8>,
    sent: usize,
    ended: bool,
    /// Whole commands may be left: the replies were enough for a turn.
    again: bool,
    /// What the loop watches it for: that it can be written, too.
    pub(crate) watched_for_room: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, tls: Option<Tls>, client: Client) -> Self {
        Self {
            stream,
            tls: tls.map(Box::new),
            client,
            parser: Parser::default(),
            left: Vec::new(),
            replies: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            ended: false,
            again: false,
            watched_for_room: false,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Reads what is there and runs it; the replies stay until [`Self::write`]. Nothing is read while replies have not left.
    pub(crate) fn read(&mut self, engine: &mut Engine, lent: &mut Lent) -> Result<()> {
        if self.has_unsent() || self.ended {
            return Ok(());
        }
        if std::mem::take(&mut self.again) {
            self.run_bytes(engine, lent, &[]);
            return Ok(());
        }
        let count = match self.stream.read(&mut lent.read) {
            Ok(0) => {
                self.ended = true;
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.took(engine, lent, count)
    }

    fn took(&mut self, engine: &mut Engine, lent: &mut Lent, count: usize) -> Result<()> {
        match &mut self.tls {
            None => self.run_read(engine, lent, count),
            Some(tls) => {
                let mut plain = std::mem::take(&mut lent.plain);
                plain.clear();
                let taken = tls.take(&mut lent.read[..count], &mut plain, &mut self.unsent);
                self.ended |= tls.is_closed;
                // An alert says why, if there is one.
                if taken.is_err() {
                    let _ = (&self.stream).write(&self.unsent);
                }
                lent.plain = plain;
                taken?;
                self.run_plain(engine, lent);
            }
        }
        Ok(())
    }

    fn run_plain(&mut self, engine: &mut Engine, lent: &mut Lent) {
        let plain = std::mem::take(&mut lent.plain);
        self.run_bytes(engine, lent, &plain);
        lent.plain = plain;
    }

    fn run_read(&mut self, engine: &mut Engine, lent: &mut Lent, count: usize) {
        let read = std::mem::take(&mut lent.read);
        self.run_bytes(engine, lent, &read[..count]);
        lent.read = read;
    }

    /// Runs what was left, and what came.
    fn run_bytes(&mut self, engine: &mut Engine, lent: &mut Lent, came: &[u8]) {
        if self.replies.capacity() == 0 {
            self.replies = lent.take();
        }
        let mut out = Out { bytes: std::mem::take(&mut self.replies), is_v3: self.client.is_v3 };
        let stop = if self.left.is_empty() {
            let (used, stop) =
                requests::run(engine, &mut self.client, &mut self.parser, came, &mut out, REPLIES_PER_TURN);
            if used < came.len() && stop != Stop::Over {
                self.left.reserve_exact((came.len() - used).max(self.parser.wanted().min(UNSENT_MAX)));
                self.left.extend_from_slice(&came[used..]);
            }
            stop
        } else {
            self.left.extend_from_slice(came);
            let (used, stop) =
                requests::run(engine, &mut self.client, &mut self.parser, &self.left, &mut out, REPLIES_PER_TURN);
            if used == self.left.len() {
                self.left = Vec::new();
            } else {
                self.left.drain(..used);
            }
            stop
        };
        self.replies = out.bytes;
        self.ended |= stop == Stop::Over;
        self.again = stop == Stop::Enough && !self.left.is_empty();
    }

    /// Sends the replies, and what had not left before.
    pub(crate) fn write(&mut self, lent: &mut Lent) -> Result<Next> {
        if self.tls.as_ref().is_some_and(|tls| !tls.is_open) {
            // Nothing can be sealed before the handshake is over.
            self.push_unsent()?;
            return Ok(if self.ended { Next::Close } else { Next::Wait });
        }
        if self.has_unsent() {
            self.push_unsent()?;
        }
        if !self.replies.is_empty() {
            self.send_replies(lent)?;
        }
        let replies = std::mem::take(&mut self.replies);
        lent.put(replies);
        if self.has_unsent() {
            let over = self.unsent.len() - self.sent > UNSENT_MAX && self.client.is_subscribed();
            return Ok(if over { Next::Close } else { Next::Wait });
        }
        if self.ended {
            return Ok(Next::Close);
        }
        Ok(if self.again { Next::Again } else { Next::Wait })
    }

    fn send_replies(&mut self, lent: &mut Lent) -> Result<()> {
        let bytes: &[u8] = match &mut self.tls {
            None => &self.replies,
            Some(tls) => {
                let end = tls.seal(&self.replies, &mut lent.sealed, 0)?;
                &lent.sealed[..end]
            }
        };
        let mut done = 0;
        if self.unsent.is_empty() {
            done = taken(&self.stream, bytes)?;
        }
        self.unsent.extend_from_slice(&bytes[done..]);
        Ok(())
    }

    fn push_unsent(&mut self) -> Result<()> {
        while self.sent < self.unsent.len() {
            let count = taken(&self.stream, &self.unsent[self.sent..])?;
            if count == 0 {
                return Ok(());
            }
            self.sent += count;
        }
        (self.unsent, self.sent) = (Vec::new(), 0);
        Ok(())
    }
}

/// Bytes that the kernel took.
fn taken(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffers come back from the socket, and no more is kept than the limit, whatever was lent: replies of a megabyte, or one of sixty.
    #[test]
    fn buffers_are_used_again_within_a_limit() {
        const LONG: usize = 1 << 20;
        let mut lent = Lent::default();
        let at = |payload: &Payload| payload.as_ptr();
        let first = lent.lend(vec![b'a'; LONG]);
        let second = lent.lend(vec![b'b'; LONG]);
        assert!(lent.take().capacity() == 0, "both are on their way");
        let of_second = at(&second);
        drop(second);
        let again = lent.take();
        assert_eq!((again.as_ptr(), again.len(), again.capacity()), (of_second, 0, LONG));
        lent.put(again);
        let of_first = at(&first);
        drop(first);
        let (next, last) = (lent.take(), lent.take());
        assert_eq!([next.as_ptr(), last.as_ptr()], [of_first, of_second], "what came back is first");
        assert_eq!(lent.bytes, 0);

        drop((0..3 * SPARES).map(|_| lent.lend(vec![0; LONG])).collect::<Vec<_>>());
        drop(lent.lend(vec![0; 60 * LONG]));
        lent.put(vec![0; 60 * LONG]);
        assert_eq!((lent.sent.len(), lent.spare.len(), lent.bytes), (SPARE_BYTES / LONG, 0, SPARE_BYTES));
        for _ in 0..SPARE_BYTES / LONG {
            assert_eq!(lent.take().capacity(), LONG);
        }
        assert_eq!((lent.take().capacity(), lent.bytes), (0, 0));
    }
}
