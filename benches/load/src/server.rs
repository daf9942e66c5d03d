//! The server of one cell: in a child process (as measured), or in a thread (tests).
//!
//! Owns the child's life: the running binary starts itself again with [`SUBCOMMAND`] and the [`Spec`] as JSON; the child
//! reads the credentials from its first line of input, prints its port, answers `cpu` with the CPU time it has used in
//! nanoseconds, and ends when its input does, so that it never outlives its parent.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::certs::Credentials;
use crate::cpu::{self, Pinned};
#[cfg(feature = "heavy")]
use crate::heavy;
use crate::served::Served;
use crate::spec::{PeerKind, Spec};
use crate::{ktls, ktls_ideal, raw_udp, sealane_peer, stream, tcp, tls, udp_bulk};

/// The hidden first argument that makes a binary a server.
pub const SUBCOMMAND: &str = "bench-server";

/// The question for CPU time.
const CPU: &str = "cpu";

/// How long a server has to start or to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the server if the arguments (without the program's name) ask for one; every binary that measures calls this
/// before it reads its own command line.
pub fn main_from_args(args: impl IntoIterator<Item = String>) -> Option<Result<()>> {
    let mut args = args.into_iter();
    (args.next()? == SUBCOMMAND).then(|| match args.next() {
        Some(spec) => run(&spec),
        None => Err(anyhow!("`{SUBCOMMAND}` wants a specification as JSON")),
    })
}

fn run(spec: &str) -> Result<()> {
    let spec: Spec = serde_json::from_str(spec).context("not a specification of a server")?;
    spec.check()?;
    let credentials = read_credentials()?;
    // Started before pinning: it must not compete with the server for its CPU.
    std::thread::spawn(answer_parent);
    let _pinned = Pinned::to(spec.cpu);
    if matches!(spec.peer, PeerKind::Tls | PeerKind::Sealane | PeerKind::SealaneIoUring) || spec.peer.is_heavy() {
        // The first random bytes of a process wait for its entropy source (100 ms seen): no part of any handshake.
        aws_lc_rs::rand::fill(&mut [0; 16]).map_err(|_| anyhow!("no random bytes"))?;
    }
    let server = Bound::new(&spec, &credentials)?;
    say(&format!("port {}", server.port()?))?;
    server.serve(&spec, &credentials)
}

/// What the parent says first.
pub(crate) fn read_credentials() -> Result<Credentials> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    serde_json::from_str(&line).context("no credentials on standard input")
}

pub(crate) fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Answers questions for ever; ends the process when the parent is gone.
pub(crate) fn answer_parent() {
    for line in std::io::stdin().lines() {
        let answered = match line {
            Ok(line) if line == CPU => say(&cpu::process_time().as_nanos().to_string()),
            _ => break,
        };
        if answered.is_err() {
            break;
        }
    }
    std::process::exit(0);
}

/// A server that has its port and no client yet.
pub(crate) enum Bound {
    Udp(Box<raw_udp::Echo>),
    UdpBulk(Box<udp_bulk::Sink>),
    Stream(TcpListener),
    Sealane(Box<sealane_peer::Echo>),
    #[cfg(feature = "heavy")]
    Heavy(Box<heavy::Bound>),
}

impl Bound {
    pub(crate) fn new(spec: &Spec, credentials: &Credentials) -> Result<Self> {
        Ok(match spec.peer {
            PeerKind::Udp | PeerKind::UdpPack if spec.one_way => Self::UdpBulk(Box::new(udp_bulk::Sink::bind(spec)?)),
            PeerKind::Udp | PeerKind::UdpPack | PeerKind::UdpIdeal => Self::Udp(Box::new(raw_udp::Echo::bind(spec)?)),
            PeerKind::Sealane | PeerKind::SealaneIoUring => {
                Self::Sealane(Box::new(sealane_peer::Echo::bind(spec, credentials)?))
            }
            #[cfg(feature = "heavy")]
            peer if peer.is_heavy() => Self::Heavy(Box::new(heavy::Bound::new(spec, credentials)?)),
            #[cfg(not(feature = "heavy"))]
            peer if peer.is_heavy() => bail!("{}", crate::spec::NOT_HEAVY),
            _ => Self::Stream(stream::listen(spec.mtu)?),
        })
    }

    pub(crate) fn port(&self) -> Result<u16> {
        Ok(match self {
            Self::Udp(echo) => echo.port(),
            Self::UdpBulk(sink) => sink.port(),
            Self::Stream(listener) => listener.local_addr()?.port(),
            Self::Sealane(echo) => echo.port(),
            #[cfg(feature = "heavy")]
            Self::Heavy(bound) => bound.port(),
        })
    }

    /// Waits for a client, handshake included.
    pub(crate) fn accept(self, spec: &Spec, credentials: &Credentials) -> Result<Box<dyn Served>> {
        match self {
            Self::Udp(echo) => echo.accept(),
            Self::UdpBulk(sink) => sink.accept(),
            Self::Sealane(echo) => Ok(echo),
            #[cfg(feature = "heavy")]
            Self::Heavy(bound) => bound.accept(spec),
            Self::Stream(listener) => match spec.peer {
                PeerKind::Tcp => tcp::accept(spec, &listener),
                PeerKind::Ktls => ktls::accept(spec, &listener),
                PeerKind::KtlsIdeal | PeerKind::KtlsIdealPm => ktls_ideal::accept(spec, &listener),
                PeerKind::Tls => tls::accept(spec, &listener, credentials),
                peer => bail!("peer `{peer}` does not come over a stream"),
            },
        }
    }

    /// Serves one client until it is gone.
    fn serve(self, spec: &Spec, credentials: &Credentials) -> Result<()> {
        let mut server = self.accept(spec, credentials)?;
        while server.turn()? {}
        Ok(())
    }
}

/// Where servers run.
#[derive(Clone, Debug)]
pub enum Host {
    /// In a child process of this program with these first arguments.
    Child {
        /// The program.
        program: PathBuf,
        /// What makes it a server.
        args: Vec<String>,
    },
    /// In a thread of this process. For tests: both sides share an address space, and CPU time is counted together.
    Thread,
}

impl Host {
    /// Children of the running binary, whose `main` calls [`main_from_args`].
    pub fn this_binary() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        Ok(Self::Child { program, args: vec![SUBCOMMAND.to_owned()] })
    }

    pub(crate) fn start(&self, spec: &Spec, credentials: &Credentials) -> Result<Running> {
        match self {
            Self::Child { program, args } => {
                start_child(program, args, &spec.peer.to_string(), &serde_json::to_string(spec)?, credentials)
            }
            Self::Thread => start_thread(spec, credentials),
        }
    }
}

/// A server that runs. Drop its client first.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) port: u16,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Child { child: Child, input: Option<ChildStdin>, output: BufReader<ChildStdout> },
    Thread(Option<JoinHandle<Result<()>>>),
}

/// Starts a server of `what`, to which its specification is an argument.
pub(crate) fn start_child(
    program: &PathBuf,
    args: &[String],
    what: &str,
    spec: &str,
    credentials: &Credentials,
) -> Result<Running> {
    let mut child = Command::new(program)
        .args(args)
        .arg(spec)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut input = child.stdin.take().context("no pipe to the server")?;
    let output = child.stdout.take().context("no pipe from the server")?;
    let mut output = BufReader::new(output);
    // A child that refuses closes its pipes; what it printed on standard error says why.
    let _ = writeln!(input, "{}", serde_json::to_string(credentials)?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let port = line.trim().strip_prefix("port ").and_then(|port| port.parse().ok());
    let kind = Kind::Child { child, input: Some(input), output };
    let port = port.with_context(|| format!("the server of peer `{what}` did not start"));
    // Built before the error leaves, so that its drop ends the child.
    let mut running = Running { port: 0, kind };
    running.port = port?;
    Ok(running)
}

fn start_thread(spec: &Spec, credentials: &Credentials) -> Result<Running> {
    let server = Bound::new(spec, credentials)?;
    let port = server.port()?;
    let (spec, credentials) = (spec.clone(), credentials.clone());
    let thread = std::thread::spawn(move || {
        let _pinned = Pinned::to(spec.cpu);
        server.serve(&spec, &credentials)
    });
    Ok(Running { port, kind: Kind::Thread(Some(thread)) })
}

impl Running {
    /// CPU time that the server has used, apart from this process.
    pub(crate) fn cpu_time(&mut self) -> Result<Duration> {
        let Kind::Child { input: Some(input), output, .. } = &mut self.kind else {
            return Ok(Duration::ZERO);
        };
        writeln!(input, "{CPU}").context("the server is gone")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        let nanos = line.trim().parse().context("the server ended early")?;
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Child { child, input, .. } => {
                drop(input.take());
                let since = Instant::now();
                while let Ok(None) = child.try_wait() {
                    if since.elapsed() > PATIENCE {
                        let _ = child.kill();
                        let _ = child.wait();
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            Kind::Thread(thread) => {
                // Its client is gone, so it ends; how does not matter any more.
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}
