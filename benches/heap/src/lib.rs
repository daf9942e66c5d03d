//! An allocator that counts: how many bytes a program holds, in how many blocks, and who asked for them.
//!
//! Owns the counts of the whole process. A binary installs [`Counting`] as its global allocator; until [`count`] is called that costs
//! one load and one branch per call. Refuses: what the system's allocator adds to a block, and what the kernel holds; the resident
//! set of the process has those.
#![deny(missing_docs)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

static COUNTS: AtomicBool = AtomicBool::new(false);
static RECORDS: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);
static BLOCKS: AtomicI64 = AtomicI64::new(0);

/// Blocks that were allocated since [`record`] and not freed: their bytes, and where they were asked for.
static RECORDED: Mutex<Option<HashMap<usize, (usize, Backtrace)>>> = Mutex::new(None);

thread_local! {
    /// This thread is recording a block: what it allocates for that is no block of the program.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Counts, and leaves the rest to the system's allocator.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is handed on as it came, so what `System` promises holds; what is done beside touches no block.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, handed on.
        let at = unsafe { System.alloc(layout) };
        taken(at as usize, layout.size());
        at
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, handed on.
        let at = unsafe { System.alloc_zeroed(layout) };
        taken(at as usize, layout.size());
        at
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise, handed on.
        let moved = unsafe { System.realloc(at, layout, size) };
        if !moved.is_null() {
            freed(at as usize, layout.size());
            taken(moved as usize, size);
        }
        moved
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        freed(at as usize, layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(at, layout) }
    }
}

fn taken(at: usize, size: usize) {
    if COUNTS.load(Ordering::Relaxed) && at != 0 && !is_busy() {
        BYTES.fetch_add(size as i64, Ordering::Relaxed);
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        if RECORDS.load(Ordering::Relaxed) {
            beside(|blocks| {
                blocks.insert(at, (size, Backtrace::force_capture()));
            });
        }
    }
}

fn freed(at: usize, size: usize) {
    if COUNTS.load(Ordering::Relaxed) && !is_busy() {
        BYTES.fetch_sub(size as i64, Ordering::Relaxed);
        BLOCKS.fetch_sub(1, Ordering::Relaxed);
        if RECORDS.load(Ordering::Relaxed) {
            beside(|blocks| {
                blocks.remove(&at);
            });
        }
    }
}

fn is_busy() -> bool {
    BUSY.try_with(Cell::get).unwrap_or(true)
}

/// Changes the record, unless this thread is at it already; what it allocates meanwhile is not recorded.
fn beside(change: impl FnOnce(&mut HashMap<usize, (usize, Backtrace)>)) {
    let _ = BUSY.try_with(|busy| {
        if !busy.replace(true) {
            if let Some(blocks) = RECORDED.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                change(blocks);
            }
            busy.set(false);
        }
    });
}

/// What a program holds on the heap, or how much more than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes asked for and not given back.
    pub bytes: i64,
    /// In so many blocks.
    pub blocks: i64,
}

/// Counts from now on. `false` when this program has another allocator.
pub fn count() -> bool {
    COUNTS.store(true, Ordering::SeqCst);
    let before = held();
    let probe = std::hint::black_box(Box::new(0_u64));
    let installed = held() != before;
    drop(probe);
    installed
}

/// What is held of what was allocated since [`count`]. Blocks from before that were freed since count below nothing: only
/// differences mean something.
pub fn held() -> Held {
    Held { bytes: BYTES.load(Ordering::SeqCst), blocks: BLOCKS.load(Ordering::SeqCst) }
}

/// From now on remembers who asked for each block, until [`recorded`]. Slow.
pub fn record() {
    *RECORDED.lock().unwrap_or_else(PoisonError::into_inner) = Some(HashMap::new());
    RECORDS.store(true, Ordering::SeqCst);
}

/// Ends the record: what is held of what was allocated meanwhile, by the functions on the way to each allocation (innermost first)
/// whose names begin with one of `ours`, `depth` of them at most. The largest first.
pub fn recorded(ours: &[&str], depth: usize) -> Vec<(String, Held)> {
    RECORDS.store(false, Ordering::SeqCst);
    BUSY.set(true);
    let sites = sorted(ours, depth);
    BUSY.set(false);
    sites
}

fn sorted(ours: &[&str], depth: usize) -> Vec<(String, Held)> {
    let blocks = RECORDED.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    let mut sites: HashMap<String, Held> = HashMap::new();
    for (size, trace) in blocks.into_values() {
        let held = sites.entry(site(&trace.to_string(), ours, depth)).or_default();
        held.bytes += size as i64;
        held.blocks += 1;
    }
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by_key(|(site, held)| (-held.bytes, site.clone()));
    sites
}

/// The functions of ours in a trace as text: lines of `  12: name`, others between them.
fn site(trace: &str, ours: &[&str], depth: usize) -> String {
    let names = trace.lines().filter_map(|line| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
    });
    let is_ours = |name: &&str| {
        let bare = name.trim_start_matches('<');
        ours.iter().any(|crate_name| bare.strip_prefix(crate_name).is_some_and(|rest| rest.starts_with("::")))
    };
    let found: Vec<&str> = names.filter(is_ours).take(depth).collect();
    if found.is_empty() { "elsewhere".to_owned() } else { found.join(" < ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static COUNTING: Counting = Counting;

    #[inline(never)]
    #[expect(clippy::vec_box, reason = "it is to be thirty blocks")]
    fn thirty_blocks() -> Vec<Box<[u8; 100]>> {
        (0..30).map(|_| Box::new([1; 100])).collect()
    }

    // One test: the counts are those of the whole process.
    #[test]
    fn what_is_held_is_counted_and_who_asked_for_it_is_named() {
        assert!(count());
        record();
        let before = held();
        let blocks = std::hint::black_box(thirty_blocks());
        let freed = std::hint::black_box(thirty_blocks());
        drop(freed);
        let after = held();
        let sites = recorded(&["heap::tests"], 1);
        // The test's harness may allocate a little beside.
        let bytes = after.bytes - before.bytes;
        assert!((3000..6000).contains(&bytes), "{bytes}");
        let ours = sites.iter().find(|(site, _)| site.contains("thirty_blocks")).map(|(_, held)| *held);
        let ours = ours.unwrap_or_else(|| panic!("{sites:?}"));
        assert!((3000..4000).contains(&ours.bytes) && [30, 31].contains(&ours.blocks), "{ours:?}");
        drop(blocks);
        names_of_ours_are_picked_out_of_a_trace();
    }

    fn names_of_ours_are_picked_out_of_a_trace() {
        let trace = "   0: alloc::alloc\n             at x.rs:1\n   1: <record::Key as Drop>::drop\n   2: endpoint::a::b\n   3: main";
        assert_eq!(site(trace, &["endpoint", "record"], 2), "<record::Key as Drop>::drop < endpoint::a::b");
        assert_eq!(site(trace, &["endpoint"], 2), "endpoint::a::b");
        assert_eq!(site(trace, &["end"], 2), "elsewhere");
    }
}
