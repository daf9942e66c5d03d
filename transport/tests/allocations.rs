//! In the steady state a call allocates nothing, on no thread: neither client, server nor helper threads.
//!
//! A global allocator counts what every thread of the process allocates. A call that allocated even once would be counted a
//! thousand times here; what is tolerated, per run and not per call, is that a table, heap or queue grows once to a size it has
//! not had before (the kernel's scheduling decides how many acknowledgements or buffers are under way at once).
#![cfg(feature = "aws-lc")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Authority, beside_echo, bounded, pattern};
use sealane::{Delivery, Payload, Wait};

/// Allocations of the whole process, since it began.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts, and leaves the rest to the system's allocator.
struct Counting;

// SAFETY: every call is handed on as it came, so what `System` promises holds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time: they count what the whole process allocates.
static ALONE: Mutex<()> = Mutex::new(());

/// What may grow once in a run of any length, and the two key shares that a helper thread may make ahead meanwhile, of eight allocations
/// each.
const TOLERATED: u64 = 10 + 2 * 8;
const CALLS: u64 = 1_000;

fn counted(run: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    run();
    ALLOCATIONS.load(Ordering::SeqCst) - before
}

fn alone(test: impl FnOnce() + Send + 'static) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    bounded(test);
}

#[test]
fn calls_allocate_nothing() {
    alone(|| {
        let ca = Authority::new();
        for wait in [Wait::Adaptive, Wait::Block] {
            for size in [64, 1_024] {
                let (server, client, peer) = beside_echo(
                    ca.server().wait(wait).bind("127.0.0.1:0").unwrap(),
                    ca.client().wait(wait).bind("127.0.0.1:0").unwrap(),
                );
                let sent = pattern(1, size);
                let calls = |n| (0..n).for_each(|_| assert!(*client.call(&peer, &sent).unwrap() == *sent));
                calls(2 * CALLS);
                let allocations = counted(|| calls(CALLS));
                assert!(
                    allocations <= TOLERATED,
                    "{allocations} allocations in {CALLS} calls of {size} bytes, {wait:?}"
                );
                client.call(&peer, b"quit").unwrap();
                server.join().unwrap();
            }
        }
    });
}

/// Nor do larger calls, whose messages are put together from several packets.
#[test]
fn large_calls_allocate_nothing() {
    alone(|| {
        let ca = Authority::new();
        let (server, client, peer) =
            beside_echo(ca.server().bind("127.0.0.1:0").unwrap(), ca.client().bind("127.0.0.1:0").unwrap());
        let sent = pattern(1, 60_000);
        let calls = |n| (0..n).for_each(|_| assert!(*client.call(&peer, &sent).unwrap() == *sent));
        calls(CALLS);
        let allocations = counted(|| calls(CALLS));
        assert!(allocations <= TOLERATED, "{allocations} allocations in {CALLS} calls of 60,000 bytes");
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    });
}

/// Requests whose responses come out of `recv`, sixteen at a time: hardly ever. While the application is behind the network,
/// what waits for it holds receive buffers, and how many depends on the kernel's scheduling; it is never one per request.
#[test]
fn sends_hardly_allocate() {
    alone(|| {
        let ca = Authority::new();
        let (server, client, peer) =
            beside_echo(ca.server().bind("127.0.0.1:0").unwrap(), ca.client().bind("127.0.0.1:0").unwrap());
        let sent = pattern(1, 256);
        let rounds = |n| {
            for _ in 0..n {
                for cookie in 0..16 {
                    client.send(&peer, &sent, cookie).unwrap();
                }
                for _ in 0..16 {
                    assert!(matches!(client.recv().unwrap(), Delivery::Response(r) if *r.payload == *sent));
                }
            }
        };
        rounds(500);
        let allocations = counted(|| rounds(CALLS));
        assert!(allocations <= 16 * CALLS / 8, "{allocations} allocations in {CALLS} rounds of 16");
        client.call(&peer, b"quit").unwrap();
        server.join().unwrap();
    });
}

/// The counter counts: what a call is given to own was allocated by its caller.
#[test]
fn the_counter_counts() {
    alone(|| {
        let allocations = counted(|| {
            for n in 0..100 {
                assert_eq!(Payload::from(vec![0; 100 + n]).len(), 100 + n);
            }
        });
        assert!(allocations >= 200, "{allocations}: the bytes, and the count of who shares them");
    });
}
