//! Which CPU runs what, and how much of it was used.
//!
//! Owns: pinning, and CPU time of this process. Refuses: other processes; they are asked over their pipe.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this whole process, user and kernel.
pub(crate) fn process_time() -> Duration {
    let t = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// The CPUs that this thread may run on.
pub(crate) fn allowed() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// One CPU for the client and another for the server, if there are two.
pub(crate) fn pair() -> Option<(usize, usize)> {
    match allowed()[..] {
        [client, server, ..] => Some((client, server)),
        _ => None,
    }
}

/// Keeps this thread, and threads it starts from now on, on one CPU until dropped.
#[derive(Debug)]
pub(crate) struct Pinned(Option<CpuSet>);

impl Pinned {
    /// Without a CPU, or without the permission, nothing changes: figures scatter more, and that shows in the CoV.
    pub(crate) fn to(cpu: Option<usize>) -> Self {
        let (Some(cpu), Ok(before)) = (cpu, sched_getaffinity(None)) else { return Self(None) };
        let mut only = CpuSet::new();
        only.set(cpu);
        Self(sched_setaffinity(None, &only).is_ok().then_some(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(None, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinning_ends_with_its_guard() {
        let before = allowed();
        let Some((_, second)) = pair() else { return };
        let pinned = Pinned::to(Some(second));
        assert_eq!(allowed(), [second]);
        drop(pinned);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let before = process_time();
        let mut x = 1u64;
        for i in 0..3_000_000u64 {
            x = std::hint::black_box(x.wrapping_mul(i | 1));
        }
        assert!(process_time() > before);
    }
}
