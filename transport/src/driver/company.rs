//! Owns how many messages leave together: those that an application sends one after the other travel in one train, where each costs
//! less; but while one end makes a train the other should have one to take.
//!
//! With half of what is open in each train there are two of them, one at each end. Refuses: clocks and sockets.

use std::ops::RangeInclusive;
use std::time::Duration;

use proto::time::Instant;

/// How long a message may wait for those that follow it at once.
const PAUSE: Duration = Duration::from_micros(25);
/// So many leave together, but for those after which nothing follows.
const TOGETHER: RangeInclusive<usize> = 4..=128;
/// What was open is remembered for so many trains, and at most twice as many: while the other end has all of it, few are open here.
const REMEMBERED: u32 = 32;

/// The messages that wait for company.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Since when one does, and how many.
    since: Option<Instant>,
    waiting: usize,
    /// The most RPCs that were open during these trains, and during those before.
    most_open: [usize; 2],
    /// How many trains these are until now.
    trains: u32,
    /// How many messages came with the last train that brought any.
    came: usize,
}

impl Company {
    /// A train brought so many messages. What answers them leaves together too: who sent them chose how many.
    #[inline]
    pub(super) const fn came(&mut self, messages: usize) {
        self.came = messages;
    }

    /// One more message may leave, while so many RPCs are open. `follows` says that others will at once, and `answers` that it answers one
    /// that came. Whether it is time for all of them.
    #[inline]
    pub(super) fn joins(&mut self, now: Instant, open: usize, follows: bool, answers: bool) -> bool {
        self.waiting += 1;
        self.most_open[0] = self.most_open[0].max(open);
        let since = *self.since.get_or_insert(now);
        let half = self.most_open[0].max(self.most_open[1]).div_ceil(2);
        let enough = if answers { half.max(self.came) } else { half };
        !follows || self.waiting >= enough.clamp(*TOGETHER.start(), *TOGETHER.end()) || now.since(since) >= PAUSE
    }

    /// Whether anything waits.
    #[inline]
    pub(super) const fn waits(&self) -> bool {
        self.since.is_some()
    }

    /// All that waited leaves.
    #[inline]
    pub(super) fn leaves(&mut self, open: usize) {
        if self.since.take().is_some() {
            self.waiting = 0;
            self.trains += 1;
            if self.trains == REMEMBERED {
                self.trains = 0;
                self.most_open = [open, self.most_open[0]];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000);

    /// So many messages one after the other, of which `open` are open before the first: how many leave in each train.
    fn trains(company: &mut Company, messages: usize, open: usize, answers: bool) -> Vec<usize> {
        let (mut trains, mut waiting) = (Vec::new(), 0);
        for i in 1..=messages {
            waiting += 1;
            let open = if answers { open - i } else { open + i };
            if company.joins(NOW, open, i < messages, answers) {
                company.leaves(open);
                trains.push(std::mem::take(&mut waiting));
            }
        }
        trains
    }

    #[test]
    fn half_of_what_is_open_leaves_together() {
        let mut company = Company::default();
        trains(&mut company, 64, 0, false);
        // Both ends had them all meanwhile, so none is open.
        assert_eq!(trains(&mut company, 64, 0, false), [32, 32]);
        assert_eq!(trains(&mut company, 32, 32, false), [32]);
    }

    #[test]
    fn answers_leave_as_what_they_answer_came() {
        let mut company = Company::default();
        company.came(32);
        assert_eq!(trains(&mut company, 32, 32, true), [32]);
        assert_eq!(trains(&mut company, 64, 64, true), [32, 32], "two trains were taken at once");
        company.came(1);
        assert_eq!(
            trains(&mut company, 16, 16, true).len(),
            1,
            "they came one by one, and half of what was open lately is more"
        );
    }

    #[test]
    fn a_train_is_neither_tiny_nor_without_end() {
        let mut company = Company::default();
        assert_eq!(trains(&mut company, 8, 0, false), [4, 4]);
        company.came(1000);
        assert_eq!(trains(&mut company, 300, 1000, true), [128, 128, 44]);
    }

    #[test]
    fn what_was_open_long_ago_is_forgotten() {
        let mut company = Company::default();
        trains(&mut company, 1000, 0, false);
        for _ in 0..2 * REMEMBERED {
            trains(&mut company, 2, 0, false);
        }
        assert_eq!(trains(&mut company, 8, 0, false), [4, 4]);
    }

    #[test]
    fn nothing_waits_for_long_or_for_nothing() {
        let mut company = Company::default();
        trains(&mut company, 1000, 0, false);
        assert!(!company.joins(NOW, 1, true, false) && company.waits());
        assert!(!company.joins(NOW + Duration::from_micros(24), 2, true, false));
        assert!(company.joins(NOW + PAUSE, 3, true, false));
        company.leaves(3);
        assert!(!company.waits());
        assert!(company.joins(NOW, 4, false, false), "nothing follows it");
    }
}
