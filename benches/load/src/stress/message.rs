//! What a message of a stress run says: who sent it, its number, and bytes that follow from both.
//!
//! Owns making and checking. No two messages of a run are the same, so a reply to another request is seen as what it is.

use crate::pattern::Pattern;

/// The client's number and the message's own stand in front.
pub(super) const NUMBERS_LEN: usize = 16;

/// What is in the messages of one client.
#[derive(Debug)]
pub(super) struct Content {
    client: u64,
    pattern: Pattern,
    bytes: Vec<u8>,
}

impl Content {
    pub(super) fn new(client: usize, size: usize) -> Self {
        Self { client: client as u64, pattern: Pattern::new(size - NUMBERS_LEN, 0), bytes: Vec::with_capacity(size) }
    }

    fn numbers(&self, number: u64) -> [u8; NUMBERS_LEN] {
        let mut numbers = [0; NUMBERS_LEN];
        numbers[..8].copy_from_slice(&self.client.to_le_bytes());
        numbers[8..].copy_from_slice(&number.to_le_bytes());
        numbers
    }

    fn rest(&self, number: u64) -> &[u8] {
        self.pattern.message(self.client.wrapping_mul(31).wrapping_add(number))
    }

    /// Message `number`.
    pub(super) fn message(&mut self, number: u64) -> &[u8] {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.extend_from_slice(&self.numbers(number));
        bytes.extend_from_slice(self.rest(number));
        self.bytes = bytes;
        &self.bytes
    }

    /// Where `reply` differs from message `number`, if it does.
    pub(super) fn differs(&self, number: u64, reply: &[u8]) -> Option<usize> {
        let (numbers, rest) = (self.numbers(number), self.rest(number));
        let len = NUMBERS_LEN + rest.len();
        if reply.len() == len && reply[..NUMBERS_LEN] == numbers && reply[NUMBERS_LEN..] == *rest {
            return None;
        }
        let wanted = numbers.iter().chain(rest);
        Some(wanted.zip(reply).position(|(a, b)| a != b).unwrap_or(reply.len().min(len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_changed_byte_is_found_and_no_other_message_is_taken_for_it() {
        for size in [NUMBERS_LEN, 300] {
            let (mut content, mut other) = (Content::new(3, size), Content::new(4, size));
            let message = content.message(5).to_vec();
            assert_eq!((message.len(), content.differs(5, &message)), (size, None));
            for at in 0..size {
                let mut changed = message.clone();
                changed[at] ^= 1;
                assert_eq!(content.differs(5, &changed), Some(at));
            }
            assert_eq!(content.differs(5, &message[..size - 1]), Some(size - 1));
            assert!(content.differs(6, &message).is_some());
            assert!(content.differs(5, other.message(5)).is_some());
        }
    }
}
