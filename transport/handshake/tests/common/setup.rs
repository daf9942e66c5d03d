//! Owns what handshakes of tests begin with.

use std::time::Duration;

use handshake::contract::Setup;
use handshake::limits::LIFETIME;
use handshake::params::TransportParams;
use proto::time::Instant;
use wire::ids::SessionId;

use super::{CRYPTO, TODAY};

pub fn params(session: SessionId) -> TransportParams {
    TransportParams {
        session,
        datagram_max: 1452,
        message_max: 1 << 20,
        unscheduled: 60_000,
        layouts: 1,
        shards: 1,
        reset_token: session.as_u64().to_be_bytes().repeat(2).try_into().unwrap(),
        idle: Duration::from_secs(60),
        shows: None,
        demands: None,
    }
}

pub fn setup(session: SessionId, datagram_max: usize, now: Instant) -> Setup {
    Setup { crypto: &CRYPTO, local: params(session), datagram_max, now, unix_seconds: TODAY, lifetime: LIFETIME }
}
