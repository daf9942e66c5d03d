//! Published vectors, against every library that is built in.

mod common;

use common::providers;
use record::aead::{Cipher, TAG_LEN};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert_eq!(digits.len() % 2, 0);
    digits.chunks(2).map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

struct Vector {
    name: &'static str,
    cipher: Cipher,
    key: &'static str,
    nonce: &'static str,
    aad: &'static str,
    plaintext: &'static str,
    ciphertext: &'static str,
    tag: &'static str,
}

const FEFFE: &str = "feffe9928665731c6d6a8f9467308308";
const FEFFE_TWICE: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
const ZERO_16: &str = "00000000000000000000000000000000";
const ZERO_32: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ZERO_NONCE: &str = "000000000000000000000000";
const CAFE: &str = "cafebabefacedbaddecaf888";
const FEED: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
const P60: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
const P64: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";

/// The cases of the GCM specification (McGrew and Viega, as submitted to NIST) with 128- and 256-bit keys and 96-bit
/// nonces, and the example of RFC 8439 section 2.8.2.
const VECTORS: [Vector; 9] = [
    Vector {
        name: "gcm 1",
        cipher: Cipher::Aes128Gcm,
        key: ZERO_16,
        nonce: ZERO_NONCE,
        aad: "",
        plaintext: "",
        ciphertext: "",
        tag: "58e2fccefa7e3061367f1d57a4e7455a",
    },
    Vector {
        name: "gcm 2",
        cipher: Cipher::Aes128Gcm,
        key: ZERO_16,
        nonce: ZERO_NONCE,
        aad: "",
        plaintext: ZERO_16,
        ciphertext: "0388dace60b6a392f328c2b971b2fe78",
        tag: "ab6e47d42cec13bdf53a67b21257bddf",
    },
    Vector {
        name: "gcm 3",
        cipher: Cipher::Aes128Gcm,
        key: FEFFE,
        nonce: CAFE,
        aad: "",
        plaintext: P64,
        ciphertext: "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
            21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
        tag: "4d5c2af327cd64a62cf35abd2ba6fab4",
    },
    Vector {
        name: "gcm 4",
        cipher: Cipher::Aes128Gcm,
        key: FEFFE,
        nonce: CAFE,
        aad: FEED,
        plaintext: P60,
        ciphertext: "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
            21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
        tag: "5bc94fbc3221a5db94fae95ae7121a47",
    },
    Vector {
        name: "gcm 13",
        cipher: Cipher::Aes256Gcm,
        key: ZERO_32,
        nonce: ZERO_NONCE,
        aad: "",
        plaintext: "",
        ciphertext: "",
        tag: "530f8afbc74536b9a963b4f1c4cb738b",
    },
    Vector {
        name: "gcm 14",
        cipher: Cipher::Aes256Gcm,
        key: ZERO_32,
        nonce: ZERO_NONCE,
        aad: "",
        plaintext: ZERO_16,
        ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
        tag: "d0d1c8a799996bf0265b98b5d48ab919",
    },
    Vector {
        name: "gcm 15",
        cipher: Cipher::Aes256Gcm,
        key: FEFFE_TWICE,
        nonce: CAFE,
        aad: "",
        plaintext: P64,
        ciphertext: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        tag: "b094dac5d93471bdec1a502270e3cc6c",
    },
    Vector {
        name: "gcm 16",
        cipher: Cipher::Aes256Gcm,
        key: FEFFE_TWICE,
        nonce: CAFE,
        aad: FEED,
        plaintext: P60,
        ciphertext: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
            8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        tag: "76fc6ece0f4e1768cddf8853bb2d551b",
    },
    Vector {
        name: "rfc 8439 2.8.2",
        cipher: Cipher::ChaCha20Poly1305,
        key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
        nonce: "070000004041424344454647",
        aad: "50515253c0c1c2c3c4c5c6c7",
        plaintext: "4c616469657320616e642047656e746c656d656e206f662074686520636c6173
            73206f66202739393a204966204920636f756c64206f6666657220796f75206f
            6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73
            637265656e20776f756c642062652069742e",
        ciphertext: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
            3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
            92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
            3ff4def08e4b7a9de576d26586cec64b6116",
        tag: "1ae10b594f09e26a7e902ecbd0600691",
    },
];

#[test]
fn ciphers_give_the_published_bytes() {
    for crypto in providers() {
        for v in &VECTORS {
            let what = format!("{} {}", crypto.name(), v.name);
            let (aad, plaintext) = (hex(v.aad), hex(v.plaintext));
            let nonce: [u8; 12] = hex(v.nonce).try_into().unwrap();
            let expected = [hex(v.ciphertext), hex(v.tag)].concat();
            let key = crypto.aead(v.cipher, &hex(v.key));
            // Sealed at once, and with the last bytes given apart.
            for cut in [0, plaintext.len() / 3, plaintext.len()] {
                let (head, extra) = plaintext.split_at(cut);
                let mut sealed = vec![0xEE; plaintext.len() + TAG_LEN];
                key.seal(&nonce, &aad, head, extra, &mut sealed);
                assert_eq!(sealed, expected, "{what}, cut at {cut}");
            }
            let mut opened = vec![0xEE; plaintext.len()];
            assert_eq!(key.open(&nonce, &aad, &expected, &mut opened), Ok(()), "{what}");
            assert_eq!(opened, plaintext, "{what}");
        }
    }
}

struct Derivation {
    ikm: Vec<u8>,
    salt: Vec<u8>,
    info: Vec<u8>,
    prk: &'static str,
    okm: &'static str,
}

#[test]
fn hkdf_gives_the_bytes_of_rfc_5869() {
    let cases = [
        Derivation {
            ikm: vec![0x0b; 22],
            salt: (0x00..=0x0c).collect(),
            info: (0xf0..=0xf9).collect(),
            prk: "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            okm: "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        },
        Derivation {
            ikm: (0x00..=0x4f).collect(),
            salt: (0x60..=0xaf).collect(),
            info: (0xb0..=0xff).collect(),
            prk: "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            okm: "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c
                59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71
                cc30c58179ec3e87c14c01d5c1f3434f1d87",
        },
        Derivation {
            ikm: vec![0x0b; 22],
            salt: vec![],
            info: vec![],
            prk: "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            okm: "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        },
    ];
    for crypto in providers() {
        for (i, case) in cases.iter().enumerate() {
            let prk = crypto.hkdf_extract(&case.salt, &case.ikm);
            assert_eq!(prk.to_vec(), hex(case.prk), "{} case {}", crypto.name(), i + 1);
            let expected = hex(case.okm);
            let mut okm = vec![0; expected.len()];
            crypto.hkdf_expand(&prk, &case.info, &mut okm);
            assert_eq!(okm, expected, "{} case {}", crypto.name(), i + 1);
        }
    }
}

#[test]
fn hmac_gives_the_bytes_of_rfc_4231() {
    // Keys shorter than ours: HMAC pads a key with zeros, so padding it ourselves changes nothing.
    let cases: [(&[u8], Vec<u8>, &str); 4] = [
        (&[0x0b; 20], b"Hi There".to_vec(), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (&[0xaa; 20], vec![0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (
            &core::array::from_fn::<u8, 25, _>(|i| i as u8 + 1),
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
    ];
    for crypto in providers() {
        for (key, data, expected) in &cases {
            let mut padded = [0; 32];
            padded[..key.len()].copy_from_slice(key);
            assert_eq!(crypto.hmac(&padded, data).to_vec(), hex(expected), "{}", crypto.name());
        }
    }
}

#[test]
fn equality_compares_every_byte_and_the_length() {
    for crypto in providers() {
        let a: Vec<u8> = (0..40).collect();
        assert!(crypto.equal(&a, &a.clone()) && crypto.equal(&[], &[]));
        assert!(!crypto.equal(&a, &a[..39]) && !crypto.equal(&[], &a));
        for i in 0..a.len() {
            let mut b = a.clone();
            b[i] ^= 0x80;
            assert!(!crypto.equal(&a, &b), "{} byte {i}", crypto.name());
        }
    }
}
