//! What forward and backward share: packed blocks, lanes of queries, masks.

use super::{Chunk, Rows, Shape};
use crate::cpu::micro::{Multiply, NR, Operands, Path, Strides, tile};
use crate::cpu::simd::{exp2, exp2_rough, mul_add, multiversion};
use crate::cpu::transpose::transpose;
use crate::cpu::words::{words_across, words_along};

/// Keys of a block; whole tiles on every path.
pub(super) const KEYS: usize = 64;
/// Lanes a task aims at.
const LANES: usize = 128;

/// Where in memory things go: sizes of one task's buffers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// The path that multiplies.
    pub path: Path,
    /// Rows of its tiles.
    pub tile: usize,
    /// Lanes: query heads of the group times query rows of the block.
    pub lanes: usize,
    /// Query rows of a block; a multiple of 32.
    pub rows: usize,
    /// Words of a head, rounded up to what the path's steps come in.
    pub words: usize,
    /// Head size rounded up to whole tiles of rows.
    pub dim: usize,
    /// Head size rounded up to whole registers of lanes.
    pub wide: usize,
}

impl Sizes {
    pub(super) fn new<T: Multiply>(path: Path, shape: &Shape) -> Self {
        let needed = shape.q_len.next_multiple_of(NR);
        let rows = (LANES / shape.group()).next_multiple_of(NR).clamp(NR, needed.max(NR));
        let tile = if path == Path::Amx { 32 } else { 8 };
        Self {
            path,
            tile,
            lanes: rows * shape.group(),
            rows,
            words: shape.head_dim.div_ceil(T::PER_WORD).next_multiple_of(path.step_unit()),
            dim: shape.head_dim.next_multiple_of(tile),
            wide: shape.head_dim.next_multiple_of(NR),
        }
    }
}

/// The query rows of one task, for all heads of a group: lane = head in group * rows + row.
#[derive(Clone, Copy)]
pub(super) struct Queries {
    /// First query row.
    pub start: usize,
    /// Rows that exist.
    pub count: usize,
    /// The first query head of the group.
    pub head: usize,
    /// Position of row 0 of the task.
    pub position: usize,
}

impl Queries {
    pub(super) fn new(shape: &Shape, sizes: &Sizes, kv_head: usize, block: usize) -> Self {
        let start = block * sizes.rows;
        Self {
            start,
            count: sizes.rows.min(shape.q_len - start),
            head: kv_head * shape.group(),
            position: shape.q_offset + start,
        }
    }

    /// The last position that any of the task's rows may see.
    pub(super) fn last(&self) -> usize {
        self.position + self.count - 1
    }
}

/// Calls `f(chunk, first key, keys)` for each block of keys that some query may see.
pub(super) fn visible_blocks<T>(
    chunks: &[Chunk<'_, T>],
    last: usize,
    mut f: impl FnMut(usize, usize, usize),
) {
    for (index, chunk) in chunks.iter().enumerate() {
        if chunk.start > last {
            continue;
        }
        let visible = chunk.len.min(last - chunk.start + 1);
        for first in (0..visible).step_by(KEYS) {
            f(index, first, KEYS.min(visible - first));
        }
    }
}

/// The rows of one head that a block covers.
#[derive(Clone, Copy)]
pub(super) struct Block<'a, T> {
    pub rows: Rows<'a, T>,
    pub first: usize,
    pub count: usize,
    pub head: usize,
    pub dim: usize,
}

impl<T: Multiply> Block<'_, T> {
    fn row(&self, row: usize) -> &[T] {
        self.rows.head(self.first + row, self.head, self.dim)
    }

    /// Packs the rows as words along the head, `out` [rows][words]; what is missing is zero.
    pub(super) fn words_of_rows(&self, words: usize, out: &mut [u32]) {
        let own = self.dim.div_ceil(T::PER_WORD);
        for (row, out) in out.chunks_exact_mut(words).enumerate() {
            if row < self.count {
                words_along::<T>(self.row(row), &mut out[..own]);
                out[own..].fill(0);
            } else {
                out.fill(0);
            }
        }
    }

    /// Packs the rows as words along the rows, `out` [rows / PER_WORD][width]; what is missing is
    /// zero.
    pub(super) fn words_of_columns(&self, width: usize, out: &mut [u32]) {
        for (step, out) in out.chunks_exact_mut(width).enumerate() {
            let (a, b) = (step * T::PER_WORD, step * T::PER_WORD + T::PER_WORD - 1);
            let (own, rest) = out.split_at_mut(self.dim);
            rest.fill(0);
            if b < self.count {
                words_across::<T>(self.row(a), self.row(b), own);
            } else if a < self.count {
                own.iter_mut().zip(self.row(a)).for_each(|(to, &a)| *to = T::word(a, T::default()));
            } else {
                own.fill(0);
            }
        }
    }

    /// The rows' transpose as the left operand of a product over `keys` rows; `spare` is scratch.
    pub(super) fn transposed(
        &self,
        sizes: &Sizes,
        keys: usize,
        out: &mut [u32],
        spare: &mut [u32],
    ) -> Strides {
        let (steps, dim) = (keys / T::PER_WORD, sizes.dim);
        if !sizes.path.wants_dense_steps() {
            self.words_of_columns(dim, &mut out[..steps * dim]);
            return Strides { row: 1, step: dim };
        }
        let spare = &mut spare[..steps * dim];
        self.words_of_columns(dim, spare);
        transpose::<f32>(bytemuck::cast_slice(spare), dim, (steps, dim), out, KEYS / T::PER_WORD);
        Strides { row: KEYS / T::PER_WORD, step: 1 }
    }
}

/// Packs the queries' rows as words along the head with queries in the lanes: [words][lanes].
pub(super) fn lanes_of_queries<T: Multiply>(
    rows: &Rows<'_, T>,
    queries: &Queries,
    shape: &Shape,
    sizes: &Sizes,
    out: &mut [u32],
) {
    let own = shape.head_dim.div_ceil(T::PER_WORD);
    if queries.count < sizes.rows || own < sizes.words {
        out.fill(0);
    }
    for head in 0..shape.group() {
        let at = queries.start * rows.stride + (queries.head + head) * shape.head_dim;
        let (size, to) = ((queries.count, own), &mut out[head * sizes.rows..]);
        transpose::<T>(&rows.data[at..], rows.stride, size, to, sizes.lanes);
    }
}

/// The operands of a product of tiles.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub steps: usize,
    pub a: &'a [u32],
    pub strides: Strides,
    pub b: &'a [u32],
    pub ldb: usize,
}

impl Product<'_> {
    /// C [rows, cols] (+)= A B, rows and columns whole tiles.
    pub(super) fn run<T: Multiply>(
        &self,
        sizes: &Sizes,
        (rows, cols): (usize, usize),
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let last_c = rows.saturating_sub(1) * ldc + cols;
        assert!(last_c <= c.len() && cols <= ldc, "a product leaves its destination");
        // SAFETY: the whole of C lies inside the slice.
        unsafe { self.run_at::<T>(sizes, (rows, cols), c.as_mut_ptr(), ldc, accumulate) }
    }

    /// As [`Product::run`], to rows that begin at `c`.
    ///
    /// # Safety
    /// The whole of C can be read and written, and nobody else does.
    pub(super) unsafe fn run_at<T: Multiply>(
        &self,
        sizes: &Sizes,
        (rows, cols): (usize, usize),
        c: *mut f32,
        ldc: usize,
        accumulate: bool,
    ) {
        let (Self { steps, a, strides, b, ldb }, &Sizes { path, tile: height, .. }) =
            (*self, sizes);
        if steps == 0 || rows == 0 {
            return;
        }
        let last_a = (rows - 1) * strides.row + (steps - 1) * strides.step;
        let last_b = (steps - 1) * ldb + cols;
        assert!(
            rows.is_multiple_of(height) && cols.is_multiple_of(NR) && cols <= ldb,
            "whole tiles only"
        );
        assert!(last_a < a.len() && last_b <= b.len(), "a product leaves its operands");
        for col in (0..cols).step_by(NR) {
            for row in (0..rows).step_by(height) {
                // SAFETY: the path is this machine's and entered; every word of A and B the tile
                // touches lies inside its slice, asserted above; C is the caller's promise.
                unsafe {
                    let a = a.as_ptr().add(row * strides.row);
                    let c = c.add(row * ldc + col);
                    let b = b.as_ptr().add(col);
                    let operands = Operands { steps, a, strides, b, ldb };
                    match path {
                        Path::Amx => tile::<T, 32>(path, operands, c, ldc, accumulate),
                        _ => tile::<T, 8>(path, operands, c, ldc, accumulate),
                    }
                }
            }
        }
    }
}

/// The first row of lanes, by position, that sees the key at `key`: lanes before it are masked.
#[inline(always)]
pub(super) fn first_visible(key: usize, position: usize) -> usize {
    key.saturating_sub(position)
}

/// 2^x as accurately as `T` can tell.
#[inline(always)]
pub(super) fn power<T: Multiply, const FUSED: bool>(x: f32) -> f32 {
    if T::PER_WORD == 2 { exp2_rough::<FUSED>(x) } else { exp2::<FUSED>(x) }
}

multiversion! {
    /// One block of forward's softmax, in place on scores `s` [keys][lanes]: probabilities relative
    /// to the new maxima. `max`, `sum` [lanes] are updated, `alpha` gets what O is to be scaled by.
    /// Maxima are logarithms to base 2, and `scale` takes scores there. `key` is the first key's
    /// position, `position` the first query's, `rows` lanes make a head.
    pub(super) fn softmax_block<T: Multiply>(s: &mut [f32], lanes: usize, scale: f32, span: (usize, usize, usize), max: &mut [f32], sum: &mut [f32], alpha: &mut [f32]) {
        let (key, position, rows) = span;
        let keys = s.len() / lanes;
        for lane in (0..lanes).step_by(NR) {
            let from = lane % rows;
            let masked = key + keys > position + from + 1;
            let mut top = [f32::NEG_INFINITY; NR];
            for (j, s) in s.chunks_exact_mut(lanes).enumerate() {
                let s = &mut s[lane..lane + NR];
                if masked {
                    let visible = first_visible(key + j, position);
                    for (i, s) in s.iter_mut().enumerate() {
                        *s = if from + i >= visible { *s } else { f32::NEG_INFINITY };
                    }
                }
                for (top, s) in top.iter_mut().zip(s) {
                    *top = if *s > *top { *s } else { *top };
                }
            }
            let (max, sum) = (&mut max[lane..lane + NR], &mut sum[lane..lane + NR]);
            let alpha = &mut alpha[lane..lane + NR];
            let mut base = [0f32; NR];
            let mut added = [0f32; NR];
            for i in 0..NR {
                let top = top[i] * scale;
                let new = if top > max[i] { top } else { max[i] };
                // Nothing seen yet: any finite base keeps 2^(-inf - base) at 0.
                base[i] = if new == f32::NEG_INFINITY { 0.0 } else { -new };
                alpha[i] = exp2::<FUSED>(max[i] + base[i]);
                max[i] = new;
            }
            for s in s.chunks_exact_mut(lanes) {
                let s = &mut s[lane..lane + NR];
                for i in 0..NR {
                    let p = power::<T, FUSED>(mul_add::<FUSED>(s[i], scale, base[i]));
                    s[i] = p;
                    added[i] += p;
                }
            }
            for i in 0..NR {
                sum[i] = sum[i] * alpha[i] + added[i];
            }
        }
    }
}
