//! What a driver sleeps on wakes it when, and only when, it should.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use common::{bind, over_each_backend};
use udp::poll::{Set, Timer, Wake, pin_to_cpu, wait_readable, wait_writable};
use udp::{Datagrams, Options, Transmit};

const LOOK: Option<Duration> = Some(Duration::ZERO);
/// Longer than any healthy run; an end to a broken one.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

#[test]
fn wake_lasts_until_drained() {
    let wake = Wake::new().unwrap();
    assert!(!wait_readable(&[wake.fd()], LOOK).unwrap().any());
    assert!(!wake.drain());
    wake.wake();
    wake.wake();
    assert!(wait_readable(&[wake.fd()], LOOK).unwrap().any());
    assert!(wait_readable(&[wake.fd()], LOOK).unwrap().any());
    assert!(wake.drain());
    assert!(!wake.drain());
    assert!(!wait_readable(&[wake.fd()], LOOK).unwrap().any());
}

#[test]
fn wake_ends_another_threads_wait() {
    let wake = Wake::new().unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_readable(&[wake.fd()], PATIENCE).unwrap().any());
        wake.wake();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn timer_goes_off_once() {
    let timer = Timer::new().unwrap();
    assert!(!wait_readable(&[timer.fd()], LOOK).unwrap().any());
    for after in [Duration::ZERO, Duration::from_micros(50)] {
        timer.arm(Some(after)).unwrap();
        assert!(wait_readable(&[timer.fd()], PATIENCE).unwrap().any());
        assert!(timer.drain());
        assert!(!timer.drain());
    }
}

#[test]
fn timer_is_disarmed_and_rearmed() {
    let timer = Timer::new().unwrap();
    timer.arm(Some(Duration::ZERO)).unwrap();
    assert!(wait_readable(&[timer.fd()], PATIENCE).unwrap().any());
    timer.arm(Some(Duration::from_secs(3600))).unwrap();
    assert!(!wait_readable(&[timer.fd()], LOOK).unwrap().any(), "the unread shot is taken back");
    timer.arm(None).unwrap();
    assert!(!timer.drain());
}

#[test]
fn set_is_readable_when_any_member_is() {
    let (set, wake, timer) = (Set::new().unwrap(), Wake::new().unwrap(), Timer::new().unwrap());
    set.add(wake.fd()).unwrap();
    set.add(timer.fd()).unwrap();
    assert!(set.add(wake.fd()).is_err(), "twice the same");
    assert!(!set.wait(LOOK).unwrap());
    wake.wake();
    assert!(set.wait(None).unwrap());
    assert!(wait_readable(&[set.fd()], LOOK).unwrap().any());
    wake.drain();
    timer.arm(Some(Duration::ZERO)).unwrap();
    assert!(set.wait(PATIENCE).unwrap());
    set.remove(timer.fd()).unwrap();
    assert!(!set.wait(LOOK).unwrap());
}

fn wait_tells_which() {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut socket = bind(local, &Options::default()).unwrap();
    let (first, last) = (Wake::new().unwrap(), Wake::new().unwrap());
    let to = socket.local_addr();
    socket.transmit(&Transmit::single(to, b"x")).unwrap();
    last.wake();
    let ready = wait_readable(&[first.fd(), socket.fds(), last.fd()], PATIENCE).unwrap();
    assert_eq!((ready.has(0), ready.has(1), ready.has(2), ready.has(99)), (false, true, true, false));
    assert_eq!(ready.count(), 2);
}

#[test]
fn one_socket_tells_of_room_too() {
    let socket = udp::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &Options::default()).unwrap();
    assert!(wait_writable(socket.fds(), LOOK).unwrap());
}

#[test]
fn wait_ends_by_its_timeout() {
    let wake = Wake::new().unwrap();
    assert!(!wait_readable(&[wake.fd()], Some(Duration::from_nanos(1500))).unwrap().any());
    assert!(!wait_readable(&[], Some(Duration::from_micros(10))).unwrap().any());
}

#[test]
fn thread_is_pinned() {
    // CPU 0 may be forbidden to us; a CPU that cannot exist must be named.
    thread::spawn(|| {
        let error = pin_to_cpu(100_000).unwrap_err();
        assert!(error.to_string().contains("CPU 100000"), "{error}");
        let allowed = (0..1024).find(|&cpu| pin_to_cpu(cpu).is_ok()).expect("some CPU");
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        assert_eq!(list.map(str::trim), Some(allowed.to_string().as_str()));
    })
    .join()
    .unwrap();
}

over_each_backend!(wait_tells_which);
