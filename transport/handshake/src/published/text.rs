//! Owns how a ticket stands in text: a block of base64 between two lines, in files; the same base64 in strings of at most 255 bytes,
//! in DNS TXT records (RFC 1035 section 3.3.14).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::ticket::Damage;

/// Most bytes of a text that is looked at.
pub const TEXT_MAX: usize = 64 << 10;
/// Most bytes of a string in a TXT record.
pub const TXT_STRING_MAX: usize = 255;

const BEGIN: &str = "-----BEGIN SEALANE TICKET-----";
const END: &str = "-----END SEALANE TICKET-----";
/// What the first string of a TXT record begins with: others may stand beside it.
const TXT_PREFIX: &str = "sealane-ticket=";

/// Bytes as a block.
pub(super) fn armor(bytes: &[u8]) -> String {
    let body = STANDARD.encode(bytes);
    let mut out = String::with_capacity(body.len() + body.len() / 64 + 64);
    out.push_str(BEGIN);
    out.push('\n');
    for line in body.as_bytes().chunks(64) {
        out.extend(line.iter().map(|&byte| char::from(byte)));
        out.push('\n');
    }
    out.push_str(END);
    out.push('\n');
    out
}

/// The bytes of the one block in a text; what stands around it is not read.
pub(super) fn dearmor(text: &str) -> Result<Vec<u8>, Damage> {
    if text.len() > TEXT_MAX {
        return Err(Damage::TooLong);
    }
    let (_, rest) = text.split_once(BEGIN).ok_or(Damage::NoBlock)?;
    let (body, rest) = rest.split_once(END).ok_or(Damage::NoBlock)?;
    if rest.contains(BEGIN) {
        return Err(Damage::Several);
    }
    plain(body)
}

/// Bytes as the strings of one TXT record.
pub(super) fn strings(bytes: &[u8]) -> Vec<String> {
    let all = format!("{TXT_PREFIX}{}", STANDARD.encode(bytes));
    all.as_bytes().chunks(TXT_STRING_MAX).map(|part| part.iter().map(|&byte| char::from(byte)).collect()).collect()
}

/// The bytes of a ticket in the strings of one TXT record; `None` when it is a record of something else.
pub(super) fn joined<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Option<Result<Vec<u8>, Damage>> {
    let mut all = Vec::new();
    for string in strings {
        if all.len() + string.as_ref().len() > TEXT_MAX {
            return Some(Err(Damage::TooLong));
        }
        all.extend_from_slice(string.as_ref());
    }
    let body = all.strip_prefix(TXT_PREFIX.as_bytes())?;
    Some(core::str::from_utf8(body).map_err(|_| Damage::Base64).and_then(plain))
}

fn plain(body: &str) -> Result<Vec<u8>, Damage> {
    let body: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(body).map_err(|_| Damage::Base64)
}
