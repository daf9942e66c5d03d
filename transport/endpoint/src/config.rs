//! Owns one value that holds the configuration of all layers.

use std::fmt;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use handshake::config::{ClientConfig, ServerConfig};
use record::aead::{Cipher, Crypto};
use record::budget::Limits as KeyLimits;
use record::keys::Secret;

use crate::evidence::Attest;
use crate::rates::Limits;

/// Which shard an endpoint is of how many. [P-9.2]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counted from 0. The first one has the handshakes, and decides what ends.
    pub number: u8,
    /// How many there are, 1 to 256.
    pub count: u16,
}

/// How an endpoint works.
#[derive(Clone)]
pub struct Config {
    /// Scheduling, recovery and limits of messages.
    pub proto: proto::config::Config,
    /// What seals and derives.
    pub crypto: &'static dyn Crypto,
    /// Whom we trust and who we are when we begin a handshake; `None` when sessions are only installed.
    #[cfg(feature = "tls")]
    pub client: Option<Arc<ClientConfig>>,
    /// The same for handshakes that others begin; `None` refuses them.
    #[cfg(feature = "tls")]
    pub server: Option<Arc<ServerConfig>>,
    /// The cipher of installed sessions; others negotiate theirs.
    pub cipher: Cipher,
    /// Largest UDP payload that we send, whatever a path would carry.
    pub datagram_bytes_max: usize,
    /// Bytes of a segment: what is handed to the kernel at once. Default 65,469, the most that Linux
    /// merges on every path.
    pub segment_bytes_max: usize,
    /// Packets of a segment. Default 64, which every kernel with UDP GSO takes.
    pub segment_packets_max: usize,
    /// Bytes of our messages that are held until they are acknowledged. Default 256 MiB.
    pub send_bytes_max: u64,
    /// The same in one session; one message is always taken. Default: no limit of its own.
    pub peer_send_bytes_max: u64,
    /// Buffers of each size that are kept for later messages, however large they are. Default 4: a large message then finds memory
    /// that is mapped already. 0 where many endpoints share a machine's memory.
    pub kept_buffers_min: usize,
    /// Bytes of buffers of each size that are kept, where that is more: as many as were in use at once find their memory again.
    /// Default 32 MiB. All is given back when all sessions rest.
    pub kept_bytes_max: usize,
    /// Sessions at once. Default 1,048,576, the most that a session id can tell apart.
    pub sessions_max: usize,
    /// Handshakes at once that others began. Default 4,096: each may hold 73 KiB.
    pub handshakes_max: usize,
    /// A session of which nothing was heard for so long is forgotten. Default 1 hour; a new call makes a new one, from three
    /// quarters of this time on, because the peer may be ahead of us. Alike at both ends.
    pub session_idle: Duration,
    /// A session in which nothing is under way and nothing was heard for so long is put to rest: it keeps its secrets and numbers, and
    /// some 500 bytes instead of 4,500. Default 60 s; to wake costs each side some microseconds. (decision 0020)
    pub session_rests_after: Duration,
    /// Sessions that are awake at once: what is beyond them rests as soon as nothing is under way in it, those first that were silent
    /// longest. Default 32,768, which hold 150 MB.
    pub sessions_awake_max: usize,
    /// What one key may protect. Default: the limits of the protocol, which can only be lowered. Lower ones cost a round trip,
    /// which nothing waits for, and some microseconds per epoch at each end. [P-6.7]
    pub key_limits: KeyLimits,
    /// A session whose keys are older takes no new calls: they begin a new one, with a new handshake. Default 24 hours, so that
    /// who learns a session's secrets learns no more than a day. [P-6.7]
    pub session_age_max: Duration,
    /// A handshake that takes longer fails. Default 10 s.
    pub handshake_timeout: Duration,
    /// What strangers may cause: answers, handshakes.
    pub limits: Limits,
    /// What RESETs of this endpoint are proven with. Kept by the application, a restarted endpoint can tell the peers of its former
    /// life that it forgot them. Default: a random one, and one of each installed secret for its sessions. Never the same at two
    /// endpoints: each could be made to end the sessions of the other. [P-5.5]
    pub reset_key: Option<Secret>,
    /// The driver calls [`crate::endpoint::Endpoint::tidy`] whenever nothing is left to receive, so that what can wait is
    /// done while nobody waits. Default false: it is done with every input.
    pub tidies_when_idle: bool,
    /// By how much [`crate::endpoint::Endpoint::alarm`] may be late. Default 4 ms. (decision 0036)
    pub timer_slack: Duration,
    /// The calendar at the endpoint's time zero, in seconds since 1970: certificates are judged by it.
    pub unix_seconds_at_zero: u64,
    /// Small messages that are ready together travel in one record. Default true. [P-4.7]
    pub bundles: bool,
    /// Whether datagrams are marked with their priority: what leaves together then has one. Default true. [P-8.3]
    pub marks_priorities: bool,
    /// On paths of small packets, longer messages that we send travel in records that span packets, which saves a seal and an open for
    /// each. Default false: where the packets of a flow take several ways, first records come late, and slices before them are lost. [P-4.6]
    pub spans: bool,
    /// Peers may send us such records. Default true. [P-4.6]
    pub takes_slices: bool,
    /// Bytes of requests that are taken from one first flight, where tickets allow any. [P-6.9]
    pub early_data_bytes_max: usize,
    /// What is shown of what runs here, and demanded of peers. Default: nothing. [P-6.16]
    pub attest: Attest,
    /// Messages longer than this are delivered as streams, before they are complete. Default: none are.
    pub stream_above: Option<usize>,
    /// What a call may take before the time trace stops, and how many marks that keeps; `None`: there is none.
    pub trail: Option<(Duration, usize)>,
    /// Which shard this is. Default: the only one. All that is limited here is limited for this shard alone.
    pub shard: Shard,
}

impl Config {
    /// The defaults, without anybody to trust.
    pub fn new(crypto: &'static dyn Crypto) -> Self {
        Self {
            proto: proto::config::Config::default(),
            crypto,
            #[cfg(feature = "tls")]
            client: None,
            #[cfg(feature = "tls")]
            server: None,
            cipher: Cipher::Aes128Gcm,
            datagram_bytes_max: wire::limits::PACKET_MAX,
            segment_bytes_max: 65_469,
            segment_packets_max: 64,
            send_bytes_max: 256 << 20,
            peer_send_bytes_max: u64::MAX,
            kept_buffers_min: 4,
            kept_bytes_max: 32 << 20,
            sessions_max: wire::limits::SESSIONS_MAX,
            handshakes_max: 4096,
            session_idle: Duration::from_secs(3600),
            session_rests_after: Duration::from_secs(60),
            sessions_awake_max: 32_768,
            key_limits: KeyLimits::PROTOCOL,
            session_age_max: Duration::from_secs(24 * 3600),
            handshake_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            reset_key: None,
            tidies_when_idle: false,
            timer_slack: Duration::from_millis(4),
            unix_seconds_at_zero: 0,
            bundles: true,
            marks_priorities: true,
            spans: false,
            takes_slices: true,
            early_data_bytes_max: 0,
            attest: Attest::default(),
            stream_above: None,
            trail: None,
            shard: Shard { number: 0, count: 1 },
        }
    }

    /// Who must show evidence cannot have shown any in a first flight: where it is demanded, published tickets are not taken, so that their
    /// owner never says that a flight was. [P-6.16]
    pub(crate) fn bar_first_flights(&mut self) {
        #[cfg(feature = "tls")]
        if self.attest.policy.is_some()
            && let Some(server) = self.server.as_mut().filter(|server| server.publisher().is_some())
        {
            *server = Arc::new(ServerConfig::clone(server).publish(None));
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("proto", &self.proto)
            .field("crypto", &self.crypto.name())
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}
