//! Owns what no descriptor may do, whoever made it: the last look before a card's ring. It stands between all software and the card, so a
//! mistake above it cannot make a card send in clear, or tear records.
//!
//! A context that was told its key and not its place, or half of that in another queue, may let plaintext through: no source says that it
//! does not. So a descriptor that names a context passes only if the same queue told that context everything before it, in order and with
//! the fences that three drivers have, and a packet passes only if it names a context. What does not pass is not posted; the engine then takes
//! the queue for broken and gives its keys up. (docs/decisions/0026)

use crate::bytes::{u16_at, u24_at, u32_at};
use crate::cmd::{CREATE_TIS, Caps};
use crate::cqe::Completion;
use crate::device::{Device, Object, Queue, Region};
use crate::error::Failed;
use crate::spread::Map;
use crate::wqe::{BLOCK, FENCE, Opcode};

/// What a context was told, and by which queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Nothing.
    Nothing,
    /// Its key, by the queue of that number.
    Key(u32),
    /// Key and place; nothing was fed yet.
    Place(u32),
    /// All, and it was fed.
    Fed(u32),
}

/// A card behind a look at everything that it is to be told.
#[derive(Debug)]
pub struct Guarded<D> {
    inner: D,
    /// By number: what each was told, and its handle. Numbers of keys are counted apart from those of contexts.
    contexts: Map<u32, (Told, u64)>,
}

impl<D: Device> Guarded<D> {
    /// `inner`, which was told nothing yet.
    pub fn new(inner: D) -> Self {
        Self { inner, contexts: Map::default() }
    }

    /// Whether the descriptor may be posted to the queue of that number; if so, it is taken note of.
    fn passes(&mut self, queue: u32, bytes: &[u8]) -> Result<(), &'static str> {
        if bytes.len() < BLOCK || u32_at(bytes, 4) >> 8 != queue {
            return Err("it is another queue's");
        }
        let (opcode, fence) = (bytes[3], bytes[11] & 0xe0 == FENCE);
        let named = if opcode == Opcode::Progress as u8 { u24_at(bytes, 16) } else { u32_at(bytes, 12) >> 8 };
        if opcode == Opcode::Nop as u8 {
            return Ok(());
        }
        let Some((told, _)) = self.contexts.get_mut(&named) else { return Err("it names no context") };
        let owner = match *told {
            Told::Nothing => queue,
            Told::Key(owner) | Told::Place(owner) | Told::Fed(owner) => owner,
        };
        if owner != queue {
            return Err("the context is another queue's");
        }
        *told = match (opcode, *told) {
            (STATIC, Told::Nothing) => Told::Key(queue),
            (STATIC, _) if fence => Told::Key(queue),
            (PROGRESS, Told::Key(_)) => Told::Place(queue),
            (PROGRESS, Told::Place(_) | Told::Fed(_)) if fence => Told::Place(queue),
            (SEND | LSO | DUMP, Told::Place(_)) if fence => Told::Fed(queue),
            (SEND | LSO | DUMP, Told::Fed(_)) => Told::Fed(queue),
            (STATIC | PROGRESS, Told::Place(_) | Told::Fed(_)) | (STATIC, Told::Key(_)) | (_, Told::Place(_)) => {
                return Err("a fence is missing");
            }
            _ => return Err("the context was not told key and place"),
        };
        Ok(())
    }

    fn forget(&mut self, queue: u32) {
        for (told, _) in self.contexts.values_mut() {
            if matches!(*told, Told::Key(owner) | Told::Place(owner) | Told::Fed(owner) if owner == queue) {
                *told = Told::Nothing;
            }
        }
    }
}

const STATIC: u8 = Opcode::Static as u8;
const PROGRESS: u8 = Opcode::Progress as u8;
const SEND: u8 = Opcode::Send as u8;
const LSO: u8 = Opcode::Lso as u8;
const DUMP: u8 = Opcode::Dump as u8;

impl<D: Device> Device for Guarded<D> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn caps(&self) -> Caps {
        self.inner.caps()
    }

    fn pd(&self) -> u32 {
        self.inner.pd()
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        let object = self.inner.create(mailbox)?;
        if mailbox.len() >= 2 && u16_at(mailbox, 0) == CREATE_TIS {
            // One number for two contexts would be two feeders of one.
            if object.number == 0 || self.contexts.contains_key(&object.number) {
                return Err(Failed::Unsafe("a context is given twice"));
            }
            self.contexts.insert(object.number, (Told::Nothing, object.handle));
        }
        Ok(object)
    }

    fn destroy(&mut self, object: Object) {
        if self.contexts.get(&object.number).is_some_and(|(_, handle)| *handle == object.handle) {
            self.contexts.remove(&object.number);
        }
        self.inner.destroy(object);
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        self.inner.open_queue(blocks)
    }

    fn region(&self) -> Region {
        self.inner.region()
    }

    fn memory(&mut self) -> &mut [u8] {
        self.inner.memory()
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        self.passes(queue.number, blocks).map_err(Failed::Unsafe)?;
        self.inner.post(queue, index, blocks)
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        self.inner.doorbell(queue, produced, last)
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        self.inner.complete(queue)
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        // Whatever becomes of the queue: what its contexts know is not known.
        self.forget(queue.number);
        self.inner.reset_queue(queue)
    }

    fn next_frame(&mut self, frame: &mut Vec<u8>) -> bool {
        self.inner.next_frame(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::{alloc_domain, create_tis};
    use crate::model::{Config, Gcm, GcmKey, Model, NONCE_LEN, TAG_LEN};
    use crate::wqe::{Control, Descriptor, Piece, StaticParams};

    struct Noise;

    impl Gcm for Noise {
        fn key(&self, _: &[u8]) -> Box<dyn GcmKey> {
            Box::new(Self)
        }
    }

    impl GcmKey for Noise {
        fn seal(&self, _: &[u8; NONCE_LEN], _: &[u8], text: &mut [u8]) -> [u8; TAG_LEN] {
            text.iter_mut().for_each(|byte| *byte ^= 0x55);
            [7; TAG_LEN]
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Word {
        Key,
        Place,
        Data,
    }

    /// A guarded card with two queues and two contexts.
    struct Card {
        guarded: Guarded<Model>,
        queues: [Queue; 2],
        contexts: [u32; 2],
    }

    impl Card {
        fn new() -> Self {
            let mut guarded = Guarded::new(Model::new(Config::default(), Box::new(Noise)));
            let domain = guarded.create(&alloc_domain()).unwrap().number;
            let tis = create_tis(domain, guarded.pd());
            let contexts = [0, 1].map(|_| guarded.create(&tis).unwrap().number);
            let queues = [0, 1].map(|_| guarded.open_queue(64).unwrap());
            Self { guarded, queues, contexts }
        }

        fn post(&mut self, queue: usize, context: usize, word: Word, fence: bool) -> Result<(), Failed> {
            let (queue, tis) = (self.queues[queue], self.contexts[context]);
            let control = Control { queue: queue.number, tis, fence, ..Control::default() };
            let params = StaticParams { number: 1, salt: [0; 4], dek: 1 };
            let made = match word {
                Word::Key => Descriptor::static_params(control, &params),
                Word::Place => Descriptor::progress(control, tis),
                Word::Data => Descriptor::send(control, &[0; 42], &[Piece::default()]),
            };
            self.guarded.post(queue, 0, made.bytes())
        }
    }

    /// In order, with fences, by one queue: nothing is in the way. Each thing that is left out is refused, and changes nothing.
    #[test]
    fn only_what_is_told_in_order_passes() {
        let mut card = Card::new();
        let unsafe_to = |card: &mut Card, queue, context, word, fence| {
            assert!(
                matches!(card.post(queue, context, word, fence), Err(Failed::Unsafe(_))),
                "{queue} {context} {word:?}"
            );
        };
        unsafe_to(&mut card, 0, 0, Word::Data, true);
        unsafe_to(&mut card, 0, 0, Word::Place, true);
        card.post(0, 0, Word::Key, true).unwrap();
        for word in [Word::Key, Word::Place, Word::Data] {
            unsafe_to(&mut card, 1, 0, word, true);
        }
        unsafe_to(&mut card, 0, 0, Word::Data, true);
        card.post(0, 0, Word::Place, false).unwrap();
        unsafe_to(&mut card, 0, 0, Word::Data, false);
        card.post(0, 0, Word::Data, true).unwrap();
        card.post(0, 0, Word::Data, false).unwrap();
        unsafe_to(&mut card, 0, 0, Word::Place, false);
        unsafe_to(&mut card, 0, 0, Word::Key, false);
        card.post(0, 0, Word::Key, true).unwrap();
        unsafe_to(&mut card, 0, 0, Word::Data, true);
        card.post(1, 1, Word::Key, false).unwrap();
        unsafe_to(&mut card, 0, 1, Word::Place, true);
    }

    /// A queue that was emptied owns nothing, and what it told counts no more. A context that is gone is none.
    #[test]
    fn what_is_gone_is_not_known() {
        let mut card = Card::new();
        for (word, fence) in [(Word::Key, true), (Word::Place, false), (Word::Data, true)] {
            card.post(0, 0, word, fence).unwrap();
        }
        card.queues[0] = card.guarded.reset_queue(card.queues[0]).unwrap();
        assert!(card.post(0, 0, Word::Data, true).is_err());
        card.post(1, 0, Word::Key, true).unwrap();
        // A key may have the number of a context.
        card.guarded.destroy(Object { number: card.contexts[0], handle: u64::MAX });
        card.post(1, 0, Word::Place, false).unwrap();
        card.guarded.destroy(Object { number: card.contexts[0], handle: card.contexts[0].into() });
        assert!(card.post(1, 0, Word::Key, true).is_err());
    }

    /// A packet that names no context would leave as it is.
    #[test]
    fn nothing_is_sent_as_it_is() {
        let mut card = Card::new();
        card.contexts[0] = 0;
        assert_eq!(card.post(0, 0, Word::Data, true), Err(Failed::Unsafe("it names no context")));
        let nop = Descriptor::nop(Control { queue: card.queues[0].number, ..Control::default() });
        card.guarded.post(card.queues[0], 0, nop.bytes()).unwrap();
    }
}
