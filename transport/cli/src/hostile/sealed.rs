//! The same over Sealane: the relay of `sealane attack`, a server and a client that authenticate each other. The relay begins once they have
//! their session; what it could do before is what `sealane attack downgrade` is about.

use anyhow::{Context, Result, ensure};
use load::certs::{Credentials, SERVER_NAME};
use sealane::{CallOptions, Clients, Delivery, Identity, Socket, Trust};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::book::{self, Book};
use super::{Act, EVERY, ORDERS, Outcome};
use crate::attack::relay::{Captured, Relay, Tamper};

/// After which a call counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(20);
/// What stands in clear before the ciphertext of a DATA packet: the header, the length, and the record's head. [P-5.2] [P-4.1]
const CLEAR_LEN: usize = 20 + 13;
/// A DATA packet.
const DATA: u8 = 1;

pub(super) fn act(act: Act) -> Result<Outcome> {
    let made = Credentials::generate()?;
    let trust = || Trust::pem(made.authority.as_bytes());
    let server = Socket::builder()
        .trust(trust()?)
        .identity(Identity::pem(made.server.certificate.as_bytes(), made.server.key.as_bytes())?)
        .serve(Clients::Authenticated)
        .bind("127.0.0.1:0")?;
    let client = Socket::builder()
        .trust(trust()?)
        .identity(Identity::pem(made.client.certificate.as_bytes(), made.client.key.as_bytes())?)
        .bind("127.0.0.1:0")?;
    let relay = Relay::start(server.local_addr())?;
    let ledger = Book::default();
    let mut outcome = Outcome::default();
    thread::scope(|scope| -> Result<()> {
        let serving = scope.spawn(|| {
            while let Ok(Delivery::Request(request)) = server.recv() {
                // A client that is gone wants no answer.
                let _ = server.reply(request.token, ledger.carry_out(&request.payload));
            }
        });
        let served = calls(act, &client, &relay, &mut outcome);
        relay.tamper(None);
        outcome.counters = server
            .info()
            .counters
            .iter()
            .filter(|(name, count)| name.starts_with("dropped_") && *count > 0)
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        let _ = client.close();
        let _ = server.close();
        ensure!(serving.join().is_ok(), "the server panicked");
        served
    })?;
    ledger.judge(&mut outcome);
    let pieces: Vec<Vec<u8>> = relay.captured().into_iter().map(|captured| captured.bytes).collect();
    let hidden = |piece: &[u8]| -> std::ops::Range<usize> {
        let data = piece.first().is_some_and(|first| first & 0xf == DATA);
        if data { CLEAR_LEN.min(piece.len())..piece.len() } else { 0..0 }
    };
    book::look(&pieces, |piece| &piece[hidden(piece)], &mut outcome);
    Ok(outcome)
}

fn calls(act: Act, client: &Socket, relay: &Relay, outcome: &mut Outcome) -> Result<()> {
    let peer = client.peer(relay.at()?, SERVER_NAME)?;
    client.connect(&peer).context("no session through the relay")?;
    relay.forget();
    let struck = Arc::new(AtomicU64::new(0));
    relay.tamper(Some(tamper(act, Arc::clone(&struck))));
    for number in 0..ORDERS {
        let called = client.call_with(&peer, book::order(number), CallOptions::new().deadline(PATIENCE));
        book::take(number, called.ok().as_deref(), outcome);
    }
    if act == Act::Replay {
        // Later, all of it once more.
        for captured in relay.captured() {
            struck.fetch_add(1, Ordering::Relaxed);
            relay.inject(captured.to_server, captured.client, &captured.bytes);
        }
        // Behind them a call that must be answered: what came before it was looked at.
        let last = client.call_with(&peer, book::order(ORDERS), CallOptions::new().deadline(PATIENCE));
        ensure!(last.is_ok(), "the session did not outlive the replay: {last:?}");
    }
    outcome.struck = struck.load(Ordering::Relaxed);
    Ok(())
}

/// What the relay does to packets of all types, both ways.
fn tamper(act: Act, struck: Arc<AtomicU64>) -> Tamper {
    let mut seen = 0;
    Box::new(move |packet: &Captured| {
        seen += 1;
        let chosen = seen % EVERY == 1;
        let strikes = match act {
            Act::Read => false,
            Act::Alter | Act::Drop => chosen,
            Act::Replay => true,
            Act::Forge => packet.to_server && packet.kind() == DATA,
        };
        if !strikes {
            return vec![packet.bytes.clone()];
        }
        struck.fetch_add(1, Ordering::Relaxed);
        match act {
            Act::Read => vec![packet.bytes.clone()],
            Act::Alter => vec![altered(&packet.bytes)],
            Act::Drop => Vec::new(),
            Act::Replay => vec![packet.bytes.clone(), packet.bytes.clone()],
            Act::Forge => vec![made_up(&packet.bytes), packet.bytes.clone()],
        }
    })
}

/// One bit, in the middle: the relay cannot know where the price stands.
fn altered(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

/// An order of the relay's in the place of the sealed one, under a message id that nobody used: all that it can write.
fn made_up(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // The message id is the upper part of the explicit nonce; the RPC's sequence begins above its role and attempt.
    if let Some(id) = bytes.get_mut(25..31) {
        id[3] = id[3].wrapping_add(1);
    }
    let order = book::MADE_UP.as_bytes();
    let end = bytes.len().min(CLEAR_LEN + order.len());
    if let Some(body) = bytes.get_mut(CLEAR_LEN..end) {
        body.copy_from_slice(&order[..body.len()]);
    }
    bytes
}
