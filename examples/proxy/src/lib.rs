//! TCP connections of programs that know nothing of it, carried over Sealane: an [`Entrance`] accepts them, an [`Exit`] connects to where
//! they are meant to go. Both ends are proxies; what runs between them is encrypted, authenticated, and shares one session.
//!
//! Everything is a request of the entrance's, so that it needs no door of its own: bytes towards the exit are pushed, each push is answered
//! once they are written there; bytes back are pulled, a few pulls ahead. A side that stalls therefore stalls its own connection and no other,
//! and no more than a window of it is ever held. Half-closes and resets are carried as what they are.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod limits;
mod tally;
mod frame;
mod tcp;
mod entrance;
mod carried;
mod exit;

pub use entrance::Entrance;
pub use exit::Exit;
pub use limits::Limits;
pub use tally::{Counts, Tally};
