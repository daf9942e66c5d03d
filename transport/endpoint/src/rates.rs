//! Owns how often strangers may cause something: handshakes that begin, answers that prove nothing, RESETs. [P-5.5] [P-6.4]
//!
//! Who a stranger is cannot be known before it proved its address, so what is kept of one is a number in a table of fixed size,
//! in a place that only we can compute: whoever invents sources fills nothing, and slows down at most those that share a place.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use proto::time::Instant;

/// Places of a table. 8 KiB each; a table is made when it is used first.
const PLACES: usize = 1024;

/// So many per second in the long run, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; 0 for none at all.
    pub per_second: u32,
    /// At once, after a pause; at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many per second, and so many at once.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        Self { per_second, burst }
    }
}

/// What strangers may cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// RESETs that the endpoint sends. Default 1,000/s, 1,000 at once: each costs about 1 us, so all of them a thousandth of a
    /// core; a server that restarts under 10,000 sessions has told all of them after ten seconds.
    pub resets: Rate,
    /// RESETs to one source. Default 64/s, 16 at once: a peer has few sessions with us, and asks again when it hears nothing.
    pub resets_per_source: Rate,
    /// RETRYs and refusals that the endpoint sends. Default 16,000/s, 1,000 at once: each costs about 2 us, so all of them a
    /// thirtieth of a core. A client asks some forty times in the time that a handshake may take, so one in forty answered is
    /// enough.
    pub answers: Rate,
    /// RETRYs and refusals to one source. Default 4,000/s, 1,000 at once: more than hosts ask for that mean it.
    pub answers_per_source: Rate,
    /// Handshakes that one source may begin. Default 2,000/s, 4,000 at once: each costs 0.1 to 1 ms, and a host may come back with
    /// thousands of sessions after a pause. Who proved no address gets half of it, so that who invents a source leaves it the other
    /// half.
    pub handshakes_per_source: Rate,
    /// Handshakes that all of those may begin who proved no address. Default 4,000/s, 4,000 at once. Who comes above it is asked
    /// for a cookie first, which costs it a round trip.
    pub handshakes_unproven: Rate,
    /// First flights by published ticket that are opened where no TLS handshake stands beside them. Default 8,000/s, 2,000 at once: each
    /// costs about 60 us, so all of them half a core. Who comes above it is asked for a cookie, or waits.
    pub tickets_opened: Rate,
    /// Sessions at rest that wake for a record of a message which is over there: its peer lacks our word, or somebody repeats what it saw.
    /// Default 1,000/s, 1,000 at once: each costs about 5 us, so all of them a two-hundredth of a core.
    pub wakes_by_repeats: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            resets: Rate::new(1_000, 1_000),
            resets_per_source: Rate::new(64, 16),
            answers: Rate::new(16_000, 1_000),
            answers_per_source: Rate::new(4_000, 1_000),
            handshakes_per_source: Rate::new(2_000, 4_000),
            handshakes_unproven: Rate::new(4_000, 4_000),
            tickets_opened: Rate::new(8_000, 2_000),
            wakes_by_repeats: Rate::new(1_000, 1_000),
        }
    }
}

/// How far a rate is used: the time at which it will not be used at all, in nanoseconds. (ATM's generic cell rate algorithm, ITU-T
/// I.371: one number for what a bucket of tokens needs two for.)
#[derive(Clone, Copy, Debug, Default)]
struct Used(u64);

impl Used {
    /// What it is after one more, if `reserve` are left then.
    fn next(self, rate: Rate, reserve: u32, now: Instant) -> Option<Self> {
        let step = 1_000_000_000_u64.checked_div(rate.per_second.into())?;
        let next = self.0.max(now.as_nanos()) + step;
        let allowed = u64::from(rate.burst.saturating_sub(reserve).max(1)) * step;
        (next - now.as_nanos() <= allowed).then_some(Self(next))
    }

    /// Takes one, if `reserve` are left afterwards.
    fn take(&mut self, rate: Rate, reserve: u32, now: Instant) -> bool {
        let next = self.next(rate, reserve, now);
        *self = next.unwrap_or(*self);
        next.is_some()
    }
}

/// How far each source used a rate.
#[derive(Debug, Default)]
struct Sources(Vec<Used>);

impl Sources {
    fn take(&mut self, place: usize, rate: Rate, reserve: u32, now: Instant) -> bool {
        if self.0.is_empty() {
            self.0.resize(PLACES, Used::default());
        }
        self.0[place].take(rate, reserve, now)
    }
}

/// What strangers caused so far.
#[derive(Debug)]
pub struct Strangers {
    limits: Limits,
    /// Nobody can choose who shares a place with whom.
    key: u64,
    resets: Used,
    resets_of: Sources,
    answers: Used,
    answers_of: Sources,
    handshakes_of: Sources,
    unproven: Used,
    opened: Used,
    woken: Used,
}

/// What counts as one host: an IPv4 address, however it is written, or a whole /64 of IPv6, which one host can have.
#[must_use]
pub fn host(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // In a part of IPv6 that nobody is given.
        IpAddr::V4(ip) => 0xffff << 32 | u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

impl Strangers {
    /// Nothing yet. `key` is random.
    #[must_use]
    pub fn new(limits: Limits, key: u64) -> Self {
        Self {
            limits,
            key,
            resets: Used::default(),
            resets_of: Sources::default(),
            answers: Used::default(),
            answers_of: Sources::default(),
            handshakes_of: Sources::default(),
            unproven: Used::default(),
            opened: Used::default(),
            woken: Used::default(),
        }
    }

    /// A host's place.
    fn place(&self, source: SocketAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key);
        hasher.write_u64(host(source.ip()));
        hasher.finish() as usize % PLACES
    }

    /// Whether `source` may be sent a RESET.
    pub fn may_reset(&mut self, source: SocketAddr, now: Instant) -> bool {
        // The rate of all is looked at first: a flood costs no more than that. It is used by what is sent only, so one source
        // cannot use it up for the others.
        let Some(all) = self.resets.next(self.limits.resets, 0, now) else { return false };
        let place = self.place(source);
        let may = self.resets_of.take(place, self.limits.resets_per_source, 0, now);
        self.resets = if may { all } else { self.resets };
        may
    }

    /// Whether `source` may be answered something that proves nothing.
    pub fn may_answer(&mut self, source: SocketAddr, now: Instant) -> bool {
        let Some(all) = self.answers.next(self.limits.answers, 0, now) else { return false };
        let place = self.place(source);
        let may = self.answers_of.take(place, self.limits.answers_per_source, 0, now);
        self.answers = if may { all } else { self.answers };
        may
    }

    /// Whether a first flight by published ticket may be opened, whoever brings it.
    pub fn may_open_ticket(&mut self, now: Instant) -> bool {
        self.opened.take(self.limits.tickets_opened, 0, now)
    }

    /// Whether what may be anybody's repetition may wake a session.
    pub fn may_wake(&mut self, now: Instant) -> bool {
        self.woken.take(self.limits.wakes_by_repeats, 0, now)
    }

    /// Whether `source` may begin a handshake; `proven` when that is its address for certain.
    pub fn may_begin(&mut self, source: SocketAddr, proven: bool, now: Instant) -> bool {
        let (place, rate) = (self.place(source), self.limits.handshakes_per_source);
        if proven {
            return self.handshakes_of.take(place, rate, 0, now);
        }
        let Some(all) = self.unproven.next(self.limits.handshakes_unproven, 0, now) else { return false };
        let may = self.handshakes_of.take(place, rate, rate.burst / 2, now);
        self.unproven = if may { all } else { self.unproven };
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn source(n: u32) -> SocketAddr {
        SocketAddr::from((n.to_be_bytes(), 1))
    }

    fn strangers() -> Strangers {
        Strangers::new(Limits::default(), 7)
    }

    /// [P-5.5] A burst, then the rate, whatever the clock began with; a pause gives no more than a burst.
    #[test]
    fn a_rate_is_kept() {
        let rate = Rate::new(100, 10);
        for start in [0, 1_000_000_000, u64::MAX / 4] {
            let (mut used, mut now) = (Used::default(), Instant::from_nanos(start));
            let take = |used: &mut Used, now| (0..1000).filter(|_| used.take(rate, 0, now)).count();
            assert_eq!(take(&mut used, now), 10);
            now += Duration::from_millis(50);
            assert_eq!(take(&mut used, now), 5);
            now += Duration::from_secs(3600);
            assert_eq!(take(&mut used, now), 10);
        }
        let never = Rate::new(0, 10);
        assert!(!Used::default().take(never, 0, Instant::from_nanos(1)));
    }

    /// [P-6.4] Who proved its address has what is left of those who did not.
    #[test]
    fn a_proof_is_worth_half() {
        let (mut strangers, now) = (strangers(), Instant::from_nanos(1));
        let take = |strangers: &mut Strangers, proven| {
            (0..5000).filter(|_| strangers.may_begin(source(1), proven, now)).count()
        };
        assert_eq!(take(&mut strangers, false), 2_000);
        assert_eq!(take(&mut strangers, true), 2_000);
        assert_eq!(take(&mut strangers, true), 0);
    }

    /// Any number of sources costs the same memory, and one that takes much does not take it from most others.
    #[test]
    fn sources_share_a_table() {
        let (mut strangers, now) = (strangers(), Instant::from_nanos(1));
        for n in 0..100_000 {
            strangers.may_begin(source(n * 7919), false, now);
            strangers.may_reset(source(n), now);
            strangers.may_answer(source(n), now);
        }
        let places = |s: &Sources| s.0.len();
        let all = [&strangers.resets_of, &strangers.answers_of, &strangers.handshakes_of];
        assert_eq!(all.map(places), [PLACES; 3]);
        let mut strangers = self::strangers();
        strangers.limits.handshakes_unproven = Rate::new(5_000, 5_000);
        while strangers.may_begin(source(1), true, now) {}
        let others = (2..1002).filter(|n| strangers.may_begin(source(*n), false, now)).count();
        assert!(others > 980, "{others}");
    }

    /// All of one /64 are one source, and both ways to write an IPv4 address are.
    #[test]
    fn what_a_source_is() {
        let strangers = strangers();
        let place = |ip: &str| strangers.place(SocketAddr::new(ip.parse().unwrap(), 9));
        assert_eq!(place("2001:db8::1"), place("2001:db8::ffff:1"));
        assert_ne!(place("2001:db8::1"), place("2001:db8:1::1"));
        assert_eq!(place("192.0.2.1"), place("::ffff:192.0.2.1"));
    }
}
