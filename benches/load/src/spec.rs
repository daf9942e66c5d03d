//! What one cell is: which peer, which size, how many outstanding, how it waits.
//!
//! Owns: names and limits, and the errors that name a wrong one. Refuses: knowing how any peer works.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sealane::Backend;
use serde::{Deserialize, Serialize};

/// Largest message a cell may have: Sealane's own default limit.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Most bytes of a message of the floor that seals: longer ones overrun receive buffers.
const UDP_IDEAL_BYTES_MAX: usize = 1 << 20;

/// Fewest bytes of its messages where several are outstanding: shorter ones would share records or trains, which it does not do.
const UDP_IDEAL_LOADED_BYTES_MIN: usize = 32 << 10;

/// Why a build without the feature does not have these peers.
pub(crate) const NOT_HEAVY: &str = "this program was built without the feature `heavy`";

/// Most messages that may be outstanding at once.
pub(crate) const OUTSTANDING_MAX: usize = 4096;

/// A transport that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// Raw UDP with GSO and GRO: the floor, neither sealed nor reliable. A train for each message that takes several datagrams.
    Udp,
    /// The same with as many messages as fit into each train; differs from it under load only.
    UdpPack,
    /// The same with one AEAD per message: what no encrypted transport over UDP can beat. Each message for itself, so under load only long ones.
    UdpIdeal,
    /// Length-prefixed TCP.
    Tcp,
    /// TLS records by the kernel, under plain writes and reads. Not every kernel has it.
    Ktls,
    /// TCP plus one AEAD per record of at most 16 KB: what software kTLS cannot beat.
    KtlsIdeal,
    /// The same with one record per message, as one `send` per message gives.
    KtlsIdealPm,
    /// TLS 1.3 over TCP by rustls.
    Tls,
    /// QUIC by quinn. This and the next two with the feature `heavy`.
    Quinn,
    /// QUIC by s2n-quic.
    S2nQuic,
    /// Unary gRPC calls by tonic, over TLS.
    Tonic,
    /// Sealane through its public API.
    Sealane,
    /// The same, receiving by io_uring. On request only.
    SealaneIoUring,
}

impl PeerKind {
    /// Every peer, in the order of the tables.
    pub const ALL: [Self; 13] = [
        Self::Udp,
        Self::UdpPack,
        Self::UdpIdeal,
        Self::Tcp,
        Self::Ktls,
        Self::KtlsIdeal,
        Self::KtlsIdealPm,
        Self::Tls,
        Self::Quinn,
        Self::S2nQuic,
        Self::Tonic,
        Self::Sealane,
        Self::SealaneIoUring,
    ];

    /// The name in tables, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::UdpPack => "udp-pack",
            Self::UdpIdeal => "udp-ideal",
            Self::Tcp => "tcp",
            Self::Ktls => "ktls",
            Self::KtlsIdeal => "ktls-ideal",
            Self::KtlsIdealPm => "ktls-ideal-pm",
            Self::Tls => "tls",
            Self::Quinn => "quinn",
            Self::S2nQuic => "s2n-quic",
            Self::Tonic => "tonic",
            Self::Sealane => "sealane",
            Self::SealaneIoUring => "sealane-io-uring",
        }
    }

    /// The peers that make sense at this number of outstanding messages: one record per message is a
    /// different thing from one record for all that is ready only when several can be ready, so are trains of one message and
    /// trains of several.
    pub fn default_set(outstanding: usize) -> Vec<Self> {
        Self::ALL
            .into_iter()
            .filter(|peer| !peer.is_on_request())
            .filter(|peer| outstanding > 1 || !peer.only_loaded())
            .collect()
    }

    /// Whether it differs from another peer only when several messages are outstanding.
    pub fn only_loaded(self) -> bool {
        matches!(self, Self::KtlsIdealPm | Self::UdpPack)
    }

    /// Whether it is measured only where it is named.
    fn is_on_request(self) -> bool {
        self == Self::SealaneIoUring || self.is_heavy() && !cfg!(feature = "heavy")
    }

    /// Whether it takes the feature `heavy`.
    pub fn is_heavy(self) -> bool {
        matches!(self, Self::Quinn | Self::S2nQuic | Self::Tonic)
    }

    /// Whether it can wait like this: asynchronous runtimes sleep or do not.
    pub(crate) fn waits(self, mode: Mode) -> bool {
        !self.is_heavy() || matches!(mode, Mode::Spin | Mode::Block)
    }

    /// Whether it can carry messages of so many bytes, so many at once.
    pub(crate) fn takes(self, size: usize, outstanding: usize) -> bool {
        let least = if outstanding > 1 { UDP_IDEAL_LOADED_BYTES_MIN } else { 0 };
        self != Self::UdpIdeal || (least..=UDP_IDEAL_BYTES_MAX).contains(&size)
    }

    /// Whether messages of several sizes can be under way: raw UDP has no frames.
    pub(crate) fn takes_beside(self) -> bool {
        !matches!(self, Self::Udp | Self::UdpPack | Self::UdpIdeal)
    }

    /// Whether bytes come from a TCP stream, so that the size of a read is a choice.
    pub(crate) fn reads_a_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Ktls | Self::KtlsIdeal | Self::KtlsIdealPm | Self::Tls)
    }
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PeerKind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let Some(peer) = Self::ALL.into_iter().find(|p| p.name() == name) else {
            let known: Vec<_> = Self::ALL.iter().map(|p| p.name()).collect();
            bail!("unknown peer `{name}`; the peers are {}", known.join(", "));
        };
        Ok(peer)
    }
}

/// How both sides wait for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Poll a non-blocking socket: a core per side, no wake-up in the round trip.
    Spin,
    /// Sleep in the kernel until bytes are there.
    Block,
    /// Poll for 20 us, then sleep.
    Adaptive,
    /// Both sides are one thread that serves them in turn: nobody waits, and nothing is switched. What it gives is the work alone.
    Turns,
}

/// How long an adaptive wait polls: Sealane's default.
pub(crate) const SPIN: Duration = Duration::from_micros(20);

impl Mode {
    /// The name in tables, JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Block => "block",
            Self::Adaptive => "adaptive",
            Self::Turns => "turns",
        }
    }

    /// Whether one look at the network returns at once, whatever there is.
    pub(crate) fn polls(self) -> bool {
        matches!(self, Self::Spin | Self::Turns)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "spin" => Ok(Self::Spin),
            "block" => Ok(Self::Block),
            "adaptive" => Ok(Self::Adaptive),
            "turns" => Ok(Self::Turns),
            _ => bail!("unknown mode `{name}`; the modes are spin, block, adaptive and turns"),
        }
    }
}

/// All that both sides of a cell must agree on. The server process gets it as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The transport.
    pub peer: PeerKind,
    /// How both sides wait.
    pub mode: Mode,
    /// The CPU of the server, where there is one to spare.
    pub cpu: Option<usize>,
    /// Bytes of each request and of each reply.
    pub size: usize,
    /// Most requests without a reply.
    pub outstanding: usize,
    /// Most bytes that one read from a stream asks for.
    pub read_bytes: usize,
    /// Path MTU to keep to, instead of the one found.
    pub mtu: Option<u32>,
    /// What moves Sealane's datagrams, instead of its default.
    #[serde(default)]
    pub backend: Option<String>,
    /// Whether messages go one way: the server checks each and answers with a few bytes, instead of echoing it.
    #[serde(default)]
    pub one_way: bool,
    /// Bytes of one more message that is always under way beside the others.
    #[serde(default)]
    pub beside: Option<usize>,
    /// Messages per second that arrive whatever became of those before, instead of a number outstanding.
    #[serde(default)]
    pub open: Option<f64>,
}

impl Spec {
    /// A cell with one message outstanding and the usual read size.
    pub fn new(peer: PeerKind, mode: Mode, size: usize) -> Self {
        Self {
            peer,
            mode,
            cpu: None,
            size,
            outstanding: 1,
            read_bytes: 256 << 10,
            mtu: None,
            backend: None,
            one_way: false,
            beside: None,
            open: None,
        }
    }

    /// Whether no more than one message is ever outstanding and each side has a thread, so that a whole message may be written in
    /// one go: the other side reads all of it before it writes.
    pub(crate) fn only_one(&self) -> bool {
        self.outstanding == 1 && self.mode != Mode::Turns
    }

    /// What moves Sealane's datagrams.
    pub(crate) fn backend(&self) -> Result<Backend> {
        match (self.peer, &self.backend) {
            (PeerKind::SealaneIoUring, _) => Ok(Backend::IoUring),
            (_, Some(name)) => name.parse().map_err(anyhow::Error::msg),
            (_, None) => Ok(Backend::Auto),
        }
    }

    /// Says what is wrong with it, if anything is.
    pub fn check(&self) -> Result<()> {
        check_size(self.size)?;
        self.backend()?;
        ensure!(
            (1..=OUTSTANDING_MAX).contains(&self.outstanding),
            "outstanding {} is not within 1 and {OUTSTANDING_MAX}",
            self.outstanding
        );
        ensure!(self.peer != PeerKind::UdpIdeal || !self.one_way, "peer udp-ideal takes no one-way messages");
        ensure!(
            self.peer.takes(self.size, self.outstanding),
            "peer udp-ideal takes messages of at most {UDP_IDEAL_BYTES_MAX} bytes, and of at least {UDP_IDEAL_LOADED_BYTES_MIN} where several are \
             outstanding, not {}",
            self.size
        );
        ensure!(self.peer.waits(self.mode), "peer `{}` has no mode {}", self.peer, self.mode);
        ensure!(!(self.peer.is_heavy() && self.one_way), "peer `{}` takes no one-way messages", self.peer);
        ensure!(self.read_bytes >= 4096, "read size {} is below 4096", self.read_bytes);
        if let Some(size) = self.beside {
            check_size(size)?;
            ensure!(self.peer.takes_beside(), "peer `{}` takes messages of one size only", self.peer);
        }
        if let Some(rate) = self.open {
            ensure!(rate > 0.0 && rate < 1e8, "a rate of {rate} per second is not within 0 and 100 million");
            ensure!(self.mode.polls() && self.outstanding > 1, "arrivals at a rate need a mode that polls");
        }
        if let Some(mtu) = self.mtu {
            ensure!((576..=65_535).contains(&mtu), "mtu {mtu} is not within 576 and 65535");
        }
        Ok(())
    }
}

fn check_size(size: usize) -> Result<()> {
    ensure!((1..=MESSAGE_BYTES_MAX).contains(&size), "size {size} is not within 1 and {MESSAGE_BYTES_MAX} bytes");
    Ok(())
}

/// Reads a comma-separated list of message sizes.
pub fn parse_sizes(list: &str) -> Result<Vec<usize>> {
    let mut sizes = Vec::new();
    for word in list.split(',').map(str::trim) {
        let Ok(size) = word.parse::<usize>() else { bail!("`{word}` is not a size in bytes") };
        check_size(size)?;
        sizes.push(size);
    }
    Ok(sizes)
}

/// Reads a comma-separated list of peers.
pub fn parse_peers(list: &str) -> Result<Vec<PeerKind>> {
    list.split(',').map(|word| word.trim().parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_round_trip_through_text_and_json() {
        for peer in PeerKind::ALL {
            let json = serde_json::to_string(&peer).unwrap();
            assert_eq!(json, format!("\"{peer}\""));
            assert_eq!(peer.name().parse::<PeerKind>().unwrap(), peer);
        }
    }

    #[test]
    fn a_wrong_word_is_named() {
        assert!(parse_peers("udp,quik").unwrap_err().to_string().contains("`quik`"));
        assert!(parse_sizes("64,12q").unwrap_err().to_string().contains("`12q`"));
        assert!(parse_sizes("0").unwrap_err().to_string().contains("size 0"));
        assert!(parse_sizes("99999999999").unwrap_err().to_string().contains("99999999999"));
        assert!("busy".parse::<Mode>().unwrap_err().to_string().contains("`busy`"));
    }

    #[test]
    fn peers_are_measured_where_they_make_sense() {
        assert!(!PeerKind::default_set(1).contains(&PeerKind::KtlsIdealPm));
        assert!(PeerKind::default_set(16).contains(&PeerKind::KtlsIdealPm));
        assert!(PeerKind::default_set(1).contains(&PeerKind::UdpIdeal));
        let long = Spec::new(PeerKind::UdpIdeal, Mode::Spin, UDP_IDEAL_BYTES_MAX + 1);
        assert!(long.check().unwrap_err().to_string().contains("at most 1048576"));
        let small = Spec { outstanding: 2, size: 64, ..long };
        assert!(small.check().unwrap_err().to_string().contains("at least 32768"));
        let loaded = Spec { size: UDP_IDEAL_LOADED_BYTES_MIN, ..small };
        loaded.check().unwrap();
        assert!(Spec { one_way: true, ..loaded }.check().unwrap_err().to_string().contains("one-way"));
    }
}
