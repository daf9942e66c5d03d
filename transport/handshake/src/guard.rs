//! Owns what the tag of a handshake packet is worth: nothing, a proof of the installed secret, or TLS's handshake keys. [P-6.2]
//!
//! The public check of a TLS handshake's initial level is an HMAC whose key is written here: it finds bits that the network
//! flipped, and proves nothing. (QUIC's Initial packets are protected no better, RFC 9001 section 5.2.) Who can see a
//! client's first packet can answer it with nonsense and so end the attempt; what nobody can do is to make it succeed wrongly.

use record::aead::Crypto;
use wire::handshake::HandshakePacket;
use wire::limits::TAG_LEN;
use zeroize::Zeroizing;

/// The key of the public check.
const PUBLIC: &[u8; 32] = b"sealane/1 handshake public check";

/// What makes and judges tags at one level.
pub(crate) enum Guard {
    /// The public check.
    Public,
    /// Keys of an installed secret, one per direction.
    Mac { local: Zeroizing<[u8; 32]>, remote: Zeroizing<[u8; 32]> },
    /// TLS's handshake keys: fragments are encrypted too.
    #[cfg(feature = "tls")]
    Keys(Box<rustls::quic::Keys>),
    /// The key of a first flight: its requests are sealed with it, and nothing that a server says. [P-6.9]
    #[cfg(feature = "tls")]
    Early(Box<dyn rustls::quic::PacketKey>),
}

impl Guard {
    /// Whether a good tag proves that the other side made it.
    pub(crate) const fn proves(&self) -> bool {
        !matches!(self, Self::Public)
    }

    /// Protects packet `number`, which is `head` bytes of clear fields and then the fragment; the tag goes to the end.
    pub(crate) fn seal(&self, crypto: &dyn Crypto, number: u32, head: usize, packet: &mut [u8]) {
        let (covered, tag) = packet.split_last_chunk_mut::<TAG_LEN>().expect("room for a tag");
        match self {
            Self::Public => *tag = mac(crypto, PUBLIC, covered),
            Self::Mac { local, .. } => *tag = mac(crypto, local, covered),
            #[cfg(feature = "tls")]
            Self::Keys(keys) => {
                seal_with(&*keys.local.packet, number, head, covered, tag);
            }
            #[cfg(feature = "tls")]
            Self::Early(key) => seal_with(&**key, number, head, covered, tag),
        }
        #[cfg(not(feature = "tls"))]
        let _ = (number, head);
    }

    /// The fragment in clear, if the tag is good.
    pub(crate) fn open(&self, crypto: &dyn Crypto, packet: &HandshakePacket<'_>) -> Option<Vec<u8>> {
        match self {
            Self::Public => check(crypto, PUBLIC, packet.covered, packet.tag).then(|| packet.fragment.to_vec()),
            Self::Mac { remote, .. } => {
                check(crypto, remote, packet.covered, packet.tag).then(|| packet.fragment.to_vec())
            }
            #[cfg(feature = "tls")]
            Self::Keys(keys) => open_with(&*keys.remote.packet, packet),
            #[cfg(feature = "tls")]
            Self::Early(key) => open_with(&**key, packet),
        }
    }
}

#[cfg(feature = "tls")]
fn seal_with(key: &dyn rustls::quic::PacketKey, number: u32, head: usize, covered: &mut [u8], tag: &mut [u8; TAG_LEN]) {
    let (clear, fragment) = covered.split_at_mut(head);
    let sealed = key.encrypt_in_place(number.into(), clear, fragment);
    // Fails only beyond 2^36 bytes: our flights are counted in kilobytes.
    tag.copy_from_slice(sealed.expect("a short packet").as_ref());
}

#[cfg(feature = "tls")]
fn open_with(key: &dyn rustls::quic::PacketKey, packet: &HandshakePacket<'_>) -> Option<Vec<u8>> {
    let mut sealed = [packet.fragment, packet.tag].concat();
    let len = key.decrypt_in_place(packet.fields.number.into(), packet.clear, &mut sealed).ok()?.len();
    sealed.truncate(len);
    Some(sealed)
}

/// The tag of the public check, for packets that belong to no handshake of ours.
pub(crate) fn public_tag(crypto: &dyn Crypto, covered: &[u8]) -> [u8; TAG_LEN] {
    mac(crypto, PUBLIC, covered)
}

/// Whether the public check holds.
pub(crate) fn public_check(crypto: &dyn Crypto, covered: &[u8], tag: &[u8; TAG_LEN]) -> bool {
    check(crypto, PUBLIC, covered, tag)
}

fn mac(crypto: &dyn Crypto, key: &[u8; 32], covered: &[u8]) -> [u8; TAG_LEN] {
    *crypto.hmac(key, covered).first_chunk().expect("half of an HMAC")
}

fn check(crypto: &dyn Crypto, key: &[u8; 32], covered: &[u8], tag: &[u8; TAG_LEN]) -> bool {
    crypto.equal(&mac(crypto, key, covered), tag)
}
