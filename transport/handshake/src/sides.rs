//! Owns what evidence of either side of a session must contain. [P-6.16]

use core::fmt;

use record::aead::Crypto;
use record::keys::{Secret, expand_label};
use wire::ids::Side;

/// Bytes of a binding.
pub const BINDING_LEN: usize = 64;

/// What the two sides showed of themselves, as it stood on the wire: with the session's secret, what their evidence is tied to.
#[derive(Clone, PartialEq, Eq)]
pub struct Sides {
    pub(crate) client: Shown,
    pub(crate) server: Shown,
}

/// What one side showed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// Its public key as SubjectPublicKeyInfo in DER; empty when it showed none.
    pub(crate) key: Vec<u8>,
    /// Its transport parameters.
    pub(crate) params: Vec<u8>,
}

impl Sides {
    pub(crate) fn new(side: Side, ours: Shown, theirs: Shown) -> Self {
        match side {
            Side::Client => Self { client: ours, server: theirs },
            Side::Server => Self { client: theirs, server: ours },
        }
    }

    /// What evidence of `side` must contain, in the session with that secret.
    ///
    /// The secret is the session's alone, so no other session has this; the label is the side's; and the context is a hash of its
    /// public key and of what both sides stated. All is of one length or has its length in front.
    #[must_use]
    pub fn binding(&self, crypto: &dyn Crypto, secret: &Secret, side: Side) -> [u8; BINDING_LEN] {
        let (label, key): (&[u8], _) = match side {
            Side::Client => (b"c attest", &self.client.key),
            Side::Server => (b"s attest", &self.server.key),
        };
        let mut said = Vec::new();
        for part in [key.as_slice(), &self.client.params, &self.server.params] {
            said.extend((part.len() as u32).to_be_bytes());
            said.extend_from_slice(part);
        }
        let context = crypto.hmac(b"sealane/1 hash of what was shown", &said);
        let mut binding = [0; BINDING_LEN];
        expand_label(crypto, secret, label, &context, &mut binding);
        binding
    }
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sides(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_crypto::CRYPTO;
    use std::collections::HashSet;

    fn shown(key: &[u8], params: &[u8]) -> Shown {
        Shown { key: key.to_vec(), params: params.to_vec() }
    }

    /// [P-6.16] Another secret, the other role, another key, other parameters of either side: another binding. And nothing can be moved
    /// from one part to the next.
    #[test]
    fn everything_counts() {
        let mut seen = HashSet::new();
        let plain = || Sides::new(Side::Client, shown(b"ck", b"cp"), shown(b"sk", b"sp"));
        let of = |sides: &Sides, secret: u8, side| sides.binding(&CRYPTO, &Secret::new([secret; 32]), side);
        for side in [Side::Client, Side::Server] {
            assert!(seen.insert(of(&plain(), 1, side)), "the role");
            assert!(seen.insert(of(&plain(), 2, side)), "the secret");
            let others = [
                (&b"CK"[..], &b"cp"[..], &b"SK"[..], &b"sp"[..]),
                (b"ck", b"CP", b"sk", b"sp"),
                (b"ck", b"cp", b"sk", b"SP"),
                (b"", b"cp", b"", b"sp"),
                (b"ckc", b"p", b"skc", b"p"),
                (b"ck", b"cps", b"sk", b"p"),
            ];
            for (ck, cp, sk, sp) in others {
                assert!(
                    seen.insert(of(&Sides::new(Side::Client, shown(ck, cp), shown(sk, sp)), 1, side)),
                    "{ck:?} {cp:?}"
                );
            }
        }
        // The version stands in the constant. [P-1.2]
        let said = [&b"\0\0\0\x02ck"[..], b"\0\0\0\x02cp", b"\0\0\0\x02sp"].concat();
        let key = format!("sealane/{} hash of what was shown", wire::limits::VERSION);
        let context = CRYPTO.hmac(key.as_bytes().try_into().unwrap(), &said);
        let mut expected = [0; BINDING_LEN];
        expand_label(&CRYPTO, &Secret::new([1; 32]), b"c attest", &context, &mut expected);
        assert_eq!(of(&plain(), 1, Side::Client), expected);
        // Both ends see the same.
        let server = Sides::new(Side::Server, shown(b"sk", b"sp"), shown(b"ck", b"cp"));
        assert_eq!(server, plain());
        // A side's binding does not hang on the other's key: each vouches for itself.
        let other = Sides::new(Side::Client, shown(b"ck", b"cp"), shown(b"other", b"sp"));
        assert_eq!(of(&other, 1, Side::Client), of(&plain(), 1, Side::Client));
        assert!(!format!("{other:?}").contains("other"));
    }
}
