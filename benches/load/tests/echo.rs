//! Every peer echoes messages of every size, in both modes, one and many at a time; all bytes are verified.

use std::time::Duration;

use load::{Host, Mode, Open, PeerKind, Plan, Report, Row, Runner, Session};

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

/// Every peer that this machine has, at every size.
fn expect_rows(report: &Report, peers: usize, sizes: usize) {
    assert_eq!(report.rows.len(), (peers - report.missing.len()) * sizes);
}

/// The same, of the default set: the floor that seals takes none longer than 1 MiB, and under load none that would share trains.
fn expect_rows_of_all(report: &Report, peers: usize, sizes: &[usize], outstanding: usize) {
    let not_sealed = sizes.iter().filter(|&&size| size > 1 << 20 || outstanding > 1 && size < 32_768);
    assert_eq!(report.rows.len(), (peers - report.missing.len()) * sizes.len() - not_sealed.count());
}

/// How many of these can wait like that.
fn waiting(peers: &[PeerKind], mode: Mode) -> usize {
    peers.iter().filter(|peer| !peer.is_heavy() || matches!(mode, Mode::Block | Mode::Spin)).count()
}

#[test]
fn one_at_a_time() {
    for mode in [Mode::Block, Mode::Spin, Mode::Adaptive, Mode::Turns] {
        let peers = PeerKind::default_set(1);
        let report = run(peers.clone(), &SIZES, 1, mode);
        expect_rows_of_all(&report, waiting(&peers, mode), &SIZES, 1);
    }
}

#[test]
fn many_at_a_time() {
    for mode in [Mode::Block, Mode::Spin, Mode::Adaptive] {
        let peers = PeerKind::default_set(16);
        let report = run(peers.clone(), &SIZES, 16, mode);
        expect_rows_of_all(&report, waiting(&peers, mode), &SIZES, 16);
    }
}

#[test]
fn sizes_at_which_something_ends() {
    let peers = PeerKind::default_set(16);
    for outstanding in [1, 3] {
        let report = run(peers.clone(), &EDGES, outstanding, Mode::Block);
        expect_rows_of_all(&report, peers.len(), &EDGES, outstanding);
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
    for mtu in [1500, 9000] {
        let mut plan = Plan::rtt(vec![64, 65_536], Mode::Block);
        (plan.mtu, plan.rounds, plan.cell) = (Some(mtu), 1, Duration::from_millis(10));
        let report = Runner::new(plan, Host::Thread).unwrap().run(&mut |_| ());
        assert!(report.is_good() && report.verified > 0, "{:?}", report.failed);
    }
}

/// The server finds the sum of every message, and the client knows what it must be.
#[test]
fn messages_one_way() {
    for mode in [Mode::Block, Mode::Spin] {
        let mut plan = Plan::bulk(vec![5000, 1 << 20, 20 << 20], mode);
        (plan.rounds, plan.cell) = (1, Duration::from_millis(10));
        let peers = plan.peers.len();
        let report = Runner::new(plan, Host::Thread).unwrap().run(&mut |_| ());
        assert!(report.is_good() && report.lost == 0, "{:?} {:?}", report.failed, report.rows);
        expect_rows(&report, peers, 3);
        assert!(report.rows.iter().all(|row| row.verified > 0 && row.mb_s > 0.0 && row.outstanding > 1));
    }
}

#[test]
fn arrivals_at_a_rate_with_a_long_message_beside() {
    let mut plan = Plan::load(vec![64], vec![8], Mode::Spin);
    plan.peers = vec![PeerKind::Udp, PeerKind::Tcp, PeerKind::Tls, PeerKind::Sealane];
    (plan.open, plan.beside) = (Some(Open::Share(0.3)), Some(200_000));
    (plan.rounds, plan.cell) = (1, Duration::from_millis(40));
    let report = Runner::new(plan, Host::Thread).unwrap().run(&mut |_| ());
    assert!(report.is_good() && report.lost == 0, "{:?} {:?}", report.failed, report.rows);
    let closed = |row: &&Row| row.open_rate.is_none();
    let ours = report.rows.iter().filter(closed).find(|row| row.peer == PeerKind::Sealane).unwrap();
    let open: Vec<&Row> = report.rows.iter().filter(|row| !closed(row)).collect();
    // Raw UDP has no frames. The others at their own rate and at ours, which for us is the same.
    assert_eq!(open.len(), 5, "{open:?}");
    let at_ours = open.iter().filter(|row| row.open_rate == Some((ours.rps * 0.3).round()));
    assert!(at_ours.clone().count() >= 3, "{open:?}");
    assert!(at_ours.clone().all(|row| row.ratio_to_tls.is_some() && row.beside_us > Some(0.0)), "{open:?}");
}

#[test]
fn a_peer_that_this_kernel_has_not_is_missing_and_says_why() {
    let report = run(vec![PeerKind::Tcp, PeerKind::Ktls], &[64, 100_000], 1, Mode::Block);
    match &report.missing[..] {
        [] => expect_rows(&report, 2, 2),
        [missing] => assert!(missing.peer == PeerKind::Ktls && missing.why.contains("TLS"), "{missing:?}"),
        more => panic!("{more:?}"),
    }
}

#[test]
fn a_wrong_plan_is_refused_with_what_is_wrong() {
    let refused = |plan: Plan| Runner::new(plan, Host::Thread).unwrap_err().to_string();
    assert!(refused(Plan::rtt(vec![65 << 20], Mode::Spin)).contains("size 68157440"));
    assert!(refused(Plan::load(vec![64], vec![0], Mode::Spin)).contains("outstanding 0"));
    let mut plan = Plan::rtt(vec![64], Mode::Spin);
    plan.mtu = Some(100);
    assert!(refused(plan).contains("mtu 100"));
    let mut plan = Plan::load(vec![64], vec![8], Mode::Block);
    plan.open = Some(Open::Share(0.5));
    assert!(refused(plan.clone()).contains("mode spin"));
    (plan.mode, plan.open) = (Mode::Spin, Some(Open::Share(7.0)));
    assert!(refused(plan).contains("share of 7"));
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
