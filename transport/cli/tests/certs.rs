//! `sealane certs` as a shell sees it: the files, their modes, what is refused, and that TLS accepts what was made.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

fn sealane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sealane")).args(args).output().expect("the command starts")
}

fn certs(dir: &Path, more: &[&str]) -> Output {
    let dir = dir.to_str().expect("UTF-8");
    sealane(&[&["certs", "--out", dir], more].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn writes_five_files_and_keeps_keys_private() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("new/certs");
    let output = certs(&out, &["--json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(made["names"], serde_json::json!(["localhost", "127.0.0.1", "::1"]));
    let mut found: Vec<(String, u32)> = fs::read_dir(&out)
        .expect("the folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            (entry.file_name().into_string().expect("UTF-8"), mode)
        })
        .collect();
    found.sort();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["ca.pem", "client.key", "client.pem", "server.key", "server.pem"]);
    for (name, mode) in &found {
        assert!(!name.ends_with(".key") || *mode == 0o600, "{name} has mode {mode:o}");
    }
}

#[test]
fn overwrites_only_by_force() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(certs(dir.path(), &[]).status.success());
    let key = dir.path().join("server.key");
    let before = fs::read(&key).expect("the key");
    let refused = certs(dir.path(), &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--force"), "{}", stderr(&refused));
    assert_eq!(fs::read(&key).expect("the key"), before);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
    assert!(certs(dir.path(), &["--force"]).status.success());
    assert_ne!(fs::read(&key).expect("the key"), before);
    assert_eq!(fs::metadata(&key).expect("metadata").permissions().mode() & 0o777, 0o600);
}

#[test]
fn says_what_is_wrong_and_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let failed = certs(&file.join("below"), &[]);
    assert_eq!(failed.status.code(), Some(1));
    let said = stderr(&failed);
    assert!(said.contains("cannot make the folder") && said.contains("because:"), "{said}");
    assert_eq!(certs(dir.path(), &["--days", "0"]).status.code(), Some(2));
    assert_eq!(certs(dir.path(), &["--name", "not a name"]).status.code(), Some(1));
    assert_eq!(sealane(&["certs"]).status.code(), Some(2));
    assert_eq!(sealane(&["nonsense"]).status.code(), Some(2));
    assert_eq!(sealane(&["--help"]).status.code(), Some(0));
}

fn chain(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path).expect("PEM").map(|cert| cert.expect("a certificate")).collect()
}

fn key(path: &Path) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path).expect("a key")
}

/// A whole mutual handshake in memory; the error of whichever side refuses.
fn handshake(dir: &Path, name: &str, client: &str) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for cert in chain(&dir.join("ca.pem")) {
        roots.add(cert)?;
    }
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder(Arc::clone(&roots)).build().expect("a verifier");
    let server = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&dir.join("server.pem")), key(&dir.join("server.key")))?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain(&dir.join(format!("{client}.pem"))), key(&dir.join(format!("{client}.key"))))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    let mut flight = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        flight.clear();
        client.write_tls(&mut flight).expect("memory");
        server.read_tls(&mut flight.as_slice()).expect("memory");
        server.process_new_packets()?;
        flight.clear();
        server.write_tls(&mut flight).expect("memory");
        client.read_tls(&mut flight.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn tls_accepts_both_sides_by_name_and_role() {
    let dir = tempfile::tempdir().expect("a folder");
    assert!(certs(dir.path(), &["--name", "db.example,10.0.0.7,::1", "--days", "2"]).status.success());
    for name in ["db.example", "10.0.0.7", "::1"] {
        handshake(dir.path(), name, "client").expect(name);
    }
    assert!(handshake(dir.path(), "localhost", "client").is_err(), "a name it does not have");
    assert!(handshake(dir.path(), "db.example", "server").is_err(), "a server's certificate as a client's");
}
