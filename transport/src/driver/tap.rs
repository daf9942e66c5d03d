//! Owns the socket by which the frames of a card's test come back from the machine that returns them.
#![expect(clippy::disallowed_types, reason = "they come back by a socket of their own")]

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use mlx5_shim::device::Device;
use offload::proof::Tap;

/// How long a frame may take to come back.
const PATIENCE: Duration = Duration::from_secs(1);

/// Frames that come back.
pub(crate) struct Returned(UdpSocket);

impl Returned {
    /// A socket for what `reflector` returns, and its address. `None` when there is no way there.
    pub(crate) fn new(reflector: SocketAddr) -> Option<(Self, SocketAddr)> {
        let any: SocketAddr = if reflector.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(reflector).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let from = socket.local_addr().ok()?;
        Some((Self(socket), from))
    }
}

impl Tap for Returned {
    fn next(&mut self, _: &mut dyn Device) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 1 << 16];
        let len = self.0.recv(&mut bytes).ok()?;
        bytes.truncate(len);
        Some(bytes)
    }
}
