//! Flash attention against the register peak of the same run. `cargo bench -p slimpipe-kernels --bench attention`.

use std::time::Instant;

use half::bf16;
use slimpipe_kernels::cpu::attention::{Chunk, ChunkGrad, Rows, RowsMut, Shape, backward, forward};
use slimpipe_kernels::cpu::peak::{PeakKind, peak_gflops};
use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cpu::threads::Threads;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

macro_rules! measure {
    ($T:ty, $threads:expr, $seq:expr, $slices:expr, $peak:expr) => {{
        let (heads, kv_heads, d) = (8usize, 4usize, 64usize);
        let (seq, slices): (usize, usize) = ($seq, $slices);
        let rows = seq / slices;
        let make = |len: usize| {
            (0..len).map(|i| <$T>::from_f32((i % 97) as f32 / 97.0 - 0.5)).collect::<Vec<$T>>()
        };
        let (q, dout) = (make(rows * heads * d), make(rows * heads * d));
        let kv: Vec<Vec<$T>> = (0..slices).map(|_| make(rows * kv_heads * d)).collect();
        let chunks: Vec<Chunk<'_, $T>> = kv
            .iter()
            .enumerate()
            .map(|(i, kv)| {
                let rows_of = Rows { data: &kv[..], stride: kv_heads * d };
                Chunk { k: rows_of, v: rows_of, len: rows, start: i * rows }
            })
            .collect();
        let mut dkv: Vec<[Vec<f32>; 2]> =
            kv.iter().map(|kv| [vec![0.0; kv.len()], vec![0.0; kv.len()]]).collect();
        let (mut out, mut dq) = (q.clone(), q.clone());
        let mut lse = vec![0f32; heads * rows];
        let stride = heads * d;
        let flops = 4.0 * (seq * seq / 2 * d * heads) as f64;
        let (mut ahead, mut back) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (mut t_ahead, mut t_back) = (0.0, 0.0);
            for i in 0..slices {
                let shape = Shape {
                    q_len: rows,
                    heads,
                    kv_heads,
                    head_dim: d,
                    q_offset: i * rows,
                    scale: 0.125,
                };
                let seen = &chunks[..=i];
                let start = Instant::now();
                forward(
                    $threads,
                    &shape,
                    Rows { data: &q, stride },
                    seen,
                    RowsMut { data: &mut out, stride },
                    &mut lse,
                    false,
                );
                t_ahead += start.elapsed().as_secs_f64();
                let mut grads: Vec<ChunkGrad<'_>> =
                    dkv[..=i].iter_mut().map(|[dk, dv]| ChunkGrad { dk, dv }).collect();
                let start = Instant::now();
                let rows_of = |data| Rows { data, stride };
                backward(
                    $threads,
                    &shape,
                    rows_of(&q),
                    rows_of(&out),
                    &lse,
                    rows_of(&dout),
                    seen,
                    &mut grads,
                    RowsMut { data: &mut dq, stride },
                    false,
                );
                t_back += start.elapsed().as_secs_f64();
            }
            ahead.push(flops / t_ahead / 1e9);
            back.push(2.5 * flops / t_back / 1e9);
        }
        let (ahead, back) = (median(ahead), median(back));
        println!(
            "{:<6} {seq:>6} {slices:>6} {ahead:>9.1} {:>6.2} {back:>9.1} {:>6.2}",
            std::any::type_name::<$T>().rsplit(':').next().unwrap_or(""),
            ahead / $peak,
            back / $peak
        );
    }};
}

fn main() {
    let threads = &Threads::new(2).expect("two threads");
    println!(
        "{:<6} {:>6} {:>6} {:>9} {:>6} {:>9} {:>6}",
        "", "tokens", "slices", "forward", "ratio", "backward", "ratio"
    );
    for (seq, slices) in [(2048, 1), (2048, 8), (8192, 1), (8192, 8)] {
        let (f32_peak, bf16_peak) =
            (peak_gflops(threads, PeakKind::F32), peak_gflops(threads, PeakKind::Bf16));
        measure!(f32, threads, seq, slices, f32_peak);
        measure!(bf16, threads, seq, slices, bf16_peak);
    }
}
