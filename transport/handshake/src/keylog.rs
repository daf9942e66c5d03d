//! Owns the lines of a key log, in the format of SSLKEYLOGFILE (draft-ietf-tls-keylogfile), for who takes apart captures.
//!
//! Off unless the application gives somewhere to write to; no variable of the environment turns it on. Who reads the log
//! reads the traffic.

use core::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};

use rustls::KeyLog;
use zeroize::Zeroizing;

/// The label of our own session secret, from which all keys of records and control packets follow. [P-6.3]
pub const SESSION_LABEL: &str = "SEALANE_SESSION_SECRET";

/// Takes one line at a time, without its end.
#[derive(Clone)]
pub struct KeyLogSink(Arc<dyn Fn(&str) + Send + Sync>);

impl KeyLogSink {
    /// Lines go to `write`.
    pub fn new(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }
}

impl fmt::Debug for KeyLogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogSink")
    }
}

/// The log of one handshake.
#[derive(Debug)]
pub(crate) struct Log {
    sink: KeyLogSink,
    /// What all lines of a handshake have in common.
    client_random: OnceLock<Vec<u8>>,
}

impl Log {
    pub(crate) fn new(sink: &KeyLogSink) -> Arc<Self> {
        Arc::new(Self { sink: sink.clone(), client_random: OnceLock::new() })
    }

    /// The session's secret, once TLS is done.
    pub(crate) fn session(&self, secret: &[u8]) {
        if let Some(random) = self.client_random.get() {
            self.line(SESSION_LABEL, random, secret);
        }
    }

    fn line(&self, label: &str, random: &[u8], secret: &[u8]) {
        let mut line = Zeroizing::new(String::with_capacity(label.len() + 2 + 2 * (random.len() + secret.len())));
        line.push_str(label);
        for part in [random, secret] {
            line.push(' ');
            for byte in part {
                let _ = write!(line, "{byte:02x}");
            }
        }
        (self.sink.0)(&line);
    }
}

impl KeyLog for Log {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let _ = self.client_random.set(client_random.to_vec());
        self.line(label, client_random, secret);
    }
}
