//! Owns the self-test of a card: real frames under a key that is made for it and thrown away, each compared with what software seals.
//!
//! All that is built on a card rests on one assumption: when its count is wrong, the nonce is right all the same, because it takes that from
//! the packet, and only the tag is wrong. So the test sets the count wrong on purpose, and a card that then makes another ciphertext, which
//! would be another nonce, is never used.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;

use mlx5_shim::cmd::{alloc_domain, create_dek, create_tis};
use mlx5_shim::device::{Device, Object};
use mlx5_shim::wqe::{Control, Descriptor, Piece, StaticParams};
use record::aead::{Aead, Cipher, Crypto, TAG_LEN};

use crate::frame::{Headers, Way, Ways, datagram};
use crate::nic::queue::{Found, Queue};
use crate::plan::KeyName;

/// Bytes in clear in front of each record, as a DATA packet has them. Their contents do not matter to the card.
pub const OWN: [u8; 20] = [0xa5; 20];
/// Clear bytes of a record.
const HEADER_LEN: usize = 13;
/// Bytes of plaintext of a record.
const TEXT: usize = 1000;

/// Where the datagrams of a test come out again.
pub trait Tap {
    /// The payload of the next one that arrived, if one does within a time that the tap chooses.
    fn next(&mut self, device: &mut dyn Device) -> Option<Vec<u8>>;
}

/// The tap of a card that has no wire: what it would send is asked of it.
#[derive(Debug)]
pub struct NoWire;

impl Tap for NoWire {
    fn next(&mut self, device: &mut dyn Device) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        while device.next_frame(&mut frame) {
            if let Some(datagram) = datagram(&frame) {
                return Some(datagram.payload.to_vec());
            }
        }
        None
    }
}

/// What is proven, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The card makes key, context and queue.
    Prepares,
    /// A record of it opens.
    Seals,
    /// So does the next one, which it was told nothing of.
    Counts,
    /// So do several that it cut into packets itself.
    Cuts,
    /// With a wrong count only the tag is wrong.
    KeepsTheNonce,
    /// It goes on inside of a record of which it was fed the beginning.
    Resumes,
    /// What it sealed before a change of key does not leak into what follows.
    Changes,
}

impl Step {
    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepares => "prepares",
            Self::Seals => "seals",
            Self::Counts => "counts",
            Self::Cuts => "cuts",
            Self::KeepsTheNonce => "keeps_the_nonce",
            Self::Resumes => "resumes",
            Self::Changes => "changes",
        }
    }
}

/// A step that failed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The step.
    pub step: Step,
    /// How.
    pub why: String,
}

impl fmt::Display for Unproven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.name(), self.why)
    }
}

/// The number that the records of a test begin with, and how much each step takes.
const FIRST: u64 = 0x0000_5ea1_a9e0_0000;

struct Proof<'a> {
    device: &'a mut dyn Device,
    tap: &'a mut dyn Tap,
    way: Way,
    to: SocketAddr,
    queue: Queue,
    tis: Object,
    dek: Object,
    aead: Box<dyn Aead>,
    salt: [u8; 4],
    step: Step,
    id: u16,
}

/// Puts a card to the test, with a cipher that it says it knows. `entropy` gives the key that is thrown away. What was proven.
///
/// # Errors
/// The first step that failed.
pub fn prove(
    device: &mut dyn Device,
    crypto: &dyn Crypto,
    tap: &mut dyn Tap,
    ways: &mut dyn Ways,
    to: SocketAddr,
    entropy: &mut dyn FnMut(&mut [u8]),
) -> Result<Vec<Step>, Unproven> {
    let cipher = if device.caps().tls12_gcm128 { Cipher::Aes128Gcm } else { Cipher::Aes256Gcm };
    let unprepared = |why: String| Unproven { step: Step::Prepares, why };
    let way = ways.way(to).ok_or_else(|| unprepared(format!("there is no way to {to} by this card")))?;
    let mut key = zeroize::Zeroizing::new([0; 36]);
    entropy(&mut key[..]);
    let (salt, key) = key.split_at(4);
    let key = &key[..cipher.key_len()];
    let failed = |error: mlx5_shim::error::Failed| unprepared(error.to_string());
    let domain = device.create(&alloc_domain()).map_err(failed)?.number;
    let pd = device.pd();
    let dek = device.create(&create_dek(key, pd)[..]).map_err(failed)?;
    let tis = device.create(&create_tis(domain, pd)).map_err(failed)?;
    let queue = Queue::new(device.open_queue(256).map_err(failed)?, 0..device.region().len, 1);
    let mut proof = Proof {
        device,
        tap,
        way,
        to,
        queue,
        tis,
        dek,
        aead: crypto.aead(cipher, key),
        salt: [salt[0], salt[1], salt[2], salt[3]],
        step: Step::Prepares,
        id: 0,
    };
    let proven = proof.run();
    let Proof { device, tis, dek, .. } = proof;
    device.destroy(tis);
    device.destroy(dek);
    proven
}

/// One step of a proof; an error says how it failed.
type Test<'a> = fn(&mut Proof<'a>) -> Result<(), String>;

impl<'a> Proof<'a> {
    fn run(&mut self) -> Result<Vec<Step>, Unproven> {
        let mut proven = vec![Step::Prepares];
        let steps: [(Step, Test<'a>); 6] = [
            (Step::Seals, Self::seals),
            (Step::Counts, Self::counts),
            (Step::Cuts, Self::cuts),
            (Step::KeepsTheNonce, Self::keeps_the_nonce),
            (Step::Resumes, Self::resumes),
            (Step::Changes, Self::changes),
        ];
        for (step, test) in steps {
            if step == Step::Cuts && self.device.caps().log_max_lso == 0 {
                continue;
            }
            self.step = step;
            test(self).map_err(|why| Unproven { step, why })?;
            proven.push(step);
        }
        Ok(proven)
    }

    fn seals(&mut self) -> Result<(), String> {
        self.position(FIRST)?;
        self.send(&self.plain(FIRST), 1, true)?;
        self.expect(&self.sealed(FIRST))
    }

    fn counts(&mut self) -> Result<(), String> {
        self.send(&self.plain(FIRST + 1), 1, false)?;
        self.expect(&self.sealed(FIRST + 1))
    }

    fn cuts(&mut self) -> Result<(), String> {
        let numbers = FIRST + 2..FIRST + 5;
        let plain: Vec<u8> = numbers.clone().flat_map(|number| self.plain(number)).collect();
        self.send(&plain, 3, false)?;
        numbers.into_iter().try_for_each(|number| self.expect(&self.sealed(number)))
    }

    fn keeps_the_nonce(&mut self) -> Result<(), String> {
        let number = FIRST + 0x100;
        // Far from it, and in the half of the number that counts as well as in the other.
        self.position(number ^ 0x7_0000_0042)?;
        self.send(&self.plain(number), 1, true)?;
        let (right, got) = (self.sealed(number), self.receive()?);
        let text = HEADER_LEN..HEADER_LEN + TEXT;
        if got.len() != right.len() || got[text.clone()] != right[text] {
            return Err("with a wrong count it makes another ciphertext: it takes the nonce from its count".to_owned());
        }
        if got[HEADER_LEN + TEXT..] == right[HEADER_LEN + TEXT..] {
            return Err(
                "with a wrong count it makes the right tag: it takes the count from the packet, unlike what is known"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn resumes(&mut self) -> Result<(), String> {
        let number = FIRST + 0x200;
        let (plain, sealed) = (self.plain(number), self.sealed(number));
        let cut = HEADER_LEN + TEXT / 3;
        self.position(number)?;
        let place = self.lay(&plain[..cut])?;
        let piece = self.piece(&place);
        let tis = self.tis.number;
        self.post(|control| Descriptor::dump(Control { tis, fence: true, ..control }, piece))?;
        self.send(&plain[cut..], 1, false)?;
        self.expect(&sealed[cut..])
    }

    fn changes(&mut self) -> Result<(), String> {
        let number = FIRST + 0x300;
        self.position(number)?;
        self.send(&self.plain(number), 1, true)?;
        self.position(number + 7)?;
        self.send(&self.plain(number + 7), 1, true)?;
        self.expect(&self.sealed(number))?;
        self.expect(&self.sealed(number + 7))
    }

    // ---- What the card is told ----

    fn post(&mut self, make: impl FnOnce(Control) -> Descriptor) -> Result<(), String> {
        self.queue.post(self.device, make).map(drop).map_err(|error| error.to_string())
    }

    fn position(&mut self, number: u64) -> Result<(), String> {
        let (tis, params) = (self.tis.number, StaticParams { number, salt: self.salt, dek: self.dek.number });
        self.post(|control| Descriptor::static_params(Control { tis, fence: true, ..control }, &params))?;
        self.post(|control| Descriptor::progress(control, tis))
    }

    fn lay(&mut self, bytes: &[u8]) -> Result<Range<usize>, String> {
        let place = self.queue.take(bytes.len()).ok_or("its memory is too small")?;
        self.device.memory()[place.clone()].copy_from_slice(bytes);
        Ok(place)
    }

    fn piece(&self, place: &Range<usize>) -> Piece {
        let region = self.device.region();
        Piece { len: place.len() as u32, lkey: region.lkey, address: region.address + place.start as u64 }
    }

    /// Sends `bytes` as so many packets of one length.
    fn send(&mut self, bytes: &[u8], packets: usize, fence: bool) -> Result<(), String> {
        let place = self.lay(bytes)?;
        let (piece, each, tis) = (self.piece(&place), bytes.len() / packets, self.tis.number);
        let header = Headers::new(&self.way, self.to, self.id, &OWN, each);
        self.id += packets as u16;
        self.post(|control| {
            let control = Control { tis, fence, signal: true, ..control };
            match packets {
                1 => Descriptor::send(control, header.bytes(), &[piece]),
                _ => Descriptor::lso(control, each as u16, header.bytes(), &[piece]),
            }
        })?;
        self.queue.depart(KeyName { session: 0, epoch: 0 });
        self.queue.ring(self.device).map_err(|error| error.to_string())
    }

    // ---- What comes of it ----

    fn receive(&mut self) -> Result<Vec<u8>, String> {
        let got = self.tap.next(self.device);
        if self.queue.poll(self.device) == Found::Stopped {
            return Err("the card reports an error".to_owned());
        }
        let got = got.ok_or("no datagram arrived")?;
        match got.strip_prefix(&OWN) {
            Some(record) => Ok(record.to_vec()),
            None => Err("what stands in clear in front of the record was altered: sealing begins elsewhere".to_owned()),
        }
    }

    fn expect(&mut self, right: &[u8]) -> Result<(), String> {
        let got = self.receive()?;
        if got == right {
            Ok(())
        } else if got.len() != right.len() {
            Err(format!("a datagram of {} bytes instead of {}", got.len(), right.len()))
        } else {
            let at = got.iter().zip(right).position(|(a, b)| a != b).unwrap_or(0);
            Err(format!("it differs from what software seals from byte {at} of {} on", right.len()))
        }
    }

    /// The record of that number before it is sealed, with a tag's worth of something at its end.
    fn plain(&self, number: u64) -> Vec<u8> {
        let mut record = vec![0x17, 3, 3];
        record.extend(((8 + TEXT + TAG_LEN) as u16).to_be_bytes());
        record.extend(number.to_be_bytes());
        record.extend((0..TEXT).map(|i| (i as u64 ^ number) as u8));
        record.extend([0xdd; TAG_LEN]);
        record
    }

    /// The same, sealed in software (RFC 5288).
    fn sealed(&self, number: u64) -> Vec<u8> {
        let mut record = self.plain(number);
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        let aad = [&number.to_be_bytes()[..], &[0x17, 3, 3], &(TEXT as u16).to_be_bytes()].concat();
        let plain = record[HEADER_LEN..HEADER_LEN + TEXT].to_vec();
        self.aead.seal(&nonce, &aad, &plain, &[], &mut record[HEADER_LEN..]);
        record
    }
}
