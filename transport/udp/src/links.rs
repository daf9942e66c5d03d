//! Which link datagrams leave by, and what it carries.
//!
//! Owns the question to the kernel's table of interfaces, and how far its answer is believed. Refuses to measure: a link
//! whose rate nobody states is unknown.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::sys;

/// Interfaces that stand on each other (bridge, bond, VLAN) before we stop looking for a device below them.
const DEPTH_MAX: u32 = 4;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const GIGA: u64 = 1_000_000_000;
        if self.0 >= GIGA {
            write!(f, "{} Gbit/s", self.0 as f64 / GIGA as f64)
        } else {
            write!(f, "{} Mbit/s", self.0 as f64 / 1e6)
        }
    }
}

/// What is known of an interface's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// The rate of a device, or of what stands on devices.
    Known(Rate),
    /// A rate is stated, but there is no device: drivers of tunnels and of virtual pairs make up a number (10 Mbit/s and
    /// 10 Gbit/s), which says nothing about the way of the datagrams.
    MadeUp(Rate),
    /// Nothing is stated: loopback, a link that is down, many virtual machines.
    Unknown,
}

/// The kernel's table of interfaces.
#[derive(Debug, Clone)]
pub struct Links {
    root: PathBuf,
}

impl Default for Links {
    /// This machine's, or this container's.
    fn default() -> Self {
        Self::at("/sys/class/net")
    }
}

impl Links {
    /// A table that stands elsewhere: a folder per interface.
    pub fn at(root: impl AsRef<Path>) -> Self {
        Self { root: root.as_ref().to_owned() }
    }

    /// The rate of the interface of this name.
    pub fn speed(&self, name: &str) -> Speed {
        // Mbit/s. The file is there for most interfaces, but reading it is an error or -1 where there is nothing to say.
        let stated = fs::read_to_string(self.root.join(name).join("speed")).ok();
        let megabits = stated.and_then(|text| text.trim().parse::<i64>().ok()).and_then(|n| u64::try_from(n).ok());
        // As -1, but read by the kernel as a number without sign.
        match megabits.filter(|n| (1..u64::from(u32::MAX)).contains(n)) {
            None => Speed::Unknown,
            Some(megabits) if self.has_device(name, DEPTH_MAX) => Speed::Known(Rate(megabits * 1_000_000)),
            Some(megabits) => Speed::MadeUp(Rate(megabits * 1_000_000)),
        }
    }

    /// Whether the interface is a device, or stands on one.
    fn has_device(&self, name: &str, depth: u32) -> bool {
        let folder = self.root.join(name);
        if folder.join("device").exists() {
            return true;
        }
        let Ok(entries) = fs::read_dir(folder) else { return false };
        depth > 0
            && entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .any(|entry| entry.strip_prefix("lower_").is_some_and(|below| self.has_device(below, depth - 1)))
    }
}

/// The name of the interface that has this address; `None` if none has. The port does not matter; the scope does, because
/// link-local addresses mean nothing without it.
///
/// # Errors
/// When the kernel does not say which interfaces there are.
pub fn interface_of(address: SocketAddr) -> io::Result<Option<String>> {
    Ok(sys::interface_with(address)?)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// A folder that is removed when the test ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("udp-links-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// An interface with what its `speed` file says, and further entries.
        fn add(&self, name: &str, speed: Option<&str>, entries: &[&str]) {
            let folder = self.0.join(name);
            entries.iter().for_each(|entry| fs::create_dir_all(folder.join(entry)).unwrap());
            fs::create_dir_all(&folder).unwrap();
            if let Some(speed) = speed {
                fs::write(folder.join("speed"), speed).unwrap();
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn speeds_are_read_as_the_kernel_writes_them() {
        let folder = Folder::new("speeds");
        let links = Links::at(&folder.0);
        for (speed, megabits) in [("100000\n", 100_000), ("2500\n", 2_500), ("10", 10)] {
            folder.add("eth0", Some(speed), &["device"]);
            assert_eq!(links.speed("eth0"), Speed::Known(Rate(megabits * 1_000_000)));
        }
        for nothing in ["-1\n", "0\n", "4294967295\n", "", "fast", "99999999999999999999"] {
            folder.add("eth0", Some(nothing), &["device"]);
            assert_eq!(links.speed("eth0"), Speed::Unknown, "{nothing:?}");
        }
        folder.add("wlan0", None, &["device"]);
        assert_eq!((links.speed("wlan0"), links.speed("gone")), (Speed::Unknown, Speed::Unknown));
        // A folder where a file should be is what reading an error looks like.
        folder.add("lo", None, &["speed"]);
        assert_eq!(links.speed("lo"), Speed::Unknown);
    }

    #[test]
    fn a_rate_without_a_device_below_it_is_not_believed() {
        let folder = Folder::new("devices");
        let links = Links::at(&folder.0);
        folder.add("eth0", Some("25000"), &["device"]);
        folder.add("tun0", Some("10"), &[]);
        folder.add("veth1", Some("10000"), &[]);
        folder.add("bond0", Some("25000"), &["lower_eth0"]);
        folder.add("vlan7", Some("25000"), &["lower_bond0", "upper_br0"]);
        folder.add("br1", Some("10000"), &["lower_veth1"]);
        folder.add("loop", Some("1"), &["lower_loop"]);
        for name in ["eth0", "bond0", "vlan7"] {
            assert_eq!(links.speed(name), Speed::Known(Rate(25_000_000_000)), "{name}");
        }
        for (name, megabits) in [("tun0", 10), ("veth1", 10_000), ("br1", 10_000), ("loop", 1)] {
            assert_eq!(links.speed(name), Speed::MadeUp(Rate(megabits * 1_000_000)), "{name}");
        }
    }

    #[test]
    fn an_address_names_its_interface() {
        assert_eq!(interface_of((Ipv4Addr::LOCALHOST, 7).into()).unwrap().as_deref(), Some("lo"));
        // Not on machines without IPv6.
        let v6 = interface_of((Ipv6Addr::LOCALHOST, 7).into()).unwrap();
        assert!(v6.is_none_or(|name| name == "lo"));
        // Reserved for documentation, so nobody's.
        assert_eq!(interface_of((Ipv4Addr::new(203, 0, 113, 77), 7).into()).unwrap(), None);
        assert_eq!(interface_of((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77), 7).into()).unwrap(), None);
    }

    #[test]
    fn rates_are_for_people() {
        let text = |bits: u64| Rate(bits).to_string();
        assert_eq!(
            [text(100_000_000_000), text(2_500_000_000), text(10_000_000)],
            ["100 Gbit/s", "2.5 Gbit/s", "10 Mbit/s"]
        );
    }
}
