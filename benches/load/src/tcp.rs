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
    prefix: [u8; PREFIX],
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
    pub(crate) fn connect(spec: &Spec, port: u16, pattern: &Arc<Pattern>) -> Result<Self> {
        Ok(Self {
            link: Link::connect(port, spec.mode)?,
            pattern: pattern.clone(),
            prefix: prefix(spec.size),
            size: spec.size,
            read_bytes: spec.read_bytes,
            only_one: spec.outstanding == 1,
            unsent: 0..0,
            offset: 0,
            stage: Buffer::with_capacity(64 << 10),
            inbox: inbox(spec),
            expected: 0,
        })
    }

    fn push(&mut self) -> Result<()> {
        if self.size <= COPY_BYTES_MAX { self.push_copies() } else { self.push_gathered() }
    }

    fn push_copies(&mut self) -> Result<()> {
        for id in std::mem::replace(&mut self.unsent, 0..0) {
            self.stage.append(&self.prefix);
            self.stage.append(self.pattern.message(id));
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
            let mut parts = Vec::new();
            let ids = self.unsent.start..self.unsent.end.min(self.unsent.start + GATHER_MAX);
            let mut skip = self.offset;
            for id in ids {
                for part in [&self.prefix[..], self.pattern.message(id)] {
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
            let sent = self.offset + len;
            self.unsent.start += (sent / (PREFIX + self.size)) as u64;
            self.offset = sent % (PREFIX + self.size);
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

/// Echoes for one client until it closes.
pub(crate) fn serve(spec: &Spec, listener: &TcpListener) -> Result<()> {
    let link = Link::accept(listener, spec.mode)?;
    let mut inbox = inbox(spec);
    loop {
        match link.recv_some(inbox.space(spec.read_bytes))? {
            Got::Bytes(len) => inbox.commit(len),
            _ => return Ok(()),
        }
        let whole = whole_frames(inbox.filled());
        link.send_all(&inbox.filled()[..whole])?;
        inbox.consume(whole);
    }
}
