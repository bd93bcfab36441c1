use std::collections::{BTreeMap, BTreeSet};

/// Blocks of any size: best fit, split, and merged with free neighbours. For what was not planned,
/// and for what is placed too seldom to be worth planning (parameters, accumulators, messages).
#[derive(Debug, Default)]
pub struct BestFit {
    end: u64,
    /// Free blocks by offset, no two adjacent, and the same by (size, offset).
    free: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl BestFit {
    /// The offset of a block of `size` bytes.
    pub fn take(&mut self, size: u64) -> u64 {
        match self.by_size.range((size, 0)..).next().copied() {
            Some((found, offset)) => {
                self.remove(offset, found);
                if found > size {
                    self.insert(offset + size, found - size);
                }
                offset
            }
            None => {
                // A free block at the end grows to what is needed.
                let start = self.last_free().map_or(self.end, |(offset, len)| {
                    self.remove(offset, len);
                    offset
                });
                self.end = start + size;
                start
            }
        }
    }

    /// Where the region would end after taking `size` bytes.
    pub fn end_with(&self, size: u64) -> u64 {
        if self.by_size.range((size, 0)..).next().is_some() {
            return self.end;
        }
        self.last_free().map_or(self.end, |(offset, _)| offset) + size
    }

    /// Gives a block back.
    pub fn give(&mut self, offset: u64, size: u64) {
        let (mut start, mut len) = (offset, size);
        if let Some((&before, &before_len)) = self.free.range(..offset).next_back()
            && before + before_len == offset
        {
            self.remove(before, before_len);
            (start, len) = (before, before_len + len);
        }
        if let Some(&after_len) = self.free.get(&(offset + size)) {
            self.remove(offset + size, after_len);
            len += after_len;
        }
        self.insert(start, len);
    }

    /// Forgets the free block at the end, if there is one: the region can be cut there.
    pub fn trim(&mut self) {
        if let Some((offset, len)) = self.last_free() {
            self.remove(offset, len);
            self.end = offset;
        }
    }

    /// How far the region must be committed.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The largest block that can be had without growing.
    pub fn largest_free(&self) -> u64 {
        self.by_size.last().map_or(0, |(size, _)| *size)
    }

    fn last_free(&self) -> Option<(u64, u64)> {
        let (&offset, &len) = self.free.last_key_value()?;
        (offset + len == self.end).then_some((offset, len))
    }

    fn insert(&mut self, offset: u64, len: u64) {
        self.free.insert(offset, len);
        self.by_size.insert((len, offset));
    }

    fn remove(&mut self, offset: u64, len: u64) {
        self.free.remove(&offset);
        self.by_size.remove(&(len, offset));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_hole_that_fits_is_taken_and_neighbours_merge() {
        let mut arena = BestFit::default();
        let [a, _b, c, _d] = [512, 64, 128, 64].map(|size| arena.take(size));
        arena.give(a, 512);
        arena.give(c, 128);
        assert_eq!(arena.take(128), c);
        assert_eq!((arena.take(64), arena.take(64)), (a, a + 64));
        arena.give(a, 64);
        arena.give(a + 64, 64);
        assert_eq!(arena.largest_free(), 512);
        assert_eq!(arena.end(), 768);
    }

    proptest! {
        #[test]
        fn blocks_never_overlap_and_what_is_free_tiles_the_rest(
            steps in prop::collection::vec((1u64..40, any::<prop::sample::Index>(), any::<bool>()), 1..200),
        ) {
            let mut arena = BestFit::default();
            let mut live: BTreeMap<u64, u64> = BTreeMap::new();
            for (lines, which, free) in steps {
                if free && !live.is_empty() {
                    let (&offset, &size) = live.iter().nth(which.index(live.len())).unwrap();
                    live.remove(&offset);
                    arena.give(offset, size);
                } else {
                    let (size, end) = (lines * 64, arena.end_with(lines * 64));
                    live.insert(arena.take(size), size);
                    prop_assert_eq!(arena.end(), end);
                }
                let mut all: Vec<_> = live.iter().chain(&arena.free).collect();
                all.sort_unstable();
                let tiled = all.iter().try_fold(0, |at, &(&offset, &size)| (offset == at).then_some(at + size));
                prop_assert_eq!(tiled, Some(arena.end()));
                prop_assert_eq!(arena.free.len(), arena.by_size.len());
            }
            for (offset, size) in live {
                arena.give(offset, size);
            }
            arena.trim();
            prop_assert_eq!(arena.end(), 0);
        }
    }
}
