//! Owns what ties evidence to one side of one session.

use std::fmt;

use ctutils::CtEq;

/// Bytes of a binding: as many as Intel's reports leave to their user.
pub const BINDING_LEN: usize = 64;

/// What evidence must contain: derived from the session's secret, with a label for each side and the hash of that side's public key.
/// Not itself a secret that anything hangs on, but nobody else can know it before it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Binding([u8; BINDING_LEN]);

impl Binding {
    /// These bytes.
    #[must_use]
    pub const fn new(bytes: [u8; BINDING_LEN]) -> Self {
        Self(bytes)
    }

    /// For the platform, as what its evidence is to contain.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; BINDING_LEN] {
        &self.0
    }

    /// Whether evidence was made for this side of this session. The time that it takes does not depend on where they differ.
    #[must_use]
    pub fn is(&self, other: &[u8; BINDING_LEN]) -> bool {
        self.0.ct_eq(other).to_bool()
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding(..)")
    }
}
