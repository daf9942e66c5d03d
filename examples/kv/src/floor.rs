//! Owns the floor of the comparison: the same engine behind bare datagrams, in clear text, from anyone, with nothing repeated. What no
//! transport over UDP can beat. Only benchmarks open this door.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use anyhow::Result;

use crate::engine::{Client, Engine};
use crate::requests;
use crate::resp::Out;
use crate::stream::Lent;

/// What stands before the commands and before their replies: whose they are.
pub(crate) const TAG_BYTES: usize = 8;
/// Bytes of a datagram over IPv4 at most.
pub(crate) const DATAGRAM_MAX: usize = 65_507;
/// Messages of one turn.
const REQUESTS_PER_TURN: usize = 256;

/// The door.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) socket: UdpSocket,
    read: Vec<u8>,
    replies: Vec<(SocketAddr, Vec<u8>)>,
}

impl Floor {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, read: vec![0; DATAGRAM_MAX], replies: Vec::new() })
    }

    /// Takes what is there and runs it; the replies stay until [`Self::write`].
    pub(crate) fn read(&mut self, engine: &mut Engine, lent: &mut Lent) -> Result<()> {
        let mut client = Client::new(0, "udp");
        while self.replies.len() < REQUESTS_PER_TURN {
            let (length, from) = match self.socket.recv_from(&mut self.read) {
                Ok(came) => came,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            };
            let Some((tag, commands)) = self.read[..length].split_at_checked(TAG_BYTES) else { continue };
            let mut out = Out { bytes: lent.take(), is_v3: false };
            out.bytes.extend_from_slice(tag);
            requests::run_message(engine, &mut client, commands, &mut out, DATAGRAM_MAX);
            self.replies.push((from, out.bytes));
        }
        Ok(())
    }

    /// Sends the replies. What does not fit into a buffer of the kernel is lost, as datagrams are.
    pub(crate) fn write(&mut self, lent: &mut Lent) {
        for (to, replies) in self.replies.drain(..) {
            let _ = self.socket.send_to(&replies, to);
            lent.put(replies);
        }
    }
}
