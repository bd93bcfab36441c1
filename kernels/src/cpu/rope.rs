//! Rotary position embedding, half-split.

use super::simd::{Scalar, multiversion};
use super::threads::Threads;

multiversion! {
    fn rows<T: Scalar>(x: &[T], shape: (usize, usize), cos: &[f32], sin: &[f32], base: (&[f32], &[f32]), inverse: bool, y: &mut [T]) {
        let (heads, head_dim) = shape;
        let half = head_dim / 2;
        let sign = if inverse { -1.0 } else { 1.0 };
        let mut angle = vec![(0f32, 0f32); half];
        let rows = x.chunks_exact(heads * head_dim).zip(y.chunks_exact_mut(heads * head_dim));
        for (row, (x, y)) in rows.enumerate() {
            let (c, s) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            for (j, angle) in angle.iter_mut().enumerate() {
                // cos(a + b) and sin(a + b) from those of the local row and of the slice's start.
                let (bc, bs) = (base.0[j], base.1[j]);
                *angle = (c[j] * bc - s[j] * bs, sign * (s[j] * bc + c[j] * bs));
            }
            for (x, y) in x.chunks_exact(head_dim).zip(y.chunks_exact_mut(head_dim)) {
                let ((x1, x2), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
                for j in 0..half {
                    let (a, b, (c, s)) = (x1[j].to_f32(), x2[j].to_f32(), angle[j]);
                    y1[j] = T::from_f32(a * c - b * s);
                    y2[j] = T::from_f32(b * c + a * s);
                }
            }
        }
    }
}

/// Rotates `x` [rows, heads, head_dim] into `y`. `cos`, `sin` are the table [rows, head_dim / 2] of
/// local positions, `base_cos`, `base_sin` [head_dim / 2] the rotation of the first one.
///
/// # Panics
/// Sizes that do not fit.
#[allow(clippy::too_many_arguments)]
pub fn apply<T: Scalar>(
    threads: &Threads,
    x: &[T],
    heads: usize,
    head_dim: usize,
    cos: &[f32],
    sin: &[f32],
    base_cos: &[f32],
    base_sin: &[f32],
    inverse: bool,
    y: &mut [T],
) {
    let (width, half) = (heads * head_dim, head_dim / 2);
    assert!(head_dim.is_multiple_of(2) && width > 0, "head size {head_dim} is not even");
    assert!(
        x.len() == y.len() && cos.len() == x.len() / width * half && sin.len() == cos.len(),
        "a row of the table for each row"
    );
    assert!(base_cos.len() == half && base_sin.len() == half, "one base angle per pair");
    let per_task = ((1 << 14) / width).max(1);
    threads.chunks(y, per_task * width, |i, y| {
        let table = i * per_task * half..(i * per_task + y.len() / width) * half;
        let x = &x[i * per_task * width..][..y.len()];
        rows(
            x,
            (heads, head_dim),
            &cos[table.clone()],
            &sin[table],
            (base_cos, base_sin),
            inverse,
            y,
        );
    });
}
