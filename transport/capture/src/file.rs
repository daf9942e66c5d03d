//! Owns reading of pcap and pcapng files, of either byte order and any resolution of time, and writing of pcap.
//!
//! It reads what it is given once, front to back, through one buffer. Lengths are believed up to [`BLOCK_MAX`]; what ends in the middle
//! is an error that says where, not a shorter capture. It does not know what a packet means: `frame` does.

use std::io::{Read, Write};

use crate::error::Error;
use crate::frame::Link;

/// Most bytes of a packet or block: more than any link carries, little enough to be buffered.
pub const BLOCK_MAX: usize = 16 << 20;
/// Most interfaces of a pcapng section.
const INTERFACES_MAX: usize = 1 << 16;
/// Bytes asked of the file at a time: they stay in the cache of a core.
const BUFFER_LEN: usize = 256 << 10;

const PCAP_HEADER_LEN: usize = 24;
const PCAP_RECORD_LEN: usize = 16;
const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const SECTION: u32 = 0x0a0d_0d0a;
const SECTION_ORDER: u32 = 0x1a2b_3c4d;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;

/// One packet as it stands in the file.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// What its first bytes are.
    pub link: Link,
    /// Its length on the link; `bytes` are fewer when it was captured short.
    pub original_len: u32,
    /// What was captured.
    pub bytes: &'a [u8],
}

/// Byte order of a file.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let b = [bytes[at], bytes[at + 1]];
        match self {
            Self::Little => u16::from_le_bytes(b),
            Self::Big => u16::from_be_bytes(b),
        }
    }

    fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let b = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        match self {
            Self::Little => u32::from_le_bytes(b),
            Self::Big => u32::from_be_bytes(b),
        }
    }

    fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let (first, second) = (u64::from(self.u32(bytes, at)), u64::from(self.u32(bytes, at + 4)));
        match self {
            Self::Little => second << 32 | first,
            Self::Big => first << 32 | second,
        }
    }
}

/// An interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Result<Link, u32>,
    snap_len: u32,
    /// Parts of a second that a time counts.
    per_second: u64,
    offset_s: i64,
}

impl Interface {
    fn nanos(&self, count: u64) -> u64 {
        let seconds = (count / self.per_second).saturating_add_signed(self.offset_s);
        let rest = u128::from(count % self.per_second) * 1_000_000_000 / u128::from(self.per_second);
        seconds.saturating_mul(1_000_000_000).saturating_add(rest as u64)
    }
}

#[derive(Debug)]
enum Format {
    Pcap { order: Order, link: Link, nanos_each: u64 },
    PcapNg { order: Order, interfaces: Vec<Interface> },
}

/// Reads the packets of a capture, one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Bytes before `buffer[0]`.
    before: u64,
    format: Format,
    last_ns: u64,
}

impl<R: Read> Reader<R> {
    /// Reads how the file is made.
    ///
    /// # Errors
    /// When it is no capture, or one of a link that is not read.
    pub fn new(input: R) -> Result<Self, Error> {
        let format = Format::PcapNg { order: Order::Little, interfaces: Vec::new() };
        let mut reader = Self { input, buffer: vec![0; BUFFER_LEN], at: 0, end: 0, before: 0, format, last_ns: 0 };
        if reader.fill(4)? < 4 {
            return Err(Error::NotACapture(reader.buffer[..reader.end].to_vec()));
        }
        let (little, big) = (Order::Little.u32(&reader.buffer, 0), Order::Big.u32(&reader.buffer, 0));
        let (order, magic) = match (little, big) {
            (MICROS | NANOS, _) => (Order::Little, little),
            (_, MICROS | NANOS) => (Order::Big, big),
            // The section header is read as the first block; its type reads the same in both orders.
            (SECTION, _) => return Ok(reader),
            _ => return Err(Error::NotACapture(reader.buffer[..4].to_vec())),
        };
        let header = reader.take(PCAP_HEADER_LEN, "its header")?;
        let code = order.u32(&reader.buffer, header + 20) & 0x0fff_ffff;
        let link = Link::from_code(code).ok_or(Error::LinkType(code))?;
        reader.format = Format::Pcap { order, link, nanos_each: if magic == NANOS { 1 } else { 1000 } };
        Ok(reader)
    }

    /// Bytes that were read, all of the file once [`Self::next`] gave `None`.
    pub fn bytes_read(&self) -> u64 {
        self.before + self.at as u64
    }

    /// The next packet; `None` at the end of the file.
    ///
    /// # Errors
    /// When the file ends in the middle of something, or says what cannot be.
    #[expect(clippy::should_implement_trait, reason = "what it gives borrows from the reader")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, Error> {
        match self.format {
            Format::Pcap { order, link, nanos_each } => self.next_pcap(order, link, nanos_each),
            Format::PcapNg { .. } => self.next_block(),
        }
    }

    fn next_pcap(&mut self, order: Order, link: Link, nanos_each: u64) -> Result<Option<Packet<'_>>, Error> {
        let begins = self.bytes_read();
        if self.fill(PCAP_RECORD_LEN)? == 0 {
            return Ok(None);
        }
        let header = self.take(PCAP_RECORD_LEN, "a packet's header")?;
        let field = |at: usize| order.u32(&self.buffer, header + at);
        let (seconds, fraction) = (u64::from(field(0)), u64::from(field(4)));
        let (captured, original_len) = (field(8) as usize, field(12));
        if captured > BLOCK_MAX {
            return Err(Error::Damaged { at: begins, what: "a packet longer than any" });
        }
        let start = self.take(captured, "a packet")?;
        let time_ns = seconds * 1_000_000_000 + fraction * nanos_each;
        Ok(Some(Packet { time_ns, link, original_len, bytes: &self.buffer[start..start + captured] }))
    }

    fn next_block(&mut self) -> Result<Option<Packet<'_>>, Error> {
        loop {
            let begins = self.bytes_read();
            let damaged = |what| Error::Damaged { at: begins, what };
            match self.fill(12)? {
                0 => return Ok(None),
                n if n < 12 => return Err(Error::Truncated { at: self.total(), what: "a block's header" }),
                _ => {}
            }
            let Format::PcapNg { order, interfaces } = &mut self.format else { unreachable!("it is one") };
            let head = &self.buffer[self.at..];
            if Order::Big.u32(head, 0) == SECTION {
                *order = match (Order::Little.u32(head, 8), Order::Big.u32(head, 8)) {
                    (SECTION_ORDER, _) => Order::Little,
                    (_, SECTION_ORDER) => Order::Big,
                    _ => return Err(damaged("a section without a byte order")),
                };
                interfaces.clear();
            }
            let order = *order;
            let (kind, len) = (order.u32(head, 0), order.u32(head, 4) as usize);
            if len < 12 || !len.is_multiple_of(4) || len > BLOCK_MAX {
                return Err(damaged("a block of an impossible length"));
            }
            let start = self.take(len, "a block")?;
            if order.u32(&self.buffer, start + len - 4) as usize != len {
                return Err(damaged("a block whose two lengths differ"));
            }
            let Format::PcapNg { interfaces, .. } = &mut self.format else { unreachable!("it is one") };
            let body = start + 8..start + len - 4;
            match kind {
                INTERFACE => {
                    if interfaces.len() == INTERFACES_MAX {
                        return Err(damaged("one interface more than any machine has"));
                    }
                    let interface = interface(order, &self.buffer[body]);
                    interfaces.push(interface.ok_or_else(|| damaged("an interface that cannot be read"))?);
                }
                ENHANCED | SIMPLE => {
                    let found = if kind == ENHANCED {
                        enhanced(order, &self.buffer[body.clone()])
                    } else {
                        simple(order, &self.buffer[body.clone()], interfaces)
                    };
                    let found = found.ok_or_else(|| damaged("a packet that does not fit its block"))?;
                    let from = interfaces.get(found.interface).ok_or_else(|| damaged("a packet of no interface"))?;
                    let link = from.link.map_err(Error::LinkType)?;
                    self.last_ns = found.time.map_or(self.last_ns, |time| from.nanos(time));
                    let at = body.start + found.at;
                    return Ok(Some(Packet {
                        time_ns: self.last_ns,
                        link,
                        original_len: found.original_len,
                        bytes: &self.buffer[at..at + found.len],
                    }));
                }
                _ => {}
            }
        }
    }

    fn total(&self) -> u64 {
        self.before + self.end as u64
    }

    /// Makes `n` bytes lie in the buffer from `at` on, if the file has them: how many there are, at most `n`.
    #[inline]
    fn fill(&mut self, n: usize) -> Result<usize, Error> {
        if self.end - self.at < n {
            self.fill_cold(n)?;
        }
        Ok(n.min(self.end - self.at))
    }

    #[cold]
    fn fill_cold(&mut self, n: usize) -> Result<(), Error> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.before += self.at as u64;
        (self.at, self.end) = (0, self.end - self.at);
        if self.buffer.len() < n {
            self.buffer.resize(n, 0);
        }
        while self.end < n {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Read(error)),
            }
        }
        Ok(())
    }

    /// Where the next `n` bytes lie in the buffer.
    #[inline]
    fn take(&mut self, n: usize, what: &'static str) -> Result<usize, Error> {
        if self.fill(n)? < n {
            return Err(Error::Truncated { at: self.total(), what });
        }
        let start = self.at;
        self.at += n;
        Ok(start)
    }
}

/// A packet in a block's body.
struct Found {
    interface: usize,
    time: Option<u64>,
    original_len: u32,
    at: usize,
    len: usize,
}

fn enhanced(order: Order, body: &[u8]) -> Option<Found> {
    const FIXED: usize = 20;
    if body.len() < FIXED {
        return None;
    }
    let time = u64::from(order.u32(body, 4)) << 32 | u64::from(order.u32(body, 8));
    let (len, original_len) = (order.u32(body, 12) as usize, order.u32(body, 16));
    let found = Found { interface: order.u32(body, 0) as usize, time: Some(time), original_len, at: FIXED, len };
    (len <= body.len() - FIXED).then_some(found)
}

fn simple(order: Order, body: &[u8], interfaces: &[Interface]) -> Option<Found> {
    const FIXED: usize = 4;
    if body.len() < FIXED {
        return None;
    }
    let original_len = order.u32(body, 0);
    let snap_len = interfaces.first().map_or(0, |first| first.snap_len);
    let len = if snap_len == 0 { original_len } else { original_len.min(snap_len) } as usize;
    let found = Found { interface: 0, time: None, original_len, at: FIXED, len };
    (len <= body.len() - FIXED).then_some(found)
}

fn interface(order: Order, body: &[u8]) -> Option<Interface> {
    if body.len() < 8 {
        return None;
    }
    let code = u32::from(order.u16(body, 0));
    let link = Link::from_code(code).ok_or(code);
    let mut found = Interface { link, snap_len: order.u32(body, 4), per_second: 1_000_000, offset_s: 0 };
    let mut at = 8;
    while at + 4 <= body.len() {
        let (option, len) = (order.u16(body, at), usize::from(order.u16(body, at + 2)));
        let value = body.get(at + 4..at + 4 + len)?;
        match (option, len) {
            (0, _) => break,
            (OPTION_RESOLUTION, 1) => {
                let power = u32::from(value[0] & 0x7f);
                let base = if value[0] & 0x80 == 0 { 10u64 } else { 2 };
                found.per_second = base.checked_pow(power)?;
            }
            (OPTION_OFFSET, 8) => found.offset_s = order.u64(value, 0) as i64,
            _ => {}
        }
        at += 4 + len.next_multiple_of(4);
    }
    Some(found)
}

/// Writes packets of one link to a pcap file with times in nanoseconds.
#[derive(Debug)]
pub struct Writer<W> {
    output: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Writes how the file is made.
    ///
    /// # Errors
    /// The output's.
    pub fn new(mut output: W, link: Link) -> std::io::Result<Self> {
        let mut header = [0; PCAP_HEADER_LEN];
        header[0..4].copy_from_slice(&NANOS.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&(256u32 << 10).to_le_bytes());
        header[20..24].copy_from_slice(&link.code().to_le_bytes());
        output.write_all(&header)?;
        Ok(Self { output, bytes: PCAP_HEADER_LEN as u64 })
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// The output's.
    pub fn packet(&mut self, time_ns: u64, packet: &[u8]) -> std::io::Result<()> {
        let mut header = [0; PCAP_RECORD_LEN];
        let (seconds, nanos) = ((time_ns / 1_000_000_000) as u32, (time_ns % 1_000_000_000) as u32);
        for (at, field) in [seconds, nanos, packet.len() as u32, packet.len() as u32].into_iter().enumerate() {
            header[at * 4..at * 4 + 4].copy_from_slice(&field.to_le_bytes());
        }
        self.output.write_all(&header)?;
        self.output.write_all(packet)?;
        self.bytes += (PCAP_RECORD_LEN + packet.len()) as u64;
        Ok(())
    }

    /// Bytes that were written.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(mut self) -> std::io::Result<W> {
        self.output.flush()?;
        Ok(self.output)
    }
}
