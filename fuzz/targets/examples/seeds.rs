//! Writes the inputs that fuzzing begins with: what honest hosts say, and short scripts of each kind of act.
//! `cargo run -p targets --example seeds -- fuzz/corpus`

use std::path::Path;

use endpoint::pool::Payload;
use sim::clock::{MS, SEC, Time};
use sim::fabric::Network;
use sim::hooks::{Hooks, Spec};
use sim::link::Frame;
use sim::malice::forge::frames;
use sim::world::World;
use wire::control::{Frame as Control, RefusalCode};
use wire::geometry::Geometry;
use wire::ids::{RpcId, Side};
use wire::trailer::{Kind, Trailer};

/// Keeps the first frames of each kind.
#[derive(Default)]
struct Keep(Vec<Vec<u8>>);

impl Hooks for Keep {
    fn left(&mut self, _: Time, frame: &Frame) {
        let alike = self.0.iter().filter(|kept| kept[0] == frame.bytes[0]).count();
        if alike < 6 {
            self.0.push(frame.bytes.clone());
        }
    }
}

fn packets() -> Vec<Vec<u8>> {
    let mut world = World::new(Spec::new(1, Network::pair()), Keep::default());
    world.acquaint(0, 1);
    world.connect(0, 1).expect("a handshake begins");
    world.run(10 * MS);
    for len in [0, 100, 5000, 200_000] {
        let to = Payload::from(vec![7; len]);
        world.send(0, 1, Kind::OneWay, to, 0).expect("it is taken");
    }
    world.run(SEC);
    world.hooks.0
}

fn controls() -> Vec<Vec<u8>> {
    let (ours, theirs) = (RpcId::new(Side::Client, 5), RpcId::new(Side::Server, 1));
    let all = [
        Control::Grant { rpc: theirs, offset: 100_000, priority: 3 },
        Control::Resend { rpc: theirs, start: 0, end: u32::MAX },
        Control::Busy { rpc: ours },
        Control::Unknown { rpc: theirs },
        Control::Ack { rpc: theirs },
        Control::NeedAck { rpc: ours },
        Control::Cancel { rpc: ours },
        Control::Refused { rpc: theirs, code: RefusalCode::Forgotten },
        Control::Cutoffs { version: 1, cutoffs: [100, 1000, 10_000, u32::MAX, 0, 0, 0, 0] },
        Control::PathChallenge { token: 1 },
        Control::PathResponse { token: 1 },
        Control::EpochReady { epoch: 1 },
        Control::Floor { floor: 3 },
        Control::Done,
        Control::Renew,
        Control::Close,
    ];
    all.iter().map(|frame| frames(core::slice::from_ref(frame))).collect()
}

fn trailers() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (sequence, role, kind) in
        [(9u16, 0u8, Kind::Request), (9, 0, Kind::OneWay), (0, 8, Kind::Response), (2, 0, Kind::OneWay)]
    {
        for (length, payload) in [(40u32, 100u16), (400, 100), (0, 1)] {
            let geometry = Geometry::stated(length, payload).expect("it can be cut");
            let mut input = Vec::new();
            for index in 0..geometry.records() as u16 {
                let len = geometry.bytes(index).len() as u16;
                let trailer = Trailer {
                    unscheduled: length,
                    floor_distance: u32::from(sequence),
                    ..Trailer::new(geometry, kind)
                };
                input.extend(sequence.to_be_bytes());
                input.extend([role, index as u8]);
                input.extend(len.to_be_bytes());
                input.extend(trailer.emit());
            }
            inputs.push(input);
        }
    }
    inputs
}

/// Texts, strings, bytes and changes. The bytes are those of a ticket whose certificate and signature say nothing.
fn tickets() -> Vec<Vec<u8>> {
    let mut bytes = vec![1, 0, 0x20, 0, 1, 0, 1, 7];
    [0u64, 3600].iter().for_each(|time| bytes.extend(time.to_be_bytes()));
    bytes.extend([9; 32]);
    bytes.extend([1, 0, 4, 0x30, 2, 5, 0, 4, 3, 0, 2, 7, 7]);
    let ticket = handshake::published::Ticket::decode(&bytes).expect("it has a meaning");
    let (text, strings) = (ticket.to_text(), ticket.to_txt().concat());
    let of = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    vec![
        of(0, text.as_bytes()),
        of(0, format!("before\n{text}after").as_bytes()),
        of(0, text.repeat(2).as_bytes()),
        of(0, &text.as_bytes()[..70]),
        of(1, strings.as_bytes()),
        of(1, b"v=spf1 -all"),
        of(2, &bytes),
        of(2, &bytes[..40]),
        of(2, &[&bytes[..], &[0]].concat()),
        of(3, &[]),
        of(3, &[0, 0, 1]),
        of(3, &[0, 60, 1, 1, 200, 2]),
        of(3, &[0, 9, 0]),
    ]
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("the folder of the corpora");
    let write = |target: &str, inputs: Vec<Vec<u8>>| {
        let folder = Path::new(&folder).join(target);
        std::fs::create_dir_all(&folder)?;
        inputs.iter().enumerate().try_for_each(|(n, input)| std::fs::write(folder.join(format!("seed-{n:02}")), input))
    };
    let packets = packets();
    let mut opens: Vec<Vec<u8>> =
        (0..12u8).map(|how| [&[how.wrapping_mul(67), 1, 0, 99, 0, 3, how % 2][..], &[5; 250]].concat()).collect();
    opens.extend(packets.iter().filter(|packet| packet[0] & 0xf == 1).map(|packet| [&[0; 7], &packet[20..]].concat()));
    let controls = controls();
    let said = controls.iter().map(|frames| [&(frames.len() as u16).to_be_bytes()[..], frames].concat()).collect();
    let mut first = controls.concat();
    first.truncate(1000);
    write("packet", packets.into_iter().chain(controls).chain([first]).collect())?;
    write("open", opens)?;
    write("control", said)?;
    write("trailer", trailers())?;
    let carried: Vec<u8> = [0x00, 0x80].repeat(30);
    let flights = (0..24u8).map(|n| {
        let act: &[u8] = match n / 4 {
            0 => &[],
            1 => &[3],
            2 => &[4, 0, 60, 1],
            3 => &[0x86, 0x80],
            4 => &[7, 20],
            _ => &[5, 0, 4, 0x13, 1, 0, 7],
        };
        [&[n % 4][..], act, &carried].concat()
    });
    write("flight", flights.collect())?;
    write("ticket", tickets())?;
    let call = [0u8, 0, 1, 40, 100, 200, 30];
    let scripts = (0..16u8).map(|n| [&[n][..], &call, &[n, 1, 9, 3, 2], &call, &[6, 18, n, 0, 0], &call].concat());
    write("acts", scripts.collect())
}
