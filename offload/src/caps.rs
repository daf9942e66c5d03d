//! Owns the answer to "what can this engine do": one plain value, asked for once.
//!
//! Refuses to say *which* engine it is: whoever would branch on that is missing a capability here.

use core::fmt;

use record::aead::Cipher;

/// What an engine can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// It may be asked to seal.
    pub seal: bool,
    /// It may be asked to open.
    pub open: bool,
    /// The algorithms it knows, best first.
    pub ciphers: &'static [Cipher],
    /// The longest segment it takes, in bytes; [`Caps::ANY_LENGTH`] when it sets no bound of its own.
    pub segment_bytes_max: usize,
    /// Every packet must start with a record and hold whole ones: true of NICs that seal packet by packet.
    pub aligned_records: bool,
}

impl Caps {
    /// The [`Caps::segment_bytes_max`] of an engine that takes segments of any length.
    pub const ANY_LENGTH: usize = usize::MAX;

    /// Whether it knows `cipher`.
    pub fn knows(&self, cipher: Cipher) -> bool {
        self.ciphers.contains(&cipher)
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.seal, self.open) {
            (true, true) => "seals and opens",
            (true, false) => "seals",
            (false, true) => "opens",
            (false, false) => return f.write_str("does nothing"),
        })?;
        for (i, cipher) in self.ciphers.iter().enumerate() {
            write!(f, "{}{cipher}", if i == 0 { " " } else { ", " })?;
        }
        match self.segment_bytes_max {
            Self::ANY_LENGTH => f.write_str("; segments of any length")?,
            max => write!(f, "; segments up to {max} B")?,
        }
        f.write_str(if self.aligned_records { "; records aligned to packets" } else { "; records at any place" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_a_sentence() {
        let caps = Caps {
            seal: true,
            open: false,
            ciphers: &[Cipher::Aes128Gcm, Cipher::Aes256Gcm],
            segment_bytes_max: 65_507,
            aligned_records: true,
        };
        assert_eq!(
            caps.to_string(),
            "seals aes-128-gcm, aes-256-gcm; segments up to 65507 B; records aligned to packets"
        );
        assert!(caps.knows(Cipher::Aes256Gcm) && !caps.knows(Cipher::ChaCha20Poly1305));
        let idle = Caps { seal: false, ..caps };
        assert_eq!(idle.to_string(), "does nothing");
    }
}
