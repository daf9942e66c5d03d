//! Owns the configuration of a socket: whom it trusts, who it is, whom it serves, and the knobs. Opaque, so that knobs can be added.

use std::ffi::c_char;
use std::time::Duration;

use sealane::builder::Ready;
use sealane::{Builder, Clients, Identity, Trust, Wait};

use crate::boundary::{bytes, handle_mut, quietly, run, text};
use crate::status::{Error, Failure, SEALANE_CONFIG, SEALANE_OK};

/// Serves only clients with a certificate of a trusted authority.
pub const SEALANE_CLIENTS_AUTHENTICATED: i32 = 1;
/// Serves anybody. Clients are told who the server is; it does not learn who they are.
pub const SEALANE_CLIENTS_ANONYMOUS: i32 = 2;

/// A waiting thread polls for 20 us, then sleeps. The default.
pub const SEALANE_WAIT_ADAPTIVE: i32 = 0;
/// A waiting thread sleeps at once: no cost while nothing happens.
pub const SEALANE_WAIT_BLOCK: i32 = 1;
/// A waiting thread polls without pause: the shortest latency, for a core per thread.
pub const SEALANE_WAIT_SPIN: i32 = 2;

/// What a socket is made with. Belongs to one thread at a time. It is copied by `sealane_socket_new`, so it can be used again, and
/// freed at once.
#[derive(Debug, Default)]
pub struct Config {
    trust: Option<Trust>,
    identity: Option<Identity>,
    clients: Option<Clients>,
    serves_installed: bool,
    installed_only: bool,
    wait: Wait,
    message_bytes_max: Option<usize>,
    send_bytes_max: Option<u64>,
    peer_send_bytes_max: Option<u64>,
    mtu: Option<u32>,
    spanning_records: bool,
    peer_timeout: Option<Duration>,
    handshake_timeout: Option<Duration>,
}

impl Config {
    /// The builder that it stands for, if it says enough.
    pub(crate) fn builder(&self) -> Result<Builder<Ready>, Failure> {
        let wrong = |text: &'static str| Err(Failure::new(SEALANE_CONFIG, text));
        let builder = sealane::Socket::builder();
        let mut builder = match (&self.trust, &self.identity) {
            _ if self.installed_only && (self.trust.is_some() || self.identity.is_some() || self.clients.is_some()) => {
                return wrong(
                    "a socket of installed sessions only has no certificates and no clients with certificates",
                );
            }
            _ if self.installed_only => builder.installed_only(),
            (None, _) => return wrong("nothing was said of whom to trust"),
            (Some(trust), Some(identity)) => builder.trust(trust.clone()).identity(identity.clone()),
            (Some(trust), None) => builder.trust(trust.clone()).anonymous(),
        };
        if let Some(clients) = self.clients {
            builder = builder.serve(clients);
        }
        if self.serves_installed {
            builder = builder.serve_installed();
        }
        builder = builder.wait(self.wait);
        builder = with(builder, self.message_bytes_max, Builder::message_bytes_max);
        builder = with(builder, self.send_bytes_max, Builder::send_bytes_max);
        builder = with(builder, self.peer_send_bytes_max, Builder::peer_send_bytes_max);
        builder = with(builder, self.mtu, Builder::mtu).spanning_records(self.spanning_records);
        builder = with(builder, self.peer_timeout, Builder::peer_timeout);
        Ok(with(builder, self.handshake_timeout, Builder::handshake_timeout))
    }
}

fn with<T>(
    builder: Builder<Ready>,
    knob: Option<T>,
    set: impl FnOnce(Builder<Ready>, T) -> Builder<Ready>,
) -> Builder<Ready> {
    match knob {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// An empty configuration: it says neither whom to trust nor who we are, and serves nobody. Never null.
#[unsafe(no_mangle)]
pub extern "C" fn sealane_config_new() -> *mut Config {
    Box::into_raw(Box::default())
}

/// Frees a configuration. Null is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_free(config: *mut Config) {
    if !config.is_null() {
        // SAFETY: by the header's rules it came from `sealane_config_new`, and nobody uses it any more.
        quietly(|| drop(unsafe { Box::from_raw(config) }));
    }
}

/// Trusts the certificate authorities in a PEM file, and nobody else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_trust_file(config: *mut Config, path: *const c_char, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, a string ended by a zero, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.trust = Some(Trust::pem_file(text(path, "path")?)?);
            Ok(SEALANE_OK)
        })
    }
}

/// Trusts the certificate authorities in `length` bytes of PEM text, and nobody else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_trust_pem(
    config: *mut Config,
    pem: *const u8,
    length: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live configuration, readable bytes, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.trust = Some(Trust::pem(bytes(pem, length, "pem")?)?);
            Ok(SEALANE_OK)
        })
    }
}

/// Trusts nobody: such a socket can begin no session. For servers of anonymous clients.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_trust_nobody(config: *mut Config, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.trust = Some(Trust::nobody());
            Ok(SEALANE_OK)
        })
    }
}

/// Who the socket is: files with a certificate chain and its private key, both PEM. Without an identity a client is anonymous.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_identity_files(
    config: *mut Config,
    chain_path: *const c_char,
    key_path: *const c_char,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live configuration, strings ended by a zero, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            let (chain, key) = (text(chain_path, "chain_path")?, text(key_path, "key_path")?);
            config.identity = Some(Identity::pem_files(chain, key)?);
            Ok(SEALANE_OK)
        })
    }
}

/// The same as PEM text. The caller wipes its own copy of the key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_identity_pem(
    config: *mut Config,
    chain: *const u8,
    chain_length: usize,
    key: *const u8,
    key_length: usize,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live configuration, readable bytes, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            let (chain, key) = (bytes(chain, chain_length, "chain")?, bytes(key, key_length, "key")?);
            config.identity = Some(Identity::pem(chain, key)?);
            Ok(SEALANE_OK)
        })
    }
}

/// Takes requests and one-way messages: `SEALANE_CLIENTS_AUTHENTICATED` or `SEALANE_CLIENTS_ANONYMOUS`. Without this they are refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_serve(config: *mut Config, clients: i32, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.clients = Some(match clients {
                SEALANE_CLIENTS_AUTHENTICATED => Clients::Authenticated,
                SEALANE_CLIENTS_ANONYMOUS => Clients::Anonymous,
                _ => return Err(Failure::invalid(format!("{clients} names no kind of clients"))),
            });
            Ok(SEALANE_OK)
        })
    }
}

/// Only sessions whose secrets are installed by `sealane_install_session`, without certificates. `serve` says whether their peers may
/// send requests.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_installed_only(config: *mut Config, serve: bool, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            (config.installed_only, config.serves_installed) = (true, serve);
            Ok(SEALANE_OK)
        })
    }
}

/// How blocking functions wait: one of `SEALANE_WAIT_...`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_wait(config: *mut Config, wait: i32, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.wait = match wait {
                SEALANE_WAIT_ADAPTIVE => Wait::Adaptive,
                SEALANE_WAIT_BLOCK => Wait::Block,
                SEALANE_WAIT_SPIN => Wait::Spin,
                _ => return Err(Failure::invalid(format!("{wait} names no way to wait"))),
            };
            Ok(SEALANE_OK)
        })
    }
}

/// The longest message, sent or received, in bytes. Default and most: 64 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_message_bytes_max(config: *mut Config, bytes: usize, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.message_bytes_max = Some(bytes);
            Ok(SEALANE_OK)
        })
    }
}

/// Bytes of messages that are held until their receivers acknowledged them; beyond it sending waits, or says `SEALANE_WOULD_BLOCK`.
/// Default 256 MiB.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_send_bytes_max(config: *mut Config, bytes: u64, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.send_bytes_max = Some(bytes);
            Ok(SEALANE_OK)
        })
    }
}

/// The same for each peer: a server that answers many keeps one that takes nothing from using up all there is. One message is always
/// taken. Default: no limit of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_peer_send_bytes_max(config: *mut Config, bytes: u64, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.peer_send_bytes_max = Some(bytes);
            Ok(SEALANE_OK)
        })
    }
}

/// The path MTU in bytes, the IP header included, from 1,280 to 65,535. Default: the route's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_mtu(config: *mut Config, bytes: u32, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.mtu = Some(bytes);
            Ok(SEALANE_OK)
        })
    }
}

/// Whether longer messages that we send travel in records that span packets, where these are small, as on a path of 1,500 bytes: that
/// costs each packet less at both ends. Default false, because it is for paths that keep the order of packets: what overtakes the first
/// record of its message is lost, and only asked for again after some milliseconds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_spanning_records(config: *mut Config, on: bool, error: *mut Error) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            config.spanning_records = on;
            Ok(SEALANE_OK)
        })
    }
}

/// After how many milliseconds of silence a peer is given up, and how many a handshake may take. 0 leaves the default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sealane_config_timeouts(
    config: *mut Config,
    peer_ms: u64,
    handshake_ms: u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's rules: a live configuration, room for an error.
    unsafe {
        run(error, || {
            let config = handle_mut(config, "config")?;
            let span = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
            (config.peer_timeout, config.handshake_timeout) = (span(peer_ms), span(handshake_ms));
            Ok(SEALANE_OK)
        })
    }
}
