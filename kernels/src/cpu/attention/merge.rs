//! Merging two partial results of attention.

use crate::cpu::simd::{Scalar, mul_add, multiversion};
use crate::cpu::threads::Threads;

/// Elements per task.
const TASK: usize = 1 << 14;

/// The log-sum-exp over both sets of keys, and what each partial output counts in the whole.
#[inline(always)]
pub(super) fn weights(old: f32, new: f32) -> (f32, f32, f32) {
    let top = old.max(new);
    if top == f32::NEG_INFINITY {
        return (top, 0.0, 0.0); // neither has seen a key
    }
    let total = top + ((old - top).exp() + (new - top).exp()).ln();
    (total, (old - total).exp(), (new - total).exp())
}

/// Makes `out` [rows, heads, head_dim] and `lse` [heads, rows], a partial result, the result over
/// the keys of `part` and `part_lse` too: lse' = ln(e^lse + e^part_lse),
/// out' = e^(lse - lse') out + e^(part_lse - lse') part.
///
/// # Panics
/// Sizes that do not fit.
pub fn merge<T: Scalar>(
    threads: &Threads,
    (heads, head_dim): (usize, usize),
    out: &mut [T],
    lse: &mut [f32],
    part: &[T],
    part_lse: &[f32],
) {
    let rows = lse.len() / heads.max(1);
    let fits = rows * heads == lse.len() && rows * heads * head_dim == out.len();
    assert!(fits && part.len() == out.len() && part_lse.len() == lse.len(), "results do not fit");
    let width = heads * head_dim;
    let per_task = (TASK / width.max(1)).max(1);
    let before = &*lse;
    threads.chunks(out, (per_task * width).max(1), |task, out| {
        let first = task * per_task;
        for (i, (out, part)) in
            out.chunks_mut(width).zip(part[first * width..].chunks(width)).enumerate()
        {
            let heads = out.chunks_mut(head_dim).zip(part.chunks(head_dim)).enumerate();
            for (head, (out, part)) in heads {
                let at = head * rows + first + i;
                let (_, old_part, new_part) = weights(before[at], part_lse[at]);
                blend(out, old_part, part, new_part);
            }
        }
    });
    for (lse, part) in lse.iter_mut().zip(part_lse) {
        *lse = weights(*lse, *part).0;
    }
}

multiversion! {
    fn blend<T: Scalar>(out: &mut [T], old_part: f32, part: &[T], new_part: f32) {
        for (out, part) in out.iter_mut().zip(part) {
            *out = T::from_f32(mul_add::<FUSED>(out.to_f32(), old_part, part.to_f32() * new_part));
        }
    }
}
