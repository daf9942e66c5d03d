//! Owns the way of messages by a device that seals as it sends: which go there, what becomes of them, and of keys when it fails. [P-3.5]
//!
//! A device seals nothing but the first attempt of a message, each record of it once. What has to go again goes under the next attempt, in
//! software; so does the rest of a message that the device does not take on with.

use offload::nic::Nic;
use offload::plan::{KeyName, Material, Not, Plan};
use proto::io::Work;
use proto::time::Instant;
use record::epochs::LIVE_MAX;
use wire::bytes::Writer;
use wire::data::emit_header;
use wire::header::{Header, PacketType};
use wire::ids::SessionId;
use wire::limits::DATA_HEADER_LEN;

use crate::egress::Transmit;
use crate::session::Session;
use crate::state::State;

impl State {
    /// [`Self::transmit`] where there is a device. It is told of what it got when that is much, or when nothing is left to be sealed here: one
    /// doorbell for several segments.
    #[cold]
    #[inline(never)]
    pub(crate) fn transmit_beside_device(&mut self, now: Instant, out: &mut [u8]) -> Option<Transmit> {
        loop {
            // Before anything is sealed: what was given up must not be used for another record.
            self.give_up_keys(now);
            if let Some(transmit) = self.frame_of_device(out) {
                return Some(transmit);
            }
            if let Some(transmit) = self.transmit_in_software(now, out) {
                return Some(transmit);
            }
            let device = self.device.as_mut()?;
            let more = device.has_much();
            device.untold = 0;
            device.nic.flush();
            device.nic.poll();
            if let Some(transmit) = self.frame_of_device(out) {
                return Some(transmit);
            }
            // What was given up wants another epoch, which is asked for at once.
            if !self.give_up_keys(now) && !more {
                return None;
            }
        }
    }

    /// Whether the device is to be told of what it has before it is given more.
    pub(crate) fn device_has_much(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.has_much())
    }

    fn frame_of_device(&mut self, out: &mut [u8]) -> Option<Transmit> {
        let (to, len, priority) = self.device.as_mut()?.next_frame(out)?;
        Some(Transmit { to, len, segment: len, priority })
    }

    /// Whether the message of `slot` can go on from `record`: one that a device had, and of which something must go again, or that it
    /// does not go on with, takes its next attempt.
    pub(crate) fn is_sealable(&mut self, slot: u32, peer: u32, record: u32, now: Instant) -> bool {
        let Some(message) = self.call(slot).and_then(|call| call.out.as_ref()) else { return true };
        !message.is_with_device() || message.may_hand_over(record) || self.goes_on_in_software(slot, peer, now)
    }

    /// The message takes its next attempt. Whether it can now.
    fn goes_on_in_software(&mut self, slot: u32, peer: u32, now: Instant) -> bool {
        self.counters.device_repairs += 1;
        let keys = self.sessions[peer as usize].as_mut().and_then(|session| session.keys.as_mut());
        let message = self.calls[slot as usize].as_mut().and_then(|call| call.out.as_mut());
        if let (Some(keys), Some(message)) = (keys, message) {
            message.unbind(&mut keys.sealing);
        }
        self.is_bound(slot, peer, now)
    }

    /// Gives these records to the device, if they are for it. `true` when nothing is left to be done: it has them, or they cannot be
    /// sealed at all now.
    pub(crate) fn leaves_by_device(&mut self, work: &Work, segment: usize, now: Instant) -> bool {
        let given = self.give(work, segment);
        if given == Ok(()) {
            let count = u64::from(work.end - work.start);
            self.counters.records_sealed += count;
            self.counters.records_by_device += count;
            self.counters.packets_sent += count;
            return true;
        }
        self.give_up_keys(now);
        let with_device =
            self.call(work.slot).and_then(|call| call.out.as_ref()).is_some_and(|out| out.is_with_device());
        if with_device {
            return !self.goes_on_in_software(work.slot, work.peer, now);
        }
        // Its key may just have been given up.
        !self.is_bound(work.slot, work.peer, now)
    }

    fn give(&mut self, work: &Work, segment: usize) -> Result<(), Not> {
        let Self { device, sessions, calls, counters, config, .. } = self;
        let device = device.as_mut().ok_or(Not::Broken)?;
        let message = calls[work.slot as usize].as_mut().and_then(|call| call.out.as_mut()).ok_or(Not::Broken)?;
        let session = sessions[work.peer as usize].as_mut().ok_or(Not::Broken)?;
        let used = device.uses.entry(session.id.as_u64()).or_default();
        let count = work.end - work.start;
        used.repaired += u64::from(message.repairs(&work.records()));
        if !used.off && used.is_in_doubt() {
            used.off = true;
            counters.device_off += 1;
        }
        if used.off || !message.may_hand_over(work.start) {
            return Err(Not::Broken);
        }
        let epoch = message.epoch().ok_or(Not::Broken)?;
        let key = KeyName { session: session.id.as_u64(), epoch };
        let (record_len, last_len) = (message.record_len(work.start as u16), message.record_len((work.end - 1) as u16));
        let bytes = record_len * (count as usize - 1) + last_len;
        let sequence = message.id().rpc().sequence();
        match device.nic.may_take(key, sequence, count, bytes) {
            Err(Not::UnknownKey) => {
                install(&mut device.nic, session, key, config.crypto)?;
                device.nic.may_take(key, sequence, count, bytes)?;
            }
            other => other?,
        }
        let mut header = [0; DATA_HEADER_LEN];
        let clear = Header {
            kind: PacketType::Data,
            flags: 0,
            epoch: epoch as u8,
            priority: work.priority,
            steer: session.steer,
            segment: segment as u16,
            session: session.peer_id,
        };
        emit_header(&mut Writer::new(&mut header), &clear, message.geometry().length());
        let handed = message.hand_over(work.records()).ok_or(Not::Broken)?;
        let mut plan = Plan {
            key,
            to: session.address,
            header: &header,
            message: sequence,
            first: handed.first().as_u64(),
            count,
            record_len,
            last_len,
            write: &mut |i, out| handed.write(i, out),
        };
        device.nic.take(&mut plan)?;
        used.handed += u64::from(count);
        device.untold += bytes;
        Ok(())
    }

    /// Gives up all keys with which the device failed. Whether there were any.
    fn give_up_keys(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(key) = self.device.as_mut().and_then(|device| device.nic.next_retired()) {
            any = true;
            self.give_up_key(key, now);
        }
        any
    }

    /// The device failed with that key: what it made of it is not known, so nothing more is sealed with it.
    fn give_up_key(&mut self, key: KeyName, now: Instant) {
        // A session that rests has the key as well, and what is given up must not be forgotten by resting.
        self.rouse(SessionId::from_u64(key.session));
        let Some(slot) = self.slot_of(key.session) else { return };
        let Some(keys) = self.at(slot).keys.as_mut() else { return };
        keys.sealing.give_up(key.epoch);
        let present = keys.sealing.epoch() == key.epoch;
        self.counters.device_keys_given_up += 1;
        self.leave_epoch(slot, key.epoch);
        if present {
            self.want_epoch(slot, now);
        }
    }

    fn slot_of(&self, session: u64) -> Option<u32> {
        self.session(SessionId::from_u64(session)).map(|(slot, _)| slot)
    }

    /// Keys of epochs and sessions that have ended are taken from the device.
    #[cold]
    pub(crate) fn forget_device_keys(&mut self) {
        let Some(mut device) = self.device.take() else { return };
        let present = |session: u64| {
            let resting = self.rests.get(SessionId::from_u64(session)).map(|resting| resting.sealing.epoch());
            let awake = || self.sessions[self.slot_of(session)? as usize].as_ref()?.keys.as_ref();
            resting.or_else(|| awake().map(|keys| keys.sealing.epoch()))
        };
        device.nic.forget(|key| present(key.session).is_some_and(|epoch| key.epoch + LIVE_MAX as u64 > epoch));
        device.uses.retain(|session, _| present(*session).is_some());
        self.device = Some(device);
    }
}

/// Gives the card the session's present key.
fn install(nic: &mut Nic, session: &mut Session, name: KeyName, crypto: &dyn record::aead::Crypto) -> Result<(), Not> {
    if !nic.knows_cipher(session.cipher) {
        return Err(Not::UnknownKey);
    }
    let keys = session.keys.as_mut().ok_or(Not::UnknownKey)?;
    let (cipher, key, salt) = keys.sealing.device_key(crypto, name.epoch).ok_or(Not::UnknownKey)?;
    if nic.install(name, &Material { cipher, key, salt }) { Ok(()) } else { Err(Not::UnknownKey) }
}
