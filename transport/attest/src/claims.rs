//! Owns what evidence says, once it is known to be genuine.

use std::fmt;

use crate::binding::BINDING_LEN;

/// One value that the platform measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement {
    /// Which register: what it holds depends on the format, see there.
    pub register: u8,
    /// Its value.
    pub value: Vec<u8>,
}

impl Measurement {
    /// Its value: as text where it is printable, else in hexadecimal.
    #[must_use]
    pub fn text(&self) -> String {
        text(&self.value)
    }
}

/// A value as text where it is printable, else in hexadecimal.
pub(crate) fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => text.to_owned(),
        _ => value.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

impl fmt::Display for Measurement {
    /// The register and [its value](Self::text).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.register, self.text())
    }
}

/// What genuine evidence says. Whether that is enough is for a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What it was made to contain.
    pub binding: [u8; BINDING_LEN],
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// Its owner can look into it: nothing in it is secret.
    pub debug: bool,
    /// The platform is not as it should be, in the words of its maker: updates are missing, for example. Empty when it is.
    pub shortcomings: Vec<String>,
}

/// What a peer showed and a policy took: readable for as long as the session lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The format of the evidence.
    pub format: &'static str,
    /// What was measured.
    pub measurements: Vec<Measurement>,
    /// What was let pass although the platform's maker would not call it well.
    pub shortcomings: Vec<String>,
}
