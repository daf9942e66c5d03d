//! One number of the version in all the places that an older reader would misread. [P-1.2]

mod common;

use common::{CRYPTO, SERVER, packet, setup, sign};
use handshake::client::Client;
use handshake::installed::InstalledKey;
use handshake::params::TransportParams;
use handshake::secrets::EXPORTER_LABEL;
use proto::time::Instant;
use record::aead::{Cipher, Crypto};
use record::keys::{Secret, expand_label};
use wire::limits::{ALPN, VERSION};

fn first_packet(mut client: Client) -> Vec<u8> {
    let mut out = vec![0; 1232];
    let len = client.poll_transmit(Instant::ZERO, &mut out).expect("it speaks first");
    out.truncate(len);
    out
}

/// The label of HKDF-Expand-Label as it stands in the derivation.
fn spelled(label: &str, len: usize) -> Vec<u8> {
    let label = format!("sealane{VERSION} {label}");
    [&(len as u16).to_be_bytes()[..], &[label.len() as u8], label.as_bytes(), &[0]].concat()
}

/// [P-1.2] The ALPN name, the prefix of the labels, and the exporter's label.
#[test]
fn names_and_labels() {
    assert_eq!(ALPN, format!("sealane/{VERSION}").as_bytes());
    assert_eq!(EXPORTER_LABEL, format!("EXPORTER-sealane{VERSION} session").as_bytes());
    let (mut derived, mut expected) = ([0; 32], [0; 32]);
    expand_label(&CRYPTO, &Secret::new([3; 32]), b"c traffic", b"", &mut derived);
    CRYPTO.hkdf_expand(&[3; 32], &spelled("c traffic", 32), &mut expected);
    assert_eq!(derived, expected);
}

/// [P-1.2] [P-6.6] The constant that installed secrets begin with, in what a first packet shows of it: the name of the key and
/// the packet's tag.
#[test]
fn the_constant_of_installed_secrets() {
    let key = InstalledKey::new(&CRYPTO, &Secret::new([9; 32]), Cipher::Aes128Gcm, "the other");
    let root = CRYPTO.hkdf_extract(format!("sealane/{VERSION} installed").as_bytes(), &[9; 32]);
    let (mut id, mut packet_key) = ([0; 8], [0; 32]);
    CRYPTO.hkdf_expand(&root, &spelled("inst id", 8), &mut id);
    CRYPTO.hkdf_expand(&root, &spelled("inst c pkt", 32), &mut packet_key);
    assert_eq!(key.id().0, id);
    let first = first_packet(Client::installed(&key, [1; 16], &setup(SERVER, 1232, Instant::ZERO)));
    let parsed = packet(&first);
    assert_eq!(parsed.fragment[3..11], id);
    assert_eq!(parsed.tag[..], sign(&packet_key, parsed.covered)[..16]);
}

/// [P-1.2] The constant of the public check, and the version in the header.
#[cfg(feature = "tls")]
#[test]
fn the_constant_of_the_public_check() {
    let ca = common::pki::Ca::new();
    let config = common::pki::client_config(&ca, None);
    let client = Client::tls(&config, "localhost", &setup(SERVER, 1232, Instant::ZERO)).unwrap();
    let first = first_packet(client);
    assert_eq!(first[0] >> 4, VERSION);
    let public = format!("sealane/{VERSION} handshake public check");
    let parsed = packet(&first);
    assert_eq!(parsed.tag[..], sign(public.as_bytes(), parsed.covered)[..16]);
}

/// [P-1.3] A peer that states more than this version knows is understood.
#[test]
fn parameters_of_later_versions() {
    let mut bytes = common::params(SERVER).encode();
    // 9 to 12 are known, and may be missing.
    for tag in 13..=100 {
        bytes.extend([tag, 2, tag, tag]);
    }
    assert_eq!(TransportParams::decode(&bytes), Ok(common::params(SERVER)));
}
