//! Owns the choice of an engine, and the words that explain it.
//!
//! The ladder is: hardware that proved itself, else software. This build has the lowest rung only.

use crate::engine::Engine;
use crate::software::SOFTWARE;

/// An engine, and why it is this one.
#[derive(Clone, Copy, Debug)]
pub struct Selected {
    /// The engine.
    pub engine: &'static dyn Engine,
    /// The reason, for a person to read.
    pub why: &'static str,
}

/// The best engine that this build has on this machine.
pub fn select() -> Selected {
    Selected { engine: &SOFTWARE, why: "software: this build has no hardware engine" }
}

#[cfg(test)]
mod tests {
    use record::aead::Cipher;

    use super::*;

    #[test]
    fn software_takes_every_cipher() {
        let Selected { engine, why } = select();
        assert!(Cipher::ALL.into_iter().all(|cipher| engine.caps().knows(cipher)));
        assert!(why.starts_with("software"));
        assert_eq!(engine.crypto().name(), crate::software::crypto().name());
    }
}
