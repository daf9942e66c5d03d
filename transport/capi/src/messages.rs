//! Owns what goes out and comes in: call, send, tell, recv, reply, refuse, abort.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sealane::{Body, CallOptions, Payload, RpcId};

use crate::boundary::{bytes, handle, handle_mut, out, out_many, run};
use crate::delivery::{CallId, Delivery, delivery, give_back, response, take_token};
use crate::socket::{Live, Peer, Socket};
use crate::status::{Error, Failure, SEALANE_NOTHING, SEALANE_OK, SEALANE_UNKNOWN_CALL, SEALANE_WOULD_BLOCK};

/// How long who waits without end waits at once.
const LONG: Duration = Duration::from_secs(3600);

/// Sends a request and waits for its response, at most for `deadline_ms` milliseconds; 0 means no deadline (a peer that no longer
/// answers is found out all the same). The deadline counts from when the request is taken for sending. `*reply` is a
/// `SEALANE_RESPONSE`, to be freed by `sealane_delivery_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_call(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    deadline_ms: u64,
    reply: *mut *mut Delivery,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket and peer, readable bytes, room for a pointer and an error.
    unsafe {
        run(error, || {
            let reply = out(reply, "reply")?;
            let socket = handle(socket, "socket")?;
            let peer = socket.own(handle(peer, "peer")?)?;
            let mut options = CallOptions::new();
            if deadline_ms > 0 {
                options = options.deadline(Duration::from_millis(deadline_ms));
            }
            let payload = socket.0.socket.call_with(peer, bytes(data, length, "data")?, options)?;
            *reply = response(payload, Arc::downgrade(&socket.0));
            Ok(SEALANE_OK)
        })
    }
}

/// Sends a request. Its response, or word that it failed, is delivered with `cookie`. `id` may be null; otherwise the call's name is
/// written there, for `sealane_abort`. Blocks while too many bytes are held for sending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_send(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    cookie: u64,
    id: *mut CallId,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `post` passes on.
    unsafe { post(socket, peer, (data, length), id, error, |socket, peer, data| socket.send(peer, data, cookie)) }
}

/// `sealane_send` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_try_send(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    cookie: u64,
    id: *mut CallId,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `post` passes on.
    unsafe { post(socket, peer, (data, length), id, error, |socket, peer, data| socket.try_send(peer, data, cookie)) }
}

/// Sends a message that wants no response. It is repeated until its receiver has it; should that fail, a `SEALANE_FAILED` is delivered.
/// `id` may be null. Blocks while too many bytes are held for sending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_send_one_way(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    id: *mut CallId,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `post` passes on.
    unsafe { post(socket, peer, (data, length), id, error, |socket, peer, data| socket.send_one_way(peer, data)) }
}

/// `sealane_send_one_way` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_try_send_one_way(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    id: *mut CallId,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `post` passes on.
    unsafe { post(socket, peer, (data, length), id, error, |socket, peer, data| socket.try_send_one_way(peer, data)) }
}

/// Sends a message that wants no response, and waits until its receiver has all of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_tell(
    socket: *const Socket,
    peer: *const Peer,
    data: *const u8,
    length: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket and peer, readable bytes, room for an error.
    unsafe {
        run(error, || {
            let socket = handle(socket, "socket")?;
            let peer = socket.own(handle(peer, "peer")?)?;
            socket.0.socket.tell(peer, bytes(data, length, "data")?)?;
            Ok(SEALANE_OK)
        })
    }
}

/// Ends a call that its caller no longer wants: the peer is told, and nothing more comes of it. `SEALANE_UNKNOWN_CALL` says that it
/// had ended before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_abort(socket: *const Socket, id: CallId, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for an error.
    unsafe {
        run(error, || {
            let socket = handle(socket, "socket")?;
            match id.named() {
                Some(id) if socket.0.socket.abort(id) => Ok(SEALANE_OK),
                _ => Err(Failure::new(SEALANE_UNKNOWN_CALL, "no such call is open")),
            }
        })
    }
}

/// Waits for what comes next from anyone, at most for `timeout_ms` milliseconds; a negative number means without end. `SEALANE_NOTHING`
/// says that nothing came, and `*came` is null then. Otherwise it is to be freed by `sealane_delivery_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_recv(
    socket: *const Socket,
    timeout_ms: i64,
    came: *mut *mut Delivery,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a pointer and an error.
    unsafe {
        run(error, || {
            let came = out(came, "came")?;
            let live = &handle(socket, "socket")?.0;
            let next = match u64::try_from(timeout_ms) {
                Ok(ms) => live.socket.recv_timeout(Duration::from_millis(ms))?,
                Err(_) => Some(live.socket.recv()?),
            };
            Ok(hand_over(live, next, came))
        })
    }
}

/// `sealane_recv` that does not wait. Polls the network once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_try_recv(socket: *const Socket, came: *mut *mut Delivery, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a pointer and an error.
    unsafe {
        run(error, || {
            let came = out(came, "came")?;
            let live = &handle(socket, "socket")?.0;
            let next = live.socket.try_recv()?;
            Ok(hand_over(live, next, came))
        })
    }
}

/// `sealane_recv` of all that has come, in its order and at most `most` at once: one look for all, instead of one a message. `came` has
/// room for `most` pointers, at least 1; `*count` says how many were written, each to be freed by `sealane_delivery_free`, and those
/// behind them are null. It waits only while there is nothing. `SEALANE_NOTHING` says that nothing came, and `*count` is 0 then, as it is
/// where this fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_recv_many(
    socket: *const Socket,
    timeout_ms: i64,
    came: *mut *mut Delivery,
    most: usize,
    count: *mut usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `take_many` passes on.
    unsafe {
        take_many(socket, (came, most), count, error, |socket, taken| match u64::try_from(timeout_ms) {
            Ok(ms) => socket.recv_many(taken, most, Duration::from_millis(ms)).map(drop),
            Err(_) => {
                while socket.recv_many(taken, most, LONG)? == 0 {}
                Ok(())
            }
        })
    }
}

/// `sealane_recv_many` that does not wait. Polls the network once, unless something has come already. Fewer than `most` may not be all:
/// a loop over `sealane_socket_fd` calls it until it says `SEALANE_NOTHING`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_try_recv_many(
    socket: *const Socket,
    came: *mut *mut Delivery,
    most: usize,
    count: *mut usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules, which `take_many` passes on.
    unsafe {
        take_many(socket, (came, most), count, error, |socket, taken| socket.try_recv_many(taken, most).map(drop))
    }
}

/// Answers a request, once, whatever comes of it. Bytes of its own payload are sent from where they are; others are copied. The
/// delivery stays, to be freed. Blocks while too many bytes are held for sending.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_reply(
    request: *mut Delivery,
    data: *const u8,
    length: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, readable bytes, room for an error.
    unsafe {
        run(error, || {
            let data = bytes(data, length, "data")?;
            let (token, live, payload) = take_token(request)?;
            live.socket.reply(token, body(data, &payload))?;
            Ok(SEALANE_OK)
        })
    }
}

/// `sealane_reply` that never blocks: `SEALANE_WOULD_BLOCK` says that too many bytes are held for sending. The right to answer stays in
/// the delivery then, for another try: see `sealane_socket_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_try_reply(
    request: *mut Delivery,
    data: *const u8,
    length: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, readable bytes, room for an error.
    unsafe {
        run(error, || {
            let data = bytes(data, length, "data")?;
            let (token, live, payload) = take_token(request)?;
            match live.socket.try_reply(token, body(data, &payload))? {
                None => Ok(SEALANE_OK),
                Some(token) => {
                    give_back(request, token)?;
                    Err(Failure::new(SEALANE_WOULD_BLOCK, "too many bytes are held for sending: try again"))
                }
            }
        })
    }
}

/// Refuses a request: its caller gets `SEALANE_REFUSED`. The delivery stays, to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_refuse(request: *mut Delivery, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, room for an error.
    unsafe {
        run(error, || {
            let (token, live, _) = take_token(request)?;
            live.socket.refuse(token)?;
            Ok(SEALANE_OK)
        })
    }
}

fn hand_over(live: &Arc<Live>, next: Option<sealane::Delivery>, came: &mut *mut Delivery) -> i32 {
    // Streams are not asked for, so nothing comes that has no kind here.
    match next.and_then(|next| delivery(next, Arc::downgrade(live))) {
        Some(next) => {
            *came = next;
            SEALANE_OK
        }
        None => SEALANE_NOTHING,
    }
}

/// Takes what has come, by `how`, into an array of the caller.
///
/// # Safety
/// The header's rules: a live socket, room for `most` pointers, a number and an error.
unsafe fn take_many(
    socket: *const Socket,
    (came, most): (*mut *mut Delivery, usize),
    count: *mut usize,
    error: *mut Error,
    how: impl FnOnce(&sealane::Socket, &mut VecDeque<sealane::Delivery>) -> Result<(), sealane::Error>,
) -> i32 {
    // SAFETY: the caller's promise. The number may hold anything before.
    unsafe {
        run(error, || {
            if !count.is_null() {
                count.write(0);
            }
            let came = out_many(came, most, "came")?;
            let count = handle_mut(count, "count")?;
            let live = &handle(socket, "socket")?.0;
            let mut taken = VecDeque::new();
            how(&live.socket, &mut taken)?;
            // Streams are not asked for, so nothing comes that has no kind here.
            let given = taken.into_iter().filter_map(|next| delivery(next, Arc::downgrade(live)));
            *count = came.iter_mut().zip(given).map(|(to, next)| *to = next).count();
            Ok(if *count > 0 { SEALANE_OK } else { SEALANE_NOTHING })
        })
    }
}

/// Bytes to send: a part of the payload where they are that, so that nothing is copied.
fn body<'a>(data: &'a [u8], payload: &Payload) -> Body<'a> {
    let (ours, theirs) = (payload.as_ptr_range(), data.as_ptr_range());
    if data.is_empty() || theirs.start < ours.start || theirs.end > ours.end {
        return data.into();
    }
    let start = theirs.start.addr() - ours.start.addr();
    payload.slice(start..start + data.len()).into()
}

/// Sends what the caller has, by `how`; its name is written to `id`, unless that is null.
///
/// # Safety
/// The header's rules: a live socket and peer, readable bytes, room for a name and an error.
unsafe fn post(
    socket: *const Socket,
    peer: *const Peer,
    (data, length): (*const u8, usize),
    id: *mut CallId,
    error: *mut Error,
    how: impl FnOnce(&sealane::Socket, &sealane::Peer, &[u8]) -> Result<RpcId, sealane::Error>,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe {
        run(error, || {
            let socket = handle(socket, "socket")?;
            let peer = socket.own(handle(peer, "peer")?)?;
            let sent = how(&socket.0.socket, peer, bytes(data, length, "data")?)?;
            if !id.is_null() {
                id.write(CallId::of(sent));
            }
            Ok(SEALANE_OK)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_payload_is_not_copied() {
        let payload = Payload::from(b"0123456789".to_vec());
        let whole = payload.as_ptr_range();
        for part in [&payload[..], &payload[2..5], &payload[9..]] {
            let Body::Owned(sent) = body(part, &payload) else { panic!("{part:?} was copied") };
            assert_eq!(sent.as_ptr_range(), part.as_ptr_range());
            assert!(whole.contains(&sent.as_ptr()));
        }
        let elsewhere = payload.to_vec();
        assert!(matches!(body(&elsewhere, &payload), Body::Borrowed(b"0123456789")));
        assert!(matches!(body(b"", &payload), Body::Borrowed(b"")));
    }
}
