//! Attention backward.

use std::cell::RefCell;

use super::block::{
    KEYS, Product, Queries, ROWS, Sizes, first_visible, lanes_of_queries, to_column_words,
    to_row_words, visible_blocks, words_of_columns, words_of_rows,
};
use super::{Chunk, ChunkGrad, Rows, RowsMut, Shape};
use crate::cpu::micro::{Multiply, NR, Path, Strides};
use crate::cpu::simd::{exp, multiversion};
use crate::cpu::threads::{Shared, Threads};

/// One task's buffers, kept by its thread.
#[derive(Default)]
struct Scratch {
    // Queries and output gradients, with queries in the lanes and with queries contracted.
    q: Vec<u32>,
    q_rows: Vec<u32>,
    dout: Vec<u32>,
    dout_rows: Vec<u32>,
    lse: Vec<f32>,
    delta: Vec<f32>,
    // A block of keys and values.
    k: Vec<u32>,
    k_columns: Vec<u32>,
    v: Vec<u32>,
    // [keys][lanes], and rounded to words along either dimension.
    p: Vec<f32>,
    ds: Vec<f32>,
    p_words: Vec<u32>,
    ds_words: Vec<u32>,
    ds_columns: Vec<u32>,
    // Results.
    dq: Vec<f32>,
    dkv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Gradients of attention. `out`, `lse` are forward's final results, `dout` the gradient of `out`.
/// `dq` is overwritten (or added to); the chunks' accumulators are added to.
///
/// # Panics
/// Sizes that do not fit.
#[allow(clippy::too_many_arguments)]
pub fn backward<T: Multiply>(
    threads: &Threads,
    shape: &Shape,
    q: Rows<'_, T>,
    out: Rows<'_, T>,
    lse: &[f32],
    dout: Rows<'_, T>,
    chunks: &[Chunk<'_, T>],
    grads: &mut [ChunkGrad<'_>],
    dq: RowsMut<'_, T>,
    accumulate_dq: bool,
) {
    backward_on(
        if T::best_path() == Path::Amx { Path::Avx512 } else { T::best_path() },
        threads,
        shape,
        q,
        out,
        lse,
        dout,
        chunks,
        grads,
        dq,
        accumulate_dq,
    );
}

/// As [`backward`] on a path of one's choice; for tests.
#[allow(clippy::too_many_arguments)]
pub(super) fn backward_on<T: Multiply>(
    path: Path,
    threads: &Threads,
    shape: &Shape,
    q: Rows<'_, T>,
    out: Rows<'_, T>,
    lse: &[f32],
    dout: Rows<'_, T>,
    chunks: &[Chunk<'_, T>],
    grads: &mut [ChunkGrad<'_>],
    dq: RowsMut<'_, T>,
    accumulate_dq: bool,
) {
    shape.check(&q, chunks);
    let width = shape.heads * shape.head_dim;
    let dq_rows = Rows { data: &*dq.data, stride: dq.stride };
    let fits = [&out, &dout, &dq_rows].iter().all(|rows| rows.holds(shape.q_len, width));
    assert!(
        fits && lse.len() == shape.heads * shape.q_len,
        "outputs and gradients do not fit {shape:?}"
    );
    assert_eq!(chunks.len(), grads.len(), "one pair of accumulators per chunk");
    let kv_width = shape.kv_heads * shape.head_dim;
    for (chunk, grad) in chunks.iter().zip(&*grads) {
        let len = chunk.len * kv_width;
        assert!(
            grad.dk.len() == len && grad.dv.len() == len,
            "accumulators must hold {len} elements"
        );
    }
    if shape.q_len == 0 {
        return;
    }
    let sizes = Sizes::new::<T>(shape);
    let accumulators: Vec<[Shared<f32>; 2]> = grads
        .iter_mut()
        .map(|grad| [Shared(grad.dk.as_mut_ptr()), Shared(grad.dv.as_mut_ptr())])
        .collect();
    let job = Job {
        path,
        shape,
        sizes,
        q,
        out,
        lse,
        dout,
        chunks,
        accumulators,
        dq: Shared(dq.data.as_mut_ptr()),
        dq_stride: dq.stride,
        accumulate_dq,
    };
    threads.run(shape.kv_heads, |kv_head| {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.fit::<T>(&sizes);
            for block in 0..shape.q_len.div_ceil(sizes.rows) {
                job.run(scratch, &Queries::new(shape, &sizes, kv_head, block), kv_head);
            }
        });
    });
}

impl Scratch {
    fn fit<T: Multiply>(&mut self, sizes: &Sizes) {
        let Sizes { lanes, words, dim, wide, .. } = *sizes;
        let per = T::PER_WORD;
        for (buffer, len) in [
            (&mut self.q, words * lanes),
            (&mut self.dout, words * lanes),
            (&mut self.q_rows, lanes / per * wide),
            (&mut self.dout_rows, lanes / per * wide),
            (&mut self.k, KEYS * words),
            (&mut self.v, KEYS * words),
            (&mut self.k_columns, KEYS / per * dim),
            (&mut self.p_words, KEYS * lanes / per),
            (&mut self.ds_words, KEYS * lanes / per),
            (&mut self.ds_columns, KEYS / per * lanes),
        ] {
            buffer.resize(len, 0);
        }
        for (buffer, len) in [
            (&mut self.lse, lanes),
            (&mut self.delta, lanes),
            (&mut self.p, KEYS * lanes),
            (&mut self.ds, KEYS * lanes),
            (&mut self.dq, dim * lanes),
            (&mut self.dkv, KEYS * wide),
        ] {
            buffer.resize(len, 0.0);
        }
    }
}

struct Job<'a, T> {
    path: Path,
    shape: &'a Shape,
    sizes: Sizes,
    q: Rows<'a, T>,
    out: Rows<'a, T>,
    lse: &'a [f32],
    dout: Rows<'a, T>,
    chunks: &'a [Chunk<'a, T>],
    /// Of keys and of values, by chunk; a task adds to its own key head only.
    accumulators: Vec<[Shared<f32>; 2]>,
    dq: Shared<T>,
    dq_stride: usize,
    accumulate_dq: bool,
}

impl<T: Multiply> Job<'_, T> {
    fn run(&self, scratch: &mut Scratch, queries: &Queries, kv_head: usize) {
        self.load(scratch, queries);
        scratch.dq.fill(0.0);
        visible_blocks(self.chunks, queries.last(), |chunk, first, count| {
            self.block(scratch, queries, kv_head, chunk, first, count);
        });
        self.store_dq(scratch, queries);
    }

    fn load(&self, scratch: &mut Scratch, queries: &Queries) {
        let (shape, Sizes { rows, wide, .. }) = (self.shape, self.sizes);
        lanes_of_queries(&self.q, queries, shape, &self.sizes, &mut scratch.q);
        lanes_of_queries(&self.dout, queries, shape, &self.sizes, &mut scratch.dout);
        scratch.lse.fill(f32::INFINITY); // a missing row has probability exp(-inf) = 0 everywhere
        scratch.delta.fill(0.0);
        let part = rows / T::PER_WORD * wide;
        for head in 0..shape.group() {
            let (q_rows, dout_rows) = (
                &mut scratch.q_rows[head * part..][..part],
                &mut scratch.dout_rows[head * part..][..part],
            );
            let at = (queries.start, queries.count, queries.head + head);
            words_of_columns(&self.q, at.0, at.1, at.2, shape.head_dim, wide, q_rows);
            words_of_columns(&self.dout, at.0, at.1, at.2, shape.head_dim, wide, dout_rows);
            for row in 0..queries.count {
                let lane = head * rows + row;
                let from = |rows: &Rows<'_, T>| -> Vec<f32> {
                    rows.head(queries.start + row, queries.head + head, shape.head_dim)
                        .iter()
                        .map(|x| x.to_f32())
                        .collect()
                };
                let lse = self.lse[(queries.head + head) * shape.q_len + queries.start + row];
                scratch.lse[lane] = if lse == f32::NEG_INFINITY { f32::INFINITY } else { lse };
                scratch.delta[lane] =
                    from(&self.out).iter().zip(from(&self.dout)).map(|(o, d)| o * d).sum();
            }
        }
    }

    fn block(
        &self,
        scratch: &mut Scratch,
        queries: &Queries,
        kv_head: usize,
        chunk: usize,
        first: usize,
        count: usize,
    ) {
        let Self { path, shape, sizes: Sizes { lanes, rows, words, dim, wide }, .. } = *self;
        let (keys, per, source) = (count.next_multiple_of(ROWS), T::PER_WORD, &self.chunks[chunk]);
        words_of_rows(&source.k, first, count, kv_head, shape.head_dim, &mut scratch.k);
        words_of_rows(&source.v, first, count, kv_head, shape.head_dim, &mut scratch.v);
        words_of_columns(
            &source.k,
            first,
            count,
            kv_head,
            shape.head_dim,
            dim,
            &mut scratch.k_columns,
        );
        let along_head = Strides { row: words, step: 1 };
        let scores =
            Product { steps: words, a: &scratch.k, strides: along_head, b: &scratch.q, ldb: lanes };
        scores.run::<T>(path, (keys, lanes), &mut scratch.p, lanes, false);
        let dp = Product {
            steps: words,
            a: &scratch.v,
            strides: along_head,
            b: &scratch.dout,
            ldb: lanes,
        };
        dp.run::<T>(path, (keys, lanes), &mut scratch.ds, lanes, false);
        let (p, ds) = (&mut scratch.p[..keys * lanes], &mut scratch.ds[..keys * lanes]);
        p[count * lanes..].fill(0.0);
        ds[count * lanes..].fill(0.0);
        let span = (source.start + first, queries.position, rows);
        let valid = ..count * lanes;
        gradient_block(
            &mut p[valid],
            &mut ds[valid],
            lanes,
            shape.scale,
            span,
            &scratch.lse,
            &scratch.delta,
        );
        to_row_words::<T>(p, &mut scratch.p_words[..keys * lanes / per]);
        to_row_words::<T>(ds, &mut scratch.ds_words[..keys * lanes / per]);
        to_column_words::<T>(ds, lanes, &mut scratch.ds_columns[..keys / per * lanes]);

        let dq = Product {
            steps: keys / per,
            a: &scratch.k_columns,
            strides: Strides { row: 1, step: dim },
            b: &scratch.ds_columns,
            ldb: lanes,
        };
        dq.run::<T>(path, (dim, lanes), &mut scratch.dq, lanes, true);
        let along_queries = Strides { row: lanes / per, step: 1 };
        let pairs = [(&scratch.ds_words, &scratch.q_rows), (&scratch.p_words, &scratch.dout_rows)];
        for ((a, b), accumulator) in pairs.into_iter().zip(&self.accumulators[chunk]) {
            let product = Product { steps: lanes / per, a, strides: along_queries, b, ldb: wide };
            product.run::<T>(path, (keys, wide), &mut scratch.dkv, wide, false);
            for (key, from) in scratch.dkv.chunks_exact(wide).take(count).enumerate() {
                let at = ((first + key) * shape.kv_heads + kv_head) * shape.head_dim;
                // SAFETY: rows of this key head belong to this task alone and lie inside the
                // accumulator, whose size was checked at the entry.
                let to = unsafe { accumulator.part(at, shape.head_dim) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }

    fn store_dq(&self, scratch: &Scratch, queries: &Queries) {
        for head in 0..self.shape.group() {
            for row in 0..queries.count {
                let lane = head * self.sizes.rows + row;
                let at = (queries.start + row) * self.dq_stride
                    + (queries.head + head) * self.shape.head_dim;
                // SAFETY: this row of this head belongs to this task alone; checked at the entry.
                let to = unsafe { self.dq.part(at, self.shape.head_dim) };
                for (d, to) in to.iter_mut().enumerate() {
                    let old = if self.accumulate_dq { to.to_f32() } else { 0.0 };
                    *to = T::from_f32(old + scratch.dq[d * self.sizes.lanes + lane]);
                }
            }
        }
    }
}

multiversion! {
    /// Scores `p` become probabilities, dP in `ds` becomes dS; both [keys][lanes].
    fn gradient_block(p: &mut [f32], ds: &mut [f32], lanes: usize, scale: f32, span: (usize, usize, usize), lse: &[f32], delta: &[f32]) {
        let (key, position, rows) = span;
        for (j, (p, ds)) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)).enumerate() {
            let visible = first_visible(key + j, position);
            for lane in (0..lanes).step_by(NR) {
                let from = lane % rows;
                let (p, ds) = (&mut p[lane..lane + NR], &mut ds[lane..lane + NR]);
                let (lse, delta) = (&lse[lane..lane + NR], &delta[lane..lane + NR]);
                for i in 0..NR {
                    let value = exp::<FUSED>(p[i] * scale - lse[i]);
                    p[i] = if from + i >= visible { value } else { 0.0 };
                    ds[i] = scale * p[i] * (ds[i] - delta[i]);
                }
            }
        }
    }
}
