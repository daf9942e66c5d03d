//! Owns who makes evidence and who judges whether it is genuine, and the few bytes in front of it on the wire.

use std::fmt;

use crate::binding::Binding;
use crate::claims::Claims;

/// A format of evidence: its number on the wire and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// On the wire.
    pub code: u16,
    /// In logs and reports.
    pub name: &'static str,
    /// Whether anybody can make it, on any machine: then it proves nothing.
    pub is_mock: bool,
}

/// Longest evidence that is looked at, the format's number included.
pub const EVIDENCE_MAX: usize = 60_000;

/// Why evidence could not be made, or was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The platform did not give any.
    Unavailable(String),
    /// A production policy without a single pinned measurement would let everything pass.
    NoPins,
    /// A production policy takes no evidence that anybody can make.
    MockInProduction,
    /// The peer shows a format that nobody here can judge.
    UnknownFormat(u16),
    /// It cannot be read.
    Malformed(&'static str),
    /// It is not genuine.
    NotGenuine(String),
    /// It was genuine, or will be: what vouches for it does not hold now.
    Expired(String),
    /// It is genuine, and was made for something else: another session, the other side, an earlier time.
    NotBound,
    /// Its owner can look into it.
    Debug,
    /// The platform's maker calls it less than well.
    Shortcoming(String),
    /// A pinned register was not shown, or has another value.
    Measurement {
        /// Which.
        register: u8,
        /// What it may hold, as text or in hexadecimal.
        pinned: Vec<String>,
        /// What it holds, as text or in hexadecimal; empty when it was not shown.
        shown: String,
    },
    /// More waits to be judged than can be.
    Busy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "this machine gives no evidence: {why}"),
            Self::NoPins => f.write_str("a production policy needs at least one pinned measurement"),
            Self::MockInProduction => f.write_str("a production policy takes no mock evidence"),
            Self::UnknownFormat(code) => write!(f, "no verifier for evidence of format {code}"),
            Self::Malformed(what) => write!(f, "evidence cannot be read: {what}"),
            Self::NotGenuine(why) => write!(f, "evidence is not genuine: {why}"),
            Self::Expired(why) => write!(f, "evidence does not hold at this time: {why}"),
            Self::NotBound => f.write_str("evidence was not made for this session and side"),
            Self::Debug => f.write_str("the peer's memory can be read by its host: a debug mode is on"),
            Self::Shortcoming(what) => write!(f, "the peer's platform is not in order: {what}"),
            Self::Measurement { register, pinned, shown } => {
                let (pinned, shown) = (pinned.join(" or "), if shown.is_empty() { "nothing" } else { shown });
                write!(f, "register {register}: expected {pinned}, found {shown}")
            }
            Self::Busy => f.write_str("more evidence waits to be judged than can be"),
        }
    }
}

impl std::error::Error for Error {}

/// Makes evidence: the platform that this process runs on.
pub trait Attester: Send + Sync + fmt::Debug {
    /// What it makes.
    fn format(&self) -> Format;

    /// Evidence that contains `binding`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], and why.
    fn evidence(&self, binding: &Binding) -> Result<Vec<u8>, Error>;
}

/// Judges whether evidence is genuine. It does not judge whether it is the right one: [`crate::policy::Policy`] does, for all formats
/// alike, so that no verifier can forget it.
pub trait Verifier: Send + Sync + fmt::Debug {
    /// What it judges.
    fn format(&self) -> Format;

    /// What the evidence says, at that time (seconds since 1970).
    ///
    /// # Errors
    /// Why it is not genuine.
    fn verify(&self, evidence: &[u8], unix_seconds: u64) -> Result<Claims, Error>;
}

/// Evidence as one side shows it: the number of its format, two bytes, and what the platform made.
///
/// # Errors
/// As [`Attester::evidence`]; also when it is longer than [`EVIDENCE_MAX`].
pub fn statement(attester: &dyn Attester, binding: &Binding) -> Result<Vec<u8>, Error> {
    let evidence = attester.evidence(binding)?;
    let mut statement = attester.format().code.to_be_bytes().to_vec();
    statement.extend(evidence);
    if statement.len() > EVIDENCE_MAX {
        return Err(Error::Unavailable(format!("{} bytes are more than {EVIDENCE_MAX}", statement.len())));
    }
    Ok(statement)
}
