//! Owns the knobs of attestation: what is shown of what runs here, and what peers must show. [P-6.16]

use std::sync::Arc;

use attest::evidence::Attester;
use attest::policy::Policy;
use endpoint::evidence::Attest;

use super::{Builder, Ready};
use crate::error::Error;

impl Builder<Ready> {
    /// Who makes evidence of what runs here, for peers that demand it. Each session costs one piece of evidence then, made by a thread
    /// of the socket's own; peers that demand none are shown none. Default: nobody, and peers that demand evidence have no session.
    #[must_use]
    pub fn attester(mut self, attester: Arc<dyn Attester>) -> Self {
        self.knobs.attest.attester = Some(attester);
        self
    }

    /// What every peer must show of what runs there, whoever began the session, before a message of the application goes either way; a
    /// peer that cannot has no session. A resumed session shows it again, and nothing goes in a first flight: [`Self::bind`] refuses
    /// it together with early data or published tickets, and [`crate::CallOptions::early`] has no effect. Default: nothing is demanded. Costs one round trip
    /// more, and the verification, by a thread of the socket's own.
    #[must_use]
    pub fn attestation_policy(mut self, policy: Policy) -> Self {
        self.knobs.attest.policy = Some(Arc::new(policy));
        self
    }
}

/// Whether these can be used together.
pub(super) fn check(attest: &Attest, early: bool) -> Result<(), Error> {
    let production = attest.policy.as_ref().is_some_and(|policy| policy.is_production());
    if production && attest.attester.as_ref().is_some_and(|attester| attester.format().is_mock) {
        let what =
            "a socket with a production policy shows no mock evidence: a peer that takes it would take anybody's";
        return Err(Error::Config(what.to_owned()));
    }
    if attest.policy.is_some() && early {
        let what = "a first flight comes before evidence does: a server that demands evidence takes no early data, and none by published \
                    ticket";
        return Err(Error::Config(what.to_owned()));
    }
    Ok(())
}
