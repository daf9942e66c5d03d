//! Owns lists that only grow, and whose memory does so with them: what is asked for in advance is a chunk, not as much again as there is.
//! An entry stays where it was put, so that of a secret no copy is left behind.

use std::ops::{Index, IndexMut};

/// Entries of a chunk.
const CHUNK: usize = 32;

/// A list that only grows.
#[derive(Debug)]
pub(crate) struct Chunks<T>(Vec<Vec<T>>);

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Chunks<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.last().map_or(0, |last| (self.0.len() - 1) * CHUNK + last.len())
    }

    pub(crate) fn push(&mut self, entry: T) {
        if self.0.last().is_none_or(|last| last.len() == CHUNK) {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        self.0.last_mut().expect("it was just put there").push(entry);
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.0.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.0.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flatten()
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;
    fn index(&self, at: usize) -> &T {
        &self.0[at / CHUNK][at % CHUNK]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.0[at / CHUNK][at % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        let mut list = Chunks::default();
        for n in 0..1000 {
            assert!(list.len() == n && list.get(n).is_none() && list.get_mut(n).is_none());
            list.push(n);
            assert_eq!((list[n], list.get(n), list[n / 2]), (n, Some(&n), n / 2));
        }
        list[500] += 1;
        list.iter_mut().for_each(|n| *n *= 2);
        assert!(list.iter().copied().eq((0..1000).map(|n| 2 * (n + usize::from(n == 500)))));
        assert!(list.0.iter().all(|chunk| chunk.capacity() <= CHUNK));
    }
}
