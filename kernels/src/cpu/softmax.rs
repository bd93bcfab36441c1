//! Softmax of rows.

use super::simd::{Scalar, exp, multiversion};
use super::threads::Threads;

multiversion! {
    fn forward_rows<T: Scalar>(x: &[T], width: usize, y: &mut [T]) {
        for (x, y) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |max, x| max.max(x.to_f32()));
            let sum: f32 = x.iter().map(|x| exp::<FUSED>(x.to_f32() - max)).sum();
            for (y, x) in y.iter_mut().zip(x) {
                *y = T::from_f32(exp::<FUSED>(x.to_f32() - max) / sum);
            }
        }
    }
}

multiversion! {
    fn backward_rows<T: Scalar>(y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
        let rows = y.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for ((y, dy), dx) in rows {
            let dot: f32 = y.iter().zip(dy).map(|(y, dy)| y.to_f32() * dy.to_f32()).sum();
            for ((dx, y), dy) in dx.iter_mut().zip(y).zip(dy) {
                *dx = T::from_f32(y.to_f32() * (dy.to_f32() - dot));
            }
        }
    }
}

/// Softmax of each row of `x` [rows, width].
///
/// # Panics
/// Sizes that do not fit.
pub fn forward<T: Scalar>(threads: &Threads, x: &[T], width: usize, y: &mut [T]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(width), "rows of {width}");
    let rows = ((1 << 13) / width).max(1);
    threads
        .chunks(y, rows * width, |i, y| forward_rows(&x[i * rows * width..][..y.len()], width, y));
}

/// The gradient of the input from the output `y`.
///
/// # Panics
/// Sizes that do not fit.
pub fn backward<T: Scalar>(threads: &Threads, y: &[T], dy: &[T], width: usize, dx: &mut [T]) {
    assert!(
        y.len() == dy.len() && y.len() == dx.len() && y.len().is_multiple_of(width),
        "rows of {width}"
    );
    let rows = ((1 << 13) / width).max(1);
    threads.chunks(dx, rows * width, |i, dx| {
        let span = i * rows * width..i * rows * width + dx.len();
        backward_rows(&y[span.clone()], &dy[span], width, dx);
    });
}
