//! Owns the knobs that few need: what outlives a process, what strangers may cause, and what can hurt.

use std::time::Duration;

use endpoint::config::Config;
use endpoint::rates::Limits;
use record::keys::Secret;
use udp::backend::Backend;
use udp::batch::Datagrams;

use super::{Builder, Ready};
use crate::config::{Profile, Wait};
use crate::offloading::Offload;

/// What was chosen of these.
#[derive(Default)]
pub(super) struct Choices {
    reset_key: Option<Secret>,
    strangers: Option<Limits>,
    trail: Option<(Duration, usize)>,
    unbundled: bool,
    timer_slack: Option<Duration>,
    pub(super) backend: Backend,
    pub(super) offload: Offload,
}

impl Choices {
    pub(super) fn apply(&self, config: &mut Config) {
        config.reset_key.clone_from(&self.reset_key);
        config.trail = self.trail;
        config.bundles &= !self.unbundled;
        config.timer_slack = self.timer_slack.unwrap_or(config.timer_slack);
        config.limits = self.strangers.unwrap_or(config.limits);
    }
}

/// Bytes of datagrams that the kernel should keep: what is usual, and where throughput counts.
const RECEIVE_BUFFER_BYTES: (usize, usize) = (4 << 20, 16 << 20);

impl Builder<Ready> {
    /// Sets [`Self::wait`], [`Self::receive_buffer_bytes`] and whether small messages share packets to what suits: see [`Profile`]. What
    /// is set after it stays. Default [`Profile::Balanced`].
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        let (usual, large) = RECEIVE_BUFFER_BYTES;
        let (wait, receive_buffer_bytes, unbundled) = match profile {
            Profile::Latency => (Wait::Spin, usual, true),
            Profile::Balanced => (Wait::Adaptive, usual, false),
            Profile::Throughput => (Wait::Block, large, false),
        };
        self.knobs.rare.unbundled = unbundled;
        self.wait(wait).receive_buffer_bytes(receive_buffer_bytes)
    }

    /// Keeps what proves "I forgot that session" over restarts: 32 secret random bytes that the application stores, and gives again
    /// when it binds the same address after a crash. Peers of the former process then learn at once that it is gone, instead of
    /// after [`Self::peer_timeout`]; their calls end with [`crate::Error::PeerRestarted`], and their next ones begin a new session.
    ///
    /// Default: random bytes of this process, and keys of installed secrets for their sessions. Give no two endpoints the same:
    /// each could be made to end the sessions of the other. Specified in [P-5.5].
    #[must_use]
    pub fn reset_key(mut self, key: [u8; 32]) -> Self {
        self.knobs.rare.reset_key = Some(Secret::new(key));
        self
    }

    /// How often strangers may cause something: handshakes, and answers that cost us little. Defaults and costs at [`Limits`].
    #[must_use]
    pub fn stranger_limits(mut self, limits: Limits) -> Self {
        self.knobs.rare.strangers = Some(limits);
        self
    }

    /// Keeps the last `marks` things that happened to messages, with their times, and stops when a call takes longer than `slow`: ours from
    /// submission to response or failure, or a peer's from request to reply. [`Socket::time_trace`] gives them, `sealane trace render` draws them.
    /// Default: none; a million at most. Costs two look-ups in a table for each call, some stores for whatever else happens, and 32 bytes for each mark.
    ///
    /// [`Socket::time_trace`]: crate::Socket::time_trace
    #[must_use]
    pub fn time_trace(mut self, slow: Duration, marks: usize) -> Self {
        self.knobs.rare.trail = Some((slow, marks));
        self
    }

    /// How much longer than needed a thread may sleep that waits for the network, before it asks for what did not come. Default 4 ms, which
    /// spares it a timer for each sleep: on a virtual machine one that rings before the scheduler's own next one costs the sleeper tens of
    /// microseconds. Callers' deadlines are kept to a millisecond all the same, and who spins is late for nothing. Zero where losses
    /// must be found as soon as they can be.
    #[must_use]
    pub fn timer_slack(mut self, slack: Duration) -> Self {
        self.knobs.rare.timer_slack = Some(slack);
        self
    }

    /// What moves the datagrams. Default [`Backend::Auto`]: what the environment variable `SEALANE_BACKEND` names, without it
    /// [`Backend::Mmsg`]. A backend that this machine or this build does not have is replaced by that one, and [`Socket::info`] says
    /// why. Which one is faster is a question of the network: see docs/BENCHMARKS.md.
    ///
    /// [`Socket::info`]: crate::Socket::info
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Self {
        self.knobs.rare.backend = backend;
        self
    }

    /// Who seals the messages that a network card could seal. Default [`Offload::Off`]. What a card seals is sent by its own queue, past the
    /// kernel: its firewall and its counters do not see it. What came of it: [`crate::Info::offload`].
    #[must_use]
    pub fn offload(mut self, offload: Offload) -> Self {
        self.knobs.rare.offload = offload;
        self
    }

    /// Danger: without the helper thread nothing is granted, acknowledged or repeated while no thread is in a call of this
    /// socket. For programs that poll all the time, or have thousands of sockets. Default true.
    #[must_use]
    pub fn danger_helper_thread(mut self, on: bool) -> Self {
        self.knobs.helper = on;
        self
    }

    /// Puts something between the socket and the network that loses, delays or repeats datagrams. For tests.
    #[must_use]
    pub fn danger_wrap(mut self, wrap: impl FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send + 'static) -> Self {
        self.knobs.wrap = Some(Box::new(wrap));
        self
    }
}
