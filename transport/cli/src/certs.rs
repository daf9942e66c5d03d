//! `sealane certs`: an authority, a server and a client for development, all ECDSA P-256. The authority's own key is dropped once both
//! are signed, so that nothing more can ever be signed in its name. Not a CA: no revocation, no renewal, no requests from others.
#![expect(clippy::disallowed_methods, reason = "certificates are valid from the real day on")]

use anyhow::{Context, Result, bail, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks of two machines may differ by so much on the first day.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder for ca.pem, server.pem, server.key, client.pem and client.key; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Names and addresses that the server may be called by
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "localhost,127.0.0.1,::1")]
    name: Vec<String>,
    /// Days that the certificates are valid
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// A certificate and its private key, both PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// All that two sides need to trust each other, PEM.
pub(crate) struct Development {
    pub(crate) ca: String,
    pub(crate) server: Pair,
    pub(crate) client: Pair,
}

/// Makes a new authority, a server with these names and addresses, and a client. Nothing is written.
pub(crate) fn make(names: &[String], days: u32) -> Result<Development> {
    ensure!(!names.is_empty(), "a server needs a name");
    for name in names {
        let letter = |c: char| c.is_ascii_alphanumeric() || "-._*".contains(c);
        let dns = !name.is_empty() && name.chars().all(letter);
        ensure!(dns || name.parse::<IpAddr>().is_ok(), "{name:?} is neither a DNS name nor an address");
    }
    let key = new_key()?;
    // Two authorities of one name are taken for one, and what only one of them signed for forged: each has its own.
    let mark: String = key.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
    let common = format!("Sealane development authority {mark}");
    let mut authority = params(Vec::new(), &common, days)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let ca = authority.self_signed(&key).context("signing the authority")?.pem();
    let issuer = Issuer::new(authority, key);
    let pair = |names: Vec<String>, common: &str, usage| -> Result<Pair> {
        let mut leaf = params(names, common, days)?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![usage];
        leaf.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let cert = leaf.signed_by(&key, &issuer).with_context(|| format!("signing {common}"))?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    };
    let server = pair(names.to_vec(), &names[0], ExtendedKeyUsagePurpose::ServerAuth)?;
    let client = "sealane-client".to_owned();
    let client = pair(vec![client.clone()], &client, ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok(Development { ca, server, client })
}

fn new_key() -> Result<KeyPair> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("generating a key")
}

fn params(names: Vec<String>, common: &str, days: u32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("the names of a certificate")?;
    params.distinguished_name.push(DnType::CommonName, common);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + DAY * days;
    Ok(params)
}

#[derive(Serialize)]
struct Made<'a> {
    dir: &'a Path,
    files: Vec<&'a str>,
    names: &'a [String],
    days: u32,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let made = make(&args.name, args.days)?;
    let files = [
        ("ca.pem", &made.ca, 0o644),
        ("server.pem", &made.server.cert, 0o644),
        ("server.key", &made.server.key, 0o600),
        ("client.pem", &made.client.cert, 0o644),
        ("client.key", &made.client.key, 0o600),
    ];
    let dir = args.out.as_path();
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    if !args.force
        && let Some((name, ..)) = files.iter().find(|(name, ..)| dir.join(name).exists())
    {
        bail!("{} exists; --force overwrites it and its companions", dir.join(name).display());
    }
    // All are complete before the first gets its name: a full disk leaves the old set as it was.
    for (name, text, mode) in files {
        write_new(&unnamed(dir, name), text, mode)?;
    }
    for (name, ..) in files {
        fs::rename(unnamed(dir, name), dir.join(name)).with_context(|| format!("cannot put {name} in its place"))?;
    }
    let files: Vec<&str> = files.iter().map(|(name, ..)| *name).collect();
    if args.json {
        let made = Made { dir, files, names: &args.name, days: args.days };
        return crate::print(&format!("{}\n", serde_json::to_string(&made)?));
    }
    let at = dir.display();
    crate::print(&format!(
        "{at}: {}\nThe server may be called {}; all are valid for {} days. For development: the authority's key was not kept.\n",
        files.join(", "),
        args.name.join(", "),
        args.days,
    ))
}

fn unnamed(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.new"))
}

/// Writes a file that nobody else can have opened before it got its mode.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<()> {
    let write = || {
        if path.exists() {
            fs::remove_file(path)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_before_anything_is_signed() {
        for bad in ["", "two words", "a,b", "1.2.3.4/8", "[::1]"] {
            let error = make(&[bad.to_owned()], 1).err().map(|e| e.to_string());
            assert!(error.is_some_and(|e| e.contains("neither a DNS name nor an address")), "{bad:?}");
        }
        assert!(make(&[], 1).is_err());
        assert!(make(&["rack-1.example".to_owned(), "2001:db8::1".to_owned()], 1).is_ok());
    }

    #[test]
    fn each_call_makes_new_keys() {
        let [one, two] = [0; 2].map(|_| make(&["localhost".to_owned()], 1).expect("made"));
        let keys = [&one.server.key, &one.client.key, &two.server.key, &two.client.key];
        assert!((1..4).all(|i| !keys[..i].contains(&keys[i])));
        assert!(one.ca != two.ca && one.server.cert != two.server.cert);
    }
}
