//! Owns the orders, the server's book of what it carried out, and the judgement of both.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{ORDERS, Outcome};

/// What must not be seen.
pub(super) const SECRET: &str = "PIN 4711-0815";
/// An order of the relay's own.
pub(super) const MADE_UP: &str = "order 999999: pay 5000 to mallory";
/// The part of an order that is worth altering, and what becomes of it.
pub(super) const PRICE: (&str, &str) = ("pay 100 to", "pay 900 to");
/// Bytes of an order.
const ORDER_LEN: usize = 2_000;

/// An order as the client gives it.
pub(super) fn order(number: u64) -> Vec<u8> {
    let mut text = format!("order {number:06}: {} alice, {SECRET};", PRICE.0);
    while text.len() < ORDER_LEN {
        text.push_str(" and please do be so kind as to confirm that it was done;");
    }
    text.truncate(ORDER_LEN);
    text.into_bytes()
}

/// What the server answers an order with.
pub(super) fn answer(order: &[u8]) -> Vec<u8> {
    [b"done ".as_slice(), order].concat()
}

/// Whether somebody who reads `bytes` can make out any part of an order or answer.
pub(super) fn is_readable(bytes: &[u8]) -> bool {
    ["order 0", "pay 1", "please", "done "].iter().any(|part| has(bytes, part))
}

pub(super) fn has(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// What the server carried out, in the order in which it did.
#[derive(Default)]
pub(super) struct Book(Mutex<Vec<Vec<u8>>>);

impl Book {
    /// Carries out an order.
    pub(super) fn carry_out(&self, order: &[u8]) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(order.to_vec());
        answer(order)
    }

    /// What is in the book that must not be there.
    pub(super) fn judge(&self, outcome: &mut Outcome) {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The last is only given to see whether the session still lives.
        let given: HashMap<Vec<u8>, u64> = (0..=ORDERS).map(|number| (order(number), number)).collect();
        let mut times: HashMap<&[u8], u64> = HashMap::new();
        for done in &*book {
            if has(done, MADE_UP) {
                outcome.made_up += 1;
            } else if given.contains_key(done) {
                *times.entry(done).or_default() += 1;
            } else {
                outcome.altered += 1;
            }
        }
        outcome.twice = times.values().map(|times| times - 1).sum();
    }
}

/// What the client makes of an answer.
pub(super) fn take(number: u64, answered: Option<&[u8]>, outcome: &mut Outcome) {
    match answered {
        None => outcome.unanswered += 1,
        Some(bytes) => outcome.answers_altered += u64::from(bytes != answer(&order(number))),
    }
}

/// Looks at pieces as the relay does: whole, and at the parts of them that should be random.
pub(super) fn look(pieces: &[Vec<u8>], hidden: impl Fn(&[u8]) -> &[u8], outcome: &mut Outcome) {
    let mut counts = [0u64; 256];
    let mut all = 0;
    for piece in pieces {
        outcome.secret_seen += u64::from(has(piece, SECRET));
        outcome.decoded += u64::from(is_readable(piece));
        hidden(piece).iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        all += piece.len();
    }
    let total = counts.iter().sum::<u64>() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| *count as f64 / total);
    outcome.pieces = pieces.len() as u64;
    outcome.entropy = (shares.map(|share| -share * share.log2()).sum::<f64>() * 1000.0).round() / 1000.0;
    let useful: usize = (0..ORDERS).map(|number| order(number).len() + answer(&order(number)).len()).sum();
    outcome.overhead_percent = ((all as f64 / useful as f64 - 1.0) * 1000.0).round() / 10.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_tells_each_kind_of_harm() {
        let book = Book::default();
        for done in [order(0), order(1), order(1), b"order 000002: pay 900 to alice".to_vec(), MADE_UP.into()] {
            book.carry_out(&done);
        }
        let mut outcome = Outcome::default();
        book.judge(&mut outcome);
        assert_eq!((outcome.altered, outcome.twice, outcome.made_up), (1, 1, 1));
        take(0, None, &mut outcome);
        take(1, Some(&answer(&order(1))), &mut outcome);
        take(2, Some(b"done"), &mut outcome);
        assert_eq!((outcome.unanswered, outcome.answers_altered), (1, 1));
    }

    #[test]
    fn random_bytes_look_random_and_orders_do_not() {
        let (mut clear, mut sealed) = (Outcome::default(), Outcome::default());
        look(&[order(1)], |piece| piece, &mut clear);
        let random: Vec<u8> = (0..=255).cycle().take(25_600).collect();
        look(&[random], |piece| piece, &mut sealed);
        assert!(clear.entropy < 5.0 && clear.secret_seen == 1 && clear.decoded == 1, "{clear:?}");
        assert!(sealed.entropy == 8.0 && sealed.secret_seen == 0, "{sealed:?}");
    }
}
