//! Attention forward.

use std::cell::RefCell;

use super::block::{
    Block, KEYS, Product, Queries, Sizes, lanes_of_queries, softmax_block, visible_blocks,
};
use super::merge::weights;
use super::{Chunk, Rows, RowsMut, Shape};
use crate::cpu::micro::{Multiply, Path, Strides};
use crate::cpu::scratch::Buffer;
use crate::cpu::simd::{mul_add, multiversion};
use crate::cpu::threads::{Shared, Threads};
use crate::cpu::transpose::transpose;
use crate::cpu::words::rounded_across;

/// One task's buffers, kept by its thread.
#[derive(Default)]
struct Scratch {
    q: Buffer<u32>,
    k: Buffer<u32>,
    v: Buffer<u32>,
    spare: Buffer<u32>,
    scores: Buffer<f32>,
    p: Buffer<u32>,
    /// [dim][lanes] while it is summed up, and [lanes][dim] to be written.
    out: Buffer<f32>,
    rows: Buffer<f32>,
    max: Buffer<f32>,
    sum: Buffer<f32>,
    alpha: Buffer<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn fit<T: Multiply>(&mut self, sizes: &Sizes) {
        let Sizes { lanes, words, dim, .. } = *sizes;
        self.q.fit(words * lanes);
        self.k.fit(KEYS * words);
        self.v.fit(KEYS / T::PER_WORD * dim);
        self.spare.fit(KEYS / T::PER_WORD * dim);
        self.scores.fit(KEYS * lanes);
        self.p.fit(KEYS / T::PER_WORD * lanes);
        self.out.fit(dim * lanes).fill(0.0);
        self.rows.fit(dim * lanes);
        self.max.fit(lanes).fill(f32::NEG_INFINITY);
        self.sum.fit(lanes).fill(0.0);
        self.alpha.fit(lanes);
    }
}

/// Attention of `q` [q_len, heads, head_dim] over `chunks`: `out` [q_len, heads, head_dim] and the
/// natural log-sum-exp of the scaled scores, `lse` [heads, q_len]. With `merge`, `out` and `lse`
/// hold an earlier partial result over other keys, and end as the result over all of them.
///
/// # Panics
/// Sizes that do not fit.
pub fn forward<T: Multiply>(
    threads: &Threads,
    shape: &Shape,
    q: Rows<'_, T>,
    chunks: &[Chunk<'_, T>],
    out: RowsMut<'_, T>,
    lse: &mut [f32],
    merge: bool,
) {
    forward_on(T::best_path(), threads, shape, q, chunks, out, lse, merge);
}

/// As [`forward`] on a path of one's choice; for tests.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward_on<T: Multiply>(
    path: Path,
    threads: &Threads,
    shape: &Shape,
    q: Rows<'_, T>,
    chunks: &[Chunk<'_, T>],
    out: RowsMut<'_, T>,
    lse: &mut [f32],
    merge: bool,
) {
    shape.check(&q, chunks);
    let whole = Rows { data: &*out.data, stride: out.stride };
    assert!(whole.holds(shape.q_len, shape.heads * shape.head_dim), "the output leaves its slice");
    assert_eq!(lse.len(), shape.heads * shape.q_len, "one log-sum-exp per head and row");
    if shape.q_len == 0 {
        return;
    }
    let sizes = Sizes::new::<T>(path, shape);
    let blocks = shape.q_len.div_ceil(sizes.rows);
    let results = Results {
        out: Shared(out.data.as_mut_ptr()),
        stride: out.stride,
        lse: Shared(lse.as_mut_ptr()),
        merge,
    };
    threads.run(blocks * shape.kv_heads, |task| {
        // The last blocks see the most keys: first, so that threads end together.
        let (block, kv_head) = (blocks - 1 - task / shape.kv_heads, task % shape.kv_heads);
        let queries = Queries::new(shape, &sizes, kv_head, block);
        let _entered = path.enter();
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.fit::<T>(&sizes);
            scratch.attend(shape, &sizes, &queries, kv_head, &q, chunks);
            results.write(shape, &sizes, &queries, scratch);
        });
    });
}

impl Scratch {
    fn attend<T: Multiply>(
        &mut self,
        shape: &Shape,
        sizes: &Sizes,
        queries: &Queries,
        kv_head: usize,
        q: &Rows<'_, T>,
        chunks: &[Chunk<'_, T>],
    ) {
        let Sizes { tile, lanes, rows, words, dim, .. } = *sizes;
        let scale = shape.scale * std::f32::consts::LOG2_E;
        lanes_of_queries(q, queries, shape, sizes, &mut self.q);
        visible_blocks(chunks, queries.last(), |chunk, first, count| {
            let chunk = &chunks[chunk];
            let block = |rows| Block { rows, first, count, head: kv_head, dim: shape.head_dim };
            let keys = count.next_multiple_of(tile);
            block(chunk.k).words_of_rows(words, &mut self.k[..keys * words]);
            let product = Product {
                steps: words,
                a: &self.k,
                strides: Strides { row: words, step: 1 },
                b: &self.q,
                ldb: lanes,
            };
            product.run::<T>(sizes, (keys, lanes), &mut self.scores, lanes, false);
            // Keys that only fill the last tile must not count.
            self.scores[count * lanes..keys * lanes].fill(0.0);
            let span = (chunk.start + first, queries.position, rows);
            softmax_block::<T>(
                &mut self.scores[..count * lanes],
                lanes,
                scale,
                span,
                &mut self.max,
                &mut self.sum,
                &mut self.alpha,
            );
            if self.alpha.iter().any(|&alpha| alpha != 1.0) {
                rescale(&mut self.out, &self.alpha);
            }
            let steps = keys / T::PER_WORD;
            let scores = &self.scores[..keys * lanes];
            let p = rounded_across::<T>(scores, lanes, &mut self.p[..steps * lanes]);
            let strides = block(chunk.v).transposed(sizes, keys, &mut self.v, &mut self.spare);
            let product = Product { steps, a: &self.v, strides, b: p, ldb: lanes };
            product.run::<T>(sizes, (dim, lanes), &mut self.out, lanes, true);
        });
        let out = &self.out[..];
        transpose::<f32>(out, lanes, (dim, lanes), bytemuck::cast_slice_mut(&mut self.rows), dim);
    }
}

multiversion! {
    fn rescale(out: &mut [f32], alpha: &[f32]) {
        for out in out.chunks_exact_mut(alpha.len()) {
            for (out, alpha) in out.iter_mut().zip(alpha) {
                *out *= alpha;
            }
        }
    }
}

/// Where results go; tasks write disjoint rows of disjoint heads.
struct Results<T> {
    out: Shared<T>,
    stride: usize,
    lse: Shared<f32>,
    merge: bool,
}

impl<T: Multiply> Results<T> {
    fn write(&self, shape: &Shape, sizes: &Sizes, queries: &Queries, scratch: &Scratch) {
        for head in 0..shape.group() {
            for row in 0..queries.count {
                let lane = head * sizes.rows + row;
                let (head, row) = (queries.head + head, queries.start + row);
                // SAFETY: this task alone owns this row of this head; both lie inside their slices,
                // which were checked at the entry.
                let (out, lse) = unsafe {
                    let at = row * self.stride + head * shape.head_dim;
                    (
                        self.out.part(at, shape.head_dim),
                        &mut self.lse.part(head * shape.q_len + row, 1)[0],
                    )
                };
                let (sum, max) = (scratch.sum[lane], scratch.max[lane]);
                let seen = sum > 0.0 || sum.is_nan();
                let new =
                    if seen { max * std::f32::consts::LN_2 + sum.ln() } else { f32::NEG_INFINITY };
                let mut old_part = 0.0;
                let mut new_part = if seen { 1.0 / sum } else { 0.0 };
                let mut total = new;
                if self.merge && *lse > f32::NEG_INFINITY {
                    let (both, old, own) = weights(*lse, new);
                    (total, old_part) = (both, old);
                    new_part *= own;
                }
                *lse = total;
                let from = &scratch.rows[lane * sizes.dim..][..shape.head_dim];
                combine::<T>(out, old_part, from, new_part);
            }
        }
    }
}

multiversion! {
    /// `out` times its part, if it has one, plus `from` times its own.
    fn combine<T: Multiply>(out: &mut [T], old_part: f32, from: &[f32], new_part: f32) {
        if old_part > 0.0 {
            for (out, from) in out.iter_mut().zip(from) {
                *out = T::from_f32(mul_add::<FUSED>(out.to_f32(), old_part, from * new_part));
            }
        } else {
            for (out, from) in out.iter_mut().zip(from) {
                *out = T::from_f32(from * new_part);
            }
        }
    }
}
