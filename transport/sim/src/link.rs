//! Owns frames and the ports that send them: a rate, a delay, eight queues of which the highest goes first.
//!
//! A port sends whole frames, one after the other (store and forward, no preemption). It knows no routes and no hosts.

use std::collections::VecDeque;

use crate::clock::{SEC, Time};

/// How many priorities there are.
pub const PRIORITIES: usize = 8;

/// Ethernet: header and checksum, preamble, gap.
const ETHERNET: u32 = 14 + 4 + 8 + 12;
/// The least that an Ethernet frame carries.
const ETHERNET_PAYLOAD_MIN: u32 = 46;
/// IPv4 and UDP headers.
const IP_UDP: u32 = 20 + 8;

/// Bytes that a datagram with `udp` bytes of payload takes on the wire, gap included.
#[must_use]
pub const fn on_wire(udp: u32) -> u32 {
    let payload = udp + IP_UDP;
    (if payload < ETHERNET_PAYLOAD_MIN { ETHERNET_PAYLOAD_MIN } else { payload }) + ETHERNET
}

/// A datagram on its way.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// The host that it says it is from.
    pub from: u32,
    /// The host that it is for.
    pub to: u32,
    /// From which of its addresses, and to which: 0 is a host's own, others are a translator's. See `world/rebind.rs`.
    pub from_binding: u16,
    /// The same of the host that it is for.
    pub to_binding: u16,
    /// Bytes that it takes on the wire.
    pub wire: u32,
    /// At which priority, 7 first.
    pub priority: u8,
    /// Its number: frames are counted from the beginning of the world.
    pub id: u64,
}

impl Frame {
    /// The low four bits of the first byte: 1 is DATA, 2 CONTROL, 3 HANDSHAKE. [P-5.1]
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.bytes.first().map_or(0, |byte| byte & 0xf)
    }

    /// The last eight bytes: of a sealed packet they depend on all others.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.bytes.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

/// Frames by number, in memory that is used again.
#[derive(Debug, Default)]
pub struct Frames {
    all: Vec<Frame>,
    free: Vec<u32>,
    made: u64,
}

impl Frames {
    /// A frame that nobody uses, with a new number and no bytes.
    pub fn take(&mut self) -> u32 {
        self.made += 1;
        let at = self.free.pop().unwrap_or_else(|| {
            self.all.push(Frame::default());
            (self.all.len() - 1) as u32
        });
        let frame = &mut self.all[at as usize];
        frame.bytes.clear();
        (frame.from_binding, frame.to_binding) = (0, 0);
        frame.id = self.made;
        at
    }

    /// Nobody uses it any more.
    pub fn give_back(&mut self, at: u32) {
        self.free.push(at);
    }

    /// Frame `at`.
    #[must_use]
    pub fn get(&self, at: u32) -> &Frame {
        &self.all[at as usize]
    }

    /// Frame `at`, to be changed.
    pub fn get_mut(&mut self, at: u32) -> &mut Frame {
        &mut self.all[at as usize]
    }

    /// How many are in use.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// How many there ever were.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.made
    }
}

/// What a port is like.
#[derive(Clone, Copy, Debug)]
pub struct PortSpec {
    /// Bits per second.
    pub rate: u64,
    /// From the last bit on the wire until the other end has the frame and may act on it.
    pub delay: Time,
    /// Bytes that wait at each priority, at most; what comes on top is dropped.
    pub limit: u64,
    /// Whether priorities are honoured; a network card has one queue.
    pub priorities: bool,
}

/// What a port has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounts {
    /// Frames sent.
    pub frames: u64,
    /// Bytes sent, as on the wire.
    pub bytes: u64,
    /// Frames dropped for want of room.
    pub dropped: u64,
    /// The most bytes that ever waited, by priority.
    pub peak: [u64; PRIORITIES],
    /// The most bytes that ever waited, over all priorities.
    pub peak_all: u64,
}

/// A port: a transmitter and what waits for it.
#[derive(Debug)]
pub struct Port {
    spec: PortSpec,
    ps_per_byte: Time,
    queues: [VecDeque<u32>; PRIORITIES],
    waiting_bytes: [u64; PRIORITIES],
    /// Bit p: queue p is not empty.
    occupied: u8,
    waiting: usize,
    free_at: Time,
    /// A `Free` is in the event queue.
    pub(crate) alarmed: bool,
    /// What it has done.
    pub counts: PortCounts,
}

/// What became of a frame that was given to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits.
    Waits,
    /// There was no room.
    Dropped,
}

impl Port {
    /// An idle port.
    #[must_use]
    pub fn new(spec: PortSpec) -> Self {
        Self {
            spec,
            ps_per_byte: 8 * SEC / spec.rate,
            queues: Default::default(),
            waiting_bytes: [0; PRIORITIES],
            occupied: 0,
            waiting: 0,
            free_at: 0,
            alarmed: false,
            counts: PortCounts::default(),
        }
    }

    /// What it is like.
    #[must_use]
    pub const fn spec(&self) -> &PortSpec {
        &self.spec
    }

    /// When it can begin with another frame.
    #[must_use]
    pub const fn free_at(&self) -> Time {
        self.free_at
    }

    /// Frames that wait.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.iter().sum()
    }

    /// A frame of `wire` bytes is to be sent.
    pub fn offer(&mut self, frame: u32, wire: u32, priority: u8) -> Offered {
        let level = if self.spec.priorities { usize::from(priority).min(PRIORITIES - 1) } else { 0 };
        let bytes = self.waiting_bytes[level] + u64::from(wire);
        if bytes > self.spec.limit {
            self.counts.dropped += 1;
            return Offered::Dropped;
        }
        self.waiting_bytes[level] = bytes;
        self.counts.peak[level] = self.counts.peak[level].max(bytes);
        self.queues[level].push_back(frame);
        self.occupied |= 1 << level;
        self.waiting += 1;
        self.counts.peak_all = self.counts.peak_all.max(self.waiting_bytes());
        Offered::Waits
    }

    /// Begins to send what goes next, if the port is free: the frame, and when its last bit is out.
    pub fn start(&mut self, now: Time, wire: impl Fn(u32) -> u32) -> Option<(u32, Time)> {
        if self.occupied == 0 || self.free_at > now {
            return None;
        }
        let level = 7 - self.occupied.leading_zeros() as usize;
        let queue = &mut self.queues[level];
        let frame = queue.pop_front()?;
        if queue.is_empty() {
            self.occupied &= !(1 << level);
        }
        let bytes = wire(frame);
        self.waiting -= 1;
        self.waiting_bytes[level] -= u64::from(bytes);
        self.free_at = now + Time::from(bytes) * self.ps_per_byte;
        self.counts.frames += 1;
        self.counts.bytes += u64::from(bytes);
        Some((frame, self.free_at))
    }

    /// Throws away what waits, and hands it over.
    pub fn flush(&mut self, mut each: impl FnMut(u32)) {
        for queue in &mut self.queues {
            queue.drain(..).for_each(&mut each);
        }
        self.waiting_bytes = [0; PRIORITIES];
        self.occupied = 0;
        self.waiting = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::NS;
    use crate::rng::Rng;

    fn port(rate: u64) -> Port {
        Port::new(PortSpec { rate, delay: 0, limit: u64::MAX, priorities: true })
    }

    #[test]
    fn sizes_on_the_wire() {
        assert_eq!(on_wire(0), 84);
        assert_eq!(on_wire(18), 84);
        assert_eq!(on_wire(19), 85);
        assert_eq!(on_wire(1472), 1538);
    }

    #[test]
    fn the_highest_priority_goes_first_and_order_holds_within_one() {
        let mut port = port(10_000_000_000);
        for (frame, priority) in [(0, 2), (1, 7), (2, 2), (3, 5), (4, 7), (5, 0)] {
            assert_eq!(port.offer(frame, 1000, priority), Offered::Waits);
        }
        let mut now = 0;
        let mut order = Vec::new();
        while let Some((frame, free)) = port.start(now, |_| 1000) {
            assert_eq!(free, now + 800 * NS);
            assert!(port.start(free - 1, |_| 1000).is_none(), "one at a time");
            order.push(frame);
            now = free;
        }
        assert_eq!(order, [1, 4, 3, 0, 2, 5]);
        assert_eq!((port.counts.peak_all, port.counts.peak[7]), (6000, 2000));
    }

    #[test]
    fn the_tail_is_dropped() {
        let mut port = Port::new(PortSpec { rate: 1_000_000_000, delay: 0, limit: 2500, priorities: true });
        let offered: Vec<_> = (0..4).map(|frame| port.offer(frame, 1000, 3)).collect();
        assert_eq!(offered, [Offered::Waits, Offered::Waits, Offered::Dropped, Offered::Dropped]);
        assert_eq!(port.offer(9, 1000, 4), Offered::Waits, "each priority has its own room");
        assert_eq!(port.counts.dropped, 2);
    }

    /// Pollaczek and Khinchine: with service time S and load r the mean wait is S r / (2 (1 - r)).
    #[test]
    fn waits_as_long_as_queueing_theory_says() {
        let mut rng = Rng::new(11, 0);
        for load in [0.5, 0.8] {
            let mut port = port(10_000_000_000);
            let (service, count) = (1200 * NS, 200_000u32);
            let (mut arrival, mut waited) = (0.0, 0.0);
            let mut arrivals = Vec::new();
            for frame in 0..count {
                arrival += rng.exponential(service as f64 / load);
                arrivals.push(arrival as Time);
                // Everything that could begin before this arrival does.
                while port.waiting() > 0 && port.free_at() <= arrival as Time {
                    let at = port.free_at();
                    let (started, _) = port.start(at, |_| 1500).expect("it is free");
                    waited += at.saturating_sub(arrivals[started as usize]) as f64;
                }
                port.offer(frame, 1500, 3);
                if port.free_at() <= arrival as Time {
                    port.start(arrival as Time, |_| 1500);
                }
            }
            let mean = waited / f64::from(count);
            let expected = service as f64 * load / (2.0 * (1.0 - load));
            assert!((mean / expected - 1.0).abs() < 0.05, "load {load}: {mean} ps, expected {expected} ps");
        }
    }
}
