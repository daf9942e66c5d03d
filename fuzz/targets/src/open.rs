//! Target `open`: records under a key. What one end sealed the other opens; what was changed in any bit it does not; and what nobody
//! sealed neither. Each provider opens what the other sealed.

use offload::software::{aws_lc, rustcrypto};
use record::aead::{Cipher, Crypto};
use record::budget::Limits;
use record::epochs::Outbound;
use record::keys::{Chain, DataKey, Secret};
use record::open::{TAIL_MAX, assembly_len, open_in_place, open_into, open_span, put_slice};
use record::seal::{Id, Message};
use wire::data::record_at;
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::trailer::{Kind, Trailer};

use crate::input::Input;

const SECRET: [u8; 32] = [7; 32];
/// Epochs that are tried.
const EPOCHS: u8 = 3;

fn opener(crypto: &'static dyn Crypto, cipher: Cipher, epoch: u8) -> DataKey {
    let mut chain = Chain::new(crypto, &Secret::new(SECRET), cipher, Side::Client);
    (0..epoch).for_each(|_| chain.advance(crypto));
    chain.data_key(crypto)
}

fn sealer(crypto: &'static dyn Crypto, cipher: Cipher, epoch: u8) -> Outbound {
    let mut keys = Outbound::new(crypto, &Secret::new(SECRET), cipher, Side::Client, Limits::PROTOCOL);
    (0..epoch).for_each(|_| keys.advance(crypto));
    keys
}

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn open(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    let cipher = Cipher::ALL[usize::from(how) % Cipher::ALL.len()];
    let (ours, theirs): (&'static dyn Crypto, &'static dyn Crypto) = (&aws_lc::PROVIDER, &rustcrypto::PROVIDER);
    let (seals, opens) = if how & 0x80 == 0 { (ours, theirs) } else { (theirs, ours) };
    let epoch = how / 8 % EPOCHS;
    let (mut sealer, opener) = (sealer(seals, cipher, epoch), &opener(opens, cipher, epoch));
    let index = input.u8();
    let payload = 1 + input.u16() % 2000;
    let (changed, with) = (input.u16(), input.u8());
    let body = input.take(usize::MAX);
    foreign(opener, body);
    let geometry = Geometry::stated(body.len() as u32, payload).expect("so few bytes can be cut");
    let index = u16::from(index) % geometry.records() as u16;
    let mut message = Message::freeze(
        Id::response(RpcId::new(Side::Server, u64::from(how))),
        body,
        Trailer::new(geometry, Kind::Response),
        &[],
    );
    let mut record = vec![0; message.record_len(index)];
    message.bind(&mut sealer).expect("the key is new");
    message.seal(&sealer, index, &mut record);
    let place = geometry.bytes(index);
    let view = record_at(&record, 0).expect("it is a record");
    let mut out = vec![0; place.len() + TAIL_MAX];
    let straight = open_into(opener, &record, &view, place.len(), &mut out, how & 0x40 != 0);
    assert!(straight.is_ok() && out[..place.len()] == body[place.clone()]);
    let mut changed_record = record.clone();
    let at = usize::from(changed) % record.len();
    changed_record[at] ^= with;
    if let Ok(view) = record_at(&changed_record, 0) {
        let opened = open_in_place(opener, &mut changed_record, &view).is_ok();
        assert_eq!(opened, with == 0, "{at}");
    }
    if let Some(geometry) = geometry.spanning() {
        spanning(&mut sealer, opener, geometry, body, index, (changed, with));
    }
}

/// The same of a record that spans packets: its slices come together to what was sealed, unless a bit of them changed.
fn spanning(keys: &mut Outbound, opener: &DataKey, geometry: Geometry, body: &[u8], index: u16, (at, with): (u16, u8)) {
    let id = Id::response(RpcId::new(Side::Server, 1 << 20));
    let mut message = Message::freeze(id, body, Trailer::new(geometry, Kind::Response), &[]);
    message.bind(keys).expect("the key is new");
    if !message.is_sliced(index) {
        return;
    }
    let span = geometry.sealed_with(index);
    let mut record = vec![0; geometry.span_sealed_len(&span)];
    let number = message.seal_span(keys, index, &mut record);
    let at = usize::from(at) % record.len();
    record[at] ^= with;
    let mut buffer = vec![0; assembly_len(geometry)];
    for index in span.clone() {
        let index = index as u16;
        put_slice(geometry, &span, index, &record[geometry.slice(&span, index)], &mut buffer);
    }
    let opened = open_span(opener, number, geometry, &span, &mut buffer);
    let place = geometry.span_bytes(&span);
    assert_eq!(opened.is_ok(), with == 0, "{at}");
    assert!(opened.is_err() || buffer[place.clone()] == body[place]);
}

/// Bytes that nobody sealed.
fn foreign(opener: &DataKey, bytes: &[u8]) {
    if let Ok(view) = record_at(bytes, 0) {
        assert!(open_in_place(opener, &mut bytes.to_vec(), &view).is_err(), "a forgery");
    }
}
