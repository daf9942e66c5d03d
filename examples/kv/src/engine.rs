//! Owns what happens to a command: it is found in the table, judged (arity, memory, the disk, the client's state), run, and logged. One
//! engine serves all doors, from one thread. What concerns a client or the server is in `admin`.

mod admin;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

pub use admin::{REDIS_VERSION, memory};

use crate::commands::flags::{ADMIN, GROWS, SUBSCRIBED, WRITE};
use crate::commands::{self, Call, Command, Fail, Run};
use crate::log::{Fsync, Loaded, Log};
use crate::pubsub::Channels;
use crate::resp::{Args, Out, Span, command};
use crate::store::{Eviction, Store};

/// Most commands that a transaction may hold.
const QUEUED_MAX: usize = 100_000;
/// Most bytes that they may have.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Keys that come to their end in one turn of the loop, at most.
const EXPIRED_PER_TURN: usize = 1000;
/// Places that a rewrite of the log looks at in one turn of the loop.
const WRITTEN_PER_TURN: usize = 2000;

/// What the server may use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes of keys and values; zero is no limit.
    pub memory_bytes_max: usize,
    /// What goes then.
    pub eviction: Eviction,
}

/// What the engine knows of a client; its door keeps it.
#[derive(Debug, Default)]
pub struct Client {
    /// Its number, unique as long as the server runs.
    pub id: u64,
    /// What it called itself.
    pub name: Vec<u8>,
    /// Whether it speaks version 3 of the protocol.
    pub is_v3: bool,
    /// It is to be hung up on once its replies have left.
    pub closing: bool,
    /// The door it came by: `tcp`, `tls` or `sealane`.
    pub door: &'static str,
    /// Channels that it listens to.
    pub(crate) channels: BTreeSet<Vec<u8>>,
    /// Patterns of channels that it listens to.
    pub(crate) patterns: BTreeSet<Vec<u8>>,
    pub(crate) queue: Option<Queue>,
}

impl Client {
    /// A client of this number, by this door.
    pub fn new(id: u64, door: &'static str) -> Self {
        Self { id, door, ..Self::default() }
    }

    /// Whether it listens to anything.
    pub fn is_subscribed(&self) -> bool {
        !self.channels.is_empty() || !self.patterns.is_empty()
    }

    /// Whether nothing of it would be missed.
    pub fn is_plain(&self) -> bool {
        !self.is_subscribed() && !self.is_v3 && self.name.is_empty()
    }

    /// A transaction that was begun is given up.
    pub fn end_transaction(&mut self) {
        self.queue = None;
    }
}

/// A transaction that was begun.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    commands: Vec<(Vec<u8>, Vec<Span>)>,
    bytes: usize,
    broken: bool,
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Commands that ran.
    pub commands: u64,
    /// Clients that came.
    pub clients: u64,
    /// Clients that are there now.
    pub connected: u64,
}

/// The data set, its log, its channels.
#[derive(Debug, Default)]
pub struct Engine {
    /// The keys.
    pub store: Store,
    /// Who listens to what.
    pub channels: Channels,
    /// What may be used.
    pub limits: Limits,
    /// What was counted.
    pub counts: Counts,
    pub(crate) log: Option<Log>,
    pub(crate) started_ms: u64,
    /// How far the rewrite of the log is.
    walked: usize,
    logged: Vec<u8>,
}

impl Engine {
    /// An engine with nothing in it. `now_ms` is the time in milliseconds since 1970.
    pub fn new(limits: Limits, now_ms: u64) -> Self {
        let mut engine = Self { limits, started_ms: now_ms, ..Self::default() };
        engine.store.now_ms = now_ms;
        engine
    }

    /// Loads the log, and goes on with it.
    ///
    /// # Errors
    /// When it cannot be read, or something else than its end is wrong.
    pub fn open_log(&mut self, path: &Path, fsync: Fsync) -> Result<Loaded> {
        // What a rewrite that did not end left behind.
        let _ = std::fs::remove_file(path.with_extension("rewrite"));
        let mut client = Client::new(0, "log");
        let mut out = Out::default();
        self.store.loading = true;
        let loaded = crate::log::load(path, |args| {
            out.bytes.clear();
            self.execute(&mut client, args, &mut out);
        });
        self.store.loading = false;
        self.store.gone.clear();
        let loaded = loaded?;
        self.log = Some(Log::open(path, fsync)?);
        Ok(loaded)
    }

    /// A turn of the loop begins: it is now so late.
    pub fn begin(&mut self, now_ms: u64) {
        self.store.now_ms = now_ms;
    }

    /// The turn's work is done: what it changed is logged. `false` when its replies must not leave.
    pub fn commit(&mut self) -> bool {
        self.log.as_mut().is_none_or(Log::commit)
    }

    /// What is to be done now and then. When it wants to be called again, in milliseconds from now.
    pub fn tick(&mut self) -> u64 {
        let next = self.store.expire(EXPIRED_PER_TURN);
        self.log_gone();
        let mut wait = next.map_or(1000, |at| at.saturating_sub(self.store.now_ms).min(1000));
        if let Some(log) = &mut self.log {
            log.tick();
            if log.wants_rewrite()
                && let Err(error) = self.begin_rewrite()
            {
                eprintln!("sealane kv: the log cannot be rewritten: {error}");
            }
        }
        if self.log.as_ref().is_some_and(Log::is_rewriting) {
            self.rewrite_some();
            wait = 1;
        }
        wait
    }

    /// Begins to write the log anew.
    ///
    /// # Errors
    /// When there is none, or one is being written.
    pub(crate) fn begin_rewrite(&mut self) -> Result<(), Fail> {
        let log = self.log.as_mut().ok_or("ERR there is no append only file")?;
        if log.is_rewriting() {
            return Err("ERR Background append only file rewriting already in progress".into());
        }
        log.begin_rewrite().map_err(|error| Fail::from(format!("ERR {error}")))?;
        self.store.writing = self.store.writing.wrapping_add(1);
        self.walked = 0;
        Ok(())
    }

    fn rewrite_some(&mut self) {
        let Some(log) = &mut self.log else { return };
        let end = (self.walked + WRITTEN_PER_TURN).min(self.store.table().places());
        if let Some(out) = log.rewriting() {
            for at in self.walked..end {
                if let Some((key, entry)) = self.store.claim_for_rewrite(at) {
                    commands::keys::write_out(out, key, entry);
                }
            }
        }
        self.walked = end;
        if let Err(error) = log.drive_rewrite(end >= self.store.table().places()) {
            eprintln!("sealane kv: the log stays as it is: {error:#}");
        }
    }

    /// Before a key changes, a rewrite that has not come to it writes what it is.
    fn write_before(&mut self, command: &Command, args: Args<'_>) {
        let Some(out) = self.log.as_mut().and_then(Log::rewriting) else { return };
        for index in command.key_indexes(args.len()) {
            if let Some(at) = self.store.table().find(args.at(index))
                && let Some((key, entry)) = self.store.claim_for_rewrite(at)
            {
                commands::keys::write_out(out, key, entry);
            }
        }
    }

    fn log_gone(&mut self) {
        if self.store.gone.is_empty() {
            return;
        }
        for key in self.store.gone.drain(..) {
            if self.log.is_some() {
                command(&mut self.logged, &[b"DEL", &key]);
            }
        }
        self.hand_to_log();
    }

    fn hand_to_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.append(&self.logged);
        }
        self.logged.clear();
    }

    /// A client is gone.
    pub fn leave(&mut self, client: &mut Client) {
        for name in std::mem::take(&mut client.channels) {
            self.channels.leave(client.id, &name, false);
        }
        for name in std::mem::take(&mut client.patterns) {
            self.channels.leave(client.id, &name, true);
        }
    }

    /// Runs one command, and writes its reply.
    pub fn execute(&mut self, client: &mut Client, args: Args<'_>, out: &mut Out) {
        if args.is_empty() {
            return;
        }
        self.counts.commands += 1;
        let done = match commands::find(args.at(0)) {
            Some(found) => self.judged(client, found, args, out),
            None => Err(unknown(args)),
        };
        if let Err(text) = done {
            if let Some(queue) = &mut client.queue {
                queue.broken = true;
            }
            out.error(&text);
        }
    }

    fn judged(
        &mut self,
        client: &mut Client,
        found: &'static Command,
        args: Args<'_>,
        out: &mut Out,
    ) -> Result<(), Fail> {
        if !found.takes(args.len()) {
            return Err(format!("ERR wrong number of arguments for '{}' command", found.name).into());
        }
        if client.is_subscribed() && !client.is_v3 && !found.has(SUBSCRIBED) {
            return Err(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                found.name
            )
            .into());
        }
        self.check_room(found)?;
        if let Some(queue) = &mut client.queue
            && !["exec", "discard", "multi", "reset", "quit"].contains(&found.name)
        {
            queue.add(args)?;
            out.simple("QUEUED");
            return Ok(());
        }
        match found.run {
            Run::Data(run) => self.run(found, run, args, out),
            Run::Engine => match found.name {
                "exec" => self.exec(client, out),
                _ => admin::run(self, client, found, args, out),
            },
        }
    }

    /// Whether there are memory and disk for a command.
    fn check_room(&mut self, found: &Command) -> Result<(), Fail> {
        if !found.has(WRITE) || self.store.loading {
            return Ok(());
        }
        if let Some(failure) = self.log.as_ref().and_then(Log::failure) {
            return Err(failure.into());
        }
        let Limits { memory_bytes_max, eviction } = self.limits;
        if memory_bytes_max > 0 && found.has(GROWS) && self.store.bytes() > memory_bytes_max {
            let fits = self.store.evict(memory_bytes_max, eviction);
            self.log_gone();
            if !fits {
                return Err("OOM command not allowed when used memory > 'maxmemory'.".into());
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        found: &Command,
        run: fn(&mut Call<'_>) -> Result<(), Fail>,
        args: Args<'_>,
        out: &mut Out,
    ) -> Result<(), Fail> {
        if found.has(WRITE) && self.log.is_some() {
            self.write_before(found, args);
        }
        let before = self.store.dirty;
        let mut call = Call { store: &mut self.store, args, out, instead: None };
        let done = run(&mut call);
        let instead = call.instead;
        if self.log.is_some() {
            self.log_gone();
            if self.store.dirty != before {
                match instead {
                    Some(instead) => self.logged.extend_from_slice(&instead),
                    None => command(&mut self.logged, &args.from(0).collect::<Vec<_>>()),
                }
                self.hand_to_log();
            }
        } else {
            self.store.gone.clear();
        }
        done
    }

    fn exec(&mut self, client: &mut Client, out: &mut Out) -> Result<(), Fail> {
        let queue = client.queue.take().ok_or("ERR EXEC without MULTI")?;
        if queue.broken {
            return Err("EXECABORT Transaction discarded because of previous errors.".into());
        }
        let logs = self.log.is_some() && !queue.commands.is_empty();
        if logs {
            command(&mut self.logged, &[b"MULTI"]);
            self.hand_to_log();
        }
        out.array(queue.commands.len());
        for (bytes, spans) in &queue.commands {
            self.execute(client, Args::new(bytes, spans), out);
        }
        if logs {
            command(&mut self.logged, &[b"EXEC"]);
            self.hand_to_log();
        }
        Ok(())
    }
}

impl Queue {
    fn add(&mut self, args: Args<'_>) -> Result<(), Fail> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for arg in args.from(0) {
            spans.push((bytes.len(), bytes.len() + arg.len()));
            bytes.extend_from_slice(arg);
        }
        self.bytes += bytes.len();
        if self.commands.len() >= QUEUED_MAX || self.bytes > QUEUED_BYTES_MAX {
            return Err("ERR the transaction is too long".into());
        }
        self.commands.push((bytes, spans));
        Ok(())
    }
}

/// Redis's text for a command that there is not.
fn unknown(args: Args<'_>) -> Fail {
    let short = |arg: &[u8]| String::from_utf8_lossy(&arg[..arg.len().min(128)]).into_owned();
    let mut text = format!("ERR unknown command '{}', with args beginning with: ", short(args.at(0)));
    let from = text.len();
    for arg in args.from(1) {
        if text.len() - from >= 128 {
            break;
        }
        text.push_str(&format!("'{}' ", short(arg)));
    }
    Cow::Owned(text)
}

const _: () = assert!(ADMIN & WRITE == 0);
