//! Owns what is counted: packets, and every reason for which one was dropped. A drop is a number here and nothing else.

use wire::error::Refusal;

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What an endpoint has counted since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// The sums of both.
            #[must_use]
            pub const fn plus(&self, other: &Self) -> Self {
                Self { $($name: self.$name + other.$name,)+ }
            }

            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }

            /// What each of them counts, in words, in the order of [`Self::iter`].
            pub fn meanings() -> impl Iterator<Item = &'static str> {
                [$(concat!($($doc),+).trim_ascii(),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams received, good or bad.
    datagrams_received,
    /// Datagrams that came to another shard than they were for, and were handed over.
    datagrams_handed_over,
    /// Packets sent.
    packets_sent,
    /// Records sealed, repeats included.
    records_sealed,
    /// Records among them that were bundles.
    bundles_sealed,
    /// Messages that travelled in bundles.
    messages_bundled,
    /// Packets among those sent that carried a slice of a record.
    slices_sent,
    /// Records opened.
    records_opened,
    /// Records sealed again because the receiver missed them.
    records_repeated,
    /// Records that a device sealed as it sent them.
    records_by_device,
    /// Messages of which a device had sealed records, and that went on in software, under another attempt.
    device_repairs,
    /// Sessions for which a device is not used any more, because too much of what it sealed had to go again.
    device_off,
    /// Keys given up because a device failed that had them: it may have disclosed them.
    device_keys_given_up,
    /// Control packets sealed.
    controls_sealed,
    /// Control packets opened.
    controls_opened,
    /// Epochs that we began, after the first of each session.
    epochs_begun,
    /// EPOCH_WANTED said, repeats included.
    epochs_wanted,
    /// Messages that had to wait for an epoch, because their key had protected as much as it may.
    messages_held,
    /// Messages that went on under another attempt.
    attempts,
    /// Sessions that were put to rest, because nothing was under way in them.
    sessions_rested,
    /// Sessions at rest that woke.
    sessions_woken,
    /// Handshakes completed.
    handshakes_completed,
    /// Handshakes that failed.
    handshakes_failed,
    /// Requests sent with a first flight.
    early_sent,
    /// Requests taken from a first flight.
    early_taken,
    /// Handshakes of ours that began by a published ticket which the server did not know, and went on without it.
    tickets_stale,
    /// Evidence sent to peers that demand it.
    evidence_shown,
    /// Peers' evidence that was found good.
    evidence_taken,
    /// Peers' evidence that was refused.
    evidence_refused,
    /// Requests, responses and one-way messages delivered.
    messages_delivered,
    /// RESETs sent: packets of sessions that are not known here.
    resets_sent,
    /// Sessions that ended because the peer proved that it does not know them any more.
    resets_taken,
    /// Sessions that went on at another address of the peer.
    sessions_moved,
    /// Dropped: shorter than its own layout says.
    dropped_truncated,
    /// Dropped: longer than its layout allows.
    dropped_oversized,
    /// Dropped: another wire version.
    dropped_wrong_version,
    /// Dropped: a packet type that does not exist.
    dropped_unknown_type,
    /// Dropped: a field with an impossible value.
    dropped_malformed,
    /// Dropped: a message of a peer whose evidence was not judged yet.
    dropped_before_evidence,
    /// Dropped: for no session of ours.
    dropped_unknown_session,
    /// Dropped: the session has no keys yet.
    dropped_too_early,
    /// Dropped: sealed with keys that are not in use.
    dropped_wrong_epoch,
    /// Dropped: the tag does not verify (forged, altered, or of another session).
    dropped_bad_tag,
    /// Dropped: verified, yet it makes no sense (a faulty peer).
    dropped_nonsense,
    /// Dropped: a control packet seen before.
    dropped_replayed_control,
    /// Dropped: a record that was here before, or whose message is finished.
    dropped_duplicate,
    /// Dropped: a slice of a record that no message waits for, or that is none of its message's.
    dropped_slice,
    /// Dropped: a response to nothing that is awaited.
    dropped_unexpected,
    /// Dropped: no room for its message; its sender will try again.
    dropped_no_room,
    /// Dropped: a record that nobody had granted yet.
    dropped_not_granted,
    /// Dropped: a grant of more than there is, or of a message that there is not (a faulty peer).
    dropped_grant,
    /// Dropped: a message that was refused, and its sender told.
    dropped_refused,
    /// Dropped: a handshake packet that fits no handshake, or too many handshakes at once.
    dropped_handshake,
    /// Dropped: a RESET of no session, or one that proves nothing.
    dropped_reset,
    /// Dropped: strangers, or one source, asked for more than they get.
    dropped_rate_limited,
}

impl Counters {
    /// Counts a datagram that has no meaning.
    pub(crate) fn refuse(&mut self, why: Refusal) {
        *match why {
            Refusal::Truncated => &mut self.dropped_truncated,
            Refusal::Oversized => &mut self.dropped_oversized,
            Refusal::Version => &mut self.dropped_wrong_version,
            Refusal::PacketType => &mut self.dropped_unknown_type,
            Refusal::Malformed => &mut self.dropped_malformed,
        } += 1;
    }

    /// All drops together.
    pub fn dropped(&self) -> u64 {
        self.iter().filter(|(name, _)| name.starts_with("dropped_")).map(|(_, n)| n).sum()
    }
}
