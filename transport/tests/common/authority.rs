//! Certificates made on the spot, and sockets with them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyPair, RevokedCertParams,
    date_time_ymd,
};
use sealane::builder::Ready;
use sealane::{Builder, Clients, Identity, Socket, Trust};

/// An authority that signs what a test needs.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        Self::named("sealane test authority")
    }

    /// A new one of this name.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
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

    /// A revocation list in PEM with the certificate of this serial number.
    pub fn revoke(&self, serial: u64) -> String {
        let one = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![one],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The builder of a server that asks for certificates.
    pub fn server(&self) -> Builder<Ready> {
        self.server_as(self.identity("localhost"))
    }

    /// The same with an identity of its own.
    pub fn server_as(&self, identity: Identity) -> Builder<Ready> {
        Socket::builder().trust(self.trust()).identity(identity).serve(Clients::Authenticated)
    }

    /// The builder of a client with a certificate.
    pub fn client(&self) -> Builder<Ready> {
        Socket::builder().trust(self.trust()).identity(self.identity("client"))
    }
}
