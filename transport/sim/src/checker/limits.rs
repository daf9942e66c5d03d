//! Owns invariants 5 and 7: what an endpoint holds and what it granted stays below what its configuration says, whatever peers do.

use endpoint::config::Config;
use endpoint::endpoint::Endpoint;
use endpoint::info::Holdings;
use proto::peer::FRAMES_MAX;

/// Frames of sessions that may wait: answers to path challenges, and for each session DONE, RENEW, CLOSE.
const NOTICES_MAX: usize = 1024;
const NOTICES_PER_SESSION: usize = 3;
/// Questions to peers that may have moved, that may wait.
const QUESTIONS_MAX: usize = 256;
/// Answers to strangers that may wait.
const STRANGERS_MAX: usize = 64;
/// Acknowledgements that may wait for a ride.
const ACKS_MAX: usize = proto::peer::ACKS_OWED_MAX;

/// The largest record of data that anybody sends: what may be granted when the budget is smaller.
const RECORD_MAX: u64 = wire::limits::RECORD_PAYLOAD_MAX as u64;

/// The most that was ever held, in thousandths of what may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Granted and not received, of the budget.
    pub granted: u64,
    /// Buffered bytes of incoming messages.
    pub buffered: u64,
    /// Bytes of our messages.
    pub held: u64,
    /// RPCs that one peer has open here.
    pub rpcs_of_peer: u64,
    /// Handshakes that others began.
    pub accepting: u64,
}

impl Peaks {
    /// The greater of both, of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            granted: self.granted.max(other.granted),
            buffered: self.buffered.max(other.buffered),
            held: self.held.max(other.held),
            rpcs_of_peer: self.rpcs_of_peer.max(other.rpcs_of_peer),
            accepting: self.accepting.max(other.accepting),
        }
    }
}

const fn part(is: u64, most: u64) -> u64 {
    if most == 0 { 0 } else { (is as u128 * 1000 / most as u128) as u64 }
}

/// Whether all is below its cap, as far as that costs nothing to find out.
///
/// # Errors
/// What is not, with the invariant's number.
pub fn totals(is: &Holdings, config: &Config, peaks: &mut Peaks) -> Result<(), (u8, String)> {
    let proto = &config.proto;
    let granted_max = proto.incoming_bytes_max.max(RECORD_MAX);
    peaks.granted = peaks.granted.max(part(is.machine.incoming_bytes, granted_max));
    peaks.buffered = peaks.buffered.max(part(is.machine.buffered_bytes, proto.buffered_bytes_max));
    peaks.held = peaks.held.max(part(is.held_bytes, held_max(config)));
    peaks.accepting = peaks.accepting.max(part(is.accepting as u64, config.handshakes_max as u64));
    let checks = [
        (5, "bytes granted and not received", is.machine.incoming_bytes, granted_max),
        (7, "bytes buffered", is.machine.buffered_bytes, proto.buffered_bytes_max),
        (7, "bytes kept free", is.machine.kept_bytes, proto.buffered_bytes_max),
        (7, "bytes held", is.held_bytes, held_max(config)),
        (7, "sessions", is.sessions as u64, config.sessions_max as u64),
        (7, "handshakes that others began", is.accepting as u64, config.handshakes_max as u64),
        (7, "messages that wait for room", is.machine.waiting as u64, proto.waiting_max as u64),
        (7, "frames of sessions", is.notices as u64, (NOTICES_MAX + NOTICES_PER_SESSION * is.sessions) as u64),
        (7, "peers that may have moved", is.moving.0 as u64, is.sessions as u64),
        (7, "questions about moves", is.moving.1 as u64, QUESTIONS_MAX as u64),
        (7, "answers to strangers", is.strangers as u64, STRANGERS_MAX as u64),
    ];
    judge(&checks)
}

/// One message is always taken, however long.
fn held_max(config: &Config) -> u64 {
    config.send_bytes_max.max(config.proto.message_bytes_max.into())
}

/// The same for what is held for each peer, and that totals are the sums of their parts: looks at everything.
///
/// # Errors
/// What is not, with the invariant's number.
pub fn everything(endpoint: &Endpoint, config: &Config, peaks: &mut Peaks) -> Result<(), (u8, String)> {
    let (is, most, proto) = (endpoint.holdings(), endpoint.peer_holdings(), &config.proto);
    totals(&is, config, peaks)?;
    peaks.rpcs_of_peer = peaks.rpcs_of_peer.max(part(most.rpcs.into(), proto.rpcs_per_peer_max.into()));
    judge(&[
        (7, "RPCs that a peer began", most.rpcs.into(), proto.rpcs_per_peer_max.into()),
        (7, "bytes buffered of a peer", most.buffered_bytes, proto.buffered_bytes_per_peer_max),
        (7, "bytes buffered of a host", most.host_buffered_bytes, proto.buffered_bytes_per_host_max),
        (7, "frames to a peer", most.frames as u64, FRAMES_MAX as u64),
        (7, "acknowledgements to a peer", most.acks as u64, ACKS_MAX as u64),
        (7, "gaps in what a peer finished", most.gaps as u64, proto.intervals_max as u64),
    ])?;
    let calls = endpoint.calls();
    let sum = |of: &dyn Fn(&proto::io::RpcInfo) -> u32| calls.iter().map(|call| u64::from(of(&call.rpc))).sum::<u64>();
    let coming = sum(&|rpc| rpc.in_length);
    if coming != is.machine.buffered_bytes {
        return Err((7, format!("{} bytes count as buffered; there are {coming}", is.machine.buffered_bytes)));
    }
    // What waits for a handshake is held as well and is no RPC yet, so there may be more.
    let going = sum(&|rpc| rpc.out_length);
    if going > is.held_bytes {
        return Err((7, format!("{} bytes count as held; there are {going}", is.held_bytes)));
    }
    // An RPC holds no more granted bytes than it has bytes that have not come.
    if let Some(call) = calls.iter().find(|call| call.rpc.in_received > call.rpc.in_granted) {
        return Err((5, format!("{:?}: more was taken than granted: {:?}", call.id, call.rpc)));
    }
    let outstanding = sum(&|rpc| rpc.in_granted - rpc.in_received);
    if outstanding < is.machine.incoming_bytes {
        return Err((5, format!("{} bytes count as granted; there are {outstanding}", is.machine.incoming_bytes)));
    }
    Ok(())
}

/// Nothing of any call is left.
///
/// # Errors
/// What is, with the invariant's number.
pub fn nothing_left(endpoint: &Endpoint) -> Result<(), (u8, String)> {
    let is = endpoint.holdings();
    if let Some(call) = endpoint.calls().first() {
        return Err((6, format!("{} RPCs never end; one is {call:?}", is.machine.rpcs)));
    }
    judge(&[
        (7, "bytes held for nothing", is.held_bytes, 0),
        (7, "bytes buffered for nothing", is.machine.buffered_bytes, 0),
        (7, "bytes kept for nothing", is.machine.kept_bytes, 0),
        (5, "bytes granted for nothing", is.machine.incoming_bytes, 0),
        (7, "handshakes for nothing", is.accepting as u64, 0),
    ])
}

fn judge(checks: &[(u8, &str, u64, u64)]) -> Result<(), (u8, String)> {
    match checks.iter().find(|(_, _, is, most)| is > most) {
        Some((invariant, what, is, most)) => Err((*invariant, format!("{what}: {is}, and at most {most} may be"))),
        None => Ok(()),
    }
}
