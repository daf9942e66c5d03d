//! Owns why there is no card to use, and how one that is there fails: each reason by itself, in words.

use std::fmt;

/// Why this machine has no card that can seal for us. In the order in which it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// A library is not installed, or cannot be loaded. With the loader's words.
    Library {
        /// Its name.
        name: &'static str,
        /// Which package of Debian and Ubuntu has it.
        package: &'static str,
        /// What the loader said.
        why: String,
    },
    /// A library lacks a function: it is too old.
    Symbol {
        /// The library.
        library: &'static str,
        /// What the loader said of the function.
        why: String,
    },
    /// The libraries know of no RDMA device.
    NoDevice,
    /// There are devices, but none with that name.
    NoSuchDevice {
        /// What was asked for.
        wanted: String,
        /// What there is.
        present: Vec<String>,
    },
    /// The device is of another maker or family.
    NotMlx5 {
        /// Its name.
        device: String,
    },
    /// The process may not send raw Ethernet frames.
    NoRawAccess {
        /// The device.
        device: String,
    },
    /// The device or its driver gives no direct access to its commands (DEVX).
    NoDevx {
        /// The device.
        device: String,
        /// The error number of the system.
        errno: i32,
    },
    /// The firmware does not seal TLS records.
    NoTls {
        /// What exactly it lacks.
        lacks: &'static str,
    },
    /// A step of making it ready failed.
    Step {
        /// Which one.
        step: &'static str,
        /// The error number of the system.
        errno: i32,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library { name, package, why } => {
                write!(f, "the library {name} cannot be loaded ({why}); the package {package} has it")
            }
            Self::Symbol { library, why } => write!(f, "{library} is too old, it lacks a function: {why}"),
            Self::NoDevice => f.write_str("there is no RDMA device"),
            Self::NoSuchDevice { wanted, present } if present.is_empty() => {
                write!(f, "there is no RDMA device, so none called {wanted}")
            }
            Self::NoSuchDevice { wanted, present } => {
                write!(f, "no RDMA device is called {wanted}; there is {}", present.join(", "))
            }
            Self::NotMlx5 { device } => write!(f, "{device} is no ConnectX card with the mlx5 driver"),
            Self::NoRawAccess { device } => {
                write!(f, "this process may not send raw frames through {device}: it lacks CAP_NET_RAW")
            }
            Self::NoDevx { device, errno } => {
                write!(f, "{device} gives no access to its commands (DEVX): system error {errno}")
            }
            Self::NoTls { lacks } => write!(f, "the firmware cannot seal for us: it lacks {lacks}"),
            Self::Step { step, errno } => write!(f, "{step} failed: system error {errno}"),
        }
    }
}

impl std::error::Error for Missing {}

/// How a card that is there failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failed {
    /// The firmware refused a command.
    Refused {
        /// The command's opcode.
        opcode: u16,
        /// Its status.
        status: u8,
        /// Its syndrome, for the maker's support.
        syndrome: u32,
    },
    /// The driver did, before the firmware saw it.
    System {
        /// The error number.
        errno: i32,
    },
    /// A queue has no room.
    Full,
    /// A queue stopped at an error: nothing it held can be relied on.
    Broken,
    /// There is no such queue.
    NoQueue,
    /// A descriptor could make the card send in clear or tear records, and was not posted. How, in words.
    Unsafe(&'static str),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { opcode, status, syndrome } => {
                write!(f, "the card refused command {opcode:#06x}: status {status:#04x}, syndrome {syndrome:#010x}")
            }
            Self::System { errno } => write!(f, "the driver refused: system error {errno}"),
            Self::Full => f.write_str("the queue is full"),
            Self::Broken => f.write_str("the queue stopped at an error"),
            Self::NoQueue => f.write_str("there is no such queue"),
            Self::Unsafe(why) => write!(f, "a descriptor was kept from the card: {why}"),
        }
    }
}

impl std::error::Error for Failed {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each reason says what it is, and what would help where something would.
    #[test]
    fn reasons_are_words() {
        let device = || "mlx5_0".to_owned();
        let reasons = [
            Missing::Library { name: "libibverbs.so.1", package: "libibverbs1", why: "not found".into() },
            Missing::Symbol { library: "libmlx5.so.1", why: "mlx5dv_init_obj".into() },
            Missing::NoDevice,
            Missing::NoSuchDevice { wanted: device(), present: vec!["rxe0".into()] },
            Missing::NoSuchDevice { wanted: device(), present: vec![] },
            Missing::NotMlx5 { device: "rxe0".into() },
            Missing::NoRawAccess { device: device() },
            Missing::NoDevx { device: device(), errno: 95 },
            Missing::NoTls { lacks: "TLS transmit offload" },
            Missing::Step { step: "registering memory", errno: 12 },
        ];
        let mut said: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert!(said[0].contains("libibverbs1") && said[6].contains("CAP_NET_RAW") && said[3].contains("rxe0"));
        said.sort();
        said.dedup();
        assert_eq!(said.len(), reasons.len(), "each is told apart");
    }
}
