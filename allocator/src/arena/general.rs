use std::collections::{BTreeMap, BTreeSet};

/// Blocks of any size: best fit, split, and merged with free neighbours. For what was not planned.
#[derive(Debug, Default)]
pub struct General {
    end: u64,
    free: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
}

impl General {
    /// The offset of a block of `size` bytes.
    pub fn place(&mut self, size: u64) -> u64 {
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

    /// Where the region would end after placing `size` bytes.
    pub fn end_with(&self, size: u64) -> u64 {
        if self.by_size.range((size, 0)..).next().is_some() {
            return self.end;
        }
        self.last_free().map_or(self.end, |(offset, _)| offset) + size
    }

    /// Gives a block back.
    pub fn free(&mut self, offset: u64, size: u64) {
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
