//! Tiles in AVX-512 registers: every row's word of A is broadcast and multiplied with two registers
//! of B.

use std::arch::x86_64::*;

use super::Operands;

/// How many steps ahead operands are fetched into the first-level cache.
const AHEAD: usize = 12;

macro_rules! tile {
    ($name:ident, $features:literal, $step:ident) => {
        /// # Safety
        /// As [`super::tile`]; the machine has the features.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name<const ROWS: usize>(
            operands: Operands,
            c: *mut f32,
            ldc: usize,
            accumulate: bool,
        ) {
            let Operands { steps, a, strides, mut b, ldb } = operands;
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            // One offset for all rows: the compiler then needs no addition per row.
            let rows: [*const f32; ROWS] =
                std::array::from_fn(|row| a.wrapping_add(row * strides.row).cast());
            // C is not needed before the sums are complete, and by then it is near.
            for row in 0..ROWS {
                _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(row * ldc).cast());
                _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(row * ldc + 16).cast());
            }
            let mut at = 0;
            for _ in 0..steps {
                // SAFETY: the caller promises that A and B can be read at every row and step.
                unsafe {
                    let b0 = _mm512_loadu_ps(b.cast());
                    let b1 = _mm512_loadu_ps(b.add(16).cast());
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * ldb).cast());
                    _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(AHEAD * ldb + 16).cast());
                    _mm_prefetch::<_MM_HINT_T0>(
                        rows[0].wrapping_add(at + AHEAD * strides.step).cast(),
                    );
                    for (row, [s0, s1]) in rows.iter().zip(&mut sums) {
                        let word = _mm512_set1_ps(*row.add(at));
                        *s0 = $step(*s0, word, b0);
                        *s1 = $step(*s1, word, b1);
                    }
                }
                at += strides.step;
                b = b.wrapping_add(ldb);
            }
            for (row, [mut s0, mut s1]) in sums.into_iter().enumerate() {
                // SAFETY: the caller promises that the tile can be read and written.
                unsafe {
                    let c = c.add(row * ldc);
                    if accumulate {
                        s0 = _mm512_add_ps(_mm512_loadu_ps(c), s0);
                        s1 = _mm512_add_ps(_mm512_loadu_ps(c.add(16)), s1);
                    }
                    _mm512_storeu_ps(c, s0);
                    _mm512_storeu_ps(c.add(16), s1);
                }
            }
        }
    };
}

#[inline]
#[target_feature(enable = "avx512f")]
fn step_f32(sum: __m512, a: __m512, b: __m512) -> __m512 {
    _mm512_fmadd_ps(a, b, sum)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn step_bf16(sum: __m512, a: __m512, b: __m512) -> __m512 {
    // SAFETY: both types are 512 plain bits.
    let pairs = |x| unsafe { std::mem::transmute::<__m512, __m512bh>(x) };
    _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
}

tile!(tile_f32, "avx512f,avx512bw,avx512dq,avx512vl,fma", step_f32);
tile!(tile_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", step_bf16);
