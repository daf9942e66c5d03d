//! Owns which epochs of a direction live, what each of their keys may still protect, and what leases of it are out. [P-6.5]
//!
//! The sealing side gives a message a [`Lease`] of the present epoch before its first record: that is both the reservation
//! in the budget of the key and the only thing that a record can be sealed with. The opening side finds keys by the byte that
//! a packet carries, and believes that an epoch has begun when something opened under its keys, never before. Neither decides
//! when it is time: budgets say so, the endpoint asks its peer.

use alloc::boxed::Box;
use alloc::vec::Vec;

use wire::ids::Side;
use wire::limits::RECORD_PLAINTEXT_MAX;

use crate::aead::{Cipher, Crypto};
use crate::budget::{Budget, Exhausted, Limits};
use crate::keys::{Chain, ControlKey, DataKey, KeyBytes, Secret};
use crate::replay::Window;
use zeroize::Zeroizing;

mod rest;

pub use rest::{InboundAtRest, OutboundAtRest, Trial};

/// Epochs of a direction that live at once, besides one that is prepared. [P-6.5]
pub const LIVE_MAX: usize = 4;

const fn place(epoch: u64) -> usize {
    epoch as usize % LIVE_MAX
}

/// The right to seal one message's records in one epoch, reserved in the budget of its key. Neither `Clone` nor `Copy`, and
/// only [`Sealing::lease`] makes one.
///
/// ```compile_fail,E0451
/// let made_up = record::epochs::Lease { epoch: 0 };
/// ```
#[derive(Debug)]
pub struct Lease {
    epoch: u64,
}

impl Lease {
    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// All that seals in one direction and epoch: keys, what they may still protect, and the next control number.
#[derive(Debug)]
pub struct Sealing {
    epoch: u64,
    data: DataKey,
    budget: Budget,
    control: ControlKey,
    next_control: u64,
    limits: Limits,
    /// Leases that were not given back.
    leases: u32,
    /// Nothing more may be sealed with the data key: a device may have disclosed it.
    retired: bool,
}

impl Sealing {
    /// The sealing half of `chain`'s present epoch.
    pub fn new(crypto: &dyn Crypto, chain: &Chain, limits: Limits) -> Self {
        let (bytes, cipher) = (chain.key_bytes(crypto), chain.cipher());
        Self {
            epoch: chain.epoch(),
            data: bytes.data_key(crypto, cipher),
            budget: Budget::new(limits),
            control: bytes.control_key(crypto, cipher),
            next_control: 0,
            limits,
            leases: 0,
            retired: false,
        }
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What the data key was promised to.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Reserves `records` records of at most `plaintext_bytes_each`, all that a message needs. [P-6.7]
    ///
    /// # Errors
    /// [`Exhausted`] when they would exceed a limit.
    pub const fn lease(&mut self, records: u32, plaintext_bytes_each: u32) -> Result<Lease, Exhausted> {
        if self.retired {
            return Err(Exhausted);
        }
        match self.budget.reserve(records, plaintext_bytes_each) {
            Ok(()) => {
                self.leases += 1;
                Ok(Lease { epoch: self.epoch })
            }
            Err(exhausted) => Err(exhausted),
        }
    }

    /// Whether the largest record could still be sealed.
    pub fn has_plenty(&self) -> bool {
        !self.retired && self.budget.clone().reserve(1, RECORD_PLAINTEXT_MAX as u32).is_ok()
    }

    /// Nothing is sealed with `lease` any more. Its reservation stays spent.
    pub const fn end(&mut self, lease: Lease) {
        if lease.epoch == self.epoch {
            self.leases -= 1;
        }
    }

    /// What seals records, for who has a lease of this epoch.
    pub(crate) const fn data(&self) -> &DataKey {
        &self.data
    }

    /// The control key with a packet number that nobody had before; the number is spent whether or not it is used. `None` when
    /// the key has protected as much as it may. [P-6.7]
    pub const fn next_control(&mut self) -> Option<(&ControlKey, u64)> {
        if !self.may_control() {
            return None;
        }
        let number = self.next_control;
        self.next_control += 1;
        Some((&self.control, number))
    }

    /// Whether [`Self::next_control`] has another number.
    pub const fn may_control(&self) -> bool {
        self.next_control < self.limits.controls_max()
    }

    /// Whether it is time for the next epoch, for the data key or for the control key.
    pub const fn wants_next_epoch(&self) -> bool {
        self.retired || self.budget.wants_next_epoch() || self.next_control >= self.limits.controls_soft()
    }
}

/// The sealing half of a session: the epochs of what we seal.
#[derive(Debug)]
pub struct Outbound {
    chain: Chain,
    limits: Limits,
    current: u64,
    live: [Option<Box<Sealing>>; LIVE_MAX],
}

impl Outbound {
    /// What `sender` seals in a session, in epoch 0.
    pub fn new(crypto: &dyn Crypto, session: &Secret, cipher: Cipher, sender: Side, limits: Limits) -> Self {
        let chain = Chain::new(crypto, session, cipher, sender);
        let first = Sealing::new(crypto, &chain, limits);
        Self { chain, limits, current: 0, live: [Some(Box::new(first)), None, None, None] }
    }

    /// The limits of each of its keys.
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The epoch in which messages begin.
    pub const fn epoch(&self) -> u64 {
        self.current
    }

    /// The present epoch.
    #[inline]
    pub fn current(&mut self) -> &mut Sealing {
        self.live[place(self.current)].as_mut().expect("the present epoch lives")
    }

    /// The epoch that `lease` is of, as long as it lives.
    #[inline]
    pub fn of(&self, lease: &Lease) -> Option<&Sealing> {
        self.live[place(lease.epoch)].as_deref().filter(|sealing| sealing.epoch == lease.epoch)
    }

    /// Nothing is sealed with `lease` any more.
    #[inline]
    pub fn end(&mut self, lease: Lease) {
        if let Some(sealing) = &mut self.live[place(lease.epoch)] {
            sealing.end(lease);
        }
    }

    /// What a device has to know to seal with the data key of `epoch`: cipher, key, and the first four bytes of each nonce. Only of the
    /// present epoch, and not of a key that was given up. The secret of an earlier one is gone.
    pub fn device_key(&mut self, crypto: &dyn Crypto, epoch: u64) -> Option<(Cipher, Zeroizing<Vec<u8>>, [u8; 4])> {
        (epoch == self.current && !self.current().retired).then(|| self.chain.device_key(crypto))
    }

    /// Gives up the data key of `epoch`, if it lives: nothing more is sealed with it. What holds a lease of it must be unbound. [P-3.5]
    pub fn give_up(&mut self, epoch: u64) {
        if let Some(sealing) = self.live[place(epoch)].as_mut().filter(|sealing| sealing.epoch == epoch) {
            sealing.retired = true;
        }
    }

    /// The epoch that ends when the next one begins, if anything still holds a lease of it.
    pub fn undrained(&self) -> Option<u64> {
        let oldest = self.live[place(self.current + 1)].as_deref()?;
        (oldest.leases > 0).then_some(oldest.epoch)
    }

    /// Begins the next epoch. The keys of the oldest one are gone, and so is the secret of the present one. Leases of what has
    /// ended are worth nothing: what held one must take another.
    pub fn advance(&mut self, crypto: &dyn Crypto) {
        self.chain.advance(crypto);
        self.current = self.chain.epoch();
        // The old keys go before the new ones are made: there are never more than were promised.
        let place = &mut self.live[place(self.current)];
        *place = None;
        *place = Some(Box::new(Sealing::new(crypto, &self.chain, self.limits)));
    }
}

/// All that opens in one direction and epoch.
#[derive(Debug)]
pub struct Opening {
    epoch: u64,
    /// For data records.
    pub data: DataKey,
    /// For control packets.
    pub control: ControlKey,
    /// Control packets of this epoch that were seen.
    pub window: Window,
    /// What its keys are made of: once the chain has gone on, only this can make them again.
    bytes: KeyBytes,
}

impl Opening {
    /// The opening half of `chain`'s present epoch.
    pub fn new(crypto: &dyn Crypto, chain: &Chain) -> Self {
        Self::of(crypto, chain.cipher(), chain.epoch(), chain.key_bytes(crypto), Window::new())
    }

    fn of(crypto: &dyn Crypto, cipher: Cipher, epoch: u64, bytes: KeyBytes, window: Window) -> Self {
        let (data, control) = (bytes.data_key(crypto, cipher), bytes.control_key(crypto, cipher));
        Self { epoch, data, control, window, bytes }
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

/// The opening half of a session: the epochs of what the peer seals.
#[derive(Debug)]
pub struct Inbound {
    /// At the epoch that was derived last.
    chain: Chain,
    /// The latest epoch in which anything opened.
    current: u64,
    live: [Option<Box<Opening>>; LIVE_MAX],
    /// The epoch after it, once the peer has said that it wants it.
    next: Option<Box<Opening>>,
}

impl Inbound {
    /// What `sender` seals in a session, in epoch 0.
    pub fn new(crypto: &dyn Crypto, session: &Secret, cipher: Cipher, sender: Side) -> Self {
        let chain = Chain::new(crypto, session, cipher, sender);
        let first = Opening::new(crypto, &chain);
        Self { chain, current: 0, live: [Some(Box::new(first)), None, None, None], next: None }
    }

    /// The latest epoch in which anything opened.
    pub const fn epoch(&self) -> u64 {
        self.current
    }

    /// The keys that a packet with this epoch byte names, if they are there. [P-6.5]
    #[inline]
    pub fn named(&self, byte: u8) -> Option<&Opening> {
        match &self.live[place(byte as u64)] {
            Some(opening) if opening.epoch as u8 == byte => Some(opening),
            _ => self.next.as_deref().filter(|next| next.epoch as u8 == byte),
        }
    }

    /// The same, to mark a control packet as seen.
    #[inline]
    pub fn named_mut(&mut self, byte: u8) -> Option<&mut Opening> {
        match &mut self.live[place(byte as u64)] {
            Some(opening) if opening.epoch as u8 == byte => Some(opening),
            _ => self.next.as_deref_mut().filter(|next| next.epoch as u8 == byte),
        }
    }

    /// A tag verified under the keys that `byte` names. If these were prepared, the peer has begun their epoch, and the oldest
    /// that lived is let go.
    #[inline]
    pub fn opened(&mut self, byte: u8) {
        if byte != self.current as u8 {
            self.begun(byte);
        }
    }

    #[cold]
    fn begun(&mut self, byte: u8) {
        if let Some(next) = self.next.take_if(|next| next.epoch as u8 == byte) {
            self.current = next.epoch;
            self.live[place(self.current)] = Some(next);
        }
    }

    /// The peer wants the epoch that `byte` names: whether it may be told that its packets will open. Prepares the next epoch, and
    /// says yes again to what is there already; no honest peer wants anything else.
    pub fn prepare(&mut self, crypto: &dyn Crypto, byte: u8) -> bool {
        if byte != (self.current + 1) as u8 {
            return self.named(byte).is_some();
        }
        if self.next.is_none() {
            self.chain.advance(crypto);
            self.next = Some(Box::new(Opening::new(crypto, &self.chain)));
        }
        true
    }
}
