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
