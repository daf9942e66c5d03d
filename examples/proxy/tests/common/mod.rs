//! An entrance and an exit on loopback, with a network between them that a test chooses, and programs on either side.

use proxy::{Counts, Entrance, Exit, Limits};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sealane::fault::{Cut, Faults, Faulty};
use sealane::{AsyncSocket, Clients, Identity, Peer, Socket, Trust};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};

/// What a test that must end waits for at most.
const LONG: Duration = Duration::from_secs(120);
/// After which a peer that says nothing is given up, as a multiple of how long an entrance may be silent.
const PEER_TIMEOUT: u32 = 2;

/// Runs a test that may hang, and fails it when it does.
pub(crate) fn bounded(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.expect("it hangs") });
}

/// Bytes in which no part looks like another.
pub(crate) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let word = |n: u64| (n + (seed << 40)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    (0..len.div_ceil(8) as u64).flat_map(word).take(len).collect()
}

pub(crate) async fn read_all(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.map(|_| bytes)
}

/// Both proxies, and the program that the connections are meant for.
pub(crate) struct Pair {
    pub(crate) entrance: Entrance,
    pub(crate) exit: Exit,
    pub(crate) cut: Cut,
    /// Where the entrance listens.
    pub(crate) door: SocketAddr,
    target: Option<TcpListener>,
    exit_at: SocketAddr,
    trust: Trust,
    /// Two that the exit serves, beside the entrance.
    others: [Identity; 2],
}

fn identities() -> (Trust, Identity, [Identity; 3]) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let identity = |name: &str| {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let chain = params.signed_by(&key, &issuer).expect("a certificate").pem();
        Identity::pem(chain.as_bytes(), key.serialize_pem().as_bytes()).expect("an identity")
    };
    (
        Trust::pem(authority.as_bytes()).expect("trust"),
        identity("localhost"),
        ["client", "other", "stranger"].map(identity),
    )
}

impl Pair {
    pub(crate) async fn new(limits: Limits, faults: Faults) -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = target.local_addr().expect("its address");
        Self { target: Some(target), ..Self::to(at, limits, faults).await }
    }

    /// With a target that refuses.
    pub(crate) async fn nowhere() -> Self {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("its address");
        Self::to(closed, Limits::default(), Faults::default()).await
    }

    async fn to(target: SocketAddr, limits: Limits, faults: Faults) -> Self {
        let (trust, server, [client, other, stranger]) = identities();
        let cut = Cut::default();
        let patience = PEER_TIMEOUT * limits.silence;
        let exit = Socket::builder().trust(trust.clone()).identity(server).serve(Clients::Authenticated);
        let exit = limits.apply(exit).peer_timeout(patience).bind("127.0.0.1:0").expect("a socket");
        let exit_at = exit.local_addr();
        let socket = limits.apply(Socket::builder().trust(trust.clone()).identity(client)).peer_timeout(patience);
        let wrap = cut.wrap();
        let socket = socket.danger_wrap(move |inner| wrap(Box::new(Faulty::new(inner, faults))));
        let socket = AsyncSocket::new(socket.bind("127.0.0.1:0").expect("a socket")).expect("a runtime");
        let peer = socket.peer(exit_at, "localhost").expect("an address");
        let exit = Exit::new(AsyncSocket::new(exit).expect("a runtime"), target.to_string(), limits);
        let entrance = Entrance::new(socket, peer, limits);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let door = listener.local_addr().expect("its address");
        let (serving, entering) = (exit.clone(), entrance.clone());
        tokio::spawn(async move { serving.run().await });
        tokio::spawn(async move { entering.run(listener).await });
        let others = [other, stranger];
        Self { entrance, exit, cut, door, target: None, exit_at, trust, others }
    }

    /// A connection of a program through both, and the target's end of it.
    pub(crate) async fn connect(&mut self) -> (TcpStream, TcpStream) {
        let near = TcpStream::connect(self.door).await.expect("the entrance accepts");
        (near, self.accept().await)
    }

    /// The target's end of a connection.
    pub(crate) async fn accept(&self) -> TcpStream {
        self.target.as_ref().expect("a target").accept().await.expect("the exit connects").0
    }

    /// Somebody whom the exit serves and who says what he likes.
    pub(crate) fn talker(&self, number: usize) -> (AsyncSocket, Peer) {
        let builder = Socket::builder().trust(self.trust.clone()).identity(self.others[number].clone());
        let socket = AsyncSocket::new(builder.bind("127.0.0.1:0").expect("a socket")).expect("a runtime");
        let peer = socket.peer(self.exit_at, "localhost").expect("an address");
        (socket, peer)
    }

    /// Waits until both counted what is wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(Counts, Counts) -> bool) {
        while !wanted(self.entrance.tally().counts(), self.exit.tally().counts()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What both counted once so many connections are over.
    pub(crate) async fn settled(&self, ended: u64) -> Counts {
        loop {
            let counts = (self.entrance.tally().counts(), self.exit.tally().counts());
            if counts.0.ended >= ended && counts.1.ended >= ended {
                let same = |counts: Counts| (counts.opened, counts.ended, counts.bytes_out, counts.bytes_back);
                assert_eq!(same(counts.0), same(counts.1), "both count the same");
                return counts.0;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
