//! Owns the sealing of what no honest endpoint would say, with the keys of a session. It knows layouts, [P-4.1] [P-4.2] [P-5.2]
//! [P-5.3], and keeps no rule about what may stand in them.

use record::aead::{Aead, Cipher, NONCE_LEN, TAG_LEN};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::{emit_header, record_aad, record_at, record_header};
use wire::geometry::Geometry;
use wire::header::{Header, PacketType};
use wire::ids::{MessageId, RecordNumber, SessionId};
use wire::limits::{CONTROL_HEADER_LEN, DATA_HEADER_LEN};
use wire::trailer::{Kind, Trailer};

use crate::wiretap::Keys;

/// One side of a session.
#[derive(Debug)]
pub struct Forger {
    keys: Keys,
    /// The reader's name of the session.
    session: SessionId,
}

/// A record as it might be: each field as the forger likes it.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Of which message.
    pub message: MessageId,
    /// Which record.
    pub index: u16,
    /// What the message is.
    pub kind: Kind,
    /// Its length.
    pub length: u32,
    /// Bytes of each record.
    pub payload: u16,
    /// Bytes that are said to need no grant.
    pub unscheduled: u32,
    /// How far the floor is below.
    pub floor_distance: u32,
}

impl Part {
    /// How the message is cut, if it can be.
    #[must_use]
    pub const fn geometry(&self) -> Option<Geometry> {
        Geometry::stated(self.length, self.payload)
    }

    /// The bytes of the record, all alike, and the trailer; one that says what no trailer can, if need be.
    #[must_use]
    pub fn plaintext(&self) -> Vec<u8> {
        let len = self.geometry().map_or(64, |geometry| geometry.bytes(self.index).len());
        let mut plaintext = vec![self.index as u8 ^ self.length as u8; len];
        plaintext.extend(self.trailer());
        plaintext
    }

    /// The sixteen bytes that end it. [P-4.2]
    #[must_use]
    pub fn trailer(&self) -> [u8; 16] {
        let honest = Geometry::stated(1, 1).expect("one byte in one record");
        let mut bytes = Trailer::new(honest, self.kind).emit();
        bytes[0..4].copy_from_slice(&self.length.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.unscheduled.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.floor_distance.to_be_bytes());
        bytes[12..14].copy_from_slice(&self.payload.to_be_bytes());
        bytes
    }
}

impl Forger {
    /// Who has these keys, and speaks to whom calls the session so.
    #[must_use]
    pub const fn new(keys: Keys, session: SessionId) -> Self {
        Self { keys, session }
    }

    /// Whether a packet, from the same side in the same epoch, is sealed with the keys that the specification says: its first record,
    /// or all of it.
    #[must_use]
    pub fn opens(&self, packet: &[u8]) -> bool {
        if let Ok(view) = record_at(packet, DATA_HEADER_LEN).and_then(|view| Header::parse(packet).map(|h| (view, h)))
            && view.1.kind == PacketType::Data
        {
            let (view, plaintext_len) = (&view.0, view.0.plaintext_len());
            let (key, _) = &self.keys.data;
            let mut sealed = packet[view.sealed.clone()].to_vec();
            let aad = record_aad(view.number, plaintext_len);
            return key.open_in_place(&self.data_nonce(view.number), &aad, &mut sealed).is_ok();
        }
        let Ok(number) = wire::control::packet_number(packet) else { return false };
        let (clear, sealed) = packet.split_at(CONTROL_HEADER_LEN);
        let key = &self.keys.control.0;
        key.open_in_place(&self.control_nonce(number), clear, &mut sealed.to_vec()).is_ok()
    }

    fn data_nonce(&self, number: RecordNumber) -> [u8; NONCE_LEN] {
        let mut nonce = self.keys.data.1;
        let place = nonce[4..].iter_mut().zip(number.as_u64().to_be_bytes());
        match self.keys.cipher {
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => place.for_each(|(at, byte)| *at = byte),
            Cipher::ChaCha20Poly1305 => place.for_each(|(at, byte)| *at ^= byte),
        }
        nonce
    }

    fn control_nonce(&self, number: u64) -> [u8; NONCE_LEN] {
        let mut nonce = self.keys.control.1;
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(at, byte)| *at ^= byte);
        nonce
    }

    fn header(&self, kind: PacketType, priority: u8) -> Header {
        Header { kind, flags: 0, epoch: self.keys.epoch as u8, priority, steer: 0, segment: 0, session: self.session }
    }

    /// The epoch that it speaks in.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.keys.epoch
    }

    /// A record of any plaintext under any number. [P-4.1]
    #[must_use]
    pub fn record(&self, number: RecordNumber, plaintext: &[u8]) -> Vec<u8> {
        let key = &self.keys.data.0;
        let mut out = record_header(number, plaintext.len()).to_vec();
        seal(&**key, &self.data_nonce(number), &record_aad(number, plaintext.len()), plaintext, &mut out);
        out
    }

    /// A DATA packet of records. [P-5.2]
    #[must_use]
    pub fn data(&self, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; DATA_HEADER_LEN];
        emit_header(&mut Writer::new(&mut bytes), &self.header(PacketType::Data, 0), 0);
        records.iter().for_each(|record| bytes.extend_from_slice(record));
        bytes
    }

    /// A DATA packet of one record.
    #[must_use]
    pub fn part(&self, part: &Part) -> Vec<u8> {
        self.data(&[self.record(RecordNumber::new(part.message, part.index), &part.plaintext())])
    }

    /// A CONTROL packet of any bytes under any number. [P-5.3]
    #[must_use]
    pub fn control(&self, number: u64, frames: &[u8]) -> Vec<u8> {
        let key = &self.keys.control.0;
        let mut clear = vec![0; CONTROL_HEADER_LEN];
        wire::control::emit_header(&mut Writer::new(&mut clear), &self.header(PacketType::Control, 7), number);
        let mut out = clear.clone();
        seal(&**key, &self.control_nonce(number), &clear, frames, &mut out);
        out
    }
}

fn seal(key: &dyn Aead, nonce: &[u8; NONCE_LEN], aad: &[u8], plaintext: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + plaintext.len() + TAG_LEN, 0);
    key.seal(nonce, aad, plaintext, &[], &mut out[at..]);
}

/// Frames as they stand in a CONTROL packet.
#[must_use]
pub fn frames(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = vec![0; frames.iter().map(Frame::encoded_len).sum()];
    let mut w = Writer::new(&mut bytes);
    frames.iter().for_each(|frame| frame.emit(&mut w));
    bytes
}
