//! Owns when an endpoint wants to be called though nothing came.

use proto::time::Instant;

use crate::endpoint::Endpoint;

impl Endpoint {
    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn timeout(&self) -> Option<Instant> {
        self.soonest(self.state.machine.timeout_at())
    }

    /// The same for a driver that sleeps until then: it may be later by [`Config::timer_slack`], where all that is due before only watches
    /// for silence. (decision 0036)
    ///
    /// [`Config::timer_slack`]: crate::config::Config::timer_slack
    pub fn alarm(&mut self, now: Instant) -> Option<Instant> {
        let slack = self.state.config.timer_slack;
        let at = self.state.machine.alarm_at(now, slack);
        self.soonest(at)
    }

    /// The soonest of what the sessions wait for, if that is before `at`.
    fn soonest(&self, at: Instant) -> Option<Instant> {
        let state = &self.state;
        let mut at = at.min(state.idle_look).min(state.queue_deadline).min(state.epochs_due).min(state.rests.look);
        for timers in [&state.handshake_timers, &state.evidence.timers] {
            at = timers.peek().map_or(at, |(first, _)| at.min(first));
        }
        (at != Instant::FAR).then_some(at)
    }
}
