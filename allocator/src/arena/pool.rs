use std::collections::HashMap;

/// Blocks of few sizes: placed one behind the other, reused by equal sizes only. For what lives as
/// long as the run (parameters), and for what comes and goes in equal blocks (accumulators,
/// messages), this neither searches nor fragments.
#[derive(Debug, Default)]
pub struct Pool {
    end: u64,
    free: HashMap<u64, Vec<u64>>,
    live: u64,
}

impl Pool {
    /// The offset of a block of `size` bytes.
    pub fn place(&mut self, size: u64) -> u64 {
        self.live += 1;
        if let Some(offset) = self.free.get_mut(&size).and_then(Vec::pop) {
            return offset;
        }
        self.end += size;
        self.end - size
    }

    /// Where the region would end after placing `size` bytes.
    pub fn end_with(&self, size: u64) -> u64 {
        let fits = self.free.get(&size).is_some_and(|list| !list.is_empty());
        if fits { self.end } else { self.end + size }
    }

    /// Gives a block back.
    pub fn free(&mut self, offset: u64, size: u64) {
        self.live -= 1;
        if self.live == 0 {
            // Nothing is left: start over at the beginning, whatever sizes come next.
            *self = Self { end: 0, free: HashMap::new(), live: 0 };
        } else {
            self.free.entry(size).or_default().push(offset);
        }
    }

    /// How far the region must be committed.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The largest block that can be had without growing.
    pub fn largest_free(&self) -> u64 {
        self.free
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(size, _)| *size)
            .max()
            .unwrap_or(0)
    }
}
