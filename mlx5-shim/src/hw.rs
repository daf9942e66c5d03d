//! Owns a real card behind the seam: a device of libibverbs, opened for its commands (DEVX), with memory registered and queues for raw
//! Ethernet frames whose rings are written by hand.
//!
//! Written after the manuals and the sources named in docs/OFFLOAD.md; it has never met a card. What only a card can say is said by the
//! self-test above, without which nothing is used.

mod queue;

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::NonNull;

use crate::cmd::{ANSWER_LEN, CAPS_LEN, Caps, Page, created, query_caps, status};
use crate::cqe::Completion;
use crate::device::{Device, Object, Queue, Region};
use crate::error::{Failed, Missing};
use crate::load::{Libraries, List, libraries};
use crate::sys::{
    IBV_ACCESS_LOCAL_WRITE, MLX5DV_CONTEXT_FLAGS_DEVX, MLX5DV_OBJ_PD, ibv_context, ibv_mr, ibv_pd, mlx5dv_context_attr,
    mlx5dv_devx_obj, mlx5dv_obj, mlx5dv_pd,
};
use queue::HwQueue;

/// Memory is registered in whole pages.
const PAGE: usize = 4096;
/// System errors that say something: not permitted, a command that reached the firmware and failed.
const EPERM: i32 = 1;
const EREMOTEIO: i32 = 121;

/// A structure of the library, with room behind it: later releases have longer ones, and write them whole.
#[repr(C)]
pub(crate) struct Roomy<T> {
    pub(crate) value: T,
    room: [u8; 256],
}

impl<T> Roomy<T> {
    /// All zero.
    ///
    /// # Safety
    /// `T` is a C structure for which all zero is a value.
    pub(crate) const unsafe fn zeroed() -> Self {
        // SAFETY: the caller's promise; bytes may be zero.
        unsafe { std::mem::zeroed() }
    }
}

/// Zeroed memory in whole pages.
struct Memory {
    at: NonNull<u8>,
    layout: Layout,
}

impl Memory {
    fn new(bytes: usize) -> Self {
        let bytes = bytes.next_multiple_of(PAGE).max(PAGE);
        let layout = Layout::from_size_align(bytes, PAGE).expect("a size that fits an address space");
        // SAFETY: the layout is not empty.
        let at = unsafe { alloc_zeroed(layout) };
        Self { at: NonNull::new(at).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once; the card's registration has ended before (see `Hw::drop`).
        unsafe { dealloc(self.at.as_ptr(), self.layout) };
    }
}

/// A card.
pub struct Hw {
    libraries: &'static Libraries,
    name: String,
    context: *mut ibv_context,
    pd: *mut ibv_pd,
    pd_number: u32,
    mr: *mut ibv_mr,
    memory: Memory,
    caps: Caps,
    queues: Vec<Option<HwQueue>>,
    /// Objects that were not destroyed: they go with the card.
    objects: Vec<u64>,
}

// SAFETY: the library's handles may be used from any thread, one at a time, and `&mut self` is what all calls take that use them.
unsafe impl Send for Hw {}

impl std::fmt::Debug for Hw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hw").field("name", &self.name).field("caps", &self.caps).finish_non_exhaustive()
    }
}

pub(crate) fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

impl Hw {
    /// Opens the card of that name, or the first one, with so many bytes of memory for what it is to send.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn open(name: Option<&str>, memory_bytes: usize) -> Result<Self, Missing> {
        let libraries = libraries()?;
        let list = List::new(libraries);
        let present: Vec<_> = list.iter().collect();
        if present.is_empty() && name.is_none() {
            return Err(Missing::NoDevice);
        }
        let found = match name {
            Some(wanted) => present.iter().find(|(_, name, _)| name == wanted),
            None => present.iter().find(|(.., ours)| *ours).or(present.first()),
        };
        let Some((device, name, ours)) = found else {
            let wanted = name.unwrap_or_default().to_owned();
            return Err(Missing::NoSuchDevice {
                wanted,
                present: present.into_iter().map(|(_, name, _)| name).collect(),
            });
        };
        if !ours {
            return Err(Missing::NotMlx5 { device: name.clone() });
        }
        // SAFETY: all zero is a value of this structure of plain fields.
        let mut attr = unsafe { Roomy::<mlx5dv_context_attr>::zeroed() };
        attr.value.flags = MLX5DV_CONTEXT_FLAGS_DEVX;
        // SAFETY: `device` is of a list that still lives, and `attr` is a structure with room behind it.
        let context = unsafe { libraries.mlx5.mlx5dv_open_device(*device, &mut attr.value) };
        if context.is_null() {
            return Err(Missing::NoDevx { device: name.clone(), errno: errno() });
        }
        let mut hw = Self {
            libraries,
            name: name.clone(),
            context,
            pd: std::ptr::null_mut(),
            pd_number: 0,
            mr: std::ptr::null_mut(),
            memory: Memory::new(memory_bytes),
            caps: Caps::default(),
            queues: Vec::new(),
            objects: Vec::new(),
        };
        // From here on `drop` undoes what was done.
        hw.prepare()?;
        Ok(hw)
    }

    fn prepare(&mut self) -> Result<(), Missing> {
        let step = |step| move |errno| Missing::Step { step, errno };
        self.caps = Caps::from_pages(
            &self.page(Page::General).map_err(step("asking for capabilities"))?,
            &self.page(Page::Ethernet).map_err(step("asking for Ethernet's capabilities"))?,
            &self.page(Page::Tls).map_err(step("asking for TLS's capabilities"))?,
        );
        if let Some(lacks) = self.caps.lacks() {
            return Err(Missing::NoTls { lacks });
        }
        // SAFETY: the context is open.
        self.pd = unsafe { self.libraries.verbs.ibv_alloc_pd(self.context) };
        if self.pd.is_null() {
            return Err(step("making a protection domain")(errno()));
        }
        // SAFETY: all zero is a value of both structures of plain fields and pointers.
        let (mut out, mut object) = unsafe { (Roomy::<mlx5dv_pd>::zeroed(), Roomy::<mlx5dv_obj>::zeroed()) };
        (object.value.pd.in_, object.value.pd.out) = (self.pd, &mut out.value);
        // SAFETY: `object` names a live domain and a place for the answer, which has room behind it.
        let error = unsafe { self.libraries.mlx5.mlx5dv_init_obj(&mut object.value, MLX5DV_OBJ_PD.into()) };
        if error != 0 {
            return Err(step("learning the protection domain's number")(error));
        }
        self.pd_number = out.value.pdn;
        let (at, len) = (self.memory.at.as_ptr().cast(), self.memory.layout.size());
        // SAFETY: the memory is ours, and stays until the registration has ended (see `drop`).
        self.mr = unsafe { self.libraries.verbs.ibv_reg_mr(self.pd, at, len, IBV_ACCESS_LOCAL_WRITE as c_int) };
        if self.mr.is_null() {
            return Err(step("registering memory")(errno()));
        }
        // Whether raw frames may be sent shows with the first queue.
        match self.open_queue(64) {
            Ok(queue) => self.queues[queue.handle] = None,
            Err(Failed::System { errno: EPERM }) => return Err(Missing::NoRawAccess { device: self.name.clone() }),
            Err(Failed::System { errno }) => return Err(step("making a queue")(errno)),
            Err(_) => return Err(step("making a queue")(0)),
        }
        Ok(())
    }

    /// A page of capabilities, or the system's error.
    fn page(&self, page: Page) -> Result<Vec<u8>, i32> {
        let (question, mut answer) = (query_caps(page), vec![0; CAPS_LEN]);
        // SAFETY: both buffers have the lengths that are stated.
        let error = unsafe {
            self.libraries.mlx5.mlx5dv_devx_general_cmd(
                self.context,
                question.as_ptr().cast(),
                question.len(),
                answer.as_mut_ptr().cast(),
                answer.len(),
            )
        };
        if error != 0 { Err(error) } else { Ok(answer.split_off(0x10)) }
    }

    fn destroy_handle(&self, handle: u64) {
        // SAFETY: the handle is that of an object that we made and have not destroyed: `objects` says so.
        unsafe { self.libraries.mlx5.mlx5dv_devx_obj_destroy(handle as usize as *mut mlx5dv_devx_obj) };
    }

    fn queue(&mut self, queue: Queue) -> Result<&mut HwQueue, Failed> {
        self.queues.get_mut(queue.handle).and_then(Option::as_mut).ok_or(Failed::NoQueue)
    }
}

impl Device for Hw {
    fn name(&self) -> &str {
        &self.name
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn pd(&self) -> u32 {
        self.pd_number
    }

    fn create(&mut self, mailbox: &[u8]) -> Result<Object, Failed> {
        let mut answer = [0; ANSWER_LEN];
        // SAFETY: both buffers have the lengths that are stated.
        let object = unsafe {
            self.libraries.mlx5.mlx5dv_devx_obj_create(
                self.context,
                mailbox.as_ptr().cast::<c_void>(),
                mailbox.len(),
                answer.as_mut_ptr().cast(),
                answer.len(),
            )
        };
        if object.is_null() {
            let (errno, (status, syndrome)) = (errno(), status(&answer));
            let opcode = crate::bytes::u16_at(mailbox, 0);
            return Err(if errno == EREMOTEIO || status != 0 {
                Failed::Refused { opcode, status, syndrome }
            } else {
                Failed::System { errno }
            });
        }
        let handle = object as usize as u64;
        self.objects.push(handle);
        Ok(Object { number: created(&answer), handle })
    }

    fn destroy(&mut self, object: Object) {
        if let Some(at) = self.objects.iter().position(|known| *known == object.handle) {
            self.objects.swap_remove(at);
            self.destroy_handle(object.handle);
        }
    }

    fn open_queue(&mut self, blocks: u32) -> Result<Queue, Failed> {
        let opened = HwQueue::open(self.libraries, self.context, self.pd, blocks)?;
        let queue = Queue { handle: self.queues.len(), number: opened.number(), blocks: opened.blocks() };
        self.queues.push(Some(opened));
        Ok(queue)
    }

    fn region(&self) -> Region {
        // SAFETY: the registration lives as long as `self`.
        let lkey = unsafe { (*self.mr).lkey };
        Region { address: self.memory.at.as_ptr() as usize as u64, lkey, len: self.memory.layout.size() }
    }

    fn memory(&mut self) -> &mut [u8] {
        // SAFETY: the memory is ours alone among software, zeroed when it was made, and borrowed as `self` is. The card only reads it.
        unsafe { std::slice::from_raw_parts_mut(self.memory.at.as_ptr(), self.memory.layout.size()) }
    }

    fn post(&mut self, queue: Queue, index: u16, blocks: &[u8]) -> Result<(), Failed> {
        self.queue(queue)?.post(index, blocks);
        Ok(())
    }

    fn doorbell(&mut self, queue: Queue, produced: u16, last: u16) -> Result<(), Failed> {
        self.queue(queue)?.doorbell(produced, last);
        Ok(())
    }

    fn complete(&mut self, queue: Queue) -> Option<Completion> {
        self.queue(queue).ok()?.complete()
    }

    fn reset_queue(&mut self, queue: Queue) -> Result<Queue, Failed> {
        // A new one: the library's own idea of a queue's place, which we never kept up to date, then does not matter.
        *self.queues.get_mut(queue.handle).ok_or(Failed::NoQueue)? = None;
        let opened = HwQueue::open(self.libraries, self.context, self.pd, queue.blocks)?;
        let fresh = Queue { handle: queue.handle, number: opened.number(), blocks: opened.blocks() };
        self.queues[queue.handle] = Some(opened);
        Ok(fresh)
    }
}

impl Drop for Hw {
    fn drop(&mut self) {
        // Queues first, then what they may name, keys among it; memory only when the card cannot read it any more.
        self.queues.clear();
        while let Some(handle) = self.objects.pop() {
            self.destroy_handle(handle);
        }
        // SAFETY: each was made by us, is destroyed once, and nothing that needs it is left.
        unsafe {
            if !self.mr.is_null() {
                self.libraries.verbs.ibv_dereg_mr(self.mr);
            }
            if !self.pd.is_null() {
                self.libraries.verbs.ibv_dealloc_pd(self.pd);
            }
            self.libraries.verbs.ibv_close_device(self.context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Here there is no card, and the first thing that is missing is said.
    #[test]
    fn without_a_card_there_is_a_reason() {
        match Hw::open(None, 1 << 20) {
            Ok(hw) => eprintln!("there is a card here: {hw:?}"),
            Err(why) => eprintln!("no card here: {why}"),
        }
        let missing = Hw::open(Some("no_such_card_0"), 1 << 20).expect_err("nobody has that");
        assert!(matches!(missing, Missing::NoSuchDevice { .. } | Missing::Library { .. } | Missing::Symbol { .. }));
    }
}
