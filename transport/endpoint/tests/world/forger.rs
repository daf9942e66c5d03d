//! Who has the keys of a session and says what the code under test never says: made from the specification and from what
//! stands on the wire, [P-6.6] [P-6.3] [P-4.1] [P-5.3], not from the endpoint's own keys.

use offload::software::crypto;
use record::aead::{Aead, Cipher, NONCE_LEN};
use record::keys::{Secret, expand_label};
use wire::bytes::Writer;
use wire::control::Frame;
use wire::data::{record_aad, record_header};
use wire::geometry::Geometry;
use wire::handshake::Level;
use wire::header::{Header, PacketType};
use wire::ids::{MessageId, RecordNumber, RpcId, SessionId, Side};
use wire::packet::Packet;
use wire::trailer::{Kind, Trailer};

use super::{SERVER, World, body, secret};

/// Seals what one side of a session could seal.
pub struct Forger {
    pub side: Side,
    /// The reader's name of the session.
    pub session: SessionId,
    data: (Box<dyn Aead>, [u8; NONCE_LEN]),
    control: (Box<dyn Aead>, [u8; NONCE_LEN]),
    /// The next packet number: far above those that the real side uses.
    pub number: u64,
}

fn expand(secret: &Secret, label: &[u8], len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    expand_label(crypto(), secret, label, b"", &mut out);
    out
}

/// What every record of such a request says.
fn trailer_of(message: MessageId, geometry: Geometry) -> [u8; 16] {
    let floor_distance = message.rpc().sequence() as u32;
    Trailer { unscheduled: geometry.length(), floor_distance, ..Trailer::new(geometry, Kind::Request) }.emit()
}

/// The first message of `from`'s stream of level 0.
fn first_message(world: &World, from: usize, to: usize) -> Vec<u8> {
    let of_stream =
        world.trace.iter().filter(|d| (d.from, d.to) == (from, to)).find_map(|d| match Packet::parse(&d.bytes) {
            Ok(Packet::Handshake(p))
                if p.fields.level == Level::Initial && p.fields.offset == 0 && !p.fragment.is_empty() =>
            {
                Some(p.fragment.to_vec())
            }
            _ => None,
        });
    let mut stream = of_stream.expect("it spoke");
    let len = 3 + usize::from(u16::from_be_bytes([stream[1], stream[2]]));
    stream.truncate(len);
    assert_eq!(stream.len(), len, "it fits one packet");
    stream
}

impl Forger {
    /// What `sender` can say in the session of `client`, which has just been opened.
    pub fn new(world: &World, client: usize, sender: Side) -> Self {
        let root = crypto().hkdf_extract(b"sealane/1 installed", secret(client).expose());
        let hellos = [first_message(world, client, SERVER), first_message(world, SERVER, client)].concat();
        let mixed = Secret::new(crypto().hkdf_extract(&root, &hellos));
        let session = Secret::new(expand(&mixed, b"inst session", 32).try_into().expect("32 bytes"));
        let label: &[u8] = if sender == Side::Client { b"c traffic" } else { b"s traffic" };
        let traffic = Secret::new(expand(&session, label, 32).try_into().expect("32 bytes"));
        let key = |key: &[u8], iv: &[u8]| {
            let cipher = Cipher::Aes128Gcm;
            let aead = crypto().aead(cipher, &expand(&traffic, key, cipher.key_len()));
            (aead, expand(&traffic, iv, NONCE_LEN).try_into().expect("12 bytes"))
        };
        let (from, to) = if sender == Side::Client { (client, SERVER) } else { (SERVER, client) };
        let mut sealed = world.trace.iter().filter(|d| (d.from, d.to) == (from, to) && d.sealed());
        let header = Header::parse(&sealed.next_back().expect("it sealed something").bytes).expect("it is ours");
        Self {
            side: sender,
            session: header.session,
            data: key(b"data key", b"data iv"),
            control: key(b"ctl key", b"ctl iv"),
            number: 1 << 40,
        }
    }

    pub fn header(&self, kind: PacketType) -> Header {
        Header { kind, flags: 0, epoch: 0, priority: 0, steer: 0, segment: 0, session: self.session }
    }

    /// A record of any plaintext under any number.
    pub fn record(&self, number: RecordNumber, plaintext: &[u8]) -> Vec<u8> {
        let (key, mut nonce) = (&self.data.0, self.data.1);
        nonce[4..].copy_from_slice(&number.as_u64().to_be_bytes());
        let mut out = record_header(number, plaintext.len()).to_vec();
        let at = out.len();
        out.resize(at + plaintext.len() + 16, 0);
        key.seal(&nonce, &record_aad(number, plaintext.len()), plaintext, &[], &mut out[at..]);
        out
    }

    /// Record `index` of a message of `length` bytes, as an honest sender would seal it.
    pub fn part(&self, rpc: RpcId, index: u16, kind: Kind, length: usize, payload: u16) -> Vec<u8> {
        self.part_of(MessageId::new(rpc, 0), index, kind, length, payload, 0, &[])
    }

    /// Record `index` of a request that is cut like `geometry`.
    pub fn part_cut(&self, message: MessageId, index: u16, geometry: Geometry) -> Vec<u8> {
        let plaintext = [&body(geometry.length() as usize)[geometry.bytes(index)], &trailer_of(message, geometry)[..]];
        self.record(RecordNumber::new(message, index), &plaintext.concat())
    }

    /// The spanning record that begins with record `index`, with a trailer as `change` leaves it: ciphertext and tag. [P-4.6]
    pub fn span(&self, message: MessageId, index: u16, geometry: Geometry, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let (key, mut nonce, number) = (&self.data.0, self.data.1, RecordNumber::new(message, index));
        nonce[4..].copy_from_slice(&number.as_u64().to_be_bytes());
        let span = geometry.sealed_with(index);
        let mut plaintext = body(geometry.length() as usize)[geometry.span_bytes(&span)].to_vec();
        plaintext.resize(geometry.span_sealed_len(&span) - 32, 0);
        let mut trailer = trailer_of(message, geometry);
        change(&mut trailer);
        plaintext.extend(trailer);
        let aad = [&number.as_u64().to_be_bytes()[..], &[0x18, 3, 3], &(plaintext.len() as u16).to_be_bytes()].concat();
        let mut out = vec![0; plaintext.len() + 16];
        key.seal(&nonce, &aad, &plaintext, &[], &mut out);
        out
    }

    /// The same in any attempt, with padding and acknowledgements.
    #[expect(clippy::too_many_arguments, reason = "all that a record can say")]
    pub fn part_of(
        &self,
        message: MessageId,
        index: u16,
        kind: Kind,
        length: usize,
        payload: u16,
        padding: usize,
        acks: &[RpcId],
    ) -> Vec<u8> {
        let geometry = Geometry::stated(length as u32, payload).expect("it can be cut");
        let floor_distance = if kind == Kind::Response { 0 } else { message.rpc().sequence() as u32 };
        let aux_len = 6 * acks.len() as u8;
        let trailer = Trailer { unscheduled: length as u32, floor_distance, aux_len, ..Trailer::new(geometry, kind) };
        let mut plaintext = body(length)[geometry.bytes(index)].to_vec();
        plaintext.resize(plaintext.len() + padding, 0);
        acks.iter().for_each(|rpc| plaintext.extend(&rpc.as_u48().to_be_bytes()[2..]));
        plaintext.extend(trailer.emit());
        self.record(RecordNumber::new(message, index), &plaintext)
    }

    /// A DATA packet of records.
    pub fn data(&self, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        wire::data::emit_header(&mut Writer::new(&mut bytes), &self.header(PacketType::Data), 0);
        records.iter().for_each(|record| bytes.extend(record));
        bytes
    }

    /// A CONTROL packet of any bytes, with the next packet number.
    pub fn control_bytes(&mut self, frames: &[u8]) -> Vec<u8> {
        self.number += 1;
        self.control_numbered(self.number, frames)
    }

    pub fn control_numbered(&self, number: u64, frames: &[u8]) -> Vec<u8> {
        let (key, mut nonce) = (&self.control.0, self.control.1);
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(place, byte)| *place ^= byte);
        let mut out = vec![0; 24 + frames.len() + 16];
        let header = Header { priority: 7, ..self.header(PacketType::Control) };
        wire::control::emit_header(&mut Writer::new(&mut out), &header, number);
        let (clear, sealed) = out.split_at_mut(24);
        key.seal(&nonce, clear, frames, &[], sealed);
        out
    }

    /// A CONTROL packet of frames.
    pub fn control(&mut self, frames: &[Frame]) -> Vec<u8> {
        let mut bytes = vec![0; frames.iter().map(Frame::encoded_len).sum()];
        let mut w = Writer::new(&mut bytes);
        frames.iter().for_each(|frame| frame.emit(&mut w));
        self.control_bytes(&bytes)
    }

    /// What stands in the first record of a DATA packet that this side sealed, and its trailer.
    pub fn open(&self, packet: &[u8]) -> (RecordNumber, Trailer) {
        let view = wire::data::record_at(packet, 20).expect("it is a record");
        let (key, mut nonce) = (&self.data.0, self.data.1);
        nonce[4..].copy_from_slice(&view.number.as_u64().to_be_bytes());
        let mut sealed = packet[view.sealed.clone()].to_vec();
        key.open_in_place(&nonce, &record_aad(view.number, view.plaintext_len()), &mut sealed).expect("it verifies");
        let trailer = sealed[..view.plaintext_len()].last_chunk().expect("a trailer");
        (view.number, Trailer::parse(trailer).expect("it means something"))
    }

    /// The frames of a CONTROL packet that this side sealed.
    pub fn read(&self, packet: &[u8]) -> Vec<Frame> {
        let number = wire::control::packet_number(packet).expect("it has one");
        let (key, mut nonce) = (&self.control.0, self.control.1);
        nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(place, byte)| *place ^= byte);
        let mut sealed = packet[24..].to_vec();
        key.open_in_place(&nonce, &packet[..24], &mut sealed).expect("it verifies");
        let mut r = wire::bytes::Reader::new(&sealed[..sealed.len() - 16]);
        let mut frames = Vec::new();
        while !r.is_empty() {
            frames.push(Frame::parse(&mut r).expect("it is a frame"));
        }
        frames
    }
}
