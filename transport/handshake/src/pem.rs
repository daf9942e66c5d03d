//! Owns reading what others wrote: files, and certificates in PEM text.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::Error;

/// Reads a file, or says which one cannot be read.
pub(crate) fn read_file(path: &Path) -> Result<(String, Vec<u8>), Error> {
    let origin = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => Ok((origin, bytes)),
        Err(error) => Err(Error::File { origin, reason: error.to_string() }),
    }
}

/// All certificates in a PEM text; at least one.
pub(crate) fn certificates(origin: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = CertificateDer::pem_slice_iter(text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::Pem { origin: String::from(origin), reason: error.to_string() })?;
    if found.is_empty() { Err(Error::NoCertificate { origin: origin.into() }) } else { Ok(found) }
}
