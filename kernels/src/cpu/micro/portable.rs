//! Tiles in plain Rust.

use super::{Multiply, NR, Operands, Strides};

/// Rows computed together: enough independent sums to keep AVX2's multipliers busy.
const PAIR: usize = 2;

/// # Safety
/// As [`super::tile`], with A aligned to words.
pub(super) unsafe fn tile<T: Multiply, const ROWS: usize>(
    operands: Operands,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    let Operands { steps, a, strides, b, ldb } = operands;
    let last = steps.saturating_sub(1);
    // SAFETY: the caller promises that A and B can be read at every row and step.
    let (a, b) = unsafe {
        let len = (ROWS - 1) * strides.row + last * strides.step + 1;
        (std::slice::from_raw_parts(a, len), std::slice::from_raw_parts(b, last * ldb + NR))
    };
    for row in (0..ROWS).step_by(PAIR) {
        let mut sums = [[0f32; NR]; PAIR];
        pair::<T>(steps, &a[row * strides.row..], strides, b, ldb, &mut sums);
        for (i, sums) in sums.iter().enumerate() {
            // SAFETY: the caller promises that the tile can be written; what lies between its rows
            // may be another thread's.
            let c = unsafe { std::slice::from_raw_parts_mut(c.add((row + i) * ldc), NR) };
            for (c, sum) in c.iter_mut().zip(sums) {
                *c = if accumulate { *c + sum } else { *sum };
            }
        }
    }
}

crate::cpu::simd::multiversion! {
    fn pair<T: Multiply>(steps: usize, a: &[u32], strides: Strides, b: &[u32], ldb: usize, sums: &mut [[f32; NR]; PAIR]) {
        for step in 0..steps {
            let b = &b[step * ldb..][..NR];
            for (row, sums) in sums.iter_mut().enumerate() {
                let a = a[row * strides.row + step * strides.step];
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = T::fma(*sum, a, b);
                }
            }
        }
    }
}
