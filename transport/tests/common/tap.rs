//! What stands between a socket and the network in tests, besides the fault layer: a tap that records, a switch that cuts the
//! wire, an attacker who is always first, and a note of where datagrams were received to.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use udp::batch::{Datagrams, Received, SendError, Transmit};
use udp::caps::Caps;

/// What a [`Tapped`] socket does with what passes it; shared with the test.
#[derive(Clone, Default)]
pub struct Tap(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cut: AtomicBool,
    sent: Mutex<Vec<Vec<u8>>>,
    places: Mutex<Vec<Range<usize>>>,
    /// Sees each datagram before it goes.
    first: Mutex<Option<First>>,
}

type First = Box<dyn FnMut(SocketAddr, &[u8]) + Send>;

impl Tap {
    /// A new one that only watches.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `danger_wrap` takes.
    pub fn wrap(&self) -> impl FnOnce(Box<dyn Datagrams>) -> Box<dyn Datagrams> + Send + 'static + use<> {
        let tap = self.clone();
        move |inner| Box::new(Tapped { inner, tap })
    }

    /// From now on nothing goes out and nothing comes in.
    pub fn cut(&self) {
        self.0.cut.store(true, Ordering::SeqCst);
    }

    /// The wire is whole again.
    pub fn mend(&self) {
        self.0.cut.store(false, Ordering::SeqCst);
    }

    fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::SeqCst)
    }

    /// What was sent since the last time, datagram by datagram.
    pub fn take_sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.sent.lock().unwrap())
    }

    /// Whether these bytes stand where a datagram was once received to.
    pub fn received_into(&self, bytes: &[u8]) -> bool {
        let start = bytes.as_ptr() as usize;
        let end = start + bytes.len();
        let places = self.0.places.lock().unwrap();
        places.iter().any(|place| place.start <= start && end <= place.end)
    }

    /// Shows each datagram to `first` before it goes.
    pub fn first(&self, first: impl FnMut(SocketAddr, &[u8]) + Send + 'static) {
        *self.0.first.lock().unwrap() = Some(Box::new(first));
    }
}

/// A socket with a [`Tap`].
struct Tapped {
    inner: Box<dyn Datagrams>,
    tap: Tap,
}

impl Datagrams for Tapped {
    fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.inner.caps()
    }

    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        if self.tap.is_cut() {
            return Ok(());
        }
        if let Some(first) = &mut *self.tap.0.first.lock().unwrap() {
            train.datagrams().for_each(|datagram| first(train.to, datagram));
        }
        let done = self.inner.transmit(train);
        if done.is_ok() {
            self.tap.0.sent.lock().unwrap().extend(train.datagrams().map(<[u8]>::to_vec));
        }
        done
    }

    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        loop {
            let received = self.inner.receive(into)?;
            if received.is_some() && self.tap.is_cut() {
                continue;
            }
            if received.is_some() {
                let place = into.as_ptr_range();
                let place = place.start as usize..place.end as usize;
                let mut places = self.tap.0.places.lock().unwrap();
                if !places.contains(&place) {
                    places.push(place);
                }
            }
            return Ok(received);
        }
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.inner.fds()
    }

    fn next_due(&self) -> Option<Duration> {
        self.inner.next_due()
    }
}
