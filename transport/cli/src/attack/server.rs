//! Owns the server of an attack: this program, started again, so that it can be killed without a word and so that its processor time is
//! its own. It answers what it is asked over pipes.

use anyhow::{Context, Result, bail, ensure};
use sealane::{Clients, Delivery, Identity, Socket, Trust};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::scene::{NUMBER_LEN, is_intact, response};

/// The hidden command.
const NAME: &str = "attack-server";

/// What a server is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Spec {
    pub(super) at: SocketAddr,
    pub(super) ca: String,
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) reset_key: Option<[u8; 32]>,
    pub(super) handshake_ms: u64,
    /// Requests with lower numbers were sent to an earlier life.
    pub(super) floor: u64,
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Status {
    /// Requests that ran.
    pub(super) ran: u64,
    /// Of these, again.
    pub(super) twice: u64,
    /// Of these, of an earlier life.
    pub(super) old: u64,
    /// Of these, not as they were sent.
    pub(super) altered: u64,
    pub(super) sessions_open: usize,
    pub(super) sessions_half: usize,
    pub(super) rpcs: usize,
    pub(super) held_bytes: u64,
    pub(super) counters: BTreeMap<String, u64>,
    /// Processor time of all its threads.
    pub(super) cpu_ns: u64,
}

/// A server that runs.
pub(super) struct Server {
    child: Child,
    ask: ChildStdin,
    told: BufReader<ChildStdout>,
    pub(super) at: SocketAddr,
}

impl Server {
    pub(super) fn start(spec: &Spec) -> Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        let mut child = command.arg(NAME).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("a server")?;
        let (ask, told) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut server = Self { child, ask, told: BufReader::new(told), at: spec.at };
        server.at = server.exchange(&serde_json::to_string(spec)?)?;
        Ok(server)
    }

    fn exchange<T: for<'a> Deserialize<'a>>(&mut self, line: &str) -> Result<T> {
        writeln!(self.ask, "{line}").and_then(|()| self.ask.flush()).context("asking the server")?;
        let mut answer = String::new();
        self.told.read_line(&mut answer).context("what the server says")?;
        ensure!(!answer.is_empty(), "the server ended by itself");
        Ok(serde_json::from_str(&answer)?)
    }

    pub(super) fn status(&mut self) -> Result<Status> {
        self.exchange("status")
    }

    /// At once and without a word to anybody (SIGKILL).
    pub(super) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs the server if that is what this process was started for.
pub(crate) fn main_from_args(mut args: impl Iterator<Item = String>) -> Option<Result<()>> {
    (args.next().as_deref() == Some(NAME)).then(serve)
}

/// What was executed.
#[derive(Default)]
struct Executed {
    status: Status,
    numbers: HashSet<u64>,
}

fn serve() -> Result<()> {
    let mut lines = io::stdin().lock().lines();
    let Some(first) = lines.next() else { bail!("{NAME} is for `sealane attack` only") };
    let spec: Spec = serde_json::from_str(&first?).context("what to serve")?;
    let trust = Trust::pem(spec.ca.as_bytes())?;
    let identity = Identity::pem(spec.chain.as_bytes(), spec.key.as_bytes())?;
    let builder = || {
        let builder = Socket::builder().trust(trust.clone()).identity(identity.clone()).serve(Clients::Authenticated);
        let builder = builder.handshake_timeout(Duration::from_millis(spec.handshake_ms));
        match spec.reset_key {
            Some(key) => builder.reset_key(key),
            None => builder,
        }
    };
    let socket = Arc::new(builder().bind(spec.at)?);
    let executed = Arc::new(Mutex::new(Executed::default()));
    answer(&serde_json::to_string(&socket.local_addr())?)?;
    let (serving, noting) = (Arc::clone(&socket), Arc::clone(&executed));
    thread::spawn(move || {
        while let Ok(delivery) = serving.recv() {
            let Delivery::Request(request) = delivery else { continue };
            note(&mut noting.lock().unwrap_or_else(PoisonError::into_inner), &request.payload, spec.floor);
            // One that asks for it waits for ever.
            if request.payload.get(NUMBER_LEN) != Some(&super::scene::UNANSWERED) {
                let _ = serving.reply(request.token, response(&request.payload));
            }
        }
    });
    for line in lines {
        ensure!(line? == "status", "a command that there is not");
        let mut status = executed.lock().unwrap_or_else(PoisonError::into_inner).status.clone();
        let info = socket.info();
        status.sessions_open = info.sessions.iter().filter(|session| session.open).count();
        status.sessions_half = info.sessions.len() - status.sessions_open;
        (status.rpcs, status.held_bytes) = (info.rpcs.len(), info.held_bytes);
        status.counters = info.counters.iter().map(|(name, count)| (name.to_owned(), count)).collect();
        status.cpu_ns = cpu_ns()?;
        answer(&serde_json::to_string(&status)?)?;
    }
    // Whoever started it is gone, and nobody is left to say goodbye to.
    std::process::exit(0)
}

fn note(executed: &mut Executed, payload: &[u8], floor: u64) {
    executed.status.ran += 1;
    match payload.first_chunk::<NUMBER_LEN>().map(|bytes| u64::from_le_bytes(*bytes)) {
        Some(number) if is_intact(payload) => {
            executed.status.old += u64::from(number < floor);
            executed.status.twice += u64::from(!executed.numbers.insert(number));
        }
        _ => executed.status.altered += 1,
    }
}

fn answer(line: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// What the scheduler counted for all threads of this process (proc(5), schedstat: nanoseconds on a processor first).
fn cpu_ns() -> Result<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").context("the threads of this process")? {
        // One may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
