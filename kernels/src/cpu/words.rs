//! Elements into words.

use super::micro::Multiply;
use super::simd::multiversion;

multiversion! {
    /// Neighbours in a row, word after word.
    pub(crate) fn words_along<T: Multiply>(row: &[T], to: &mut [u32]) {
        for (to, elements) in to.iter_mut().zip(row.chunks_exact(T::PER_WORD)) {
            *to = T::word(elements[0], elements[T::PER_WORD - 1]);
        }
    }
}

multiversion! {
    /// Elements of `a` with those of `b`; of `a` alone where a word holds one element.
    pub(crate) fn words_across<T: Multiply>(a: &[T], b: &[T], to: &mut [u32]) {
        for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
            *to = T::word(a, b);
        }
    }
}

/// `from`, rounded to words of neighbours: 1 / PER_WORD as many. f32 is read where it is.
pub(crate) fn rounded_along<'a, T: Multiply>(from: &'a [f32], to: &'a mut [u32]) -> &'a [u32] {
    if T::PER_WORD == 1 {
        return bytemuck::cast_slice(from);
    }
    #[cfg(target_arch = "x86_64")]
    if super::simd::has_avx512_bf16() && from.len().is_multiple_of(32) {
        // SAFETY: the machine has the instructions.
        unsafe { avx512::along(from, to) };
        return to;
    }
    along::<T>(from, to);
    to
}

/// The rows of `from` [rows][width], rounded and paired with the row that follows:
/// [rows / PER_WORD][width]. f32 is read where it is.
pub(crate) fn rounded_across<'a, T: Multiply>(
    from: &'a [f32],
    width: usize,
    to: &'a mut [u32],
) -> &'a [u32] {
    if T::PER_WORD == 1 {
        return bytemuck::cast_slice(from);
    }
    #[cfg(target_arch = "x86_64")]
    if super::simd::has_avx512_bf16() && width.is_multiple_of(16) {
        // SAFETY: the machine has the instructions.
        unsafe { avx512::across(from, width, to) };
        return to;
    }
    across::<T>(from, width, to);
    to
}

multiversion! {
    fn along<T: Multiply>(from: &[f32], to: &mut [u32]) {
        for (to, from) in to.iter_mut().zip(from.chunks_exact(T::PER_WORD)) {
            *to = T::word(T::from_f32(from[0]), T::from_f32(from[T::PER_WORD - 1]));
        }
    }
}

multiversion! {
    fn across<T: Multiply>(from: &[f32], width: usize, to: &mut [u32]) {
        let rows = from.chunks_exact(width * T::PER_WORD);
        for (to, rows) in to.chunks_exact_mut(width).zip(rows) {
            let (a, b) = (&rows[..width], &rows[(T::PER_WORD - 1) * width..]);
            for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
                *to = T::word(T::from_f32(a), T::from_f32(b));
            }
        }
    }
}

/// Rounding to bf16 in one instruction.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    /// # Safety
    /// The machine has AVX-512 and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn along(from: &[f32], to: &mut [u32]) {
        for (from, to) in from.chunks_exact(32).zip(to.chunks_exact_mut(16)) {
            // SAFETY: the chunks are as long as what is read and written.
            unsafe {
                let (low, high) =
                    (_mm512_loadu_ps(from.as_ptr()), _mm512_loadu_ps(from[16..].as_ptr()));
                let words =
                    std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
                _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
            }
        }
    }

    /// # Safety
    /// The machine has AVX-512 and AVX512-BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(super) unsafe fn across(from: &[f32], width: usize, to: &mut [u32]) {
        for (rows, to) in from.chunks_exact(2 * width).zip(to.chunks_exact_mut(width)) {
            let (a, b) = rows.split_at(width);
            for ((a, b), to) in
                a.chunks_exact(16).zip(b.chunks_exact(16)).zip(to.chunks_exact_mut(16))
            {
                // SAFETY: the chunks are as long as what is read and written.
                unsafe {
                    let rounded = |row: &[f32]| {
                        let half = _mm512_cvtneps_pbh(_mm512_loadu_ps(row.as_ptr()));
                        _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(half))
                    };
                    let words = _mm512_or_si512(rounded(a), _mm512_slli_epi32::<16>(rounded(b)));
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), words);
                }
            }
        }
    }
}
