//! Owns the processes of a benchmark: the running binary starts itself again as a server or as a client, tells it what to do by a line of
//! JSON on its standard input, and asks it by further lines. A child ends when its input does, so that none outlives its parent.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use sealane::{Role, Socket};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::links::secret;
use crate::server::{Config, Server};
use crate::tls::Credentials;
use crate::worker::{Job, Outcome, Peer, Worker};

const SERVER: &str = "kv-bench-server";
const CLIENT: &str = "kv-bench-client";

/// What a server child is to be.
#[derive(Debug, Serialize, Deserialize)]
struct ServerSpec {
    credentials: Credentials,
    cpu: Option<usize>,
}

/// Runs a child if the arguments (without the program's name) ask for one; a binary that measures calls this before it reads its own
/// command line.
pub fn main_from_args(args: impl IntoIterator<Item = String>) -> Option<Result<()>> {
    match args.into_iter().next()?.as_str() {
        SERVER => Some(serve()),
        CLIENT => Some(call()),
        _ => None,
    }
}

fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn line() -> Result<String> {
    let mut line = String::new();
    ensure!(std::io::stdin().read_line(&mut line)? > 0, "the parent is gone");
    Ok(line.trim().to_owned())
}

/// One CPU for the clients and another for the server, if there are two.
pub(crate) fn cpus() -> (Option<usize>, Option<usize>) {
    let Ok(set) = sched_getaffinity(None) else { return (None, None) };
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    match allowed[..] {
        [clients, server, ..] => (Some(clients), Some(server)),
        _ => (None, None),
    }
}

fn pin(cpu: Option<usize>) {
    if let Some(cpu) = cpu {
        let mut only = CpuSet::new();
        only.set(cpu);
        // Without the permission figures scatter more.
        let _ = sched_setaffinity(None, &only);
    }
}

/// Lets this process and its children have so many open files; how many it is.
pub fn raise_open_files(wanted: u64) -> u64 {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= wanted) {
        return wanted;
    }
    let limits = [
        Rlimit { current: Some(wanted), maximum: Some(now.maximum.unwrap_or(wanted).max(wanted)) },
        Rlimit { current: now.maximum, maximum: now.maximum },
    ];
    for limit in limits {
        if setrlimit(Resource::Nofile, limit).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(wanted)
}

fn process_nanos() -> u128 {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32).as_nanos()
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

fn serve() -> Result<()> {
    let spec: ServerSpec = serde_json::from_str(&line()?)?;
    pin(spec.cpu);
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let config = Config {
        tcp: Some(any),
        tls: Some(any),
        sealane: Some(any),
        credentials: Some(spec.credentials),
        ..Config::default()
    };
    let mut server = Server::bind(&config)?;
    let [tcp, tls, sealane] = server.addresses();
    say(&serde_json::to_string(&[tcp, tls, sealane, Some(server.open_floor()?)])?)?;
    let socket = server.socket();
    std::thread::spawn(move || {
        let _ = answer(socket);
        std::process::exit(0);
    });
    server.run()
}

/// Answers the parent's questions until it is gone.
fn answer(socket: Option<Arc<Socket>>) -> Result<()> {
    loop {
        let asked = line()?;
        match asked.as_str() {
            "cpu" => say(&process_nanos().to_string())?,
            "memory" => say(&resident_bytes().to_string())?,
            other => {
                let (address, first, step, count): (SocketAddr, usize, usize, usize) = serde_json::from_str(other)?;
                let socket = socket.as_ref().context("there is no socket")?;
                for number in (first..count).step_by(step) {
                    socket.install_session(address, Role::Server, secret(number), "client");
                }
                say("ok")?;
            }
        }
    }
}

fn call() -> Result<()> {
    let job: Job = serde_json::from_str(&line()?)?;
    pin(job.cpu);
    let count = job.endpoints;
    let mut install = |address: SocketAddr, first: usize, step: usize| {
        say(&json!([address, first, step, count]).to_string())?;
        ensure!(line()? == "ok", "the server did not install the sessions");
        Ok(())
    };
    let worker = Worker::new(job, &mut install)?;
    say("ready")?;
    ensure!(line()? == "go", "the parent wants something else");
    say(&serde_json::to_string(&worker.run()?)?)
}

/// A child and its pipes.
#[derive(Debug)]
struct Child {
    child: std::process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    fn start(what: &str, spec: &impl Serialize) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut child = Command::new(program)
            .arg(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a child process")?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("no pipe from a child")?);
        let mut child = Self { child, input, output };
        child.tell(&serde_json::to_string(spec)?)?;
        Ok(child)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("the child is gone")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "a child ended early: what it printed says why");
        Ok(line.trim().to_owned())
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.tell(line)?;
        self.hear()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that runs already, behind all three doors: another one than ours, to be compared with it.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Where TCP, TLS and Sealane are listened for.
    pub addresses: [SocketAddr; 3],
    /// Its process, for the CPU time that it takes.
    pub pid: u32,
}

#[derive(Debug)]
enum Process {
    Ours(Child),
    Other(u32),
}

/// A server in a process of its own, behind all three doors.
#[derive(Debug)]
pub(crate) struct ServerChild {
    process: Process,
    addresses: [SocketAddr; 3],
    /// Where bare datagrams are taken, if they are.
    floor: Option<SocketAddr>,
}

/// CPU time of all threads of a process.
fn nanos_of(pid: u32) -> Result<u64> {
    let mut nanos = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("the server's process is gone")? {
        let said = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanos += said.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos)
}

impl ServerChild {
    pub(crate) fn elsewhere(server: &Elsewhere) -> Self {
        Self { process: Process::Other(server.pid), addresses: server.addresses, floor: None }
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        match &mut self.process {
            Process::Ours(child) => child.ask(line),
            Process::Other(_) => bail!("that server answers no questions"),
        }
    }

    pub(crate) fn start(credentials: &Credentials, cpu: Option<usize>) -> Result<Self> {
        let mut child = Child::start(SERVER, &ServerSpec { credentials: credentials.clone(), cpu })?;
        let addresses: [Option<SocketAddr>; 4] = serde_json::from_str(&child.hear()?)?;
        let [Some(tcp), Some(tls), Some(sealane), floor] = addresses else { bail!("the server has not all doors") };
        Ok(Self { process: Process::Ours(child), addresses: [tcp, tls, sealane], floor })
    }

    pub(crate) fn address(&self, peer: Peer) -> Result<SocketAddr> {
        let [tcp, tls, sealane] = self.addresses;
        match peer {
            Peer::Tcp => Ok(tcp),
            Peer::Tls => Ok(tls),
            Peer::Sealane => Ok(sealane),
            Peer::Udp | Peer::UdpIdeal => self.floor.context("that server takes no bare datagrams"),
        }
    }

    pub(crate) fn cpu_nanos(&mut self) -> Result<u64> {
        match self.process {
            Process::Ours(_) => Ok(self.ask("cpu")?.parse()?),
            Process::Other(pid) => nanos_of(pid),
        }
    }

    pub(crate) fn memory(&mut self) -> Result<u64> {
        Ok(self.ask("memory")?.parse()?)
    }
}

/// Clients in processes of their own, connected and ready.
#[derive(Debug)]
pub(crate) struct Clients(Vec<Child>);

impl Clients {
    pub(crate) fn start(jobs: &[Job], server: &mut ServerChild) -> Result<Self> {
        let mut children = jobs.iter().map(|job| Child::start(CLIENT, job)).collect::<Result<Vec<_>>>()?;
        for child in &mut children {
            loop {
                let said = child.hear()?;
                if said == "ready" {
                    break;
                }
                ensure!(serde_json::from_str::<Value>(&said).is_ok(), "a client said {said}");
                let answer = server.ask(&said)?;
                child.tell(&answer)?;
            }
        }
        Ok(Self(children))
    }

    pub(crate) fn run(mut self) -> Result<Vec<Outcome>> {
        self.0.iter_mut().try_for_each(|child| child.tell("go"))?;
        self.0.iter_mut().map(|child| Ok(serde_json::from_str(&child.hear()?)?)).collect()
    }
}
