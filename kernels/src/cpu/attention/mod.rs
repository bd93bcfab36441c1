//! Flash attention over a list of K/V chunks, forward and backward.
//!
//! Everything is computed transposed: 32 queries lie side by side in the lanes of two registers, so
//! that scores, their maxima and their sums need no horizontal operations, and the probabilities
//! come out in the very layout the next product wants. A block of keys is packed once for all query
//! heads of its group.
//!
//! Masking depends on positions only: a query at position i sees keys at positions up to i, so
//! chunks may come in any order, with gaps, from anywhere. A query that sees nothing gets output 0
//! and log-sum-exp minus infinity.
//!
//! Forward (Dao et al., arXiv 2205.14135), per block of keys: S = scale K Q^T, m' = max(m, max S),
//! P = exp(S - m'), l' = l exp(m - m') + sum P, O' = O exp(m - m') + V^T P. Backward, with
//! D = sum(dO O): P = exp(S - lse), dV = P dO, dP = V dO^T, dS = scale P (dP - D), dQ = dS^T K,
//! dK = dS Q. Tasks are (key head, query block) forward and key heads backward, whatever the number
//! of threads.

mod backward;
mod block;
mod forward;
mod merge;
#[cfg(test)]
mod tests;

pub use backward::backward;
pub use forward::forward;
pub use merge::merge;

use super::micro::Multiply;

/// What is attended to what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Query rows.
    pub q_len: usize,
    /// Query heads, a multiple of the key heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Position of the first query row.
    pub q_offset: usize,
    /// What scores are multiplied by.
    pub scale: f32,
}

/// Rows of heads: row i begins at `i * stride`, head h in it at `h * head_dim`.
#[derive(Clone, Copy)]
pub struct Rows<'a, T> {
    /// The elements.
    pub data: &'a [T],
    /// Elements between rows.
    pub stride: usize,
}

/// Rows of heads, to be written.
pub struct RowsMut<'a, T> {
    /// The elements.
    pub data: &'a mut [T],
    /// Elements between rows.
    pub stride: usize,
}

/// Keys and values of some consecutive positions.
#[derive(Clone, Copy)]
pub struct Chunk<'a, T> {
    /// Keys, [len, kv_heads, head_dim].
    pub k: Rows<'a, T>,
    /// Values, [len, kv_heads, head_dim].
    pub v: Rows<'a, T>,
    /// Rows.
    pub len: usize,
    /// Position of the first row.
    pub start: usize,
}

/// Accumulators of a chunk's gradients, f32, dense [len, kv_heads, head_dim]; added to.
pub struct ChunkGrad<'a> {
    /// Gradient of the keys.
    pub dk: &'a mut [f32],
    /// Gradient of the values.
    pub dv: &'a mut [f32],
}

impl Shape {
    fn check<T: Multiply>(&self, q: &Rows<'_, T>, chunks: &[Chunk<'_, T>]) {
        let Self { q_len, heads, kv_heads, head_dim, .. } = *self;
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "head size {head_dim} is not even");
        assert!(
            kv_heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads do not share {kv_heads} key heads evenly"
        );
        assert!(q.holds(q_len, heads * head_dim), "{q_len} query rows leave their slice");
        for chunk in chunks {
            let fits = chunk.k.holds(chunk.len, kv_heads * head_dim)
                && chunk.v.holds(chunk.len, kv_heads * head_dim);
            assert!(fits, "a chunk of {} rows leaves its slice", chunk.len);
        }
    }

    /// Query heads per key head.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

impl<T> Rows<'_, T> {
    fn holds(&self, rows: usize, width: usize) -> bool {
        rows == 0 || (self.stride >= width && (rows - 1) * self.stride + width <= self.data.len())
    }

    fn head(&self, row: usize, head: usize, head_dim: usize) -> &[T] {
        &self.data[row * self.stride + head * head_dim..][..head_dim]
    }
}
