//! Owns what a socket tells about itself.

use std::fmt;
use std::net::SocketAddr;

use endpoint::counters::Counters;
use endpoint::info::{CallInfo, SessionInfo};
use udp::caps::Caps;

use crate::config::PRIORITIES;
use crate::link::LinkRate;

/// A snapshot of a socket: what it does now, and what it has counted.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Where it is bound.
    pub local_addr: SocketAddr,
    /// What moves its datagrams, what was asked for if that cannot be had, and what the kernel does for it.
    pub caps: Caps,
    /// What our link carries, by which datagrams are held back.
    pub link_rate: LinkRate,
    /// The record engine.
    pub engine: &'static str,
    /// What came of the wish for a network card that seals; see [`crate::Offload`].
    pub offload: String,
    /// Bytes of messages held until their receivers acknowledged them.
    pub held_bytes: u64,
    /// Bytes of incoming messages that are buffered.
    pub buffered_bytes: u64,
    /// Bytes that peers were granted, or may send without, and that have not arrived.
    pub incoming_bytes: u64,
    /// Incoming messages that wait for room.
    pub waiting: usize,
    /// Open RPCs.
    pub rpcs: Vec<CallInfo>,
    /// Sessions.
    pub sessions: Vec<SessionInfo>,
    /// How many of them are at rest.
    pub sessions_resting: usize,
    /// Packets and drops by reason, since the socket was bound.
    pub counters: Counters,
    /// Datagrams too large for the way to their receiver, or for us.
    pub oversized: u64,
    /// Datagrams that the kernel refused to send.
    pub unsent: u64,
    /// Segments sent: packets that were handed to the kernel at once.
    pub segments_sent: u64,
    /// Segments received: packets that came from the kernel at once.
    pub segments_received: u64,
    /// Bytes of datagrams handed to the kernel, by priority: 0 goes last, 7 first.
    pub sent_bytes: [u64; PRIORITIES],
}

impl Info {
    /// Bytes of our messages that wait for their receivers' grants.
    pub fn ungranted_bytes(&self) -> u64 {
        self.rpcs.iter().map(|call| u64::from(call.rpc.out_length.saturating_sub(call.rpc.out_granted))).sum()
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, records by {}", self.local_addr, self.engine)?;
        if self.offload != "off" {
            writeln!(f, "offload: {}", self.offload)?;
        }
        writeln!(f, "{}", self.caps)?;
        writeln!(f, "link rate {}", self.link_rate)?;
        writeln!(f, "{} bytes held for sending", self.held_bytes)?;
        for session in &self.sessions {
            let state = if session.open { "open" } else { "handshake" };
            let (address, identity) = (session.origin.address, &session.origin.identity);
            write!(f, "session {:?} with {address} ({identity}): {state}, {}", session.id, session.cipher)?;
            if let Some(exchange) = session.exchange {
                write!(f, ", {exchange}{}", if session.resumed { ", resumed" } else { "" })?;
            }
            if let Some(report) = &session.origin.report {
                write!(f, ", {} evidence", report.format)?;
                report.measurements.iter().try_for_each(|measured| write!(f, " {measured}"))?;
            }
            writeln!(f)?;
        }
        for call in &self.rpcs {
            let rpc = &call.rpc;
            writeln!(
                f,
                "rpc {:?} with {}: {:?}, out {}/{}/{} (sent/granted/length), in {}/{}/{} (received/granted/length)",
                rpc.rpc,
                call.address,
                rpc.state,
                rpc.out_sent,
                rpc.out_granted,
                rpc.out_length,
                rpc.in_received,
                rpc.in_granted,
                rpc.in_length
            )?;
        }
        writeln!(f, "segments_sent {}\nsegments_received {}", self.segments_sent, self.segments_received)?;
        for (name, value) in self.counters.iter().filter(|(_, value)| *value > 0) {
            writeln!(f, "{name} {value}")?;
        }
        Ok(())
    }
}
