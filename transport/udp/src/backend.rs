//! Which backend moves the datagrams: the choice, and what happens where it cannot be had.
//!
//! Owns the names and the fall back to the ordinary backend, which always works and is the default: it measured best (decision 0021).
//! Refuses to choose by version numbers: each backend finds out by trying.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::batch::Datagrams;
use crate::hot;
use crate::mmsg::Options;

/// The environment variable that names the backend of those that leave it to us.
pub const VARIABLE: &str = "SEALANE_BACKEND";

/// What moves datagrams between us and the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    /// What the environment variable `SEALANE_BACKEND` names; without it `Mmsg`.
    #[default]
    Auto,
    /// Sockets with segmentation by the kernel.
    Mmsg,
    /// Sockets, receiving by io_uring. Feature `io-uring`; Linux 6.0.
    IoUring,
    /// Frames to and from an interface's queues, past the kernel's IP (AF_XDP). Feature `xdp`; `CAP_NET_ADMIN`, `CAP_NET_RAW`,
    /// `CAP_BPF`, and an address that one interface has. What the interface cannot carry goes by a socket all the same.
    Xdp,
}

impl Backend {
    /// All that can be asked for by name.
    pub const NAMED: [Self; 3] = [Self::Mmsg, Self::IoUring, Self::Xdp];

    /// The name on command lines, in the environment, and in what is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Mmsg => "mmsg",
            Self::IoUring => "io-uring",
            Self::Xdp => "xdp",
        }
    }

    /// Whether it works for this process on this machine, apart from the address.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(self) -> Result<(), String> {
        match self {
            Self::Auto | Self::Mmsg => Ok(()),
            Self::IoUring => io_uring_works(),
            Self::Xdp => xdp_works(),
        }
    }

    /// What is meant by `Auto`.
    fn settled(self) -> io::Result<Self> {
        match (self, std::env::var(VARIABLE)) {
            (Self::Auto, Ok(name)) => {
                let named = name.parse().map_err(|why| format!("the environment variable {VARIABLE} is wrong: {why}"));
                named.map(|named| if named == Self::Auto { Self::Mmsg } else { named }).map_err(io::Error::other)
            }
            (Self::Auto, Err(_)) => Ok(Self::Mmsg),
            (named, _) => Ok(named),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [Self::Auto].into_iter().chain(Self::NAMED);
        all.clone().find(|backend| backend.name() == name).ok_or_else(|| {
            let known: Vec<_> = all.map(Self::name).collect();
            format!("unknown backend `{name}`; the backends are {}", known.join(", "))
        })
    }
}

#[cfg(feature = "io-uring")]
fn io_uring_works() -> Result<(), String> {
    crate::uring::check()
}

#[cfg(not(feature = "io-uring"))]
fn io_uring_works() -> Result<(), String> {
    Err(missing("io-uring"))
}

#[cfg(feature = "xdp")]
fn xdp_works() -> Result<(), String> {
    crate::xdp::check()
}

#[cfg(not(feature = "xdp"))]
fn xdp_works() -> Result<(), String> {
    Err(missing("xdp"))
}

#[cfg(not(all(feature = "io-uring", feature = "xdp")))]
fn missing(feature: &str) -> String {
    format!("this program was built without the feature `{feature}`")
}

/// Binds a socket to be used through this backend, or through the ordinary one where that cannot be had: [`crate::Caps::backend`] then says
/// why.
///
/// # Errors
/// As [`crate::mmsg::bind`]; and when the environment variable names nothing that there is.
pub fn bind(address: SocketAddr, options: &Options, wanted: Backend) -> io::Result<Box<dyn Datagrams>> {
    let wanted = wanted.settled()?;
    let why = match wanted {
        Backend::Auto | Backend::Mmsg => return Ok(Box::new(hot::bind(address, options)?)),
        named => match by_name(address, options, named) {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => error,
        },
    };
    Ok(Box::new(hot::bind(address, options)?.instead_of(format!("{wanted}: {why}"))))
}

fn by_name(address: SocketAddr, options: &Options, named: Backend) -> io::Result<Box<dyn Datagrams>> {
    named.check().map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
    let _ = (address, options);
    match named {
        #[cfg(feature = "io-uring")]
        Backend::IoUring => Ok(Box::new(crate::uring::bind(address, options)?)),
        #[cfg(feature = "xdp")]
        Backend::Xdp => Ok(Box::new(crate::xdp::bind(address, options)?)),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_name_is_named() {
        for backend in Backend::NAMED {
            assert_eq!(backend.name().parse(), Ok(backend));
        }
        assert!("dpdk".parse::<Backend>().unwrap_err().contains("`dpdk`"));
    }

    #[test]
    fn what_cannot_be_had_is_replaced_and_said() {
        // An address that no interface has is nobody's reason to fall back: the bind itself fails.
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
        for backend in Backend::NAMED {
            let error = bind(nowhere, &Options::default(), backend).err().expect("nobody has it");
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
            let bound = bind(([127, 0, 0, 1], 0).into(), &Options::default(), backend).unwrap();
            let said = bound.caps().to_string();
            match &bound.caps().backend.instead_of {
                None => assert!(said.contains(&format!("backend         {backend}")), "{said}"),
                Some(why) => assert!(why.starts_with(backend.name()) && said.contains("instead of"), "{said}"),
            }
        }
    }
}
