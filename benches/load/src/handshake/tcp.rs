//! Owns plain TCP: what a connection costs that proves and hides nothing, on blocking sockets.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Result, ensure};

use super::{REQUEST, Span, Times};

/// Answers one connection after the other, until the process ends.
#[derive(Debug)]
pub struct Server {
    /// Where.
    pub at: SocketAddr,
}

impl Server {
    /// Starts its thread.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = listener.local_addr()?;
        // It ends with the process: nothing of it is worth an orderly end.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // A connection that fails is its client's to tell.
                let _ = stream.set_nodelay(true);
                let mut request = [0; REQUEST.len()];
                while stream.read_exact(&mut request).and_then(|()| stream.write_all(&request)).is_ok() {}
            }
        });
        Ok(Self { at })
    }
}

/// The other side.
#[derive(Debug)]
pub struct Client {
    at: SocketAddr,
    /// From connect.
    pub times: Times,
}

impl Client {
    /// Of this server.
    #[must_use]
    pub fn new(at: SocketAddr) -> Self {
        Self { at, times: Times::default() }
    }

    /// So many beginnings, each after a pause.
    ///
    /// # Errors
    /// When one fails.
    pub fn spans(&mut self, span: Span, times: usize) -> Result<()> {
        let at = self.at;
        let open = RefCell::new(match span {
            Span::Reconnect => Some(begin(at, Span::FirstReply)?),
            Span::Handshake | Span::FirstReply => None,
        });
        let one = || {
            drop(open.borrow_mut().take());
            *open.borrow_mut() = Some(begin(at, span)?);
            Ok(())
        };
        let end = || {
            if span != Span::Reconnect {
                drop(open.borrow_mut().take());
            }
            Ok(())
        };
        self.times.round(times, one, end)
    }
}

fn begin(at: SocketAddr, span: Span) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    if span != Span::Handshake {
        let mut reply = [0; REQUEST.len()];
        stream.write_all(&REQUEST)?;
        stream.read_exact(&mut reply)?;
        ensure!(reply == REQUEST, "the reply over TCP is not what was asked for");
    }
    Ok(stream)
}
