//! `sealane handshake --attest`: a session in which both sides show what runs there before anything else moves, and one that a pinned
//! measurement refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use sealane::attestation::{Asks, Error as EvidenceError, Measurement, Mock, Report as Evidence};
use sealane::{Clients, Delivery, Error, HandshakeError, Identity, Socket, Trust};
use serde::Serialize;

use crate::certs::{self, Development};

#[expect(clippy::disallowed_methods, reason = "this command measures the real world")]
fn now() -> Instant {
    Instant::now()
}

/// What both mocks say that they measured: the word, in register 0.
const MEASURED: &str = "GOOD";

/// Formats of evidence that this command can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Evidence that anybody can make: it shows the way, and proves nothing
    Mock,
}

#[derive(Debug, clap::Args)]
#[group(id = "attestation", multiple = true)]
pub(crate) struct Args {
    /// Show how a session begins in which both sides must show what runs there. The mock's register 0 holds the word GOOD
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["mode", "count", "to"])]
    pub(crate) attest: Option<Format>,
    /// What a register of the server's must hold: a word, or bytes as 0x and hexadecimal digits. Several of one register: any of them
    #[arg(long, value_name = "REGISTER=VALUE", requires = "attest", value_parser = pin)]
    pin: Vec<Measurement>,
}

fn pin(text: &str) -> Result<Measurement, String> {
    let (register, value) = text.split_once('=').ok_or("a pin is written as 0=VALUE")?;
    let register = register.parse().map_err(|_| "a register is a number from 0 to 255")?;
    let value = match value.strip_prefix("0x") {
        Some(digits) => bytes(digits).ok_or("after 0x stand pairs of hexadecimal digits")?,
        None if value.is_empty() => return Err("a pin needs a value".to_owned()),
        None => value.as_bytes().to_vec(),
    };
    Ok(Measurement { register, value })
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.len().is_multiple_of(2) && digits.is_ascii() && !digits.is_empty();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).ok();
    pairs.then(|| (0..digits.len()).step_by(2).map(byte).collect())?
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    attest: Format,
    accepted: bool,
    /// In the order in which they were opened.
    sessions: Vec<Session>,
    refused: Option<Refused>,
    /// What the server's application was given, of all sessions.
    requests_delivered: u64,
    evidence_taken: u64,
    evidence_refused: u64,
}

/// A session that came about.
#[derive(Debug, Serialize)]
struct Session {
    resumed: bool,
    /// From nothing to the first reply, evidence of both sides included.
    first_reply_us: f64,
    format: &'static str,
    server: Vec<String>,
    client: Vec<String>,
}

/// Why there is none.
#[derive(Debug, Serialize)]
struct Refused {
    error: String,
    register: Option<u8>,
    expected: Vec<String>,
    found: Option<String>,
}

pub(crate) fn run(args: &Args, json: bool) -> Result<()> {
    let format = args.attest.context("a format")?;
    if args.pin.is_empty() {
        bail!("without a pin everything would pass: say what the server must hold, as --pin 0={MEASURED}");
    }
    let development = certs::make(&["localhost".to_owned(), "127.0.0.1".to_owned()], 1)?;
    let server = Server::start(&development)?;
    let mut asks = Asks::new().verifier(Mock::default());
    for pin in &args.pin {
        asks = asks.pin(pin.clone());
    }
    let client = Socket::builder().trust(Trust::pem(development.ca.as_bytes())?).anonymous();
    let client = client.attester(Arc::new(mock())).attestation_policy(asks.development()).bind("127.0.0.1:0")?;
    let outcome = sessions(&client, &server);
    let counters = client.info().counters;
    let mut report = Report {
        attest: format,
        accepted: outcome.is_ok(),
        sessions: Vec::new(),
        refused: None,
        requests_delivered: server.requests.load(Ordering::SeqCst),
        evidence_taken: counters.evidence_taken,
        evidence_refused: counters.evidence_refused,
    };
    let ended = match outcome {
        Ok(sessions) => {
            report.sessions = sessions;
            Ok(())
        }
        Err(error) => {
            report.refused = Some(refused(&error));
            Err(error)
        }
    };
    let text = if json { format!("{}\n", serde_json::to_string(&report)?) } else { plain(&report) };
    crate::print(&text)?;
    Ok(ended?)
}

/// A full session, and one that resumes it: both attest.
fn sessions(client: &Socket, server: &Server) -> Result<Vec<Session>, Error> {
    let peer = client.peer(server.socket.local_addr(), "localhost")?;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let start: Instant = now();
        let seen = client.call(&peer, b"what do you know of me?")?;
        let first_reply_us = now().duration_since(start).as_secs_f64() * 1e6;
        let info = client.info();
        let open = info.sessions.iter().find(|session| session.open && session.origin.report.is_some());
        if let Some((open, report)) = open.and_then(|open| Some((open, open.origin.report.as_ref()?))) {
            let client = String::from_utf8_lossy(&seen).lines().map(ToOwned::to_owned).collect();
            let (resumed, format, server) = (open.resumed, report.format, lines(report));
            sessions.push(Session { resumed, first_reply_us, format, server, client });
        }
        // The ticket for the next session is there with the second answer at the latest.
        client.call(&peer, b"once more")?;
        client.disconnect(&peer)?;
    }
    Ok(sessions)
}

fn refused(error: &Error) -> Refused {
    let mut refused = Refused { error: error.to_string(), register: None, expected: Vec::new(), found: None };
    if let Error::Handshake {
        source: HandshakeError::Evidence { why: EvidenceError::Measurement { register, pinned, shown }, .. },
        ..
    } = error
    {
        refused.register = Some(*register);
        refused.expected.clone_from(pinned);
        refused.found = (!shown.is_empty()).then(|| shown.clone());
    }
    refused
}

fn lines(evidence: &Evidence) -> Vec<String> {
    evidence.measurements.iter().map(ToString::to_string).collect()
}

fn mock() -> Mock {
    Mock::measured(vec![Measurement { register: 0, value: MEASURED.as_bytes().to_vec() }])
}

fn plain(report: &Report) -> String {
    let mut text = String::new();
    for session in &report.sessions {
        let kind = if session.resumed { "resumed" } else { "full" };
        text += &format!(
            "{kind}: {} evidence of the server {}, of the client {}; first reply after {:.0} us\n",
            session.format,
            session.server.join(" "),
            session.client.join(" "),
            session.first_reply_us
        );
    }
    if report.refused.is_some() {
        text += &format!("refused; the server's application was given {} requests\n", report.requests_delivered);
    }
    text
}

/// Answers with what it knows of who asks.
struct Server {
    socket: Arc<Socket>,
    requests: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(development: &Development) -> Result<Self> {
        let identity = Identity::pem(development.server.cert.as_bytes(), development.server.key.as_bytes())?;
        let measured = Measurement { register: 0, value: MEASURED.as_bytes().to_vec() };
        let policy = Asks::new().verifier(Mock::default()).pin(measured).development();
        let builder = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
        let builder = builder.attester(Arc::new(mock())).attestation_policy(policy);
        let socket = Arc::new(builder.bind("127.0.0.1:0")?);
        let (serving, requests) = (Arc::clone(&socket), Arc::new(AtomicU64::new(0)));
        let counting = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                if let Delivery::Request(request) = delivery {
                    counting.fetch_add(1, Ordering::SeqCst);
                    let seen = request.peer.attested().map(lines).unwrap_or_default();
                    // A client that has gone meanwhile needs no answer.
                    let _ = serving.reply(request.token, seen.join("\n").into_bytes());
                }
            }
        });
        Ok(Self { socket, requests, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.socket.close();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
