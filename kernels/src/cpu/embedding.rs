//! Embedding lookup and its backward.

use super::simd::Scalar;
use super::threads::Threads;

/// Row `ids[i]` of `table` [vocab, width] to row i of `out`.
///
/// # Panics
/// Sizes that do not fit, an id outside the table.
pub fn gather<T: Scalar>(threads: &Threads, table: &[T], width: usize, ids: &[u32], out: &mut [T]) {
    assert_eq!(out.len(), ids.len() * width, "one row of {width} per id");
    let rows = ((1 << 14) / width.max(1)).max(1);
    threads.chunks(out, rows * width.max(1), |i, out| {
        for (out, &id) in out.chunks_exact_mut(width).zip(&ids[i * rows..]) {
            out.copy_from_slice(&table[id as usize * width..][..width]);
        }
    });
}

/// Adds row i of `dout` to row `ids[i]` of `dtable`, in the order of i: tasks own columns, so the
/// order of additions never depends on threads.
///
/// # Panics
/// Sizes that do not fit, an id outside the table.
pub fn scatter_add<T: Scalar>(
    threads: &Threads,
    dout: &[T],
    ids: &[u32],
    width: usize,
    dtable: &mut [f32],
) {
    assert_eq!(dout.len(), ids.len() * width, "one row of {width} per id");
    let vocab = dtable.len() / width.max(1);
    assert!(
        ids.iter().all(|&id| (id as usize) < vocab),
        "an id lies outside the table of {vocab} rows"
    );
    const COLUMNS: usize = 128;
    let shared = super::threads::Shared(dtable.as_mut_ptr());
    threads.run(width.div_ceil(COLUMNS), |task| {
        let start = task * COLUMNS;
        let len = COLUMNS.min(width - start);
        for (row, &id) in ids.iter().enumerate() {
            // SAFETY: columns `start..start + len` of every row belong to this task alone; the row
            // lies in the table, checked above.
            let to = unsafe { shared.part(id as usize * width + start, len) };
            for (to, from) in to.iter_mut().zip(&dout[row * width + start..]) {
                *to += from.to_f32();
            }
        }
    });
}
