//! Target `trailer`: what a peer with keys can say in records. Each is a number, a length and a trailer of any bytes behind a body; or a
//! bundle of any entries, whose tail may be true.

use wire::bundle::{INDEX, Tail, put};
use wire::bytes::Writer;
use wire::ids::{RecordNumber, RpcId, Side};

use crate::input::Input;
use crate::stage::Stage;

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn trailer(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new();
    for _ in 0..64 {
        if input.is_empty() {
            break;
        }
        // Mostly numbers near those in use: sequence, who began, attempt; then index.
        let (sequence, role, index) = (u64::from(input.u16()), u64::from(input.u8()), u64::from(input.u8()));
        let number = (sequence << 4 | (role & 0xf)) << 16 | index;
        if role & 0x80 != 0 {
            let plaintext = bundle(&mut input, role & 0x40 != 0);
            let record = stage.forger.record(RecordNumber::from_u64(number | u64::from(INDEX)), &plaintext);
            let packet = stage.forger.data(&[record]);
            stage.say(&packet);
            continue;
        }
        let len = usize::from(input.u16()) % 1300;
        let mut plaintext = vec![index as u8; len];
        plaintext.extend(input.array::<16>());
        let record = stage.forger.record(RecordNumber::from_u64(number), &plaintext);
        let packet = stage.forger.data(&[record]);
        stage.say(&packet);
    }
    stage.end();
}

/// Entries, and a tail that tells of all of them, or any.
fn bundle(input: &mut Input<'_>, honest: bool) -> Vec<u8> {
    let mut plaintext = vec![0; 1300];
    let mut w = Writer::new(&mut plaintext);
    for _ in 0..usize::from(input.u8() % 8) {
        let (sequence, bits, len) = (input.u8(), input.u8(), usize::from(input.u8()) % 150);
        let began = if sequence & 1 == 0 { Side::Client } else { Side::Server };
        put(&mut w, RpcId::new(began, u64::from(sequence >> 1)), bits, &vec![bits; len]);
    }
    let len = w.len();
    plaintext.truncate(len);
    match honest {
        true => plaintext.extend(Tail { len: len as u16, floor: u64::from(input.u8()) }.emit()),
        false => plaintext.extend(input.array::<16>()),
    }
    plaintext
}
