//! Owns one queue of a real card: its ring, its doorbell, its completions, each a piece of memory that the card shares with us.

use std::ptr;
use std::sync::atomic::{Ordering, fence};

use super::{Roomy, errno};
use crate::cqe::{Completion, ENTRY};
use crate::error::Failed;
use crate::load::Libraries;
use crate::sys::{
    IBV_QP_PORT, IBV_QP_STATE, IBV_QPS_INIT, IBV_QPS_RTR, IBV_QPS_RTS, IBV_QPT_RAW_PACKET, MLX5DV_OBJ_CQ,
    MLX5DV_OBJ_QP, ibv_context, ibv_cq, ibv_pd, ibv_qp, ibv_qp_attr, ibv_qp_init_attr, mlx5dv_cq, mlx5dv_obj,
    mlx5dv_qp,
};
use crate::wqe::BLOCK;

/// The port of the card. Cards with two ports are two devices.
const PORT: u8 = 1;
/// Where in its record the doorbell of a sender stands.
const SEND_RECORD: usize = 1;
/// Completions asked for: one per plan, and a plan takes four blocks or more.
const COMPLETIONS_SHARE: u32 = 4;

/// What is undone when a queue goes.
pub(super) struct HwQueue {
    libraries: &'static Libraries,
    qp: *mut ibv_qp,
    cq: *mut ibv_cq,
    number: u32,
    ring: *mut u8,
    blocks: u32,
    doorbell: *mut u32,
    register: *mut u64,
    /// Bytes between the halves of the register that are written in turn; 0: there is one.
    register_half: usize,
    turn: bool,
    entries: *mut u8,
    entries_count: u32,
    entry_len: usize,
    entries_record: *mut u32,
    consumed: u32,
}

impl HwQueue {
    pub(super) fn open(
        libraries: &'static Libraries,
        context: *mut ibv_context,
        pd: *mut ibv_pd,
        blocks: u32,
    ) -> Result<Self, Failed> {
        let verbs = &libraries.verbs;
        let entries = (blocks / COMPLETIONS_SHARE).max(16) as i32;
        // SAFETY: the context is open; there is no channel and no vector.
        let cq = unsafe { verbs.ibv_create_cq(context, entries, ptr::null_mut(), ptr::null_mut(), 0) };
        if cq.is_null() {
            return Err(Failed::System { errno: errno() });
        }
        // SAFETY: all zero is a value of this structure of plain fields and pointers.
        let mut wanted = unsafe { Roomy::<ibv_qp_init_attr>::zeroed() };
        (wanted.value.send_cq, wanted.value.recv_cq) = (cq, cq);
        wanted.value.qp_type = IBV_QPT_RAW_PACKET;
        // What the library makes of it: a block per descriptor.
        wanted.value.cap.max_send_wr = blocks;
        wanted.value.cap.max_send_sge = 1;
        // SAFETY: domain and completion queue live, and `wanted` is a structure with room behind it.
        let qp = unsafe { verbs.ibv_create_qp(pd, &mut wanted.value) };
        if qp.is_null() {
            let errno = errno();
            // SAFETY: nothing uses it.
            unsafe { verbs.ibv_destroy_cq(cq) };
            return Err(Failed::System { errno });
        }
        let mut this = Self {
            libraries,
            qp,
            cq,
            number: 0,
            ring: ptr::null_mut(),
            blocks: 0,
            doorbell: ptr::null_mut(),
            register: ptr::null_mut(),
            register_half: 0,
            turn: false,
            entries: ptr::null_mut(),
            entries_count: 0,
            entry_len: ENTRY,
            entries_record: ptr::null_mut(),
            consumed: 0,
        };
        // From here on `drop` undoes what was done.
        this.start()?;
        this.map()?;
        Ok(this)
    }

    /// From "reset" to "ready to send", one step after the other.
    fn start(&self) -> Result<(), Failed> {
        for (state, with_port) in [(IBV_QPS_INIT, true), (IBV_QPS_RTR, false), (IBV_QPS_RTS, false)] {
            // SAFETY: all zero is a value of this structure of plain fields.
            let mut attr = unsafe { Roomy::<ibv_qp_attr>::zeroed() };
            (attr.value.qp_state, attr.value.port_num) = (state, PORT);
            let mask = IBV_QP_STATE | if with_port { IBV_QP_PORT } else { 0 };
            // SAFETY: the queue lives, and `attr` is a structure with room behind it.
            let errno = unsafe { self.libraries.verbs.ibv_modify_qp(self.qp, &mut attr.value, mask as i32) };
            if errno != 0 {
                return Err(Failed::System { errno });
            }
        }
        Ok(())
    }

    /// Learns where ring, doorbell and completions are.
    fn map(&mut self) -> Result<(), Failed> {
        // SAFETY: all zero is a value of these structures of plain fields and pointers.
        let (mut qp, mut cq, mut object) =
            unsafe { (Roomy::<mlx5dv_qp>::zeroed(), Roomy::<mlx5dv_cq>::zeroed(), Roomy::<mlx5dv_obj>::zeroed()) };
        (object.value.qp.in_, object.value.qp.out) = (self.qp, &mut qp.value);
        (object.value.cq.in_, object.value.cq.out) = (self.cq, &mut cq.value);
        let kinds = u64::from(MLX5DV_OBJ_QP | MLX5DV_OBJ_CQ);
        // SAFETY: `object` names live queues and places for the answers, which have room behind them.
        let errno = unsafe { self.libraries.mlx5.mlx5dv_init_obj(&mut object.value, kinds) };
        if errno != 0 {
            return Err(Failed::System { errno });
        }
        let (qp, cq) = (qp.value, cq.value);
        let sane = qp.sq.stride as usize == BLOCK
            && qp.sq.wqe_cnt.is_power_of_two()
            && cq.cqe_cnt.is_power_of_two()
            && matches!(cq.cqe_size, 64 | 128);
        if !sane
            || qp.sq.buf.is_null()
            || qp.dbrec.is_null()
            || qp.bf.reg.is_null()
            || cq.buf.is_null()
            || cq.dbrec.is_null()
        {
            return Err(Failed::NoQueue);
        }
        // SAFETY: the queue lives.
        self.number = unsafe { (*self.qp).qp_num };
        (self.ring, self.blocks) = (qp.sq.buf.cast(), qp.sq.wqe_cnt);
        // SAFETY: a doorbell record has two words.
        self.doorbell = unsafe { qp.dbrec.add(SEND_RECORD) };
        (self.register, self.register_half) = (qp.bf.reg.cast(), qp.bf.size as usize);
        (self.entries, self.entries_count, self.entry_len) = (cq.buf.cast(), cq.cqe_cnt, cq.cqe_size as usize);
        self.entries_record = cq.dbrec;
        Ok(())
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn blocks(&self) -> u32 {
        self.blocks
    }

    const fn block(&self, index: u16) -> *mut u8 {
        let at = index as usize & (self.blocks as usize - 1);
        // SAFETY: the ring has `blocks` blocks, a power of two, and `at` is below it.
        unsafe { self.ring.add(at * BLOCK) }
    }

    pub(super) fn post(&mut self, index: u16, blocks: &[u8]) {
        for (i, block) in blocks.chunks_exact(BLOCK).enumerate() {
            // SAFETY: the place has a block's bytes, and is ours: the engine does not post over what is not complete.
            unsafe { ptr::copy_nonoverlapping(block.as_ptr(), self.block(index.wrapping_add(i as u16)), BLOCK) };
        }
    }

    pub(super) fn doorbell(&mut self, produced: u16, last: u16) {
        let offset = if self.turn { self.register_half } else { 0 };
        before_record();
        // SAFETY: the record is a word that the card reads; only we write it.
        unsafe { ptr::write_volatile(self.doorbell, u32::from(produced).to_be()) };
        before_register();
        // SAFETY: the register takes eight bytes at its beginning or half of its size further, which is what `register_half` is; they are
        // the first ones of the last descriptor, which `post` wrote.
        unsafe {
            let word = ptr::read_unaligned(self.block(last).cast::<u64>());
            ptr::write_volatile(self.register.byte_add(offset), word);
        }
        after_register();
        self.turn = !self.turn;
    }

    pub(super) fn complete(&mut self) -> Option<Completion> {
        let at = (self.consumed & (self.entries_count - 1)) as usize * self.entry_len + self.entry_len - ENTRY;
        let mut entry = [0; ENTRY];
        // SAFETY: the entry lies in its ring; of a long one the second half counts. The last byte says whether the others are there, so it is
        // read first, and the others after the fence.
        unsafe {
            let place = self.entries.add(at);
            entry[ENTRY - 1] = ptr::read_volatile(place.add(ENTRY - 1));
            Completion::read(&entry, self.consumed, self.entries_count)?;
            fence(Ordering::Acquire);
            after_entry();
            ptr::copy_nonoverlapping(place, entry.as_mut_ptr(), ENTRY);
        }
        let completion = Completion::read(&entry, self.consumed, self.entries_count)?;
        self.consumed = self.consumed.wrapping_add(1);
        // SAFETY: the record is a word that the card reads; only we write it.
        unsafe { ptr::write_volatile(self.entries_record, (self.consumed & 0x00ff_ffff).to_be()) };
        Some(completion)
    }
}

impl Drop for HwQueue {
    fn drop(&mut self) {
        // SAFETY: both were made by `open` and are destroyed once, the one that names the other first.
        unsafe {
            self.libraries.verbs.ibv_destroy_qp(self.qp);
            self.libraries.verbs.ibv_destroy_cq(self.cq);
        }
    }
}

/// What was written to the ring is there before the doorbell's record is.
fn before_record() {
    fence(Ordering::Release);
    barrier();
}

/// The record is there before the register is written.
fn before_register() {
    fence(Ordering::SeqCst);
    barrier();
}

/// The write to the register leaves the processor's buffers.
fn after_register() {
    barrier();
}

/// The rest of an entry is not read before its last byte.
fn after_entry() {
    barrier();
}

/// Orders all that memory is written and read by devices for.
#[cfg(target_arch = "x86_64")]
fn barrier() {
    // SAFETY: orders stores, write-combined ones included, and does nothing else. Loads are in order here.
    unsafe { std::arch::x86_64::_mm_sfence() };
}

/// Orders all that memory is written and read by devices for.
#[cfg(target_arch = "aarch64")]
fn barrier() {
    // SAFETY: waits for all memory accesses, those to devices included, and does nothing else.
    unsafe { std::arch::asm!("dsb sy", options(nostack, preserves_flags)) };
}

/// Elsewhere no such card is used.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn barrier() {
    fence(Ordering::SeqCst);
}
