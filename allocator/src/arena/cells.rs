use std::collections::HashMap;

/// Blocks of few sizes, reused by equal sizes only, the one freed last first: its lines are warm.
///
/// A unit's slot is a set of cells, one per tensor that its plan saves. Units of different chunks
/// save different numbers of the same few kinds of tensors, so the cells of any closed unit fit the
/// next one, and the region holds no more than was ever taken at once. (Slots that were one block
/// each would all have to be as wide as the widest chunk's.)
#[derive(Debug, Default)]
pub struct Cells {
    end: u64,
    free: HashMap<u64, Vec<u64>>,
}

impl Cells {
    /// The offset of a free cell of `size` bytes.
    pub fn take(&mut self, size: u64) -> u64 {
        self.free.get_mut(&size).and_then(Vec::pop).unwrap_or_else(|| {
            self.end += size;
            self.end - size
        })
    }

    /// Where the region would end after taking all of `wanted`, given as (size, how many).
    pub fn end_with<'a>(&self, wanted: impl IntoIterator<Item = (&'a u64, &'a u64)>) -> u64 {
        wanted.into_iter().fold(self.end, |end, (size, count)| {
            let free = self.free.get(size).map_or(0, |list| list.len() as u64);
            end + size * count.saturating_sub(free)
        })
    }

    /// Gives a cell back.
    pub fn give(&mut self, offset: u64, size: u64) {
        self.free.entry(size).or_default().push(offset);
    }

    /// How far the region must be committed.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The largest cell that can be had without growing.
    pub fn largest_free(&self) -> u64 {
        let sizes = self.free.iter().filter(|(_, list)| !list.is_empty());
        sizes.map(|(size, _)| *size).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_different_widths_exchange_cells_without_waste() {
        // Chunks of one to four layers: while five layers are live at most, five are all there is.
        let mut cells = Cells::default();
        let mut take = |layers: usize| -> Vec<(u64, u64)> {
            let sizes = [64, 256].into_iter().cycle().take(2 * layers);
            sizes.map(|size| (cells.take(size), size)).collect()
        };
        let (two, three) = (take(2), take(3));
        let end = cells.end();
        assert_eq!(end, 5 * 320);
        for (offset, size) in two.into_iter().chain(three) {
            cells.give(offset, size);
        }
        for layers in [3, 2, 1, 4] {
            assert_eq!(cells.end_with([(&64, &layers), (&256, &layers)]), end);
        }
        assert_eq!(cells.end_with([(&64, &6)]), end + 64);
        assert_eq!(cells.largest_free(), 256);
    }

    #[test]
    fn the_cell_freed_last_is_taken_first() {
        let mut cells = Cells::default();
        let (first, second) = (cells.take(128), cells.take(128));
        cells.give(first, 128);
        cells.give(second, 128);
        assert_eq!((cells.take(128), cells.take(128)), (second, first));
    }
}
