//! Owns putting fragments of one stream in order, with a bound on bytes and on gaps. [P-6.2]

use crate::limits::GAPS_MAX;

/// A fragment that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// It goes beyond the longest stream that is taken.
    TooFar,
    /// It would make one gap too many.
    TooScattered,
}

/// One stream on its way in.
#[derive(Debug)]
pub(crate) struct Assembly {
    /// Bytes from `taken` on; those in gaps are zero.
    bytes: Vec<u8>,
    /// How many were given to the reader.
    taken: usize,
    /// What is here from `taken` on: sorted, apart from each other, none empty.
    here: Vec<(usize, usize)>,
    /// How long the stream may be.
    max: usize,
}

impl Assembly {
    pub(crate) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), taken: 0, here: Vec::new(), max }
    }

    /// How many bytes from the start are here without a gap.
    pub(crate) fn contiguous(&self) -> usize {
        self.here.first().filter(|range| range.0 == self.taken).map_or(self.taken, |range| range.1)
    }

    /// Keeps a fragment; says whether any byte of it is new. Bytes that are here already stay as they are.
    pub(crate) fn insert(&mut self, offset: usize, fragment: &[u8]) -> Result<bool, NotKept> {
        let (start, end) = (offset.max(self.taken), offset + fragment.len());
        if end > self.max {
            return Err(NotKept::TooFar);
        }
        if start >= end {
            return Ok(false);
        }
        // Ranges that overlap or touch the new one.
        let from = self.here.partition_point(|range| range.1 < start);
        let to = self.here.partition_point(|range| range.0 <= end);
        // What the reader waits for is always kept: no scattered rubbish can stop the stream.
        if from == to && start > self.taken && self.here.len() > GAPS_MAX {
            return Err(NotKept::TooScattered);
        }
        if self.bytes.len() < end - self.taken {
            self.bytes.resize(end - self.taken, 0);
        }
        let mut at = start;
        let mut fresh = false;
        for i in from..=to {
            let (gap_end, next) = if i < to { self.here[i] } else { (end, end) };
            if at < gap_end.min(end) {
                let gap_end = gap_end.min(end);
                self.bytes[at - self.taken..gap_end - self.taken]
                    .copy_from_slice(&fragment[at - offset..gap_end - offset]);
                fresh = true;
            }
            at = at.max(next);
        }
        let merged = self.here[from..to].iter().fold((start, end), |m, r| (m.0.min(r.0), m.1.max(r.1)));
        self.here.splice(from..to, [merged]);
        Ok(fresh)
    }

    /// Bytes that it holds, gaps between them included.
    pub(crate) const fn buffered(&self) -> usize {
        self.bytes.len()
    }

    /// Hands out what is next in order, if anything.
    pub(crate) fn take(&mut self) -> Option<Vec<u8>> {
        let end = self.contiguous();
        if end == self.taken {
            return None;
        }
        let rest = self.bytes.split_off(end - self.taken);
        self.here.remove(0);
        self.taken = end;
        Some(core::mem::replace(&mut self.bytes, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Any fragments of a stream, in any order, with overlaps and interleaved reads, give a prefix of it: all that is
        /// there without a gap, each byte once; and memory stays under the bound.
        #[test]
        fn any_order(fragments in proptest::collection::vec((0usize..400, 0usize..60, any::<bool>()), 0..120)) {
            let stream: Vec<u8> = (0..500).map(|i| (i % 251) as u8).collect();
            let mut here = [false; 500];
            let mut assembly = Assembly::new(440);
            let mut out = Vec::new();
            for (at, len, read) in fragments {
                let result = assembly.insert(at, &stream[at..at + len]);
                match result {
                    Ok(fresh) => {
                        prop_assert_eq!(fresh, (at..at + len).any(|i| !here[i]));
                        here[at..at + len].fill(true);
                    }
                    Err(NotKept::TooFar) => prop_assert!(at + len > 440),
                    Err(NotKept::TooScattered) => prop_assert!(assembly.here.len() > GAPS_MAX),
                }
                let contiguous = here.iter().take_while(|&&h| h).count();
                prop_assert_eq!(assembly.contiguous(), contiguous);
                if read {
                    while let Some(bytes) = assembly.take() {
                        out.extend(bytes);
                    }
                    prop_assert_eq!(out.len(), contiguous);
                }
                prop_assert!(assembly.bytes.len() <= 440);
            }
            prop_assert_eq!(&out[..], &stream[..out.len()]);
        }
    }

    /// What is here is not changed by a later fragment that says otherwise.
    #[test]
    fn first_bytes_stay() {
        let mut assembly = Assembly::new(100);
        assert_eq!(assembly.insert(2, b"cd"), Ok(true));
        assert_eq!(assembly.insert(0, b"abXXef"), Ok(true));
        assert_eq!(assembly.insert(0, b"YYYYYY"), Ok(false));
        assert_eq!(assembly.take().unwrap(), b"abcdef");
        assert_eq!(assembly.take(), None);
    }

    /// Gaps are bounded; a fragment that closes one is still taken.
    #[test]
    fn gaps_are_bounded() {
        let mut assembly = Assembly::new(1 << 12);
        for i in 0..=GAPS_MAX {
            assert_eq!(assembly.insert(2 * i + 1, b"x"), Ok(true));
        }
        assert_eq!(assembly.insert(2 * GAPS_MAX + 3, b"x"), Err(NotKept::TooScattered));
        assert_eq!(assembly.insert(2, b"x"), Ok(true));
        assert_eq!(assembly.insert(2 * GAPS_MAX + 3, b"x"), Ok(true));
        // The one that the reader waits for comes in although it touches none of the others.
        let mut assembly = Assembly::new(1 << 12);
        (0..=GAPS_MAX).for_each(|i| _ = assembly.insert(2 * i + 2, b"x"));
        assert_eq!(assembly.insert(0, b"x"), Ok(true));
        assert_eq!(assembly.take().unwrap(), b"x");
    }
}
