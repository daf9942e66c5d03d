//! Peer `udp` one way: long messages in trains, as many bytes ahead of the acknowledgements as the receive buffer holds.
//!
//! Owns the window and the acknowledgements. Sockets, layout and the greeting are those of `raw_udp`. Refuses to hide a loss: there is
//! no repeat, a lost datagram ends the cell.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::buffer::Block;
use crate::client::{Client, Deliver, REPLY_TIMEOUT};
use crate::pattern::Pattern;
use crate::raw_udp::{FAREWELL, HELLO, Port};
use crate::served::{ANSWER, Served, answer};
use crate::spec::Spec;

/// Bytes received in all, the number of the message that is complete plus one, or 0, and its answer.
const ACK: usize = 16 + ANSWER;

/// Bytes that one read may bring.
const READ: usize = 64 << 10;

/// The sender.
pub(crate) struct Caller {
    port: Port,
    pattern: Arc<Pattern>,
    unsent: Range<u64>,
    /// Bytes of the first unsent message that are on their way.
    offset: usize,
    sent: u64,
    acked: u64,
}

impl Caller {
    pub(crate) fn connect(spec: &Spec, server: u16, pattern: &Arc<Pattern>) -> Result<Self> {
        let port = Port::connected(spec, server)?;
        for _ in 1..FAREWELL {
            port.send_one(HELLO)?;
            let since = Instant::now();
            while since.elapsed() < REPLY_TIMEOUT {
                if port.receive(&mut [0; ACK])? == Some(HELLO.len()) {
                    return Ok(Self { port, pattern: pattern.clone(), unsent: 0..0, offset: 0, sent: 0, acked: 0 });
                }
            }
        }
        bail!("the server does not answer")
    }

    fn push(&mut self) -> Result<()> {
        let (stride, train, window) = (self.port.layout.stride, self.port.layout.train, self.port.window);
        while !self.unsent.is_empty() && (self.sent - self.acked) as usize + train <= window {
            let message = self.pattern.padded(self.unsent.start, stride);
            let end = stride.min(self.offset + train);
            self.port.send_trains(&message[self.offset..end])?;
            self.sent += (end - self.offset) as u64;
            self.offset = end;
            if end == stride {
                self.offset = 0;
                self.unsent.start += 1;
            }
        }
        Ok(())
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
        let mut space = [0; 64 * ACK];
        let Some(len) = self.port.receive(&mut space)? else { return Ok(false) };
        for ack in space[..len].chunks_exact(ACK) {
            let word = |at: usize| u64::from_le_bytes(ack[at..at + 8].try_into().expect("eight bytes"));
            self.acked = self.acked.max(word(0));
            if let Some(id) = word(8).checked_sub(1) {
                deliver(id, &ack[16..]);
            }
        }
        self.push()?;
        Ok(true)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        for _ in 0..=FAREWELL {
            let _ = self.port.send_one(HELLO);
        }
    }
}

/// The receiver.
pub(crate) struct Sink {
    port: Port,
    size: usize,
    inbox: Block,
    filled: usize,
    total: u64,
    acked: u64,
    messages: u64,
    greetings: u32,
}

impl Sink {
    pub(crate) fn bind(spec: &Spec) -> Result<Self> {
        let port = Port::bind(spec)?;
        let inbox = Block::amid_page(port.layout.stride + READ);
        Ok(Self { port, size: spec.size, inbox, filled: 0, total: 0, acked: 0, messages: 0, greetings: 0 })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits for the sender.
    pub(crate) fn accept(mut self: Box<Self>) -> Result<Box<dyn Served>> {
        self.port.accept()?;
        Ok(self)
    }

    fn acknowledge(&mut self, complete: u64, found: [u8; ANSWER]) -> Result<()> {
        self.acked = self.total;
        let mut ack = [0; ACK];
        ack[..8].copy_from_slice(&self.total.to_le_bytes());
        ack[8..16].copy_from_slice(&complete.to_le_bytes());
        ack[16..].copy_from_slice(&found);
        self.port.send_one(&ack)
    }
}

impl Served for Sink {
    fn turn(&mut self) -> Result<bool> {
        let len = match self.port.receive(&mut self.inbox[self.filled..]) {
            Ok(Some(0)) => {
                self.greetings += 1;
                self.port.send_one(HELLO)?;
                return Ok(self.greetings < FAREWELL);
            }
            Ok(Some(len)) => len,
            Ok(None) => return Ok(true),
            // The sender is gone.
            Err(rustix::io::Errno::CONNREFUSED) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        self.greetings = 0;
        self.filled += len;
        self.total += len as u64;
        let stride = self.port.layout.stride;
        if self.filled >= stride {
            let found = answer(&self.inbox[..self.size]);
            self.inbox.copy_within(stride..self.filled, 0);
            self.filled -= stride;
            self.messages += 1;
            self.acknowledge(self.messages, found)?;
        } else if (self.total - self.acked) as usize >= self.port.window / 4 {
            self.acknowledge(0, [0; ANSWER])?;
        }
        Ok(true)
    }
}
