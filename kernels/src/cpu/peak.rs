//! What this machine can do at most: arithmetic from registers, and memory bandwidth.

use std::hint::black_box;
use std::time::{Duration, Instant};

use half::bf16;

use super::micro::{MAX_ROWS, Multiply, NR, Operands, Path, Strides, tile};
use super::scratch::Buffer;
use super::threads::Threads;

/// The arithmetic a peak is measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeakKind {
    /// f32 multiply-add.
    F32,
    /// bf16 products added in f32.
    Bf16,
}

/// How long a peak is looked for: cores speed up, and threads find theirs, within milliseconds.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// Billions of floating-point operations per second that `threads` reach on operands that never
/// leave the first-level cache: the ceiling that matrix products are compared with.
pub fn peak_gflops(threads: &Threads, kind: PeakKind) -> f64 {
    match kind {
        PeakKind::F32 => measure::<f32>(threads),
        PeakKind::Bf16 => measure::<bf16>(threads),
    }
}

fn measure<T: Multiply>(threads: &Threads) -> f64 {
    match T::best_path() {
        Path::Amx => measure_tiles::<T, 32>(threads),
        _ => measure_tiles::<T, 12>(threads),
    }
}

fn measure_tiles<T: Multiply, const ROWS: usize>(threads: &Threads) -> f64 {
    // So many steps that loading and storing C does not count; all rows of A and all steps of B are
    // the same few words, so that they stay in the first-level cache.
    const STEPS: usize = 2048;
    const REPEAT: usize = 20;
    let path = T::best_path();
    let (mut a, mut b) = (Buffer::default(), Buffer::default());
    let (a, b): (&[u32], &[u32]) = (a.fit(STEPS), b.fit(NR));
    let strides = Strides { row: 0, step: 1 };
    let flops = (2 * T::PER_WORD * ROWS * NR * STEPS * REPEAT * threads.size()) as f64;
    let mut best = 0f64;
    let begin = Instant::now();
    while begin.elapsed() < LONG_ENOUGH {
        let start = Instant::now();
        threads.run(threads.size(), |_| {
            let _entered = path.enter();
            let (a, b) = (a.as_ptr(), b.as_ptr());
            let operands = Operands { steps: STEPS, a, strides, b, ldb: 0 };
            let mut c = [0f32; MAX_ROWS * NR];
            for _ in 0..REPEAT {
                // SAFETY: the path is this machine's best; the slices have exactly the sizes read.
                unsafe { tile::<T, ROWS>(path, operands, c.as_mut_ptr(), NR, true) };
            }
            black_box(c);
        });
        best = best.max(flops / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Memory bandwidth in GB/s of `threads` for `a[i] = b[i] + c a[i]`: 12 bytes per element.
pub fn bandwidth_gbs(threads: &Threads) -> f64 {
    const LEN: usize = 16 << 20;
    const TASK: usize = 1 << 18;
    let (mut a, b) = (vec![0f32; LEN], vec![1f32; LEN]);
    let mut best = 0f64;
    for _ in 0..4 {
        let start = Instant::now();
        threads.chunks(&mut a, TASK, |i, a| {
            for (a, b) in a.iter_mut().zip(&b[i * TASK..]) {
                *a = b + 0.5 * *a;
            }
        });
        best = best.max((12 * LEN) as f64 / start.elapsed().as_secs_f64() / 1e9);
    }
    black_box(a);
    best
}
