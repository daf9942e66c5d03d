//! Owns the estimate of how long a peer takes to answer. (RFC 6298, without its one-second floor.)

use core::time::Duration;

/// Smoothed answer time and its variation.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    smoothed_ns: u64,
    variation_ns: u64,
}

impl Rtt {
    /// Starts from one sample, for instance the handshake's.
    pub const fn new(sample: Duration) -> Self {
        let ns = sample.as_nanos() as u64;
        Self { smoothed_ns: ns, variation_ns: ns / 2 }
    }

    /// Takes one more sample into account.
    pub const fn sample(&mut self, sample: Duration) {
        let ns = sample.as_nanos() as u64;
        let off = self.smoothed_ns.abs_diff(ns);
        self.variation_ns = self.variation_ns - self.variation_ns / 4 + off / 4;
        self.smoothed_ns = self.smoothed_ns - self.smoothed_ns / 8 + ns / 8;
    }

    /// The smoothed time.
    pub const fn smoothed(&self) -> Duration {
        Duration::from_nanos(self.smoothed_ns)
    }

    /// How long to wait before silence means loss.
    pub const fn patience(&self) -> Duration {
        Duration::from_nanos(self.smoothed_ns + 4 * self.variation_ns)
    }
}
