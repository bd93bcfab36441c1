//! Attention backward.

use std::cell::RefCell;

use super::block::{
    Block, KEYS, Product, Queries, Sizes, first_visible, lanes_of_queries, power, visible_blocks,
};
use super::{Chunk, ChunkGrad, Rows, RowsMut, Shape};
use crate::cpu::micro::{Multiply, NR, Path, Strides};
use crate::cpu::scratch::Buffer;
use crate::cpu::simd::{mul_add, multiversion};
use crate::cpu::threads::{Shared, Threads};
use crate::cpu::transpose::transpose;
use crate::cpu::words::{rounded_across, rounded_along};

/// One task's buffers, kept by its thread.
#[derive(Default)]
struct Scratch {
    // Queries and output gradients, with queries in the lanes and with queries contracted.
    q: Buffer<u32>,
    q_rows: Buffer<u32>,
    dout: Buffer<u32>,
    dout_rows: Buffer<u32>,
    lse: Buffer<f32>,
    delta: Buffer<f32>,
    // A block of keys and values.
    k: Buffer<u32>,
    k_columns: Buffer<u32>,
    spare: Buffer<u32>,
    v: Buffer<u32>,
    // [keys][lanes], and rounded to words along either dimension.
    p: Buffer<f32>,
    ds: Buffer<f32>,
    p_words: Buffer<u32>,
    ds_words: Buffer<u32>,
    ds_columns: Buffer<u32>,
    // Results: [dim][lanes] and [lanes][dim], and a block's where it does not fill its tiles.
    dq: Buffer<f32>,
    dq_rows: Buffer<f32>,
    dkv: Buffer<f32>,
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
        T::best_path(),
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
    let sizes = Sizes::new::<T>(path, shape);
    let accumulators: Vec<[Shared<f32>; 2]> = grads
        .iter_mut()
        .map(|grad| [Shared(grad.dk.as_mut_ptr()), Shared(grad.dv.as_mut_ptr())])
        .collect();
    let job = Job {
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
        let _entered = path.enter();
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
            (&mut self.spare, KEYS / per * dim),
            (&mut self.p_words, KEYS * lanes / per),
            (&mut self.ds_words, KEYS * lanes / per),
            (&mut self.ds_columns, KEYS / per * lanes),
        ] {
            buffer.fit(len);
        }
        for (buffer, len) in [
            (&mut self.lse, lanes),
            (&mut self.delta, lanes),
            (&mut self.p, KEYS * lanes),
            (&mut self.ds, KEYS * lanes),
            (&mut self.dq, dim * lanes),
            (&mut self.dq_rows, dim * lanes),
            (&mut self.dkv, KEYS * wide),
        ] {
            buffer.fit(len);
        }
    }
}

struct Job<'a, T> {
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
        scratch.lse.fill(f32::INFINITY); // a missing row has probability 2^(-inf) = 0 everywhere
        scratch.delta.fill(0.0);
        let part = rows / T::PER_WORD * wide;
        let &Queries { start: first, count, .. } = queries;
        for head in 0..shape.group() {
            let own = queries.head + head;
            let block = |rows| Block { rows, first, count, head: own, dim: shape.head_dim };
            block(self.q).words_of_columns(wide, &mut scratch.q_rows[head * part..][..part]);
            block(self.dout).words_of_columns(wide, &mut scratch.dout_rows[head * part..][..part]);
            for row in 0..count {
                let lane = head * rows + row;
                let lse = self.lse[own * shape.q_len + first + row] * std::f32::consts::LOG2_E;
                scratch.lse[lane] = if lse == f32::NEG_INFINITY { f32::INFINITY } else { lse };
                scratch.delta[lane] = dot::<T>(
                    self.out.head(first + row, own, shape.head_dim),
                    self.dout.head(first + row, own, shape.head_dim),
                );
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
        let (shape, sizes, per) = (self.shape, &self.sizes, T::PER_WORD);
        let Sizes { tile, lanes, rows, words, dim, wide, .. } = *sizes;
        let (keys, source) = (count.next_multiple_of(tile), &self.chunks[chunk]);
        let block = |rows| Block { rows, first, count, head: kv_head, dim: shape.head_dim };
        block(source.k).words_of_rows(words, &mut scratch.k[..keys * words]);
        block(source.v).words_of_rows(words, &mut scratch.v[..keys * words]);
        let along_head = Strides { row: words, step: 1 };
        let scores =
            Product { steps: words, a: &scratch.k, strides: along_head, b: &scratch.q, ldb: lanes };
        scores.run::<T>(sizes, (keys, lanes), &mut scratch.p, lanes, false);
        let dp = Product {
            steps: words,
            a: &scratch.v,
            strides: along_head,
            b: &scratch.dout,
            ldb: lanes,
        };
        dp.run::<T>(sizes, (keys, lanes), &mut scratch.ds, lanes, false);
        let (p, ds) = (&mut scratch.p[..keys * lanes], &mut scratch.ds[..keys * lanes]);
        p[count * lanes..].fill(0.0);
        ds[count * lanes..].fill(0.0);
        let span = (source.start + first, queries.position, rows);
        let valid = ..count * lanes;
        let (p_valid, ds_valid) = (&mut p[valid], &mut ds[valid]);
        let (lse, delta) = (&scratch.lse[..], &scratch.delta[..]);
        gradient_block::<T>(p_valid, ds_valid, lanes, shape.scale, span, lse, delta);
        let (p, ds) = (&*p, &*ds);

        let steps = keys / per;
        let across = rounded_across::<T>(ds, lanes, &mut scratch.ds_columns[..steps * lanes]);
        let strides =
            block(source.k).transposed(sizes, keys, &mut scratch.k_columns, &mut scratch.spare);
        let dq = Product { steps, a: &scratch.k_columns, strides, b: across, ldb: lanes };
        dq.run::<T>(sizes, (dim, lanes), &mut scratch.dq, lanes, true);

        let p = rounded_along::<T>(p, &mut scratch.p_words[..keys * lanes / per]);
        let ds = rounded_along::<T>(ds, &mut scratch.ds_words[..keys * lanes / per]);
        let strides = Strides { row: lanes / per, step: 1 };
        let pairs = [(ds, &scratch.q_rows), (p, &scratch.dout_rows)];
        let kv_width = shape.kv_heads * shape.head_dim;
        let at = first * kv_width + kv_head * shape.head_dim;
        for ((a, b), accumulator) in pairs.into_iter().zip(&self.accumulators[chunk]) {
            let product = Product { steps: lanes / per, a, strides, b, ldb: wide };
            if keys == count && wide == shape.head_dim {
                // SAFETY: rows of this key head belong to this task alone and lie inside the
                // accumulator, whose size was checked at the entry.
                unsafe {
                    let c = accumulator.0.add(at);
                    product.run_at::<T>(sizes, (keys, wide), c, kv_width, true);
                }
                continue;
            }
            product.run::<T>(sizes, (keys, wide), &mut scratch.dkv, wide, false);
            for (key, from) in scratch.dkv.chunks_exact(wide).take(count).enumerate() {
                // SAFETY: as above.
                let to = unsafe { accumulator.part(at + key * kv_width, shape.head_dim) };
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    }

    fn store_dq(&self, scratch: &mut Scratch, queries: &Queries) {
        let Sizes { rows, lanes, dim, .. } = self.sizes;
        let by_lane = bytemuck::cast_slice_mut(&mut scratch.dq_rows);
        transpose::<f32>(&scratch.dq, lanes, (dim, lanes), by_lane, dim);
        for head in 0..self.shape.group() {
            for row in 0..queries.count {
                let lane = head * rows + row;
                let at = (queries.start + row) * self.dq_stride
                    + (queries.head + head) * self.shape.head_dim;
                // SAFETY: this row of this head belongs to this task alone; checked at the entry.
                let to = unsafe { self.dq.part(at, self.shape.head_dim) };
                store::<T>(to, self.accumulate_dq, &scratch.dq_rows[lane * dim..][..to.len()]);
            }
        }
    }
}

multiversion! {
    /// `to` (or, if told to, its old value plus) `from`, rounded.
    fn store<T: Multiply>(to: &mut [T], accumulate: bool, from: &[f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = T::from_f32(if accumulate { to.to_f32() + from } else { *from });
        }
    }
}

multiversion! {
    /// The sum of products, in sixteen partial sums whatever the machine.
    fn dot<T: Multiply>(a: &[T], b: &[T]) -> f32 {
        let mut sums = [0f32; 16];
        for (a, b) in a.chunks(16).zip(b.chunks(16)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum = mul_add::<FUSED>(a.to_f32(), b.to_f32(), *sum);
            }
        }
        sums.iter().sum()
    }
}

multiversion! {
    /// Scores `p` become probabilities, dP in `ds` becomes dS; both [keys][lanes]. `lse` is to base 2.
    fn gradient_block<T: Multiply>(p: &mut [f32], ds: &mut [f32], lanes: usize, scale: f32, span: (usize, usize, usize), lse: &[f32], delta: &[f32]) {
        let (key, position, rows) = span;
        let scale2 = scale * std::f32::consts::LOG2_E;
        for (j, (p, ds)) in p.chunks_exact_mut(lanes).zip(ds.chunks_exact_mut(lanes)).enumerate() {
            let visible = first_visible(key + j, position);
            for lane in (0..lanes).step_by(NR) {
                let from = lane % rows;
                let (p, ds) = (&mut p[lane..lane + NR], &mut ds[lane..lane + NR]);
                let (lse, delta) = (&lse[lane..lane + NR], &delta[lane..lane + NR]);
                for i in 0..NR {
                    p[i] = power::<T, FUSED>(mul_add::<FUSED>(p[i], scale2, -lse[i]));
                }
                if from < visible {
                    for (i, p) in p.iter_mut().enumerate() {
                        *p = if from + i >= visible { *p } else { 0.0 };
                    }
                }
                for i in 0..NR {
                    ds[i] = scale * p[i] * (ds[i] - delta[i]);
                }
            }
        }
    }
}
