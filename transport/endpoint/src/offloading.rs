//! Owns how an endpoint gets a device that seals for it, and what is known of that device.

use offload::nic::Nic;

use crate::device::Device;
use crate::endpoint::Endpoint;

impl Endpoint {
    /// From now on messages that are worth it are sealed and sent by `nic`. What it has no wire for comes out of
    /// [`Endpoint::poll_transmit`] as datagrams, like all others. [P-3.5]
    pub fn set_nic(&mut self, nic: Nic) {
        self.state.device = Some(Box::new(Device::new(nic)));
    }

    /// The engine that was set.
    pub fn nic(&self) -> Option<&Nic> {
        self.state.device.as_ref().map(|device| &device.nic)
    }
}
