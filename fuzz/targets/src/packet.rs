//! Target `packet`: bytes as they come from the network, before any key. What can be read can be written again, to the same bytes,
//! and nothing lies outside of the datagram.

use handshake::params::TransportParams;
use wire::bytes::{Reader, Writer};
use wire::control::{Frame, packet_number};
use wire::data::record_header;
use wire::header::Header;
use wire::limits::{DATA_HEADER_LEN, HEADER_LEN};
use wire::packet::Packet;
use wire::slice::{Part, part_at, slice_header};
use wire::trailer::Trailer;

fn written(len: usize, write: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut w = Writer::new(&mut bytes);
    write(&mut w);
    assert_eq!(w.len(), len);
    bytes
}

fn datagram(data: &[u8]) {
    let Ok(packet) = Packet::parse(data) else { return };
    let header = Header::parse(data).expect("a packet has a header");
    assert_eq!(written(HEADER_LEN, |w| header.emit(w)), data[..HEADER_LEN]);
    match packet {
        Packet::Data(_) => {
            let mut at = DATA_HEADER_LEN;
            while let Ok(part) = part_at(data, at) {
                let (header, bytes) = match part {
                    Part::Record(view) => (record_header(view.number, view.plaintext_len()).to_vec(), view.sealed),
                    Part::Slice(view) => (slice_header(view.number, &view.slice, view.sealed_len).to_vec(), view.bytes),
                };
                assert_eq!(data[at..at + header.len()], header);
                assert!(bytes.start == at + header.len() && bytes.end > bytes.start);
                at = bytes.end;
                assert!(at <= data.len());
            }
        }
        Packet::Control(_) => drop(packet_number(data).expect("it is long enough")),
        Packet::Handshake(packet) => {
            assert!(packet.covered.len() + packet.tag.len() <= data.len() && packet.len() <= data.len());
            assert!(packet.cookie.len() + packet.fragment.len() < packet.covered.len());
        }
        Packet::Retry(packet) => assert!(packet.cookie.len() < data.len()),
        Packet::Reset(_) => {}
    }
}

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn packet(data: &[u8]) {
    datagram(data);
    let mut r = Reader::new(data);
    loop {
        let before = r.rest();
        let Ok(frame) = Frame::parse(&mut r) else { break };
        let len = before.len() - r.rest().len();
        assert_eq!(len, frame.encoded_len());
        assert_eq!(written(len, |w| frame.emit(w)), before[..len]);
    }
    if let Some(bytes) = data.first_chunk()
        && let Ok(trailer) = Trailer::parse(bytes)
    {
        assert_eq!(trailer.emit(), *bytes);
        let geometry = trailer.geometry;
        assert_eq!(geometry.offset_of(geometry.records()), geometry.length());
    }
    if let Ok(params) = TransportParams::decode(data) {
        assert_eq!(TransportParams::decode(&params.encode()), Ok(params));
    }
}
