//! Target `control`: what a peer with keys can say in CONTROL packets. Each is two bytes of length and as many of frames, which are
//! sealed as they are.

use crate::input::Input;
use crate::stage::Stage;

/// Packet numbers far above those that the real client uses.
const FIRST: u64 = 1 << 40;

/// The target.
///
/// # Panics
/// When a rule was broken.
pub fn control(data: &[u8]) {
    let mut input = Input::new(data);
    let mut stage = Stage::new();
    for number in 0..64 {
        if input.is_empty() {
            break;
        }
        let len = usize::from(input.u16()) % 1200;
        let packet = stage.forger.control(FIRST + number, input.take(len));
        stage.say(&packet);
    }
    stage.end();
}
