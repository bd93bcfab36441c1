//! Transposition of 32-bit words.

use super::micro::Multiply;

/// Bytes of each row that are fetched ahead of their use.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 256;

/// Transposes `rows` rows of `words` words: word w of the row that begins at `from[r * stride]` goes
/// to `to[w * to_stride + r]`.
///
/// # Panics
/// A word lies outside its slice.
pub(crate) fn transpose<T: Multiply>(
    from: &[T],
    stride: usize,
    (rows, words): (usize, usize),
    to: &mut [u32],
    to_stride: usize,
) {
    if rows == 0 || words == 0 {
        return;
    }
    assert!(
        (rows - 1) * stride + words * T::PER_WORD <= from.len()
            && (words - 1) * to_stride + rows <= to.len(),
        "{rows} rows of {words} words to transpose leave their slices"
    );
    #[cfg(target_arch = "x86_64")]
    if super::simd::level() == super::simd::Level::Avx512 {
        // SAFETY: the machine has the instructions; every word lies inside its slice, see above.
        unsafe {
            let from = from.as_ptr().cast::<u8>();
            let row_bytes = stride * size_of::<T>();
            avx512(from, row_bytes, (rows, words), to.as_mut_ptr(), to_stride);
        }
        return;
    }
    portable(from, stride, (rows, words), to, to_stride);
}

fn portable<T: Multiply>(
    from: &[T],
    stride: usize,
    (rows, words): (usize, usize),
    to: &mut [u32],
    to_stride: usize,
) {
    for r in 0..rows {
        for w in 0..words {
            let at = r * stride + w * T::PER_WORD;
            to[w * to_stride + r] = T::word(from[at], from[at + T::PER_WORD - 1]);
        }
    }
}

/// # Safety
/// The machine has AVX-512; all words can be read and written (none needs to be aligned).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512(
    from: *const u8,
    row_bytes: usize,
    (rows, words): (usize, usize),
    to: *mut u32,
    to_stride: usize,
) {
    use std::arch::x86_64::*;

    let mask = |count: usize| if count >= 16 { !0 } else { (1u16 << count) - 1 };
    for w in (0..words).step_by(16) {
        let read = mask(words - w);
        for r in (0..rows).step_by(16) {
            let (height, write) = ((rows - r).min(16), mask(rows - r));
            let mut x = [_mm512_setzero_si512(); 16];
            for (i, x) in x.iter_mut().enumerate().take(height) {
                super::simd::prefetch(from.wrapping_add((r + i) * row_bytes + 4 * w + AHEAD));
                // SAFETY: the row exists, and the mask leaves out what lies behind its end.
                *x = unsafe {
                    _mm512_maskz_loadu_epi32(read, from.add((r + i) * row_bytes + 4 * w).cast())
                };
            }
            for (i, x) in transpose_16(x).into_iter().enumerate().take((words - w).min(16)) {
                // SAFETY: the word exists, and the mask leaves out rows that do not.
                unsafe {
                    _mm512_mask_storeu_epi32(to.add((w + i) * to_stride + r).cast(), write, x);
                }
            }
        }
    }
}

/// Sixteen registers of sixteen words, transposed in four rounds of shuffles.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose_16(x: [std::arch::x86_64::__m512i; 16]) -> [std::arch::x86_64::__m512i; 16] {
    use std::arch::x86_64::*;

    let zero = _mm512_setzero_si512();
    let (mut a, mut b) = ([zero; 16], [zero; 16]);
    for i in 0..8 {
        a[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        a[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    // After this round b[4 g + i] holds, in quarter q, column 4 q + i of rows 4 g .. 4 g + 4.
    for g in 0..4 {
        for i in 0..2 {
            b[4 * g + 2 * i] = _mm512_unpacklo_epi64(a[4 * g + i], a[4 * g + i + 2]);
            b[4 * g + 2 * i + 1] = _mm512_unpackhi_epi64(a[4 * g + i], a[4 * g + i + 2]);
        }
    }
    for i in 0..4 {
        a[i] = _mm512_shuffle_i32x4::<0x44>(b[i], b[4 + i]);
        a[4 + i] = _mm512_shuffle_i32x4::<0xee>(b[i], b[4 + i]);
        a[8 + i] = _mm512_shuffle_i32x4::<0x44>(b[8 + i], b[12 + i]);
        a[12 + i] = _mm512_shuffle_i32x4::<0xee>(b[8 + i], b[12 + i]);
    }
    for i in 0..4 {
        b[i] = _mm512_shuffle_i32x4::<0x88>(a[i], a[8 + i]);
        b[4 + i] = _mm512_shuffle_i32x4::<0xdd>(a[i], a[8 + i]);
        b[8 + i] = _mm512_shuffle_i32x4::<0x88>(a[4 + i], a[12 + i]);
        b[12 + i] = _mm512_shuffle_i32x4::<0xdd>(a[4 + i], a[12 + i]);
    }
    b
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn every_word_lands_in_its_place_and_nothing_else_is_touched() {
        for (rows, words) in [(1, 1), (16, 16), (12, 40), (33, 7), (50, 64)] {
            let (stride, to_stride) = (2 * words + 3, rows + 2);
            let elements: Vec<bf16> =
                (0..rows * stride).map(|i| bf16::from_bits(i as u16)).collect();
            let words_of: Vec<f32> = (0..rows * stride).map(|i| f32::from_bits(i as u32)).collect();
            let mut pairs = vec![u32::MAX; words * to_stride];
            let mut singles = pairs.clone();
            transpose(&elements, stride, (rows, words), &mut pairs, to_stride);
            transpose(&words_of, stride, (rows, words), &mut singles, to_stride);
            for w in 0..words {
                for r in 0..to_stride {
                    let at = w * to_stride + r;
                    let first = r * stride + 2 * w;
                    let expected = if r < rows {
                        (first as u32 & 0xffff | (first as u32 + 1) << 16, (r * stride + w) as u32)
                    } else {
                        (u32::MAX, u32::MAX)
                    };
                    assert_eq!((pairs[at], singles[at]), expected, "row {r}, word {w}");
                }
            }
        }
    }
}
