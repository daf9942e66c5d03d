//! Owns what a function returns and what it says of an error: numbers that stay, and a struct that the caller owns.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};

/// It worked.
pub const SEALANE_OK: i32 = 0;
/// Nothing came, within the time that was given or at once. No error.
pub const SEALANE_NOTHING: i32 = 1;
/// An argument cannot be used: a null pointer, text that is not UTF-8, a number that means nothing.
pub const SEALANE_INVALID: i32 = -1;
/// A defect of the library: it panicked. Free the socket; what it does now is not to be trusted.
pub const SEALANE_PANIC: i32 = -2;
/// The configuration cannot work.
pub const SEALANE_CONFIG: i32 = -3;
/// A certificate or a key cannot be used.
pub const SEALANE_CREDENTIALS: i32 = -4;
/// The address cannot be bound.
pub const SEALANE_BIND: i32 = -5;
/// A name does not resolve, or no way leads there.
pub const SEALANE_ADDRESS: i32 = -6;
/// The handshake failed: certificates, names, protocols. Nothing of the application was sent.
pub const SEALANE_HANDSHAKE: i32 = -7;
/// The message is longer than is allowed here or at the peer.
pub const SEALANE_TOO_LONG: i32 = -8;
/// As many bytes as configured are held for sending, and the function does not block.
pub const SEALANE_WOULD_BLOCK: i32 = -9;
/// The request was answered already, or its caller gave up.
pub const SEALANE_UNKNOWN_REQUEST: i32 = -10;
/// No such call is open: it ended, was aborted, or never existed.
pub const SEALANE_UNKNOWN_CALL: i32 = -11;
/// The peer no longer answers.
pub const SEALANE_SILENT: i32 = -12;
/// The deadline passed.
pub const SEALANE_DEADLINE: i32 = -13;
/// The peer takes no requests.
pub const SEALANE_NOT_SERVING: i32 = -14;
/// The peer's application refused the request.
pub const SEALANE_REFUSED: i32 = -15;
/// The session ended while the call was under way.
pub const SEALANE_SESSION_ENDED: i32 = -16;
/// The peer restarted: the outcome of the call is unknown.
pub const SEALANE_RESTARTED: i32 = -17;
/// The path carries less than was thought: try again.
pub const SEALANE_PATH_SHRANK: i32 = -18;
/// The session's keys have protected as much as they may. The next call makes a new session.
pub const SEALANE_KEYS_EXHAUSTED: i32 = -19;
/// Too many sessions are open.
pub const SEALANE_TOO_MANY_SESSIONS: i32 = -20;
/// The socket was closed, or freed before the delivery was.
pub const SEALANE_CLOSED: i32 = -21;
/// The socket belongs to the process that this one was forked from.
pub const SEALANE_FORKED: i32 = -22;
/// The system refused something that should always work.
pub const SEALANE_SYSTEM: i32 = -23;
/// An error that this version of the ABI has no number for; its text says what it is.
pub const SEALANE_OTHER: i32 = -24;

/// Bytes of an error's text, the closing zero included. Longer texts are cut.
pub const SEALANE_ERROR_TEXT_BYTES: usize = 248;

/// What one call says of its failure. The caller owns it, usually on its stack; every function that is given one fills it in, so
/// nothing has to be set before. After a success `status` is `SEALANE_OK` or `SEALANE_NOTHING`, and `text` is empty.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Error {
    /// The same number that the function returned.
    pub status: i32,
    /// Whether the peer may have executed the request that the error is about. `false` is certain; `true` is not.
    pub may_have_run: bool,
    /// What went wrong, in English, in UTF-8, ended by a zero.
    pub text: [c_char; SEALANE_ERROR_TEXT_BYTES],
}

/// An error on its way out.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: i32,
    pub(crate) may_have_run: bool,
    pub(crate) text: Cow<'static, str>,
}

impl Failure {
    pub(crate) fn new(status: i32, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status, may_have_run: false, text: text.into() }
    }

    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SEALANE_INVALID, text)
    }
}

/// The number of an error.
fn number(error: &sealane::Error) -> i32 {
    use sealane::Error as E;
    match error {
        E::Bind { .. } => SEALANE_BIND,
        E::Address { .. } => SEALANE_ADDRESS,
        E::Config(_) => SEALANE_CONFIG,
        E::Handshake { .. } => SEALANE_HANDSHAKE,
        E::Credentials(_) => SEALANE_CREDENTIALS,
        E::TooLong { .. } | E::TooLongForPeer => SEALANE_TOO_LONG,
        E::WouldBlock { .. } | E::Connecting => SEALANE_WOULD_BLOCK,
        E::UnknownRequest(_) => SEALANE_UNKNOWN_REQUEST,
        E::UnknownCall(_) => SEALANE_UNKNOWN_CALL,
        E::PeerSilent { .. } => SEALANE_SILENT,
        E::Deadline { .. } => SEALANE_DEADLINE,
        E::NotServing { .. } => SEALANE_NOT_SERVING,
        E::Refused { .. } => SEALANE_REFUSED,
        E::SessionEnded { .. } => SEALANE_SESSION_ENDED,
        E::PeerRestarted { .. } => SEALANE_RESTARTED,
        E::PathShrank { .. } => SEALANE_PATH_SHRANK,
        E::KeysExhausted { .. } => SEALANE_KEYS_EXHAUSTED,
        E::TooManySessions(_) => SEALANE_TOO_MANY_SESSIONS,
        E::Closed => SEALANE_CLOSED,
        E::Forked => SEALANE_FORKED,
        E::System { .. } => SEALANE_SYSTEM,
        _ => SEALANE_OTHER,
    }
}

impl From<sealane::Error> for Failure {
    fn from(error: sealane::Error) -> Self {
        let may_have_run = error.may_have_run();
        Self { status: number(&error), may_have_run, text: error.to_string().into() }
    }
}

impl Error {
    /// What is said of a result: of a failure its text, cut where it is too long, between two characters.
    pub(crate) fn of(result: &Result<i32, Failure>) -> Self {
        let mut said = Self { status: SEALANE_OK, may_have_run: false, text: [0; SEALANE_ERROR_TEXT_BYTES] };
        match result {
            Ok(status) => said.status = *status,
            Err(failure) => {
                said.status = failure.status;
                said.may_have_run = failure.may_have_run;
                let mut end = failure.text.len().min(SEALANE_ERROR_TEXT_BYTES - 1);
                while !failure.text.is_char_boundary(end) {
                    end -= 1;
                }
                for (to, from) in said.text.iter_mut().zip(failure.text[..end].bytes()) {
                    *to = from as c_char;
                }
            }
        }
        said
    }
}

/// The text of a status, for people. Never null; the text is constant and not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sealane_strerror(status: i32) -> *const c_char {
    let text: &CStr = match status {
        SEALANE_OK => c"it worked",
        SEALANE_NOTHING => c"nothing came",
        SEALANE_INVALID => c"an argument cannot be used",
        SEALANE_PANIC => c"a defect of the library: free the socket",
        SEALANE_CONFIG => c"the configuration cannot work",
        SEALANE_CREDENTIALS => c"a certificate or a key cannot be used",
        SEALANE_BIND => c"the address cannot be bound",
        SEALANE_ADDRESS => c"the address cannot be reached",
        SEALANE_HANDSHAKE => c"the handshake failed",
        SEALANE_TOO_LONG => c"the message is too long",
        SEALANE_WOULD_BLOCK => c"too many bytes are held for sending",
        SEALANE_UNKNOWN_REQUEST => c"no such request waits for a reply",
        SEALANE_UNKNOWN_CALL => c"no such call is open",
        SEALANE_SILENT => c"the peer no longer answers",
        SEALANE_DEADLINE => c"the deadline passed",
        SEALANE_NOT_SERVING => c"the peer takes no requests",
        SEALANE_REFUSED => c"the peer's application refused the request",
        SEALANE_SESSION_ENDED => c"the session ended",
        SEALANE_RESTARTED => c"the peer restarted",
        SEALANE_PATH_SHRANK => c"the path carries less than was thought",
        SEALANE_KEYS_EXHAUSTED => c"the session's keys have protected as much as they may",
        SEALANE_TOO_MANY_SESSIONS => c"too many sessions are open",
        SEALANE_CLOSED => c"the socket is closed",
        SEALANE_FORKED => c"the socket belongs to the process that this one was forked from",
        SEALANE_SYSTEM => c"the system refused something",
        SEALANE_OTHER => c"another error",
        _ => c"no status of this library",
    };
    text.as_ptr()
}
