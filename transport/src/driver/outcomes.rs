//! Owns what became of what somebody waits for by name, until who waits takes it.

use endpoint::session::CallId;
use rustc_hash::FxHashMap;

use super::Outcome;

/// Outcomes by call. Names are of calls of our own, which nobody else chooses, so a fast hash does.
#[derive(Default)]
pub(crate) struct Outcomes {
    /// What came last. Who waits alone takes that, which is not worth a hash.
    last: Option<(CallId, Outcome)>,
    others: FxHashMap<CallId, Outcome>,
}

impl Outcomes {
    pub(crate) fn insert(&mut self, id: CallId, outcome: Outcome) {
        if let Some((id, outcome)) = self.last.replace((id, outcome)) {
            self.others.insert(id, outcome);
        }
    }

    /// What became of `id`, if that is known.
    #[inline]
    pub(crate) fn take(&mut self, id: CallId) -> Option<Outcome> {
        match &self.last {
            Some((last, _)) if *last == id => self.last.take().map(|(_, outcome)| outcome),
            _ if self.others.is_empty() => None,
            _ => self.others.remove(&id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::ids::{RpcId, SessionId, Side};

    #[test]
    fn each_is_taken_once_by_its_name_in_any_order() {
        let id = |n: u64| CallId { session: SessionId::new(1, 7), rpc: RpcId::new(Side::Client, n) };
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut outcomes = Outcomes::default();
            (0..3).for_each(|n| outcomes.insert(id(n), Outcome::Payload(vec![n as u8].into())));
            assert!(outcomes.take(id(3)).is_none());
            for n in order {
                let Some(Outcome::Payload(payload)) = outcomes.take(id(n)) else { panic!("{n} of {order:?}") };
                assert_eq!(payload[..], [n as u8]);
                assert!(outcomes.take(id(n)).is_none());
            }
        }
    }
}
