//! Stress: many clients, each with a socket and a session of its own, against one echo server for as long as is asked, every reply
//! verified byte by byte, over a network that may lose, reorder and repeat.
//!
//! Owns the rows, the run of one, and what its figures mean. Refuses: comparing transports (`runner`), and printing.
//!
//! Five books are kept of what is asked: verified, corrupt, errors (the transport said so), timeouts (no answer in time; it may still
//! come) and drops (neither an answer nor an error by the end). All but the first must be empty.

mod message;
mod client;
mod server;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use sealane::fault::{Faults, Tally};
use serde::{Deserialize, Serialize};

use crate::certs::Credentials;
use crate::environment::Environment;
use crate::report::rounded;
use crate::server::Host;
use crate::spec::{MESSAGE_BYTES_MAX, OUTSTANDING_MAX};
use client::{Books, Client};
use message::NUMBERS_LEN;
pub use server::main_from_args;
use server::{Server, Spoil};

/// Most clients of a row.
const CLIENTS_MAX: usize = 1000;

/// What a row asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Its name in tables.
    pub name: String,
    /// Bytes of each request and of each reply.
    pub size: usize,
    /// Clients at once.
    pub clients: usize,
    /// Requests of each client that are under way.
    pub outstanding: usize,
    /// A client ends its session after so many messages and makes a new one, by a full handshake; `None`: it keeps the first.
    pub messages_per_session: Option<u64>,
    /// What STCP, which seals in the kernel over TCP, published for this size and number of clients, in requests per second (the table of
    /// `stcp_stress_test.py` in the README of MiesSuomesta/STCP). Of another machine.
    pub published_rps: Option<f64>,
}

impl Shape {
    fn steady(name: &str, size: usize, clients: usize, published_rps: Option<f64>) -> Self {
        let (name, messages_per_session) = (name.to_owned(), None);
        Self { name, size, clients, outstanding: 1, messages_per_session, published_rps }
    }

    /// The rows of the matrix: the four that STCP has published, short sessions, and long messages.
    #[must_use]
    pub fn matrix() -> Vec<Self> {
        let churn = Self::steady("churn", 256, 20, None);
        vec![
            Self::steady("256B", 256, 50, Some(10_647.0)),
            Self::steady("4KB", 4096, 20, Some(9_804.0)),
            Self::steady("16KB", 16 << 10, 10, Some(4_851.0)),
            Self::steady("64KB", 64 << 10, 5, Some(1_867.0)),
            Self { messages_per_session: Some(10), ..churn },
            Self::steady("16MB", 16 << 20, 2, None),
        ]
    }

    fn check(&self) -> Result<()> {
        let Self { size, clients, outstanding, .. } = self;
        let sizes = NUMBERS_LEN..=MESSAGE_BYTES_MAX;
        ensure!(sizes.contains(size), "size {size} is not within {} and {}", sizes.start(), sizes.end());
        ensure!((1..=CLIENTS_MAX).contains(clients), "{clients} clients are not within 1 and {CLIENTS_MAX}");
        ensure!(
            (1..=OUTSTANDING_MAX).contains(outstanding),
            "{outstanding} outstanding are not within 1 and {OUTSTANDING_MAX}"
        );
        ensure!(self.messages_per_session != Some(0), "a session of no messages");
        Ok(())
    }
}

/// What the network does to the datagrams of each client, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Share of datagrams that never arrive.
    pub loss: f64,
    /// Share that later ones overtake.
    pub reorder: f64,
    /// Share that arrive twice.
    pub duplicate: f64,
    /// Whence the dice come.
    pub seed: u64,
}

impl Network {
    /// Whether it does anything.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.loss > 0.0 || self.reorder > 0.0 || self.duplicate > 0.0
    }

    fn faults(&self, client: usize) -> Faults {
        let seed = self.seed.wrapping_add((client as u64) << 32);
        let Self { loss, reorder, duplicate, .. } = *self;
        Faults { loss, reorder, duplicate, seed, ..Faults::default() }
    }
}

/// How a row is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long requests are begun; what is under way then still ends.
    pub duration: Duration,
    /// How long a reply may take.
    pub timeout: Duration,
    /// The network.
    pub network: Network,
    /// For a test of this test: the server flips a byte of every so many replies.
    pub flip_every: Option<u64>,
    /// For a test of this test: the server never answers every so many requests.
    pub swallow_every: Option<u64>,
}

/// What the faults did, both directions of all clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// Datagrams that passed.
    pub seen: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Overtaken.
    pub reordered: u64,
    /// Repeated.
    pub duplicated: u64,
}

/// What a row gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StressRow {
    /// Which.
    pub name: String,
    /// `steady` or `churn`.
    pub mode: String,
    /// Bytes of each request and of each reply.
    pub size: usize,
    /// Clients at once.
    pub clients: usize,
    /// Requests of each that were under way.
    pub outstanding: usize,
    /// Messages of a session; empty: all.
    pub messages_per_session: Option<u64>,
    /// How long it was measured.
    pub seconds: f64,
    /// Replies that came in that time and were right, per second.
    pub rps: f64,
    /// Payload per second in one direction, in 10^6 bytes.
    pub mb_s_one_way: f64,
    /// The same, both directions together.
    pub mb_s_both: f64,
    /// Mean of the round trip, in microseconds.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Requests that were sent.
    pub asked: u64,
    /// Replies that were right, every byte.
    pub verified: u64,
    /// Replies that were not, or that nobody asked for.
    pub corrupt: u64,
    /// Requests that failed, as the transport said.
    pub errors: u64,
    /// Requests without an answer in time, whether or not it came later.
    pub timeouts: u64,
    /// Requests that got neither an answer nor an error by the end.
    pub drops: u64,
    /// Sessions that were made.
    pub sessions: u64,
    /// What STCP published, on another machine.
    pub published_rps: Option<f64>,
    /// `rps` over it.
    pub ratio_to_published: Option<f64>,
    /// What the network did, where it is a bad one.
    pub struck: Option<Struck>,
    /// The first thing that went wrong, in words.
    pub first_fault: Option<String>,
}

impl StressRow {
    /// Whether every request was answered in time, with the right bytes, and there was one.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verified > 0 && self.corrupt + self.errors + self.timeouts + self.drops == 0
    }
}

/// All rows of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StressReport {
    /// The figures.
    pub rows: Vec<StressRow>,
    /// The network.
    pub network: Network,
    /// Where it ran.
    pub environment: Environment,
}

impl StressReport {
    /// Of rows that were run one after the other.
    #[must_use]
    pub fn new(rows: Vec<StressRow>, options: &Options) -> Self {
        let milliseconds = options.duration.as_millis() as u64;
        Self { rows, network: options.network, environment: Environment::new(None, 1, milliseconds) }
    }

    /// Whether all rows are good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(StressRow::is_good)
    }

    /// The figures for people to read.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<7}{:>8}{:>8}{:>10}{:>9}{:>10}{:>9}{:>9}{:>9}{:>9}{:>10}{:>9}{:>10}{:>8}{:>7}{:>9}{:>6}{:>8}\n",
            "row",
            "bytes",
            "clients",
            "RPS",
            "to STCP",
            "MB/s one",
            "both",
            "mean us",
            "p50",
            "p99",
            "p99.9",
            "sessions",
            "verified",
            "corrupt",
            "errors",
            "timeouts",
            "drops",
            "seconds"
        );
        for row in &self.rows {
            let ratio = row.ratio_to_published.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            text += &format!(
                "{:<7}{:>8}{:>8}{:>10.0}{ratio:>9}{:>10.1}{:>9.1}{:>9.0}{:>9.0}{:>9.0}{:>10.0}{:>9}{:>10}{:>8}{:>7}{:>9}{:>6}{:>8.1}\n",
                row.name,
                row.size,
                row.clients,
                row.rps,
                row.mb_s_one_way,
                row.mb_s_both,
                row.mean_us,
                row.p50_us,
                row.p99_us,
                row.p999_us,
                row.sessions,
                row.verified,
                row.corrupt,
                row.errors,
                row.timeouts,
                row.drops,
                row.seconds
            );
        }
        for row in &self.rows {
            if let Some(Struck { seen, lost, reordered, duplicated }) = row.struck {
                let seed = self.network.seed;
                text += &format!(
                    "{}: of {seen} datagrams {lost} were lost, {reordered} overtaken, {duplicated} repeated (seed {seed})\n",
                    row.name
                );
            }
            if let Some(fault) = &row.first_fault {
                text += &format!("{}: {fault}\n", row.name);
            }
        }
        text + &format!("\n{}\n", self.environment)
    }
}

/// Runs one row. `progress` is called now and then with the time that has passed.
///
/// # Errors
/// When the row makes no sense or cannot begin. What goes wrong in it is counted.
pub fn run(shape: &Shape, options: &Options, host: &Host, progress: &mut dyn FnMut(Duration)) -> Result<StressRow> {
    shape.check()?;
    for (what, share) in
        [("loss", options.network.loss), ("reorder", options.network.reorder), ("duplicate", options.network.duplicate)]
    {
        ensure!((0.0..1.0).contains(&share), "{what} {share} is not a share from 0 to below 1");
    }
    let credentials = Credentials::generate()?;
    let spoil = Spoil { flip_every: options.flip_every, swallow_every: options.swallow_every };
    let server = Server::start(host, spoil, &credentials)?;
    let mut clients = Vec::new();
    let mut tallies: Vec<Tally> = Vec::new();
    for number in 0..shape.clients {
        let faults = options.network.is_bad().then(|| options.network.faults(number));
        let (client, tally) = Client::new(number, shape, options.timeout, faults, server.port(), &credentials)
            .with_context(|| format!("client {number} cannot begin"))?;
        clients.push(client);
        tallies.extend(tally);
    }
    let barrier = Barrier::new(shape.clients + 1);
    let (books, seconds) = thread::scope(|scope| -> Result<(Books, f64)> {
        let running: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let barrier = &barrier;
                scope.spawn(move || client.run(barrier, options.duration))
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        while !running.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(Duration::from_millis(50));
            progress(start.elapsed());
        }
        let mut books = Books::new()?;
        for client in running {
            books.add(&client.join().map_err(|_| anyhow!("a client panicked"))??)?;
        }
        Ok((books, options.duration.as_secs_f64()))
    })?;
    // Before the server goes: a client's socket takes leave of it.
    let struck = options.network.is_bad().then(|| struck(&tallies));
    drop(server);
    Ok(row(shape, &books, seconds, struck))
}

fn struck(tallies: &[Tally]) -> Struck {
    let mut all = Struck::default();
    for counts in tallies.iter().flat_map(|tally| [tally.transmitted(), tally.received()]) {
        all.seen += counts.seen;
        all.lost += counts.lost;
        all.reordered += counts.reordered;
        all.duplicated += counts.duplicated;
    }
    all
}

fn row(shape: &Shape, books: &Books, seconds: f64, struck: Option<Struck>) -> StressRow {
    let rps = books.in_time as f64 / seconds;
    let one_way = rps * shape.size as f64 / 1e6;
    let at = |latency: &Histogram<u64>, quantile| rounded(latency.value_at_quantile(quantile) as f64 / 1e3);
    StressRow {
        name: shape.name.clone(),
        mode: if shape.messages_per_session.is_some() { "churn" } else { "steady" }.to_owned(),
        size: shape.size,
        clients: shape.clients,
        outstanding: shape.outstanding,
        messages_per_session: shape.messages_per_session,
        seconds,
        rps: rounded(rps),
        mb_s_one_way: rounded(one_way),
        mb_s_both: rounded(2.0 * one_way),
        mean_us: rounded(books.latency.mean() / 1e3),
        p50_us: at(&books.latency, 0.5),
        p99_us: at(&books.latency, 0.99),
        p999_us: at(&books.latency, 0.999),
        asked: books.asked,
        verified: books.verified,
        corrupt: books.corrupt,
        errors: books.errors,
        timeouts: books.timeouts,
        drops: books.drops,
        sessions: books.sessions,
        published_rps: shape.published_rps,
        ratio_to_published: shape.published_rps.map(|published| rounded(rps / published)),
        struck,
        first_fault: books.first_fault.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options {
            duration: Duration::from_millis(400),
            timeout: Duration::from_secs(20),
            network: Network::default(),
            flip_every: None,
            swallow_every: None,
        }
    }

    fn shape(size: usize, clients: usize, messages_per_session: Option<u64>) -> Shape {
        Shape { messages_per_session, ..Shape::steady("test", size, clients, None) }
    }

    fn stress(shape: &Shape, options: &Options) -> StressRow {
        run(shape, options, &Host::Thread, &mut |_| ()).unwrap()
    }

    #[test]
    fn every_echo_is_verified_and_the_books_agree() {
        let row = stress(&shape(4096, 4, None), &options());
        assert!(row.is_good(), "{row:?}");
        assert_eq!((row.asked, row.sessions), (row.verified, 4), "{row:?}");
        assert!(row.rps > 0.0 && row.p50_us <= row.p99_us && row.p99_us <= row.p999_us, "{row:?}");
    }

    #[test]
    fn churn_makes_a_session_for_every_so_many_messages() {
        let row = stress(&shape(256, 3, Some(4)), &options());
        assert!(row.is_good(), "{row:?}");
        // The last session of each client may be begun and not be full.
        assert!(row.sessions >= row.verified.div_ceil(4), "{row:?}");
        assert!(row.sessions <= row.verified / 4 + 3, "{row:?}");
    }

    #[test]
    fn a_bad_network_strikes_and_nothing_is_lost() {
        let network = Network { loss: 0.01, reorder: 0.05, duplicate: 0.01, seed: 7 };
        let row = stress(&shape(60_000, 3, None), &Options { network, duration: Duration::from_secs(1), ..options() });
        assert!(row.is_good(), "{row:?}");
        let struck = row.struck.unwrap();
        assert!(struck.seen > 100 && struck.reordered > 0, "{struck:?}");
    }

    #[test]
    fn a_flipped_byte_is_reported() {
        let row = stress(&shape(300, 2, None), &Options { flip_every: Some(10), ..options() });
        assert!(row.corrupt > 0 && !row.is_good(), "{row:?}");
        assert_eq!(row.asked, row.verified + row.corrupt, "{row:?}");
        assert!(row.first_fault.as_ref().is_some_and(|why| why.contains("byte")), "{row:?}");
    }

    #[test]
    fn an_unanswered_request_is_a_timeout_and_a_drop() {
        let timeout = Duration::from_millis(300);
        let row = stress(&shape(64, 2, None), &Options { timeout, swallow_every: Some(10), ..options() });
        assert!(row.drops > 0 && row.timeouts >= row.drops && !row.is_good(), "{row:?}");
        assert_eq!(row.asked, row.verified + row.corrupt + row.errors + row.drops, "{row:?}");
    }

    #[test]
    fn nonsense_is_named() {
        let why =
            |shape: &Shape, options: &Options| run(shape, options, &Host::Thread, &mut |_| ()).unwrap_err().to_string();
        assert!(why(&shape(3, 1, None), &options()).contains("size 3"));
        assert!(why(&shape(300, 0, None), &options()).contains("0 clients"));
        let network = Network { loss: 1.5, ..Network::default() };
        assert!(why(&shape(300, 1, None), &Options { network, ..options() }).contains("loss 1.5"));
    }
}
