//! Owns the way back: sealed records to plaintext, or which one failed.

use core::ops::Range;

use wire::bytes::{Reader, copy};
use wire::data::{RecordView, record_aad};
use wire::geometry::Geometry;
use wire::ids::{RecordNumber, RpcId};
use wire::limits::{ACK_LEN, CONTROL_HEADER_LEN, SLICE_SPARE, SPAN_PACKETS_MAX, TAG_LEN, TRAILER_LEN};
use wire::slice::span_aad;
use wire::trailer::Trailer;

use crate::error::OpenError;
use crate::keys::{ControlKey, DataKey};

/// The most that may follow the message's bytes in a record that is opened straight to its place: acks and trailer.
pub const TAIL_MAX: usize = TRAILER_LEN + wire::limits::AUX_MAX;

/// The acknowledgements that ride in a record, read from its opened aux bytes. [P-4.3]
#[derive(Clone, Copy, Debug, Default)]
pub struct Acks {
    count: u8,
    rpcs: [u64; wire::limits::PIGGYBACK_ACKS_MAX],
}

impl Acks {
    fn parse(aux: &[u8]) -> Result<Self, OpenError> {
        let mut acks = Self::default();
        for chunk in aux.chunks_exact(ACK_LEN) {
            let rpc = Reader::new(chunk).u48().and_then(RpcId::from_u48).map_err(|_| OpenError::Trailer)?;
            acks.rpcs[usize::from(acks.count)] = rpc.as_u48();
            acks.count += 1;
        }
        Ok(acks)
    }

    /// The RPCs that are acknowledged.
    pub fn iter(&self) -> impl Iterator<Item = RpcId> + '_ {
        self.rpcs[..usize::from(self.count)].iter().filter_map(|raw| RpcId::from_u48(*raw).ok())
    }
}

/// A record that was opened in place. Holding one is the proof that its tag verified.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Where the message's bytes stand in the packet.
    pub payload: Range<usize>,
    /// What the sender says about the message.
    pub trailer: Trailer,
    /// What the sender has received.
    pub acks: Acks,
}

fn split(plaintext: &[u8], index: u16) -> Result<(usize, Trailer, Acks), OpenError> {
    let (rest, trailer) = plaintext.split_last_chunk::<TRAILER_LEN>().ok_or(OpenError::Trailer)?;
    let trailer = Trailer::parse(trailer).map_err(|_| OpenError::Trailer)?;
    let aux_at = rest.len().checked_sub(usize::from(trailer.aux_len)).ok_or(OpenError::Trailer)?;
    // A record holds exactly the bytes that its index says, or the peer is faulty. [P-4.4]
    let payload_len = trailer.geometry.bytes(index).len();
    if aux_at < payload_len || u32::from(index) >= trailer.geometry.records() {
        return Err(OpenError::Trailer);
    }
    // What stands between the message's bytes and the aux bytes is padding. [P-4.5]
    Ok((payload_len, trailer, Acks::parse(&rest[aux_at..])?))
}

/// Opens `record` of `packet` in place.
///
/// # Errors
/// Why it did not open; the packet then holds no plaintext.
pub fn open_in_place(key: &DataKey, packet: &mut [u8], record: &RecordView) -> Result<Opened, OpenError> {
    let plaintext_len = record.plaintext_len();
    let aad = record_aad(record.number, plaintext_len);
    let sealed = &mut packet[record.sealed.clone()];
    key.aead().open_in_place(&key.nonce(record.number), &aad, sealed)?;
    let (payload_len, trailer, acks) = split(&sealed[..plaintext_len], record.number.index())?;
    let start = record.sealed.start;
    Ok(Opened { payload: start..start + payload_len, trailer, acks })
}

/// Opens `record` of `packet` straight into `out`, which begins where the record's bytes belong and is at least as long as
/// the record's plaintext. What stands in `out` behind the record's own bytes is as before when this returns if `keep` says so,
/// as it must when the next record is there already; else it is undefined. Memory that was never touched is then not read, which
/// would cost a page of zeros and a second fault.
///
/// # Errors
/// Why it did not open; the record's own place in `out` is then undefined, and holds no plaintext.
pub fn open_into(
    key: &DataKey,
    packet: &[u8],
    record: &RecordView,
    payload_len: usize,
    out: &mut [u8],
    keep: bool,
) -> Result<(Trailer, Acks), OpenError> {
    let plaintext_len = record.plaintext_len();
    let tail_len = plaintext_len.checked_sub(payload_len).filter(|n| *n <= TAIL_MAX).ok_or(OpenError::Trailer)?;
    let aad = record_aad(record.number, plaintext_len);
    // The sealed tail is opened onto the first bytes of the next record's place; if need be, these are put back at once.
    let mut kept = [0; TAIL_MAX];
    if keep {
        kept[..tail_len].copy_from_slice(&out[payload_len..plaintext_len]);
    }
    let plaintext = &mut out[..plaintext_len];
    let opened = key.aead().open(&key.nonce(record.number), &aad, &packet[record.sealed.clone()], plaintext);
    let meaning = opened.map_err(OpenError::from).and_then(|()| split(plaintext, record.number.index()));
    if keep {
        out[payload_len..plaintext_len].copy_from_slice(&kept[..tail_len]);
    }
    let (stated_len, trailer, acks) = meaning?;
    if stated_len == payload_len { Ok((trailer, acks)) } else { Err(OpenError::Trailer) }
}

/// Where what ends spanning records waits behind a message of `length` bytes that its slices are put together in: as far as the tail of a
/// last ordinary record reaches, nothing of it stands.
const SPARES_AFTER: usize = TAIL_MAX;

/// Bytes of a buffer in which a message's slices are put together, each where its bytes of the message belong.
pub const fn assembly_len(geometry: Geometry) -> usize {
    geometry.length() as usize + SPARES_AFTER + geometry.span_spare()
}

/// Where in that buffer what ends a spanning record waits: padding, trailer and tag.
fn spare(geometry: Geometry, span: &Range<u32>) -> Range<usize> {
    let start = geometry.length() as usize + SPARES_AFTER + span.start as usize * SLICE_SPARE;
    start..start + span.len() * SLICE_SPARE
}

/// Puts slice `index` of the record that `span` is sealed as where it waits to be opened: in the place of the bytes that it seals, and
/// what has none behind the message. Nothing else in `buffer`, of [`assembly_len`] bytes, is touched.
///
/// # Panics
/// When it is not that slice's length.
pub fn put_slice(geometry: Geometry, span: &Range<u32>, index: u16, slice: &[u8], buffer: &mut [u8]) {
    let (at, place) = (geometry.slice(span, index), geometry.span_bytes(span));
    assert_eq!(at.len(), slice.len(), "a slice's length");
    if at.end <= place.len() {
        return copy(&mut buffer[place.start + at.start..][..slice.len()], slice);
    }
    let split = place.len().clamp(at.start, at.end) - at.start;
    let (bytes, rest) = slice.split_at(split);
    copy(&mut buffer[place.start + at.start.min(place.len())..][..split], bytes);
    let spare = spare(geometry, span);
    copy(&mut buffer[spare.start + at.start.max(place.len()) - place.len()..][..rest.len()], rest);
}

/// Opens the spanning record `number` in place, where its slices stand one after the other.
///
/// # Errors
/// Why it did not open; `sealed` then holds no plaintext.
pub fn open_slices(key: &DataKey, number: RecordNumber, sealed: &mut [u8]) -> Result<Trailer, OpenError> {
    let plaintext_len = sealed.len().checked_sub(TAG_LEN).ok_or(OpenError::Tag)?;
    key.aead().open_in_place(&key.nonce(number), &span_aad(number, plaintext_len), sealed)?;
    let trailer = sealed[..plaintext_len].last_chunk::<TRAILER_LEN>().ok_or(OpenError::Trailer)?;
    Trailer::parse(trailer).map_err(|_| OpenError::Trailer)
}

/// Opens the spanning record `number`, all slices of which were put into `buffer`, in its place. What stands there beside it is as before
/// when this returns.
///
/// # Errors
/// Why it did not open; its place is then undefined, and holds no plaintext.
pub fn open_span(
    key: &DataKey,
    number: RecordNumber,
    geometry: Geometry,
    span: &Range<u32>,
    buffer: &mut [u8],
) -> Result<Trailer, OpenError> {
    let (place, spare) = (geometry.span_bytes(span), spare(geometry, span));
    let mut kept = [0; SPAN_PACKETS_MAX * SLICE_SPARE];
    let mut end = kept;
    let len = spare.len();
    end[..len].copy_from_slice(&buffer[spare]);
    kept[..len].copy_from_slice(&buffer[place.end..place.end + len]);
    buffer[place.end..place.end + len].copy_from_slice(&end[..len]);
    let meaning = open_slices(key, number, &mut buffer[place.start..place.end + len]);
    buffer[place.end..place.end + len].copy_from_slice(&kept[..len]);
    // All records of a message tell the same of it, or its sender is faulty. [P-4.4]
    meaning.and_then(|trailer| if trailer.geometry == geometry { Ok(trailer) } else { Err(OpenError::Trailer) })
}

/// Opens a control packet in place; the range of its frames.
///
/// # Errors
/// [`OpenError::Tag`] when it is not from the peer.
pub fn open_control(key: &ControlKey, number: u64, packet: &mut [u8]) -> Result<Range<usize>, OpenError> {
    let len = packet.len();
    let (clear, sealed) = packet.split_at_mut_checked(CONTROL_HEADER_LEN).ok_or(OpenError::Tag)?;
    key.aead().open_in_place(&key.nonce(number), clear, sealed)?;
    Ok(CONTROL_HEADER_LEN..len - TAG_LEN)
}
