//! Owns a server in a thread, its certificates, and a plain client of the protocol.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use kv::resp::{command, reply_bytes};
use kv::server::{Config, Server, Stopper};
use kv::tls::Credentials;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// After so long a test has failed.
pub const LONG: Duration = Duration::from_secs(30);

/// Certificates of one authority.
pub struct Certificates {
    pub server: Credentials,
    pub client: Credentials,
}

impl Certificates {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let sign = |name: &str, usage| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.extended_key_usages = vec![usage];
            let certificate = params.signed_by(&key, &issuer).unwrap().pem();
            Credentials { authority: authority.clone(), certificate, key: key.serialize_pem() }
        };
        Self {
            server: sign("localhost", ExtendedKeyUsagePurpose::ServerAuth),
            client: sign("client", ExtendedKeyUsagePurpose::ClientAuth),
        }
    }
}

/// A server behind all doors.
pub struct Running {
    pub tcp: SocketAddr,
    pub tls: SocketAddr,
    pub sealane: SocketAddr,
    pub certificates: Certificates,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn new() -> Self {
        Self::with(Config::default())
    }

    pub fn with(config: Config) -> Self {
        let certificates = Certificates::new();
        let any = Some("127.0.0.1:0".parse().unwrap());
        let credentials = Some(certificates.server.clone());
        let server = Server::bind(&Config { tcp: any, tls: any, sealane: any, credentials, ..config }).unwrap();
        let [tcp, tls, sealane] = server.addresses().map(Option::unwrap);
        let stopper = server.stopper();
        let thread = Some(std::thread::spawn(move || server.run().unwrap()));
        Self { tcp, tls, sealane, certificates, stopper, thread }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.tcp)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if self.thread.take().unwrap().join().is_err() && !std::thread::panicking() {
            panic!("the server panicked");
        }
    }
}

/// A client over TCP.
pub struct Client {
    pub stream: TcpStream,
    left: Vec<u8>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self { stream, left: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next whole reply; `None` when the server hung up.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(length) = reply_bytes(&self.left).unwrap() {
                return Some(self.left.drain(..length).collect());
            }
            let mut read = [0; 65536];
            match self.stream.read(&mut read) {
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                count => self.left.extend_from_slice(&read[..count.unwrap()]),
            }
        }
    }

    /// Sends a command of words and gives its reply as text.
    pub fn ask(&mut self, words: &str) -> String {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.ask_of(&words)
    }

    pub fn ask_of(&mut self, words: &[&[u8]]) -> String {
        let mut bytes = Vec::new();
        command(&mut bytes, words);
        self.send(&bytes);
        String::from_utf8_lossy(&self.next().expect("a reply")).into_owned()
    }
}
