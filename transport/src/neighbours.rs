//! Owns the way of what shards of one socket tell each other: a box per shard, which rings like the network. Nothing of a message's way
//! passes here, but for datagrams that the system brought to the wrong shard.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use endpoint::notes::Note;
use udp::batch::{Datagrams, Received, SendError, Transmit};
use udp::caps::Caps;
use udp::mmsg::Mmsg;
use udp::poll::{Set, Wake};

/// Notes that may wait in a box, and their bytes, before datagrams are dropped, as the network might.
const WAITING_MAX: usize = 8192;
const WAITING_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<Note>,
    bytes: usize,
}

/// What other shards have told one.
#[derive(Debug)]
pub(crate) struct Mail {
    notes: Mutex<Waiting>,
    some: AtomicBool,
    wake: Wake,
}

impl Mail {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { notes: Mutex::default(), some: AtomicBool::new(false), wake: Wake::new()? })
    }

    fn post(&self, note: Note) {
        let mut waiting = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let full = waiting.notes.len() >= WAITING_MAX || waiting.bytes >= WAITING_BYTES_MAX;
        if full && note.is_of_stranger() {
            return;
        }
        waiting.bytes += note.kept_bytes();
        waiting.notes.push_back(note);
        drop(waiting);
        // Who finds it set rings for this one as well, or takes it without a ring.
        if !self.some.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    fn take(&self) -> VecDeque<Note> {
        // In this order: what is posted meanwhile is taken now, or rings again.
        self.wake.drain();
        self.some.store(false, Ordering::Release);
        std::mem::take(&mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner)).notes
    }
}

/// The shards beside one, as its driver sees them.
#[derive(Debug)]
pub(crate) struct Neighbours {
    pub(crate) mine: Arc<Mail>,
    /// Of all shards, by number.
    pub(crate) all: Arc<[Arc<Mail>]>,
}

impl Neighbours {
    /// What was told, if anything was.
    pub(crate) fn news(&self) -> Option<VecDeque<Note>> {
        self.mine.some.load(Ordering::Acquire).then(|| self.mine.take())
    }

    pub(crate) fn tell(&self, to: u8, note: Note) {
        if let Some(mail) = self.all.get(usize::from(to)) {
            mail.post(note);
        }
    }
}

/// A shard's socket: its descriptor rings for the shard's mail, too.
#[derive(Debug)]
pub(crate) struct Rung {
    socket: Mmsg,
    set: Set,
}

impl Rung {
    pub(crate) fn new(socket: Mmsg, mail: &Mail) -> io::Result<Self> {
        let set = Set::new()?;
        set.add(socket.fds())?;
        set.add(mail.wake.fd())?;
        Ok(Self { socket, set })
    }
}

impl Datagrams for Rung {
    fn local_addr(&self) -> std::net::SocketAddr {
        self.socket.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.socket.caps()
    }

    #[inline]
    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.socket.transmit(train)
    }

    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        self.socket.receive(into)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.set.fd()
    }

    fn set(&self) -> Option<&Set> {
        Some(&self.set)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn note(at: u64) -> Note {
        Note::Retired { session: wire::ids::SessionId::from_u64(at) }
    }

    /// Whatever is posted while a box is emptied is taken or rings: nothing stays behind silently, and all comes in order.
    #[test]
    fn nothing_is_overheard() {
        const EACH: u64 = 20_000;
        let mail = Arc::new(Mail::new().unwrap());
        let mut senders = Vec::new();
        for sender in 0..3 {
            let mail = Arc::clone(&mail);
            senders.push(std::thread::spawn(move || (0..EACH).for_each(|n| mail.post(note(sender << 32 | n)))));
        }
        let set = Set::new().unwrap();
        set.add(mail.wake.fd()).unwrap();
        let (mut next, mut came) = ([0; 3], 0);
        while came < 3 * EACH {
            assert!(set.wait(Some(Duration::from_secs(20))).unwrap(), "{came} came, and then silence");
            for note in mail.take() {
                let Note::Retired { session } = note else { panic!("{note:?}") };
                let (sender, n) = (session.as_u64() >> 32, session.as_u64() & 0xffff_ffff);
                assert_eq!(std::mem::replace(&mut next[sender as usize], n + 1), n);
                came += 1;
            }
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }

    /// A shard that takes nothing makes nobody keep datagrams without end; what must be told is kept.
    #[test]
    fn a_full_box() {
        let mail = Mail::new().unwrap();
        let from = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        (0..2 * WAITING_MAX).for_each(|_| mail.post(Note::Datagram { from, bytes: vec![1] }));
        mail.post(note(1));
        assert_eq!(mail.take().len(), WAITING_MAX + 1);
        (0..WAITING_MAX).for_each(|_| mail.post(Note::Datagram { from, bytes: vec![1; 1 << 16] }));
        mail.post(note(1));
        assert_eq!(mail.take().len(), WAITING_BYTES_MAX / (1 << 16) + 1);
    }
}
