//! `--profile` of commands that have a socket.

use clap::ValueEnum;
use sealane::builder::Ready;
use sealane::{Builder, Profile};

/// What a socket is to be good at.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Named {
    /// Looks without pause, a core per waiting thread; each message in packets of its own
    Latency,
    /// Looks for 20 us, then sleeps; small messages share packets
    Balanced,
    /// Sleeps at once; small messages share packets; a larger receive buffer
    Throughput,
}

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Choice {
    /// What the socket is to be good at
    #[arg(long, value_enum, default_value_t = Named::Balanced)]
    profile: Named,
}

impl Choice {
    pub(crate) fn apply(self, builder: Builder<Ready>) -> Builder<Ready> {
        builder.profile(match self.profile {
            Named::Latency => Profile::Latency,
            Named::Balanced => Profile::Balanced,
            Named::Throughput => Profile::Throughput,
        })
    }
}
