//! Owns runs that follow a script: what a seed decides elsewhere is said act by act. The same world, the same checker; so whoever makes
//! scripts, a fuzzer above all, looks for broken rules and not only for crashes.

use proto::time::Instant;
use wire::trailer::Kind;

use super::plan::{LENGTH_MAX, Mishap, Plan, clock};
use super::run::Run;
use crate::checker::Violation;
use crate::checker::calls::Wish;
use crate::clock::Time;
use crate::fabric::Network;
use crate::fault::Fault;
use crate::rng::Rng;

/// Hosts of a script's world; the last is malicious.
pub const HOSTS: u32 = 3;
/// Longest time that passes by one act, and all that may pass, in picoseconds.
const PASS_MAX: Time = 1 << 40;

/// What is done next. Hosts are taken modulo [`HOSTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A host calls another, or tells it something.
    Call {
        /// Who.
        from: u32,
        /// Whom: the next host, or the one after.
        next: bool,
        /// No response is wanted.
        one_way: bool,
        /// Bytes of the message, at most some 3 MB.
        len: u32,
        /// Bytes of the response.
        response_len: u32,
        /// The caller may give up.
        patient: bool,
    },
    /// The caller of that call gives up, counted back from the last.
    Cancel(u8),
    /// Time passes: 2 to the power of that, in nanoseconds.
    Pass(u8),
    /// The next frame of any host suffers this.
    Strike(Fault),
    /// A host crashes, and comes back 2 to the power of that nanoseconds later.
    Crash(u32, u8),
    /// A host's clock jumps ahead by so many microseconds.
    Clock(u32, u16),
    /// An application closes a session.
    Close(u32),
    /// A host is cut off the others, for 2 to the power of that nanoseconds.
    Cut(u32, u8),
    /// A stranger does one of the things that strangers do.
    Stranger(u8),
    /// The malicious host does one of the things that it does.
    Insider(u8),
}

const fn span(exponent: u8) -> Time {
    let span = 1000u64 << (exponent % 28);
    if span < PASS_MAX { span } else { PASS_MAX }
}

impl Plan {
    /// A world for a script, with the configuration that a seed has.
    #[must_use]
    pub fn scripted(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0xc4a0_5006);
        Self {
            network: Network::one_switch(HOSTS),
            malicious: Some(HOSTS - 1),
            clocks: (0..HOSTS).map(|_| clock(&mut rng)).collect(),
            rules: Vec::new(),
            mishaps: Vec::new(),
            packets: 0,
            ..Self::new(seed)
        }
    }
}

impl Run {
    /// Follows the script, then lets all end and looks whether it did.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn follow(&mut self, script: impl IntoIterator<Item = Act>) -> Result<(), Violation> {
        let goes_on = script.into_iter().all(|act| self.perform(act));
        if goes_on {
            self.finish();
        }
        self.world.hooks.checker.broken().cloned().map_or(Ok(()), Err)
    }

    /// Does it. `false` when a rule was broken.
    fn perform(&mut self, act: Act) -> bool {
        match act {
            Act::Call { from, next, one_way, len, response_len, patient } => {
                let from = from % HOSTS;
                let to = (from + 1 + u32::from(!next)) % HOSTS;
                let kind = if one_way { Kind::OneWay } else { Kind::Request };
                let of = |len: u32| (u64::from(len) % LENGTH_MAX) as usize;
                let response_len = if one_way { 0 } else { of(response_len) };
                let deadline = Instant::FAR;
                let must_succeed = false;
                self.call(Wish { from, to, kind, len: of(len), response_len, deadline, patient, must_succeed });
            }
            Act::Cancel(back) => {
                let begun = self.world.hooks.checker.calls.begun();
                let call = begun.checked_sub(1 + u64::from(back));
                if let Some(call) = call.filter(|call| self.world.hooks.checker.calls.get(*call).wish.patient) {
                    self.cancel(call);
                }
            }
            Act::Pass(exponent) => return self.pass(self.world.now() + span(exponent)),
            Act::Strike(fault) => self.world.hooks.faults.strike_next(fault),
            Act::Crash(host, exponent) => self.mishap(Mishap::Crash { host: host % HOSTS, away: span(exponent) }),
            Act::Clock(host, us) => {
                let ahead_ns = u64::from(us) * 1000;
                self.mishap(Mishap::Clock { host: host % HOSTS, drift_ppb: 0, ahead_ns });
            }
            Act::Close(host) => self.mishap(Mishap::Close { host: host % HOSTS }),
            Act::Cut(host, exponent) => {
                let groups = (0..HOSTS).map(|other| u8::from(other == host % HOSTS)).collect();
                self.mishap(Mishap::Cut { groups, time: span(exponent) });
            }
            Act::Stranger(which) => self.stranger_does(which.into()),
            Act::Insider(which) => self.insider_does(which.into()),
        }
        self.world.hooks.checker.broken().is_none()
    }
}
