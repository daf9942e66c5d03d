//! Owns how an application gets at the time trace, which [`crate::Builder::time_trace`] asked for.

use endpoint::trail::TimeTrace;

use crate::socket::Socket;

impl Socket {
    /// What led to a call that took too long: the time trace, if it stopped since it was last taken. It goes on from here. `None` while
    /// nothing was slow, and without [`crate::Builder::time_trace`]. Of several shards, the trace of the first that stopped.
    pub fn time_trace(&self) -> Option<TimeTrace> {
        self.all().find_map(|shard| shard.shared.lock().endpoint.time_trace(false))
    }

    /// What happened up to now, whether or not anything was slow; of several shards one each.
    pub fn time_trace_now(&self) -> Vec<TimeTrace> {
        self.all().filter_map(|shard| shard.shared.lock().endpoint.time_trace(true)).collect()
    }
}
