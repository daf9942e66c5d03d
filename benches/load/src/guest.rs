//! What an RPC costs in instructions, in a machine whose clock counts them.
//!
//! Owns the cells of that run and its rows. `benches/vm` makes such a machine: emulated, with one CPU, one nanosecond of its clock per
//! instruction of everything in it, kernel included. On any other machine the figures are nanoseconds, and mean little.
//! Refuses: knowing how the machine was made.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cell;
use crate::certs::Credentials;
use crate::ktls;
use crate::report::{Failure, Missing};
use crate::server::Host;
use crate::spec::{Mode, PeerKind, Spec};

/// Instructions per RPC of one peer at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The transport.
    pub peer: PeerKind,
    /// Bytes of each request and of each reply.
    pub size: usize,
    /// `block`: two processes that sleep. `turns`: one thread serves both sides in turn, which is what two spinning sides do without
    /// the waiting.
    pub mode: Mode,
    /// RPCs measured, after as many for warming up.
    pub count: u64,
    /// Instructions of the whole machine per RPC: user and kernel, both sides, the checks of replies left out.
    pub instructions: f64,
    /// Against the kernel's TLS in this run: below 1 is fewer.
    pub ratio_to_ktls: Option<f64>,
}

/// All that a run in the machine gave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Costs {
    /// The figures.
    pub rows: Vec<Cost>,
    /// What went wrong.
    pub failed: Vec<Failure>,
    /// What this kernel does not have.
    pub missing: Vec<Missing>,
    /// The kernel's release.
    pub kernel: String,
    /// What the machine is.
    pub machine: String,
}

/// Measures all peers that are compared there.
///
/// # Errors
/// When no credentials can be made. A peer that fails is a row of `failed`.
pub fn costs(sizes: &[usize], count: u64, machine: &str, progress: &mut dyn FnMut(String)) -> Result<Costs> {
    let (host, credentials) = (Host::this_binary()?, Credentials::generate()?);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let mut costs = Costs { kernel, machine: machine.to_owned(), ..Costs::default() };
    let mut peers =
        vec![PeerKind::Udp, PeerKind::UdpIdeal, PeerKind::Tcp, PeerKind::Ktls, PeerKind::Tls, PeerKind::Sealane];
    if let Some(why) = ktls::missing() {
        peers.retain(|peer| *peer != PeerKind::Ktls);
        costs.missing.push(Missing { peer: PeerKind::Ktls, why });
    }
    for mode in [Mode::Block, Mode::Turns] {
        for &size in sizes {
            for &peer in &peers {
                // Long messages take long; their figures do not scatter.
                let count = (count * 1024 / size.max(1024) as u64).max(50).min(count);
                progress(format!("{peer} {size} B {mode}"));
                match cell::cost(&Spec::new(peer, mode, size), &host, &credentials, count) {
                    Ok(instructions) => {
                        costs.rows.push(Cost { peer, size, mode, count, instructions, ratio_to_ktls: None });
                    }
                    Err(error) => {
                        let error = format!("{mode}: {error:#}");
                        costs.failed.push(Failure { peer, size, outstanding: 1, error });
                    }
                }
            }
        }
    }
    let base = costs.rows.clone();
    for row in &mut costs.rows {
        let is_base = |base: &&Cost| (base.peer, base.size, base.mode) == (PeerKind::Ktls, row.size, row.mode);
        let ktls = base.iter().find(is_base).map(|base| base.instructions);
        row.ratio_to_ktls = ktls.map(|ktls| (row.instructions / ktls * 1e4).round() / 1e4);
    }
    Ok(costs)
}
