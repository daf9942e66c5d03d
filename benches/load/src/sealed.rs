//! Messages with a length in front on a TCP connection whose bytes travel in sealed records.
//!
//! Owns: what becomes a record and when it is written. Refuses: how a record is sealed; `ktls` and `tls` say that.
//!
//! All that is ready goes into as few records as possible. Long messages are sealed and written in steps of
//! `STEP_BYTES`, so that one side opens while the other still seals.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::buffer::Buffer;
use crate::client::{Client, Deliver};
use crate::pattern::Pattern;
use crate::served::{ANSWER, Served, answer};
use crate::spec::{PeerKind, Spec};
use crate::stream::{Got, Link, PREFIX, frame_len, prefix, whole_frames};

/// Most plaintext bytes in a record of TLS.
pub(crate) const RECORD_BYTES_MAX: usize = 16 << 10;

/// After sealing so many bytes they are written, whatever else is ready.
const STEP_BYTES: usize = 64 << 10;

/// One side's two directions of records.
pub(crate) trait Records {
    /// Seals `plain` (at most `RECORD_BYTES_MAX`) as one record at the end of `out`.
    fn seal(&mut self, plain: &[u8], out: &mut Buffer) -> Result<()>;

    /// Opens all whole records at the front of `wire` to the end of `plain`, and removes them.
    fn open(&mut self, wire: &mut Buffer, plain: &mut Buffer) -> Result<()>;
}

/// The client.
pub(crate) struct Caller<R> {
    link: Link,
    records: R,
    pattern: Arc<Pattern>,
    read_bytes: usize,
    one_per_message: bool,
    /// One message is outstanding at most, so the server reads all of it before it writes.
    only_one: bool,
    /// Messages not wholly sealed, and how many bytes of the first (with prefix) are sealed or staged.
    unsealed: Range<u64>,
    offset: usize,
    stage: Buffer,
    out: Buffer,
    inbox: Buffer,
    plain: Buffer,
    expected: u64,
}

impl<R: Records> Caller<R> {
    pub(crate) fn new(spec: &Spec, link: Link, records: R, pattern: &Arc<Pattern>) -> Self {
        let buffers = Buffers::new(spec);
        Self {
            link,
            records,
            pattern: pattern.clone(),
            read_bytes: spec.read_bytes,
            one_per_message: spec.peer == PeerKind::KtlsIdealPm,
            only_one: spec.only_one(),
            unsealed: 0..0,
            offset: 0,
            stage: Buffer::with_capacity(RECORD_BYTES_MAX),
            out: buffers.out,
            inbox: buffers.inbox,
            plain: buffers.plain,
            expected: 0,
        }
    }

    fn push(&mut self) -> Result<()> {
        loop {
            if self.out.is_empty() {
                self.seal_step()?;
            }
            if self.out.is_empty() {
                return Ok(());
            }
            match self.link.send_some(self.out.filled(), self.only_one)? {
                0 if !self.only_one => return Ok(()),
                len => self.out.consume(len),
            }
        }
    }

    /// Seals what is ready, up to `STEP_BYTES`.
    fn seal_step(&mut self) -> Result<()> {
        while self.out.len() < STEP_BYTES && !self.unsealed.is_empty() {
            let message = self.pattern.message(self.unsealed.start);
            let prefix = prefix(message.len());
            let rest = match self.offset.checked_sub(PREFIX) {
                Some(at) => &message[at..],
                None => &prefix[self.offset..],
            };
            let taken = if self.stage.is_empty() && rest.len() >= RECORD_BYTES_MAX {
                // A whole record lies in the caller's buffer: sealing it is the copy.
                self.records.seal(&rest[..RECORD_BYTES_MAX], &mut self.out)?;
                RECORD_BYTES_MAX
            } else {
                let taken = rest.len().min(RECORD_BYTES_MAX - self.stage.len());
                self.stage.append(&rest[..taken]);
                taken
            };
            self.offset += taken;
            let is_whole = self.offset == PREFIX + message.len();
            if is_whole {
                self.offset = 0;
                self.unsealed.start += 1;
            }
            if self.stage.len() == RECORD_BYTES_MAX || (is_whole && self.one_per_message) {
                self.seal_stage()?;
            }
        }
        if self.unsealed.is_empty() { self.seal_stage() } else { Ok(()) }
    }

    fn seal_stage(&mut self) -> Result<()> {
        if !self.stage.is_empty() {
            self.records.seal(self.stage.filled(), &mut self.out)?;
            self.stage.clear();
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        !self.out.is_empty() || !self.unsealed.is_empty()
    }
}

impl<R: Records> Client for Caller<R> {
    fn send(&mut self, ids: Range<u64>) -> Result<()> {
        if self.unsealed.is_empty() {
            self.unsealed = ids;
        } else {
            self.unsealed.end = ids.end;
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
        self.records.open(&mut self.inbox, &mut self.plain)?;
        while let Some(len) = frame_len(self.plain.filled()) {
            deliver(self.expected, &self.plain.filled()[PREFIX..len]);
            self.expected += 1;
            self.plain.consume(len);
        }
        Ok(true)
    }
}

/// The buffers of one side. Records and messages do not end where reads do, hence twice.
struct Buffers {
    out: Buffer,
    inbox: Buffer,
    plain: Buffer,
}

impl Buffers {
    fn new(spec: &Spec) -> Self {
        Self {
            out: Buffer::with_capacity(2 * STEP_BYTES),
            inbox: Buffer::with_capacity(2 * (spec.read_bytes + RECORD_BYTES_MAX)),
            plain: Buffer::with_capacity(2 * (spec.read_bytes.max(spec.size) + RECORD_BYTES_MAX)),
        }
    }
}

/// What a handshake leaves behind: bytes of records not yet opened, and plaintext already opened.
#[derive(Debug)]
pub(crate) struct LeftOver {
    pub(crate) wire: Buffer,
    pub(crate) plain: Buffer,
}

/// The server.
pub(crate) struct Server<R> {
    link: Link,
    records: R,
    read_bytes: usize,
    one_way: bool,
    one_per_message: bool,
    out: Buffer,
    inbox: Buffer,
    plain: Buffer,
    /// Bytes of whole messages at the front of `plain`, still to be sealed.
    ready: usize,
    /// How many of them belong to the records that were begun: all, or one message.
    unit: usize,
}

impl<R: Records> Server<R> {
    pub(crate) fn new(spec: &Spec, link: Link, records: R, left: Option<LeftOver>) -> Result<Self> {
        let Buffers { out, mut inbox, mut plain } = Buffers::new(spec);
        if let Some(left) = left {
            inbox.append(left.wire.filled());
            plain.append(left.plain.filled());
        }
        let one_per_message = spec.peer == PeerKind::KtlsIdealPm;
        let (read_bytes, one_way) = (spec.read_bytes, spec.one_way);
        let mut server =
            Self { link, records, read_bytes, one_way, one_per_message, out, inbox, plain, ready: 0, unit: 0 };
        server.open()?;
        Ok(server)
    }

    /// Opens what came, and finds out what is to be answered.
    fn open(&mut self) -> Result<()> {
        self.records.open(&mut self.inbox, &mut self.plain)?;
        if !self.one_way {
            self.ready = whole_frames(self.plain.filled());
            return Ok(());
        }
        let mut answers = Vec::new();
        while let Some(len) = frame_len(self.plain.filled()) {
            answers.extend(prefix(ANSWER));
            answers.extend(answer(&self.plain.filled()[PREFIX..len]));
            self.plain.consume(len);
        }
        answers.chunks(RECORD_BYTES_MAX).try_for_each(|record| self.records.seal(record, &mut self.out))
    }

    /// Seals what is ready, up to `STEP_BYTES`.
    fn seal_step(&mut self) -> Result<()> {
        while self.ready > 0 && self.out.len() < STEP_BYTES {
            if self.unit == 0 {
                let one = self.one_per_message.then(|| frame_len(self.plain.filled())).flatten();
                self.unit = one.unwrap_or(self.ready);
            }
            let step = self.unit.min(RECORD_BYTES_MAX);
            self.records.seal(&self.plain.filled()[..step], &mut self.out)?;
            self.plain.consume(step);
            self.ready -= step;
            self.unit -= step;
        }
        Ok(())
    }
}

impl<R: Records + Send> Served for Server<R> {
    fn turn(&mut self) -> Result<bool> {
        if self.out.is_empty() && self.ready == 0 {
            match self.link.recv(self.inbox.space(self.read_bytes), false)? {
                Got::Bytes(len) => self.inbox.commit(len),
                Got::Nothing => return Ok(true),
                Got::End => return Ok(false),
            }
            self.open()?;
        }
        if self.out.is_empty() {
            self.seal_step()?;
        }
        if !self.out.is_empty() {
            let len = self.link.send_some(self.out.filled(), true)?;
            self.out.consume(len);
        }
        Ok(true)
    }
}
