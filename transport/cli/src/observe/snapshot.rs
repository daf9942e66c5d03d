//! Owns what `/info.json` says: a socket's [`Info`] in names and numbers. Long lists are cut, and say how long they are.

use sealane::{CallInfo, Info, SessionInfo};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

/// Sessions and RPCs that are listed; those with most under way come first.
const LISTED: usize = 64;

/// What a socket did up to now.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) addr: String,
    pub(crate) engine: String,
    pub(crate) backend: String,
    pub(crate) offload: String,
    pub(crate) link_bits_per_second: Option<u64>,
    pub(crate) held_bytes: u64,
    pub(crate) buffered_bytes: u64,
    pub(crate) incoming_bytes: u64,
    pub(crate) ungranted_bytes: u64,
    pub(crate) waiting: usize,
    pub(crate) sessions: usize,
    pub(crate) sessions_open: usize,
    pub(crate) sessions_resting: usize,
    pub(crate) rpcs: usize,
    pub(crate) sent_bytes_by_priority: Vec<u64>,
    pub(crate) segments_sent: u64,
    pub(crate) segments_received: u64,
    pub(crate) oversized: u64,
    pub(crate) unsent: u64,
    pub(crate) counters: BTreeMap<String, u64>,
    pub(crate) busiest_sessions: Vec<Session>,
    pub(crate) largest_rpcs: Vec<Rpc>,
}

/// One session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) identity: String,
    pub(crate) open: bool,
    pub(crate) cipher: String,
    pub(crate) rtt_us: Option<f64>,
    /// Open RPCs with that peer.
    pub(crate) rpcs: u64,
}

/// One RPC: bytes of the message that we send, and of the one that we receive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rpc {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) state: String,
    pub(crate) out_sent: u32,
    pub(crate) out_granted: u32,
    pub(crate) out_length: u32,
    pub(crate) in_received: u32,
    pub(crate) in_granted: u32,
    pub(crate) in_length: u32,
}

/// One line of JSON.
pub(crate) fn of(info: &Info) -> String {
    serde_json::to_string(&Snapshot::from(info)).expect("names and numbers can be written")
}

impl From<&Info> for Snapshot {
    fn from(info: &Info) -> Self {
        let mut within = HashMap::new();
        info.rpcs.iter().for_each(|call| *within.entry(call.id.session).or_insert(0) += 1);
        let under_way = |session: &SessionInfo| within.get(&session.id).copied().unwrap_or(0);
        let mut sessions: Vec<&SessionInfo> = info.sessions.iter().collect();
        sessions.sort_by_key(|session| Reverse(under_way(session)));
        let mut calls: Vec<&CallInfo> = info.rpcs.iter().collect();
        calls.sort_by_key(|call| Reverse(u64::from(call.rpc.out_length) + u64::from(call.rpc.in_length)));
        Self {
            addr: info.local_addr.to_string(),
            engine: info.engine.to_owned(),
            backend: info.caps.to_string(),
            offload: info.offload.clone(),
            link_bits_per_second: info.link_rate.bits_per_second(),
            held_bytes: info.held_bytes,
            buffered_bytes: info.buffered_bytes,
            incoming_bytes: info.incoming_bytes,
            ungranted_bytes: info.ungranted_bytes(),
            waiting: info.waiting,
            sessions: info.sessions.len(),
            sessions_open: info.sessions.iter().filter(|session| session.open).count(),
            sessions_resting: info.sessions_resting,
            rpcs: info.rpcs.len(),
            sent_bytes_by_priority: info.sent_bytes.to_vec(),
            segments_sent: info.segments_sent,
            segments_received: info.segments_received,
            oversized: info.oversized,
            unsent: info.unsent,
            counters: info.counters.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            busiest_sessions: sessions.iter().take(LISTED).map(|session| listed(session, under_way(session))).collect(),
            largest_rpcs: calls.iter().take(LISTED).map(|call| Rpc::from(*call)).collect(),
        }
    }
}

fn listed(session: &SessionInfo, rpcs: u64) -> Session {
    Session {
        id: format!("{:?}", session.id),
        address: session.origin.address.to_string(),
        identity: session.origin.identity.to_string(),
        open: session.open,
        cipher: session.cipher.to_string(),
        rtt_us: session.rtt.map(|rtt| (rtt.as_secs_f64() * 1e7).round() / 10.0),
        rpcs,
    }
}

impl From<&CallInfo> for Rpc {
    fn from(call: &CallInfo) -> Self {
        let rpc = &call.rpc;
        Self {
            id: format!("{:?}:{:?}", call.id.session, rpc.rpc),
            address: call.address.to_string(),
            state: format!("{:?}", rpc.state).to_lowercase(),
            out_sent: rpc.out_sent,
            out_granted: rpc.out_granted,
            out_length: rpc.out_length,
            in_received: rpc.in_received,
            in_granted: rpc.in_granted,
            in_length: rpc.in_length,
        }
    }
}
