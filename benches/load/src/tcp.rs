//! Peer `tcp`: length-prefixed messages, no protection.
//!
//! Owns the copies: small messages are gathered into one buffer, large ones go out from where they lie, the server
//! echoes straight from what it read. One write for all that is ready.

use std::io::IoSlice;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::buffer::Buffer;
use crate::client::{Client, Deliver};
use crate::pattern::Pattern;
use crate::served::{ANSWER, Served, answer};
use crate::spec::Spec;
use crate::stream::{Got, Link, PREFIX, frame_len, prefix, whole_frames};

/// Up to this size a copy costs less than one more element of the gather list.
const COPY_BYTES_MAX: usize = 8 << 10;

/// Most messages in one gather list; two elements each, the kernel takes 1,024.
const GATHER_MAX: u64 = 256;

/// The client.
#[derive(Debug)]
pub(crate) struct Caller {
    link: Link,
    pattern: Arc<Pattern>,
    size: usize,
    read_bytes: usize,
    /// One message is outstanding at most, so the server reads all of it before it writes.
    only_one: bool,
    /// Messages not wholly given to the kernel or the stage, and how many bytes of the first (with prefix) are.
    unsent: Range<u64>,
    offset: usize,
    stage: Buffer,
    inbox: Buffer,
    expected: u64,
}

impl Caller {
    pub(crate) fn new(spec: &Spec, link: Link, pattern: &Arc<Pattern>) -> Self {
        Self {
            link,
            pattern: pattern.clone(),
            size: spec.size,
            read_bytes: spec.read_bytes,
            only_one: spec.only_one(),
            unsent: 0..0,
            offset: 0,
            stage: Buffer::with_capacity(64 << 10),
            inbox: inbox(spec),
            expected: 0,
        }
    }

    fn push(&mut self) -> Result<()> {
        if self.size <= COPY_BYTES_MAX { self.push_copies() } else { self.push_gathered() }
    }

    fn push_copies(&mut self) -> Result<()> {
        for id in std::mem::replace(&mut self.unsent, 0..0) {
            let message = self.pattern.message(id);
            self.stage.append(&prefix(message.len()));
            self.stage.append(message);
        }
        while !self.stage.is_empty() {
            match self.link.send_some(self.stage.filled(), self.only_one)? {
                0 if !self.only_one => break,
                len => self.stage.consume(len),
            }
        }
        Ok(())
    }

    fn push_gathered(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            let ids = self.unsent.start..self.unsent.end.min(self.unsent.start + GATHER_MAX);
            let prefixes: Vec<_> = ids.clone().map(|id| prefix(self.pattern.message(id).len())).collect();
            let mut parts = Vec::with_capacity(2 * prefixes.len());
            let mut skip = self.offset;
            for (id, prefix) in ids.zip(&prefixes) {
                for part in [&prefix[..], self.pattern.message(id)] {
                    let at = skip.min(part.len());
                    skip -= at;
                    if at < part.len() {
                        parts.push(IoSlice::new(&part[at..]));
                    }
                }
            }
            let len = self.link.send_some_of(&parts, self.only_one)?;
            if len == 0 && !self.only_one {
                break;
            }
            self.offset += len;
            while let Some(rest) = self.offset.checked_sub(PREFIX + self.pattern.message(self.unsent.start).len())
                && !self.unsent.is_empty()
            {
                self.offset = rest;
                self.unsent.start += 1;
            }
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        !self.stage.is_empty() || !self.unsent.is_empty()
    }
}

impl Client for Caller {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.unsent.is_empty() {
            self.unsent = ids;
        } else {
            self.unsent.end = ids.end;
        }
        self.push()
    }

    fn receive(&mut self, deliver: Deliver<'_>) -> Result<bool> {
        if self.has_unsent() {
            self.push()?;
        }
        let unsent = self.has_unsent();
        match self.link.recv(self.inbox.space(self.read_bytes), unsent)? {
            Got::Nothing => return Ok(false),
            Got::End => bail!("the server closed the connection"),
            Got::Bytes(len) => self.inbox.commit(len),
        }
        while let Some(len) = frame_len(self.inbox.filled()) {
            deliver(self.expected, &self.inbox.filled()[PREFIX..len]);
            self.expected += 1;
            self.inbox.consume(len);
        }
        Ok(true)
    }
}

fn inbox(spec: &Spec) -> Buffer {
    Buffer::with_capacity(2 * (spec.read_bytes.max(spec.size) + PREFIX))
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    link: Link,
    read_bytes: usize,
    one_way: bool,
    /// Its other side always reads, so a blocking write ends.
    may_block: bool,
    inbox: Buffer,
    /// Bytes of whole messages at the front of `inbox`, still to be echoed.
    ready: usize,
    /// Answers to one-way messages, not yet written.
    answers: Buffer,
}

/// Waits for a client.
pub(crate) fn accept(spec: &Spec, listener: &TcpListener) -> Result<Box<dyn Served>> {
    Ok(Box::new(Server::new(spec, Link::accept(listener, spec.mode)?)))
}

impl Server {
    pub(crate) fn new(spec: &Spec, link: Link) -> Self {
        let answers = Buffer::with_capacity(if spec.one_way { 4096 } else { 0 });
        let (read_bytes, one_way) = (spec.read_bytes, spec.one_way);
        Self { link, read_bytes, one_way, may_block: true, inbox: inbox(spec), ready: 0, answers }
    }

    /// Writes what is ready: all of it, or what the kernel takes now where nobody can wait.
    fn write(&mut self) -> Result<()> {
        let from = if self.one_way { &mut self.answers } else { &mut self.inbox };
        let len = self.link.send_some(&from.filled()[..self.ready], self.may_block)?;
        from.consume(len);
        self.ready -= len;
        Ok(())
    }
}

impl Served for Server {
    fn turn(&mut self) -> Result<bool> {
        if self.ready == 0 {
            match self.link.recv(self.inbox.space(self.read_bytes), false)? {
                Got::Bytes(len) => self.inbox.commit(len),
                Got::Nothing => return Ok(true),
                Got::End => return Ok(false),
            }
            if self.one_way {
                while let Some(len) = frame_len(self.inbox.filled()) {
                    self.answers.append(&prefix(ANSWER));
                    self.answers.append(&answer(&self.inbox.filled()[PREFIX..len]));
                    self.inbox.consume(len);
                }
                self.ready = self.answers.len();
            } else {
                self.ready = whole_frames(self.inbox.filled());
            }
        }
        if self.ready > 0 {
            self.write()?;
        }
        Ok(true)
    }
}
