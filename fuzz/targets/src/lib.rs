//! What is fuzzed. Each target is a function of bytes that must come back: it panics when a rule was broken. The fuzzer runs them for
//! as long as one likes (`fuzz/run.sh`), the tests of this crate run all bytes that were ever worth keeping.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod input;
pub mod packet;
pub mod open;
pub mod flight;
pub mod stage;
pub mod control;
pub mod trailer;
pub mod acts;
pub mod ticket;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the name of their corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("packet", packet::packet),
    ("open", open::open),
    ("flight", flight::flight),
    ("control", control::control),
    ("trailer", trailer::trailer),
    ("acts", acts::acts),
    ("ticket", ticket::ticket),
];
