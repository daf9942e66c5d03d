//! What the tests of the socket share: certificates made on the spot, sockets with them, and bytes that tell what they are.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that every test file includes for itself")]
#![allow(unused_imports, reason = "each test file uses its own part")]

#[cfg(feature = "aws-lc")]
mod authority;
mod server;
pub mod tap;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[cfg(feature = "aws-lc")]
pub use authority::Authority;
use sealane::builder::Ready;
use sealane::fault::{Faults, Faulty, Tally};
use sealane::{Builder, CallOptions, Delivery, Peer, Socket};
pub use server::{Ran, Server};

/// Bytes that tell where they belong: a message of `len` bytes made from `seed`.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// A message whose first eight bytes are `number`, and the others made from it.
pub fn numbered(number: u64, len: usize) -> Vec<u8> {
    let mut message = number.to_le_bytes().to_vec();
    message.extend(pattern(number, len.saturating_sub(8)));
    message
}

/// The number of a message of [`numbered`], all of which must be as it was made.
pub fn number_of(message: &[u8]) -> u64 {
    let number = u64::from_le_bytes(message[..8].try_into().expect("eight bytes"));
    assert!(*message == *numbered(number, message.len()), "message {number} was altered");
    number
}

/// Answers every request with its own bytes until the socket is closed. Gives how many it answered.
pub fn echo(server: Socket) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut answered = 0;
        while let Ok(delivery) = server.recv() {
            if let Delivery::Request(request) = delivery {
                if request.payload.starts_with(b"quit") {
                    server.reply(request.token, b"bye").unwrap();
                    let _ = server.close();
                    break;
                }
                let _ = server.reply(request.token, request.payload);
                answered += 1;
            }
        }
        answered
    })
}

/// A server that answers like [`echo`], a client, and the one as the other's peer.
pub fn beside_echo(server: Socket, client: Socket) -> (thread::JoinHandle<u64>, Socket, Peer) {
    let peer = client.peer(server.local_addr(), "localhost").unwrap();
    (echo(server), client, peer)
}

/// A network that loses, reorders and repeats, the same way for the same seed.
pub fn hostile(seed: u64) -> Faults {
    Faults { loss: 0.05, reorder: 0.05, duplicate: 0.02, seed, ..Faults::default() }
}

/// Puts `faults` between a socket and the network.
pub fn with_faults(builder: Builder<Ready>, faults: Faults) -> Builder<Ready> {
    builder.danger_wrap(move |inner| Box::new(Faulty::new(inner, faults)))
}

/// The same, and where to read how often they struck once the socket is bound.
pub fn with_counted_faults(builder: Builder<Ready>, faults: Faults) -> (Builder<Ready>, mpsc::Receiver<Tally>) {
    let (tell, told) = mpsc::channel();
    let builder = builder.danger_wrap(move |inner| {
        let faulty = Faulty::new(inner, faults);
        tell.send(faulty.tally()).expect("the test waits for it");
        Box::new(faulty)
    });
    (builder, told)
}

/// A seed that differs from run to run and is printed, so that a failing test tells it; `SEALANE_SEED` gives it again.
pub fn seed() -> u64 {
    let given = std::env::var("SEALANE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| getrandom::u64().expect("the system gives randomness"));
    println!("SEALANE_SEED={seed}");
    seed
}

/// Dice from a seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// From this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Any number.
    pub const fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`.
    pub const fn below(&mut self, end: usize) -> usize {
        ((self.roll() >> 16) % end as u64) as usize
    }
}

/// What a test that must end waits for at most.
pub const LONG: Duration = Duration::from_secs(30);

/// A call that must end.
pub fn patient() -> CallOptions {
    CallOptions::new().deadline(LONG)
}

/// Runs a test that may hang, and fails it when it does.
pub fn bounded(test: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let runner = thread::current().name().unwrap_or("test").to_owned();
    let test = thread::Builder::new().name(runner).spawn(move || {
        test();
        let _ = done.send(());
    });
    let test = test.expect("a thread can be started");
    match ended.recv_timeout(4 * LONG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => {
            if let Err(panic) = test.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Looks again and again until `what` holds; fails when it never does.
#[expect(clippy::disallowed_methods, reason = "a test waits in the real world")]
pub fn until(why: &str, mut what: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !what() {
        assert!(start.elapsed() < LONG, "it never came true that {why}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Binds where a socket was just closed: its port is free as soon as its helper thread has ended.
pub fn rebind(at: std::net::SocketAddr, builder: impl Fn() -> Builder<Ready>) -> Socket {
    let mut bound = None;
    until("the port is free", || {
        bound = builder().bind(at).ok();
        bound.is_some()
    });
    bound.expect("it was just bound")
}

/// Lets time pass where the passing of time is the subject.
#[expect(clippy::disallowed_methods, reason = "a test waits in the real world")]
pub fn pass(span: Duration) {
    thread::sleep(span);
}
