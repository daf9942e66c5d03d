//! Owns a wire that can be cut.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::Caps;

/// Cuts a wire around any backend: from then on nothing goes out and nothing comes in, and nobody is told.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Cuts it, for ever.
    pub fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Puts the wire that this cuts around a backend: what `danger_wrap` of a socket's builder takes.
    pub fn wrap(&self) -> impl FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send + 'static + use<> {
        let cut = self.clone();
        move |inner| Box::new(Wire { inner, cut })
    }
}

struct Wire {
    inner: Box<dyn Datagrams>,
    cut: Cut,
}

impl Wire {
    fn is_cut(&self) -> bool {
        self.cut.0.load(Ordering::SeqCst)
    }
}

impl Datagrams for Wire {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        if self.is_cut() { Ok(()) } else { self.inner.transmit(train) }
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let received = self.inner.receive(into)?;
            if received.is_none() || !self.is_cut() {
                return Ok(received);
            }
        }
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.inner.fds()
    }

    fn next_due(&self) -> Option<Duration> {
        self.inner.next_due()
    }
}
