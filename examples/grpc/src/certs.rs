//! Owns certificates for development: an authority, a server called `localhost`, a client. The authority's key is dropped once both are
//! signed. Refuses to replace what is there.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use sealane::{Identity, Trust};

/// The name that the server's certificate has.
pub const SERVER_NAME: &str = "localhost";
/// The name that the client's certificate has.
pub const CLIENT_NAME: &str = "grpc-client";

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(..)")
    }
}

/// All that two ends need to trust each other.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority, in PEM.
    pub authority: String,
    /// The server's.
    pub server: Pair,
    /// The client's.
    pub client: Pair,
}

impl Certificates {
    /// Makes new ones.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<Self> {
        let key = KeyPair::generate()?;
        // Two authorities of one name are taken for one: each has its own.
        let mark: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("Sealane gRPC development authority {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        let pair = |names: &[&str], usage| -> Result<Pair> {
            let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, names[0]);
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
        };
        Ok(Self {
            authority,
            server: pair(&[SERVER_NAME, "127.0.0.1", "::1"], ExtendedKeyUsagePurpose::ServerAuth)?,
            client: pair(&[CLIENT_NAME], ExtendedKeyUsagePurpose::ClientAuth)?,
        })
    }

    /// Those of a folder.
    ///
    /// # Errors
    /// Which file cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let pair = |name: &str| -> Result<Pair> {
            Ok(Pair { certificate: read(&format!("{name}.pem"))?, key: read(&format!("{name}.key"))? })
        };
        Ok(Self { authority: read("ca.pem")?, server: pair("server")?, client: pair("client")? })
    }

    /// Those of a folder; new ones where it has none.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub fn read_or_make(dir: &Path) -> Result<Self> {
        // The authority is written last: where it is, all are.
        if dir.join("ca.pem").exists() {
            return Self::read(dir);
        }
        let made = Self::generate()?;
        fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let files = [
            ("server.pem", &made.server.certificate, 0o644),
            ("server.key", &made.server.key, 0o600),
            ("client.pem", &made.client.certificate, 0o644),
            ("client.key", &made.client.key, 0o600),
            ("ca.pem", &made.authority, 0o644),
        ];
        for (name, text, mode) in files {
            // Under its name it is complete: a client may be waiting for it.
            let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
            let write = || -> std::io::Result<()> {
                let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
                file.write_all(text.as_bytes())?;
                fs::rename(&new, &path)
            };
            write().with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(made)
    }

    /// Believing the authority.
    ///
    /// # Errors
    /// When it is none.
    pub fn trust(&self) -> Result<Trust> {
        Ok(Trust::pem(self.authority.as_bytes())?)
    }
}

impl Pair {
    /// Being its owner.
    ///
    /// # Errors
    /// When it is none.
    pub fn identity(&self) -> Result<Identity> {
        Ok(Identity::pem(self.certificate.as_bytes(), self.key.as_bytes())?)
    }
}
