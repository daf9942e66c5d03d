//! Two libraries, one meaning: each gives the bytes of the other and opens them.
#![cfg(all(feature = "aws-lc", feature = "rustcrypto"))]

use offload::software::{aws_lc, rustcrypto};
use proptest::prelude::*;
use record::aead::{Cipher, Crypto, TAG_LEN};

/// Lengths around the borders of blocks, and a few long ones.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![2 => 0_usize..3, 4 => 0_usize..70, 2 => 70_usize..1500, 1 => 1500_usize..16_500]
}

fn text(len: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<u8>> {
    len.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len))
}

proptest! {
    #[test]
    fn records_are_the_same(
        cipher in prop::sample::select(Cipher::ALL.to_vec()),
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 12]>(),
        aad in text(0_usize..70),
        plaintext in text(lengths()),
        extra in text(0_usize..70),
    ) {
        let key = &key[..cipher.key_len()];
        let both = [aws_lc::PROVIDER.aead(cipher, key), rustcrypto::PROVIDER.aead(cipher, key)];
        let whole = [&plaintext[..], &extra[..]].concat();
        let sealed = both.each_ref().map(|key| {
            let mut sealed = vec![0xEE; whole.len() + TAG_LEN];
            key.seal(&nonce, &aad, &plaintext, &extra, &mut sealed);
            sealed
        });
        prop_assert_eq!(&sealed[0], &sealed[1]);
        for (key, theirs) in both.iter().zip(sealed.iter().rev()) {
            let mut out = vec![0xEE; whole.len()];
            prop_assert_eq!(key.open(&nonce, &aad, theirs, &mut out), Ok(()));
            prop_assert_eq!(&out, &whole);
            let mut buffer = theirs.clone();
            prop_assert_eq!(key.open_in_place(&nonce, &aad, &mut buffer), Ok(()));
            prop_assert_eq!(&buffer[..whole.len()], &whole[..]);
        }
    }

    #[test]
    fn derived_keys_are_the_same(
        salt in text(0_usize..150),
        ikm in text(0_usize..150),
        info in text(0_usize..150),
        key in any::<[u8; 32]>(),
        len in prop_oneof![0_usize..100, Just(255 * 32)],
    ) {
        let (a, b): (&dyn Crypto, &dyn Crypto) = (&aws_lc::PROVIDER, &rustcrypto::PROVIDER);
        prop_assert_eq!(a.hkdf_extract(&salt, &ikm), b.hkdf_extract(&salt, &ikm));
        prop_assert_eq!(a.hmac(&key, &info), b.hmac(&key, &info));
        prop_assert_eq!(a.equal(&salt, &ikm), b.equal(&salt, &ikm));
        let expand = |crypto: &dyn Crypto| {
            let mut out = vec![0xEE; len];
            crypto.hkdf_expand(&key, &info, &mut out);
            out
        };
        prop_assert_eq!(expand(a), expand(b));
    }
}
