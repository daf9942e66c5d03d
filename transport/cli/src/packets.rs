//! `--mtu` and `--spanning-records` of commands that have a socket: what their packets and records are cut to.

use sealane::Builder;
use sealane::builder::Ready;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Cut {
    /// Keep to a path MTU of so many bytes, IP header included [default: that of each peer's route]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1280..=65_535))]
    mtu: Option<u32>,
    /// Where packets are small, send longer messages in records that span them; for paths that keep the order of packets
    #[arg(long)]
    spanning_records: bool,
}

impl Cut {
    pub(crate) fn apply(self, builder: Builder<Ready>) -> Builder<Ready> {
        let builder = builder.spanning_records(self.spanning_records);
        match self.mtu {
            Some(bytes) => builder.mtu(bytes),
            None => builder,
        }
    }
}
