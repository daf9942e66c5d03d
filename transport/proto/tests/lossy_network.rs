//! Mixed loads over networks that lose, repeat and reorder: every call ends, everything is delivered, nothing twice.

mod net;

use std::time::Duration;

use net::{Fate, Faults, NO_FAULTS, Net, Rng};
use proto::config::{Config, GrantWindow, Order, Priorities};
use wire::trailer::Kind;

const SEEDS: u64 = 400;

const FIXED: Priorities = Priorities::Fixed([100, 3_000, u32::MAX, 0, 0, 0, 0, 0]);

fn config(rng: &mut Rng) -> Config {
    Config {
        serving: true,
        unscheduled_bytes: [4_000, 16_000, 128 << 10][rng.below(3) as usize],
        grant_window: [GrantWindow::Fixed(64 << 10), GrantWindow::Dynamic][rng.below(2) as usize],
        incoming_bytes_max: [8 << 10, 100_000, 2 << 20][rng.below(3) as usize],
        overcommit: [None, Some(1), Some(3), Some(8)][rng.below(4) as usize],
        unscheduled_bytes_min: [2_000, 10_000][rng.below(2) as usize],
        link_bits_per_second: [None, Some(10_000_000_000), Some(1_000_000_000)][rng.below(3) as usize],
        backlog_max: Duration::from_micros([0, 5][rng.below(2) as usize]),
        grant_step_bytes: [None, Some(1)][rng.below(2) as usize],
        fifo_share_per_mille: [0, 50, 500][rng.below(3) as usize],
        priorities: [Priorities::Off, Priorities::Measured { messages: 10 }, FIXED][rng.below(3) as usize],
        priority_by_left: rng.chance(50),
        order: [Order::Srpt, Order::Srpt, Order::Fifo][rng.below(3) as usize],
        incast_calls: [None, Some(0), Some(4)][rng.below(3) as usize],
        buffered_bytes_max: [3 << 20, 1 << 30][rng.below(2) as usize],
        rpcs_per_peer_max: [3, 1 << 16][rng.below(2) as usize],
        intervals_max: [32, 4096][rng.below(2) as usize],
        ..Config::default()
    }
}

fn load(net: &mut Net, calls: u64, rng: &mut Rng) {
    for _ in 0..calls {
        let kind = if rng.chance(25) { Kind::OneWay } else { Kind::Request };
        let wait = Duration::from_micros(rng.below(3_000));
        net.begin_after(wait, rng.below(2) as usize, kind, rng.length());
    }
}

/// [P-7.1] [P-8.5] With a network that only sometimes delivers, each message is delivered exactly once.
#[test]
fn every_call_ends_well() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed.wrapping_mul(77));
        let faults = Faults {
            loss_percent: [0, 1, 10, 30][rng.below(4) as usize],
            repeat_percent: [0, 10][rng.below(2) as usize],
            delay_steps: [1, 4, 60][rng.below(3) as usize],
        };
        let mut net = Net::new(seed, config(&mut rng), faults);
        load(&mut net, 24, &mut rng);
        assert!(net.run(Duration::from_secs(120)), "it does not come to rest");
        net.assert_quiet();
        for (side, other) in [(0, 1), (1, 0)] {
            for (rpc, fate) in &net.nodes[side].calls {
                assert!(matches!(fate, Fate::Answered | Fate::Arrived), "{rpc:?} {fate:?}");
                assert!(net.nodes[other].delivered.contains(rpc));
            }
        }
    }
}

/// A network without faults never makes anybody send a record twice, however long messages wait for grants.
#[test]
fn nothing_is_repeated_without_need() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed.wrapping_mul(31));
        // On a slower link, or where age counts, a sender may be silent for longer than the least patience: others go first.
        let link = [None, Some(10_000_000_000)][rng.below(2) as usize];
        let config = Config {
            buffered_bytes_max: 1 << 30,
            rpcs_per_peer_max: 1 << 16,
            intervals_max: 4096,
            link_bits_per_second: link,
            order: Order::Srpt,
            resend_min: Duration::from_millis(1),
            ..config(&mut rng)
        };
        let mut net = Net::new(seed, config, NO_FAULTS);
        load(&mut net, 16, &mut rng);
        assert!(net.run(Duration::from_secs(10)), "it does not come to rest");
        net.assert_quiet();
        assert_eq!((net.nodes[0].wasted, net.nodes[1].wasted), (0, 0));
    }
}

/// [P-8.6] Calls that are cancelled at any moment leave nothing behind, and disturb no others.
#[test]
fn cancelled_calls_leave_nothing_behind() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed.wrapping_mul(91));
        let faults = Faults { loss_percent: rng.below(2) * 20, repeat_percent: 10, delay_steps: 1 + rng.below(40) };
        let mut net = Net::new(seed, config(&mut rng), faults);
        load(&mut net, 12, &mut rng);
        for call in 0..6 {
            net.cancel_after(Duration::from_micros(rng.below(5_000)), rng.below(2) as usize, call);
        }
        assert!(net.run(Duration::from_secs(120)), "it does not come to rest");
        net.assert_quiet();
        let calls = net.nodes.iter().flat_map(|n| &n.calls);
        assert!(calls.into_iter().all(|(_, fate)| matches!(fate, Fate::Answered | Fate::Arrived | Fate::Cancelled)));
    }
}

/// With a peer that falls silent at any moment every call fails and every slot is freed, soon after its time is up.
#[test]
fn a_dead_peer_ends_everything() {
    for seed in 0..SEEDS {
        let mut rng = Rng::new(seed.wrapping_mul(13));
        let faults = Faults { loss_percent: rng.below(2) * 10, repeat_percent: 5, delay_steps: 1 + rng.below(40) };
        let mut net = Net::new(seed, config(&mut rng), faults);
        load(&mut net, 12, &mut rng);
        let dead = rng.below(2) as usize;
        net.die_after(Duration::from_micros(rng.below(6_000)), dead);
        let timeout = net.nodes[0].machine.config().peer_timeout;
        assert!(net.run(timeout * 3), "it does not come to rest");
        net.assert_quiet();
        let calls = &net.nodes[1 - dead].calls;
        assert!(calls.iter().all(|(_, fate)| *fate != Fate::Open && *fate != Fate::Cancelled));
    }
}

/// The same seed gives the same run.
#[test]
fn a_seed_is_a_run() {
    let run = || {
        let mut rng = Rng::new(5);
        let faults = Faults { loss_percent: 20, repeat_percent: 10, delay_steps: 20 };
        let mut net = Net::new(5, config(&mut rng), faults);
        load(&mut net, 12, &mut rng);
        net.run(Duration::from_secs(120));
        (net.now, net.nodes[0].order.clone(), net.nodes[1].order.clone())
    };
    assert_eq!(run(), run());
}
