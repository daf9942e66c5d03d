//! Owns the opening of the two libraries, once per process, and the names of the devices that they know.
//!
//! They are opened when somebody asks for a card, never before, and never closed: providers of devices register themselves for good.

use std::ffi::CStr;
use std::sync::OnceLock;

use libloading::Library;

use crate::error::Missing;
use crate::sys::{Mlx5, Verbs, ibv_device};

/// Names, and the packages of Debian and Ubuntu that have them.
const VERBS: (&str, &str) = ("libibverbs.so.1", "libibverbs1");
const MLX5: (&str, &str) = ("libmlx5.so.1", "ibverbs-providers");

/// Both libraries, open.
pub struct Libraries {
    pub(crate) verbs: Verbs,
    pub(crate) mlx5: Mlx5,
}

impl std::fmt::Debug for Libraries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Libraries")
    }
}

/// Opens the libraries, or says why it cannot.
///
/// # Errors
/// Which one is missing, or too old.
pub fn libraries() -> Result<&'static Libraries, Missing> {
    static OPEN: OnceLock<Result<Libraries, Missing>> = OnceLock::new();
    OPEN.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn open() -> Result<Libraries, Missing> {
    // libibverbs first: libmlx5 needs it, and both must be of one build.
    let (verbs, mlx5) = (library(VERBS)?, library(MLX5)?);
    let too_old = |library| move |why: libloading::Error| Missing::Symbol { library, why: why.to_string() };
    // SAFETY: the symbols have the types of the headers of a release whose binary interface later ones keep: their names are versioned,
    // and a plain lookup gives the version that those headers describe. The tables own the libraries, and are never dropped.
    let verbs = unsafe { Verbs::from_library(verbs) }.map_err(too_old(VERBS.0))?;
    // SAFETY: as above.
    let mlx5 = unsafe { Mlx5::from_library(mlx5) }.map_err(too_old(MLX5.0))?;
    Ok(Libraries { verbs, mlx5 })
}

fn library((name, package): (&'static str, &'static str)) -> Result<Library, Missing> {
    // SAFETY: constructors of these libraries set up tables of their own and touch nothing of ours.
    unsafe { Library::new(name) }.map_err(|why| Missing::Library { name, package, why: why.to_string() })
}

/// The devices that the libraries know, for as long as the list lives.
pub(crate) struct List {
    libraries: &'static Libraries,
    devices: *mut *mut ibv_device,
    count: usize,
}

impl List {
    /// Asks for them.
    pub(crate) fn new(libraries: &'static Libraries) -> Self {
        let mut count = 0;
        // SAFETY: `count` is a valid place for the answer. No list at all is how some releases say "none".
        let devices = unsafe { libraries.verbs.ibv_get_device_list(&mut count) };
        let count = if devices.is_null() { 0 } else { usize::try_from(count).unwrap_or(0) };
        Self { libraries, devices, count }
    }

    /// Each with its name, and whether it is one of ours.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (*mut ibv_device, String, bool)> + '_ {
        (0..self.count).map(|i| {
            // SAFETY: the list has `count` entries, which are devices until it is freed; a device's name is a C string inside of it.
            unsafe {
                let device = *self.devices.add(i);
                let name =
                    CStr::from_ptr(self.libraries.verbs.ibv_get_device_name(device)).to_string_lossy().into_owned();
                (device, name, self.libraries.mlx5.mlx5dv_is_supported(device))
            }
        })
    }
}

impl Drop for List {
    fn drop(&mut self) {
        if !self.devices.is_null() {
            // SAFETY: it is the list that we were given, freed once. Devices that were opened stay open.
            unsafe { self.libraries.verbs.ibv_free_device_list(self.devices) };
        }
    }
}

/// The names of the RDMA devices of this machine, and whether each is a ConnectX card.
///
/// # Errors
/// When the libraries are not there.
pub fn devices() -> Result<Vec<(String, bool)>, Missing> {
    Ok(List::new(libraries()?).iter().map(|(_, name, ours)| (name, ours)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever this machine has: an answer, or a reason in words, and the same when asked again.
    #[test]
    fn there_is_always_an_answer() {
        let first = devices();
        match &first {
            Ok(devices) => eprintln!("devices here: {devices:?}"),
            Err(why @ (Missing::Library { .. } | Missing::Symbol { .. })) => eprintln!("no libraries here: {why}"),
            Err(other) => panic!("another reason than a library: {other}"),
        }
        assert_eq!(devices().map_err(|why| why.to_string()), first.map_err(|why| why.to_string()));
    }
}
