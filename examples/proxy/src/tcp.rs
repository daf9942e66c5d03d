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

/// Reads what there is behind `head`, a chunk at most. Without new bytes the other side has ended.
pub(crate) async fn read(from: &mut OwnedReadHalf, head: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut limited = head.limit(CHUNK_BYTES);
    from.read_buf(&mut limited).await?;
    let mut bytes = limited.into_inner();
    if bytes.len() < bytes.capacity() / USED_MIN {
        bytes.shrink_to_fit();
    }
    Ok(bytes)
}
