//! Two threads with a network each, joined by a pair of virtual interfaces: for tests and benchmarks of what needs an interface of its own.
//!
//! Owns making them, by unshare(2) and the command `ip`; they end with their threads. Refuses to touch the network of the process.

#![expect(unsafe_code, reason = "unshare(2) is a system call")]

use std::io;
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

/// One of the two.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// Its addresses, and the other's.
    pub here: [IpAddr; 2],
    /// The other's.
    pub there: [IpAddr; 2],
}

impl Side {
    fn new(here: u16, there: u16) -> Self {
        let ip = |n: u16| [IpAddr::from([10, 99, 0, n as u8]), IpAddr::from([0xfd00, 0x99, 0, 0, 0, 0, 0, n])];
        Self { here: ip(here), there: ip(there) }
    }
}

/// Gives the calling thread, and those that it starts, a network of its own with nothing in it.
fn part() -> io::Result<()> {
    // SAFETY: it takes a number only, and changes this thread's view of the network alone.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The file that names the calling thread's network.
fn name() -> String {
    // SAFETY: it takes nothing and cannot fail.
    let thread = unsafe { libc::gettid() };
    format!("/proc/{}/task/{thread}/ns/net", std::process::id())
}

fn ip(words: &str) -> io::Result<()> {
    let done = Command::new("ip").args(words.split(' ')).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("ip {words}: {}", String::from_utf8_lossy(&done.stderr).trim())))
}

fn dress(interface: &str, side: &Side) -> io::Result<()> {
    ip("link set lo up")?;
    ip(&format!("address add {}/24 dev {interface}", side.here[0]))?;
    ip(&format!("address add {}/64 dev {interface} nodad", side.here[1]))?;
    ip(&format!("link set {interface} up"))
}

/// Runs `one` and `other` in threads with networks of their own. What the first gives, and the second.
///
/// # Errors
/// When such networks cannot be made: it takes CAP_SYS_ADMIN, CAP_NET_ADMIN and the command `ip`.
///
/// # Panics
/// As `one` or `other` does.
pub fn joined<A: Send, B: Send>(
    mtu: u32,
    one: impl FnOnce(Side) -> A + Send,
    other: impl FnOnce(Side) -> B + Send,
) -> io::Result<(A, B)> {
    let (tell_name, told_name) = mpsc::channel();
    let (tell_ready, told_ready) = mpsc::channel::<()>();
    let (tell_dressed, told_dressed) = mpsc::channel::<()>();
    // A network ends with its thread, and the pair with either: who is done waits for the other, or for its panic.
    let (one_ends, one_ended) = mpsc::channel::<()>();
    let (other_ends, other_ended) = mpsc::channel::<()>();
    let second = move || -> io::Result<B> {
        part()?;
        let _ = tell_name.send(name());
        told_ready.recv().map_err(|_| io::Error::other("there is no pair of interfaces"))?;
        let side = Side::new(2, 1);
        dress("sealane1", &side)?;
        let _ = tell_dressed.send(());
        let done = other(side);
        drop(other_ends);
        let _ = one_ended.recv();
        Ok(done)
    };
    let first = move || -> io::Result<A> {
        part()?;
        let theirs: String = told_name.recv().map_err(|_| io::Error::other("the other side has no network"))?;
        ip(&format!("link add sealane0 mtu {mtu} type veth peer name sealane1 mtu {mtu} netns {theirs}"))?;
        let side = Side::new(1, 2);
        dress("sealane0", &side)?;
        let _ = tell_ready.send(());
        told_dressed.recv().map_err(|_| io::Error::other("the other side has no interface"))?;
        let done = one(side);
        drop(one_ends);
        let _ = other_ended.recv();
        Ok(done)
    };
    thread::scope(|scope| {
        let (first, second) = (scope.spawn(first), scope.spawn(second));
        let (first, second) = (first.join(), second.join());
        let first = first.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let second = second.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The first one's trouble is the cause where both have some.
        Ok((first?, second?))
    })
}
