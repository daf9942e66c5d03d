//! The server of the memory measurement, a child process that is told what to do line by line.
//!
//! Owns both ends of that pipe. The child answers every order with one line; it ends when its input does.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child as Process, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sealane::{Delivery, Request, Role, Socket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::session::{Kind, secret, server_socket};
use super::{PATIENCE, Use, recorded};
use crate::certs::Credentials;

/// The hidden first argument that makes a binary this server.
pub(crate) const SUBCOMMAND: &str = "memory-server";

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Bind a socket; answered with its port.
    Bind(Kind),
    /// Install every `step`th secret from `first` up to `count`, for a client at `address`.
    Install { address: SocketAddr, first: usize, step: usize, count: usize },
    /// Say what is held.
    Look,
    /// Keep the next so many requests.
    Hold(usize),
    /// How many are kept.
    Held,
    /// Answer those that are kept.
    Release,
    /// Remember who asks for memory.
    Record,
    /// Say who did.
    Recorded,
}

/// The parent's end.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    wanted: usize,
    pub(crate) port: u16,
}

impl Child {
    pub(crate) fn start(credentials: &Credentials) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("cannot start the server")?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("no pipe from the server")?);
        let mut child = Self { process, input, output, wanted: 0, port: 0 };
        child.ask::<()>(credentials)?;
        Ok(child)
    }

    fn ask<T: DeserializeOwned>(&mut self, order: &impl Serialize) -> Result<T> {
        let input = self.input.as_mut().context("no pipe to the server")?;
        writeln!(input, "{}", serde_json::to_string(order)?).context("the server is gone")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the server ended early")
    }

    pub(crate) fn bind(&mut self, kind: Kind) -> Result<()> {
        self.port = self.ask(&Order::Bind(kind))?;
        Ok(())
    }

    pub(crate) fn install(&mut self, address: SocketAddr, first: usize, step: usize, count: usize) -> Result<()> {
        self.ask(&Order::Install { address, first, step, count })
    }

    pub(crate) fn look(&mut self) -> Result<Use> {
        self.ask(&Order::Look)
    }

    pub(crate) fn hold(&mut self, count: usize) -> Result<()> {
        self.wanted = count;
        self.ask(&Order::Hold(count))
    }

    /// Waits until the server has all that it is to keep.
    pub(crate) fn await_held(&mut self) -> Result<()> {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if self.ask::<usize>(&Order::Held)? == self.wanted {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        ensure!(false, "messages did not arrive");
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<()> {
        self.ask(&Order::Release)
    }

    pub(crate) fn record(&mut self) -> Result<()> {
        self.ask(&Order::Record)
    }

    pub(crate) fn recorded(&mut self) -> Result<Vec<(String, i64, i64)>> {
        self.ask(&Order::Recorded)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.process.wait();
    }
}

/// Requests that are kept, and how many more may be.
#[derive(Debug, Default)]
struct Kept {
    more: AtomicUsize,
    requests: Mutex<Vec<Request>>,
}

impl Kept {
    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The child's end: runs until its input ends.
pub(crate) fn serve() -> Result<()> {
    ensure!(heap::count(), "this program does not count what it allocates");
    let mut lines = std::io::stdin().lines();
    let credentials: Credentials = serde_json::from_str(&lines.next().context("no credentials")??)?;
    say(&())?;
    let (kept, mut socket) = (Arc::new(Kept::default()), None);
    for line in lines {
        match serde_json::from_str(&line?)? {
            Order::Bind(kind) => {
                let bound = Arc::new(server_socket(kind, &credentials)?);
                let (serving, keeping) = (bound.clone(), kept.clone());
                std::thread::spawn(move || answer(&serving, &keeping));
                say(&bound.local_addr().port())?;
                socket = Some(bound);
            }
            Order::Install { address, first, step, count } => {
                let socket = socket.as_ref().context("nothing is bound")?;
                for number in (first..count).step_by(step) {
                    socket.install_session(address, Role::Server, secret(number), "client");
                }
                say(&())?;
            }
            Order::Look => say(&Use::now())?,
            Order::Hold(count) => {
                kept.requests().reserve(count);
                kept.more.store(count, Ordering::SeqCst);
                say(&())?;
            }
            Order::Held => say(&kept.requests().len())?,
            Order::Release => {
                let socket = socket.as_ref().context("nothing is bound")?;
                for request in kept.requests().drain(..) {
                    socket.reply(request.token, request.payload)?;
                }
                say(&())?;
            }
            Order::Record => {
                heap::record();
                say(&())?;
            }
            Order::Recorded => say(&recorded())?,
        }
    }
    Ok(())
}

fn say(answer: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

fn answer(socket: &Socket, kept: &Kept) {
    while let Ok(delivery) = socket.recv() {
        let Delivery::Request(request) = delivery else { continue };
        if kept.more.load(Ordering::SeqCst) > 0 {
            kept.more.fetch_sub(1, Ordering::SeqCst);
            kept.requests().push(request);
        } else {
            // A client that is gone wants no answer.
            let _ = socket.reply(request.token, request.payload);
        }
    }
}
