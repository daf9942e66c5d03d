//! Owns the builder, whose secure choices cannot be skipped, and the public knobs of a socket: default, unit, cost.
//!
//! A socket cannot be bound before it was said whom it trusts and who it is: these are two steps of the type. What can
//! hurt says `danger`.

mod renewal;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use endpoint::config::Config;
use record::aead::Cipher;
use udp::batch::Datagrams;

use crate::config::{Wait, datagram_bytes};
use crate::driver::{CLOCK_START_NANOS, unix_seconds};
use crate::error::Error;
use crate::link::{Link, LinkRate};
use crate::socket::Socket;
use crate::waiting::Shared;

#[cfg(feature = "aws-lc")]
pub use crate::credentials::{Clients, Identity, Trust};

mod rare;
mod evidence;
mod shards;

/// A step of the builder: nothing was said yet of whom to trust.
#[derive(Debug)]
pub struct NeedsTrust(());
/// A step of the builder: nothing was said yet of who we are.
#[derive(Debug)]
pub struct NeedsIdentity(());
/// A step of the builder: it can be bound.
#[derive(Debug)]
pub struct Ready(());

#[cfg(feature = "aws-lc")]
mod tls;

type Wrap = Box<dyn FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send>;

/// Makes a [`Socket`]. Begin with [`Socket::builder`].
pub struct Builder<Step> {
    knobs: Knobs,
    step: Step,
}

struct Knobs {
    #[cfg(feature = "aws-lc")]
    tls: crate::credentials::Choices,
    ciphers: Vec<Cipher>,
    serving: bool,
    wait: Wait,
    mtu: Option<u32>,
    spans: bool,
    link_rate: LinkRate,
    links: udp::links::Links,
    mark_priorities: bool,
    helper: bool,
    shards: u16,
    gso: bool,
    receive_buffer_bytes: usize,
    message_bytes_max: usize,
    send_bytes_max: u64,
    peer_send_bytes_max: u64,
    buffered_bytes_max: u64,
    peer_timeout: Duration,
    handshake_timeout: Duration,
    stream_above: Option<usize>,
    rare: rare::Choices,
    renewal: renewal::Renewal,
    attest: endpoint::evidence::Attest,
    wrap: Option<Wrap>,
}

impl<Step> fmt::Debug for Builder<Step> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("serving", &self.knobs.serving)
            .field("wait", &self.knobs.wait)
            .finish_non_exhaustive()
    }
}

impl<Step> Builder<Step> {
    fn to<Next>(self, step: Next) -> Builder<Next> {
        Builder { knobs: self.knobs, step }
    }
}

impl Builder<NeedsTrust> {
    pub(crate) fn new() -> Self {
        let proto = proto::config::Config::default();
        Self {
            knobs: Knobs {
                #[cfg(feature = "aws-lc")]
                tls: crate::credentials::Choices::default(),
                ciphers: Cipher::ALL.to_vec(),
                serving: false,
                wait: Wait::default(),
                mtu: None,
                spans: false,
                link_rate: LinkRate::Unknown,
                links: udp::links::Links::default(),
                mark_priorities: false,
                helper: true,
                shards: 1,
                gso: true,
                receive_buffer_bytes: 4 << 20,
                message_bytes_max: proto.message_bytes_max as usize,
                send_bytes_max: 256 << 20,
                peer_send_bytes_max: u64::MAX,
                buffered_bytes_max: proto.buffered_bytes_max,
                peer_timeout: proto.peer_timeout,
                handshake_timeout: Duration::from_secs(10),
                stream_above: None,
                rare: rare::Choices::default(),
                renewal: renewal::Renewal::default(),
                attest: endpoint::evidence::Attest::default(),
                wrap: None,
            },
            step: NeedsTrust(()),
        }
    }

    /// Only sessions whose secrets are installed by [`Socket::install_session`]: no handshake is begun or answered, and
    /// whoever has an installed secret is trusted.
    pub fn installed_only(self) -> Builder<Ready> {
        self.to(Ready(()))
    }
}

impl Builder<Ready> {
    /// Ciphers to offer and accept, best first. Default: AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305. The first one is
    /// what installed sessions use.
    #[must_use]
    pub fn ciphers(mut self, ciphers: &[Cipher]) -> Self {
        self.knobs.ciphers = ciphers.to_vec();
        self
    }

    /// Only this cipher.
    #[must_use]
    pub fn cipher(self, cipher: Cipher) -> Self {
        self.ciphers(&[cipher])
    }

    /// Takes requests and one-way messages from peers with installed secrets. Without this or `serve` they are refused.
    #[must_use]
    pub fn serve_installed(mut self) -> Self {
        self.knobs.serving = true;
        self
    }

    /// How blocking calls wait. Default [`Wait::Adaptive`].
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.knobs.wait = wait;
        self
    }

    /// The path MTU in bytes, IP header included, from 1,280. Default: the route's own, asked for at each peer. Too large a
    /// value is found out and lowered; too small a one costs throughput.
    #[must_use]
    pub fn mtu(mut self, bytes: u32) -> Self {
        self.knobs.mtu = Some(bytes);
        self
    }

    /// On paths of small packets, such as 1,500 bytes, longer messages that we send travel in records that span packets: each packet
    /// then costs no AEAD calls of its own, at either end. Default false, because it is for paths that keep the order of packets: a slice that
    /// overtakes its message's first record is lost, and only asked for again after some milliseconds. `docs/decisions/0002` says why. [P-4.6]
    #[must_use]
    pub fn spanning_records(mut self, on: bool) -> Self {
        self.knobs.spans = on;
        self
    }

    /// What our link carries, in bits per second, from 1,000,000. Long messages are then held back here, where the shortest
    /// goes first, instead of in the interface's queue, where the oldest does. Default: what the interface of each peer's
    /// route states, and of our own address where we are bound to one; the fastest of these. Where none states anything
    /// (loopback, many virtual machines) nothing is held back. Too low a value wastes the link, too high a one does nothing.
    #[must_use]
    pub fn link_rate(mut self, bits_per_second: u64) -> Self {
        self.knobs.link_rate = LinkRate::Stated(bits_per_second);
        self
    }

    /// Nothing is held back, whatever the interface states. For interfaces that state too little: with much traffic
    /// between neighbours on one host, for instance. Cost: short messages wait behind long ones in the interface's queue.
    #[must_use]
    pub fn no_pacing(mut self) -> Self {
        self.knobs.link_rate = LinkRate::NotPaced;
        self
    }

    /// Whether datagrams carry their priority in the IP header too, for switches that serve the higher one first: 0 to 7 as
    /// the class selector, the upper three bits of DSCP. Default false: a network that was not set up for it may treat class
    /// selectors 6 and 7 as its own control traffic, or drop them. Costs about 0.1 us per datagram or train.
    #[must_use]
    pub fn mark_priorities(mut self, on: bool) -> Self {
        self.knobs.mark_priorities = on;
        self
    }

    /// Another table of interfaces than the system's.
    #[cfg(test)]
    pub(crate) fn links(mut self, links: udp::links::Links) -> Self {
        self.knobs.links = links;
        self
    }

    /// Longest message, sent or received, in bytes, up to 64 MiB. Default 64 MiB.
    #[must_use]
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.knobs.message_bytes_max = bytes;
        self
    }

    /// Bytes of messages held until their receivers acknowledged them; beyond it `send` blocks or says `WouldBlock`.
    /// Default 256 MiB.
    #[must_use]
    pub fn send_bytes_max(mut self, bytes: u64) -> Self {
        self.knobs.send_bytes_max = bytes;
        self
    }

    /// The same for each peer: a server that answers many keeps one that takes nothing from using up all there is. One message is
    /// always taken. Default: no limit of its own.
    #[must_use]
    pub fn peer_send_bytes_max(mut self, bytes: u64) -> Self {
        self.knobs.peer_send_bytes_max = bytes;
        self
    }

    /// Bytes of incoming messages buffered at once, over all peers. Default 1 GiB. Beyond it new messages wait.
    #[must_use]
    pub fn buffered_bytes_max(mut self, bytes: u64) -> Self {
        self.knobs.buffered_bytes_max = bytes;
        self
    }

    /// How long a handshake may take. Default 10 s.
    #[must_use]
    pub fn handshake_timeout(mut self, span: Duration) -> Self {
        self.knobs.handshake_timeout = span;
        self
    }

    /// Messages longer than this are delivered as streams of verified bytes, while they arrive. Default: none.
    #[must_use]
    pub fn stream_above(mut self, bytes: usize) -> Self {
        self.knobs.stream_above = Some(bytes);
        self
    }

    /// Bytes of datagrams that the kernel should keep for us. Default 4 MiB; the system's limit caps it, and with it how
    /// much is granted at once.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: usize) -> Self {
        self.knobs.receive_buffer_bytes = bytes;
        self
    }

    /// Whether segments are handed to the kernel whole (UDP GSO). Default true, where the kernel can; off costs about a
    /// microsecond per packet.
    #[must_use]
    pub fn gso(mut self, on: bool) -> Self {
        self.knobs.gso = on;
        self
    }

    /// Binds the socket; port 0 lets the system choose. A client binds to `0.0.0.0:0` or `[::]:0`.
    ///
    /// # Errors
    /// [`Error::Bind`] with the cause, e.g. a port that is taken; [`Error::Config`] or [`Error::Credentials`] when the
    /// choices cannot work.
    pub fn bind(self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Socket, Error> {
        let Ready(()) = self.step;
        self.knobs.bind(address)
    }
}

impl Knobs {
    fn check(&self) -> Result<(), Error> {
        let wrong = |what: String| Err(Error::Config(what));
        if let Some(mtu) = self.mtu.filter(|mtu| !(1280..=65_535).contains(mtu)) {
            return wrong(format!("an MTU of {mtu} bytes cannot work: it must be from 1,280 to 65,535"));
        }
        if self.message_bytes_max > wire::limits::MESSAGE_MAX {
            let (asked, most) = (self.message_bytes_max, wire::limits::MESSAGE_MAX);
            return wrong(format!("messages of {asked} bytes cannot be sent: at most {most}"));
        }
        #[cfg(feature = "aws-lc")]
        evidence::check(&self.attest, self.tls.early_data_bytes_max > 0 || self.tls.publish.is_some())?;
        #[cfg(not(feature = "aws-lc"))]
        evidence::check(&self.attest, false)?;
        self.link_rate.check().map_err(Error::Config)?;
        shards::check(self.shards, self.wrap.is_some(), &self.rare).map_err(Error::Config)?;
        if self.peer_timeout.is_zero() || self.handshake_timeout.is_zero() {
            return wrong("a timeout of zero would fail every call".to_owned());
        }
        Ok(())
    }

    #[cfg_attr(not(feature = "aws-lc"), expect(unused_mut, reason = "only choices of TLS are completed here"))]
    fn bind(mut self, address: impl ToSocketAddrs + fmt::Debug) -> Result<Socket, Error> {
        self.check()?;
        let named = format!("{address:?}").trim_matches('"').to_owned();
        let failed = |source: std::io::Error| Error::Bind { address: named.clone(), source: Arc::new(source) };
        let nowhere = || failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the name has no address"));
        let address = address.to_socket_addrs().map_err(failed)?.next().ok_or_else(nowhere)?;
        let options = udp::mmsg::Options {
            receive_buffer_bytes: self.receive_buffer_bytes,
            gso: self.gso,
            ..udp::mmsg::Options::default()
        };
        let (udp, spread) = if self.shards == 1 {
            (udp::backend::bind(address, &options, self.rare.backend).map_err(failed)?, None)
        } else {
            let mut spread = shards::Spread::bind(address, &options, self.shards).map_err(failed)?;
            (spread.socket(0).map_err(failed)?, Some(spread))
        };
        let caps = udp.caps().clone();
        #[cfg(feature = "aws-lc")]
        self.tls.settle(&self.ciphers)?;
        let config = self.endpoint_config(&caps, address)?;
        let attests = self.attest.attester.is_some() || self.attest.policy.is_some();
        let udp = match self.wrap {
            Some(wrap) => wrap(udp),
            None => udp,
        };
        let config = if self.shards == 1 { config } else { shards::share(config, self.shards) };
        let theirs = spread.as_ref().map(|_| config.clone());
        let shared = Shared::new(shards::endpoint(config), udp, self.wait, self.helper)?;
        {
            let mut core = shared.lock();
            core.marks = self.mark_priorities;
            let local = core.udp.local_addr();
            let said = crate::offloading::start(&self.rare.offload, local, &mut core.endpoint);
            core.offload = said;
        }
        if attests {
            crate::attesting::start(&shared)?;
        }
        let mut others = Vec::new();
        if let (Some(spread), Some(config)) = (spread, theirs) {
            others = spread.others(&shared, &config, (self.wait, self.helper, self.mark_priorities))?;
        }
        let mut socket = Socket::over(shared, others, self.mtu, Link::new(self.link_rate, self.links), caps);
        #[cfg(feature = "aws-lc")]
        {
            socket.credentials = Box::new(self.tls).into();
        }
        Ok(socket)
    }

    fn endpoint_config(&self, caps: &udp::caps::Caps, address: SocketAddr) -> Result<Config, Error> {
        let mut config = Config::new(offload::software::crypto());
        config.proto.serving = self.serving;
        config.proto.message_bytes_max = self.message_bytes_max as u32;
        config.proto.buffered_bytes_max = self.buffered_bytes_max;
        config.proto.peer_timeout = self.peer_timeout;
        // The kernel counts what a datagram occupies, not what it holds: half of the buffer is what can be relied on.
        config.proto.incoming_bytes_max =
            config.proto.incoming_bytes_max.min((caps.receive_buffer_bytes as u64 / 4).max(128 << 10));
        config.proto.unscheduled_bytes =
            (config.proto.incoming_bytes_max / 2).min(config.proto.unscheduled_bytes.into()) as u32;
        self.link_rate.apply(&mut config.proto);
        config.send_bytes_max = self.send_bytes_max;
        config.peer_send_bytes_max = self.peer_send_bytes_max;
        config.handshake_timeout = self.handshake_timeout;
        self.renewal.apply(&mut config);
        config.attest = self.attest.clone();
        config.stream_above = self.stream_above;
        config.spans = self.spans;
        config.marks_priorities = self.mark_priorities;
        self.rare.apply(&mut config);
        config.tidies_when_idle = true;
        config.unix_seconds_at_zero = unix_seconds().saturating_sub(CLOCK_START_NANOS / 1_000_000_000);
        config.cipher = self.ciphers.first().copied().unwrap_or(Cipher::Aes128Gcm);
        config.segment_packets_max = caps.segments_max().clamp(1, 128);
        if let Some(mtu) = self.mtu {
            config.datagram_bytes_max = datagram_bytes(mtu, address);
        }
        #[cfg(feature = "aws-lc")]
        self.tls.apply(&mut config)?;
        Ok(config)
    }
}

impl Socket {
    /// Begins to make a socket. The next steps say whom it trusts and who it is.
    pub fn builder() -> Builder<NeedsTrust> {
        Builder::new()
    }
}
