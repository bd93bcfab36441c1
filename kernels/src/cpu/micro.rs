//! The register kernels under matrix multiplication and attention.
//!
//! Both element types are seen as 32-bit *words* along the contracted dimension: one f32, or a pair
//! of neighbouring bf16. A tile of C is [`MR`..][`NR`]: every row's word of A is broadcast and
//! multiplied with [`NR`] words of B. A may be packed or lie anywhere (two strides); B is packed as
//! [words][`ldb`], at least [`NR`] wide. AVX-512 keeps the tile in registers; the portable version computes the same sums in
//! the same order from the same data, so that it can be tested on any machine.

use half::bf16;

use super::simd::{Level, Scalar, has_avx512_bf16, level};

/// Columns of a tile: two AVX-512 registers.
pub(crate) const NR: usize = 32;

/// A row's position: words between rows, and between steps along the contracted dimension.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub row: usize,
    pub step: usize,
}

/// Which implementation runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AVX-512 (and AVX512-BF16 for bf16).
    Avx512,
    /// Plain Rust, vectorised by the compiler.
    Portable,
}

/// An element type that register kernels multiply.
pub trait Multiply: Scalar {
    /// Elements in a word.
    const PER_WORD: usize;
    /// The best path of this machine.
    fn best_path() -> Path;
    /// Multiplies the two words' elements and adds the products to `sum`.
    fn fma(sum: f32, a: u32, b: u32) -> f32;
    /// The word of elements `first` and (where there are two) `second`.
    fn word(first: Self, second: Self) -> u32;
}

impl Multiply for f32 {
    const PER_WORD: usize = 1;

    fn best_path() -> Path {
        if level() == Level::Avx512 { Path::Avx512 } else { Path::Portable }
    }

    #[inline(always)]
    fn fma(sum: f32, a: u32, b: u32) -> f32 {
        sum + f32::from_bits(a) * f32::from_bits(b)
    }

    #[inline(always)]
    fn word(first: Self, _: Self) -> u32 {
        first.to_bits()
    }
}

impl Multiply for bf16 {
    const PER_WORD: usize = 2;

    fn best_path() -> Path {
        if has_avx512_bf16() { Path::Avx512 } else { Path::Portable }
    }

    #[inline(always)]
    fn fma(sum: f32, a: u32, b: u32) -> f32 {
        let (low, high) =
            (|w: u32| f32::from_bits(w << 16), |w: u32| f32::from_bits(w & 0xffff_0000));
        sum + (low(a) * low(b) + high(a) * high(b))
    }

    #[inline(always)]
    fn word(first: Self, second: Self) -> u32 {
        u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16
    }
}

/// C tile (`ROWS` x [`NR`], rows `ldc` apart) = or += A B over `steps` words.
///
/// # Safety
/// The machine has what `path` needs. `a` can be read at every row and step, `b` at [`NR`] words
/// every `ldb`, `c` read and written at the whole tile.
#[inline(always)]
pub(crate) unsafe fn tile<T: Multiply, const ROWS: usize>(
    path: Path,
    steps: usize,
    a: *const u32,
    strides: Strides,
    b: *const u32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    match path {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise, passed on.
        Path::Avx512 if T::PER_WORD == 1 => unsafe {
            avx512_f32::<ROWS>(steps, a, strides, b, ldb, c, ldc, accumulate)
        },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the caller's promise, passed on.
        Path::Avx512 => unsafe {
            avx512_bf16::<ROWS>(steps, a, strides, b, ldb, c, ldc, accumulate)
        },
        // SAFETY: the caller's promise, passed on.
        _ => unsafe { portable::<T, ROWS>(steps, a, strides, b, ldb, c, ldc, accumulate) },
    }
}

/// # Safety
/// As [`tile`].
unsafe fn portable<T: Multiply, const ROWS: usize>(
    steps: usize,
    a: *const u32,
    strides: Strides,
    b: *const u32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    accumulate: bool,
) {
    for row in 0..ROWS {
        let mut sums = [0f32; NR];
        for step in 0..steps {
            // SAFETY: the caller promises that A and B can be read at every row and step.
            let (a, b) = unsafe {
                (
                    *a.add(row * strides.row + step * strides.step),
                    std::slice::from_raw_parts(b.add(step * ldb), NR),
                )
            };
            for (sum, &b) in sums.iter_mut().zip(b) {
                *sum = T::fma(*sum, a, b);
            }
        }
        // SAFETY: the caller promises that the tile can be written.
        let out = unsafe { std::slice::from_raw_parts_mut(c.add(row * ldc), NR) };
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = if accumulate { *out + sum } else { sum };
        }
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! avx512_tile {
    ($name:ident, $features:literal, $step:ident) => {
        /// # Safety
        /// As [`tile`]; the machine has the features.
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize>(
            steps: usize,
            a: *const u32,
            strides: Strides,
            b: *const u32,
            ldb: usize,
            c: *mut f32,
            ldc: usize,
            accumulate: bool,
        ) {
            use std::arch::x86_64::*;
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            let (mut a, mut b) = (a, b);
            for _ in 0..steps {
                // SAFETY: the caller promises that A and B can be read at every row and step.
                unsafe {
                    let b0 = _mm512_loadu_ps(b.cast());
                    let b1 = _mm512_loadu_ps(b.add(16).cast());
                    for row in 0..ROWS {
                        let word = _mm512_set1_ps(f32::from_bits(*a.add(row * strides.row)));
                        sums[row][0] = $step(sums[row][0], word, b0);
                        sums[row][1] = $step(sums[row][1], word, b1);
                    }
                    a = a.wrapping_add(strides.step);
                    b = b.wrapping_add(ldb);
                }
            }
            for (row, [s0, s1]) in sums.into_iter().enumerate() {
                // SAFETY: the caller promises that the tile can be read and written.
                unsafe {
                    let c = c.add(row * ldc);
                    let (mut s0, mut s1) = (s0, s1);
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

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn step_f32(
    sum: std::arch::x86_64::__m512,
    a: std::arch::x86_64::__m512,
    b: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    std::arch::x86_64::_mm512_fmadd_ps(a, b, sum)
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn step_bf16(
    sum: std::arch::x86_64::__m512,
    a: std::arch::x86_64::__m512,
    b: std::arch::x86_64::__m512,
) -> std::arch::x86_64::__m512 {
    // SAFETY: both types are 512 plain bits.
    let (a, b) = unsafe {
        (
            std::mem::transmute::<std::arch::x86_64::__m512, std::arch::x86_64::__m512bh>(a),
            std::mem::transmute::<std::arch::x86_64::__m512, std::arch::x86_64::__m512bh>(b),
        )
    };
    std::arch::x86_64::_mm512_dpbf16_ps(sum, a, b)
}

#[cfg(target_arch = "x86_64")]
avx512_tile!(avx512_f32, "avx512f,avx512bw,avx512dq,avx512vl,fma", step_f32);
#[cfg(target_arch = "x86_64")]
avx512_tile!(avx512_bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma", step_bf16);
