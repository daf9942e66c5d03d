//! A wire that can be cut: from then on nothing goes out and nothing comes in.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sealane::{Caps, Datagrams, Received, SendError, Transmit};

/// The knife.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<AtomicBool>);

impl Cut {
    /// Cuts.
    pub(crate) fn cut(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// What `danger_wrap` takes.
    pub(crate) fn wrap(&self) -> impl FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send + 'static + use<> {
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
