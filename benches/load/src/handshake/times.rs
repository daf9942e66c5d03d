//! Owns the clock of handshakes: how long each took, and what this process computed meanwhile.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Between two handshakes both sides come to rest.
const PAUSE: Duration = Duration::from_millis(2);

/// Times of one kind of handshake, and what the process computed meanwhile.
#[derive(Debug, Default)]
pub struct Times {
    spans_us: Vec<f64>,
    cpu: Duration,
}

impl Times {
    /// Runs `one` so often, each after a pause; `end` is not timed, but what it computes is counted.
    ///
    /// # Errors
    /// Those of `one` and `end`.
    pub fn round(
        &mut self,
        times: usize,
        mut one: impl FnMut() -> Result<()>,
        mut end: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        for _ in 0..times {
            pause();
            self.once(&mut one, &mut end)?;
        }
        Ok(())
    }

    /// The same once, and at once.
    ///
    /// # Errors
    /// Those of `one` and `end`.
    pub fn once(&mut self, one: impl FnOnce() -> Result<()>, end: impl FnOnce() -> Result<()>) -> Result<()> {
        let (cpu, start) = (cpu_time(), Instant::now());
        one()?;
        self.spans_us.push(start.elapsed().as_secs_f64() * 1e6);
        end()?;
        self.cpu += cpu_time().saturating_sub(cpu);
        Ok(())
    }

    /// The time that so many of a hundred stayed below, in microseconds.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.spans_us.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len().saturating_sub(1) * percent).div_ceil(100)).copied().unwrap_or_default()
    }

    /// Processor time of one, of both sides, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.spans_us.len().max(1) as f64
    }
}

/// CPU time of this process, user and kernel.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Lets both sides come to rest.
pub fn pause() {
    std::thread::sleep(PAUSE);
}
