//! Owns finding the subject alternative names in a certificate (RFC 5280 section 4.2.1.6).
//!
//! It reads only certificates that rustls has verified, and decides nothing: names are shown to the application. What it
//! does not understand it leaves out.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name that a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Name {
    /// A DNS name, which may begin with `*.`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
    /// A URI, as workload identities use.
    Uri(String),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

/// Until when a certificate in DER is good, in seconds since 1970.
#[cfg_attr(not(any(test, feature = "tls")), expect(dead_code, reason = "only TLS has certificates"))]
pub(crate) fn not_after(der: &[u8]) -> Option<u64> {
    let mut certificate = Der(der).expect(SEQUENCE)?;
    let mut body = certificate.expect(SEQUENCE)?;
    let (tag, _) = body.next()?;
    if tag == VERSION {
        body.expect(INTEGER)?;
    }
    // Algorithm, issuer, validity.
    body.expect(SEQUENCE)?;
    body.expect(SEQUENCE)?;
    let mut validity = body.expect(SEQUENCE)?;
    validity.next()?;
    let (tag, text) = validity.next()?;
    let digits = text.strip_suffix(b"Z")?;
    let number = |at: core::ops::Range<usize>| core::str::from_utf8(digits.get(at)?).ok()?.parse::<u64>().ok();
    let (year, rest) = match tag {
        // Two digits, from 1950 to 2049 (RFC 5280 section 4.1.2.5.1).
        UTC_TIME => number(0..2).map(|year| (if year < 50 { 2000 + year } else { 1900 + year }, 2))?,
        GENERALIZED_TIME => (number(0..4)?, 4),
        _ => return None,
    };
    let at = |n: usize| number(rest + 2 * n..rest + 2 * n + 2);
    let (month, day) = (at(0)?, at(1)?);
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (shifted, since_march) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let leap_days = shifted / 4 - shifted / 100 + shifted / 400;
    let days = (365 * shifted + leap_days + (153 * since_march + 2) / 5 + day).checked_sub(719_469)?;
    Some(days * 86_400 + at(2)? * 3600 + at(3)? * 60 + at(4)?)
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// All names of a certificate in DER, in its order.
#[cfg_attr(not(any(test, feature = "tls")), expect(dead_code, reason = "only TLS has certificates"))]
pub(crate) fn of_certificate(der: &[u8]) -> Vec<Name> {
    alt_name(der).map(names).unwrap_or_default()
}

/// The content of the extension.
fn alt_name(der: &[u8]) -> Option<&[u8]> {
    let mut certificate = Der(der).expect(SEQUENCE)?;
    let mut body = certificate.expect(SEQUENCE)?;
    let (tag, _) = body.next()?;
    if tag == VERSION {
        body.expect(INTEGER)?;
    }
    // Algorithm, issuer, validity, subject, public key; then optional fields, of which extensions are the last.
    for _ in 0..5 {
        body.expect(SEQUENCE)?;
    }
    let mut list = loop {
        match body.next()? {
            (EXTENSIONS, content) => break Der(content).expect(SEQUENCE)?,
            _ => continue,
        }
    };
    while let Some((SEQUENCE, content)) = list.next() {
        let mut extension = Der(content);
        let is_it = extension.expect(OID)?.0 == SUBJECT_ALT_NAME;
        // A "critical" flag may stand between.
        while let Some((tag, content)) = extension.next() {
            if is_it && tag == OCTETS {
                return Some(Der(content).expect(SEQUENCE)?.0);
            }
        }
    }
    None
}

fn names(list: &[u8]) -> Vec<Name> {
    let mut found = Vec::new();
    let mut der = Der(list);
    while let Some((tag, content)) = der.next() {
        let text = || core::str::from_utf8(content).ok().map(String::from);
        found.extend(match tag {
            0x82 => text().map(Name::Dns),
            0x86 => text().map(Name::Uri),
            0x87 => address(content).map(Name::Ip),
            _ => None,
        });
    }
    found
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// What is left of a string of DER values.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value: tag and content.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            // Four bytes are more than any certificate that got here.
            if len.is_empty() || len.len() > 4 {
                return None;
            }
            (len.iter().fold(0, |n, &b| n << 8 | usize::from(b)), rest)
        };
        let (content, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// Takes the next value, which must have `tag`.
    fn expect(&mut self, tag: u8) -> Option<Self> {
        self.next().filter(|&(found, _)| found == tag).map(|(_, content)| Der(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the bytes, reading them ends.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = of_certificate(&bytes);
            let _ = names(&bytes);
        }
    }

    /// DNS names, both kinds of addresses and URIs come out of a real certificate, in order, also when cut nowhere else.
    #[test]
    fn real_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["a.example".into(), "10.0.0.1".into(), "::1".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://x/y".try_into().unwrap()));
        let certificate = params.self_signed(&key).unwrap();
        let found = of_certificate(certificate.der());
        let wanted = [
            Name::Dns("a.example".into()),
            Name::Ip(IpAddr::from([10, 0, 0, 1])),
            Name::Ip(Ipv6Addr::LOCALHOST.into()),
            Name::Uri("spiffe://x/y".into()),
        ];
        assert_eq!(found, wanted);
        for cut in 0..certificate.der().len() {
            let _ = of_certificate(&certificate.der()[..cut]);
        }
    }
}
