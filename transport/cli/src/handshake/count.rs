//! Owns counting what passes between a socket and the network.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sealane::{Caps, Datagrams, Received, SendError, Transmit};
use serde::Serialize;

/// What went one way: UDP payload.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Traffic {
    pub(super) bytes: u64,
    pub(super) datagrams: u64,
}

/// Counts both ways.
#[derive(Clone, Default)]
pub(super) struct Tally(Arc<[AtomicU64; 4]>);

impl Tally {
    /// What `danger_wrap` takes.
    pub(super) fn wrap(&self) -> impl FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send + 'static + use<> {
        let tally = self.clone();
        move |inner| Box::new(Counted { inner, tally })
    }

    /// What was sent and received since the last time.
    pub(super) fn take(&self) -> (Traffic, Traffic) {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i: usize| self.0[i].swap(0, Ordering::Relaxed));
        (Traffic { bytes: a, datagrams: b }, Traffic { bytes: c, datagrams: d })
    }

    fn add(&self, way: usize, bytes: usize, segment: usize) {
        self.0[2 * way].fetch_add(bytes as u64, Ordering::Relaxed);
        self.0[2 * way + 1].fetch_add(bytes.div_ceil(segment.max(1)) as u64, Ordering::Relaxed);
    }
}

struct Counted {
    inner: Box<dyn Datagrams>,
    tally: Tally,
}

impl Datagrams for Counted {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        self.tally.add(0, train.bytes.len(), train.segment);
        self.inner.transmit(train)
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        let received = self.inner.receive(into)?;
        if let Some(received) = &received {
            self.tally.add(1, received.len, received.segment);
        }
        Ok(received)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.inner.fds()
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        self.inner.watched(on)
    }

    fn next_due(&self) -> Option<Duration> {
        self.inner.next_due()
    }
}
