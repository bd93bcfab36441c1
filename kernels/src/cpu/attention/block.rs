//! What forward and backward share: packed blocks, lanes of queries, masks.

use super::{Chunk, Rows, Shape};
use crate::cpu::micro::{Multiply, NR, Operands, Path, Strides, tile};
use crate::cpu::simd::{exp, multiversion};

/// Keys of a block.
pub(super) const KEYS: usize = 64;
/// Rows of a register tile.
pub(super) const ROWS: usize = 8;
/// Lanes a task aims at.
const LANES: usize = 128;

/// Where in memory things go: sizes of one task's buffers.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Lanes: query heads of the group times query rows of the block.
    pub lanes: usize,
    /// Query rows of a block; a multiple of 32.
    pub rows: usize,
    /// Words of a head.
    pub words: usize,
    /// Head size rounded up to whole tiles of rows.
    pub dim: usize,
    /// Head size rounded up to whole registers of lanes.
    pub wide: usize,
}

impl Sizes {
    pub(super) fn new<T: Multiply>(shape: &Shape) -> Self {
        let needed = shape.q_len.next_multiple_of(NR);
        let rows = (LANES / shape.group()).next_multiple_of(NR).clamp(NR, needed.max(NR));
        Self {
            lanes: rows * shape.group(),
            rows,
            words: shape.head_dim.div_ceil(T::PER_WORD),
            dim: shape.head_dim.next_multiple_of(ROWS),
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

/// Packs rows of a head as words along the head: [KEYS][words], missing rows zero.
pub(super) fn words_of_rows<T: Multiply>(
    rows: &Rows<'_, T>,
    first: usize,
    count: usize,
    head: usize,
    dim: usize,
    out: &mut [u32],
) {
    let words = dim.div_ceil(T::PER_WORD);
    for (row, out) in out.chunks_exact_mut(words).enumerate() {
        if row < count {
            dense_words::<T>(rows.head(first + row, head, dim), out);
        } else {
            out.fill(0);
        }
    }
}

multiversion! {
    fn dense_words<T: Multiply>(from: &[T], out: &mut [u32]) {
        for (i, word) in out.iter_mut().enumerate() {
            *word = T::word(from[i * T::PER_WORD], from[i * T::PER_WORD + T::PER_WORD - 1]);
        }
    }
}

/// Packs rows of a head as words along the rows: [rows / PER_WORD][width], missing elements zero.
pub(super) fn words_of_columns<T: Multiply>(
    rows: &Rows<'_, T>,
    first: usize,
    count: usize,
    head: usize,
    dim: usize,
    width: usize,
    out: &mut [u32],
) {
    let zeros = [T::default(); 512];
    let mut padded = Vec::new();
    let zeros: &[T] = if dim <= 512 {
        &zeros[..dim]
    } else {
        padded.resize(dim, T::default());
        &padded
    };
    let row = |i: usize| if i < count { rows.head(first + i, head, dim) } else { zeros };
    for (step, out) in out.chunks_exact_mut(width).enumerate() {
        let (a, b) = (row(step * T::PER_WORD), row(step * T::PER_WORD + T::PER_WORD - 1));
        interleave::<T>(a, b, &mut out[..dim]);
        out[dim..].fill(0);
    }
}

multiversion! {
    fn interleave<T: Multiply>(a: &[T], b: &[T], out: &mut [u32]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = T::word(a, b);
        }
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
    out.fill(0);
    for head in 0..shape.group() {
        for row in 0..queries.count {
            let from = rows.head(queries.start + row, queries.head + head, shape.head_dim);
            let lane = head * sizes.rows + row;
            for word in 0..sizes.words {
                out[word * sizes.lanes + lane] =
                    T::word(from[word * T::PER_WORD], from[word * T::PER_WORD + T::PER_WORD - 1]);
            }
        }
    }
}

/// The operands of a product of tiles.
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
        path: Path,
        (rows, cols): (usize, usize),
        c: &mut [f32],
        ldc: usize,
        accumulate: bool,
    ) {
        let Self { steps, a, strides, b, ldb } = *self;
        if steps == 0 || rows == 0 {
            return;
        }
        let last_a = (rows - 1) * strides.row + (steps - 1) * strides.step;
        let (last_b, last_c) = ((steps - 1) * ldb + cols, (rows - 1) * ldc + cols);
        assert!(
            rows.is_multiple_of(ROWS) && cols.is_multiple_of(NR) && cols <= ldb && cols <= ldc,
            "whole tiles only"
        );
        assert!(
            last_a < a.len() && last_b <= b.len() && last_c <= c.len(),
            "a product leaves its operands"
        );
        for col in (0..cols).step_by(NR) {
            for row in (0..rows).step_by(ROWS) {
                // SAFETY: the path is this machine's (checked at the entry); every word of A and B and
                // every element of C the tile touches lies inside its slice, asserted above.
                unsafe {
                    let a = a.as_ptr().add(row * strides.row);
                    let c = c.as_mut_ptr().add(row * ldc + col);
                    let b = b.as_ptr().add(col);
                    let operands = Operands { steps, a, strides, b, ldb };
                    tile::<T, ROWS>(path, operands, c, ldc, accumulate);
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

multiversion! {
    /// One block of forward's softmax, in place on scores `s` [keys][lanes]: probabilities relative
    /// to the new maxima. `max`, `sum` [lanes] are updated, `alpha` gets what O is to be scaled by.
    /// `key` is the first key's position, `position` the first query's, `rows` lanes make a head.
    pub(super) fn softmax_block(s: &mut [f32], lanes: usize, scale: f32, span: (usize, usize, usize), max: &mut [f32], sum: &mut [f32], alpha: &mut [f32]) {
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
                // Nothing seen yet: any finite base keeps exp(-inf - base) at 0.
                base[i] = if new == f32::NEG_INFINITY { 0.0 } else { new };
                alpha[i] = exp::<FUSED>(max[i] - base[i]);
                max[i] = new;
            }
            for s in s.chunks_exact_mut(lanes) {
                let s = &mut s[lane..lane + NR];
                for i in 0..NR {
                    let p = exp::<FUSED>(s[i] * scale - base[i]);
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

multiversion! {
    /// Rounds `from` [rows][width] to words along the rows, [rows / PER_WORD][width].
    pub(super) fn to_column_words<T: Multiply>(from: &[f32], width: usize, out: &mut [u32]) {
        for (step, out) in out.chunks_exact_mut(width).enumerate() {
            let a = &from[step * T::PER_WORD * width..][..width];
            let b = &from[(step * T::PER_WORD + T::PER_WORD - 1) * width..][..width];
            for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
                *out = T::word(T::from_f32(a), T::from_f32(b));
            }
        }
    }
}

multiversion! {
    /// Rounds `from` to words of neighbours: [rows][width / PER_WORD].
    pub(super) fn to_row_words<T: Multiply>(from: &[f32], out: &mut [u32]) {
        for (i, out) in out.iter_mut().enumerate() {
            let at = i * T::PER_WORD;
            *out = T::word(T::from_f32(from[at]), T::from_f32(from[at + T::PER_WORD - 1]));
        }
    }
}
