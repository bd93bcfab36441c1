//! Flash attention over a list of K/V chunks, forward and backward, with the semantics of
//! [`crate::cpu::attention`].
//!
//! bf16 heads of up to 128 elements, a multiple of 8, run on tensor cores if all rows begin at multiples
//! of 16 bytes and lie multiples of 8 elements apart. Anything else runs on plain cores
//! (`plain_attention`), far slower. Both are deterministic: each gradient is summed by one block, in
//! one order.
//!
//! Up to 112 chunks go to a kernel as parameters. A longer list is a table in the
//! stream's scratch memory.

mod backward;
mod forward;
mod list;

pub use super::plain_attention::{Chunk, ChunkGrad, Rows, variants_of};
pub use backward::backward;
pub use forward::forward;

use super::Float;
use super::compile::Variant;
use super::error::{CudaError, Result};
use super::tensor_map::{Swizzle, TensorMap};
use crate::cpu::attention::Shape;

/// Rows that a warpgroup stores at a time.
const STORED_ROWS: usize = 64;
/// Queries of a block of the kernels that go through keys.
const TILE_Q: usize = 128;
/// Keys of a block.
const KEYS: usize = 128;
/// Threads of a block: one warpgroup loads, two multiply.
const THREADS: u32 = 384;
/// Bytes that the start of shared memory may miss to the alignment that tiles need.
const ALIGNMENT: usize = 1024;

impl Rows {
    /// These rows, `len` of `heads` heads, in boxes of `tile` rows of 64 elements.
    fn map(self, shape: &Shape, heads: usize, len: usize, tile: usize) -> Result<TensorMap> {
        let head = 2 * shape.head_dim as u64;
        // Of a single row, the distance to the next does not matter.
        let row = if len == 1 { head * heads as u64 } else { 2 * self.stride as u64 };
        TensorMap::new(
            Float::Bf16,
            self.at,
            &[shape.head_dim as u64, heads as u64, len as u64],
            &[head, row],
            &[64, 1, tile as u32],
            Swizzle::B128,
        )
    }

    fn aligned(self, len: usize) -> bool {
        self.at.0.is_multiple_of(16) && (len <= 1 || self.stride.is_multiple_of(8))
    }
}

/// The head size that a kernel is compiled for; smaller heads are filled up with zeros.
fn head(head_dim: usize) -> usize {
    if head_dim <= 64 { 64 } else { 128 }
}

/// Whether tensor cores can compute it.
fn fits(dtype: Float, shape: &Shape, rows: &[Rows], chunks: &[Chunk]) -> bool {
    let Shape { q_len, head_dim, scale, .. } = *shape;
    dtype == Float::Bf16
        && head_dim.is_multiple_of(8)
        && head_dim <= 128
        && scale > 0.0
        && scale.is_finite()
        && rows.iter().all(|rows| rows.aligned(q_len))
        && chunks.iter().all(|chunk| chunk.k.aligned(chunk.len) && chunk.v.aligned(chunk.len))
}

/// Refuses what no kernel computes: heads that do not share key heads evenly, positions that 32 bits do not hold.
fn check(kernel: &'static str, shape: &Shape, chunks: &[Chunk]) -> Result<()> {
    let Shape { q_len, heads, kv_heads, q_offset, .. } = *shape;
    let fail = |what: String| Err(CudaError::Launch { kernel, what });
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return fail(format!("{heads} heads do not share {kv_heads} key heads evenly"));
    }
    let ends = chunks.iter().map(|chunk| chunk.start + chunk.len).chain([q_offset + q_len]);
    match ends.max() {
        Some(end) if end > i32::MAX as usize / 2 => {
            fail(format!("positions up to {end}, and the kernels count to {}", i32::MAX / 2))
        }
        _ => Ok(()),
    }
}

/// The chunks that a query sees some of, in order, with their numbers.
fn visible<'a>(
    shape: &Shape,
    chunks: &'a [Chunk],
) -> impl Iterator<Item = (usize, &'a Chunk)> + Clone {
    let end = shape.q_offset + shape.q_len;
    chunks.iter().enumerate().filter(move |(_, chunk)| chunk.len > 0 && chunk.start < end)
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    forward::variants().chain(backward::variants()).collect()
}
