//! Owns the socket and its peers: new, free, close, address, descriptor, connect, installed sessions.

use std::ffi::{c_char, c_int};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sealane::{Readiness, Role};

use crate::boundary::{bytes, given, handle, handle_mut, out, quietly, run, text};
use crate::config::Config;
use crate::status::{Error, Failure, SEALANE_OK};

/// The end of an installed session that opens it when it first sends.
pub const SEALANE_ROLE_CLIENT: i32 = 1;
/// The end of an installed session that answers.
pub const SEALANE_ROLE_SERVER: i32 = 2;

/// A one-to-many socket. Any number of threads may use it at once.
#[derive(Debug)]
pub struct Socket(pub(crate) Arc<Live>);

/// What a socket's handle owns, and its deliveries look for.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) socket: sealane::Socket,
    /// Made when it is first asked for.
    readiness: Mutex<Option<Readiness>>,
}

/// A peer to send to. Any number of threads may use it at once. It belongs to the socket that made it, and is refused by others.
#[derive(Debug)]
pub struct Peer {
    peer: sealane::Peer,
    of: Weak<Live>,
}

/// Messages that wait for each other. It belongs to one thread at a time.
#[derive(Debug)]
pub struct Batch {
    // Dropped first.
    _open: sealane::Batch<'static>,
    _live: Arc<Live>,
}

impl Socket {
    pub(crate) fn given(&self, peer: sealane::Peer) -> *mut Peer {
        Peer::given(peer, Arc::downgrade(&self.0))
    }

    /// The peer, if it is ours.
    pub(crate) fn own<'a>(&self, peer: &'a Peer) -> Result<&'a sealane::Peer, Failure> {
        if std::ptr::eq(peer.of.as_ptr(), Arc::as_ptr(&self.0)) {
            Ok(&peer.peer)
        } else {
            Err(Failure::invalid("the peer belongs to another socket"))
        }
    }
}

impl Peer {
    pub(crate) fn given(peer: sealane::Peer, of: Weak<Live>) -> *mut Self {
        Box::into_raw(Box::new(Self { peer, of }))
    }
}

/// Binds a socket to `address`, as `127.0.0.1:7000`, `[::]:0` or a name with a port; port 0 lets the system choose. A client binds to
/// `0.0.0.0:0` or `[::]:0`. `*made` is to be freed by `sealane_socket_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_socket_new(
    config: *const Config,
    address: *const c_char,
    made: *mut *mut Socket,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live configuration, a string ended by a zero, room for a pointer and an error.
    unsafe {
        run(error, || {
            let made = out(made, "made")?;
            let socket = handle(config, "config")?.builder()?.bind(text(address, "address")?)?;
            let live = Live { socket, readiness: Mutex::new(None) };
            *made = Box::into_raw(Box::new(Socket(Arc::new(live))));
            Ok(SEALANE_OK)
        })
    }
}

/// Waits up to a second for what is under way, tells all peers, and ends every call of the socket: threads that wait in it get
/// `SEALANE_CLOSED`. The handle stays, to be freed when no thread uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_socket_close(socket: *const Socket, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for an error.
    unsafe {
        run(error, || {
            handle(socket, "socket")?.0.socket.close()?;
            Ok(SEALANE_OK)
        })
    }
}

/// Frees a socket, and closes it at once if it is open. No thread may be using it. Deliveries and peers of it may live longer: they
/// keep their payloads, and are good for nothing else. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_socket_free(socket: *mut Socket) {
    if !socket.is_null() {
        // SAFETY: by the header's rules it came from `sealane_socket_new`, and nobody uses it any more.
        quietly(|| drop(unsafe { Box::from_raw(socket) }));
    }
}

/// Where the socket is bound, with the port that the system chose. `*address` is to be freed by `sealane_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_socket_address(
    socket: *const Socket,
    address: *mut *mut c_char,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a pointer and an error.
    unsafe {
        run(error, || {
            let address = out(address, "address")?;
            *address = given(handle(socket, "socket")?.0.socket.local_addr().to_string());
            Ok(SEALANE_OK)
        })
    }
}

/// A descriptor for `poll`, `epoll` or an event loop: readable when `sealane_try_recv` should be called until it says
/// `SEALANE_NOTHING`. It covers the network, timers and what other threads filed; and room to send, once something got
/// `SEALANE_WOULD_BLOCK`: that is to be tried again whenever `sealane_try_recv` has said `SEALANE_NOTHING`. It belongs to the socket, is
/// the same at every call, and ends when the socket is freed: do not read from it, and do not close it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_socket_fd(socket: *const Socket, fd: *mut c_int, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a number and an error. Both may hold anything before.
    unsafe {
        run(error, || {
            if !fd.is_null() {
                fd.write(-1);
            }
            let fd = handle_mut(fd, "fd")?;
            let live = &handle(socket, "socket")?.0;
            let mut readiness = live.readiness.lock().unwrap_or_else(PoisonError::into_inner);
            if readiness.is_none() {
                *readiness = Some(live.socket.readiness()?);
            }
            *fd = readiness.as_ref().map_or(-1, |readiness| readiness.as_fd().as_raw_fd());
            Ok(SEALANE_OK)
        })
    }
}

/// Lets messages wait for company, from whichever thread they come: what is sent and answered until `sealane_batch_end` leaves together, or
/// before, when there is enough of it or it has waited for some microseconds. For who has several messages to send at once, as a loop that
/// takes all that came and answers it. Batches may be open beside each other. `*batch` is to be given to `sealane_batch_end`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_batch_begin(socket: *const Socket, batch: *mut *mut Batch, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a pointer and an error.
    unsafe {
        run(error, || {
            let batch = out(batch, "batch")?;
            let live = Arc::clone(&handle(socket, "socket")?.0);
            // SAFETY: what it borrows is in `live`, which stays where it is, and goes after it.
            let open = std::mem::transmute::<sealane::Batch<'_>, sealane::Batch<'static>>(live.socket.batch());
            *batch = Box::into_raw(Box::new(Batch { _open: open, _live: live }));
            Ok(SEALANE_OK)
        })
    }
}

/// Ends a batch, and frees it: what waited leaves now. A socket that was freed before goes with its last batch. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_batch_end(batch: *mut Batch) {
    if !batch.is_null() {
        // SAFETY: by the header's rules it came from `sealane_batch_begin`, and nobody uses it any more.
        quietly(|| drop(unsafe { Box::from_raw(batch) }));
    }
}

/// A peer at `address` whose certificate must say `name`: a DNS name or an IP address. Nothing is sent yet: the first message makes the
/// session. `*peer` is to be freed by `sealane_peer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_peer_new(
    socket: *const Socket,
    address: *const c_char,
    name: *const c_char,
    peer: *mut *mut Peer,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket, strings ended by a zero, room for a pointer and an error.
    unsafe {
        run(error, || {
            let peer = out(peer, "peer")?;
            let socket = handle(socket, "socket")?;
            *peer = socket.given(socket.0.socket.peer(text(address, "address")?, text(name, "name")?)?);
            Ok(SEALANE_OK)
        })
    }
}

/// Frees a peer. The session stays: another handle of the same peer uses it. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_peer_free(peer: *mut Peer) {
    if !peer.is_null() {
        // SAFETY: by the header's rules it came from this library, and nobody uses it any more.
        quietly(|| drop(unsafe { Box::from_raw(peer) }));
    }
}

/// Completes the handshake with `peer` now, instead of with the first message. Blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_connect(socket: *const Socket, peer: *const Peer, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket and peer, room for an error.
    unsafe {
        run(error, || {
            let socket = handle(socket, "socket")?;
            socket.0.socket.connect(socket.own(handle(peer, "peer")?)?)?;
            Ok(SEALANE_OK)
        })
    }
}

/// Installs a secret of 32 bytes that both ends agreed on elsewhere. `label` is what the peer is called in identities. With
/// `SEALANE_ROLE_CLIENT`, `*peer` is a peer to send to, to be freed by `sealane_peer_free`; with `SEALANE_ROLE_SERVER` `peer` may be
/// null, and whoever proves to have the secret is answered. The caller wipes its own copy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_install_session(
    socket: *const Socket,
    address: *const c_char,
    role: i32,
    secret: *const u8,
    secret_length: usize,
    label: *const c_char,
    peer: *mut *mut Peer,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket, readable bytes, strings ended by a zero, room for a pointer and an error.
    unsafe {
        run(error, || {
            let peer = if role == SEALANE_ROLE_SERVER && peer.is_null() { None } else { Some(out(peer, "peer")?) };
            let role = match role {
                SEALANE_ROLE_CLIENT => Role::Client,
                SEALANE_ROLE_SERVER => Role::Server,
                _ => return Err(Failure::invalid(format!("{role} names no role"))),
            };
            let socket = handle(socket, "socket")?;
            let address = text(address, "address")?;
            let at = address.parse().map_err(|_| Failure::invalid(format!("{address:?} is no address with a port")))?;
            let secret = <[u8; 32]>::try_from(bytes(secret, secret_length, "secret")?)
                .map_err(|_| Failure::invalid(format!("a secret has 32 bytes, not {secret_length}")))?;
            let made = socket.0.socket.install_session(at, role, secret, text(label, "label")?);
            if let (Some(to), Some(made)) = (peer, made) {
                *to = socket.given(made);
            }
            Ok(SEALANE_OK)
        })
    }
}
