//! Owns the engine of the CPU: which library of algorithms it uses, and what it can do.
//!
//! Two libraries may be built in, side by side, so that each can be tested against the other. Which one a build uses is
//! settled when it is compiled; nothing switches at run time.

use record::aead::{Cipher, Crypto};

use crate::caps::Caps;
use crate::engine::Engine;

#[cfg(feature = "aws-lc")]
mod gcm;
#[cfg(feature = "aws-lc")]
mod mac;
#[cfg(feature = "aws-lc")]
pub mod aws_lc;
#[cfg(feature = "rustcrypto")]
pub mod rustcrypto;

/// The algorithms of this build: AWS-LC where it is built in, else RustCrypto.
#[cfg(feature = "aws-lc")]
pub fn crypto() -> &'static dyn Crypto {
    &aws_lc::PROVIDER
}

/// The algorithms of this build: AWS-LC where it is built in, else RustCrypto.
#[cfg(all(feature = "rustcrypto", not(feature = "aws-lc")))]
pub fn crypto() -> &'static dyn Crypto {
    &rustcrypto::PROVIDER
}

/// The algorithms of this build: there are none.
#[cfg(not(any(feature = "aws-lc", feature = "rustcrypto")))]
pub fn crypto() -> &'static dyn Crypto {
    compile_error!("no cryptographic library: enable the feature `aws-lc` (the default) or `rustcrypto`")
}

/// The engine of the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Software;

/// The one value of [`Software`] that anybody needs.
pub static SOFTWARE: Software = Software;

static CAPS: Caps =
    Caps { seal: true, open: true, ciphers: &Cipher::ALL, segment_bytes_max: Caps::ANY_LENGTH, aligned_records: false };

impl Engine for Software {
    fn caps(&self) -> &Caps {
        &CAPS
    }

    fn crypto(&self) -> &'static dyn Crypto {
        crypto()
    }
}

/// Draws a few random bytes where the engine has a source of its own: the first ones of a process take tens of
/// milliseconds, and belong where nobody waits for them.
pub fn warm_up() {
    #[cfg(feature = "aws-lc")]
    aws_lc::warm_up();
}
