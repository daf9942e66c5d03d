//! A socket for anyone, and a second one for the peer that most is exchanged with.
//!
//! A connected socket skips the look-up of the route and the copying of addresses, which together cost about a tenth of a
//! small round trip; but it hears one peer only. So [`Hot`] has an ordinary socket, and as soon as one peer has been the
//! only one for a while, a connected one beside it on the same port. Which of the two carries a datagram makes no
//! difference to anybody: the kernel hands what that peer sends to the connected one and everything else to the other.
//!
//! The port is shared for the moment only in which the second socket is made: nobody else can bind it at other times.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::batch::{Datagrams, Received, SendError, Transmit};
use crate::caps::Caps;
use crate::mmsg::{self, Mmsg, Options};
use crate::poll::Set;

/// Trains in a row from one peer after which it gets a socket of its own.
const HOT_AFTER: u32 = 256;
/// Trains in a row from others after which it loses that again.
const COLD_AFTER: u32 = 1024;
/// Trains taken from the hot socket before the other is looked at, so that nobody starves behind it.
const TURNS: u32 = 64;
/// What a look at the hot socket that finds nothing counts as: sixteen of them are one look at the other.
const EMPTY: u32 = 4;

/// One address, two sockets.
#[derive(Debug)]
pub struct Hot {
    main: Mmsg,
    flow: Option<Mmsg>,
    /// Both, to wait on; empty while nobody does. A socket in a set costs its sender 0.3 us per datagram, on one machine.
    set: Set,
    watched: bool,
    options: Options,
    /// Who sent the last train, and how many in a row.
    last: Option<SocketAddr>,
    streak: u32,
    /// Turns of the flow since the last look at the main socket.
    looks: u32,
    /// Making a flow failed once: it is not tried again.
    barred: bool,
}

/// Binds as [`mmsg::bind`] does.
pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Hot> {
    let main = mmsg::bind(address, options)?;
    let set = Set::new()?;
    set.add(main.fds())?;
    let barred = options.reuse_port;
    Ok(Hot { main, flow: None, set, watched: true, options: options.clone(), last: None, streak: 0, looks: 0, barred })
}

impl Hot {
    /// It is used because what was asked for cannot be had.
    pub(crate) fn instead_of(mut self, why: String) -> Self {
        self.main.instead_of(why);
        self
    }

    /// The peer that has a socket of its own.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.flow.as_ref().and_then(Mmsg::peer)
    }

    /// A train came through the main socket.
    fn note(&mut self, from: SocketAddr) {
        if self.last == Some(from) {
            self.streak += 1;
        } else {
            (self.last, self.streak) = (Some(from), 1);
        }
        match &self.flow {
            None if self.streak >= HOT_AFTER && !self.barred => self.warm(from),
            // What the flow still holds is read before it goes: it is looked at first, and found empty.
            Some(_) if self.streak >= COLD_AFTER => self.cool(),
            _ => {}
        }
    }

    fn warm(&mut self, peer: SocketAddr) {
        let options = Options { reuse_port: true, ..self.options.clone() };
        let shared = self.main.share_port(true);
        let made = shared.and_then(|()| mmsg::connect(self.main.local_addr(), peer, &options));
        // Closed to others again, whatever became of it.
        let closed = self.main.share_port(false);
        let flow = made.and_then(|flow| {
            closed?;
            flow.share_port(false)?;
            if self.watched {
                self.set.add(flow.fds())?;
            }
            Ok(flow)
        });
        self.barred = flow.is_err();
        self.flow = flow.ok();
        self.streak = 0;
    }

    fn cool(&mut self) {
        // Closing takes it out of the set.
        self.flow = None;
        self.streak = 0;
    }
}

impl Datagrams for Hot {
    fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    fn caps(&self) -> &Caps {
        self.main.caps()
    }

    #[inline]
    fn transmit(&mut self, train: &Transmit<'_>) -> Result<(), SendError> {
        match &mut self.flow {
            Some(flow) if flow.peer() == Some(train.to) => match flow.transmit(train) {
                // Our own address may have changed: a connected socket keeps the old one, the other asks for a route each time.
                Err(SendError::Other(_)) => {
                    self.cool();
                    self.main.transmit(train)
                }
                done => done,
            },
            _ => self.main.transmit(train),
        }
    }

    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> io::Result<Option<Received>> {
        if let Some(flow) = self.flow.as_mut().filter(|_| self.looks < TURNS) {
            if let Some(train) = flow.receive(into)? {
                self.looks += 1;
                self.streak = 0;
                return Ok(Some(train));
            }
            self.looks += EMPTY;
            if self.looks < TURNS {
                return Ok(None);
            }
        }
        self.looks = 0;
        let received = self.main.receive(into)?;
        if let Some(train) = &received {
            // There may be more where it came from: one look at the flow, then here again.
            self.looks = TURNS - EMPTY;
            self.note(train.from);
        }
        Ok(received)
    }

    fn fds(&self) -> BorrowedFd<'_> {
        self.set.fd()
    }

    fn set(&self) -> Option<&Set> {
        Some(&self.set)
    }

    fn alone(&self) -> Option<BorrowedFd<'_>> {
        self.flow.is_none().then(|| self.main.fds())
    }

    fn watched(&mut self, on: bool) -> io::Result<()> {
        if self.watched != on {
            let change = if on { Set::add } else { Set::remove };
            change(&self.set, self.main.fds())?;
            self.watched = on;
            if let Some(flow) = &self.flow {
                change(&self.set, flow.fds())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::wait_readable;
    use std::time::Duration;

    const ANY: &str = "127.0.0.1:0";

    fn next(socket: &mut dyn Datagrams, into: &mut [u8]) -> Received {
        for _ in 0..1000 {
            if let Some(train) = socket.receive(into).unwrap() {
                return train;
            }
            wait_readable(&[socket.fds()], Some(Duration::from_secs(5))).unwrap();
        }
        panic!("nothing came");
    }

    fn next_polled(socket: &mut dyn Datagrams, into: &mut [u8]) -> Received {
        (0..1000).find_map(|_| socket.receive(into).unwrap()).expect("loopback delivers at once")
    }

    /// Nobody watches: the descriptor stays silent. Somebody watches again: it tells of what came meanwhile, on either socket.
    #[test]
    fn silent_until_watched() {
        let mut server = bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let mut client = mmsg::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let (at, mut buffer) = (server.local_addr(), vec![0; 1 << 16]);
        let mut send = |_| client.transmit(&Transmit { to: at, bytes: b"x", segment: 1, tos: None }).unwrap();
        let rings = |server: &Hot| wait_readable(&[server.fds()], Some(Duration::ZERO)).unwrap().any();
        server.watched(false).unwrap();
        for n in 0..2 * HOT_AFTER {
            send(n);
            assert!(!rings(&server), "nobody watches");
            next_polled(&mut server, &mut buffer);
        }
        assert!(server.peer().is_some(), "it was made while nobody watched");
        send(0);
        server.watched(true).unwrap();
        assert!(rings(&server), "what came meanwhile");
        next(&mut server, &mut buffer);
        assert!(!rings(&server));
        send(0);
        assert!(rings(&server), "what came afterwards");
    }

    /// A flow that can send no more, as after a change of our own address, is left for the socket that can.
    #[test]
    fn a_flow_that_fails_is_left() {
        let mut server = bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let mut client = mmsg::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let (at, mut buffer) = (server.local_addr(), vec![0; 1 << 16]);
        for _ in 0..2 * HOT_AFTER {
            client.transmit(&Transmit::single(at, b"x")).unwrap();
            next_polled(&mut server, &mut buffer);
        }
        let flow = server.flow.as_ref().expect("it was made");
        socket2::SockRef::from(&flow.fds()).shutdown(std::net::Shutdown::Write).unwrap();
        server.transmit(&Transmit::single(client.local_addr(), b"back")).unwrap();
        assert_eq!(server.peer(), None);
        let train = next(&mut client, &mut buffer);
        assert_eq!(&buffer[..train.len], b"back");
    }

    /// One peer gets a socket of its own, others are heard all the same, and the port is nobody else's meanwhile.
    #[test]
    fn hot_and_cold() {
        let mut server = bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let mut one = bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let mut other = mmsg::bind(ANY.parse().unwrap(), &Options::default()).unwrap();
        let (at, mut buffer) = (server.local_addr(), vec![0; 1 << 16]);
        let echo = |client: &mut dyn Datagrams, server: &mut Hot, bytes: &[u8], buffer: &mut [u8]| {
            client.transmit(&Transmit { to: at, bytes, segment: 1000, tos: None }).unwrap();
            let mut at = 0;
            while at < bytes.len() {
                let train = next(server, buffer);
                assert_eq!(&buffer[..train.len], &bytes[at..at + train.len]);
                assert_eq!(train.from, client.local_addr());
                let back = Transmit { to: train.from, bytes: &buffer[..train.len], segment: train.segment, tos: None };
                server.transmit(&back).unwrap();
                at += train.len;
            }
            let mut at = 0;
            while at < bytes.len() {
                at += next(client, buffer).len;
            }
        };
        for n in 0..2 * HOT_AFTER {
            echo(&mut one, &mut server, &n.to_le_bytes(), &mut buffer);
        }
        assert_eq!((server.peer(), one.peer()), (Some(one.local_addr()), Some(at)));
        // Trains arrive whole in the end, although small datagrams were all there was for a while.
        for _ in 0..4 {
            echo(&mut one, &mut server, &[7; 20_000], &mut buffer);
        }
        echo(&mut other, &mut server, b"other", &mut buffer);
        let taken = mmsg::bind(at, &Options::default()).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let shared = mmsg::bind(at, &Options { reuse_port: true, ..Options::default() }).unwrap_err();
        assert_eq!(shared.kind(), io::ErrorKind::AddrInUse, "not even by one who would share it");
        for n in 0..2 * COLD_AFTER {
            echo(&mut other, &mut server, &n.to_le_bytes(), &mut buffer);
        }
        assert_eq!(server.peer(), Some(other.local_addr()), "the heat moved on");
        echo(&mut one, &mut server, b"still heard", &mut buffer);
    }
}
