//! Owns published tickets as applications see them, and where clients find those of their servers. What a ticket gives, and what it
//! does not, is in SECURITY.md.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use handshake::published::{Damage as TicketDamage, Invalid as InvalidTicket, TicketId};

/// A published ticket: a public key of one server process, signed by the server's certificate, for an hour at most. It is public. As it
/// is read it is believed in nothing; [`Ticket::verify`] judges it, and a socket does so before it uses one.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket(pub(crate) handshake::published::Ticket);

impl Ticket {
    /// Reads the one ticket in a text ("BEGIN SEALANE TICKET"); what stands around it is not read.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn from_text(text: &str) -> Result<Self, TicketDamage> {
        handshake::published::Ticket::from_text(text).map(Self)
    }

    /// As text, for files.
    pub fn to_text(&self) -> String {
        self.0.to_text()
    }

    /// Reads a ticket out of the strings of one DNS TXT record; `None` when the record is of something else.
    pub fn from_txt<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Option<Result<Self, TicketDamage>> {
        handshake::published::Ticket::from_txt(strings).map(|ticket| ticket.map(Self))
    }

    /// As the strings of one DNS TXT record, of at most 255 bytes each.
    pub fn to_txt(&self) -> Vec<String> {
        self.0.to_txt()
    }

    /// Its public name: the beginning of its SHA-256.
    pub fn id(&self) -> TicketId {
        self.0.id()
    }

    /// From when it says to be valid, in seconds since 1970.
    pub const fn not_before(&self) -> u64 {
        self.0.not_before()
    }

    /// Until when, in seconds since 1970.
    pub const fn not_after(&self) -> u64 {
        self.0.not_after()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a client finds the tickets of its servers. It is asked whenever a session is to begin with an early call, on the thread of that
/// call (in [`crate::AsyncSocket`], on one that may block); whoever can write there can make a client do without a ticket, and no more.
pub trait TicketSource: Send + Sync {
    /// The ticket of the server whose certificate must say `name`, if there is one.
    fn ticket(&self, name: &str) -> Option<Ticket>;
}

impl<F: Fn(&str) -> Option<Ticket> + Send + Sync> TicketSource for F {
    fn ticket(&self, name: &str) -> Option<Ticket> {
        self(name)
    }
}

/// Tickets in files: one file for all names, or a folder in which each name has its own, `NAME.ticket`. They are read anew each time.
#[derive(Clone, Debug)]
pub struct TicketFiles(PathBuf);

impl TicketFiles {
    /// A file, or a folder.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self(path.as_ref().to_owned())
    }
}

impl TicketSource for TicketFiles {
    fn ticket(&self, name: &str) -> Option<Ticket> {
        let path = if self.0.is_dir() {
            // A name is never a way out of the folder.
            let plain = !name.starts_with('.') && !name.contains(['/', '\0']);
            self.0.join(format!("{}.ticket", plain.then_some(name)?))
        } else {
            self.0.clone()
        };
        let mut text = String::new();
        let most = handshake::published::TEXT_MAX as u64 + 1;
        let read = fs::File::open(&path).and_then(|file| file.take(most).read_to_string(&mut text));
        let ticket = match read {
            Ok(_) => Ticket::from_text(&text).map_err(|damage| damage.to_string()),
            Err(error) => Err(error.to_string()),
        };
        ticket.inspect_err(|why| tracing::debug!(path = %path.display(), why, "no ticket")).ok()
    }
}
