//! The arithmetic of a product: C += A B, in f32.

use super::descriptor::DEPTH;

/// Rows and columns that are worked on at once.
const TILE_ROWS: usize = 4;
const TILE_COLUMNS: usize = 16;

/// Adds the product of `a` and `b` (sixteen rows of `n`) to `c` (rows of `n`, as many as `a` has).
/// Sums run along K in order, one rounding each.
pub(super) fn multiply(a: &[[f32; DEPTH]], b: &[f32], c: &mut [f32], n: usize) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has the features that the function is compiled for.
        unsafe { multiply_avx2(a, b, c, n) };
        return;
    }
    multiply_any(a, b, c, n);
}

/// The same code for processors with wide registers and fused multiply-add.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn multiply_avx2(a: &[[f32; DEPTH]], b: &[f32], c: &mut [f32], n: usize) {
    multiply_any(a, b, c, n);
}

#[inline(always)]
fn multiply_any(a: &[[f32; DEPTH]], b: &[f32], c: &mut [f32], n: usize) {
    for (a, c) in a.chunks_exact(TILE_ROWS).zip(c.chunks_exact_mut(TILE_ROWS * n)) {
        let mut column = 0;
        while column + TILE_COLUMNS <= n {
            tile::<TILE_COLUMNS>(a, b, c, n, column);
            column += TILE_COLUMNS;
        }
        if column < n {
            tile::<8>(a, b, c, n, column);
        }
    }
}

#[inline(always)]
fn tile<const COLUMNS: usize>(
    a: &[[f32; DEPTH]],
    b: &[f32],
    c: &mut [f32],
    n: usize,
    column: usize,
) {
    let mut sums = [[0f32; COLUMNS]; TILE_ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&c[row * n + column..row * n + column + COLUMNS]);
    }
    for k in 0..DEPTH {
        let b = &b[k * n + column..k * n + column + COLUMNS];
        for (a, sums) in a.iter().zip(&mut sums) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = a[k].mul_add(b, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        c[row * n + column..row * n + column + COLUMNS].copy_from_slice(sums);
    }
}
