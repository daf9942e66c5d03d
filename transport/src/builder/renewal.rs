//! Owns when keys and sessions end, and when sessions rest: the knobs for that.

use std::time::Duration;

use endpoint::config::Config;

use super::{Builder, Ready};

/// How long keys are used, where that is less than the protocol allows, and what sessions hold meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Renewal {
    rekey_after_records: Option<u64>,
    session_age_max: Option<Duration>,
    rests_after: Option<Duration>,
    awake_max: Option<usize>,
}

impl Renewal {
    pub(super) fn apply(self, config: &mut Config) {
        if let Some(records) = self.rekey_after_records {
            config.key_limits = config.key_limits.rekey_after(records);
        }
        if let Some(age) = self.session_age_max {
            config.session_age_max = config.session_age_max.min(age);
        }
        config.session_rests_after = self.rests_after.unwrap_or(config.session_rests_after);
        config.sessions_awake_max = self.awake_max.unwrap_or(config.sessions_awake_max);
    }
}

impl Builder<Ready> {
    /// Silence after which a peer counts as dead. Default 3 s.
    #[must_use]
    pub fn peer_timeout(mut self, span: Duration) -> Self {
        self.knobs.peer_timeout = span;
        self
    }

    /// Records (of small messages: messages) that we seal with one key before the next is taken. Default 2^26, or 2^32 AES blocks
    /// if that is sooner, a quarter of what a key may protect: so no message waits for the next key. More than that is read as
    /// that. Each new key costs a question, an answer and some microseconds at both ends; below some hundreds that shows.
    #[must_use]
    pub fn rekey_after_records(mut self, records: u64) -> Self {
        self.knobs.renewal.rekey_after_records = Some(records);
        self
    }

    /// How old the secrets of a session become: a new call then makes a new session, with a new handshake. Default 24 hours, and
    /// more is read as that. What is under way ends in the old session.
    #[must_use]
    pub fn session_age_max(mut self, span: Duration) -> Self {
        self.knobs.renewal.session_age_max = Some(span);
        self
    }

    /// How long nothing was heard in a session, and nothing is under way there, before it is put to rest. Default 60 s. It then holds some
    /// 500 bytes instead of 4,500: its secrets and numbers stay, the contexts of its keys are made again by the next message, which costs
    /// each end some microseconds.
    #[must_use]
    pub fn session_rests_after(mut self, span: Duration) -> Self {
        self.knobs.renewal.rests_after = Some(span);
        self
    }

    /// How many sessions are awake at once; what is beyond them rests as soon as nothing is under way in it, those that were silent longest
    /// first. Default 32,768, which hold 150 MB. More cost memory, fewer the microseconds of waking where more peers than that talk in turn.
    #[must_use]
    pub fn sessions_awake_max(mut self, count: usize) -> Self {
        self.knobs.renewal.awake_max = Some(count);
        self
    }
}
