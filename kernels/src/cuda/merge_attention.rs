//! Merging two partial results of attention.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::launch::Grid;
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_merge_attention.cu");

/// Heads of rows that a block merges.
const TOGETHER: usize = 8;

fn variant(dtype: Float) -> Variant {
    Variant::new(&SOURCE, "merge_attention").with("FLOAT", dtype)
}

/// Makes `out` [rows, heads, head_dim] and `lse` (f32, [heads, rows]), a partial result, the result over the keys of
/// `part` and `part_lse` too: lse' = ln(e^lse + e^part_lse), out' = e^(lse - lse') out + e^(part_lse - lse') part.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn merge(
    stream: &Stream,
    dtype: Float,
    (heads, head_dim, rows): (usize, usize, usize),
    out: DevicePtr,
    lse: DevicePtr,
    part: DevicePtr,
    part_lse: DevicePtr,
) -> Result<()> {
    let grid = Grid {
        blocks: [(rows * heads).div_ceil(TOGETHER) as u32, 1, 1],
        threads: [32, TOGETHER as u32, 1],
        shared: 0,
    };
    let (rows, heads, head_dim) = (rows as u64, heads as u32, head_dim as u32);
    let kernel = stream.context().kernel(&variant(dtype))?;
    let args: &super::launch::Args<'_> = &[&out, &lse, &part, &part_lse, &rows, &heads, &head_dim];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Float::ALL.into_iter().map(variant).collect()
}
