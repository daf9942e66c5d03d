//! Owns what messages cost on the wire: how many frames, of how many bytes; and how long a message takes when it is alone.
//!
//! Two ways to count. [`Framing::Sealane`]: every byte that we send. [`Framing::Paper`]: our frames, charged as the paper's simulator
//! charges its own, which encrypts nothing: 30 bytes of header where we have 65, and 1,442 bytes of message in a full frame.

use wire::geometry::Geometry;
use wire::limits::{ACK_LEN, CONTROL_HEADER_LEN, DATA_HEADER_LEN, HEADER_LEN, PACKET_OVERHEAD, TAG_LEN};

use crate::clock::{SEC, Time};
use crate::fabric::Network;
use crate::link::{Frame, on_wire};

/// The paper's header of unscheduled data.
const PAPER_HEADER: usize = 30;
/// UDP payload of a full frame on Ethernet: 1,500 less IP and UDP headers.
const UDP_MAX: usize = 1472;

/// How bytes are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// All of them, with what encryption adds.
    Sealane,
    /// As the paper's simulator counts its own.
    Paper,
}

/// Bytes of a datagram that count when encryption, our larger header, and acknowledgements do not. These ride in messages of one record;
/// of such a message the header states the length. [P-5.2]
fn charge_paper(frame: &Frame) -> u32 {
    let bytes = &frame.bytes;
    let counted = match (frame.kind(), bytes.get(HEADER_LEN..DATA_HEADER_LEN)) {
        (1, Some(&[a, b, c, d])) => {
            let message = u32::from_be_bytes([a, b, c, d]) as usize;
            (bytes.len() - PACKET_OVERHEAD.min(bytes.len())).min(message) + PAPER_HEADER
        }
        (2, _) => bytes.len().saturating_sub(CONTROL_HEADER_LEN + TAG_LEN),
        _ => bytes.len(),
    };
    on_wire(counted as u32)
}

impl Framing {
    /// What a frame counts on the wire.
    #[must_use]
    pub fn charge(self) -> crate::hooks::Charge {
        match self {
            Self::Sealane => crate::hooks::charge_all,
            Self::Paper => charge_paper,
        }
    }

    /// The largest datagram that we may send.
    #[must_use]
    pub const fn datagram_max(self) -> usize {
        match self {
            Self::Sealane => UDP_MAX,
            Self::Paper => UDP_MAX - PAPER_HEADER + PACKET_OVERHEAD,
        }
    }

    const fn header(self) -> usize {
        match self {
            Self::Sealane => PACKET_OVERHEAD,
            Self::Paper => PAPER_HEADER,
        }
    }

    /// Bytes on the wire of a data frame beyond the message's bytes.
    #[must_use]
    pub const fn packet_bytes(self) -> u32 {
        on_wire(1000 + self.header() as u32) - 1000
    }

    /// How a message of `bytes` is cut.
    #[must_use]
    pub const fn cut(self, bytes: u32) -> Geometry {
        Geometry::cut(bytes as usize, self.datagram_max())
    }

    /// Bytes on the wire of frame `index` of a message.
    #[must_use]
    pub fn frame(self, cut: Geometry, index: u16) -> u32 {
        on_wire((cut.bytes(index).len() + self.header()) as u32)
    }

    /// Bytes on the wire of all data frames of a message.
    #[must_use]
    pub fn data(self, bytes: u32) -> u64 {
        let cut = self.cut(bytes);
        let last = cut.records() - 1;
        u64::from(last) * u64::from(self.frame(cut, 0)) + u64::from(self.frame(cut, last as u16))
    }

    /// Bytes on the wire of a packet with one grant.
    #[must_use]
    pub const fn grant(self) -> u32 {
        match self {
            // 24 of header, 16 of tag, 12 of frame.
            Self::Sealane => on_wire(52),
            Self::Paper => on_wire(12),
        }
    }

    /// Bytes on the wire of a message with its grants, one for each frame beyond the first `unscheduled` bytes, and with the
    /// acknowledgement of another one, which rides in it when it has one frame.
    #[must_use]
    pub fn message(self, bytes: u32, unscheduled: u32) -> u64 {
        let cut = self.cut(bytes);
        let granted = cut.records() - cut.records_below(unscheduled).min(cut.records());
        let ack = if cut.records() == 1 && self == Self::Sealane { ACK_LEN as u64 } else { 0 };
        self.data(bytes) + u64::from(granted) * u64::from(self.grant()) + ack
    }
}

/// Time for `bytes` at `rate`.
const fn at_rate(bytes: u64, rate: u64) -> Time {
    bytes * 8 * (SEC / rate)
}

/// How long a message takes alone in the network: its frames one after the other on its host's link, then the first and
/// largest on each further link, the switches, the software.
fn alone(network: &Network, frames: u64, largest: u32, between_racks: bool) -> Time {
    let software = network.send_delay + network.receive_delay;
    let largest = u64::from(largest);
    let edge = |hops: Time| hops * network.switch_delay + at_rate(largest, network.host_rate);
    let beyond = match (network.racks, between_racks) {
        (0, _) => 0,
        (_, false) => edge(1),
        (_, true) => edge(3) + 2 * at_rate(largest, network.core_rate),
    };
    at_rate(frames, network.host_rate) + software + beyond
}

/// The ideal of the paper: frames of 1,472 bytes of message, of which the protocol's header takes none.
#[must_use]
pub fn ideal_paper(network: &Network, bytes: u32, between_racks: bool) -> Time {
    let (full, rest) = (bytes / UDP_MAX as u32, bytes % UDP_MAX as u32);
    let mut frames = u64::from(full) * u64::from(on_wire(UDP_MAX as u32));
    if rest > 0 || full == 0 {
        frames += u64::from(on_wire(rest));
    }
    let largest = if full > 0 { on_wire(UDP_MAX as u32) } else { on_wire(rest) };
    alone(network, frames, largest, between_racks)
}

/// The same with the frames that are really sent: nothing but waiting makes a message slower than this.
#[must_use]
pub fn ideal_own(network: &Network, framing: Framing, bytes: u32, between_racks: bool) -> Time {
    alone(network, framing.data(bytes), framing.frame(framing.cut(bytes), 0), between_racks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::US;
    use crate::workload::{NAMES, Workload};

    /// The paper's ideal between racks: 1 B 2.42 us, 100 B 2.58, 1,442 B 5.27, 10 KB 12.5, 100 KB 87.7, 1 MB 840, 10 MB 8,363.
    #[test]
    fn the_ideal_is_the_papers() {
        let network = Network::paper(144);
        let expected = [
            (1, 2.42),
            (100, 2.58),
            (1442, 5.27),
            (10_000, 12.5),
            (100_000, 87.7),
            (1_000_000, 840.0),
            (10_000_000, 8363.0),
        ];
        for (bytes, us) in expected {
            let ideal = ideal_paper(&network, bytes, true) as f64 / US as f64;
            assert!((ideal / us - 1.0).abs() < 0.004, "{bytes}: {ideal} us, not {us} us");
            assert!(ideal_own(&network, Framing::Paper, bytes, true) >= ideal_paper(&network, bytes, true));
        }
    }

    /// The share of the link that is message bytes, by our count of the paper's frames, is the paper's.
    #[test]
    fn goodput_is_the_papers() {
        for name in NAMES {
            let workload = Workload::named(name).expect("it is there");
            let wire = workload.mean_of(|bytes| Framing::Paper.message(bytes, 9328) as f64);
            let goodput = workload.mean() / wire;
            assert!((goodput / workload.paper_goodput - 1.0).abs() < 0.025, "{name}: {goodput}");
        }
    }
}
