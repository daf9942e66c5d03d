//! Owns the thread that makes and judges evidence. [P-6.16] A quote takes milliseconds to verify and more to make, and nobody else's packets
//! wait for that: the endpoint says what is to be computed, and is told when it was. A socket without attester and policy has no such
//! thread.

use std::sync::{Arc, mpsc};
use std::thread;

use endpoint::evidence::{Done, Work};

use crate::driver::Core;
use crate::error::Error;
use crate::waiting::Shared;

/// Starts it. It ends with the socket.
pub(crate) fn start(shared: &Arc<Shared>) -> Result<(), Error> {
    let (works, todo) = mpsc::channel::<Work>();
    let socket = Arc::downgrade(shared);
    let run = move || {
        for work in todo {
            let done = work.run();
            let Some(shared) = socket.upgrade() else { return };
            shared.work_done(done);
        }
    };
    let thread = thread::Builder::new().name("sealane-attest".to_owned()).spawn(run);
    thread.map_err(Error::system("cannot start the thread that judges evidence"))?;
    shared.lock().works = Some(works);
    Ok(())
}

impl Core {
    /// What is to be computed elsewhere goes there. At most as much as the endpoint allows is there at once.
    #[inline]
    pub(crate) fn hand_out_work(&mut self) {
        while let Some(work) = self.endpoint.poll_work() {
            if let Some(works) = &self.works {
                // Who takes it lives as long as the socket.
                let _ = works.send(work);
            }
        }
    }
}

impl Shared {
    fn work_done(&self, done: Done) {
        let mut core = self.lock();
        if core.closed {
            return;
        }
        let now = core.now();
        core.endpoint.work_done(now, done);
        core.flush_at(now);
        core.file();
        self.announce(&mut core);
    }
}
