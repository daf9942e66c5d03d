//! Owns the HKDF that TLS's key schedule runs on (RFC 5869): by an HMAC that takes in its key once and needs no memory of its own, and
//! that leaves out the keys of parts of TLS which are not there.
//!
//! A handshake derives some seventy secrets of 12 to 48 bytes each. AWS-LC makes a context for each, and takes in the key again: about
//! 1 us each, where the hash itself takes a quarter of that (decision 0015).
//!
//! Wiping: HMAC keys and hash states are wiped when they are dropped, and so is what is copied out of them.

use core::cell::Cell;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit, Mac};
use rustls::crypto::hmac::Tag;
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use sha2::{Sha256, Sha384};
use zeroize::{Zeroize, Zeroizing};

/// HKDF with SHA-256.
pub(crate) static HKDF_SHA256: By<Hmac<Sha256>, 32> = By::new();
/// HKDF with SHA-384.
pub(crate) static HKDF_SHA384: By<Hmac<Sha384>, 48> = By::new();

/// Labels of keys that go to what refuses to use them: rustls's record layer, and QUIC's protection of headers. See `suites`.
const NEVER_NEEDED: [&[u8]; 3] = [b"key", b"iv", b"quic hp"];
/// Labels of packet keys, and of what later ones are made of: QUIC's packets after the handshake, which we have none of.
const PACKETS: [&[u8]; 3] = [b"quic key", b"quic iv", b"traffic upd"];

std::thread_local! {
    /// Whether this thread is where packet keys are made that nobody needs.
    static WITHOUT_PACKETS: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of TLS whose packet keys nobody needs: they are not made, and refuse to be used.
pub(crate) fn without_packet_keys<T>(step: impl FnOnce() -> T) -> T {
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            WITHOUT_PACKETS.set(false);
        }
    }
    let _back = Back;
    WITHOUT_PACKETS.set(true);
    step()
}

/// Whether a packet key that is made now must refuse to be used, because its bytes were never derived.
pub(crate) fn packet_keys_are_void() -> bool {
    WITHOUT_PACKETS.get()
}

/// HKDF by the HMAC `M`, whose tags have `LEN` bytes.
pub(crate) struct By<M, const LEN: usize>(core::marker::PhantomData<fn() -> M>);

impl<M: KeyInit + Mac, const LEN: usize> By<M, LEN> {
    const fn new() -> Self {
        Self(core::marker::PhantomData)
    }

    fn keyed(key: &[u8]) -> M {
        <M as KeyInit>::new_from_slice(key).expect("any length is a key")
    }

    /// The tag of what went into `mac`.
    fn tag(mac: M) -> [u8; LEN] {
        let mut tag = mac.finalize().into_bytes();
        let copy = *tag.first_chunk().expect("the length of a tag");
        tag.as_mut_slice().zeroize();
        copy
    }
}

impl<M, const LEN: usize> By<M, LEN>
where
    M: KeyInit + Mac + Clone + Send + Sync + 'static,
{
    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        let mut mac = Self::keyed(salt.unwrap_or(&[0; LEN]));
        mac.update(secret);
        Box::new(Prk::<M, LEN> { key: Zeroizing::new(Self::tag(mac)), mac: OnceLock::new() })
    }
}

impl<M, const LEN: usize> Hkdf for By<M, LEN>
where
    M: KeyInit + Mac + Clone + Send + Sync + 'static,
{
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.extract(salt, &[0; LEN])
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.extract(salt, secret)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        let key = *okm.as_ref().first_chunk().expect("a block is as long as a tag");
        Box::new(Prk::<M, LEN> { key: Zeroizing::new(key), mac: OnceLock::new() })
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        let mut mac = Self::keyed(key.as_ref());
        mac.update(message);
        let mut tag = Self::tag(mac);
        let signed = Tag::new(&tag);
        tag.zeroize();
        signed
    }
}

/// A pseudorandom key, taken in once it is needed: a third never is.
struct Prk<M, const LEN: usize> {
    key: Zeroizing<[u8; LEN]>,
    mac: OnceLock<M>,
}

impl<M: KeyInit + Mac + Clone, const LEN: usize> Prk<M, LEN> {
    /// T(`n`) of RFC 5869 section 2.3.
    fn block(&self, before: &[u8], info: &[&[u8]], n: u8) -> [u8; LEN] {
        let mut mac = self.mac.get_or_init(|| By::<M, LEN>::keyed(&*self.key)).clone();
        mac.update(before);
        info.iter().for_each(|part| mac.update(part));
        mac.update(&[n]);
        By::<M, LEN>::tag(mac)
    }
}

impl<M, const LEN: usize> HkdfExpander for Prk<M, LEN>
where
    M: KeyInit + Mac + Clone + Send + Sync,
{
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        if output.len() > 255 * LEN {
            return Err(OutputLengthError);
        }
        if is_needless(info) {
            output.fill(0);
            return Ok(());
        }
        let mut block = [0; LEN];
        for (n, part) in output.chunks_mut(LEN).enumerate() {
            let before = if n == 0 { &[][..] } else { &block[..] };
            block = self.block(before, info, n as u8 + 1);
            part.copy_from_slice(&block[..part.len()]);
        }
        block.zeroize();
        Ok(())
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        if is_needless(info) {
            return OkmBlock::new(&[0; LEN]);
        }
        let mut block = self.block(&[], info, 1);
        let okm = OkmBlock::new(&block);
        block.zeroize();
        okm
    }

    fn hash_len(&self) -> usize {
        LEN
    }
}

/// Whether what is derived for `info` goes to something that refuses to use it. Should rustls write labels in another way one day, all is
/// derived.
fn is_needless(info: &[&[u8]]) -> bool {
    let [_, _, b"tls13 ", label, ..] = info else { return false };
    NEVER_NEEDED.contains(label) || WITHOUT_PACKETS.get() && PACKETS.contains(label)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs::cipher_suite;
    use rustls::{SupportedCipherSuite, Tls13CipherSuite};

    use super::*;

    fn theirs(suite: SupportedCipherSuite) -> &'static Tls13CipherSuite {
        suite.tls13().unwrap()
    }

    /// RFC 8446 section 7.1, as rustls has it in pieces.
    fn info<'a>(len: &'a [u8; 2], label_len: &'a [u8; 1], label: &'a [u8], context: &'a [u8]) -> [&'a [u8]; 6] {
        [len, label_len, b"tls13 ", label, &[0], context]
    }

    /// Every step gives what AWS-LC's gives, for secrets and labels of all lengths, over one block and several.
    #[test]
    fn as_aws_lc_has_it() {
        let suites = [
            (&HKDF_SHA256 as &dyn Hkdf, theirs(cipher_suite::TLS13_AES_128_GCM_SHA256), 32),
            (&HKDF_SHA384, theirs(cipher_suite::TLS13_AES_256_GCM_SHA384), 48),
        ];
        for (ours, theirs, len) in suites {
            let theirs = theirs.hkdf_provider;
            for n in 0..150_u8 {
                let (secret, label) = (vec![n ^ 0x5a; usize::from(n)], vec![n; usize::from(n) / 2]);
                let okm = OkmBlock::new(&vec![n; len]);
                let pairs = [
                    (ours.extract_from_zero_ikm(None), theirs.extract_from_zero_ikm(None)),
                    (ours.extract_from_zero_ikm(Some(&secret)), theirs.extract_from_zero_ikm(Some(&secret))),
                    (ours.extract_from_secret(None, &secret), theirs.extract_from_secret(None, &secret)),
                    (
                        ours.extract_from_secret(Some(&label), &secret),
                        theirs.extract_from_secret(Some(&label), &secret),
                    ),
                    (ours.expander_for_okm(&okm), theirs.expander_for_okm(&okm)),
                ];
                for (ours, theirs) in pairs {
                    let lengths = [0, n];
                    let info = info(&lengths, lengths.last_chunk().unwrap(), &label, &secret);
                    assert_eq!(ours.expand_block(&info).as_ref(), theirs.expand_block(&info).as_ref());
                    let (mut a, mut b) = (vec![1; usize::from(n)], vec![2; usize::from(n)]);
                    ours.expand_slice(&info, &mut a).unwrap();
                    theirs.expand_slice(&info, &mut b).unwrap();
                    assert_eq!(a, b);
                    assert_eq!((ours.hash_len(), theirs.hash_len()), (len, len));
                }
                assert_eq!(ours.hmac_sign(&okm, &secret).as_ref(), theirs.hmac_sign(&okm, &secret).as_ref());
            }
            assert!(ours.extract_from_zero_ikm(None).expand_slice(&[], &mut vec![0; 255 * len + 1]).is_err());
        }
    }

    /// Left out are the keys that nobody can use, and nothing else: packet keys only while it was said so.
    #[test]
    fn what_is_left_out() {
        let prk = HKDF_SHA256.extract_from_secret(None, b"secret");
        let derived = |label: &[u8]| {
            let (mut out, info) = ([7; 32], info(&[0, 32], &[9], label, &[]));
            prk.expand_slice(&info, &mut out).unwrap();
            let block = prk.expand_block(&info);
            assert_eq!(block.as_ref(), out);
            out != [0; 32]
        };
        let secrets: [&[u8]; 6] =
            [b"c hs traffic", b"s ap traffic", b"exp master", b"derived", b"finished", b"resumption"];
        let packets = || PACKETS.iter().all(|label| derived(label));
        let all = || secrets.iter().all(|label| derived(label)) && !NEVER_NEEDED.iter().any(|label| derived(label));
        assert!(all() && packets() && !packet_keys_are_void());
        without_packet_keys(|| {
            assert!(all() && packet_keys_are_void());
            assert!(!PACKETS.iter().any(|label| derived(label)));
        });
        assert!(packets() && !packet_keys_are_void());
        let panicked = std::panic::catch_unwind(|| without_packet_keys(|| panic!("in the step")));
        assert!(panicked.is_err() && !packet_keys_are_void());
    }
}
