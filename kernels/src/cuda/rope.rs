//! Rotary position embedding, half-split.

use super::compile::{Source, Variant, source};
use super::error::{CudaError, Result};
use super::grid::PACK_BYTES;
use super::launch::{Grid, Parameter};
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_rope.cu");

/// Pairs of a head, at most.
const MAX_PAIRS: usize = 256;

/// The rotation of the first row, by pair.
#[repr(C)]
struct Base {
    cosines: [f32; MAX_PAIRS],
    sines: [f32; MAX_PAIRS],
}

// SAFETY: `struct Base` of the kernel.
unsafe impl Parameter for Base {}

fn variant(dtype: Float) -> Variant {
    Variant::new(&SOURCE, "rope").with("FLOAT", dtype)
}

/// Rotates `x` [rows, heads, head_dim] into `y`, which may be `x`. `cos`, `sin` (f32) are the table
/// [rows, head_dim / 2] of local positions, `base_cos`, `base_sin` [head_dim / 2] the rotation of the first.
///
/// # Errors
/// A head that is odd, or larger than the kernel takes, or the kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn apply(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    rows: usize,
    heads: usize,
    head_dim: usize,
    cos: DevicePtr,
    sin: DevicePtr,
    base_cos: &[f32],
    base_sin: &[f32],
    inverse: bool,
    y: DevicePtr,
) -> Result<()> {
    let pairs = head_dim / 2;
    let fits = head_dim.is_multiple_of(2)
        && pairs <= MAX_PAIRS
        && [base_cos, base_sin].iter().all(|base| base.len() == pairs);
    if !fits {
        let what = format!(
            "a head of {head_dim} elements with {} angles: sizes are even and at most {}",
            base_cos.len(),
            2 * MAX_PAIRS
        );
        return Err(CudaError::Launch { kernel: "rope", what });
    }
    if rows * heads * pairs == 0 {
        return Ok(());
    }
    let mut base = Base { cosines: [0.0; MAX_PAIRS], sines: [0.0; MAX_PAIRS] };
    base.cosines[..pairs].copy_from_slice(base_cos);
    base.sines[..pairs].copy_from_slice(base_sin);
    let packs = heads * pairs.div_ceil(PACK_BYTES / dtype.size());
    let threads = packs.next_multiple_of(32).min(256) as u32;
    let grid = Grid {
        blocks: [packs.div_ceil(threads as usize) as u32, rows.div_ceil(4).min(65_535) as u32, 1],
        threads: [threads, 1, 1],
        shared: 0,
    };
    let (rows, heads, pairs) = (rows as u64, heads as u32, pairs as u32);
    let sign = if inverse { -1.0f32 } else { 1.0 };
    let kernel = stream.context().kernel(&variant(dtype))?;
    let args: &super::launch::Args<'_> = &[&x, &cos, &sin, &base, &rows, &heads, &pairs, &sign, &y];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Float::ALL.into_iter().map(variant).collect()
}
