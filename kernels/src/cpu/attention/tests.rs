use half::bf16;
use proptest::prelude::*;

use super::backward::backward_on;
use super::forward::forward_on;
use super::*;
use crate::cpu::micro::Path;
use crate::cpu::testing::noise;
use crate::cpu::threads::Threads;

#[derive(Debug)]
struct Case {
    shape: Shape,
    /// (start, len) of each chunk.
    chunks: Vec<(usize, usize)>,
}

struct Reference {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<Vec<f64>>,
    dv: Vec<Vec<f64>>,
}

impl Case {
    #[expect(
        clippy::type_complexity,
        reason = "queries, output gradients, and per chunk keys and values"
    )]
    fn data<T: Multiply>(&self) -> (Vec<T>, Vec<T>, Vec<Vec<T>>, Vec<Vec<T>>) {
        let Shape { q_len, heads, kv_heads, head_dim, .. } = self.shape;
        let make = |seed, len| noise(seed, len).into_iter().map(T::from_f32).collect::<Vec<T>>();
        let kv = |seed: u64| {
            self.chunks
                .iter()
                .enumerate()
                .map(|(i, c)| make(seed + i as u64, c.1 * kv_heads * head_dim))
                .collect()
        };
        (make(1, q_len * heads * head_dim), make(2, q_len * heads * head_dim), kv(10), kv(100))
    }

    fn reference<T: Multiply>(&self) -> Reference {
        let Shape { q_len, heads, kv_heads, head_dim: d, q_offset, scale } = self.shape;
        let (q, dout, k, v) = self.data::<T>();
        let wide = |x: &[T]| x.iter().map(|x| f64::from(x.to_f32())).collect::<Vec<f64>>();
        let (q, dout) = (wide(&q), wide(&dout));
        let (k, v): (Vec<_>, Vec<_>) = k.iter().zip(&v).map(|(k, v)| (wide(k), wide(v))).unzip();
        let zeros = |x: &Vec<Vec<f64>>| x.iter().map(|x| vec![0.0; x.len()]).collect::<Vec<_>>();
        let mut r = Reference {
            out: vec![0.0; q.len()],
            lse: vec![f64::NEG_INFINITY; heads * q_len],
            dq: vec![0.0; q.len()],
            dk: zeros(&k),
            dv: zeros(&v),
        };
        for h in 0..heads {
            let kv_head = h / (heads / kv_heads);
            for i in 0..q_len {
                let at = (i * heads + h) * d;
                let mut seen = Vec::new();
                for (c, &(start, len)) in self.chunks.iter().enumerate() {
                    for j in (0..len).filter(|j| start + j <= q_offset + i) {
                        let kv = (j * kv_heads + kv_head) * d;
                        let s: f64 = (0..d).map(|e| q[at + e] * k[c][kv + e]).sum();
                        seen.push((c, kv, s * f64::from(scale)));
                    }
                }
                if seen.is_empty() {
                    continue;
                }
                let max = seen.iter().map(|s| s.2).fold(f64::NEG_INFINITY, f64::max);
                let lse = max + seen.iter().map(|s| (s.2 - max).exp()).sum::<f64>().ln();
                r.lse[h * q_len + i] = lse;
                for &(c, kv, s) in &seen {
                    (0..d).for_each(|e| r.out[at + e] += (s - lse).exp() * v[c][kv + e]);
                }
                let delta: f64 = (0..d).map(|e| r.out[at + e] * dout[at + e]).sum();
                for &(c, kv, s) in &seen {
                    let p = (s - lse).exp();
                    let dp: f64 = (0..d).map(|e| dout[at + e] * v[c][kv + e]).sum();
                    let ds = f64::from(scale) * p * (dp - delta);
                    for e in 0..d {
                        r.dv[c][kv + e] += p * dout[at + e];
                        r.dk[c][kv + e] += ds * q[at + e];
                        r.dq[at + e] += ds * k[c][kv + e];
                    }
                }
            }
        }
        r
    }
}

/// Everything attention computes, on one path and team.
#[derive(PartialEq, Debug)]
struct Computed {
    out: Vec<f32>,
    lse: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<Vec<f32>>,
    dv: Vec<Vec<f32>>,
}

fn compute<T: Multiply>(case: &Case, path: Path, threads: usize, in_two_calls: bool) -> Computed {
    let threads = Threads::new(threads).unwrap();
    let shape = &case.shape;
    let (q, dout, k, v) = case.data::<T>();
    let stride = shape.heads * shape.head_dim;
    let kv_stride = shape.kv_heads * shape.head_dim;
    let chunks: Vec<Chunk<'_, T>> = case
        .chunks
        .iter()
        .enumerate()
        .map(|(i, &(start, len))| Chunk {
            k: Rows { data: &k[i], stride: kv_stride },
            v: Rows { data: &v[i], stride: kv_stride },
            len,
            start,
        })
        .collect();
    let rows = |data| Rows { data, stride };
    let mut out = vec![T::from_f32(7.0); q.len()];
    let mut lse = vec![7f32; shape.heads * shape.q_len];
    let cut = if in_two_calls { chunks.len() / 2 } else { 0 };
    let mut call = |chunks: &[Chunk<'_, T>], merge| {
        forward_on(
            path,
            &threads,
            shape,
            rows(&q),
            chunks,
            RowsMut { data: &mut out, stride },
            &mut lse,
            merge,
        );
    };
    if in_two_calls {
        call(&chunks[..cut], false);
    }
    call(&chunks[cut..], in_two_calls);
    // Accumulators start at 1/128: backward must add.
    let filled =
        |x: &Vec<Vec<T>>| x.iter().map(|x| vec![1f32 / 128.0; x.len()]).collect::<Vec<_>>();
    let (mut dk, mut dv) = (filled(&k), filled(&v));
    let mut dq = vec![T::default(); q.len()];
    let mut grads: Vec<ChunkGrad<'_>> =
        dk.iter_mut().zip(&mut dv).map(|(dk, dv)| ChunkGrad { dk, dv }).collect();
    let dq_rows = RowsMut { data: &mut dq, stride };
    backward_on(
        path,
        &threads,
        shape,
        rows(&q),
        rows(&out),
        &lse,
        rows(&dout),
        &chunks,
        &mut grads,
        dq_rows,
        false,
    );
    let less = |x: Vec<Vec<f32>>| {
        x.into_iter().map(|x| x.into_iter().map(|x| x - 1.0 / 128.0).collect()).collect()
    };
    let plain = |x: Vec<T>| x.into_iter().map(|x| x.to_f32()).collect();
    Computed { out: plain(out), lse, dq: plain(dq), dk: less(dk), dv: less(dv) }
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The error's norm over that of `expected`; or over `size`, that of what `expected` is a difference
/// of, if that is larger: where a row sees one key only, all that is left is rounding.
fn relative(got: &[f32], expected: &[f64], size: f64) -> f64 {
    let error = norm(got.iter().zip(expected).map(|(got, expected)| f64::from(*got) - expected));
    error / norm(expected.iter().copied()).max(size)
}

fn check<T: Multiply>(case: &Case, tolerance: f64) {
    let r = case.reference::<T>();
    let (_, dout, _, _) = case.data::<T>();
    let size = norm(dout.iter().map(|value| f64::from(value.to_f32())));
    for &path in T::paths() {
        let one = compute::<T>(case, path, 1, false);
        for (name, got, expected) in [("out", &one.out, &r.out), ("dq", &one.dq, &r.dq)] {
            let error = relative(got, expected, size);
            assert!(error < tolerance, "{path:?} {name}: {error}");
        }
        for (got, expected) in one.lse.iter().zip(&r.lse) {
            let close =
                (f64::from(*got) - expected).abs() < tolerance || f64::from(*got) == *expected;
            assert!(close, "{path:?} lse: {got} {expected}");
        }
        let flat = |x: &[Vec<f32>]| x.concat();
        for (name, got, expected) in [("dk", &one.dk, &r.dk), ("dv", &one.dv, &r.dv)] {
            let error = relative(&flat(got), &expected.concat(), size);
            assert!(error < tolerance, "{path:?} {name}: {error}");
        }
        assert_eq!(one, compute::<T>(case, path, 2, false), "two threads differ from one");
        assert_eq!(one, compute::<T>(case, path, 3, false), "three threads differ from one");
        let merged = compute::<T>(case, path, 1, true);
        assert!(relative(&merged.out, &r.out, size) < 2.0 * tolerance, "merging two calls");
        assert!(
            relative(&merged.dq, &r.dq, size) < 2.0 * tolerance,
            "backward after merging two calls"
        );
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = prop_oneof![Just((1, 1)), Just((2, 1)), Just((4, 2)), Just((3, 3)), Just((8, 2))];
    let dims = prop_oneof![Just(2usize), Just(6), Just(16), Just(24), Just(64), Just(72)];
    (1usize..90, heads, dims, prop::collection::vec((1usize..100, 0usize..5), 1..5), any::<bool>())
        .prop_map(|(q_len, (heads, kv_heads), head_dim, lens, reversed)| {
            let mut chunks = Vec::new();
            let mut position = 0;
            for (len, gap) in lens {
                chunks.push((position + gap, len));
                position += gap + len;
            }
            let q_offset = position.saturating_sub(q_len / 2 + 1);
            if reversed {
                chunks.reverse();
            }
            let scale = 1.0 / (head_dim as f32).sqrt();
            Case { shape: Shape { q_len, heads, kv_heads, head_dim, q_offset, scale }, chunks }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn f32_matches_an_f64_reference_on_every_path_and_team(case in cases()) {
        check::<f32>(&case, 3e-6);
    }

    #[test]
    fn bf16_matches_an_f64_reference_on_every_path_and_team(case in cases()) {
        check::<bf16>(&case, 1.5e-2);
    }
}

#[test]
fn a_query_that_sees_nothing_gives_zero_and_minus_infinity() {
    let shape = Shape { q_len: 3, heads: 1, kv_heads: 1, head_dim: 4, q_offset: 0, scale: 0.5 };
    let case = Case { shape, chunks: vec![(2, 5)] };
    let got = compute::<f32>(&case, Path::Portable, 1, false);
    assert_eq!(got.out[..8], [0.0; 8]);
    assert_eq!(got.lse[..2], [f32::NEG_INFINITY; 2]);
    assert!(got.lse[2].is_finite() && got.dq.iter().all(|x| x.is_finite()));
}
