//! Target `trailer`: what a peer with keys can say in records. Each is a number, a length and a trailer of any bytes behind a body.

use wire::ids::RecordNumber;

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
        let len = usize::from(input.u16()) % 1300;
        let mut plaintext = vec![index as u8; len];
        plaintext.extend(input.array::<16>());
        let record = stage.forger.record(RecordNumber::from_u64(number), &plaintext);
        let packet = stage.forger.data(&[record]);
        stage.say(&packet);
    }
    stage.end();
}
