//! Owns what an application's own event loop watches, and when it rings. A message costs that loop no system call here but what wakes it:
//! the bell is rung once until it was heard, and read only when it was rung.

use std::sync::Arc;
use std::time::Duration;

use proto::time::Instant;
use udp::poll::{Set, Timer, Wake};

use super::Core;

/// What an outside event loop watches.
pub(crate) struct Outside {
    pub(crate) set: Arc<Set>,
    timer: Timer,
    ready: Wake,
    /// When the timer rings.
    armed: Instant,
    /// It was rung, and not read since.
    rung: bool,
    /// The loop itself is looking: what it finds needs no bell unless it is left behind.
    looks: bool,
    /// There is room for what was refused, and the loop has not looked since.
    room: bool,
}

impl Outside {
    pub(crate) fn new(set: Set, timer: Timer, ready: Wake) -> Self {
        Self { set: Arc::new(set), timer, ready, armed: Instant::FAR, rung: false, looks: false, room: false }
    }

    /// Something is there.
    pub(crate) fn ring(&mut self) {
        if !self.rung && !self.looks {
            self.rung = true;
            self.ready.wake();
        }
    }

    /// There is room for what was refused. Who looks just now tries again afterwards in any case.
    pub(crate) fn tell_of_room(&mut self) {
        if !self.looks {
            self.room = true;
            self.ring();
        }
    }

    fn hush(&mut self) {
        if self.rung {
            self.rung = false;
            self.ready.drain();
        }
    }
}

impl Core {
    /// Tells an outside event loop when to come back.
    pub(crate) fn arm_outside(&mut self) {
        let pending = !self.inbox().is_empty() || self.is_midway();
        self.arm(pending);
    }

    /// The same for a task that drives: what is in the inbox is nothing to come back for, as whoever waits for it was woken.
    #[cfg(feature = "tokio")]
    pub(crate) fn arm_task(&mut self) {
        // It comes back at once in any case.
        if !self.is_midway() {
            self.arm(false);
        }
    }

    fn arm(&mut self, pending: bool) {
        let Some(outside) = &mut self.outside else { return };
        outside.looks = false;
        let pending = pending || outside.room;
        if pending {
            outside.ring();
        } else {
            outside.hush();
        }
        // Whoever has a batch open sends when it ends, and the timer is set then.
        if self.corks > 0 {
            return;
        }
        let now = self.now();
        let idle = self.idle_for(now);
        if self.company.waits() {
            self.flush_at(now);
        }
        if let Some(outside) = &mut self.outside {
            let at = idle.map_or(Instant::FAR, |idle| now + idle);
            // Only when it must ring earlier, or rang: one timer call per wait would cost more than the wait. Not at all while the bell
            // rings: the loop comes back at once.
            if !(pending && outside.rung) && (at < outside.armed || outside.armed <= now) {
                outside.armed = at;
                let _ = outside.timer.arm(idle.map(|idle| idle.max(Duration::from_nanos(1))));
            }
        }
    }

    /// The outside event loop looks; its timer may have rung. It ends with [`Self::arm_outside`], under the same lock.
    pub(crate) fn attend_outside(&mut self) {
        if self.outside.is_none() {
            return;
        }
        let now = self.now();
        if let Some(outside) = &mut self.outside {
            (outside.looks, outside.room) = (true, false);
            if outside.armed <= now && outside.timer.drain() {
                outside.armed = Instant::FAR;
            }
        }
    }
}
