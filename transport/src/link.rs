//! Owns what a socket takes for the rate of its link: stated, found at the interfaces of its routes, or not known. [P-8.10]
//!
//! There is one pacer for all that a socket sends. So with routes over several interfaces it goes by the fastest: a slower
//! one then queues as without pacing, while the fastest is never held back. A queue for each interface was left: which of
//! them a datagram takes is the kernel's choice, anew for each.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use udp::links::{Links, Rate, Speed, interface_of};

/// The slowest link that can be stated, in bits per second. With less, the patience of peers ends between two packets; and
/// whoever counts in Mbit/s finds out.
const STATED_MIN: u64 = 1_000_000;
/// How long the link may be busy with what it was given before more is held back. Homa's 5 us need a thread that never
/// sleeps: ours sleeps up to 60 us longer than asked, and with 5 us a link of 1 Gbit/s stood idle four fifths of the time.
const BACKLOG_MAX: Duration = Duration::from_micros(100);
/// Addresses of ours that are remembered as asked about. So many change only over a long time.
const ASKED_MAX: usize = 1024;

/// What a socket takes for the rate of its link, in bits per second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkRate {
    /// No interface in use states one: nothing is held back.
    #[default]
    Unknown,
    /// Turned off: nothing is held back.
    NotPaced,
    /// The builder was told.
    Stated(u64),
    /// The fastest interface that a peer was reached by so far states it.
    Found {
        /// The rate.
        bits_per_second: u64,
        /// The interface's name.
        interface: String,
    },
}

impl LinkRate {
    /// The rate by which datagrams are held back, if any.
    pub const fn bits_per_second(&self) -> Option<u64> {
        match self {
            Self::Unknown | Self::NotPaced => None,
            Self::Stated(bits) | Self::Found { bits_per_second: bits, .. } => Some(*bits),
        }
    }

    /// What the state machine goes by until a route tells more.
    pub(crate) fn apply(&self, config: &mut proto::config::Config) {
        config.link_bits_per_second = self.bits_per_second();
        config.backlog_max = BACKLOG_MAX;
    }

    /// Whether a socket can work with what was stated; else why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            Self::Stated(bits) if *bits < STATED_MIN => Err(format!(
                "a link of {bits} bits per second cannot work: it must be from 1,000,000, or not be paced at all"
            )),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for LinkRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown, not paced"),
            Self::NotPaced => f.write_str("not paced"),
            Self::Stated(bits) => write!(f, "{}, as stated", Rate(*bits)),
            Self::Found { bits_per_second, interface } => write!(f, "{}, of {interface}", Rate(*bits_per_second)),
        }
    }
}

/// The rate, and where it is looked for.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) rate: LinkRate,
    links: Links,
    /// Addresses of ours whose interfaces were asked. A list of all interfaces for each peer would be dear where there are
    /// many of both.
    asked: HashSet<IpAddr>,
}

impl Link {
    pub(crate) fn new(rate: LinkRate, links: Links) -> Self {
        Self { rate, links, asked: HashSet::new() }
    }

    /// Whether routes have anything to tell.
    pub(crate) const fn is_sought(&self) -> bool {
        matches!(self.rate, LinkRate::Unknown | LinkRate::Found { .. })
    }

    /// Datagrams come from this address of ours. The rate, when that makes it another.
    pub(crate) fn note(&mut self, local: SocketAddr) -> Option<u64> {
        if !self.is_sought() || self.asked.contains(&local.ip()) {
            return None;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        self.asked.insert(local.ip());
        // Where the kernel does not tell, nothing is known.
        let interface = interface_of(local).ok().flatten()?;
        self.leaves_by(interface)
    }

    fn leaves_by(&mut self, interface: String) -> Option<u64> {
        let Speed::Known(Rate(bits_per_second)) = self.links.speed(&interface) else { return None };
        if self.rate.bits_per_second().is_some_and(|bits| bits >= bits_per_second) {
            return None;
        }
        self.rate = LinkRate::Found { bits_per_second, interface };
        Some(bits_per_second)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::net::Ipv4Addr;

    use super::*;

    /// A table of interfaces, each with its rate in Mbit/s.
    pub(crate) fn table(interfaces: &[(&str, &str)]) -> (tempfile::TempDir, Links) {
        let folder = tempfile::tempdir().unwrap();
        for (name, megabits) in interfaces {
            fs::create_dir_all(folder.path().join(name).join("device")).unwrap();
            fs::write(folder.path().join(name).join("speed"), megabits).unwrap();
        }
        let links = Links::at(folder.path());
        (folder, links)
    }

    /// [P-8.10] With several routes the fastest known counts; one of which nothing is known changes nothing.
    #[test]
    fn the_fastest_known_counts() {
        let (_folder, links) = table(&[("eth0", "10000"), ("eth1", "25000"), ("eth2", "1000"), ("eth3", "-1")]);
        let mut link = Link::new(LinkRate::Unknown, links);
        let mut tell = |name: &str| link.leaves_by(name.to_owned());
        assert_eq!([tell("eth3"), tell("gone")], [None, None]);
        assert_eq!([tell("eth0"), tell("eth2")], [Some(10_000_000_000), None]);
        assert_eq!([tell("eth1"), tell("eth0"), tell("eth3")], [Some(25_000_000_000), None, None]);
        assert_eq!(link.rate.to_string(), "25 Gbit/s, of eth1");
    }

    /// What was stated or turned off is not asked for.
    #[test]
    fn what_was_said_stays() {
        let (_folder, links) = table(&[("lo", "10000")]);
        let local = (Ipv4Addr::LOCALHOST, 9).into();
        for said in [LinkRate::Stated(7_000_000), LinkRate::NotPaced] {
            let mut link = Link::new(said.clone(), links.clone());
            assert_eq!((link.note(local), link.rate), (None, said));
        }
        let mut link = Link::new(LinkRate::Unknown, links);
        assert_eq!([link.note(local), link.note(local)], [Some(10_000_000_000), None]);
    }
}
