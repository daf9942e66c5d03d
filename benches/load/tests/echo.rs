//! Every peer echoes messages of every size, in both modes, one and many at a time; all bytes are verified.

use std::time::Duration;

use load::{Host, Mode, PeerKind, Plan, Report, Runner, Session};

fn run(peers: Vec<PeerKind>, sizes: &[usize], outstanding: usize, mode: Mode) -> Report {
    let mut plan = Plan::load(sizes.to_vec(), vec![outstanding], mode);
    plan.peers = peers;
    plan.rounds = 1;
    plan.cell = Duration::from_millis(10);
    let report = Runner::new(plan, Host::Thread).unwrap().run(&mut |_| ());
    assert!(report.is_good(), "{:?} {:?}", report.failed, report.rows);
    for row in &report.rows {
        assert!(row.verified > 0 && row.corrupt == 0 && row.lost == 0, "{row:?}");
        assert!(row.p50_us > 0.0 && row.rps > 0.0, "{row:?}");
        let is_mutual = |s: &Session| s.mutual && s.handshake_us > 0.0;
        let is_sealane = row.peer == PeerKind::Sealane;
        assert_eq!(row.session.as_ref().map(is_mutual), is_sealane.then_some(true), "{row:?}");
    }
    report
}

const SIZES: [usize; 5] = [1, 64, 1024, 65_536, 1 << 20];

/// Where packets, trains and records end.
const EDGES: [usize; 7] = [1440, 1441, 16_380, 16_384, 16_385, 65_507, 200_001];

fn expect_rows(report: &Report, peers: usize, sizes: usize) {
    assert_eq!(report.rows.len(), peers * sizes);
}

#[test]
fn one_at_a_time() {
    for mode in [Mode::Block, Mode::Spin] {
        let peers = PeerKind::default_set(1);
        let report = run(peers.clone(), &SIZES, 1, mode);
        // One datagram does not hold the largest two.
        assert_eq!(report.rows.len(), peers.len() * SIZES.len() - 2);
    }
}

#[test]
fn many_at_a_time() {
    for mode in [Mode::Block, Mode::Spin] {
        let peers = PeerKind::default_set(16);
        expect_rows(&run(peers.clone(), &SIZES, 16, mode), peers.len(), SIZES.len());
    }
}

#[test]
fn sizes_at_which_something_ends() {
    let peers = PeerKind::default_set(16);
    for outstanding in [1, 3] {
        expect_rows(&run(peers.clone(), &EDGES, outstanding, Mode::Block), peers.len(), EDGES.len());
    }
}

/// Larger than any receive buffer: must be held back, not lost.
#[test]
fn a_message_larger_than_the_window_of_raw_udp() {
    for outstanding in [1, 2] {
        let report = run(vec![PeerKind::Udp], &[40 << 20], outstanding, Mode::Spin);
        assert_eq!(report.lost, 0);
    }
}

#[test]
fn another_mtu() {
    let mut plan = Plan::rtt(vec![64, 65_536], Mode::Block);
    plan.peers = vec![PeerKind::Udp];
    (plan.mtu, plan.rounds, plan.cell) = (Some(9000), 1, Duration::from_millis(10));
    let report = Runner::new(plan, Host::Thread).unwrap().run(&mut |_| ());
    assert!(report.is_good() && report.verified > 0, "{:?}", report.failed);
}

#[test]
fn a_wrong_plan_is_refused_with_what_is_wrong() {
    let refused = |plan: Plan| Runner::new(plan, Host::Thread).unwrap_err().to_string();
    assert!(refused(Plan::rtt(vec![65 << 20], Mode::Spin)).contains("size 68157440"));
    assert!(refused(Plan::load(vec![64], vec![0], Mode::Spin)).contains("outstanding 0"));
    let mut plan = Plan::rtt(vec![64], Mode::Spin);
    plan.mtu = Some(100);
    assert!(refused(plan).contains("mtu 100"));
}

#[test]
fn a_server_that_does_not_start_is_a_failed_peer_not_a_failed_run() {
    let mut plan = Plan::rtt(vec![64], Mode::Spin);
    plan.peers = vec![PeerKind::Udp, PeerKind::Tcp];
    plan.rounds = 2;
    let host = Host::Child { program: "/bin/false".into(), args: Vec::new() };
    let report = Runner::new(plan, host).unwrap().run(&mut |_| ());
    assert!(!report.is_good() && report.rows.is_empty());
    assert_eq!(report.failed.len(), 2);
    assert!(report.failed[1].error.contains("`tcp` did not start"), "{:?}", report.failed);
}
