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
