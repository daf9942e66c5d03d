//! Owns what an authenticated peer does that keeps no rule: it speaks in its own sessions, with the right keys, whatever it likes.
//! An endpoint of the shipped code runs beside it under the same name, so that its sessions live and its victims have calls with it.

use wire::bundle::{INDEX, Tail};
use wire::control::{Frame, RefusalCode, packet_number};
use wire::ids::{MessageId, RecordNumber, RpcId, SessionId, Side};
use wire::limits::{DATA_HEADER_LEN, MESSAGE_MAX, RECORD_PAYLOAD_MAX, SEQUENCE_WINDOW, TRAILER_LEN};
use wire::slice::part_at;
use wire::trailer::Kind;

use super::Forgery;
use super::forge::{Forger, Part, frames};
use crate::link;
use crate::rng::{FastMap, Rng};
use crate::wiretap::{EPOCH_AT, Session, Wiretap};

/// What a malicious peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Grants beyond the end of messages, and grants for messages that there are not.
    OverGrant,
    /// Frames that are well-formed and untrue.
    LyingControl,
    /// Control packets that cannot be read, or only their beginning.
    MalformedControl,
    /// Records whose trailer says what cannot be.
    LyingLength,
    /// Records of one message that contradict each other.
    Contradiction,
    /// Much more without grants than anybody may send.
    SendsUngranted,
    /// Records beyond the end of their message.
    PastEnd,
    /// Messages that are begun and never finished.
    Flood,
    /// Sequences that are not in the window.
    OutOfWindow,
    /// One record number, two plaintexts.
    SecondPlaintext,
    /// What is specified and not in use, or only when it is asked for: attempts, bundles, slices, epochs.
    NotInUse,
    /// A floor that acknowledges and finishes what it does not know.
    LyingFloor,
    /// Ends the session, or asks for another.
    Close,
}

impl Act {
    /// All acts with their names.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::OverGrant, "over_grant"),
        (Self::LyingControl, "lying_control"),
        (Self::MalformedControl, "malformed_control"),
        (Self::LyingLength, "lying_length"),
        (Self::Contradiction, "contradiction"),
        (Self::SendsUngranted, "sends_ungranted"),
        (Self::PastEnd, "past_end"),
        (Self::Flood, "flood"),
        (Self::OutOfWindow, "out_of_window"),
        (Self::SecondPlaintext, "second_plaintext"),
        (Self::NotInUse, "not_in_use"),
        (Self::LyingFloor, "lying_floor"),
        (Self::Close, "close"),
    ];
}

/// RPCs of a session that are remembered.
const RPCS_KEPT: usize = 32;
/// How far above its real sequences it begins its own: so that for a while these do not meet.
const AHEAD: u64 = 1000;

/// What it knows of a session.
#[derive(Debug)]
struct Voice {
    forger: Forger,
    /// The last control packet number and the highest sequence that its endpoint used.
    control: u64,
    sequence: u64,
    /// RPCs in which its victim sent something.
    rpcs: Vec<RpcId>,
    count: u64,
}

/// Who speaks for `side` in its latest epoch.
fn speaks(session: &Session, side: Side) -> Forger {
    Forger::new(session.keys(side, session.epoch(side)), SessionId::from_u64(session.far(side).1))
}

/// A malicious peer.
#[derive(Debug)]
pub struct Insider {
    host: u32,
    rng: Rng,
    voices: FastMap<u32, Voice>,
    /// Sessions that it speaks in, the latest last.
    sessions: Vec<u32>,
}

impl Insider {
    /// The one that is behind `host`.
    #[must_use]
    pub fn new(host: u32, rng: Rng) -> Self {
        Self { host, rng, voices: FastMap::default(), sessions: Vec::new() }
    }

    /// A frame leaves it, or comes to it.
    pub fn hear(&mut self, frame: &link::Frame, wiretap: &Wiretap) {
        let kind = frame.kind();
        if frame.from != self.host && frame.to != self.host || !matches!(kind, 1 | 2) {
            return;
        }
        let name = u64::from_be_bytes(frame.bytes[8..16].try_into().expect("eight bytes"));
        let Some((at, session)) = wiretap.session(frame.to, name) else { return };
        let side = session.side(self.host);
        let voice = self.voices.entry(at).or_insert_with(|| {
            self.sessions.push(at);
            let forger = speaks(session, side);
            Voice { forger, control: 0, sequence: 0, rpcs: Vec::new(), count: 0 }
        });
        if voice.forger.epoch() != session.epoch(side) {
            (voice.forger, voice.control) = (speaks(session, side), 0);
        }
        let ours = frame.from == self.host;
        if kind == 2 && ours && u64::from(frame.bytes[EPOCH_AT]) == voice.forger.epoch() % 256 {
            voice.control = voice.control.max(packet_number(&frame.bytes).unwrap_or(0));
        } else if kind == 1
            && let Ok(part) = part_at(&frame.bytes, DATA_HEADER_LEN)
        {
            let rpc = part.number().message().rpc();
            if ours && rpc.began() == side {
                voice.sequence = voice.sequence.max(rpc.sequence());
            } else if !ours {
                voice.count += 1;
                match voice.rpcs.len() {
                    RPCS_KEPT => voice.rpcs[voice.count as usize % RPCS_KEPT] = rpc,
                    _ => voice.rpcs.push(rpc),
                }
            }
        }
    }

    /// Does something to somebody, in one of its latest sessions. Gives what it sends, at once.
    pub fn act(&mut self, act: Act, wiretap: &Wiretap) -> Vec<Forgery> {
        let latest = self.sessions.len().min(8) as u64;
        if latest == 0 {
            return Vec::new();
        }
        let at = self.sessions[self.sessions.len() - 1 - self.rng.below(latest) as usize];
        let session = &wiretap.sessions()[at as usize];
        let side = session.side(self.host);
        let (victim, _) = session.far(side);
        let voice = self.voices.get_mut(&at).expect("it speaks there");
        let mut speaker = Speaker { side, voice, rng: &mut self.rng };
        let packets = speaker.packets(act);
        let from = self.host;
        packets.into_iter().map(|bytes| Forgery { from, to: victim, bytes, unauthentic: None }).collect()
    }
}

/// It, while it speaks in one session.
struct Speaker<'a> {
    side: Side,
    voice: &'a mut Voice,
    rng: &'a mut Rng,
}

impl Speaker<'_> {
    fn packets(&mut self, act: Act) -> Vec<Vec<u8>> {
        match act {
            Act::OverGrant => vec![self.over_grants()],
            Act::LyingControl => vec![self.lies()],
            Act::MalformedControl => vec![self.malformed()],
            Act::LyingLength => vec![self.lying_length()],
            Act::Contradiction => self.contradiction(),
            Act::SendsUngranted => self.ungranted(),
            Act::PastEnd => self.past_end(),
            Act::Flood => self.flood(),
            Act::OutOfWindow => vec![self.out_of_window()],
            Act::SecondPlaintext => self.second_plaintext(),
            Act::NotInUse => vec![self.not_in_use()],
            Act::LyingFloor => vec![self.lying_floor()],
            Act::Close => vec![self.close()],
        }
    }

    /// A message of its own, that its endpoint never began; or one that the victim began, and it answers.
    fn part(&mut self) -> Part {
        self.voice.sequence += 1 + self.rng.below(2);
        let own = RpcId::new(self.side, self.voice.sequence + AHEAD);
        let theirs = self.voice.rpcs.iter().copied().find(|rpc| rpc.began() != self.side);
        let (rpc, kind) = match (self.rng.below(8), theirs) {
            (0, Some(rpc)) => (rpc, Kind::Response),
            (1..=3, _) => (own, Kind::OneWay),
            _ => (own, Kind::Request),
        };
        let length = 1 + self.number(20) as u32;
        let payload = 200 + self.rng.below(1000) as u16;
        let floor_distance = own.sequence().min(u64::from(u32::MAX)) as u32;
        let message = MessageId::new(rpc, 0);
        Part { message, index: 0, kind, length, payload, unscheduled: length.min(5000), floor_distance }
    }

    /// A number of fewer than so many bits, each number of them as likely.
    fn number(&mut self, bits: u64) -> u64 {
        let bits = 1 + self.rng.below(bits - 1);
        self.rng.below(1 << bits)
    }

    fn any_rpc(&mut self) -> RpcId {
        let known = self.voice.rpcs.len() as u64;
        match self.rng.below(3) {
            0 => RpcId::new(self.side, self.rng.below(self.voice.sequence + 2)),
            1 if known > 0 => self.voice.rpcs[self.rng.below(known) as usize],
            _ => RpcId::new(self.side.peer(), self.number(44)),
        }
    }

    fn control(&mut self, frames: &[u8]) -> Vec<u8> {
        // A few ahead of its endpoint's: so each costs that one no more than a packet.
        let number = self.voice.control + 1 + self.rng.below(8);
        self.voice.forger.control(number, frames)
    }

    fn over_grants(&mut self) -> Vec<u8> {
        let grants: Vec<Frame> = (0..=self.rng.below(6))
            .map(|_| {
                let offset = match self.rng.below(3) {
                    0 => u32::MAX,
                    1 => MESSAGE_MAX as u32 + 1,
                    _ => self.rng.below(10 << 20) as u32,
                };
                Frame::Grant { rpc: self.any_rpc(), offset, priority: self.rng.below(8) as u8 }
            })
            .collect();
        self.control(&frames(&grants))
    }

    fn lie(&mut self) -> Frame {
        let rpc = self.any_rpc();
        let (a, b) = (self.rng.next() as u32, self.rng.next() as u32);
        // The byte of an epoch that there might be.
        let near = (self.voice.forger.epoch() + u64::from(a % 7)).wrapping_sub(3) as u8;
        match self.rng.below(15) {
            14 => Frame::NextAttempt { rpc },
            0 => Frame::Resend { rpc, start: a.min(b), end: a.max(b) },
            1 => Frame::Resend { rpc, start: 0, end: u32::MAX },
            2 => Frame::Busy { rpc },
            3 => Frame::Unknown { rpc },
            4 => Frame::Ack { rpc },
            5 => Frame::NeedAck { rpc },
            6 => Frame::Cancel { rpc },
            7 => {
                let codes =
                    [RefusalCode::NotServing, RefusalCode::TooLong, RefusalCode::Forgotten, RefusalCode::Aborted];
                Frame::Refused { rpc, code: codes[self.rng.below(4) as usize] }
            }
            8 => Frame::Cutoffs { version: a as u16, cutoffs: core::array::from_fn(|_| self.rng.next() as u32) },
            9 => Frame::PathChallenge { token: self.rng.next() },
            10 => Frame::PathResponse { token: self.rng.next() },
            11 => Frame::EpochReady { epoch: if b % 4 == 0 { b as u8 } else { near } },
            12 => Frame::EpochWanted { epoch: near },
            _ => Frame::EpochWanted { epoch: a as u8 },
        }
    }

    fn lies(&mut self) -> Vec<u8> {
        let lies: Vec<Frame> = (0..=self.rng.below(24)).map(|_| self.lie()).collect();
        self.control(&frames(&lies))
    }

    fn malformed(&mut self) -> Vec<u8> {
        let mut bytes = match self.rng.below(3) {
            0 => Vec::new(),
            _ => frames(&[self.lie(), self.lie()]),
        };
        let whole = bytes.len() as u64;
        match self.rng.below(4) {
            0 => bytes.truncate(self.rng.below(whole + 1) as usize),
            1 => bytes.push(17 + self.rng.below(238) as u8),
            2 => bytes.push(0),
            _ => {
                let mut noise = vec![0; self.rng.below(100) as usize];
                self.rng.fill(&mut noise);
                bytes.extend(noise);
            }
        }
        self.control(&bytes)
    }

    fn lying_length(&mut self) -> Vec<u8> {
        let mut part = self.part();
        let which = self.rng.below(6);
        match which {
            0 => part.length = MESSAGE_MAX as u32 + 1 + self.rng.below(1 << 30) as u32,
            1 => part.payload = 0,
            2 => part.unscheduled = part.length + 1 + self.rng.below(1000) as u32,
            3 => part.payload = RECORD_PAYLOAD_MAX as u16 + 1,
            _ => {}
        }
        let mut plaintext = part.plaintext();
        let trailer = plaintext.len() - 16;
        match which {
            // Fewer bytes than the record has to have.
            4 => drop(plaintext.drain(..trailer.min(1))),
            // Acknowledgements that are not there, or not whole.
            5 => plaintext[trailer + 15] = [7, 255, 36, 30][self.rng.below(4) as usize],
            _ => {}
        }
        let record = self.voice.forger.record(RecordNumber::new(part.message, part.index), &plaintext);
        self.voice.forger.data(&[record])
    }

    fn contradiction(&mut self) -> Vec<Vec<u8>> {
        let mut part = Part { length: 20_000, payload: 1000, ..self.part() };
        let first = self.voice.forger.part(&part);
        match self.rng.below(3) {
            0 => part.length = 30_000,
            1 => part.payload = 900,
            _ => part.kind = if part.kind == Kind::OneWay { Kind::Request } else { Kind::OneWay },
        }
        vec![first, self.voice.forger.part(&Part { index: 1, ..part })]
    }

    fn ungranted(&mut self) -> Vec<Vec<u8>> {
        let length = 100_000 + self.rng.below(400_000) as u32;
        let part = Part { length, payload: 1200, unscheduled: length, ..self.part() };
        // From its beginning, or its end.
        let start = if self.rng.below(2) == 0 { 0 } else { (length / 1200 - 40) as u16 };
        (start..start + 40).map(|index| self.voice.forger.part(&Part { index, ..part })).collect()
    }

    fn past_end(&mut self) -> Vec<Vec<u8>> {
        let part = Part { length: 5000, payload: 1000, ..self.part() };
        let begun = self.rng.below(2) == 0;
        let indices = [0, 5, 6 + self.rng.below(1000) as u16, u16::MAX];
        indices[usize::from(!begun)..].iter().map(|at| self.voice.forger.part(&Part { index: *at, ..part })).collect()
    }

    fn flood(&mut self) -> Vec<Vec<u8>> {
        let flood = (0..8).map(|_| {
            let length = 20_000 + self.rng.below(500_000) as u32;
            let unscheduled = if self.rng.below(2) == 0 { 0 } else { 20_000 };
            let part = Part { length, payload: 1000, unscheduled, ..self.part() };
            self.voice.forger.part(&part)
        });
        flood.collect()
    }

    fn out_of_window(&mut self) -> Vec<u8> {
        let top = self.voice.sequence;
        let sequence = match self.rng.below(3) {
            0 => RpcId::SEQUENCE_MAX,
            1 => top + 2 * SEQUENCE_WINDOW + self.rng.below(1 << 20),
            _ => self.rng.below(top / 2 + 1),
        };
        let part = self.part();
        let message = MessageId::new(RpcId::new(self.side, sequence), 0);
        let floor_distance = sequence.min(u64::from(u32::MAX)) as u32;
        self.voice.forger.part(&Part { message, kind: Kind::Request, floor_distance, ..part })
    }

    fn second_plaintext(&mut self) -> Vec<Vec<u8>> {
        let part = self.part();
        let first = self.voice.forger.part(&part);
        let other = Part { length: part.length + 1, unscheduled: 0, ..part };
        vec![first.clone(), self.voice.forger.part(&other), first]
    }

    fn not_in_use(&mut self) -> Vec<u8> {
        let part = self.part();
        let rpc = part.message.rpc();
        match self.rng.below(5) {
            4 => {
                // An ordinary record where a bundle would be, or bytes that are none.
                let mut plaintext = part.plaintext();
                if self.rng.below(2) == 0 {
                    let len = plaintext.len() - TRAILER_LEN;
                    let floor = self.number(44);
                    plaintext[len..].copy_from_slice(&Tail { len: len as u16, floor }.emit());
                }
                let record = self.voice.forger.record(RecordNumber::new(part.message, INDEX), &plaintext);
                self.voice.forger.data(&[record])
            }
            0 => {
                // Another attempt of what its endpoint may have sent, cut in another way.
                let attempt = 1 + self.rng.below(7) as u8;
                let rpc = if self.rng.below(2) == 0 { rpc } else { self.any_rpc() };
                self.voice.forger.part(&Part { message: MessageId::new(rpc, attempt), ..part })
            }
            1 => {
                let mut plaintext = part.plaintext();
                let kind = plaintext.len() - 2;
                plaintext[kind] |= 3;
                let record = self.voice.forger.record(RecordNumber::new(part.message, 0), &plaintext);
                self.voice.forger.data(&[record])
            }
            2 => {
                let mut record = self.voice.forger.record(RecordNumber::new(part.message, 0), &part.plaintext());
                record[0] = 0x18;
                self.voice.forger.data(&[record])
            }
            _ => {
                let mut packet = self.voice.forger.part(&part);
                packet[2] = 1 + self.rng.below(255) as u8;
                packet
            }
        }
    }

    fn lying_floor(&mut self) -> Vec<u8> {
        if self.rng.below(2) == 0 {
            let floor = self.number(46);
            return self.control(&frames(&[Frame::Floor { floor }]));
        }
        let part = self.part();
        self.voice.forger.part(&Part { floor_distance: self.rng.below(AHEAD) as u32, ..part })
    }

    fn close(&mut self) -> Vec<u8> {
        let frame = [Frame::Close, Frame::Renew, Frame::Done][self.rng.below(3) as usize];
        self.control(&frames(&[frame]))
    }
}
