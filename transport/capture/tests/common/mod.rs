//! What the tests share: a real session, relayed between two real sockets and written down as it passes.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that every test file includes for itself")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a relay has sockets, and packets have times")]

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use capture::analyze::{Analyzer, Options};
use capture::counts::{Event, MessageRow};
use capture::file::{Reader, Writer};
use capture::frame::{Link, write_ethernet};
use capture::keys::KeyLog;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::builder::Ready;
use sealane::{Builder, Cipher, Clients, Delivery, Identity, Socket, Trust};

/// What the first request says.
pub const SAID: &[u8] = b"the tide is out";

/// What becomes of the n-th packet: how many copies are passed on. All that comes in is written down, and each further copy.
pub type Fate = fn(u64, &[u8]) -> usize;

/// As it comes.
pub fn gentle(_: u64, _: &[u8]) -> usize {
    1
}

/// When, whence, whither and what.
type Passed = (u64, SocketAddr, SocketAddr, Vec<u8>);

struct Relay {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    packets: Arc<Mutex<Vec<Passed>>>,
    at: SocketAddr,
}

fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

impl Relay {
    fn start(server: SocketAddr, fate: Fate) -> Self {
        let bind = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            socket
        };
        let (front, back) = (Arc::new(bind()), Arc::new(bind()));
        let at = front.local_addr().unwrap();
        let (over, packets) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let client = Arc::new(Mutex::new(None));
        let threads = [true, false].map(|to_server| {
            let (front, back, over, packets) = (front.clone(), back.clone(), over.clone(), packets.clone());
            let client = client.clone();
            thread::spawn(move || {
                let mut buffer = vec![0; 65_535];
                let mut count = 0;
                while !over.load(Ordering::Relaxed) {
                    let from = if to_server { &front } else { &back };
                    let Ok((len, whence)) = from.recv_from(&mut buffer) else { continue };
                    let bytes = &buffer[..len];
                    let (source, target) = if to_server {
                        *client.lock().unwrap() = Some(whence);
                        (whence, server)
                    } else {
                        (server, client.lock().unwrap().expect("the client spoke first"))
                    };
                    count += 1;
                    let copies = fate(count, bytes);
                    for _ in 0..copies.max(1) {
                        packets.lock().unwrap().push((now_ns(), source, target, bytes.to_vec()));
                    }
                    for _ in 0..copies {
                        let sent = if to_server { back.send_to(bytes, server) } else { front.send_to(bytes, target) };
                        let _ = sent;
                    }
                }
            })
        });
        Self { over, threads: threads.into(), packets, at }
    }

    /// The capture.
    fn finish(self) -> Vec<u8> {
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        let mut writer = Writer::new(Vec::new(), Link::Ethernet).unwrap();
        let mut frame = Vec::new();
        for (time_ns, from, to, bytes) in self.packets.lock().unwrap().iter() {
            write_ethernet(*from, *to, bytes, &mut frame);
            writer.packet(*time_ns, &frame).unwrap();
        }
        writer.finish().unwrap()
    }
}

/// A capture of a real session, and its key log: requests of several lengths, each tenth of `long` bytes, with their responses, and keys
/// that change.
pub fn real_session(cipher: Cipher, fate: Fate, long: usize, folder: &Path) -> (Vec<u8>, String) {
    session_by(cipher, fate, long, folder, |builder| builder)
}

/// The same in packets of 1,500 bytes, with records that span them.
pub fn spanning_session(fate: Fate, long: usize, folder: &Path) -> (Vec<u8>, String) {
    session_by(Cipher::Aes128Gcm, fate, long, folder, |builder| builder.mtu(1500).spanning_records(true))
}

fn session_by(
    cipher: Cipher,
    fate: Fate,
    long: usize,
    folder: &Path,
    with: fn(Builder<Ready>) -> Builder<Ready>,
) -> (Vec<u8>, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let pem = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap().pem();
    let identity = Identity::pem(pem.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let key_log = folder.join("session.keys");
    let server = Socket::builder().trust(Trust::nobody()).identity(identity).serve(Clients::Anonymous);
    let server = with(server).cipher(cipher).rekey_after_records(32).bind("127.0.0.1:0").unwrap();
    let relay = Relay::start(server.local_addr(), fate);
    let client = Socket::builder().trust(Trust::pem(ca.as_bytes()).unwrap()).anonymous();
    let client = with(client).cipher(cipher).rekey_after_records(32).key_log(&key_log).bind("127.0.0.1:0").unwrap();
    let peer = client.peer(relay.at, "localhost").unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if let Ok(Some(Delivery::Request(request))) = server.recv_timeout(Duration::from_millis(20)) {
                    server.reply(request.token, request.payload).unwrap();
                }
            }
        });
        assert_eq!(*client.call(&peer, SAID.to_vec()).unwrap(), *SAID);
        for n in 0..60_usize {
            let message = vec![n as u8; if n % 10 == 9 { long } else { n * 10 }];
            assert_eq!(*client.call(&peer, message.clone()).unwrap(), *message);
        }
        over.store(true, Ordering::Relaxed);
    });
    client.close().unwrap();
    let capture = relay.finish();
    (capture, std::fs::read_to_string(key_log).unwrap())
}

/// What a capture holds.
pub struct Found {
    /// At its end.
    pub analyzer: Analyzer,
    /// Messages.
    pub rows: Vec<MessageRow>,
    /// All that happened.
    pub events: Vec<Event>,
}

/// Analyses a capture.
pub fn analyze(file: &[u8], key_log: Option<&str>) -> Found {
    let key_log = key_log.map(|text| KeyLog::parse(text).unwrap());
    let mut analyzer = Analyzer::new(Options { key_log, followed: 100, port: None });
    let mut reader = Reader::new(file).unwrap();
    while let Some(packet) = reader.next().unwrap() {
        analyzer.packet(&packet);
    }
    assert_eq!(reader.bytes_read(), file.len() as u64);
    analyzer.finish();
    let (rows, events) = analyzer.take();
    Found { analyzer, rows, events }
}
