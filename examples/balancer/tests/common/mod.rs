//! A balancer on loopback with real servers behind it and real clients in front. Each server begins its answers with its own number.

use balancer::{Balancer, Limits, Seen};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::{CallOptions, Clients, Delivery, Identity, Peer, ReplyToken, Socket, Trust};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What something that must end waits for at most.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// A request that begins so is answered when the scene says so.
pub(crate) const HELD: u8 = 0xff;

/// Bytes in which no part looks like another; none begins like [`HELD`].
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |n: u64| (n + (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    let mut bytes: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(word).take(len).collect();
    bytes.iter_mut().take(1).for_each(|first| *first &= 0x7f);
    bytes
}

/// A server behind the balancer.
pub(crate) struct Server {
    pub(crate) socket: Arc<Socket>,
    held: Arc<Mutex<Vec<ReplyToken>>>,
    thread: Option<JoinHandle<()>>,
}

/// All of it.
pub(crate) struct Scene {
    pub(crate) at: SocketAddr,
    pub(crate) servers: Vec<Server>,
    balancer: Balancer,
    trust: Trust,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scene {
    /// With a server of so many shards for each of `shards`.
    pub(crate) fn new(shards: &[u16], limits: Limits) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().expect("a key");
        let authority = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let trust = Trust::pem(authority.as_bytes()).expect("trust");
        let servers = shards.iter().enumerate().map(|(number, shards)| {
            // All have the name that clients ask for; each has a key of its own.
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec!["service".to_owned()]).expect("parameters");
            let chain = params.signed_by(&key, &issuer).expect("a certificate").pem();
            let identity = Identity::pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an identity");
            let socket = Socket::builder().trust(trust.clone()).identity(identity).serve(Clients::Anonymous);
            Server::new(number as u8, socket.shards(*shards).bind("127.0.0.1:0").expect("a socket"))
        });
        let servers: Vec<Server> = servers.collect();
        let backends: Vec<SocketAddr> = servers.iter().map(|server| server.socket.local_addr()).collect();
        let (end, ended) = tokio::sync::oneshot::channel();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listen = "127.0.0.1:0".parse().expect("an address");
                let balancer = Balancer::bind(listen, &backends, limits).await.expect("a balancer");
                tell.send(balancer.clone()).expect("the scene waits");
                tokio::select! { failed = balancer.run() => failed.expect("it runs"), _ = ended => {} }
            });
        });
        let balancer = told.recv().expect("a balancer");
        let at = balancer.local_addr().expect("its address");
        Self { at, servers, balancer, trust, end: Some(end), thread: Some(thread) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.balancer.seen()
    }

    /// A client, and the service as its peer: at the balancer, or at what stands before it.
    pub(crate) fn client(&self, at: SocketAddr) -> (Socket, Peer) {
        let client = Socket::builder().trust(self.trust.clone()).anonymous().bind("127.0.0.1:0").expect("a socket");
        let peer = client.peer(at, "service").expect("an address");
        (client, peer)
    }

    /// The sessions that each server has.
    pub(crate) fn sessions(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.socket.info().sessions.len()).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.socket.close();
            let _ = server.thread.take().map(JoinHandle::join);
        }
        let _ = self.end.take().map(|end| end.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Server {
    fn new(number: u8, socket: Socket) -> Self {
        let (socket, held) = (Arc::new(socket), Arc::<Mutex<Vec<ReplyToken>>>::default());
        let (serving, holding) = (Arc::clone(&socket), Arc::clone(&held));
        let thread = thread::spawn(move || {
            while let Ok(delivery) = serving.recv() {
                let Delivery::Request(request) = delivery else { continue };
                if request.payload.first() == Some(&HELD) {
                    holding.lock().expect("nobody panicked").push(request.token);
                } else {
                    let answer = [&[number], &request.payload[..]].concat();
                    let _ = serving.reply(request.token, answer);
                }
            }
        });
        Self { socket, held, thread: Some(thread) }
    }

    /// Answers what it holds; how many these were.
    pub(crate) fn release(&self) -> usize {
        let held = std::mem::take(&mut *self.held.lock().expect("nobody panicked"));
        let count = held.len();
        held.into_iter().for_each(|token| self.socket.reply(token, b"released").expect("its client is there"));
        count
    }
}

/// Calls, holds the answer to what was sent, and gives the number of the server that made it.
pub(crate) fn call(client: &Socket, peer: &Peer, seed: u64, len: usize) -> usize {
    let sent = pattern(seed, len);
    let answer = client.call_with(peer, &sent[..], CallOptions::new().deadline(LONG)).expect("an answer");
    assert!(answer[1..] == sent[..], "an answer of {len} bytes is not what was sent");
    answer[0].into()
}
