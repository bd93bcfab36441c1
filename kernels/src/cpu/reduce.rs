//! Reductions over whole tensors, in fixed blocks and a fixed order.

use super::simd::multiversion;
use super::threads::Threads;

/// Elements per block.
const BLOCK: usize = 1 << 13;

multiversion! {
    fn squares(x: &[f32]) -> f64 {
        let mut lanes = [0f32; 64];
        let (full, rest) = x.as_chunks::<64>();
        for chunk in full {
            for (lane, x) in lanes.iter_mut().zip(chunk) {
                *lane += x * x;
            }
        }
        let tail: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>() + tail
    }
}

/// The sum of squares: f32 within 128 additions, f64 beyond.
pub fn sum_squares(threads: &Threads, x: &[f32]) -> f64 {
    let mut partial = vec![0f64; x.len().div_ceil(BLOCK)];
    threads.chunks(&mut partial, 8, |i, partial| {
        for (j, sum) in partial.iter_mut().enumerate() {
            let start = (i * 8 + j) * BLOCK;
            *sum = squares(&x[start..(start + BLOCK).min(x.len())]);
        }
    });
    partial.iter().sum()
}
