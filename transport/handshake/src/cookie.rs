//! Owns stateless cookies: under load a server makes a client prove that it receives at its address, and remembers nothing. [P-6.4]
//!
//! A cookie is the number of a time span and a MAC over address, client session id and that number. It can be had with any
//! fragment of a first flight, is smaller than what asks for it, and stands for at most two spans.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use proto::time::Instant;
use record::aead::Crypto;
use record::keys::{SECRET_LEN, Secret, expand_label};
use wire::bytes::Writer;
use wire::handshake::{COOKIE_MAX, HANDSHAKE_OVERHEAD, HandshakePacket, RETRY_OVERHEAD, RetryPacket};
use wire::ids::SessionId;
use wire::limits::TAG_LEN;

use crate::guard;

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 4 + TAG_LEN;

/// Bytes of a RETRY packet of ours.
pub const RETRY_LEN: usize = RETRY_OVERHEAD + COOKIE_LEN;

/// How long one span is: a cookie lives at least this long and at most twice.
const SPAN: Duration = Duration::from_secs(16);

const _: () = assert!(COOKIE_LEN <= COOKIE_MAX);
const _: () = assert!(RETRY_LEN <= HANDSHAKE_OVERHEAD, "an answer is smaller than its question");

/// Makes and judges cookies with one secret key, which nobody else needs to know.
#[derive(Debug)]
pub struct Cookies(Secret);

impl Cookies {
    /// With a random secret, fresh for each process.
    #[must_use]
    pub fn new(crypto: &dyn Crypto, secret: &Secret) -> Self {
        let mut key = [0; SECRET_LEN];
        expand_label(crypto, secret, b"cookie", b"", &mut key);
        Self(Secret::new(key))
    }

    /// Writes a whole RETRY packet in answer to `packet`, which came from `from`; says how long it is. `None`: the packet
    /// does not pass its check, or `out` is shorter than [`RETRY_LEN`].
    pub fn retry(
        &self,
        crypto: &dyn Crypto,
        packet: &HandshakePacket<'_>,
        from: SocketAddr,
        now: Instant,
        out: &mut [u8],
    ) -> Option<usize> {
        let out = out.get_mut(..RETRY_LEN)?;
        // An installed secret's packets are tagged with its keys; they were looked up before, or are refused.
        if packet.fields.method == wire::handshake::Method::Tls
            && !guard::public_check(crypto, packet.covered, packet.tag)
        {
            return None;
        }
        let cookie = self.cookie(crypto, from, packet.fields.sender, span(now));
        let mut w = Writer::new(out);
        RetryPacket::emit(packet, &cookie, &mut w);
        let covered = w.len();
        let (head, tag) = out.split_at_mut(covered);
        tag.copy_from_slice(&guard::public_tag(crypto, head));
        Some(RETRY_LEN)
    }

    /// Whether `packet` carries a cookie that was given to that client at that address not long ago.
    #[must_use]
    pub fn check(&self, crypto: &dyn Crypto, packet: &HandshakePacket<'_>, from: SocketAddr, now: Instant) -> bool {
        let Some((bytes, _)) = packet.cookie.split_first_chunk::<4>() else { return false };
        let (given, now) = (u32::from_be_bytes(*bytes), span(now));
        let age = now.wrapping_sub(given);
        age <= 1 && crypto.equal(&self.cookie(crypto, from, packet.fields.sender, given), packet.cookie)
    }

    fn cookie(&self, crypto: &dyn Crypto, from: SocketAddr, client: SessionId, span: u32) -> [u8; COOKIE_LEN] {
        // 16 address bytes (IPv4 as mapped into IPv6: one socket may show it either way), port, client, span.
        let mut covered = [0; 16 + 2 + 8 + 4];
        let mut w = Writer::new(&mut covered);
        let ip = match from.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        w.put(&ip.octets());
        w.u16(from.port());
        w.u64(client.as_u64());
        w.u32(span);
        let mac = crypto.hmac(self.0.expose(), &covered);
        let mut cookie = [0; COOKIE_LEN];
        cookie[..4].copy_from_slice(&span.to_be_bytes());
        cookie[4..].copy_from_slice(&mac[..TAG_LEN]);
        cookie
    }
}

fn span(now: Instant) -> u32 {
    (now.since(Instant::ZERO).as_secs() / SPAN.as_secs()) as u32
}
