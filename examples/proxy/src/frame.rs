//! Owns what entrance and exit say to each other: the bytes of requests and answers. All of it is sealed by Sealane; names are random, so
//! that nobody but who was told one can use it.

use sealane::Payload;

use crate::limits::{CHUNK_BYTES, HEAD_BYTES};

/// Of what is said here; an exit refuses others.
const VERSION: u8 = 2;
/// Bytes of a name.
const NAME_LEN: usize = 16;
/// Kind, name, number.
const NUMBERED_LEN: usize = 1 + NAME_LEN + 8;
/// A push has a byte of flags behind that.
pub(crate) const PUSH_HEAD_LEN: usize = NUMBERED_LEN + 1;
const _: () = assert!(PUSH_HEAD_LEN <= HEAD_BYTES);

/// What follows the name in the longest push.
const PUSH_REST_MAX: usize = PUSH_HEAD_LEN - 1 - NAME_LEN + CHUNK_BYTES;

/// The name of a connection.
pub(crate) type Name = [u8; NAME_LEN];

/// A new one.
pub(crate) fn name() -> Name {
    let mut name = Name::default();
    // Without a source of randomness nothing of this is safe: there is nothing to fall back to.
    getrandom::fill(&mut name).expect("the system gives randomness");
    name
}

/// What an entrance asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A connection to the target. The answer is its name, or why not.
    Open,
    /// The bytes behind the head are number so and so of the connection; the last if so.
    Push { connection: Name, number: u64, last: bool },
    /// The next bytes that come back, by number.
    Pull { connection: Name, number: u64 },
    /// The connection is reset.
    Reset(Name),
    /// The connection is still there.
    Here(Name),
}

const OPEN: u8 = 1;
const PUSH: u8 = 2;
const PULL: u8 = 3;
const RESET: u8 = 4;
const HERE: u8 = 5;

impl Ask {
    /// Its bytes; those of a push follow.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let numbered = |kind: u8, name: Name, number: u64| [&[kind][..], &name, &number.to_be_bytes()].concat();
        match self {
            Self::Open => vec![OPEN, VERSION],
            Self::Push { connection, number, last } => {
                let mut bytes = Vec::with_capacity(PUSH_HEAD_LEN + CHUNK_BYTES);
                bytes.extend_from_slice(&numbered(PUSH, connection, number));
                bytes.push(u8::from(last));
                bytes
            }
            Self::Pull { connection, number } => numbered(PULL, connection, number),
            Self::Reset(connection) => [&[RESET][..], &connection].concat(),
            Self::Here(connection) => [&[HERE][..], &connection].concat(),
        }
    }

    /// What a request asks for. `None` for nonsense, or what another version says.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes == [OPEN, VERSION] {
            return Some(Self::Open);
        }
        let (&kind, rest) = bytes.split_first()?;
        let (&name, rest) = rest.split_first_chunk::<NAME_LEN>()?;
        let number = || Some(u64::from_be_bytes(*rest.first_chunk()?));
        match (kind, rest.len()) {
            (PUSH, 9..=PUSH_REST_MAX) => {
                let flags = rest[8];
                (flags <= 1).then_some(Self::Push { connection: name, number: number()?, last: flags == 1 })
            }
            (PULL, 8) => Some(Self::Pull { connection: name, number: number()? }),
            (RESET, 0) => Some(Self::Reset(name)),
            (HERE, 0) => Some(Self::Here(name)),
            _ => None,
        }
    }
}

/// How an exit answers: the first byte, before any bytes that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Answer {
    /// Done: the connection's name, written bytes, or the bytes that came.
    Done = 0,
    /// Nothing more will come.
    End = 1,
    /// What is pushed is not taken any more; what comes back may still come.
    Closed = 2,
    /// The connection was reset, or is not known.
    Reset = 3,
    /// The connection is not opened; text says why.
    Refused = 4,
    /// Nothing came for a while: ask again.
    Later = 5,
}

impl Answer {
    pub(crate) fn bytes(self) -> Vec<u8> {
        vec![self as u8]
    }

    pub(crate) fn of(payload: &Payload) -> Option<(Self, Payload)> {
        let all = [Self::Done, Self::End, Self::Closed, Self::Reset, Self::Refused, Self::Later];
        let found = all.into_iter().find(|answer| Some(&(*answer as u8)) == payload.first())?;
        Some((found, payload.slice(1..payload.len())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood_and_nothing_shorter_or_longer() {
        let connection = name();
        let asks = [
            Ask::Open,
            Ask::Push { connection, number: 7, last: false },
            Ask::Push { connection, number: u64::MAX, last: true },
            Ask::Pull { connection, number: 1 << 40 },
            Ask::Reset(connection),
            Ask::Here(name()),
        ];
        for ask in asks {
            let bytes = ask.bytes();
            assert_eq!(Ask::parse(&bytes), Some(ask));
            for end in 0..bytes.len() {
                assert_eq!(Ask::parse(&bytes[..end]), None, "{ask:?} cut to {end}");
            }
            let longer = [&bytes[..], b"x"].concat();
            let carries = matches!(ask, Ask::Push { .. });
            assert_eq!(Ask::parse(&longer), carries.then_some(ask), "{ask:?}");
        }
        assert_eq!(Ask::Push { connection, number: 0, last: true }.bytes().len(), PUSH_HEAD_LEN);
        assert_eq!(Ask::parse(&[9; 30]), None);
    }

    #[test]
    fn a_push_carries_a_chunk_and_not_more() {
        let push = Ask::Push { connection: name(), number: 3, last: false };
        let full = [push.bytes(), vec![7; CHUNK_BYTES]].concat();
        assert_eq!(Ask::parse(&full), Some(push));
        assert_eq!(Ask::parse(&[&full[..], b"x"].concat()), None);
    }

    #[test]
    fn names_differ() {
        assert_ne!(name(), name());
    }

    #[test]
    fn answers_are_their_first_byte() {
        let payload = Payload::from([&Answer::Refused.bytes()[..], b"why"].concat());
        let (answer, rest) = Answer::of(&payload).expect("an answer");
        assert_eq!((answer, &*rest), (Answer::Refused, &b"why"[..]));
        assert!(Answer::of(&Payload::from(vec![9])).is_none() && Answer::of(&Payload::empty()).is_none());
    }
}
