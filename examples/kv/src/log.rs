//! Owns the append-only file: commands as they were sent, in RESP, so that Redis's own tools can read it. Every one states its lengths, so
//! a torn end is found and cut; anything else that is wrong is no torn end, and refuses to load. Also owns its rewrite: a second file that
//! is written beside it and takes its place at once.
//!
//! It refuses to decide what is logged, and to lose what it was given: what the disk did not take stays until it does.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::resp::{Args, Parsed, Parser};

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before the reply leaves.
    Always,
    /// Within a second or so, by a thread.
    EverySecond,
    /// When the kernel likes.
    No,
}

impl Fsync {
    /// As Redis names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::EverySecond => "everysec",
            Self::No => "no",
        }
    }

    /// By Redis's name for it.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Always, Self::EverySecond, Self::No].into_iter().find(|one| one.name() == name)
    }
}

/// How often the file is synced under [`Fsync::EverySecond`].
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Bytes that are read at once when it is loaded.
const READ_BYTES: usize = 1 << 20;
/// Bytes that a rewrite gathers before it writes them.
const WRITE_BYTES: usize = 256 << 10;
/// A rewrite begins by itself when the file has at least so many bytes, and twice those it had after the last.
const REWRITE_MIN: u64 = 64 << 20;

/// What loading found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Commands that ran.
    pub commands: u64,
    /// Bytes that are kept.
    pub bytes: u64,
    /// Bytes of a torn end that were cut.
    pub cut: u64,
}

/// The file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: Arc<File>,
    pending: Vec<u8>,
    /// When it is made durable.
    pub fsync: Fsync,
    bytes: u64,
    bytes_after_rewrite: u64,
    unsynced: bool,
    /// Something was added since the last commit.
    fresh: bool,
    last_sync: Instant,
    /// Why nothing can be written now.
    failed: Option<String>,
    /// A sync failed: what the kernel had may be gone, and only a rewrite makes it good.
    sync_failed: Arc<AtomicBool>,
    syncs: Sender<Arc<File>>,
    rewrite: Option<Rewrite>,
}

#[derive(Debug)]
struct Rewrite {
    file: Arc<File>,
    path: PathBuf,
    pending: Vec<u8>,
    bytes: u64,
    synced: Option<Receiver<io::Result<()>>>,
}

/// Reads a file of commands and gives each to `apply`; what stands torn at its end is cut off.
///
/// # Errors
/// When it cannot be read, or something else than its end is wrong.
pub fn load(path: &Path, mut apply: impl FnMut(Args<'_>)) -> Result<Loaded> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        opened => opened.with_context(|| format!("cannot open {}", path.display()))?,
    };
    let length = file.metadata()?.len();
    if !file.metadata()?.is_file() {
        return Ok(Loaded::default());
    }
    let (mut bytes, mut from, mut base) = (Vec::new(), 0, 0u64);
    let mut parser = Parser::default();
    let mut loaded = Loaded::default();
    // A transaction counts when it is whole.
    let mut transaction: Option<u64> = None;
    let wrong = loop {
        let parsed = match bytes.get(from) {
            Some(b'*') | None => parser.parse(&bytes[from..]).map_err(|error| error.0),
            Some(_) => Err("a command does not begin with '*'".to_owned()),
        };
        match parsed {
            Ok(Parsed::Command(used)) => {
                let args = Args::new(&bytes[from..], parser.spans());
                if args.is(0, "multi") {
                    transaction = Some(base + from as u64);
                } else if args.is(0, "exec") {
                    transaction = None;
                }
                apply(args);
                from += used;
                loaded.commands += 1;
            }
            Ok(Parsed::Incomplete) => {
                bytes.drain(..from);
                base += from as u64;
                from = 0;
                let before = bytes.len();
                Read::by_ref(&mut file).take(READ_BYTES as u64).read_to_end(&mut bytes)?;
                if bytes.len() == before {
                    break None;
                }
            }
            Err(error) => break Some(error),
        }
    };
    let at = base + from as u64;
    if let Some(wrong) = wrong {
        // What a machine that lost power leaves where the file grew.
        file.read_to_end(&mut bytes)?;
        if bytes[from..].iter().any(|byte| *byte != 0) {
            bail!(
                "bad file format reading the append only file {} at byte {at} ({wrong}): make a backup of it, then cut it there",
                path.display()
            );
        }
    }
    loaded.bytes = transaction.unwrap_or(at);
    loaded.cut = length.saturating_sub(loaded.bytes);
    if loaded.cut > 0 {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(loaded.bytes)?;
        file.sync_all()?;
    }
    Ok(loaded)
}

impl Log {
    /// Opens the file, to go on at its end.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: &Path, fsync: Fsync) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.with_context(|| format!("cannot open {} to append to it", path.display()))?;
        let bytes = file.metadata()?.len();
        let sync_failed = Arc::new(AtomicBool::new(false));
        let (syncs, wanted) = channel::<Arc<File>>();
        let theirs = sync_failed.clone();
        thread::Builder::new().name("kv-sync".to_owned()).spawn(move || {
            while let Ok(file) = wanted.recv() {
                if file.sync_data().is_err() {
                    theirs.store(true, Ordering::SeqCst);
                }
            }
        })?;
        sync_folder(path);
        Ok(Self {
            path: path.to_owned(),
            file: Arc::new(file),
            pending: Vec::new(),
            fsync,
            bytes,
            bytes_after_rewrite: bytes,
            unsynced: false,
            fresh: false,
            last_sync: Instant::now(),
            failed: None,
            sync_failed,
            syncs,
            rewrite: None,
        })
    }

    /// Adds commands.
    pub fn append(&mut self, commands: &[u8]) {
        self.fresh = true;
        self.pending.extend_from_slice(commands);
        if let Some(rewrite) = &mut self.rewrite {
            rewrite.pending.extend_from_slice(commands);
        }
    }

    /// Why commands that write must fail, in Redis's words.
    pub fn failure(&self) -> Option<String> {
        let failed = self.failed.as_deref();
        let synced = self.sync_failed.load(Ordering::Relaxed).then_some("a sync failed");
        failed.or(synced).map(|why| format!("MISCONF Errors writing to the AOF file: {why}"))
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a rewrite is under way.
    pub fn is_rewriting(&self) -> bool {
        self.rewrite.is_some()
    }

    /// Hands to the kernel what was added; under [`Fsync::Always`] to the disk. `false` when that failed and what was answered since the
    /// last call must not be told to anybody.
    pub fn commit(&mut self) -> bool {
        if !self.pending.is_empty() {
            self.write();
        }
        if self.unsynced && self.fsync == Fsync::Always && self.failed.is_none() {
            self.unsynced = false;
            if let Err(error) = self.file.sync_data() {
                self.failed = Some(error.to_string());
                self.sync_failed.store(true, Ordering::SeqCst);
            }
        }
        let fresh = std::mem::take(&mut self.fresh);
        !fresh || self.fsync != Fsync::Always || self.failure().is_none()
    }

    fn write(&mut self) {
        let mut done = 0;
        self.failed = loop {
            match (&*self.file).write(&self.pending[done..]) {
                Ok(0) => break Some("nothing was written".to_owned()),
                Ok(more) => done += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Only the kernel's own words, without its number.
                Err(error) => break Some(error.to_string().split(" (os").next().unwrap_or_default().to_owned()),
            }
            if done == self.pending.len() {
                break None;
            }
        };
        self.pending.drain(..done);
        self.pending.shrink_to(WRITE_BYTES);
        self.bytes += done as u64;
        self.unsynced |= done > 0;
    }

    /// What is to be done now and then: a try where the disk had no room, and a sync each second.
    pub fn tick(&mut self) {
        if self.failed.is_some() && !self.pending.is_empty() {
            self.commit();
        }
        if self.unsynced && self.fsync == Fsync::EverySecond && self.last_sync.elapsed() >= SYNC_EVERY {
            self.last_sync = Instant::now();
            self.unsynced = false;
            let _ = self.syncs.send(self.file.clone());
        }
    }

    /// Whether the file has grown enough to be rewritten.
    pub fn wants_rewrite(&self) -> bool {
        self.rewrite.is_none() && self.bytes >= REWRITE_MIN.max(self.bytes_after_rewrite.saturating_mul(2))
    }

    /// Begins a rewrite: who calls gives it all keys from now on.
    ///
    /// # Errors
    /// When there can be no second file.
    pub fn begin_rewrite(&mut self) -> io::Result<()> {
        let path = self.path.with_extension("rewrite");
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.set_len(0)?;
        self.rewrite = Some(Rewrite { file: Arc::new(file), path, pending: Vec::new(), bytes: 0, synced: None });
        Ok(())
    }

    /// Where the rewrite's commands go.
    pub fn rewriting(&mut self) -> Option<&mut Vec<u8>> {
        self.rewrite.as_mut().map(|rewrite| &mut rewrite.pending)
    }

    /// Writes what the rewrite has; with `all`, everything was given, and it ends when it is on the disk. Whether it ended.
    ///
    /// # Errors
    /// When it failed: the file stays the one it was.
    pub fn drive_rewrite(&mut self, all: bool) -> Result<bool> {
        let done = self.try_drive(all);
        if done.is_err()
            && let Some(rewrite) = self.rewrite.take()
        {
            let _ = std::fs::remove_file(rewrite.path);
        }
        done
    }

    fn try_drive(&mut self, all: bool) -> Result<bool> {
        let Some(rewrite) = &mut self.rewrite else { return Ok(true) };
        if rewrite.pending.len() >= WRITE_BYTES || all && !rewrite.pending.is_empty() {
            (&*rewrite.file).write_all(&rewrite.pending).context("cannot write the new append only file")?;
            rewrite.bytes += rewrite.pending.len() as u64;
            rewrite.pending.clear();
        }
        if !all {
            return Ok(false);
        }
        let Some(synced) = &rewrite.synced else {
            // The bulk of it by a thread: the loop goes on meanwhile.
            let (tell, synced) = channel();
            let file = rewrite.file.clone();
            thread::spawn(move || tell.send(file.sync_all()));
            rewrite.synced = Some(synced);
            return Ok(false);
        };
        let Ok(result) = synced.try_recv() else { return Ok(false) };
        result.context("cannot sync the new append only file")?;
        // What was added since is little.
        rewrite.file.sync_data().context("cannot sync the new append only file")?;
        std::fs::rename(&rewrite.path, &self.path).context("cannot put the new append only file in its place")?;
        sync_folder(&self.path);
        let rewrite = self.rewrite.take().context("it was just there")?;
        // What the old file did not take stands in the new one.
        self.pending.clear();
        (self.file, self.bytes, self.bytes_after_rewrite) = (rewrite.file, rewrite.bytes, rewrite.bytes);
        (self.failed, self.unsynced) = (None, false);
        self.sync_failed.store(false, Ordering::SeqCst);
        Ok(true)
    }
}

/// A file's name is durable when its folder is.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}
