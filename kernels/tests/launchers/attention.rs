use half::bf16;
use proptest::prelude::*;
use slimpipe_kernels::cpu::attention::{self as cpu, Shape};
use slimpipe_kernels::cpu::gemm::Input;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::merge_attention::merge;
use slimpipe_kernels::cuda::plain_attention::{self as attention, Chunk, ChunkGrad, Rows};

use super::figures::FORWARD;
use super::util::{
    Buffer, Element, Gpu, assert_close, assert_figure, assert_near, both, cases, f64s, gpu, random,
};

#[derive(Clone, Debug)]
struct Case {
    shape: Shape,
    /// Start and length of each chunk.
    chunks: Vec<(usize, usize)>,
    /// Elements between rows.
    gap: usize,
}

impl Case {
    fn q_width(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }

    fn kv_width(&self) -> usize {
        self.shape.kv_heads * self.shape.head_dim
    }
}

/// Chunks one behind the other, and queries that begin somewhere in the last or behind it.
fn case() -> impl Strategy<Value = Case> {
    let lens = prop::collection::vec(prop_oneof![0usize..5, 10usize..80], 1..4);
    let heads = prop_oneof![Just((1usize, 1usize)), Just((4, 2)), Just((3, 3)), Just((4, 1))];
    let head_dim = prop_oneof![Just(2usize), Just(10), Just(16), Just(64)];
    let rows = prop_oneof![1usize..8, 60usize..75];
    (lens, heads, head_dim, rows, 0usize..40, 0usize..4).prop_map(
        |(lens, (heads, kv_heads), head_dim, q_len, q_offset, gap)| {
            let mut start = 0;
            let chunks = lens.iter().map(|&len| {
                start += len;
                (start - len, len)
            });
            let shape = Shape {
                q_len,
                heads,
                kv_heads,
                head_dim,
                q_offset,
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            Case { shape, chunks: chunks.collect(), gap }
        },
    )
}

/// `rows` rows of `width` elements, `gap` elements apart.
fn spread<T: Element>(seed: u64, rows: usize, width: usize, gap: usize) -> Vec<T> {
    let mut all = random(seed, rows * (width + gap));
    for row in all.chunks_mut(width + gap) {
        row[width..].fill(T::from_f32(f32::NAN));
    }
    all
}

/// What [`spread`] was given.
fn gathered<T: Element>(rows: &[T], width: usize, gap: usize) -> Vec<f64> {
    rows.chunks(width + gap).flat_map(|row| f64s(&row[..width])).collect()
}

struct Inputs<T> {
    q: Vec<T>,
    k: Vec<Vec<T>>,
    v: Vec<Vec<T>>,
    dout: Vec<T>,
}

impl<T: Element> Inputs<T> {
    fn new(case: &Case) -> Self {
        let each = |seed: u64| -> Vec<Vec<T>> {
            let chunks = case.chunks.iter().enumerate();
            chunks
                .map(|(i, &(_, len))| spread(seed + i as u64, len, case.kv_width(), case.gap))
                .collect()
        };
        let rows = |seed| spread(seed, case.shape.q_len, case.q_width(), case.gap);
        Self { q: rows(1), k: each(10), v: each(20), dout: rows(2) }
    }
}

/// Inputs on the GPU.
struct Placed<T> {
    q: Buffer<T>,
    k: Vec<Buffer<T>>,
    v: Vec<Buffer<T>>,
    dout: Buffer<T>,
}

impl<T: Element> Placed<T> {
    fn new(gpu: &Gpu, inputs: &Inputs<T>) -> Self {
        let all = |values: &Vec<Vec<T>>| values.iter().map(|values| gpu.with(values)).collect();
        Self {
            q: gpu.with(&inputs.q),
            k: all(&inputs.k),
            v: all(&inputs.v),
            dout: gpu.with(&inputs.dout),
        }
    }

    fn chunks(&self, case: &Case) -> Vec<Chunk> {
        let stride = case.kv_width() + case.gap;
        let buffers = self.k.iter().zip(&self.v).zip(&case.chunks);
        buffers
            .map(|((k, v), &(start, len))| Chunk {
                k: Rows { at: k.at, stride },
                v: Rows { at: v.at, stride },
                len,
                start,
            })
            .collect()
    }
}

#[derive(Default)]
struct Reference {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<Vec<f64>>,
    dv: Vec<Vec<f64>>,
}

fn reference<T: Element>(case: &Case, inputs: &Inputs<T>, dout: &[f64]) -> Reference {
    let Shape { q_len, heads, kv_heads, head_dim: dim, q_offset, scale } = case.shape;
    let (width, scale) = (case.kv_width(), f64::from(scale));
    let q = gathered(&inputs.q, case.q_width(), case.gap);
    let all = |values: &Vec<Vec<T>>| -> Vec<Vec<f64>> {
        values.iter().map(|values| gathered(values, width, case.gap)).collect()
    };
    let (k, v) = (all(&inputs.k), all(&inputs.v));
    let zeros = |like: &Vec<Vec<f64>>| like.iter().map(|like| vec![0.0; like.len()]).collect();
    let mut r = Reference {
        out: vec![0.0; q.len()],
        lse: vec![0.0; heads * q_len],
        dq: vec![0.0; q.len()],
        dk: zeros(&k),
        dv: zeros(&v),
    };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    for head in 0..heads {
        for row in 0..q_len {
            let own = (row * heads + head) * dim..(row * heads + head + 1) * dim;
            // Keys that are seen: chunk, and where the head begins in it.
            let seen: Vec<(usize, usize)> = case
                .chunks
                .iter()
                .enumerate()
                .flat_map(|(c, &(start, len))| {
                    let rows = (0..len).filter(move |j| start + j <= q_offset + row);
                    rows.map(move |j| (c, (j * kv_heads + head / (heads / kv_heads)) * dim))
                })
                .collect();
            let query = &q[own.clone()];
            let s: Vec<f64> =
                seen.iter().map(|&(c, at)| scale * dot(query, &k[c][at..at + dim])).collect();
            let max = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let lse = if s.is_empty() {
                max
            } else {
                max + s.iter().map(|s| (s - max).exp()).sum::<f64>().ln()
            };
            r.lse[head * q_len + row] = lse;
            let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
            for (&(c, at), p) in seen.iter().zip(&p) {
                (0..dim).for_each(|e| r.out[own.start + e] += p * v[c][at + e]);
            }
            let d = &dout[own.clone()];
            let delta = dot(&r.out[own.clone()], d);
            for (&(c, at), p) in seen.iter().zip(&p) {
                let ds = scale * p * (dot(d, &v[c][at..at + dim]) - delta);
                for e in 0..dim {
                    r.dv[c][at + e] += p * d[e];
                    r.dq[own.start + e] += ds * k[c][at + e];
                    r.dk[c][at + e] += ds * query[e];
                }
            }
        }
    }
    r
}

fn tolerance<T: Element>() -> f64 {
    if T::FLOAT.size() == 4 { 1e-5 } else { 1.0 / 100.0 }
}

/// Log-sum-exps, of which some may be infinite.
fn assert_lse(actual: &[f32], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (actual, expected) in actual.iter().zip(expected) {
        let (actual, near) = (f64::from(*actual), 1e-5 * (1.0 + expected.abs()));
        assert!(
            actual == *expected || (actual - expected).abs() <= near,
            "{actual} for {expected}"
        );
    }
}

fn check<T: Element + Input>(case: &Case) {
    let Some(gpu) = gpu() else { return };
    let (inputs, width, shape) = (Inputs::<T>::new(case), case.q_width(), &case.shape);
    let stride = width + case.gap;
    let empty: Vec<T> = vec![T::from_f32(f32::NAN); shape.q_len * stride];
    let (out, lse) = gpu.schedules(|| {
        let placed = Placed::new(&gpu, &inputs);
        let (out, lse) = (gpu.with(&empty), gpu.empty::<f32>(shape.heads * shape.q_len));
        let [q, to] = [placed.q.at, out.at].map(|at| Rows { at, stride });
        let chunks = placed.chunks(case);
        // SAFETY: the buffers hold all that is read and written.
        unsafe { attention::forward(&gpu.stream, T::FLOAT, shape, q, &chunks, to, lse.at, false) }
            .unwrap();
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        (gathered(&gpu.read(&out), width, case.gap), bits(gpu.read(&lse)))
    });
    let lse: Vec<f32> = lse.into_iter().map(f32::from_bits).collect();
    let out: Vec<T> = out.into_iter().map(|x| T::from_f32(x as f32)).collect();
    let dout = gathered(&inputs.dout, width, case.gap);
    let exact = reference(case, &inputs, &dout);
    assert_figure::<T>("attention on plain cores", &out, &exact.out, FORWARD);
    assert_close("out", &out, &exact.out, tolerance::<T>());
    assert_lse(&lse, &exact.lse);
    check_merging(&gpu, case, &inputs, &exact);

    let old: Vec<Vec<f32>> = exact.dk.iter().map(|dk| random(7, dk.len())).collect();
    let (dq, dk, dv) = gpu.schedules(|| {
        let placed = Placed::new(&gpu, &inputs);
        let (saved, saved_lse) = (gpu.with(&out), gpu.with(&lse));
        let dq = gpu.with(&empty);
        let sums = || old.iter().map(|old| gpu.with(old)).collect::<Vec<_>>();
        let (dk, dv) = (sums(), sums());
        let grads: Vec<_> =
            dk.iter().zip(&dv).map(|(dk, dv)| ChunkGrad { dk: dk.at, dv: dv.at }).collect();
        let [q, d, to] = [placed.q.at, placed.dout.at, dq.at].map(|at| Rows { at, stride });
        let (o, l) = (Rows { at: saved.at, stride: width }, saved_lse.at);
        let (chunks, stream) = (placed.chunks(case), &gpu.stream);
        // SAFETY: the buffers hold all that is read and written.
        unsafe {
            attention::backward(stream, T::FLOAT, shape, q, o, l, d, &chunks, &grads, to, false)
        }
        .unwrap();
        let read = |all: &Vec<Buffer<f32>>| all.iter().map(|x| gpu.read(x)).collect::<Vec<_>>();
        (gathered(&gpu.read(&dq), width, case.gap), read(&dk), read(&dv))
    });
    let dq: Vec<f32> = dq.into_iter().map(|x| x as f32).collect();
    assert_near("dq", &dq, &exact.dq, 2.0 * tolerance::<T>(), 1.0);
    let plus = |exact: &[f64], old: &[f32]| -> Vec<f64> {
        exact.iter().zip(old).map(|(e, old)| e + f64::from(*old)).collect()
    };
    for (c, old) in old.iter().enumerate() {
        assert_near("dk", &dk[c], &plus(&exact.dk[c], old), 2.0 * tolerance::<T>(), 1.0);
        assert_near("dv", &dv[c], &plus(&exact.dv[c], old), 2.0 * tolerance::<T>(), 1.0);
    }
    compare_with_cpu(case, &inputs, &out);
}

/// The chunks attended to one by one, into the same result and merged from separate ones.
fn check_merging<T: Element>(gpu: &Gpu, case: &Case, inputs: &Inputs<T>, exact: &Reference) {
    let (shape, width) = (&case.shape, case.q_width());
    let len = shape.q_len * width;
    let (more, merged) = gpu.schedules(|| {
        let placed = Placed::new(gpu, inputs);
        let results =
            [(); 3].map(|()| (gpu.empty::<T>(len), gpu.empty::<f32>(shape.heads * shape.q_len)));
        let [(more, more_lse), (merged, merged_lse), (part, part_lse)] = &results;
        let q = Rows { at: placed.q.at, stride: width + case.gap };
        let rows = |buffer: &Buffer<T>| Rows { at: buffer.at, stride: width };
        for (i, chunk) in placed.chunks(case).iter().enumerate() {
            let (stream, float, chunks) = (&gpu.stream, T::FLOAT, std::slice::from_ref(chunk));
            let first = i == 0;
            let (to, lse) = if first { (merged, merged_lse) } else { (part, part_lse) };
            // SAFETY: the buffers hold all that is read and written.
            unsafe {
                let more_lse = more_lse.at;
                attention::forward(stream, float, shape, q, chunks, rows(more), more_lse, !first)
                    .unwrap();
                attention::forward(stream, float, shape, q, chunks, rows(to), lse.at, false)
                    .unwrap();
                if !first {
                    let sizes = (shape.heads, shape.head_dim, shape.q_len);
                    let (out, lse) = (merged.at, merged_lse.at);
                    merge(stream, float, sizes, out, lse, part.at, part_lse.at).unwrap();
                }
            }
        }
        ((gpu.read(more), gpu.read(more_lse)), (gpu.read(merged), gpu.read(merged_lse)))
    });
    for (what, (out, lse)) in [("attended to further", more), ("merged", merged)] {
        assert_close(what, &out, &exact.out, 2.0 * tolerance::<T>());
        assert_lse(&lse, &exact.lse);
    }
}

fn compare_with_cpu<T: Element + Input>(case: &Case, inputs: &Inputs<T>, out: &[T]) {
    let (shape, width, gap) = (&case.shape, case.q_width(), case.gap);
    let stride = case.kv_width() + gap;
    let chunks: Vec<_> = inputs
        .k
        .iter()
        .zip(&inputs.v)
        .zip(&case.chunks)
        .map(|((k, v), &(start, len))| cpu::Chunk {
            k: cpu::Rows { data: k, stride },
            v: cpu::Rows { data: v, stride },
            len,
            start,
        })
        .collect();
    let mut other = vec![T::default(); out.len()];
    let mut lse = vec![0.0; shape.heads * shape.q_len];
    let (q, to) = (
        cpu::Rows { data: &inputs.q, stride: width + gap },
        cpu::RowsMut { data: &mut other, stride: width },
    );
    cpu::forward(&Threads::default(), shape, q, &chunks, to, &mut lse, false);
    assert_close("out of the CPU", out, &f64s(&other), 2.0 * tolerance::<T>());
}

proptest! {
    #![proptest_config(cases(6))]

    #[test]
    fn results_and_gradients_match_over_chunks_heads_offsets_and_strides(case in case()) {
        both!(check(&case));
    }
}

#[test]
fn heads_that_are_odd_or_too_large_are_refused() {
    let Some(gpu) = gpu() else { return };
    for head_dim in [7, 770] {
        let shape = Shape { q_len: 1, heads: 1, kv_heads: 1, head_dim, q_offset: 0, scale: 1.0 };
        let rows = Rows { at: slimpipe_kernels::cuda::DevicePtr::NULL, stride: head_dim };
        let (stream, float) = (&gpu.stream, bf16::FLOAT);
        // SAFETY: refused before anything is enqueued.
        let refused =
            unsafe { attention::forward(stream, float, &shape, rows, &[], rows, rows.at, false) };
        let error = refused.unwrap_err().to_string();
        let expected =
            format!("attention: heads of {head_dim} elements; sizes are even and at most 768");
        assert_eq!(error, expected);
    }
}
