//! What the tests of the socket share: certificates made on the spot, sockets with them, and bytes that tell what they are.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that every test file includes for itself")]

use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::builder::Ready;
use sealane::fault::{Faults, Faulty};
use sealane::{Builder, Clients, Delivery, Identity, Socket, Trust};

/// An authority that signs what a test needs.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Believing this authority.
    pub fn trust(&self) -> Trust {
        Trust::pem(self.pem.as_bytes()).unwrap()
    }

    /// An identity with this name.
    pub fn identity(&self, name: &str) -> Identity {
        self.identity_with(name, |_| {})
    }

    /// An identity whose certificate is not quite ordinary.
    pub fn identity_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity::pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    /// The builder of a server that asks for certificates.
    pub fn server(&self) -> Builder<Ready> {
        Socket::builder().trust(self.trust()).identity(self.identity("localhost")).serve(Clients::Authenticated)
    }

    /// The builder of a client with a certificate.
    pub fn client(&self) -> Builder<Ready> {
        Socket::builder().trust(self.trust()).identity(self.identity("client"))
    }
}

/// Bytes that tell where they belong: a message of `len` bytes made from `seed`.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Answers every request with its own bytes until the socket is closed. Gives how many it answered.
pub fn echo(server: Socket) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut answered = 0;
        while let Ok(delivery) = server.recv() {
            if let Delivery::Request(request) = delivery {
                if request.payload.starts_with(b"quit") {
                    server.reply(request.token, b"bye").unwrap();
                    let _ = server.close();
                    break;
                }
                let _ = server.reply(request.token, request.payload);
                answered += 1;
            }
        }
        answered
    })
}

/// A network that loses, reorders and repeats, the same way for the same seed.
pub fn hostile(seed: u64) -> Faults {
    Faults { loss: 0.05, reorder: 0.05, duplicate: 0.02, seed, ..Faults::default() }
}

/// Puts `faults` between a socket and the network.
pub fn with_faults(builder: Builder<Ready>, faults: Faults) -> Builder<Ready> {
    builder.danger_wrap(move |inner| Box::new(Faulty::new(inner, faults)))
}

/// What a test that must end waits for at most.
pub const LONG: Duration = Duration::from_secs(30);
