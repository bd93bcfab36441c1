//! Grids for common ways to divide work.

use super::launch::Grid;

/// Bytes that a thread moves at once, where alignment allows.
pub(super) const PACK_BYTES: usize = 16;

/// Blocks in a row of a grid, at most.
const MOST: u64 = (1 << 31) - 1;

/// `count` items, one per thread, in blocks of `threads`.
pub(super) fn line(count: u64, threads: u32) -> Grid {
    Grid::line(count.div_ceil(u64::from(threads)).min(MOST) as u32, threads)
}

/// `len` elements of `size` bytes, as many per thread as make a pack.
pub(super) fn packs(len: usize, size: usize) -> Grid {
    line(len.div_ceil(PACK_BYTES / size) as u64, 256)
}

/// Threads that share a row of `width` elements, `pack` of which make a pack: whole warps.
pub(super) fn row_threads(width: usize, pack: usize) -> u32 {
    width.div_ceil(pack).next_multiple_of(32).clamp(32, 512) as u32
}

/// Rows of `width` elements, `pack` of which make a pack.
pub(super) fn rows(rows: usize, width: usize, pack: usize) -> Grid {
    let threads = row_threads(width, pack);
    let together = if threads == 32 { 4 } else { 1 };
    Grid {
        blocks: [rows.div_ceil(together as usize).min(MOST as usize) as u32, 1, 1],
        threads: [threads, together, 1],
        shared: 0,
    }
}
