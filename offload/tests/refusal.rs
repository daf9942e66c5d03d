//! What was altered is refused, and nothing of it is left behind; checked for every library that is built in.

mod common;

use common::providers;
use proptest::prelude::*;
use record::aead::{Aead, Cipher, Refused, TAG_LEN};

#[derive(Clone, Debug)]
struct Case {
    cipher: Cipher,
    key: Vec<u8>,
    nonce: [u8; 12],
    aad: Vec<u8>,
    plaintext: Vec<u8>,
}

fn cases() -> impl Strategy<Value = Case> {
    let bytes = prop_oneof![4 => 1_usize..64, 2 => 64_usize..1500, 1 => 1500_usize..16_500];
    (
        prop::sample::select(Cipher::ALL.to_vec()),
        prop::collection::vec(any::<u8>(), 32),
        any::<[u8; 12]>(),
        prop::collection::vec(any::<u8>(), 1..40),
        bytes.prop_flat_map(|len| prop::collection::vec(any::<u8>(), len)),
    )
        .prop_map(|(cipher, mut key, nonce, aad, plaintext)| {
            key.truncate(cipher.key_len());
            Case { cipher, key, nonce, aad, plaintext }
        })
}

/// Opens both ways; `Ok` only if both opened to `plaintext`; leaves nothing behind if refused.
fn open(key: &dyn Aead, nonce: &[u8; 12], aad: &[u8], sealed: &[u8], plaintext: &[u8]) -> Result<(), Refused> {
    let mut out = vec![0xEE; plaintext.len()];
    let apart = key.open(nonce, aad, sealed, &mut out);
    let mut buffer = sealed.to_vec();
    let in_place = key.open_in_place(nonce, aad, &mut buffer);
    assert_eq!(apart, in_place);
    buffer.truncate(plaintext.len());
    match apart {
        Ok(()) => assert!(out == plaintext && buffer == plaintext),
        Err(Refused) => {
            assert!(out.iter().chain(&buffer).all(|&b| b == 0), "something was left behind")
        }
    }
    apart
}

proptest! {
    #[test]
    fn a_flipped_bit_is_refused(case in cases(), bits in prop::collection::vec(any::<prop::sample::Index>(), 6)) {
        for crypto in providers() {
            let key = crypto.aead(case.cipher, &case.key);
            let mut sealed = vec![0; case.plaintext.len() + TAG_LEN];
            key.seal(&case.nonce, &case.aad, &case.plaintext, &[], &mut sealed);
            prop_assert_eq!(open(&*key, &case.nonce, &case.aad, &sealed, &case.plaintext), Ok(()));
            for bit in &bits {
                let flipped = |bytes: &[u8]| {
                    let (mut bytes, bit) = (bytes.to_vec(), bit.index(bytes.len() * 8));
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    bytes
                };
                let (body, tag) = sealed.split_at(case.plaintext.len());
                let nonce: [u8; 12] = flipped(&case.nonce).try_into().unwrap();
                for (nonce, aad, sealed) in [
                    (&case.nonce, &case.aad, &[flipped(body), tag.to_vec()].concat()),
                    (&case.nonce, &case.aad, &[body.to_vec(), flipped(tag)].concat()),
                    (&case.nonce, &flipped(&case.aad), &sealed),
                    (&nonce, &case.aad, &sealed),
                ] {
                    prop_assert_eq!(open(&*key, nonce, aad, sealed, &case.plaintext), Err(Refused));
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_is_refused(case in cases(), cut in any::<prop::sample::Index>()) {
        for crypto in providers() {
            let key = crypto.aead(case.cipher, &case.key);
            let mut sealed = vec![0; case.plaintext.len() + TAG_LEN];
            key.seal(&case.nonce, &case.aad, &case.plaintext, &[], &mut sealed);
            sealed.truncate(cut.index(sealed.len()));
            let left = sealed.len().saturating_sub(TAG_LEN);
            prop_assert_eq!(open(&*key, &case.nonce, &case.aad, &sealed, &case.plaintext[..left]), Err(Refused));
        }
    }
}

/// Too short to hold a tag: whatever was in the buffers, it is a refusal and no panic.
#[test]
fn fragments_of_a_tag_are_refused() {
    for crypto in providers() {
        for cipher in Cipher::ALL {
            let key = crypto.aead(cipher, &vec![7; cipher.key_len()]);
            for len in 0..TAG_LEN {
                let mut short = vec![0; len];
                assert_eq!(key.open(&[0; 12], &[], &short, &mut []), Err(Refused));
                assert_eq!(key.open_in_place(&[0; 12], &[], &mut short), Err(Refused));
            }
        }
    }
}
