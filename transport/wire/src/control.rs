//! Owns the frames of CONTROL packets, and the packet's clear bytes. [P-5.3], [P-8]
//!
//! A control packet is sealed as one piece and may carry several frames, so that what an endpoint has to say to a peer at
//! one moment costs one packet and one tag.

use crate::bytes::{Reader, Writer};
use crate::error::Refusal;
use crate::header::Header;
use crate::ids::RpcId;
use crate::limits::{CONTROL_HEADER_LEN, HEADER_LEN};

/// Why a message was refused by its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// The endpoint takes no requests. It did not run.
    NotServing,
    /// Longer than the receiver accepts. It did not run.
    TooLong,
    /// Finished earlier, and its result is no longer held. It may have run.
    Forgotten,
    /// The application refused it without a response. It may have run.
    Aborted,
}

impl RefusalCode {
    const fn code(self) -> u8 {
        match self {
            Self::NotServing => 1,
            Self::TooLong => 2,
            Self::Forgotten => 3,
            Self::Aborted => 4,
        }
    }

    const fn from_code(code: u8) -> Result<Self, Refusal> {
        match code {
            1 => Ok(Self::NotServing),
            2 => Ok(Self::TooLong),
            3 => Ok(Self::Forgotten),
            4 => Ok(Self::Aborted),
            _ => Err(Refusal::Malformed),
        }
    }
}

/// One thing that an endpoint says to a peer. The message meant is always the one that the reader of the frame sends or
/// the writer sends, as the verb says; an RPC has one in each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// You may send your message up to byte `offset`, at `priority`.
    Grant {
        /// Which RPC.
        rpc: RpcId,
        /// End of what may be sent.
        offset: u32,
        /// At which priority, 0 to 7.
        priority: u8,
    },
    /// Send bytes `start..end` of your message again.
    Resend {
        /// Which RPC.
        rpc: RpcId,
        /// First byte that is missing.
        start: u32,
        /// End of the gap; at least `start`. `u32::MAX` means "all that you have sent".
        end: u32,
    },
    /// I have that RPC and cannot send yet.
    Busy {
        /// Which RPC.
        rpc: RpcId,
    },
    /// I have no trace of that RPC: it has not run here.
    Unknown {
        /// Which RPC.
        rpc: RpcId,
    },
    /// I have all of your message and will not ask for it again.
    Ack {
        /// Which RPC.
        rpc: RpcId,
    },
    /// May I forget my message?
    NeedAck {
        /// Which RPC.
        rpc: RpcId,
    },
    /// I no longer want the response; you may stop.
    Cancel {
        /// Which RPC.
        rpc: RpcId,
    },
    /// I will not take your message.
    Refused {
        /// Which RPC.
        rpc: RpcId,
        /// Why.
        code: RefusalCode,
    },
    /// Your messages to me: which lengths go at which priority. [P-8.3]
    Cutoffs {
        /// Rises with every change.
        version: u16,
        /// Largest length for priorities 7 down to 0.
        cutoffs: [u32; 8],
    },
    /// Prove that you receive on this path. [P-2.3]
    PathChallenge {
        /// To be returned.
        token: u64,
    },
    /// The proof.
    PathResponse {
        /// As it came.
        token: u64,
    },
    /// I can open `epoch` of yours; begin it when you like. [P-6.5]
    EpochReady {
        /// Modulo 256.
        epoch: u8,
    },
    /// My keys of now have protected much: be ready to open `epoch` of mine, and say so by EPOCH_READY. [P-6.5]
    EpochWanted {
        /// Modulo 256.
        epoch: u8,
    },
    /// The handshake is complete at my end. [P-6.2]
    Done,
    /// My keys have protected almost as much as they may: begin a new session for what you begin from now on. [P-6.7]
    Renew,
    /// All RPCs below that I began are finished: for a message that states an older floor. [P-7.2]
    Floor {
        /// A sequence.
        floor: u64,
    },
    /// I forget this session now; nothing unfinished will be finished.
    Close,
    /// Slices of your message came together and did not open: go on with it under its next attempt. [P-4.6]
    NextAttempt {
        /// Which RPC.
        rpc: RpcId,
    },
}

mod tag {
    pub(super) const GRANT: u8 = 1;
    pub(super) const RESEND: u8 = 2;
    pub(super) const BUSY: u8 = 3;
    pub(super) const UNKNOWN: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const NEED_ACK: u8 = 6;
    pub(super) const CANCEL: u8 = 7;
    pub(super) const REFUSED: u8 = 8;
    pub(super) const CUTOFFS: u8 = 9;
    pub(super) const PATH_CHALLENGE: u8 = 10;
    pub(super) const PATH_RESPONSE: u8 = 11;
    pub(super) const EPOCH_READY: u8 = 12;
    pub(super) const DONE: u8 = 13;
    pub(super) const CLOSE: u8 = 14;
    pub(super) const RENEW: u8 = 15;
    pub(super) const FLOOR: u8 = 16;
    pub(super) const EPOCH_WANTED: u8 = 17;
    pub(super) const NEXT_ATTEMPT: u8 = 18;
}

impl Frame {
    /// The longest frame.
    pub const LEN_MAX: usize = 1 + 2 + 8 * 4;

    /// Its bytes on the wire.
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Grant { .. } => 1 + 6 + 4 + 1,
            Self::Resend { .. } => 1 + 6 + 4 + 4,
            Self::Refused { .. } => 1 + 6 + 1,
            Self::Busy { .. }
            | Self::Unknown { .. }
            | Self::Ack { .. }
            | Self::NeedAck { .. }
            | Self::NextAttempt { .. }
            | Self::Cancel { .. } => 1 + 6,
            Self::Cutoffs { .. } => Self::LEN_MAX,
            Self::PathChallenge { .. } | Self::PathResponse { .. } => 1 + 8,
            Self::EpochReady { .. } | Self::EpochWanted { .. } => 1 + 1,
            Self::Floor { .. } => 1 + 6,
            Self::Done | Self::Close | Self::Renew => 1,
        }
    }

    /// Appends the frame.
    pub fn emit(&self, w: &mut Writer<'_>) {
        let simple = |w: &mut Writer<'_>, tag: u8, rpc: &RpcId| {
            w.u8(tag);
            w.u48(rpc.as_u48());
        };
        match self {
            Self::Grant { rpc, offset, priority } => {
                simple(w, tag::GRANT, rpc);
                w.u32(*offset);
                w.u8(*priority);
            }
            Self::Resend { rpc, start, end } => {
                simple(w, tag::RESEND, rpc);
                w.u32(*start);
                w.u32(*end);
            }
            Self::Busy { rpc } => simple(w, tag::BUSY, rpc),
            Self::Unknown { rpc } => simple(w, tag::UNKNOWN, rpc),
            Self::Ack { rpc } => simple(w, tag::ACK, rpc),
            Self::NeedAck { rpc } => simple(w, tag::NEED_ACK, rpc),
            Self::Cancel { rpc } => simple(w, tag::CANCEL, rpc),
            Self::NextAttempt { rpc } => simple(w, tag::NEXT_ATTEMPT, rpc),
            Self::Refused { rpc, code } => {
                simple(w, tag::REFUSED, rpc);
                w.u8(code.code());
            }
            Self::Cutoffs { version, cutoffs } => {
                w.u8(tag::CUTOFFS);
                w.u16(*version);
                cutoffs.iter().for_each(|c| w.u32(*c));
            }
            Self::PathChallenge { token } => {
                w.u8(tag::PATH_CHALLENGE);
                w.u64(*token);
            }
            Self::PathResponse { token } => {
                w.u8(tag::PATH_RESPONSE);
                w.u64(*token);
            }
            Self::EpochReady { epoch } => {
                w.u8(tag::EPOCH_READY);
                w.u8(*epoch);
            }
            Self::EpochWanted { epoch } => {
                w.u8(tag::EPOCH_WANTED);
                w.u8(*epoch);
            }
            Self::Done => w.u8(tag::DONE),
            Self::Close => w.u8(tag::CLOSE),
            Self::Renew => w.u8(tag::RENEW),
            Self::Floor { floor } => {
                w.u8(tag::FLOOR);
                w.u48(*floor);
            }
        }
    }

    /// Reads the next frame.
    ///
    /// # Errors
    /// Why there is none; the rest of the packet then has no meaning either.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, Refusal> {
        let kind = r.u8()?;
        let rpc = |r: &mut Reader<'_>| RpcId::from_u48(r.u48()?);
        Ok(match kind {
            tag::GRANT => {
                let (rpc, offset, priority) = (rpc(r)?, r.u32()?, r.u8()?);
                if priority > 7 {
                    return Err(Refusal::Malformed);
                }
                Self::Grant { rpc, offset, priority }
            }
            tag::RESEND => {
                let (rpc, start, end) = (rpc(r)?, r.u32()?, r.u32()?);
                if start > end {
                    return Err(Refusal::Malformed);
                }
                Self::Resend { rpc, start, end }
            }
            tag::BUSY => Self::Busy { rpc: rpc(r)? },
            tag::UNKNOWN => Self::Unknown { rpc: rpc(r)? },
            tag::ACK => Self::Ack { rpc: rpc(r)? },
            tag::NEED_ACK => Self::NeedAck { rpc: rpc(r)? },
            tag::CANCEL => Self::Cancel { rpc: rpc(r)? },
            tag::NEXT_ATTEMPT => Self::NextAttempt { rpc: rpc(r)? },
            tag::REFUSED => Self::Refused { rpc: rpc(r)?, code: RefusalCode::from_code(r.u8()?)? },
            tag::CUTOFFS => {
                let version = r.u16()?;
                let mut cutoffs = [0; 8];
                for c in &mut cutoffs {
                    *c = r.u32()?;
                }
                Self::Cutoffs { version, cutoffs }
            }
            tag::PATH_CHALLENGE => Self::PathChallenge { token: r.u64()? },
            tag::PATH_RESPONSE => Self::PathResponse { token: r.u64()? },
            tag::EPOCH_READY => Self::EpochReady { epoch: r.u8()? },
            tag::EPOCH_WANTED => Self::EpochWanted { epoch: r.u8()? },
            tag::DONE => Self::Done,
            tag::CLOSE => Self::Close,
            tag::RENEW => Self::Renew,
            tag::FLOOR => {
                let floor = r.u48()?;
                if floor > RpcId::SEQUENCE_MAX + 1 {
                    return Err(Refusal::Malformed);
                }
                Self::Floor { floor }
            }
            _ => return Err(Refusal::Malformed),
        })
    }
}

/// Appends the clear bytes of a control packet: they are its additional data. [P-5.3]
pub fn emit_header(w: &mut Writer<'_>, header: &Header, number: u64) {
    header.emit(w);
    w.u64(number);
}

/// The packet number of a CONTROL packet; what follows it is sealed.
///
/// # Errors
/// [`Refusal::Truncated`] when there is none.
pub fn packet_number(packet: &[u8]) -> Result<u64, Refusal> {
    let bytes = packet.get(HEADER_LEN..CONTROL_HEADER_LEN).ok_or(Refusal::Truncated)?;
    Reader::new(bytes).u64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Side;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// [P-5.3] [P-8.3] Every frame, byte for byte.
    #[test]
    fn each_frame_has_its_bytes() {
        let rpc = RpcId::new(Side::Server, 0x0102_0304_0506 >> 1);
        let named = |kind: u8, rest: &[u8]| [&[kind, 1, 2, 3, 4, 5, 7], rest].concat();
        let codes = [RefusalCode::NotServing, RefusalCode::TooLong, RefusalCode::Forgotten, RefusalCode::Aborted];
        let mut frames = vec![
            (Frame::Grant { rpc, offset: 0xa1b2_c3d4, priority: 7 }, named(1, &[0xa1, 0xb2, 0xc3, 0xd4, 7])),
            (Frame::Resend { rpc, start: 9, end: u32::MAX }, named(2, &[0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff])),
            (Frame::Busy { rpc }, named(3, &[])),
            (Frame::Unknown { rpc }, named(4, &[])),
            (Frame::Ack { rpc }, named(5, &[])),
            (Frame::NeedAck { rpc }, named(6, &[])),
            (Frame::Cancel { rpc }, named(7, &[])),
            (Frame::NextAttempt { rpc }, named(18, &[])),
            (Frame::PathChallenge { token: 0x0102_0304_0506_0708 }, vec![10, 1, 2, 3, 4, 5, 6, 7, 8]),
            (Frame::PathResponse { token: 0x0102_0304_0506_0708 }, vec![11, 1, 2, 3, 4, 5, 6, 7, 8]),
            (Frame::EpochReady { epoch: 0x77 }, vec![12, 0x77]),
            (Frame::EpochWanted { epoch: 0x88 }, vec![17, 0x88]),
            (Frame::Done, vec![13]),
            (Frame::Close, vec![14]),
            (Frame::Renew, vec![15]),
            (Frame::Floor { floor: 1 << 44 }, vec![16, 0x10, 0, 0, 0, 0, 0]),
        ];
        frames.extend((1..).zip(codes).map(|(code, c)| (Frame::Refused { rpc, code: c }, named(8, &[code]))));
        let cutoffs = [8, 7, 6, 5, 4, 3, 2, 1];
        let words: Vec<u8> = cutoffs.iter().flat_map(|word: &u32| word.to_be_bytes()).collect();
        frames.push((Frame::Cutoffs { version: 0x0203, cutoffs }, [vec![9, 2, 3], words].concat()));
        for (frame, expected) in frames {
            let mut bytes = [0; Frame::LEN_MAX];
            let mut w = Writer::new(&mut bytes);
            frame.emit(&mut w);
            let n = w.len();
            assert_eq!(&bytes[..n], expected, "{frame:?}");
            assert_eq!(Frame::parse(&mut Reader::new(&expected)), Ok(frame));
            for cut in 0..n {
                assert_eq!(Frame::parse(&mut Reader::new(&expected[..cut])), Err(Refusal::Truncated), "{frame:?}");
            }
        }
    }

    /// [P-5.3] Values that no frame has: a kind, a priority, a code, a range, an RPC.
    #[test]
    fn impossible_values_are_malformed() {
        let grant = |rpc: u8, priority: u8| [1, rpc, 0, 0, 0, 0, 0, 0, 0, 0, 1, priority];
        assert!(Frame::parse(&mut Reader::new(&grant(0x1f, 7))).is_ok());
        let resend = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1];
        let floor = [16, 0x10, 0, 0, 0, 0, 1];
        for bytes in [&[0][..], &[19], &[255], &floor, &grant(0x20, 7), &grant(0, 8), &resend] {
            assert_eq!(Frame::parse(&mut Reader::new(bytes)), Err(Refusal::Malformed), "{bytes:?}");
        }
        for code in [0, 5, 255] {
            assert_eq!(Frame::parse(&mut Reader::new(&[8, 0, 0, 0, 0, 0, 0, code])), Err(Refusal::Malformed));
        }
    }

    proptest! {
        /// [P-5.3] Any bytes are refused or mean exactly what they say; a frame's stated length is its length.
        #[test]
        fn meaning_is_exact(kind in 0u8..20, body in proptest::collection::vec(any::<u8>(), 0..48), small in any::<bool>()) {
            let mut bytes = std::vec![kind];
            bytes.extend(&body);
            if small && bytes.len() > 2 {
                bytes[1..3].fill(0);
            }
            let mut r = Reader::new(&bytes);
            if let Ok(frame) = Frame::parse(&mut r) {
                let mut out = [0; Frame::LEN_MAX];
                let mut w = Writer::new(&mut out);
                frame.emit(&mut w);
                let n = w.len();
                prop_assert_eq!(n, frame.encoded_len());
                prop_assert_eq!(&out[..n], &bytes[..bytes.len() - r.rest().len()]);
            }
        }
    }
}
