//! The smallest client and server: two sockets in one process, certificates made on the spot, each side proving who it is.
//! `cargo run --release --example echo`

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::{Clients, Delivery, Identity, Socket, Trust};
use std::thread;

fn main() -> anyhow::Result<()> {
    // One authority, trusted by both; it signs one certificate for each. `sealane certs` writes such files.
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca_key = KeyPair::generate()?;
    let ca = params.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(params, ca_key);
    let identity = |name: &str| -> anyhow::Result<Identity> {
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(vec![name.to_owned()])?.signed_by(&key, &issuer)?;
        Ok(Identity::pem(cert.pem().as_bytes(), key.serialize_pem().as_bytes())?)
    };

    // A socket that says `serve` answers requests; any socket may make them. Who trusts whom cannot be left out.
    let server = Socket::builder()
        .trust(Trust::pem(ca.as_bytes())?)
        .identity(identity("localhost")?)
        .serve(Clients::Authenticated)
        .bind("127.0.0.1:0")?;
    let client = Socket::builder()
        .trust(Trust::pem(ca.as_bytes())?)
        .identity(identity("client.example")?)
        .bind("127.0.0.1:0")?;

    let at = server.local_addr();
    thread::spawn(move || -> Result<(), sealane::Error> {
        loop {
            // Messages arrive whole, from anyone, and say who sent them.
            if let Delivery::Request(request) = server.recv()? {
                println!("server: {} bytes from {}", request.payload.len(), request.peer.identity());
                server.reply(request.token, request.payload)?;
            }
        }
    });

    // The first call to a peer does the TLS handshake by itself.
    let peer = client.peer(at, "localhost")?;
    let reply = client.call(&peer, b"hello, datacenter")?;
    println!("client: {:?}", String::from_utf8_lossy(&reply));
    client.close()?;
    Ok(())
}
