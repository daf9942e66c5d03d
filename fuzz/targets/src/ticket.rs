//! Target `ticket`: texts and bytes that claim to be published tickets. Nothing panics; what has a meaning is written as it was read; and
//! nothing that was not signed is believed. [P-6.10]

use std::sync::LazyLock;
use std::time::Duration;

use handshake::config::Trust;
use handshake::identity::Identity;
use handshake::published::{Publisher, Ticket};
use record::aead::Cipher;

const NOW: u64 = 1_780_000_000;
const NAME: &str = "server.test";

/// A good ticket, and who believes it.
static GOOD: LazyLock<(Ticket, Trust)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let identity = Identity::pem("made here", certificate.as_bytes(), key.as_bytes()).expect("it is whole");
    let trust = Trust::pem("made here", certificate.as_bytes()).expect("it is whole");
    let ticket = Publisher::new(&identity, &Cipher::ALL, Duration::from_secs(3600), 1).ticket(NOW).expect("it signs");
    (ticket, trust)
});

fn judge(ticket: Ticket) {
    assert_eq!(Ticket::from_text(&ticket.to_text()).as_ref(), Ok(&ticket), "it is not written as it was read");
    assert_eq!(Ticket::from_txt(ticket.to_txt()), Some(Ok(ticket.clone())));
    let (good, trust) = &*GOOD;
    let is_good = ticket == *good;
    assert_eq!(ticket.verify(trust, NAME, NOW).is_ok(), is_good, "something else than what was signed is believed");
}

/// The target. Bytes are a text, the strings of a TXT record, the bytes of a ticket, and changes of a good one.
///
/// # Panics
/// When a rule was broken.
pub fn ticket(data: &[u8]) {
    let Some((&how, data)) = data.split_first() else { return };
    let found = match how % 4 {
        0 => core::str::from_utf8(data).ok().and_then(|text| Ticket::from_text(text).ok()),
        1 => Ticket::from_txt(data.chunks(255)).and_then(Result::ok),
        2 => Ticket::decode(data).ok(),
        _ => {
            let mut bytes = GOOD.0.as_bytes().to_vec();
            for change in data.chunks_exact(3).take(8) {
                let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
                bytes[at] ^= change[2];
            }
            Ticket::decode(&bytes).ok()
        }
    };
    found.into_iter().for_each(judge);
}
