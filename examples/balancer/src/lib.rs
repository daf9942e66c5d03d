//! A balancer on the way between clients and several servers of one name. It holds no keys and links nothing that could use any: it goes by
//! what packets say in clear, session ids and message ids, and touches no byte of them.
//!
//! A new session goes to the server with the fewest messages under way, which it counts by their ids, and stays there: the server's id of
//! the session leads each packet to it, whatever address it comes from. Single messages of a session cannot be spread over servers,
//! because their keys are at one of them; `docs/EVERYDAY.md` says what can be done instead.
//!
//! Nothing that a packet says is proven to it, so it decides nothing that matters: each client's address has a socket of its own towards the
//! servers, and whether a session moves to another address is decided by the server, behind its keys. [P-2.3]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod limits;
mod seen;
mod table;
mod relay;

pub use limits::Limits;
pub use relay::Balancer;
pub use seen::{Backend, Seen};
