//! Owns what the library and a socket say of themselves: versions, counters and sessions as JSON; and the freeing of such texts.

use std::ffi::{CString, c_char};

use sealane::Info;
use serde_json::{Map, Value, json};

use crate::boundary::{given, handle, out, quietly, run};
use crate::socket::Socket;
use crate::status::{Error, SEALANE_OK};

/// The version of this ABI. It grows when functions, numbers or fields are added; a library whose number is at least that of the header
/// serves a program. What breaks programs changes the library's name (`libsealane.so.0`) instead.
pub const SEALANE_ABI: u32 = 3;

/// The `SEALANE_ABI` of the library that is there.
#[unsafe(no_mangle)]
pub extern "C" fn sealane_abi_version() -> u32 {
    SEALANE_ABI
}

/// The version of Sealane, as `0.1.0`. Constant, and not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn sealane_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// What the socket does now and what it has counted, as a JSON object: `address`, `engine`, `held_bytes`, `calls`, `sessions` (each with
/// `address`, `identity`, `cipher`, `open`, `resumed`) and `counters`. `*json` is to be freed by `sealane_string_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_info_json(socket: *const Socket, json: *mut *mut c_char, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live socket, room for a pointer and an error.
    unsafe {
        run(error, || {
            let json = out(json, "json")?;
            *json = given(described(&handle(socket, "socket")?.0.socket.info()).to_string());
            Ok(SEALANE_OK)
        })
    }
}

/// Frees a text that this library gave out. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: by the header's rules it came from this library, which makes all such texts by `CString::into_raw`.
        quietly(|| drop(unsafe { CString::from_raw(text) }));
    }
}

fn described(info: &Info) -> Value {
    let session = |session: &sealane::SessionInfo| {
        json!({
            "address": session.origin.address.to_string(),
            "identity": session.origin.identity.to_string(),
            "cipher": session.cipher.to_string(),
            "open": session.open,
            "mutual": session.mutual,
            "resumed": session.resumed,
        })
    };
    let mut counters: Map<String, Value> =
        info.counters.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    for (name, value) in [
        ("oversized", info.oversized),
        ("unsent", info.unsent),
        ("segments_sent", info.segments_sent),
        ("segments_received", info.segments_received),
    ] {
        counters.insert(name.to_owned(), value.into());
    }
    json!({
        "address": info.local_addr.to_string(),
        "engine": info.engine,
        "held_bytes": info.held_bytes,
        "calls": info.rpcs.len(),
        "sessions": info.sessions.iter().map(session).collect::<Vec<_>>(),
        "counters": counters,
    })
}
