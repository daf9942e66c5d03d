//! Owns hosts with several shards: which shard gets what arrives, and that they hear of each other. A shard is an endpoint of its own; what
//! they tell each other is carried at once, in order.

use endpoint::endpoint::{Endpoint, Sending};
use endpoint::error::Misuse;
use endpoint::pool::Payload;
use endpoint::session::CallId;
use proto::time::Instant;
use wire::lanes::receiver;
use wire::trailer::Kind;

use super::World;
use crate::hooks::Hooks;
use crate::host::Host;
use crate::rng::Rng;

/// One datagram in so many comes out at a shard that it is not for, where there are several.
const ASTRAY_EVERY: u64 = 16;

impl Host {
    /// All shards of a host that is up, by number.
    pub fn shards(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoint.iter().chain(&self.more)
    }

    pub(super) fn shard(&mut self, number: usize) -> Option<&mut Endpoint> {
        match number {
            0 => self.endpoint.as_mut(),
            number => self.more.get_mut(number - 1),
        }
    }

    /// When any of them wants to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.shards().filter_map(Endpoint::timeout).min()
    }

    /// What any of them has to send.
    pub(super) fn next_train(&mut self, local: Instant, out: &mut [u8]) -> Option<endpoint::egress::Transmit> {
        let first = self.endpoint.as_mut()?.poll_transmit(local, out);
        first.or_else(|| self.more.iter_mut().find_map(|shard| shard.poll_transmit(local, out)))
    }
}

impl<H: Hooks> World<H> {
    /// The shards of a host but the first, which was just made.
    pub(super) fn start_others(&mut self, host: u32) {
        let at = &mut self.hosts[host as usize];
        let count = at.endpoint.as_ref().map_or(1, |endpoint| endpoint.config().shard.count);
        for number in 1..count {
            let mut config = (self.spec.config)(host);
            config.shard.number = number as u8;
            let lives = 2 + u64::from(at.lives);
            let mut rng = Rng::new(self.spec.seed, u64::from(number) << 48 | lives << 32 | u64::from(host));
            at.more.push(Endpoint::new(config, Box::new(move |bytes: &mut [u8]| rng.fill(bytes))));
        }
    }

    /// Which shard of `host` a frame comes out at.
    pub(super) fn arrives_at(&mut self, host: u32, frame: u32) -> usize {
        let count = 1 + self.hosts[host as usize].more.len();
        if count == 1 {
            return 0;
        }
        if self.spray.below(ASTRAY_EVERY) == 0 {
            return self.spray.below(count as u64) as usize;
        }
        usize::from(receiver(&self.frames.get(frame).bytes)) % count
    }

    /// A shard of `from` sends a message; as [`World::send`].
    ///
    /// # Errors
    /// As there; [`Misuse::Elsewhere`] before the first shard has opened a session.
    pub fn send_from(
        &mut self,
        (from, shard): (u32, usize),
        to: u32,
        kind: Kind,
        body: Payload,
    ) -> Result<CallId, Misuse> {
        let host = &mut self.hosts[from as usize];
        let (local, way) = (host.local(self.now), host.way(to));
        let (Some(endpoint), Some(way)) = (host.shard(shard), way) else { return Err(Misuse::NoSession) };
        let sending = Sending { kind, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
        let sent = endpoint.send(local, way, body, sending);
        self.settle(from);
        sent
    }

    /// The shards of a host were told something: until none has anything to tell another, or its user.
    pub(super) fn settle_shards(&mut self, at: u32) {
        let host = &mut self.hosts[at as usize];
        let local = host.local(self.now);
        loop {
            let mut quiet = true;
            for number in 0..=host.more.len() {
                let Some(endpoint) = host.shard(number) else { return };
                let mut notes = Vec::new();
                loop {
                    while let Some(event) = endpoint.poll_event() {
                        self.trace.event(self.now, at, &event);
                        self.hooks.event(self.now, at, endpoint, local, event);
                    }
                    notes.extend(core::iter::from_fn(|| endpoint.poll_note()));
                    if endpoint.timeout().is_none_or(|due| due > local) {
                        break;
                    }
                    endpoint.handle_timeout(local);
                }
                for (to, note) in notes {
                    quiet = false;
                    if let Some(endpoint) = host.shard(usize::from(to)) {
                        endpoint.take_note(local, note);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }
}
