//! Owns what two audited hosts say to each other, and what the wire between them does: messages in both directions, as many under way as
//! fit, some of them long, some stuck for several epochs; losses, doubles and packets that overtake.

use endpoint::endpoint::{Endpoint, Sending, To};
use endpoint::events::Event;
use endpoint::pool::{Body, Payload};
use proto::time::Instant;
use wire::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN, RECORD_HEADER_LEN};
use wire::slice::{part_at, slice_at};
use wire::trailer::Kind;

use super::cipher;
use crate::clock::{Time, US};
use crate::hooks::{Hooks, Verdict};
use crate::link::Frame;
use crate::rng::Rng;
use crate::wiretap::EPOCH_AT;

/// Messages of one host that are under way at once.
const WINDOW: u64 = 96;
/// Bytes of most messages, and of one in [`LONG_EVERY`].
const SHORT: usize = 64;
const LONG: usize = 12_000;
const LONG_EVERY: u64 = 4096;
/// Of so many messages one is a request; the others are one-way.
const REQUEST_EVERY: u64 = 8;
/// Of the first messages of a life, one in so many is stuck until the sender has begun this epoch.
const STUCK_EVERY: u64 = 251;
const STUCK_AMONG: u64 = 2000;
const STUCK_UNTIL: u64 = 5;

/// Most shards of a host here.
pub(super) const SHARDS_MAX: usize = 3;
/// Messages that one event begins at most where there are several shards, so that all of them have some.
const AT_ONCE_OF_SHARDS: u64 = 3;

/// The client of the pair, and its server.
pub(super) const CLIENT: u32 = 0;
/// See [`CLIENT`].
pub(super) const SERVER: u32 = 1;

/// One host's part.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    /// How each shard reaches the other, once that is known.
    ways: [Option<To>; SHARDS_MAX],
    /// Messages that may still be begun, in this life.
    left: u64,
    open: u64,
    /// The latest epoch that it sealed in.
    epoch: u64,
}

/// Both hosts' parts, and the wire's.
#[derive(Debug)]
pub(super) struct Load {
    rng: Rng,
    parts: [Part; 2],
    /// Nobody begins anything, until all that is under way has come to its end and the sessions rest.
    pub(super) pauses: bool,
    /// Told apart, so that no two messages are alike.
    salt: u64,
    begun: u64,
    /// Messages that were begun, responses included.
    pub(super) messages: u64,
    /// Frames that the wire lost.
    pub(super) lost: u64,
    /// Sealed packets on the wire that no cipher sealed.
    pub(super) unaccounted: u64,
}

impl Load {
    pub(super) fn new(rng: Rng, salt: u64) -> Self {
        Self { rng, parts: [Part::default(); 2], pauses: false, salt, begun: 0, messages: 0, lost: 0, unaccounted: 0 }
    }

    /// A life begins, in which each host begins so many messages; the client knows how to reach the server.
    pub(super) fn live(&mut self, messages: u64, way: Option<To>) {
        self.parts = [Part { left: messages, ..Part::default() }; 2];
        self.parts[CLIENT as usize].ways = [way; SHARDS_MAX];
    }

    /// Whether a host has something to say and nothing under way: its first message gets it going.
    pub(super) fn idles(&mut self, host: u32) -> Option<Payload> {
        let part = &mut self.parts[host as usize];
        if part.open > 0 || self.pauses { None } else { self.another(host) }
    }

    /// One more message of a host, if it has any left.
    pub(super) fn another(&mut self, host: u32) -> Option<Payload> {
        let part = &mut self.parts[host as usize];
        if part.left == 0 {
            return None;
        }
        (part.left, part.open) = (part.left - 1, part.open + 1);
        self.messages += 1;
        Some(Payload::from(self.body().to_vec()))
    }

    /// That message was not taken.
    pub(super) fn not_taken(&mut self, host: u32) {
        let part = &mut self.parts[host as usize];
        (part.left, part.open) = (part.left + 1, part.open - 1);
        self.messages -= 1;
    }

    /// Messages that are not begun yet or not finished.
    pub(super) fn left(&self) -> u64 {
        self.parts.iter().map(|part| part.left + part.open).sum()
    }

    fn body(&mut self) -> [u8; SHORT] {
        self.begun += 1;
        let mut bytes = [0; SHORT];
        bytes[..8].copy_from_slice(&self.begun.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes
    }

    fn copied(&mut self, endpoint: &mut Endpoint) -> Body {
        let bytes = self.body();
        if !self.begun.is_multiple_of(LONG_EVERY) {
            return endpoint.copy(&bytes);
        }
        let mut long = vec![0; LONG];
        long.chunks_mut(SHORT).for_each(|chunk| chunk.copy_from_slice(&bytes[..chunk.len()]));
        endpoint.copy(&long)
    }

    /// Begins as many messages as fit.
    fn fill(&mut self, host: u32, endpoint: &mut Endpoint, local: Instant) {
        let part = self.parts[host as usize];
        let shard = endpoint.config().shard;
        let Some(to) = part.ways[usize::from(shard.number)].filter(|_| !self.pauses) else { return };
        let most = if shard.count == 1 { WINDOW } else { AT_ONCE_OF_SHARDS };
        for n in 0..part.left.min(WINDOW.saturating_sub(part.open)).min(most) {
            let kind = if (self.begun + n).is_multiple_of(REQUEST_EVERY) { Kind::Request } else { Kind::OneWay };
            let body = self.copied(endpoint);
            let sending = Sending { kind, cookie: 0, waited: false, deadline: Instant::FAR, streamed: false };
            if endpoint.send(local, to, body, sending).is_err() {
                // As much as may be held is; or the session has gone, and the driver begins another.
                return;
            }
            let part = &mut self.parts[host as usize];
            (part.left, part.open) = (part.left - 1, part.open + 1);
            self.messages += 1;
        }
    }

    /// Whether this frame is of a message that does not get through yet.
    fn is_stuck(&self, frame: &Frame) -> bool {
        if frame.kind() != 1 || self.parts[frame.from as usize].epoch >= STUCK_UNTIL {
            return false;
        }
        let sequence = part_at(&frame.bytes, DATA_HEADER_LEN).map(|part| part.number().message().rpc().sequence());
        sequence.is_ok_and(|sequence| sequence < STUCK_AMONG && sequence % STUCK_EVERY == 7)
    }
}

impl Hooks for Load {
    fn left(&mut self, _: Time, frame: &Frame) {
        let sealed_at = match frame.kind() {
            1 => DATA_HEADER_LEN + RECORD_HEADER_LEN,
            2 => CONTROL_HEADER_LEN,
            _ => return,
        };
        // One record is in a packet, or one slice. [P-5.2]
        let seen = match slice_at(&frame.bytes, DATA_HEADER_LEN) {
            Ok(view) if frame.kind() == 1 => cipher::seen_slice(&view, &frame.bytes),
            _ => frame.bytes.get(sealed_at..).is_some_and(cipher::seen),
        };
        self.unaccounted += u64::from(!seen);
        let part = &mut self.parts[frame.from as usize];
        if frame.bytes[EPOCH_AT] == (part.epoch + 1) as u8 {
            part.epoch += 1;
        }
    }

    fn verdict(&mut self, _: Time, frame: &Frame) -> Verdict {
        if self.is_stuck(frame) {
            self.lost += 1;
            return Verdict::Drop;
        }
        match self.rng.below(4096) {
            0..8 => {
                self.lost += 1;
                Verdict::Drop
            }
            8..24 => Verdict::Delay(self.rng.below(50 * US)),
            24..28 => Verdict::Duplicate(self.rng.below(50 * US)),
            _ => Verdict::Pass,
        }
    }

    fn event(&mut self, _: Time, host: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        let session = match &event {
            Event::Request { id, .. } | Event::OneWay { id, .. } => Some(id.session),
            Event::Response { .. } | Event::Arrived { .. } | Event::Failed { .. } => {
                let part = &mut self.parts[host as usize];
                part.open = part.open.saturating_sub(1);
                None
            }
            _ => return,
        };
        if let (SERVER, Some(session)) = (host, session) {
            self.parts[host as usize].ways[usize::from(session.shard())] = Some(To::Session(session));
        }
        if let Event::Request { id, .. } = event {
            let body = self.copied(endpoint);
            self.messages += u64::from(endpoint.reply(local, id, body).is_ok());
        }
        self.fill(host, endpoint, local);
    }
}
