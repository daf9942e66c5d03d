//! The receive of io_uring belongs to a thread; datagrams belong to whoever looks.
#![cfg(feature = "io-uring")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use udp::poll::wait_readable;
use udp::uring::{self, Uring};
use udp::{Backend, Datagrams, Mmsg, Options, Transmit, bind};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(10));

fn local() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// The two ends, where there is such a receiver.
fn pair() -> Option<(Mmsg, Uring)> {
    if let Err(why) = Backend::IoUring.check() {
        use std::io::Write;
        let _ = std::io::stderr().write_all(format!("SKIPPED a test of io-uring: {why}\n").as_bytes());
        return None;
    }
    let options = Options::default();
    Some((bind(local(), &options).unwrap(), uring::bind(local(), &options).unwrap()))
}

fn send(from: &mut Mmsg, to: SocketAddr, number: u32) {
    from.transmit(&Transmit::single(to, &number.to_le_bytes())).unwrap();
}

/// Sleeps until something is there, and takes it.
fn next(receiver: &mut dyn Datagrams) -> u32 {
    let mut into = [0; 64];
    for _ in 0..1000 {
        if let Some(train) = receiver.receive(&mut into).unwrap() {
            assert_eq!(train.len, 4);
            return u32::from_le_bytes(into[..4].try_into().unwrap());
        }
        assert!(wait_readable(&[receiver.fds()], PATIENCE).unwrap().any(), "it never rang");
    }
    panic!("it rings for nothing");
}

/// Whoever sleeps is woken, although another thread, which computes or is gone, made the request.
#[test]
fn every_thread_hears() {
    let Some((mut sender, receiver)) = pair() else { return };
    let to = receiver.local_addr();
    let receiver = Mutex::new(receiver);
    send(&mut sender, to, 0);
    assert_eq!(next(&mut *receiver.lock().unwrap()), 0);
    for round in 0..40 {
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let receiver = &receiver;
            scope.spawn(move || {
                // More looks than it takes to take over: in some rounds this thread has the request when it ends.
                for n in 0..round * 5 {
                    tell.send(n).unwrap();
                    assert_eq!(next(&mut *receiver.lock().unwrap()), n);
                }
            });
            told.iter().for_each(|n| send(&mut sender, to, n));
        });
        send(&mut sender, to, 1000 + round);
        assert_eq!(next(&mut *receiver.lock().unwrap()), 1000 + round);
    }
}

/// The thread that has the request ends, or goes on without a way through the kernel, while work is due for it. The ring then says that
/// something is due, and the next thread cannot do it: it must come back from its look all the same.
#[test]
fn a_thread_ends_with_work_due() {
    let Some((mut sender, receiver)) = pair() else { return };
    let to = receiver.local_addr();
    let receiver = Mutex::new(receiver);
    for round in 0..200 {
        let (looked, go) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                // Enough looks to have the request.
                for _ in 0..200 {
                    assert_eq!(receiver.lock().unwrap().receive(&mut [0; 64]).unwrap(), None);
                }
                looked.store(true, Ordering::Release);
                while !go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
            });
            while !looked.load(Ordering::Acquire) {
                thread::yield_now();
            }
            send(&mut sender, to, round);
            if round % 2 == 0 {
                go.store(true, Ordering::Release);
            }
            let mut receiver = receiver.lock().unwrap();
            assert_eq!(next(&mut *receiver), round);
            for _ in 0..200 {
                assert_eq!(receiver.receive(&mut [0; 64]).unwrap(), None);
            }
            go.store(true, Ordering::Release);
        });
    }
}

/// More datagrams than buffers: the request ends and is made again, and nothing is lost or turned round.
#[test]
fn more_than_the_buffers_hold() {
    let Some((mut sender, mut receiver)) = pair() else { return };
    assert_eq!(receiver.receive(&mut [0; 64]).unwrap(), None);
    for burst in [1, 15, 16, 17, 100, 1000] {
        (0..burst).for_each(|n| send(&mut sender, receiver.local_addr(), n));
        (0..burst).for_each(|n| assert_eq!(next(&mut receiver), n));
        assert_eq!(receiver.receive(&mut [0; 64]).unwrap(), None);
    }
}

/// Nobody watches: the descriptor stays silent. Somebody watches again: it tells of what came meanwhile.
#[test]
fn silent_until_watched() {
    let Some((mut sender, mut receiver)) = pair() else { return };
    let rings = |receiver: &Uring| wait_readable(&[receiver.fds()], Some(Duration::ZERO)).unwrap().any();
    receiver.watched(false).unwrap();
    send(&mut sender, receiver.local_addr(), 1);
    assert!(!rings(&receiver));
    receiver.watched(true).unwrap();
    assert_eq!(next(&mut receiver), 1);
    assert!(!rings(&receiver));
}

/// The end comes while a request is there, made by a thread that lives on, and while there are completions that nobody took.
#[test]
fn dropped_with_work_under_way() {
    for _ in 0..20 {
        let Some((mut sender, mut receiver)) = pair() else { return };
        let to = receiver.local_addr();
        assert_eq!(receiver.receive(&mut [0; 64]).unwrap(), None);
        (0..20).for_each(|n| send(&mut sender, to, n));
        assert_eq!(next(&mut receiver), 0);
        thread::spawn(move || drop(receiver)).join().unwrap();
        bind(to, &Options::default()).expect("the port is free again");
    }
}
