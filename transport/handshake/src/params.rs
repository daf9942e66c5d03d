//! Owns the transport parameters: what each side tells the other about itself, authenticated by the handshake. [P-6.3]
//!
//! One version byte, then fields of tag, length and value in any order. A reader leaves out tags that it does not know, so
//! later versions can add some; it refuses a known field that is missing, repeated, of another length or out of bounds.

use core::fmt;
use core::time::Duration;

use wire::bytes::Reader;
use wire::error::Refusal;
use wire::ids::SessionId;
use wire::limits::{DATAGRAM_MAX, DATAGRAM_MIN, MESSAGE_MAX, SHARDS_MAX};

/// The layout of the list. A reader refuses another one.
const VERSION: u8 = 1;

/// Most bytes of a list.
pub const PARAMS_MAX: usize = 512;

/// The layout that everyone understands: whole records in packets. [P-4.1]
pub const LAYOUT_ALIGNED: u8 = 1;

/// Records of which slices travel in several packets. Only who says so is sent any. [P-4.6]
pub const LAYOUT_SPANNING: u8 = 2;

const SESSION: u8 = 1;
const DATAGRAM: u8 = 2;
const MESSAGE: u8 = 3;
const UNSCHEDULED: u8 = 4;
const LAYOUTS: u8 = 5;
const SHARDS: u8 = 6;
const RESET_TOKEN: u8 = 7;
const IDLE: u8 = 8;
// These two may be missing.
const SHOWS: u8 = 9;
const DEMANDS: u8 = 10;
const KNOWN: usize = 10;

/// Most formats of evidence that one side says it can judge. [P-6.16]
pub const FORMATS_MAX: usize = 16;

/// What one side tells the other about itself.
#[derive(Clone, PartialEq, Eq)]
pub struct TransportParams {
    /// Its name for the session.
    pub session: SessionId,
    /// The largest datagram that it takes: UDP payload, in bytes.
    pub datagram_max: u16,
    /// The largest message that it takes, in bytes. A larger claim than the protocol allows reads as what it allows.
    pub message_max: u32,
    /// How many bytes of a message it takes before its first grant. Never read as more than `message_max`.
    pub unscheduled: u32,
    /// Which record layouts it takes, a bit each; [`LAYOUT_ALIGNED`] always.
    pub layouts: u8,
    /// How many shards it has.
    pub shards: u16,
    /// The hash of what proves a RESET of this session: the parameters of some handshakes can be read by everyone. [P-5.5]
    pub reset_token: [u8; 16],
    /// How long a silent session lives, in milliseconds; 0 for ever.
    pub idle: Duration,
    /// The format of the evidence that it shows to who demands it. [P-6.16]
    pub shows: Option<u16>,
    /// It demands evidence, and can judge these formats; at most [`FORMATS_MAX`]. [P-6.16]
    pub demands: Option<Vec<u16>>,
}

impl fmt::Debug for TransportParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportParams")
            .field("session", &self.session)
            .field("datagram_max", &self.datagram_max)
            .field("message_max", &self.message_max)
            .field("unscheduled", &self.unscheduled)
            .field("layouts", &self.layouts)
            .field("shards", &self.shards)
            .field("idle", &self.idle)
            .field("shows", &self.shows)
            .field("demands", &self.demands)
            .finish_non_exhaustive()
    }
}

/// Why transport parameters have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Another version of the list.
    Version(u8),
    /// It ends within a field, or is longer than [`PARAMS_MAX`].
    Length,
    /// The field with this tag is missing.
    Missing(u8),
    /// The field with this tag came twice.
    Repeated(u8),
    /// The field with this tag has a value or a length that it cannot have.
    Value(u8),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "version {version}"),
            Self::Length => f.write_str("a length does not fit"),
            Self::Missing(tag) => write!(f, "field {tag} is missing"),
            Self::Repeated(tag) => write!(f, "field {tag} came twice"),
            Self::Value(tag) => write!(f, "field {tag} has an impossible value"),
        }
    }
}

impl core::error::Error for Malformed {}

impl From<Refusal> for Malformed {
    fn from(_: Refusal) -> Self {
        Self::Length
    }
}

impl TransportParams {
    /// The list as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.push(VERSION);
        let mut put = |tag: u8, value: &[u8]| {
            out.extend([tag, value.len() as u8]);
            out.extend_from_slice(value);
        };
        put(SESSION, &self.session.as_u64().to_be_bytes());
        put(DATAGRAM, &self.datagram_max.to_be_bytes());
        put(MESSAGE, &self.message_max.to_be_bytes());
        put(UNSCHEDULED, &self.unscheduled.to_be_bytes());
        put(LAYOUTS, &[self.layouts]);
        put(SHARDS, &self.shards.to_be_bytes());
        put(RESET_TOKEN, &self.reset_token);
        put(IDLE, &u32::try_from(self.idle.as_millis()).unwrap_or(u32::MAX).to_be_bytes());
        if let Some(format) = self.shows {
            put(SHOWS, &format.to_be_bytes());
        }
        if let Some(formats) = &self.demands {
            let codes: Vec<u8> = formats.iter().take(FORMATS_MAX).flat_map(|format| format.to_be_bytes()).collect();
            put(DEMANDS, &codes);
        }
        out
    }

    /// Reads a list.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > PARAMS_MAX {
            return Err(Malformed::Length);
        }
        let mut r = Reader::new(bytes);
        match r.u8()? {
            VERSION => {}
            other => return Err(Malformed::Version(other)),
        }
        let mut fields: [Option<&[u8]>; KNOWN + 1] = [None; KNOWN + 1];
        while !r.is_empty() {
            let (tag, len) = (r.u8()?, r.u8()?);
            let value = r.take(usize::from(len))?;
            if let Some(field) = fields.get_mut(usize::from(tag)).filter(|_| tag != 0)
                && field.replace(value).is_some()
            {
                return Err(Malformed::Repeated(tag));
            }
        }
        let params = Self {
            session: SessionId::from_u64(u64::from_be_bytes(value(&fields, SESSION)?)),
            datagram_max: u16::from_be_bytes(value(&fields, DATAGRAM)?),
            message_max: u32::from_be_bytes(value(&fields, MESSAGE)?).min(MESSAGE_MAX as u32),
            unscheduled: u32::from_be_bytes(value(&fields, UNSCHEDULED)?),
            layouts: u8::from_be_bytes(value(&fields, LAYOUTS)?),
            shards: u16::from_be_bytes(value(&fields, SHARDS)?),
            reset_token: value(&fields, RESET_TOKEN)?,
            idle: Duration::from_millis(u32::from_be_bytes(value(&fields, IDLE)?).into()),
            shows: match fields[usize::from(SHOWS)] {
                Some(_) => Some(u16::from_be_bytes(value(&fields, SHOWS)?)),
                None => None,
            },
            demands: fields[usize::from(DEMANDS)].map(formats).transpose()?,
        };
        params.check()?;
        Ok(Self { unscheduled: params.unscheduled.min(params.message_max), ..params })
    }

    fn check(&self) -> Result<(), Malformed> {
        let datagram = usize::from(self.datagram_max);
        let rules = [
            (SESSION, self.session != SessionId::NONE),
            (DATAGRAM, (DATAGRAM_MIN..=DATAGRAM_MAX).contains(&datagram)),
            (LAYOUTS, self.layouts & LAYOUT_ALIGNED != 0),
            (SHARDS, (1..=SHARDS_MAX).contains(&self.shards)),
        ];
        rules.into_iter().find(|(_, holds)| !holds).map_or(Ok(()), |(tag, _)| Err(Malformed::Value(tag)))
    }
}

fn formats(value: &[u8]) -> Result<Vec<u16>, Malformed> {
    let (codes, rest) = value.as_chunks();
    if !rest.is_empty() || codes.len() > FORMATS_MAX {
        return Err(Malformed::Value(DEMANDS));
    }
    Ok(codes.iter().map(|code| u16::from_be_bytes(*code)).collect())
}

/// Appends a field that [`TransportParams`] does not know.
#[cfg(feature = "tls")]
pub(crate) fn append(list: &mut Vec<u8>, tag: u8, value: &[u8]) {
    debug_assert!(usize::from(tag) > KNOWN && list.len() + 2 + value.len() <= PARAMS_MAX);
    list.extend([tag, value.len() as u8]);
    list.extend_from_slice(value);
}

/// The value of a field that [`TransportParams`] does not know; `None` when it is not there, or not once.
#[cfg(feature = "tls")]
pub(crate) fn find(list: &[u8], tag: u8) -> Option<&[u8]> {
    let mut r = Reader::new(list);
    let mut found = None;
    if list.len() > PARAMS_MAX || r.u8() != Ok(VERSION) {
        return None;
    }
    while !r.is_empty() {
        let (at, len) = (r.u8().ok()?, r.u8().ok()?);
        let value = r.take(usize::from(len)).ok()?;
        if at == tag && found.replace(value).is_some() {
            return None;
        }
    }
    found
}

fn value<const N: usize>(fields: &[Option<&[u8]>; KNOWN + 1], tag: u8) -> Result<[u8; N], Malformed> {
    let bytes = fields[usize::from(tag)].ok_or(Malformed::Missing(tag))?;
    bytes.try_into().map_err(|_| Malformed::Value(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn params() -> impl Strategy<Value = TransportParams> {
        let datagram = DATAGRAM_MIN as u16..=DATAGRAM_MAX as u16;
        let message = 0..=MESSAGE_MAX as u32;
        let formats = proptest::option::of(proptest::collection::vec(any::<u16>(), 0..=FORMATS_MAX));
        let evidence = (proptest::option::of(any::<u16>()), formats);
        let numbers = (any::<u8>(), 1..=SHARDS_MAX, any::<u32>());
        (1u64.., datagram, message, any::<[u8; 16]>(), numbers, evidence).prop_flat_map(
            |(session, datagram_max, message_max, reset_token, (layouts, shards, idle), (shows, demands))| {
                (0..=message_max, Just((shows, demands))).prop_map(move |(unscheduled, (shows, demands))| {
                    TransportParams {
                        session: SessionId::from_u64(session),
                        datagram_max,
                        message_max,
                        unscheduled,
                        layouts: layouts | LAYOUT_ALIGNED,
                        shards,
                        reset_token,
                        idle: Duration::from_millis(idle.into()),
                        shows,
                        demands,
                    }
                })
            },
        )
    }

    proptest! {
        /// [P-6.3] [P-1.3] What is written is read; unknown fields change nothing; every cut is noticed; known fields come
        /// once.
        #[test]
        fn round_trip(params in params(), tag in 12u8.., value in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut bytes = params.encode();
            prop_assert_eq!(&TransportParams::decode(&bytes).unwrap(), &params);
            let required = TransportParams { shows: None, demands: None, ..params.clone() }.encode().len();
            for cut in 0..bytes.len() {
                let read = TransportParams::decode(&bytes[..cut]);
                // What may be missing is missing, or it is not read at all.
                let whole = cut == required || params.shows.is_some() && cut == required + 4;
                prop_assert_eq!(read.is_ok(), whole, "{}", cut);
            }
            bytes.extend([tag, value.len() as u8]);
            bytes.extend(&value);
            prop_assert_eq!(&TransportParams::decode(&bytes).unwrap(), &params);
            bytes.extend([LAYOUTS, 1, 1]);
            prop_assert_eq!(TransportParams::decode(&bytes), Err(Malformed::Repeated(LAYOUTS)));
        }

        /// Random bytes have a meaning within bounds, or a refusal.
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            bytes[0] = VERSION;
            if let Ok(params) = TransportParams::decode(&bytes) {
                prop_assert!(params.check().is_ok());
            }
        }
    }

    /// [P-6.3] Values out of bounds are refused by name, or read as the bound where that is harmless.
    #[test]
    fn bounds() {
        let good = TransportParams {
            session: SessionId::new(1, 2),
            datagram_max: 1400,
            message_max: 1 << 20,
            unscheduled: 1 << 16,
            layouts: 1,
            shards: 1,
            reset_token: [7; 16],
            idle: Duration::from_secs(30),
            shows: None,
            demands: None,
        };
        let read = |change: &dyn Fn(&mut TransportParams)| {
            let mut params = good.clone();
            change(&mut params);
            TransportParams::decode(&params.encode())
        };
        assert_eq!(read(&|p| p.session = SessionId::NONE), Err(Malformed::Value(SESSION)));
        assert_eq!(read(&|p| p.datagram_max = 1231), Err(Malformed::Value(DATAGRAM)));
        assert_eq!(read(&|p| p.layouts = 2), Err(Malformed::Value(LAYOUTS)));
        assert_eq!(read(&|p| p.shards = 0), Err(Malformed::Value(SHARDS)));
        assert_eq!(read(&|p| p.message_max = u32::MAX).unwrap().message_max, MESSAGE_MAX as u32);
        assert_eq!(read(&|p| p.unscheduled = u32::MAX).unwrap().unscheduled, good.message_max);
        assert_eq!(read(&|p| p.demands = Some(Vec::new())).unwrap().demands, Some(Vec::new()), "a demand all the same");
        for value in [&[0, 1, 2][..], &[0; 2 * FORMATS_MAX + 2]] {
            let bytes = [&good.encode()[..], &[DEMANDS, value.len() as u8], value].concat();
            assert_eq!(TransportParams::decode(&bytes), Err(Malformed::Value(DEMANDS)));
        }
        let bytes = [&good.encode()[..], &[SHOWS, 1, 0]].concat();
        assert_eq!(TransportParams::decode(&bytes), Err(Malformed::Value(SHOWS)));
        assert_eq!(TransportParams::decode(&[2]), Err(Malformed::Version(2)));
        assert_eq!(TransportParams::decode(&[VERSION]), Err(Malformed::Missing(SESSION)));
        assert_eq!(TransportParams::decode(&[VERSION; PARAMS_MAX + 1]), Err(Malformed::Length));
        assert!(!std::format!("{good:?}").contains("token"));
    }
}
