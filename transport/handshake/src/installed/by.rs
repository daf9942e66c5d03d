//! Owns how the two sides came to the secret of an exchange: it was installed at both, or the client made it and sealed it to a published
//! ticket of the server. Then there is a first flight, too. [P-6.11]

use record::aead::Crypto;
use record::keys::Secret;
use wire::ids::Side;

use crate::flight::Flight;
#[cfg(feature = "tls")]
use crate::guard::Guard;
use crate::identity::PeerIdentity;
#[cfg(feature = "tls")]
use crate::params;
#[cfg(feature = "tls")]
use crate::published::{Root, TAG_VERDICT, Verdict, early_key, reply_key};

/// How.
pub(crate) enum By {
    /// Both were given it.
    Installed,
    /// By a published ticket.
    #[cfg(feature = "tls")]
    Published {
        root: Root,
        /// Who the other side is: the ticket's owner, or anybody.
        identity: PeerIdentity,
        /// What the server says of the first flight.
        verdict: Option<Verdict>,
    },
}

impl By {
    /// The client's hello is whole: it went, or it came. `transcript` is that hello.
    pub(super) fn begun(&self, crypto: &dyn Crypto, side: Side, transcript: &[u8], flight: &mut Flight) {
        #[cfg(feature = "tls")]
        if let Self::Published { root, verdict, .. } = self
            && (side == Side::Client || *verdict == Some(Verdict::Taken))
        {
            flight.set_early(Guard::Early(early_key(crypto, root, transcript)));
        }
        #[cfg(not(feature = "tls"))]
        let _ = (crypto, side, transcript, flight);
    }

    /// The server's answer is whole: both nonces are in `mixed`.
    pub(super) fn mixed(&self, crypto: &dyn Crypto, mixed: &Secret, flight: &mut Flight) {
        #[cfg(feature = "tls")]
        if let Self::Published { .. } = self {
            flight.set_reply(Guard::Early(reply_key(crypto, mixed)));
        }
        #[cfg(not(feature = "tls"))]
        let _ = (crypto, mixed, flight);
    }

    /// The server's parameters came, under its MAC.
    pub(super) fn heard(&mut self, params: &[u8]) {
        #[cfg(feature = "tls")]
        if let Self::Published { verdict, .. } = self {
            *verdict = params::find(params, TAG_VERDICT).and_then(Verdict::read);
        }
        #[cfg(not(feature = "tls"))]
        let _ = params;
    }

    pub(super) fn identity(&self) -> Option<PeerIdentity> {
        match self {
            Self::Installed => None,
            #[cfg(feature = "tls")]
            Self::Published { identity, .. } => Some(identity.clone()),
        }
    }

    pub(super) const fn is_taken(&self) -> bool {
        match self {
            Self::Installed => false,
            #[cfg(feature = "tls")]
            Self::Published { verdict, .. } => matches!(verdict, Some(Verdict::Taken)),
        }
    }

    #[cfg(feature = "tls")]
    pub(super) const fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Installed => None,
            Self::Published { verdict, .. } => *verdict,
        }
    }
}
