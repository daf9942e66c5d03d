//! Owns the secrets of lanes: each pair of shards has keys of its own, so that no two shards count or forget together. [P-9.3]
//!
//! A lane begins like a session of its own, with [`crate::epochs`] over its secret. What all of them come from is derived once, when
//! the session opens, and not kept: who learns it later would learn what was sealed in each lane's first epoch.

use crate::aead::Crypto;
use crate::keys::{SECRET_LEN, Secret, expand_label};

/// What the secrets of the lanes of one session are derived from.
#[derive(Debug)]
pub struct LaneSecrets(Secret);

impl LaneSecrets {
    /// Of the session with that secret.
    pub fn new(crypto: &dyn Crypto, session: &Secret) -> Self {
        Self(expanded(crypto, session, b"lanes", &[]))
    }

    /// The secret of the lane of these two shards.
    pub fn lane(&self, crypto: &dyn Crypto, client: u8, server: u8) -> Secret {
        expanded(crypto, &self.0, b"lane", &[client, server])
    }
}

fn expanded(crypto: &dyn Crypto, secret: &Secret, label: &[u8], context: &[u8]) -> Secret {
    let mut bytes = [0; SECRET_LEN];
    expand_label(crypto, secret, label, context, &mut bytes);
    Secret::new(bytes)
}
