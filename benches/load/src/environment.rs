//! Where a run took place: what a reader must know before comparing two of them.
//!
//! Owns questions to the kernel about itself. Refuses: failing; what cannot be learnt is `unknown`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use udp::Datagrams;

use crate::{cpu, stream};

/// The machine and the build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name.
    pub processor: String,
    /// CPUs that this process may use.
    pub cpus: usize,
    /// Whether client and server each had a CPU of their own.
    pub pinned: bool,
    /// Congestion control of the TCP sockets.
    pub tcp_congestion: String,
    /// Whether UDP trains leave in one call.
    pub udp_gso: String,
    /// Whether UDP trains arrive in one call.
    pub udp_gro: bool,
    /// Path MTU asked for, if any.
    pub mtu: Option<u32>,
    /// `release` or `debug`.
    pub build: String,
    /// Load average over a minute when the run began: near 0 on a quiet machine.
    pub load_average: String,
    /// Rounds.
    pub rounds: u32,
    /// Measured time per cell and round, in milliseconds.
    pub cell_ms: u64,
}

impl Environment {
    /// Of this machine, for a run of so many rounds and milliseconds a cell.
    pub fn new(mtu: Option<u32>, rounds: u32, cell_ms: u64) -> Self {
        let socket = udp::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &Default::default());
        let caps = socket.as_ref().ok().map(Datagrams::caps);
        Self {
            kernel: line("/proc/sys/kernel/osrelease", |text| text.lines().next()),
            processor: line("/proc/cpuinfo", |text| {
                text.lines().find(|l| l.starts_with("model name"))?.split_once(": ").map(|p| p.1)
            }),
            cpus: cpu::allowed().len(),
            pinned: cpu::pair().is_some(),
            tcp_congestion: stream::congestion(),
            udp_gso: caps.map_or_else(unknown, |caps| caps.gso.to_string()),
            udp_gro: caps.is_some_and(|caps| caps.gro),
            mtu,
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            load_average: line("/proc/loadavg", |text| text.split(' ').next()),
            rounds,
            cell_ms,
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str, pick: fn(&str) -> Option<&str>) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    pick(&text).map_or_else(unknown, str::to_owned)
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pinned = if self.pinned { "one each for client and server" } else { "not pinned" };
        writeln!(
            f,
            "{}, Linux {}, {} CPUs ({pinned}), load {}",
            self.processor, self.kernel, self.cpus, self.load_average
        )?;
        let gro = if self.udp_gro { "yes" } else { "no" };
        write!(
            f,
            "TCP {}, UDP GSO {}, GRO {gro}, {} build, {} rounds of {} ms",
            self.tcp_congestion, self.udp_gso, self.build, self.rounds, self.cell_ms
        )
    }
}
