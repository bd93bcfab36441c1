//! A block of B, packed once for all, and the groups of A's rows that are multiplied with it.

use std::cell::RefCell;

use super::pack::Source;
use super::{Beta, Input, MatRef, Output};
use crate::cpu::micro::{MAX_ROWS, NR, Operands, Path, Strides, tile};
use crate::cpu::scratch::Buffer;
use crate::cpu::threads::{Shared, Threads};

/// Panels of B packed by one task: enough that what it reads of a row fills several cache lines.
const PANELS: usize = 4;

/// Most words of A in one task (twice as many on AMX, which comes with a larger cache): they stay
/// in the thread's second-level cache while B's panels pass by, each read once from the cache that
/// threads share.
const GROUP: usize = 1 << 17;

thread_local! {
    /// A group of A's rows, packed by the task that uses it.
    static GROUP_OF_A: RefCell<Buffer<u32>> = RefCell::default();
}

/// Columns of B, packed; and which words they are.
pub(super) struct Block<'a> {
    path: Path,
    first: usize,
    steps: usize,
    cols: usize,
    b: &'a [u32],
}

impl<'a> Block<'a> {
    /// Packs words `first..first + steps` of B's columns.
    pub(super) fn pack<T: Input>(
        path: Path,
        threads: &Threads,
        columns: MatRef<'_, T>,
        (first, steps): (usize, usize),
        buffer: &'a mut Buffer<u32>,
    ) -> Self {
        let (cols, panel) = (columns.rows(), NR * steps);
        let words = buffer.fit(cols.div_ceil(NR) * panel);
        threads.chunks(words, PANELS * panel, |task, panels| {
            let start = task * PANELS * NR;
            let view = columns.narrow_rows(start, (PANELS * NR).min(cols - start));
            Source { view, first, steps }.to_lanes::<NR>(panels);
        });
        Self { path, first, steps, cols, b: words }
    }

    /// C = or += A B; `c` begins at the block's first row and column, rows `ldc` apart.
    pub(super) fn run<T: Input, O: Output, const MR: usize>(
        &self,
        threads: &Threads,
        rows: MatRef<'_, T>,
        beta: Beta,
        c: &mut [O],
        ldc: usize,
    ) {
        let words = if self.path == Path::Amx { 2 * GROUP } else { GROUP };
        let group = (words / (MR * self.steps)).max(1);
        let tiles = [rows.rows().div_ceil(MR), self.cols.div_ceil(NR)];
        let grid = Grid::new(tiles, group, threads.size());
        let c = Destination { base: Shared(c.as_mut_ptr()), ldc, beta };
        threads.run(grid.tasks(), |task| {
            let [[first, last], columns] = grid.task(task);
            let (start, end) = (first * MR, rows.rows().min(last * MR));
            // Tiles that A does not fill are packed, whatever becomes of the others.
            let whole = start + (end - start) / MR * MR;
            for (start, end) in [(start, whole), (whole, end)] {
                if start == end {
                    continue;
                }
                let group = rows.narrow_rows(start, end - start);
                GROUP_OF_A.with_borrow_mut(|buffer| {
                    let a = self.left::<T, MR>(group, buffer);
                    let _entered = self.path.enter();
                    for col in columns[0]..columns[1] {
                        for row in 0..(end - start).div_ceil(MR) {
                            let corner = (start + row * MR, col * NR);
                            let size = (MR.min(end - corner.0), NR.min(self.cols - corner.1));
                            let b = self.b[col * NR * self.steps..][..NR * self.steps].as_ptr();
                            let operands = Operands {
                                steps: self.steps,
                                a: a.base.wrapping_add(row * a.tile),
                                strides: a.strides,
                                b,
                                ldb: NR,
                            };
                            // SAFETY: both panels hold `steps` words per lane, the path is this
                            // machine's and entered, and this tile of C belongs to this task alone.
                            unsafe { c.tile::<T, MR>(self.path, operands, corner, size) };
                        }
                    }
                });
            }
        });
    }

    /// The group's words as the path reads them: in the matrix itself, or packed.
    fn left<T: Input, const MR: usize>(
        &self,
        group: MatRef<'_, T>,
        buffer: &mut Buffer<u32>,
    ) -> Left {
        let Self { path, first, steps, .. } = *self;
        let (row_stride, col_stride) = group.strides();
        // Rows a multiple of a page apart would push each other out of the first-level cache.
        let apart = path.wants_dense_steps() || !(row_stride * size_of::<T>()).is_multiple_of(4096);
        let in_place = apart
            && path != Path::Portable
            && col_stride == 1
            && row_stride.is_multiple_of(T::PER_WORD)
            && (first + steps) * T::PER_WORD <= group.cols()
            && group.rows().is_multiple_of(MR);
        if in_place {
            let base = group.as_ptr().cast::<u32>().wrapping_add(first);
            let row = row_stride / T::PER_WORD;
            return Left { base, tile: MR * row, strides: Strides { row, step: 1 } };
        }
        let panels = buffer.fit(group.rows().next_multiple_of(MR) * steps);
        let source = Source { view: group, first, steps };
        let strides = if path.wants_dense_steps() {
            source.to_rows(panels);
            Strides { row: steps, step: 1 }
        } else {
            source.to_lanes::<MR>(panels);
            Strides { row: 1, step: MR }
        };
        Left { base: panels.as_ptr(), strides, tile: MR * steps }
    }
}

/// A group's words.
struct Left {
    base: *const u32,
    /// Words from one tile's rows to the next's.
    tile: usize,
    strides: Strides,
}

/// How the tiles of C are dealt to tasks: ranges of rows times ranges of columns. It depends on the
/// team's size, which is harmless: a tile's sums do not depend on the task it is computed in.
struct Grid {
    tiles: [usize; 2],
    parts: [usize; 2],
}

impl Grid {
    /// A grid of tasks with at most `group` tiles below each other.
    fn new(tiles: [usize; 2], group: usize, threads: usize) -> Self {
        let [rows, cols] = tiles;
        let groups = rows.div_ceil(group);
        let parts = if rows >= 4 * threads {
            // Whole rounds of the team.
            [groups.next_multiple_of(threads), 1]
        } else {
            [groups, threads.div_ceil(groups).min(cols)]
        };
        Self { tiles, parts }
    }

    fn tasks(&self) -> usize {
        self.parts[0] * self.parts[1]
    }

    /// The rows and the columns of a task, as first tile and end.
    fn task(&self, task: usize) -> [[usize; 2]; 2] {
        let [rows, cols] = self.parts;
        let range = |i, part| {
            let (tiles, parts) = (self.tiles[i], self.parts[i]);
            [part * tiles / parts, (part + 1) * tiles / parts]
        };
        debug_assert!(task < rows * cols);
        [range(0, task / cols), range(1, task % cols)]
    }
}

struct Destination<O> {
    base: Shared<O>,
    ldc: usize,
    beta: Beta,
}

impl<O: Output> Destination<O> {
    /// Computes the tile of C at `corner`, of which `size` lies inside.
    ///
    /// # Safety
    /// As [`tile`], and nobody else uses this tile of C.
    unsafe fn tile<T: Input, const MR: usize>(
        &self,
        path: Path,
        operands: Operands,
        corner: (usize, usize),
        (height, width): (usize, usize),
    ) {
        let at = corner.0 * self.ldc + corner.1;
        let whole = height == MR && width == NR;
        if let Some(c) = O::f32_pointer(self.base.at(at)).filter(|_| whole) {
            // SAFETY: the caller's promise, passed on.
            unsafe { tile::<T, MR>(path, operands, c, self.ldc, self.beta == Beta::Accumulate) };
            return;
        }
        // A ragged edge, or another type: by way of a buffer.
        let mut sums = Tile([0.0; MAX_ROWS * NR]);
        // SAFETY: the caller's promise, passed on; the buffer holds a whole tile.
        unsafe { tile::<T, MR>(path, operands, sums.0.as_mut_ptr(), NR, false) };
        for (row, sums) in sums.0.chunks_exact(NR).enumerate().take(height) {
            // SAFETY: this part of the row lies inside C and belongs to the caller alone.
            let to = unsafe { self.base.part(at + row * self.ldc, width) };
            O::store(self.beta, &sums[..width], to);
        }
    }
}

/// Room for a tile, aligned to cache lines.
#[repr(align(64))]
struct Tile([f32; MAX_ROWS * NR]);
