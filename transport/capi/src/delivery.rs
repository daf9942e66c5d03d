//! Owns a delivery: what came, where its bytes are, and the right to answer it once. It pins the buffer that the bytes arrived in.

use std::ffi::{CString, c_char};
use std::sync::Weak;

use sealane::{Payload, PeerInfo, Protection, ReplyToken, RpcId};

use crate::boundary::{given, handle, handle_mut, out, quietly, run};
use crate::socket::{Live, Peer};
use crate::status::{Error, Failure, SEALANE_CLOSED, SEALANE_OK, SEALANE_UNKNOWN_REQUEST};

/// A request, to be answered by `sealane_reply` or `sealane_refuse`.
pub const SEALANE_REQUEST: i32 = 1;
/// The response to a request: of `sealane_send`, with its cookie, or of `sealane_call`.
pub const SEALANE_RESPONSE: i32 = 2;
/// A message that wants no response.
pub const SEALANE_ONE_WAY: i32 = 3;
/// Something that was sent by `sealane_send` or `sealane_send_one_way` failed.
pub const SEALANE_FAILED: i32 = 4;

/// Protected with the session's keys: forward secret, from a peer that has proven who it is, and never a copy.
pub const SEALANE_PROTECTION_FULL: i32 = 0;
/// Protected with less than the session's keys, in a first flight.
pub const SEALANE_PROTECTION_FIRST_FLIGHT: i32 = 1;

/// The name of a call, request or message, unique as long as its socket lives. To be compared and kept; its numbers mean nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallId {
    /// Of the session: the same in all that comes in it, so that a server can keep what a client chose.
    pub session: u64,
    /// In the session.
    pub rpc: u64,
}

impl CallId {
    pub(crate) fn of(id: RpcId) -> Self {
        let [session, rpc] = id.to_words();
        Self { session, rpc }
    }

    pub(crate) fn named(self) -> Option<RpcId> {
        RpcId::from_words([self.session, self.rpc])
    }
}

/// What came. To be read only, and to be freed by `sealane_delivery_free`. It belongs to one thread at a time. Later versions may add
/// fields at its end.
#[repr(C)]
#[derive(Debug)]
pub struct Delivery {
    /// `SEALANE_REQUEST`, `SEALANE_RESPONSE`, `SEALANE_ONE_WAY` or `SEALANE_FAILED`; be ready for others.
    pub kind: i32,
    /// Why it failed, of `SEALANE_FAILED`; otherwise `SEALANE_OK`.
    pub status: i32,
    /// How it was protected on its way.
    pub protection: i32,
    /// Of `SEALANE_FAILED`: whether the peer may have executed the request.
    pub may_have_run: bool,
    /// The number that was given to `sealane_send`; otherwise 0.
    pub cookie: u64,
    /// Its name; of a response, the name of the request.
    pub id: CallId,
    /// The message, where it was decrypted: no copy is made. Never null, except of `SEALANE_FAILED`.
    pub payload: *const u8,
    /// Bytes of the message.
    pub length: usize,
    /// What went wrong, of `SEALANE_FAILED`, ended by a zero; otherwise null.
    pub text: *const c_char,
}

/// A delivery as it is kept: what C sees of it stands first, so that a pointer to that is a pointer to all.
#[repr(C)]
struct Whole {
    seen: Delivery,
    payload: Payload,
    token: Option<ReplyToken>,
    from: Option<PeerInfo>,
    text: Option<CString>,
    live: Weak<Live>,
}

impl Whole {
    fn give(self) -> *mut Delivery {
        let mut whole = Box::new(self);
        if whole.seen.kind != SEALANE_FAILED {
            (whole.seen.payload, whole.seen.length) = (whole.payload.as_ptr(), whole.payload.len());
        }
        whole.seen.text = whole.text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
        Box::into_raw(whole).cast()
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        // Nobody can answer it any more, so its caller shall not wait.
        if let (Some(token), Some(live)) = (self.token.take(), self.live.upgrade()) {
            _ = live.socket.refuse(token);
        }
    }
}

const fn protection_number(protection: Protection) -> i32 {
    match protection {
        Protection::Full => SEALANE_PROTECTION_FULL,
        _ => SEALANE_PROTECTION_FIRST_FLIGHT,
    }
}

const fn seen(kind: i32, id: CallId) -> Delivery {
    let (payload, text) = (std::ptr::null(), std::ptr::null());
    let (status, protection, may_have_run) = (SEALANE_OK, SEALANE_PROTECTION_FULL, false);
    Delivery { kind, status, protection, may_have_run, cookie: 0, id, payload, length: 0, text }
}

/// The response to a call, which says no more of its peer than the caller knows.
pub(crate) fn response(payload: Payload, live: Weak<Live>) -> *mut Delivery {
    let seen = seen(SEALANE_RESPONSE, CallId { session: 0, rpc: 0 });
    Whole { seen, payload, token: None, from: None, text: None, live }.give()
}

/// What came out of a socket; `None` for what this ABI has no kind for.
pub(crate) fn delivery(came: sealane::Delivery, live: Weak<Live>) -> Option<*mut Delivery> {
    let message = |kind, cookie, id, protection, payload, token, from| {
        let protection = protection_number(protection);
        let seen = Delivery { cookie, protection, ..seen(kind, CallId::of(id)) };
        Some(Whole { seen, payload, token, from: Some(from), text: None, live: live.clone() }.give())
    };
    match came {
        sealane::Delivery::Request(r) => {
            message(SEALANE_REQUEST, 0, r.id, r.protection, r.payload, Some(r.token), r.peer)
        }
        sealane::Delivery::Response(r) => {
            message(SEALANE_RESPONSE, r.cookie, r.id, r.protection, r.payload, None, r.peer)
        }
        sealane::Delivery::OneWay(m) => message(SEALANE_ONE_WAY, 0, m.id, m.protection, m.payload, None, m.peer),
        sealane::Delivery::Failed(failed) => {
            let why = Failure::from(failed.error);
            let (status, may_have_run, cookie) = (why.status, why.may_have_run, failed.cookie);
            let seen = Delivery { status, may_have_run, cookie, ..seen(SEALANE_FAILED, CallId::of(failed.id)) };
            let text = CString::new(why.text.replace('\0', "?")).ok();
            Some(Whole { seen, payload: Payload::empty(), token: None, from: None, text, live }.give())
        }
        _ => None,
    }
}

/// The whole of a delivery that C has.
///
/// # Safety
/// `delivery` is null, or came from this library, is not freed before the reference is gone, and nobody else uses it meanwhile.
unsafe fn whole<'a>(delivery: *mut Delivery) -> Result<&'a mut Whole, Failure> {
    // SAFETY: the caller's promise; all that this library gives out are the first fields of a `Whole`.
    unsafe { handle_mut(delivery.cast::<Whole>(), "delivery") }
}

/// Takes the right to answer out of a delivery, with the socket that it came from and the bytes it brought.
///
/// # Safety
/// As [`whole`].
pub(crate) unsafe fn take_token(
    delivery: *mut Delivery,
) -> Result<(ReplyToken, std::sync::Arc<Live>, Payload), Failure> {
    // SAFETY: the caller's promise.
    let whole = unsafe { whole(delivery)? };
    if whole.seen.kind != SEALANE_REQUEST {
        return Err(Failure::invalid("the delivery is no request"));
    }
    let Some(live) = whole.live.upgrade() else {
        return Err(Failure::new(SEALANE_CLOSED, "the socket was freed"));
    };
    match whole.token.take() {
        Some(token) => Ok((token, live, whole.payload.clone())),
        None => Err(Failure::new(SEALANE_UNKNOWN_REQUEST, "the request was answered already")),
    }
}

/// Puts the right to answer back: it was not used.
///
/// # Safety
/// As [`whole`].
pub(crate) unsafe fn give_back(delivery: *mut Delivery, token: ReplyToken) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe { whole(delivery)?.token = Some(token) };
    Ok(())
}

/// Frees a delivery and its payload. A request that was not answered is refused by it: nobody could answer it any more. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_delivery_free(delivery: *mut Delivery) {
    if !delivery.is_null() {
        // SAFETY: by the header's rules it came from this library, as the first fields of a `Whole`, and nobody uses it any more.
        quietly(|| drop(unsafe { Box::from_raw(delivery.cast::<Whole>()) }));
    }
}

/// Frees the payload alone: the delivery keeps the right to be answered, at the cost of some hundred bytes. `payload` is null and
/// `length` 0 afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_delivery_free_payload(delivery: *mut Delivery, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, room for an error.
    unsafe {
        run(error, || {
            let whole = whole(delivery)?;
            (whole.seen.payload, whole.seen.length) = (std::ptr::null(), 0);
            whole.payload = Payload::empty();
            Ok(SEALANE_OK)
        })
    }
}

/// Who sent it, for people and logs: the names of its certificate, `anonymous`, or the label of an installed secret. `*identity` is to
/// be freed by `sealane_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_delivery_identity(
    delivery: *const Delivery,
    identity: *mut *mut c_char,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, room for a pointer and an error.
    unsafe {
        run(error, || {
            let identity = out(identity, "identity")?;
            *identity = given(sender(delivery)?.identity().to_string());
            Ok(SEALANE_OK)
        })
    }
}

/// Where its sender is, as `127.0.0.1:7000`. `*address` is to be freed by `sealane_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_delivery_address(
    delivery: *const Delivery,
    address: *mut *mut c_char,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, room for a pointer and an error.
    unsafe {
        run(error, || {
            let address = out(address, "address")?;
            *address = given(sender(delivery)?.addr().to_string());
            Ok(SEALANE_OK)
        })
    }
}

/// Its sender, to send to in the same session, whoever began that. `*peer` is to be freed by `sealane_peer_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_delivery_peer(
    delivery: *const Delivery,
    peer: *mut *mut Peer,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live delivery that one thread has, room for a pointer and an error.
    unsafe {
        run(error, || {
            let peer = out(peer, "peer")?;
            let from = sender(delivery)?.peer();
            *peer = Peer::given(from, handle(delivery.cast::<Whole>(), "delivery")?.live.clone());
            Ok(SEALANE_OK)
        })
    }
}

/// Who sent a delivery.
///
/// # Safety
/// As [`whole`], but others may read it.
unsafe fn sender<'a>(delivery: *const Delivery) -> Result<&'a PeerInfo, Failure> {
    // SAFETY: the caller's promise; all that this library gives out are the first fields of a `Whole`.
    let whole = unsafe { handle(delivery.cast::<Whole>(), "delivery")? };
    whole.from.as_ref().ok_or_else(|| Failure::invalid("the delivery does not say who sent it"))
}
