//! Owns how a socket is bound that has several shards: a port for all of them, an endpoint for each, and its part of what is limited.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use endpoint::config::{Config, Shard};
use endpoint::endpoint::Endpoint;
use udp::backend::Backend;
use udp::batch::Datagrams;
use udp::mmsg::{Mmsg, Options};
use udp::steering::Rule;
use wire::lanes::{LANE_TYPE_MAX, RECEIVER_AT, TYPE_AT};

use super::rare::Choices;
use super::{Builder, Ready};
use crate::config::Wait;
use crate::error::Error;
use crate::link::{Link, LinkRate};
use crate::neighbours::{Mail, Neighbours, Rung};
use crate::offloading::Offload;
use crate::socket::Socket;
use crate::waiting::Shared;

/// What the kernel steers by. [P-9.1]
const RULE: Rule = Rule { type_at: TYPE_AT as u32, type_max: LANE_TYPE_MAX, receiver_at: RECEIVER_AT as u32 };

impl Builder<Ready> {
    /// How many shards the socket has, 1 to 256: each is a socket of its own on the same port with its own lock, for a thread each, so
    /// that one socket uses many cores. Messages of one peer are spread over the shards of both ends. Default 1.
    ///
    /// Costs: a helper thread and the buffers of a socket for each; what a session takes once more for each pair of shards that it is
    /// used in, with keys of their own, which change by themselves; and for one peer that most is exchanged with, the
    /// connected socket that one shard would have, a tenth of a small round trip. What is limited (`send_bytes_max` and the like) is
    /// shared out among the shards in equal parts. Asynchronous sockets have one shard.
    #[must_use]
    pub fn shards(mut self, count: u16) -> Self {
        self.knobs.shards = count;
        self
    }
}

/// Why a socket cannot have so many shards, in words.
pub(super) fn check(count: u16, has_wrap: bool, rare: &Choices) -> Result<(), String> {
    let several = count > 1;
    if !(1..=wire::limits::SHARDS_MAX).contains(&count) || several && has_wrap {
        return Err(format!("{count} shards cannot work: from 1 to 256, and 1 with something in between"));
    }
    // Which shard a packet is for is found out by the kernel's sockets.
    if several && !matches!(rare.backend, Backend::Auto | Backend::Mmsg) {
        let (asked, works) = (rare.backend, Backend::Mmsg);
        return Err(format!("{count} shards cannot work with the backend {asked}, only with {works}"));
    }
    if several && !matches!(rare.offload, Offload::Off) {
        return Err(format!("{count} shards cannot share a card that seals: one shard, or no offload"));
    }
    Ok(())
}

/// Sockets for so many shards, and where the news of each go.
pub(super) struct Spread {
    sockets: std::vec::IntoIter<Mmsg>,
    mails: Arc<[Arc<Mail>]>,
}

impl Spread {
    pub(super) fn bind(address: SocketAddr, options: &Options, count: u16) -> io::Result<Self> {
        let group = udp::steering::bind(address, options, count, &RULE)?;
        let mails = (0..count).map(|_| Mail::new().map(Arc::new)).collect::<io::Result<_>>()?;
        Ok(Self { sockets: group.sockets.into_iter(), mails })
    }

    /// The socket of shard `number`: they are taken in order.
    pub(super) fn socket(&mut self, number: usize) -> io::Result<Box<dyn Datagrams>> {
        let socket = self.sockets.next().expect("there is one for each shard");
        Ok(Box::new(Rung::new(socket, &self.mails[number])?))
    }

    fn neighbours(&self, number: usize) -> Neighbours {
        Neighbours { mine: Arc::clone(&self.mails[number]), all: Arc::clone(&self.mails) }
    }

    /// The shards but the first, which is there and gets to know them.
    pub(super) fn others(
        mut self,
        first: &Arc<Shared>,
        config: &Config,
        knobs: (Wait, bool, bool),
    ) -> Result<Vec<Socket>, Error> {
        let (wait, helper, marks) = knobs;
        let (clock, caps) = {
            let mut core = first.lock();
            core.neighbours = Some(self.neighbours(0));
            (core.clock.clone(), core.udp.caps().clone())
        };
        let mut others = Vec::new();
        for number in 1..self.mails.len() {
            let mut config = config.clone();
            config.shard.number = number as u8;
            // The first has the handshakes, and what they need.
            config.attest = endpoint::evidence::Attest::default();
            #[cfg(feature = "aws-lc")]
            {
                (config.client, config.server) = (None, None);
            }
            let udp = self.socket(number).map_err(Error::system("cannot watch the socket"))?;
            let shared = Shared::new(endpoint(config), udp, wait, helper)?;
            {
                let mut core = shared.lock();
                (core.marks, core.clock, core.neighbours) = (marks, clock.clone(), Some(self.neighbours(number)));
            }
            let link = Link::new(LinkRate::NotPaced, udp::links::Links::default());
            others.push(Socket::over(shared, Vec::new(), None, link, caps.clone()));
        }
        Ok(others)
    }
}

/// The part of each shard. What is limited is limited for all together, and a part is never less than a message.
pub(super) fn share(mut config: Config, count: u16) -> Config {
    let part = |whole: u64, least: u64| (whole / u64::from(count)).max(least.min(whole));
    let message = u64::from(config.proto.message_bytes_max);
    config.shard = Shard { number: 0, count };
    config.send_bytes_max = part(config.send_bytes_max, message);
    config.peer_send_bytes_max = part(config.peer_send_bytes_max, message);
    let proto = &mut config.proto;
    proto.buffered_bytes_max = part(proto.buffered_bytes_max, message);
    proto.buffered_bytes_per_host_max = part(proto.buffered_bytes_per_host_max, message);
    proto.buffered_bytes_per_peer_max = part(proto.buffered_bytes_per_peer_max, message);
    proto.incoming_bytes_max = part(proto.incoming_bytes_max, 2 * u64::from(proto.unscheduled_bytes));
    config
}

/// The endpoint of one shard.
pub(super) fn endpoint(config: Config) -> Endpoint {
    // Without a source of randomness nothing here is safe: there is nothing to fall back to.
    let entropy = Box::new(|bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives randomness"));
    Endpoint::new(config, entropy)
}
