use std::ops::Range;

use slimpipe_ops::attention::{
    Chunk, ChunkGrad, GradRows, attend, attend_backward, attend_more, merge,
};
use slimpipe_ops::elementwise::{Binary, binary};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{FLOATS, assert_close, device, error, f64s, random, views};

struct Case {
    rows: usize,
    heads: usize,
    kv_heads: usize,
    dim: usize,
    /// Lengths of the chunks before the queries' own.
    earlier: &'static [usize],
}

const CASES: [Case; 6] = [
    Case { rows: 2, heads: 1, kv_heads: 1, dim: 2, earlier: &[] },
    Case { rows: 13, heads: 4, kv_heads: 4, dim: 6, earlier: &[] },
    Case { rows: 40, heads: 6, kv_heads: 2, dim: 16, earlier: &[40, 40] },
    Case { rows: 17, heads: 4, kv_heads: 1, dim: 10, earlier: &[5, 33, 1] },
    Case { rows: 1, heads: 2, kv_heads: 1, dim: 64, earlier: &[70] },
    Case { rows: 80, heads: 2, kv_heads: 2, dim: 64, earlier: &[64] },
];

struct Inputs {
    q: RawTensor,
    chunks: Vec<(RawTensor, RawTensor, usize)>,
    offset: usize,
    scale: f32,
}

impl Case {
    fn inputs(&self, dtype: DType) -> Inputs {
        let q = random(&[self.rows, self.heads, self.dim], 0, dtype);
        let (mut chunks, mut start) = (Vec::new(), 0);
        for (i, &len) in self.earlier.iter().chain([&self.rows]).enumerate() {
            let shape = [len, self.kv_heads, self.dim];
            let stream = 10 + 2 * i as u64;
            chunks.push((random(&shape, stream, dtype), random(&shape, stream + 1, dtype), start));
            start += len;
        }
        Inputs { q, chunks, offset: start - self.rows, scale: 1.0 / (self.dim as f32).sqrt() }
    }
}

impl Inputs {
    fn views(&self) -> Vec<Chunk<'_>> {
        self.chunks.iter().map(|(k, v, start)| Chunk { k, v, start: *start }).collect()
    }
}

/// What attention gives, and its gradients, in f64.
#[derive(Default)]
struct Reference {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    /// Of all positions, chunk after chunk.
    dk: Vec<f64>,
    dv: Vec<f64>,
}

fn reference(case: &Case, inputs: &Inputs, dout: &[f64]) -> Reference {
    let &Case { rows, heads, kv_heads, dim, .. } = case;
    let join = |pick: fn(&(RawTensor, RawTensor, usize)) -> &RawTensor| -> Vec<f64> {
        inputs.chunks.iter().flat_map(|chunk| f64s(pick(chunk))).collect()
    };
    let (q, k, v) = (f64s(&inputs.q), join(|c| &c.0), join(|c| &c.1));
    let zeros = |like: &Vec<f64>| vec![0.0; like.len()];
    let mut all = Reference {
        out: zeros(&q),
        lse: vec![0.0; heads * rows],
        dq: zeros(&q),
        dk: zeros(&k),
        dv: zeros(&v),
    };
    for head in 0..heads {
        let kv = head / (heads / kv_heads);
        let at_q = |i: usize| (i * heads + head) * dim;
        let at_k = |j: usize| (j * kv_heads + kv) * dim;
        for i in 0..rows {
            let seen = inputs.offset + i + 1;
            let dot = |x: &[f64], a: usize, y: &[f64], b: usize| -> f64 {
                (0..dim).map(|e| x[a + e] * y[b + e]).sum()
            };
            let s: Vec<f64> = (0..seen)
                .map(|j| f64::from(inputs.scale) * dot(&q, at_q(i), &k, at_k(j)))
                .collect();
            let max = s.iter().copied().fold(f64::MIN, f64::max);
            let lse = max + s.iter().map(|s| (s - max).exp()).sum::<f64>().ln();
            all.lse[head * rows + i] = lse;
            let p: Vec<f64> = s.iter().map(|s| (s - lse).exp()).collect();
            for j in 0..seen {
                (0..dim).for_each(|e| all.out[at_q(i) + e] += p[j] * v[at_k(j) + e]);
            }
            let d = dot(&all.out, at_q(i), dout, at_q(i));
            for j in 0..seen {
                let ds = f64::from(inputs.scale) * p[j] * (dot(dout, at_q(i), &v, at_k(j)) - d);
                for e in 0..dim {
                    all.dv[at_k(j) + e] += p[j] * dout[at_q(i) + e];
                    all.dq[at_q(i) + e] += ds * k[at_k(j) + e];
                    all.dk[at_k(j) + e] += ds * q[at_q(i) + e];
                }
            }
        }
    }
    all
}

fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { 1e-5 } else { 1.0 / 32.0 }
}

#[test]
fn outputs_and_log_sum_exps_match_over_chunks_heads_and_views() {
    for dtype in FLOATS {
        for case in &CASES {
            let inputs = case.inputs(dtype);
            let expected = reference(case, &inputs, &vec![0.0; inputs.q.elem_count()]);
            for q in views(&inputs.q) {
                let (out, lse) = attend(&q, &inputs.views(), inputs.scale, inputs.offset).unwrap();
                assert_close(&out, &expected.out, tolerance(dtype));
                assert_close(&lse, &expected.lse, tolerance(dtype));
            }
        }
    }
}

#[test]
fn gradients_match_and_add_to_their_accumulators() {
    for dtype in FLOATS {
        for case in &CASES {
            let inputs = case.inputs(dtype);
            let dout = random(inputs.q.dims(), 99, dtype);
            let expected = reference(case, &inputs, &f64s(&dout));
            let (scale, offset) = (inputs.scale, inputs.offset);
            let (out, lse) = attend(&inputs.q, &inputs.views(), scale, offset).unwrap();
            let ones =
                |like: &RawTensor| super::util::tensor(&vec![1.0; like.elem_count()], like.dims());
            let mut grads: Vec<ChunkGrad> = inputs
                .chunks
                .iter()
                .map(|(k, v, _)| ChunkGrad { dk: ones(k), dv: ones(v) })
                .collect();
            let dq = attend_backward(
                &inputs.q,
                &inputs.views(),
                &out,
                &lse,
                &dout,
                scale,
                offset,
                &mut grads.iter_mut().map(GradRows::all).collect::<Vec<_>>(),
            )
            .unwrap();
            assert_close(&dq, &expected.dq, tolerance(dtype));
            let mut start = 0;
            for ChunkGrad { dk, dv } in &grads {
                let end = start + dk.elem_count();
                let plus_one = |x: &[f64]| x.iter().map(|x| x + 1.0).collect::<Vec<_>>();
                assert_close(dk, &plus_one(&expected.dk[start..end]), tolerance(dtype));
                assert_close(dv, &plus_one(&expected.dv[start..end]), tolerance(dtype));
                start = end;
            }
        }
    }
}

/// The rows of each chunk before position `cut` (`far`), or after, as views.
fn part(inputs: &Inputs, cut: usize, far: bool) -> (Vec<Range<usize>>, Inputs) {
    let rows = |(k, _, start): &(RawTensor, RawTensor, usize)| {
        let len = k.dims()[0];
        let cut = (cut.max(*start) - start).min(len);
        if far { 0..cut } else { cut..len }
    };
    let rows: Vec<_> = inputs.chunks.iter().map(rows).collect();
    let view = |x: &RawTensor, rows: &Range<usize>| x.narrow(0, rows.start, rows.len()).unwrap();
    let views = inputs.chunks.iter().zip(&rows);
    let chunks = views
        .map(|((k, v, start), rows)| (view(k, rows), view(v, rows), start + rows.start))
        .collect();
    (rows, Inputs { q: inputs.q.clone(), chunks, ..*inputs })
}

const CUTS: [(&Case, usize); 4] =
    [(&CASES[2], 60), (&CASES[3], 6), (&CASES[4], 35), (&CASES[5], 63)];

#[test]
fn parts_attended_apart_merge_to_the_whole() {
    for dtype in FLOATS {
        for (case, cut) in CUTS {
            let inputs = case.inputs(dtype);
            let expected = reference(case, &inputs, &vec![0.0; inputs.q.elem_count()]);
            let [far, near] = [true, false].map(|far| {
                let (_, part) = part(&inputs, cut, far);
                attend(&part.q, &part.views(), part.scale, part.offset).unwrap()
            });
            let (mut out, mut lse) = near;
            merge(&mut out, &mut lse, &far.0, &far.1).unwrap();
            assert_close(&out, &expected.out, tolerance(dtype));
            assert_close(&lse, &expected.lse, tolerance(dtype));
        }
    }
}

#[test]
fn gradients_of_parts_attended_apart_add_up() {
    for dtype in FLOATS {
        for (case, cut) in CUTS {
            let inputs = case.inputs(dtype);
            let dout = random(inputs.q.dims(), 99, dtype);
            let expected = reference(case, &inputs, &f64s(&dout));
            let (out, lse) =
                attend(&inputs.q, &inputs.views(), inputs.scale, inputs.offset).unwrap();
            let zeros = |inputs: &Inputs| -> Vec<ChunkGrad> {
                let zeros = |x: &RawTensor| RawTensor::zeros(*x.shape(), DType::F32, device());
                let grad = |(k, v, _): &(RawTensor, RawTensor, usize)| ChunkGrad {
                    dk: zeros(k).unwrap(),
                    dv: zeros(v).unwrap(),
                };
                inputs.chunks.iter().map(grad).collect()
            };
            let backward = |part: &Inputs, grads: &mut [GradRows<'_>]| {
                let (scale, offset) = (part.scale, part.offset);
                let views = part.views();
                attend_backward(&part.q, &views, &out, &lse, &dout, scale, offset, grads).unwrap()
            };
            let (rows, near) = part(&inputs, cut, false);
            let mut sums = zeros(&inputs);
            let mut grads: Vec<_> =
                sums.iter_mut().zip(rows).map(|(grad, rows)| GradRows { grad, rows }).collect();
            let near_dq = backward(&near, &mut grads);
            // The far part is summed elsewhere.
            let (rows, far) = part(&inputs, cut, true);
            let mut apart = zeros(&far);
            let far_dq =
                backward(&far, &mut apart.iter_mut().map(GradRows::all).collect::<Vec<_>>());
            for ((grad, rows), part) in sums.iter_mut().zip(rows).zip(&apart) {
                GradRows { grad, rows }.add(&part.dk, &part.dv).unwrap();
            }
            let tolerance = tolerance(dtype);
            assert_close(&binary(Binary::Add, &near_dq, &far_dq).unwrap(), &expected.dq, tolerance);
            let mut start = 0;
            for ChunkGrad { dk, dv } in &sums {
                let end = start + dk.elem_count();
                assert_close(dk, &expected.dk[start..end], tolerance);
                assert_close(dv, &expected.dv[start..end], tolerance);
                start = end;
            }
        }
    }
}

#[test]
fn partial_results_that_do_not_fit_are_refused() {
    let x = |dims: &[usize]| random(dims, 1, DType::F32);
    let (mut out, mut lse) = (x(&[3, 2, 4]), x(&[2, 3]));
    assert!(merge(&mut out, &mut lse, &x(&[3, 2, 4]), &x(&[3, 2])).is_err());
    assert!(merge(&mut out, &mut lse, &x(&[2, 2, 4]), &x(&[2, 3])).is_err());
    assert!(merge(&mut out, &mut x(&[3, 2]), &x(&[3, 2, 4]), &x(&[3, 2])).is_err());
    assert!(merge(&mut x(&[6, 4]), &mut lse, &x(&[6, 4]), &x(&[2, 3])).is_err());
    let mut grad = ChunkGrad { dk: x(&[5, 2, 4]), dv: x(&[5, 2, 4]) };
    let mut rows = GradRows { grad: &mut grad, rows: 2..5 };
    assert!(rows.add(&x(&[3, 2, 4]), &x(&[3, 2, 4])).is_ok());
    assert!(rows.add(&x(&[2, 2, 4]), &x(&[3, 2, 4])).is_err());
}

#[test]
fn parts_attended_one_after_the_other_merge_to_the_whole() {
    for dtype in FLOATS {
        let case = &CASES[2];
        let inputs = case.inputs(dtype);
        let expected = reference(case, &inputs, &vec![0.0; inputs.q.elem_count()]);
        let (scale, offset) = (inputs.scale, inputs.offset);
        // Own chunk first, the earlier ones in any order.
        let chunks = inputs.views();
        let (mut out, mut lse) = attend(&inputs.q, &chunks[2..], scale, offset).unwrap();
        attend_more(&inputs.q, &chunks[..1], scale, offset, &mut out, &mut lse).unwrap();
        attend_more(&inputs.q, &chunks[1..2], scale, offset, &mut out, &mut lse).unwrap();
        assert_close(&out, &expected.out, tolerance(dtype));
        assert_close(&lse, &expected.lse, 1e-5_f64.max(tolerance(dtype) / 4.0));
    }
}

#[test]
fn heads_of_a_fused_projection_are_read_in_place() {
    let (rows, heads, dim) = (12, 2, 8);
    let fused = random(&[rows, 3 * heads * dim], 0, DType::F32);
    let part = |i: usize| {
        let columns = fused.narrow(1, i * heads * dim, heads * dim).unwrap();
        columns.reshape((rows, heads, dim)).unwrap()
    };
    let copy = |x: &RawTensor| slimpipe_ops::copy::copy(x).unwrap();
    let (q, k, v) = (part(0), part(1), part(2));
    let (dense_k, dense_v) = (copy(&k), copy(&v));
    let dense = [Chunk { k: &dense_k, v: &dense_v, start: 0 }];
    let expected = attend(&copy(&q), &dense, 0.3, 0).unwrap();
    let memory = crate::memory(slimpipe_allocator::Memory::builder(0)).build();
    let _entered = memory.enter();
    let out = attend(&q, &[Chunk { k: &k, v: &v, start: 0 }], 0.3, 0).unwrap();
    assert_eq!(memory.stats().allocations, 2, "output and log-sum-exp, no copy");
    assert_eq!(f64s(&out.0), f64s(&expected.0));
    assert_eq!(f64s(&out.1), f64s(&expected.1));
}

#[test]
fn inputs_that_do_not_fit_are_named() {
    let x = |shape: &[usize]| random(shape, 0, DType::F32);
    let run = |q: &RawTensor, k: &RawTensor, v: &RawTensor| {
        error(attend(q, &[Chunk { k, v, start: 0 }], 1.0, 0))
    };
    let q = x(&[3, 4, 8]);
    assert!(run(&x(&[3, 32]), &q, &q).contains("expected [rows, heads, head_dim]"));
    assert_eq!(
        run(&q, &x(&[3, 3, 8]), &x(&[3, 3, 8])),
        "attention: 4 heads over 3 key heads of size 8: heads must be a multiple, the size even"
    );
    assert_eq!(
        run(&q, &x(&[3, 4, 8]), &x(&[2, 4, 8])),
        "attention: queries [3, 4, 8] with keys [3, 4, 8] and values [2, 4, 8]"
    );
    assert!(run(&q, &random(&[3, 4, 8], 0, DType::BF16), &q).contains("f32 and bf16"));
    let turned = x(&[3, 8, 4]).transpose(1, 2).unwrap();
    assert!(run(&q, &turned, &q).contains("is not contiguous; call contiguous() first"));
}

#[test]
fn no_rows_and_no_keys_are_harmless() {
    let empty = RawTensor::zeros((0, 2, 4), DType::F32, device()).unwrap();
    let (out, lse) = attend(&empty, &[Chunk { k: &empty, v: &empty, start: 0 }], 1.0, 0).unwrap();
    assert_eq!((out.dims(), lse.dims()), (&[0, 2, 4][..], &[2, 0][..]));
    let q = random(&[3, 2, 4], 0, DType::F32);
    let (out, lse) = attend(&q, &[], 1.0, 0).unwrap();
    assert_eq!(f64s(&out), [0.0; 24]);
    assert!(f64s(&lse).iter().all(|&lse| lse == f64::NEG_INFINITY));
}
