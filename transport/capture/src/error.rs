//! Owns what can be wrong with what a user gives: each names the thing and where it is.

use std::path::PathBuf;

/// Why a capture, a key log or a truth cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused a file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// Reading failed midway.
    #[error("the capture could not be read: {0}")]
    Read(#[from] std::io::Error),
    /// The first four bytes are those of no capture.
    #[error("not a capture: it begins with {0:02x?}, neither a pcap nor a pcapng file does")]
    NotACapture(Vec<u8>),
    /// It ends in the middle.
    #[error("the capture is truncated: it ends at byte {at}, in the middle of {what}")]
    Truncated {
        /// How many bytes there are.
        at: u64,
        /// What should stand there.
        what: &'static str,
    },
    /// A field says what cannot be.
    #[error("the capture is damaged: {what} at byte {at}")]
    Damaged {
        /// Where the header or block begins.
        at: u64,
        /// What cannot be.
        what: &'static str,
    },
    /// A kind of link that is not read.
    #[error(
        "link type {0} is not read: only Ethernet (1), raw IP (12, 14, 101, 228, 229), null and loopback (0, 108) and Linux cooked (113, 276) are"
    )]
    LinkType(u32),
    /// A line of a key log.
    #[error("key log, line {line}: {what}")]
    KeyLogLine {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A key log without any secret of ours.
    #[error("the key log has no line that begins with {}", handshake::keylog::SESSION_LABEL)]
    KeyLogEmpty,
    /// A truth that is none.
    #[error("the truth file is none: {0}")]
    Truth(serde_json::Error),
    /// A truth of another capture.
    #[error("the truth file is of another capture: its first packet is {theirs}, that of this capture is {ours}")]
    OtherCapture {
        /// Digest in the truth.
        theirs: String,
        /// Digest of what was read.
        ours: String,
    },
    /// What was asked of the generator cannot be.
    #[error("{0}")]
    Plan(String),
    /// A database that somebody else made.
    #[error("{} is a database of something else; nothing was changed in it", .0.display())]
    ForeignDatabase(PathBuf),
    /// The database.
    #[error("the database: {0}")]
    Database(#[from] rusqlite::Error),
}
