//! Owns the audit of nonces: shipped endpoints talk in the simulator through losses, rekeys, moves by attempt and restarts, and every
//! key and nonce that anything is sealed with is compared with all others. [P-3.3] [P-6.5]
//!
//! | part | sees |
//! |---|---|
//! | `cipher` | the real key and nonce of each seal, between endpoint and cipher |
//! | `book` | what each key sealed under each nonce |
//! | `load` | what stands on the wire, and that all of it was sealed there |
//!
//! A repeat seals the same bytes and is told from a duplicate by that. One run is one pair of hosts in one thread, and knows nothing of
//! others; that these have no key in common is compared by who started them.

pub mod book;
pub mod cipher;
mod load;

use std::time::Duration;

use endpoint::config::Config;
use record::aead::Cipher;
use wire::trailer::Kind;

use self::book::Book;
use self::cipher::Bug;
use self::load::{CLIENT, Load, SERVER};
use crate::clock::{MS, SEC, Time, US};
use crate::fabric::Network;
use crate::hooks::Spec;
use crate::rng::Rng;
use crate::world::World;

/// Lives of each pair: between them, one of the two crashes while messages are under way, and both in the end.
const LIVES: u64 = 3;
/// Epochs that a life has at least, so that messages that are stuck move.
const EPOCHS_MIN: u64 = 8;
/// How long the driver lets time pass before it looks.
const SLICE: Time = 100 * US;
/// The longest that a life may take, in its own time, and how much more for each message: something is wrong then.
const LIFE_MAX: Time = 100 * SEC;
const MESSAGE_MAX: Time = MS;

/// What one pair does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All randomness comes from it; pairs with different ones have different secrets.
    pub seed: u64,
    /// With what records are sealed.
    pub cipher: Cipher,
    /// Messages that the two begin together, about.
    pub messages: u64,
    /// Epochs that each direction begins at least, in each life.
    pub rekeys: u64,
    /// A rule that is broken on purpose.
    pub bug: Option<Bug>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Records and control packets that were sealed, repeats included.
    pub sealed: u64,
    /// Seals of other bytes under a key and nonce that was used.
    pub duplicates: u64,
    /// Seals that repeated the same bytes.
    pub retransmitted: u64,
    /// Sealed packets on the wire of which the cipher knows nothing.
    pub unaccounted: u64,
    /// Epochs begun, after the first of each session and direction.
    pub epochs: u64,
    /// The fewest that a direction began in any life.
    pub epochs_min: u64,
    /// Sessions that rested and woke.
    pub rests: u64,
    /// Messages that went on under another attempt.
    pub attempts: u64,
    /// Messages begun, responses included.
    pub messages: u64,
    /// Hosts that crashed and came back.
    pub restarts: u64,
    /// Frames that were lost.
    pub lost: u64,
    /// Shards of both ends together, the most in any life; and how many of them had nothing to do in one.
    pub shards: u64,
    /// See [`Self::shards`].
    pub idle_shards: u64,
    /// Datagrams that came to another shard than they were for.
    pub handed_over: u64,
    /// A life did not come to its end.
    pub stuck: bool,
    /// The bytes of each key that sealed anything.
    pub keys: Vec<Vec<u8>>,
}

/// Shards of the client and of the server: half of all pairs have several, whose keys change by themselves.
fn shards(plan: &Plan) -> [u16; 2] {
    [[1, 1], [2, 2], [1, 1], [1, 3], [1, 1], [3, 2]][(plan.seed % 6) as usize]
}

fn config(plan: &Plan, host: u32, rekey_after: u64) -> Config {
    let mut config = Config::new(&cipher::CRYPTO);
    config.cipher = plan.cipher;
    // One end seals each message by itself, the other in bundles, some ten in each: both are looked at.
    config.bundles = host == load::SERVER;
    config.shard.count = shards(plan)[host as usize];
    // What is begun is shared among the lanes.
    let rekey_after = rekey_after / u64::from(shards(plan).into_iter().max().unwrap_or(1));
    let records = if config.bundles { (rekey_after / 24).max(4) } else { rekey_after };
    config.key_limits = config.key_limits.rekey_after(records);
    // Whenever nothing is under way, the contexts of its keys are gone, and are made again for what comes next.
    config.session_rests_after = Duration::from_micros(20);
    config.spans = true;
    config.sessions_awake_max = 1;
    config.proto.serving = true;
    config.proto.peer_timeout = Duration::from_millis(100);
    config.proto.resend_max = Duration::from_micros(500);
    config
}

/// Runs a pair. `progress` is told how many messages more were begun.
pub fn run(plan: &Plan, mut progress: impl FnMut(u64)) -> Outcome {
    cipher::begin(plan.bug);
    let mut outcome = Outcome { epochs_min: u64::MAX, ..Outcome::default() };
    live(plan, 0, &mut outcome, &mut progress);
    if plan.bug == Some(Bug::RandomnessAgain) {
        live(plan, 1, &mut outcome, &mut progress);
    }
    let book: Book = cipher::end();
    (outcome.sealed, outcome.duplicates, outcome.retransmitted) = (book.sealed, book.duplicates, book.again);
    outcome.keys = book.used().collect();
    outcome
}

/// All lives of a pair. The same seed is the same randomness; `salt` makes what is said differ.
fn live(plan: &Plan, salt: u64, outcome: &mut Outcome, progress: &mut impl FnMut(u64)) {
    let each = (plan.messages / 2 / LIVES).max(1);
    // Acknowledgements and repeats come on top: what is counted here are records.
    let rekey_after = (each / (plan.rekeys.max(EPOCHS_MIN) + 2)).max(16);
    let plan_of_host = *plan;
    let mut spec = Spec::new(plan.seed, Network::pair());
    spec.config = Box::new(move |host| config(&plan_of_host, host, rekey_after));
    let mut world = World::new(spec, Load::new(Rng::new(plan.seed, 0xa0d1 + salt), salt));
    world.acquaint(CLIENT, SERVER);
    let mut told = 0;
    for life in 0..LIVES {
        let way = world.hosts()[CLIENT as usize].way(SERVER);
        world.hooks.live(each, way);
        let last = life + 1 == LIVES;
        // While many are under way, unless it is the end.
        let rest = if last { 0 } else { 2 };
        let end = world.now() + LIFE_MAX + each * MESSAGE_MAX;
        let mut slices = 0_u64;
        while world.hooks.left() > rest && world.now() < end && !enough(plan) {
            slices += 1;
            world.hooks.pauses = slices % 16 >= 1;
            kick(&mut world);
            world.run(world.now() + SLICE);
            progress(world.hooks.messages - told);
            told = world.hooks.messages;
        }
        outcome.stuck |= world.now() >= end;
        count(&world, outcome);
        if last || enough(plan) {
            break;
        }
        crash(&mut world, life, outcome);
    }
    outcome.messages += world.hooks.messages;
    outcome.lost += world.hooks.lost;
    outcome.unaccounted += world.hooks.unaccounted;
}

/// A bug was found: no need to go on.
fn enough(plan: &Plan) -> bool {
    plan.bug.is_some() && cipher::duplicates() > 0
}

/// Who has something to say, and nothing under way that would get it to go on, begins.
fn kick(world: &mut World<Load>) {
    world.learn_sessions();
    for host in [CLIENT, SERVER] {
        if let Some(body) = world.hooks.idles(host)
            && world.send(host, 1 - host, Kind::OneWay, body, 0).is_err()
        {
            world.hooks.not_taken(host);
        }
        for shard in 1..=world.hosts()[host as usize].more.len() {
            let idles = !world.hosts()[host as usize].more[shard - 1].is_busy();
            if idles
                && let Some(body) = world.hooks.another(host)
                && world.send_from((host, shard), 1 - host, Kind::OneWay, body).is_err()
            {
                world.hooks.not_taken(host);
            }
        }
    }
}

fn count(world: &World<Load>, outcome: &mut Outcome) {
    let shards = world.hosts().iter().map(|host| host.shards().count() as u64).sum();
    outcome.shards = outcome.shards.max(shards);
    for host in [CLIENT, SERVER] {
        let shards = || world.hosts()[host as usize].shards().map(|shard| *shard.counters());
        outcome.idle_shards += shards().filter(|shard| shard.messages_delivered == 0).count() as u64;
        outcome.handed_over += shards().map(|shard| shard.datagrams_handed_over).sum::<u64>();
        if let Some(counters) = shards().reduce(|sum, shard| sum.plus(&shard)) {
            outcome.epochs += counters.epochs_begun;
            outcome.epochs_min = outcome.epochs_min.min(counters.epochs_begun);
            outcome.attempts += counters.attempts;
            outcome.rests += counters.sessions_woken;
        }
    }
}

/// One of the two crashes and comes back, with the same installed secret; the other finds out. Its counters begin anew, too: both are
/// started again, one after the other.
fn crash(world: &mut World<Load>, life: u64, outcome: &mut Outcome) {
    let first = if life.is_multiple_of(2) { SERVER } else { CLIENT };
    for host in [first, 1 - first] {
        world.crash(host);
        world.run(world.now() + MS);
        world.start(host);
        outcome.restarts += 1;
    }
}
