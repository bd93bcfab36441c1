//! Attention forward.

use std::cell::RefCell;

use super::block::{
    KEYS, Product, Queries, ROWS, Sizes, lanes_of_queries, softmax_block, to_column_words,
    visible_blocks, words_of_columns, words_of_rows,
};
use super::{Chunk, Rows, RowsMut, Shape};
use crate::cpu::micro::{Multiply, Path, Strides};
use crate::cpu::simd::multiversion;
use crate::cpu::threads::{Shared, Threads};

/// One task's buffers, kept by its thread.
#[derive(Default)]
struct Scratch {
    q: Vec<u32>,
    k: Vec<u32>,
    v: Vec<u32>,
    scores: Vec<f32>,
    p: Vec<u32>,
    out: Vec<f32>,
    max: Vec<f32>,
    sum: Vec<f32>,
    alpha: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    fn fit<T: Multiply>(&mut self, sizes: &Sizes) {
        let Sizes { lanes, words, dim, .. } = *sizes;
        self.q.resize(words * lanes, 0);
        self.k.resize(KEYS * words, 0);
        self.v.resize(KEYS / T::PER_WORD * dim, 0);
        self.scores.resize(KEYS * lanes, 0.0);
        self.p.resize(KEYS / T::PER_WORD * lanes, 0);
        self.out.clear();
        self.out.resize(dim * lanes, 0.0);
        self.max.clear();
        self.max.resize(lanes, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(lanes, 0.0);
        self.alpha.resize(lanes, 0.0);
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
    forward_on(
        if T::best_path() == Path::Amx { Path::Avx512 } else { T::best_path() },
        threads,
        shape,
        q,
        chunks,
        out,
        lse,
        merge,
    );
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
    let sizes = Sizes::new::<T>(shape);
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
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.fit::<T>(&sizes);
            scratch.attend(path, shape, &sizes, &queries, kv_head, &q, chunks);
            results.write(shape, &sizes, &queries, scratch);
        });
    });
}

impl Scratch {
    #[allow(clippy::too_many_arguments)]
    fn attend<T: Multiply>(
        &mut self,
        path: Path,
        shape: &Shape,
        sizes: &Sizes,
        queries: &Queries,
        kv_head: usize,
        q: &Rows<'_, T>,
        chunks: &[Chunk<'_, T>],
    ) {
        let Sizes { lanes, rows, words, dim, .. } = *sizes;
        lanes_of_queries(q, queries, shape, sizes, &mut self.q);
        visible_blocks(chunks, queries.last(), |chunk, first, count| {
            let chunk = &chunks[chunk];
            words_of_rows(&chunk.k, first, count, kv_head, shape.head_dim, &mut self.k);
            words_of_columns(&chunk.v, first, count, kv_head, shape.head_dim, dim, &mut self.v);
            let keys = count.next_multiple_of(ROWS);
            let product = Product {
                steps: words,
                a: &self.k,
                strides: Strides { row: words, step: 1 },
                b: &self.q,
                ldb: lanes,
            };
            product.run::<T>(path, (keys, lanes), &mut self.scores, lanes, false);
            // Keys that only fill the last tile must not count.
            self.scores[count * lanes..keys * lanes].fill(0.0);
            let span = (chunk.start + first, queries.position, rows);
            softmax_block(
                &mut self.scores[..count * lanes],
                lanes,
                shape.scale,
                span,
                &mut self.max,
                &mut self.sum,
                &mut self.alpha,
            );
            let steps = keys / T::PER_WORD;
            to_column_words::<T>(&self.scores[..keys * lanes], lanes, &mut self.p[..steps * lanes]);
            if self.alpha.iter().any(|&alpha| alpha != 1.0) {
                rescale(&mut self.out, &self.alpha);
            }
            let product = Product {
                steps,
                a: &self.v,
                strides: Strides { row: 1, step: dim },
                b: &self.p,
                ldb: lanes,
            };
            product.run::<T>(path, (dim, lanes), &mut self.out, lanes, true);
        });
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
                let sum = scratch.sum[lane];
                let new = if sum > 0.0 { scratch.max[lane] + sum.ln() } else { f32::NEG_INFINITY };
                let mut old_part = 0.0;
                let mut new_part = if sum > 0.0 { 1.0 / sum } else { 0.0 };
                let mut total = new;
                if self.merge && *lse > f32::NEG_INFINITY {
                    let top = lse.max(new);
                    total = top + ((*lse - top).exp() + (new - top).exp()).ln();
                    old_part = (*lse - total).exp();
                    new_part *= (new - total).exp();
                }
                *lse = total;
                for (d, out) in out.iter_mut().enumerate() {
                    let old = if old_part > 0.0 { old_part * out.to_f32() } else { 0.0 };
                    *out = T::from_f32(old + new_part * scratch.out[d * sizes.lanes + lane]);
                }
            }
        }
    }
}
