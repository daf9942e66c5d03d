//! Owns what is kept of both halves of a session while it rests: secrets, numbers and marks. Contexts of keys are made again from these
//! when it wakes, and nothing that a nonce is made of is ever made again: numbers live here or in a half that is awake, never in both,
//! because each is turned into the other and neither can be copied. (decision 0020)
//!
//! A packet that comes meanwhile is tried with a context that lives until another half is tried: so one that is forged changes nothing.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::data::{RecordView, record_aad};
use wire::ids::SessionId;
use wire::limits::{CONTROL_HEADER_LEN, TAG_LEN};

use super::{Inbound, LIVE_MAX, Opening, Outbound, Sealing, place};
use crate::aead::{Aead, Crypto, NONCE_LEN};
use crate::budget::{Budget, Limits};
use crate::error::OpenError;
use crate::keys::{Chain, ControlKey, DataKey, KeyBytes};
use crate::replay::Marks;

/// An [`Outbound`] at rest: the present epoch only. Nothing holds a lease of those before, so nothing is sealed there any more.
#[derive(Debug)]
pub struct OutboundAtRest {
    chain: Chain,
    blocks: u64,
    records: u64,
    next_control: u64,
}

impl Outbound {
    /// Whether nothing holds a lease, and no key was given up, so that it can rest.
    pub fn may_rest(&self) -> bool {
        self.live.iter().flatten().all(|sealing| sealing.leases == 0 && !sealing.retired)
    }

    /// What is kept of it while its session rests. The contexts of its keys are gone, and the epochs before the present one are for good.
    ///
    /// # Panics
    /// When something holds a lease: a bug of the caller.
    pub fn rest(mut self) -> OutboundAtRest {
        assert!(self.may_rest(), "what is bound to an epoch would be sealed in it");
        let present = self.live[place(self.current)].take().expect("the present epoch lives");
        let (blocks, records) = (present.budget.blocks(), present.budget.records());
        OutboundAtRest { chain: self.chain, blocks, records, next_control: present.next_control }
    }
}

impl OutboundAtRest {
    /// The epoch in which messages begin.
    pub const fn epoch(&self) -> u64 {
        self.chain.epoch()
    }

    /// The half again, as it was; `limits` are those that it had.
    pub fn wake(self, crypto: &dyn Crypto, limits: Limits) -> Outbound {
        let mut present = Sealing::new(crypto, &self.chain, limits);
        present.budget = Budget::spent(limits, self.blocks, self.records);
        present.next_control = self.next_control;
        let (current, mut live) = (self.chain.epoch(), [const { None }; LIVE_MAX]);
        live[place(current)] = Some(Box::new(present));
        Outbound { chain: self.chain, limits, current, live }
    }
}

/// An [`Opening`] at rest.
#[derive(Debug)]
struct OpeningAtRest {
    epoch: u64,
    bytes: KeyBytes,
    marks: Marks,
}

impl OpeningAtRest {
    fn new(opening: Opening) -> Self {
        Self { epoch: opening.epoch, marks: opening.window.marks(), bytes: opening.bytes }
    }
}

/// An [`Inbound`] at rest. All epochs that its peer may seal in are kept: it may have messages under way of which nothing came yet.
#[derive(Debug)]
pub struct InboundAtRest {
    chain: Chain,
    present: OpeningAtRest,
    /// Those before it, and the next one if that was prepared: of most sessions there are none.
    others: Box<[OpeningAtRest]>,
}

impl Inbound {
    /// What is kept of it while its session rests. The contexts of its keys are gone.
    pub fn rest(mut self) -> InboundAtRest {
        let present = self.live[place(self.current)].take().expect("the present epoch lives");
        let others = self.live.into_iter().flatten().chain(self.next);
        let others = others.map(|opening| OpeningAtRest::new(*opening)).collect();
        InboundAtRest { chain: self.chain, present: OpeningAtRest::new(*present), others }
    }
}

impl InboundAtRest {
    /// The latest epoch in which anything opened.
    pub const fn epoch(&self) -> u64 {
        self.present.epoch
    }

    /// The half again, as it was.
    pub fn wake(self, crypto: &dyn Crypto) -> Inbound {
        let Self { chain, present, others } = self;
        let (cipher, current) = (chain.cipher(), present.epoch);
        let made = |OpeningAtRest { epoch, bytes, marks }: OpeningAtRest| {
            Box::new(Opening::of(crypto, cipher, epoch, bytes, marks.window()))
        };
        let mut inbound = Inbound { chain, current, live: [const { None }; LIVE_MAX], next: None };
        inbound.live[place(current)] = Some(made(present));
        for other in others {
            let opening = made(other);
            let home =
                if opening.epoch > current { &mut inbound.next } else { &mut inbound.live[place(opening.epoch)] };
            *home = Some(opening);
        }
        inbound
    }

    fn named(&self, byte: u8) -> Option<&OpeningAtRest> {
        core::iter::once(&self.present).chain(&self.others).find(|opening| opening.epoch as u8 == byte)
    }

    /// Whether there are keys of the epoch that a packet with this byte names.
    pub fn names(&self, byte: u8) -> bool {
        self.named(byte).is_some()
    }

    /// Whether a control packet of that epoch may be new by its number.
    pub fn may_be_new(&self, byte: u8, number: u64) -> bool {
        self.named(byte).is_some_and(|opening| opening.marks.check(number))
    }

    /// Whether `record` of `packet` is the peer's. The packet stays as it is.
    ///
    /// # Errors
    /// [`OpenError::Tag`] when it is not, also when there is no such epoch.
    pub fn proves_record(
        &self,
        crypto: &dyn Crypto,
        of: (SessionId, u8),
        packet: &[u8],
        record: &RecordView,
        trial: &mut Trial,
    ) -> Result<(), OpenError> {
        let opening = self.named(of.1).ok_or(OpenError::Tag)?;
        trial.turn_to(of);
        let key = trial.data.get_or_insert_with(|| opening.bytes.data_key(crypto, self.chain.cipher()));
        let aad = record_aad(record.number, record.plaintext_len());
        opens(key.aead(), &key.nonce(record.number), &aad, &packet[record.sealed.clone()], &mut trial.room)
    }

    /// Whether the control packet `packet` with that number is the peer's. The packet stays as it is.
    ///
    /// # Errors
    /// [`OpenError::Tag`] when it is not, also when there is no such epoch.
    pub fn proves_control(
        &self,
        crypto: &dyn Crypto,
        of: (SessionId, u8),
        packet: &[u8],
        number: u64,
        trial: &mut Trial,
    ) -> Result<(), OpenError> {
        let opening = self.named(of.1).ok_or(OpenError::Tag)?;
        let (clear, sealed) = packet.split_at_checked(CONTROL_HEADER_LEN).ok_or(OpenError::Tag)?;
        trial.turn_to(of);
        let key = trial.control.get_or_insert_with(|| opening.bytes.control_key(crypto, self.chain.cipher()));
        opens(key.aead(), &key.nonce(number), clear, sealed, &mut trial.room)
    }
}

/// Where packets are tried that came for a half at rest, whoever sent them: room, and the contexts of the half and epoch that was tried
/// last, so that a flood at one session makes them once. Its owner has to [forget](Self::forget) them when the session wakes.
#[derive(Debug, Default)]
pub struct Trial {
    room: Vec<u8>,
    of: Option<(SessionId, u8)>,
    data: Option<DataKey>,
    control: Option<ControlKey>,
}

impl Trial {
    /// The contexts of `session` are gone, if they were there.
    pub fn forget(&mut self, session: SessionId) {
        if self.of.is_some_and(|(of, _)| of == session) {
            (self.of, self.data, self.control) = (None, None, None);
        }
    }

    fn turn_to(&mut self, of: (SessionId, u8)) {
        if self.of != Some(of) {
            (self.of, self.data, self.control) = (Some(of), None, None);
        }
    }
}

/// Whether `sealed` opens. What stood in `room` does not stay.
fn opens(
    aead: &dyn Aead,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    room: &mut Vec<u8>,
) -> Result<(), OpenError> {
    let len = sealed.len().checked_sub(TAG_LEN).ok_or(OpenError::Tag)?;
    room.resize(room.len().max(len), 0);
    Ok(aead.open(nonce, aad, sealed, &mut room[..len])?)
}
