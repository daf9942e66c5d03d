//! Once warm, an RPC allocates nothing: not when begun, granted, answered, acknowledged or freed.

use std::time::Duration;

use proto::config::Config;
use proto::io::{Arrival, Event, State};
use proto::machine::Machine;
use proto::time::Instant;
use wire::control::Frame;
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::trailer::{Kind, Trailer};

struct World {
    machines: [Machine; 2],
    now: Instant,
    next: u64,
    /// Records under way to each side, and frames.
    records: [Vec<(RpcId, u16, Trailer)>; 2],
    frames: [Vec<Frame>; 2],
}

impl World {
    fn new() -> Self {
        let config = Config { serving: true, unscheduled_bytes: 16_000, ..Config::default() };
        let machine = |side| {
            let mut machine = Machine::new(config, (3, 4));
            machine.open_peer(0, side, Duration::from_micros(50), 16_000, 0);
            machine
        };
        Self {
            machines: [machine(Side::Client), machine(Side::Server)],
            now: Instant::ZERO,
            next: 0,
            records: [Vec::new(), Vec::new()],
            frames: [Vec::new(), Vec::new()],
        }
    }

    fn trailer(machine: &Machine, geometry: Geometry, kind: Kind, distance: u64) -> Trailer {
        let unscheduled = machine.unscheduled(0, geometry);
        Trailer { unscheduled, floor_distance: distance as u32, ..Trailer::new(geometry, kind) }
    }

    /// `open` calls at once, each of `length` bytes there and back.
    fn round(&mut self, open: u64, length: usize) {
        let geometry = Geometry::cut(length, 1472);
        for _ in 0..open {
            let id = RpcId::new(Side::Client, self.next);
            self.next += 1;
            self.machines[0].begin(self.now, 0, id, Kind::Request, geometry, Instant::FAR);
        }
        let mut done = 0;
        while done < open {
            self.now += Duration::from_micros(20);
            for side in 0..2 {
                self.send(side, geometry);
            }
            for side in 0..2 {
                done += self.receive(side, geometry);
            }
        }
    }

    fn send(&mut self, side: usize, geometry: Geometry) {
        let machine = &mut self.machines[side];
        machine.handle_timeout(self.now);
        while let Some(work) = machine.next_work(self.now, 64) {
            let (id, ..) = machine.rpc(work.slot).expect("it is open");
            let kind = if side == 0 { Kind::Request } else { Kind::Response };
            let distance = if side == 0 { id.sequence() - machine.floor(0) } else { 0 };
            let trailer = Self::trailer(machine, geometry, kind, distance);
            self.records[1 - side].extend(work.records().map(|index| (id, index as u16, trailer)));
        }
        while machine.peek_talkative().is_some() {
            machine.next_frames(|frame| {
                self.frames[1 - side].push(*frame);
                true
            });
        }
    }

    fn receive(&mut self, side: usize, geometry: Geometry) -> u64 {
        let (machine, now) = (&mut self.machines[side], self.now);
        let mut done = 0;
        for frame in self.frames[side].drain(..) {
            assert!(machine.frame(now, 0, frame));
        }
        for (id, index, trailer) in self.records[side].drain(..) {
            let found = machine.find(0, id);
            if let Arrival::New { slot, complete: true, .. } = machine.arrived(now, 0, id, found, index, &trailer) {
                match machine.rpc(slot).expect("it is open").2 {
                    State::InService => assert!(machine.respond(now, slot, geometry)),
                    _ => {
                        machine.free(slot);
                        done += 1;
                    }
                }
            }
        }
        machine.schedule_grants();
        while let Some(event) = machine.next_event() {
            assert!(matches!(event, Event::Released { acknowledged: true, .. }));
            machine.free(event.slot());
        }
        done
    }
}

/// One at a time and many at once; of one record, and of as many as need grants and fit a word.
#[test]
fn a_warm_machine_allocates_nothing() {
    for (open, length) in [(1, 100), (50, 1_000), (1, 60_000), (20, 60_000)] {
        let mut world = World::new();
        for _ in 0..2_000 / open.min(10) {
            world.round(open, length);
        }
        let count = allocation_counter::measure(|| {
            for _ in 0..2_000 / open.min(10) {
                world.round(open, length);
            }
        });
        assert_eq!(count.count_total, 0, "{open} calls of {length} bytes");
    }
}
