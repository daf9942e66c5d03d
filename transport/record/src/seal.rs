//! Owns the way from plaintext to sealed records, and to sealed control packets.
//!
//! A [`Message`] is frozen when it is first planned: it owns its plaintext and its trailer, and nothing can change either
//! afterwards, so sealing a record a second time gives the same bytes (a retransmission repeats, it never re-seals other
//! plaintext under a number). The right to seal under a message id is an [`Id`], which cannot be copied. [P-3.3]
//!
//! A message is bound to an epoch before its first record, and all of its records are sealed there. If that epoch must end
//! before the message, it is unbound; should anything of it still have to go, it is bound again, under its next attempt. So a
//! record number is never sealed in two epochs, and what holds each key's budget is a type. [P-6.5] [P-6.7]
//!
//! Where records span packets, that is so in the first attempt and follows from the frozen trailer: under one number there is either an
//! ordinary record or a spanning one, never both. [P-4.6]

use core::cell::Cell;

use wire::bytes::Writer;
use wire::control::emit_header;
use wire::data::{record_aad, record_header};
use wire::geometry::Geometry;
use wire::header::Header;
use wire::ids::{MessageId, RecordNumber, RpcId, Side};
use wire::limits::{
    ACK_LEN, AUX_MAX, CONTROL_HEADER_LEN, RECORD_HEADER_LEN, SLICE_SPARE, SPAN_PACKETS_MAX, TAG_LEN, TRAILER_LEN,
};
use wire::slice::span_aad;
use wire::trailer::Trailer;

use crate::budget::Exhausted;
use crate::bundle::Lead;
use crate::epochs::{Lease, Outbound};
use crate::keys::{ControlKey, DataKey};

mod handed;

pub use handed::Handed;

/// The right to seal one message. Neither `Clone` nor `Copy`: consumed by [`Message::freeze`]. [P-3.3]
///
/// ```compile_fail,E0382
/// let id = record::seal::Ids::new(wire::ids::Side::Client).take().unwrap();
/// let used = id;
/// let again = id;
/// ```
#[derive(Debug)]
pub struct Id(MessageId);

impl Id {
    /// The right to the response of a request that the peer began. The caller owns that RPC's only reply. [P-3.3]
    pub const fn response(rpc: RpcId) -> Self {
        Self(MessageId::new(rpc, 0))
    }

    /// What it is the right to.
    pub const fn message(&self) -> MessageId {
        self.0
    }
}

/// Gives out the ids of the RPCs that this side begins: each once, in order. [P-3.1]
#[derive(Debug)]
pub struct Ids {
    side: Side,
    next: u64,
}

impl Ids {
    /// The ids of what `side` begins in a new session.
    pub const fn new(side: Side) -> Self {
        Self { side, next: 0 }
    }

    /// The sequence that comes next.
    pub const fn next_sequence(&self) -> u64 {
        self.next
    }

    /// A new id; `None` when the session has none left and must be renewed.
    pub fn take(&mut self) -> Option<Id> {
        let sequence = self.next;
        if sequence > RpcId::SEQUENCE_MAX {
            return None;
        }
        self.next += 1;
        Some(Id(MessageId::new(RpcId::new(self.side, sequence), 0)))
    }
}

/// A message is bound to the present epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// As most are.
    Quietly,
    /// For a later attempt than the first, or with it the next epoch is wanted.
    Notably,
}

/// Why a message cannot be bound to the present epoch. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// The key has protected as much as it may: the next epoch can take it.
    Exhausted,
    /// Its attempts are used up, or it is more than any key may protect.
    Never,
}

/// Who seals an attempt: one of the two, for all of it. A card that lost count makes wrong tags, and two tags under one nonce reveal the
/// key that authenticates; so what a device was given, nobody seals again, and it is given nothing that was sealed. [P-3.5]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sealer {
    /// Nothing of it was sealed yet.
    Nobody,
    /// The processor.
    Software,
    /// A device, which was given all records below this one that it will ever be given.
    Device(u32),
}

/// A message that is ready to be sealed, any number of times, always to the same bytes while it is bound.
#[derive(Debug)]
pub struct Message<B> {
    id: MessageId,
    /// The present attempt was bound, now or before.
    attempted: bool,
    /// It led a bundle.
    led: bool,
    /// Who seals the present attempt.
    sealer: Cell<Sealer>,
    /// Records below this one were a device's in an earlier attempt.
    handed_before: u32,
    lease: Option<Lease>,
    trailer: Trailer,
    /// Acknowledgements that end the message's one record, before the trailer; [`Trailer::aux_len`] says how many bytes are.
    aux: [u8; AUX_MAX],
    body: B,
}

impl<B: AsRef<[u8]>> Message<B> {
    /// Freezes `body` and `trailer` under `id`. `acks` ride along in a message of one record. [P-4.3]
    ///
    /// # Panics
    /// When the trailer's length is not the body's, or acks are given for more than one record: bugs of the caller.
    #[inline(always)]
    pub fn freeze(id: Id, body: B, mut trailer: Trailer, acks: &[RpcId]) -> Self {
        assert_eq!(body.as_ref().len(), trailer.geometry.length() as usize, "trailer of another message");
        assert!(acks.is_empty() || trailer.geometry.records() == 1, "acks ride in single records only");
        let mut aux = [0; AUX_MAX];
        if !acks.is_empty() {
            let mut w = Writer::new(&mut aux);
            acks.iter().for_each(|rpc| w.u48(rpc.as_u48()));
        }
        trailer.aux_len = (acks.len() * ACK_LEN) as u8;
        // Field by field, as the trailer is written out when a record is sealed: what is made of bytes and then moved waits for them.
        Self {
            id: id.0,
            attempted: false,
            led: false,
            sealer: Cell::new(Sealer::Nobody),
            handed_before: 0,
            lease: None,
            trailer,
            aux,
            body,
        }
    }

    /// Which message.
    pub const fn id(&self) -> MessageId {
        self.id
    }

    /// How it is cut.
    pub const fn geometry(&self) -> Geometry {
        self.trailer.geometry
    }

    /// Its bytes.
    pub fn body(&self) -> &[u8] {
        self.body.as_ref()
    }

    /// What its trailer says of it besides how it is cut.
    pub const fn bits(&self) -> u8 {
        self.trailer.bits().emit()
    }

    /// What ends its records, and how long that is: acknowledgements, then the trailer.
    #[inline]
    fn tail(&self) -> ([u8; AUX_MAX + TRAILER_LEN], usize) {
        let (mut bytes, aux_len) = ([0; AUX_MAX + TRAILER_LEN], usize::from(self.trailer.aux_len));
        bytes[..AUX_MAX].copy_from_slice(&self.aux);
        bytes[aux_len..aux_len + TRAILER_LEN].copy_from_slice(&self.trailer.emit());
        (bytes, aux_len + TRAILER_LEN)
    }

    const fn tail_len(&self) -> usize {
        self.trailer.aux_len as usize + TRAILER_LEN
    }

    /// Ends the message in its place, and gives its bytes: nothing more of it can be sealed.
    #[inline]
    pub fn end(place: &mut Option<Self>) -> Option<B>
    where
        B: Default,
    {
        let body = core::mem::take(&mut place.as_mut()?.body);
        *place = None;
        Some(body)
    }

    /// The acknowledgements that ride with it.
    pub fn acks(&self) -> impl ExactSizeIterator<Item = RpcId> + '_ {
        let aux = &self.aux[..usize::from(self.trailer.aux_len)];
        aux.chunks_exact(ACK_LEN).map(|ack| {
            let ack = wire::bytes::Reader::new(ack).u48().and_then(RpcId::from_u48);
            ack.expect("they were written by `freeze`")
        })
    }

    /// Whether it can lead a bundle: no record of its own was sealed, nor another bundle that it led. [P-4.7]
    pub const fn may_lead(&self) -> bool {
        !self.attempted && !self.led
    }

    /// The right to seal the bundle that it leads, once. [P-3.3]
    pub fn lead(&mut self) -> Option<Lead> {
        let may = self.may_lead();
        self.led = true;
        may.then_some(Lead::new(self.id))
    }

    /// Bytes of record `index` on the wire.
    pub fn record_len(&self, index: u16) -> usize {
        RECORD_HEADER_LEN + self.geometry().bytes(index).len() + self.tail_len() + TAG_LEN
    }

    /// The epoch that it is bound to.
    #[inline]
    pub fn epoch(&self) -> Option<u64> {
        self.lease.as_ref().map(Lease::epoch)
    }

    /// Binds the message to the present epoch, unless it is bound: takes all of its records from the budget of that key, and its
    /// next attempt if it was bound before. [P-3.4] [P-6.7]
    ///
    /// # Errors
    /// Why it cannot be.
    #[inline]
    pub fn bind(&mut self, keys: &mut Outbound) -> Result<Bound, Unbound> {
        if self.lease.is_some() {
            return Ok(Bound::Quietly);
        }
        let again = self.attempted;
        let id = if again { self.id.next_attempt().ok_or(Unbound::Never)? } else { self.id };
        // Of spanning records there are fewer, and what ends them is the larger.
        let tail = if self.geometry().spans() { SLICE_SPARE } else { self.tail_len() };
        let (records, plaintext) = (self.geometry().records(), u32::from(self.geometry().payload()) + tail as u32);
        let sealing = keys.current();
        match sealing.lease(records, plaintext) {
            Ok(lease) => {
                (self.id, self.attempted, self.lease) = (id, true, Some(lease));
                if let Sealer::Device(handed) = self.sealer.replace(Sealer::Nobody) {
                    self.handed_before = handed;
                }
                let notable = again || sealing.budget().wants_next_epoch();
                Ok(if notable { Bound::Notably } else { Bound::Quietly })
            }
            Err(Exhausted) if keys.limits().allow(records, plaintext) => Err(Unbound::Exhausted),
            Err(Exhausted) => Err(Unbound::Never),
        }
    }

    /// Takes the message out of its epoch: nothing more of it is sealed there.
    #[inline]
    pub fn unbind(&mut self, keys: &mut Outbound) {
        if let Some(lease) = self.lease.take() {
            keys.end(lease);
        }
    }

    /// Seals record `index` into `out`, which has [`Self::record_len`] bytes, with the key of the epoch that the message is bound
    /// to.
    ///
    /// # Panics
    /// When it is not bound to an epoch of `keys` that lives, a device seals this attempt, or it seals this record with others: bugs of
    /// the caller.
    pub fn seal(&self, keys: &Outbound, index: u16, out: &mut [u8]) {
        assert!(!self.is_sliced(index), "one number, one layout");
        let key = self.key(keys);
        let number = RecordNumber::new(self.id, index);
        let (tail, tail_len) = self.tail();
        let tail = &tail[..tail_len];
        let payload = &self.body.as_ref()[self.geometry().bytes(index)];
        let plaintext_len = payload.len() + tail.len();
        let (header, sealed) = out.split_at_mut(RECORD_HEADER_LEN);
        header.copy_from_slice(&record_header(number, plaintext_len));
        key.aead().seal(&key.nonce(number), &record_aad(number, plaintext_len), payload, tail, sealed);
    }

    /// The key that seals the present attempt, which is the processor's from here on.
    fn key<'a>(&self, keys: &'a Outbound) -> &'a DataKey {
        assert!(!self.is_with_device(), "one attempt, one sealer");
        self.sealer.set(Sealer::Software);
        let lease = self.lease.as_ref().expect("a message is bound before it is sealed");
        keys.of(lease).expect("the epoch lives").data()
    }

    /// Whether records span packets in the present attempt: only in the first do they. [P-4.6]
    #[inline]
    pub const fn spans(&self) -> bool {
        self.geometry().spans() && self.id.attempt() == 0
    }

    /// Whether record `index` travels as a slice in the present attempt.
    #[inline]
    pub const fn is_sliced(&self, index: u16) -> bool {
        self.spans() && self.geometry().is_sliced(index)
    }

    /// Seals the spanning record that slice `index` is of into `out`, which has [`Geometry::span_sealed_len`] bytes: ciphertext and tag.
    /// Its number.
    ///
    /// # Panics
    /// As [`Self::seal`]; or when that record is no slice.
    pub fn seal_span(&self, keys: &Outbound, index: u16, out: &mut [u8]) -> RecordNumber {
        assert!(self.is_sliced(index), "one number, one layout");
        let key = self.key(keys);
        let span = self.geometry().sealed_with(index);
        let number = RecordNumber::new(self.id, span.start as u16);
        let payload = &self.body.as_ref()[self.geometry().span_bytes(&span)];
        // Padding fills its slices; a message of several records has no acknowledgements.
        let mut tail = [0; SPAN_PACKETS_MAX * SLICE_SPARE];
        let tail = &mut tail[..span.len() * SLICE_SPARE - TAG_LEN];
        let trailer_at = tail.len() - TRAILER_LEN;
        tail[trailer_at..].copy_from_slice(&self.trailer.emit());
        let aad = span_aad(number, payload.len() + tail.len());
        key.aead().seal(&key.nonce(number), &aad, payload, tail, out);
        number
    }
}

/// Seals a control packet: `header` and `number` in clear, `frames` behind them. Returns its length.
///
/// # Panics
/// When `out` is too short.
pub fn seal_control(key: &ControlKey, number: u64, header: &Header, frames: &[u8], out: &mut [u8]) -> usize {
    let len = CONTROL_HEADER_LEN + frames.len() + TAG_LEN;
    let (clear, sealed) = out[..len].split_at_mut(CONTROL_HEADER_LEN);
    emit_header(&mut Writer::new(clear), header, number);
    key.aead().seal(&key.nonce(number), clear, frames, &[], sealed);
    len
}
