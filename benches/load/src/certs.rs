//! Certificates made on the spot: an authority, a server called `localhost`, a client.
//!
//! Owns: credentials that live as long as one run. Refuses: writing them anywhere, or being used for anything else.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// The name that the server's certificate has.
pub const SERVER_NAME: &str = "localhost";

/// A certificate chain and its key, in PEM.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The private key of it.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// All that two processes need to authenticate each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// The authority that signed both, in PEM.
    pub authority: String,
    /// Of the server.
    pub server: Identity,
    /// Of the client.
    pub client: Identity,
}

impl Credentials {
    /// Makes a new authority (ECDSA P-256) and has it sign a server and a client.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "Sealane bench authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            authority,
            server: sign(&issuer, SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth)?,
            client: sign(&issuer, "bench-client", ExtendedKeyUsagePurpose::ClientAuth)?,
        })
    }
}

fn sign(issuer: &Issuer<'_, KeyPair>, name: &str, purpose: ExtendedKeyUsagePurpose) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Identity { certificate, key: key.serialize_pem() })
}
