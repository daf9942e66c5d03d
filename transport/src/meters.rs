//! Owns the bridge from what a socket counts to the `metrics` facade: which names there are, and how an [`Info`] becomes their values.
//!
//! The path of a message touches none of it: a socket counts in plain numbers behind its own lock, and handles are registered once and
//! set when somebody asks. Tried and left: `counter!` where things happen, which looks the name up each time.

use endpoint::counters::Counters;
use metrics::{Counter, Gauge, Label, Unit};

use crate::info::Info;

/// What stands before the reason in the names of drops.
const DROPPED: &str = "dropped_";

/// What a socket counts and holds, for whatever recorder of the `metrics` facade the application installed. Make it once, after the
/// recorder, and [`publish`](Self::publish) before each scrape, or every few seconds.
///
/// Every name begins with `sealane_` and has the label `socket`; docs/EVERYDAY.md has the list. One publication costs what
/// [`Socket::info`](crate::Socket::info) does: the socket's lock, as long as it takes to look at each session.
pub struct Meters {
    /// In the order of [`Counters::iter`].
    counters: Vec<Counter>,
    oversized: Counter,
    unsent: Counter,
    segments_sent: Counter,
    segments_received: Counter,
    sent_bytes: Vec<Counter>,
    sessions_awake: Gauge,
    sessions_resting: Gauge,
    sessions_half: Gauge,
    rpcs: Gauge,
    held_bytes: Gauge,
    buffered_bytes: Gauge,
    incoming_bytes: Gauge,
    ungranted_bytes: Gauge,
    waiting: Gauge,
    link_rate: Gauge,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Meters").field("counters", &self.counters.len()).finish_non_exhaustive()
    }
}

/// Registers what one socket has.
struct Names(Label);

impl Names {
    fn labels(&self, more: Option<(&'static str, String)>) -> Vec<Label> {
        let more = more.map(|(key, value)| Label::new(key, value));
        std::iter::once(self.0.clone()).chain(more).collect()
    }

    fn counter(&self, name: &str, unit: Unit, meaning: &'static str, more: Option<(&'static str, String)>) -> Counter {
        let name = format!("sealane_{name}_total");
        metrics::describe_counter!(name.clone(), unit, meaning);
        metrics::counter!(name, self.labels(more))
    }

    fn gauge(&self, name: &str, unit: Unit, meaning: &'static str, more: Option<(&'static str, String)>) -> Gauge {
        let name = format!("sealane_{name}");
        metrics::describe_gauge!(name.clone(), unit, meaning);
        metrics::gauge!(name, self.labels(more))
    }

    fn of_counter(&self, name: &'static str, meaning: &'static str) -> Counter {
        match name.strip_prefix(DROPPED) {
            Some(why) => {
                let all = "Packets dropped, by reason: the fields of `Counters` that begin with dropped_";
                self.counter("dropped", Unit::Count, all, Some(("reason", why.to_owned())))
            }
            None => self.counter(name, Unit::Count, meaning, None),
        }
    }

    fn sessions(&self, state: &str) -> Gauge {
        let meaning = "Sessions: open and awake, open and at rest, and handshakes under way; each is in one state";
        self.gauge("sessions", Unit::Count, meaning, Some(("state", state.to_owned())))
    }
}

impl Meters {
    /// Registers everything with the recorder of this process; `socket` is the value of the label of that name, which tells apart what
    /// several sockets publish.
    #[must_use]
    pub fn new(socket: &str) -> Self {
        let names = Names(Label::new("socket", socket.to_owned()));
        let own = |name, meaning| names.counter(name, Unit::Count, meaning, None);
        let bytes = |name, meaning| names.gauge(name, Unit::Bytes, meaning, None);
        let priority = |priority: usize| {
            let meaning = "Bytes of datagrams handed to the kernel, by priority: 0 goes last, 7 first";
            names.counter("sent_bytes", Unit::Bytes, meaning, Some(("priority", priority.to_string())))
        };
        let counted = Counters::default();
        let counted = counted.iter().zip(Counters::meanings());
        Self {
            counters: counted.map(|((name, _), meaning)| names.of_counter(name, meaning)).collect(),
            oversized: own("oversized", "Datagrams too large for the way to their receiver, or for us"),
            unsent: own("unsent", "Datagrams that the kernel refused to send"),
            segments_sent: own("segments_sent", "Segments sent: packets that were handed to the kernel at once"),
            segments_received: own("segments_received", "Segments received: packets that came from the kernel at once"),
            sent_bytes: (0..crate::config::PRIORITIES).map(priority).collect(),
            sessions_awake: names.sessions("awake"),
            sessions_resting: names.sessions("resting"),
            sessions_half: names.sessions("handshake"),
            rpcs: names.gauge("rpcs", Unit::Count, "Open RPCs", None),
            held_bytes: bytes("held_bytes", "Bytes of messages held until their receivers acknowledged them"),
            buffered_bytes: bytes("buffered_bytes", "Bytes of incoming messages that are buffered"),
            incoming_bytes: bytes("incoming_bytes", "Bytes that peers may send and that have not arrived"),
            ungranted_bytes: bytes("ungranted_bytes", "Bytes of our messages that wait for grants"),
            waiting: names.gauge("waiting_messages", Unit::Count, "Incoming messages that wait for room", None),
            link_rate: names.gauge(
                "link_bits_per_second",
                Unit::BitsPerSecond,
                "What our link carries, by which datagrams are held back; 0 where nothing is",
                None,
            ),
        }
    }

    /// Sets everything to what `info` says, which a [`Socket`](crate::Socket) gave.
    pub fn publish(&self, info: &Info) {
        for (handle, (_, count)) in self.counters.iter().zip(info.counters.iter()) {
            handle.absolute(count);
        }
        self.oversized.absolute(info.oversized);
        self.unsent.absolute(info.unsent);
        self.segments_sent.absolute(info.segments_sent);
        self.segments_received.absolute(info.segments_received);
        for (handle, bytes) in self.sent_bytes.iter().zip(info.sent_bytes) {
            handle.absolute(bytes);
        }
        let open = info.sessions.iter().filter(|session| session.open).count();
        self.sessions_awake.set(open.saturating_sub(info.sessions_resting) as f64);
        self.sessions_resting.set(info.sessions_resting as f64);
        self.sessions_half.set((info.sessions.len() - open) as f64);
        self.rpcs.set(info.rpcs.len() as f64);
        self.held_bytes.set(info.held_bytes as f64);
        self.buffered_bytes.set(info.buffered_bytes as f64);
        self.incoming_bytes.set(info.incoming_bytes as f64);
        self.ungranted_bytes.set(info.ungranted_bytes() as f64);
        self.waiting.set(info.waiting as f64);
        self.link_rate.set(info.link_rate.bits_per_second().unwrap_or(0) as f64);
    }
}
