//! The victim in clear: orders and answers with their length in front, over TCP, and a relay that ends both connections and passes on what
//! it likes. What TCP repairs it repairs on each side of the relay, so nothing tells that anything is missing.
#![expect(clippy::disallowed_types, reason = "the victim and the relay are programs over TCP")]

use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::book::{self, Book};
use super::{Act, EVERY, ORDERS, Outcome};

/// After which a client gives up on an answer. Only where the relay drops does anybody wait so long.
const PATIENCE: Duration = Duration::from_millis(250);
/// Longest message.
const LEN_MAX: u32 = 1 << 20;

fn write(to: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    to.write_all(&[&(body.len() as u32).to_be_bytes(), body].concat())
}

fn read(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len);
    if len > LEN_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; len as usize];
    from.read_exact(&mut body)?;
    Ok(body)
}

/// What the relay keeps.
#[derive(Default)]
struct Relay {
    passed: Mutex<Vec<Vec<u8>>>,
    seen: AtomicU64,
    struck: AtomicU64,
}

impl Relay {
    /// What is passed on instead of a message.
    fn strike(&self, act: Act, to_server: bool, body: Vec<u8>) -> Vec<Vec<u8>> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).push(body.clone());
        let chosen = self.seen.fetch_add(1, Ordering::Relaxed) % EVERY == 1;
        let strikes = match act {
            Act::Read => false,
            Act::Alter | Act::Drop => chosen,
            Act::Replay | Act::Forge => to_server,
        };
        if !strikes {
            return vec![body];
        }
        self.struck.fetch_add(1, Ordering::Relaxed);
        match act {
            Act::Read => vec![body],
            Act::Alter => vec![altered(&body)],
            Act::Drop => Vec::new(),
            Act::Replay => vec![body.clone(), body],
            Act::Forge => vec![body, book::MADE_UP.into()],
        }
    }

    fn pass(&self, act: Act, to_server: bool, mut from: TcpStream, mut to: TcpStream) {
        while let Ok(body) = read(&mut from) {
            for instead in self.strike(act, to_server, body) {
                if write(&mut to, &instead).is_err() {
                    return;
                }
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Write);
    }
}

/// The price, where there is one.
fn altered(body: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(body).replacen(book::PRICE.0, book::PRICE.1, 1).into_bytes()
}

pub(super) fn act(act: Act) -> Result<Outcome> {
    let (server, front) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    let (server_at, front_at) = (server.local_addr()?, front.local_addr()?);
    let (ledger, relay) = (Arc::new(Book::default()), Arc::new(Relay::default()));
    let mut outcome = Outcome::default();
    thread::scope(|scope| -> Result<()> {
        // The client comes first: should it fail, nobody waits for a connection.
        let mut client = TcpStream::connect(front_at).context("the relay's door")?;
        let inner = front.accept()?.0;
        let outer = TcpStream::connect(server_at).context("the server's door")?;
        let mut serving = server.accept()?.0;
        let book = &ledger;
        scope.spawn(move || {
            while let Ok(order) = read(&mut serving) {
                if write(&mut serving, &book.carry_out(&order)).is_err() {
                    return;
                }
            }
        });
        let (out, back) = ((inner.try_clone()?, outer.try_clone()?), (outer, inner));
        let relay = &relay;
        scope.spawn(move || relay.pass(act, true, out.0, out.1));
        scope.spawn(move || relay.pass(act, false, back.0, back.1));
        client.set_read_timeout(Some(PATIENCE))?;
        for number in 0..ORDERS {
            write(&mut client, &book::order(number))?;
            let answered = answer_to(number, &mut client);
            book::take(number, answered.as_deref(), &mut outcome);
        }
        client.shutdown(std::net::Shutdown::Write)?;
        Ok(())
    })?;
    ledger.judge(&mut outcome);
    let passed = relay.passed.lock().unwrap_or_else(PoisonError::into_inner);
    book::look(&passed, |piece| piece, &mut outcome);
    outcome.struck = relay.struck.load(Ordering::Relaxed);
    Ok(outcome)
}

/// The next answer that names this order; answers to others, which came late or were not asked for, are passed over.
fn answer_to(number: u64, client: &mut TcpStream) -> Option<Vec<u8>> {
    let wanted = format!("done order {number:06}");
    loop {
        match read(client) {
            Ok(body) if body.starts_with(wanted.as_bytes()) => return Some(body),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
