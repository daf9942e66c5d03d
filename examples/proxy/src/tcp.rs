//! Owns what is done to TCP sockets beyond reading and writing.

use bytes::BufMut;
use socket2::SockRef;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

use crate::limits::CHUNK_BYTES;

/// Under this share of its room a buffer gives back what it does not use, before it waits for an answer.
const USED_MIN: usize = 4;

/// Small writes go at once: who runs over TCP chose the size of its writes.
pub(crate) fn prepare(stream: &TcpStream) {
    // What cannot be set only costs time.
    let _ = stream.set_nodelay(true);
}

/// Closing this socket will be a reset.
pub(crate) fn will_reset(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Reads what there is behind the head in `into`, a chunk at most. Without new bytes the other side has ended. Dropped, it has read nothing.
pub(crate) async fn read(from: &mut OwnedReadHalf, into: &mut Vec<u8>) -> std::io::Result<()> {
    from.read_buf(&mut (&mut *into).limit(CHUNK_BYTES)).await?;
    if into.len() < into.capacity() / USED_MIN {
        into.shrink_to_fit();
    }
    Ok(())
}
