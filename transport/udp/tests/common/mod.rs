//! One test, every backend: `over_each_backend!` makes a test of each function for each backend, and says aloud which this machine
//! leaves out. A build without a backend's feature has no such tests.
#![allow(unreachable_pub, reason = "a module that every test file includes for itself")]
#![allow(dead_code, reason = "each test file uses its own part")]

use std::cell::Cell;
use std::io::{self, Write};
use std::net::SocketAddr;

use udp::{Backend, Datagrams, Options};

thread_local! {
    static PRESENT: Cell<Backend> = const { Cell::new(Backend::Mmsg) };
}

/// Binds through the backend that the test is run over.
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Box<dyn Datagrams>> {
    let backend = PRESENT.get();
    if backend == Backend::Mmsg {
        // One socket: who looks once and sees nothing knows that there is nothing. With a second one for a hot peer it takes several looks.
        return Ok(Box::new(udp::bind(address, options)?));
    }
    let bound = udp::backend::bind(address, options, backend)?;
    assert_eq!(bound.caps().backend.instead_of, None, "it was there when the test began");
    Ok(bound)
}

/// Runs a test over this backend, or says why not.
pub fn over(backend: Backend, name: &str, test: fn()) {
    if let Err(why) = backend.check() {
        // Past the capture of output: a test that was not run must be seen.
        let _ = io::stderr().write_all(format!("SKIPPED {name} over {backend}: {why}\n").as_bytes());
        return;
    }
    PRESENT.set(backend);
    test();
}

macro_rules! over_each_backend {
    ($($test:ident),+ $(,)?) => {
        mod mmsg {
            $(#[test]
            fn $test() {
                crate::common::over(udp::Backend::Mmsg, stringify!($test), super::$test);
            })+
        }
        #[cfg(feature = "io-uring")]
        mod io_uring {
            $(#[test]
            fn $test() {
                crate::common::over(udp::Backend::IoUring, stringify!($test), super::$test);
            })+
        }
    };
}
pub(crate) use over_each_backend;
