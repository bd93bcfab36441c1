//! Softmax of rows and its backward.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, rows as row_grid};
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_softmax.cu");

fn variant(entry: &'static str, dtype: Float) -> Variant {
    Variant::new(&SOURCE, entry).with("FLOAT", dtype)
}

/// Softmax of each row of `x` [rows, width].
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// Both addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn forward(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    rows: usize,
    width: usize,
    y: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("softmax", dtype))?;
    let grid = row_grid(rows, width, PACK_BYTES / dtype.size());
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&x, &(rows as u64), &(width as u32), &y]) }
}

/// The gradient of the input from the output `y` [rows, width].
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
pub unsafe fn backward(
    stream: &Stream,
    dtype: Float,
    y: DevicePtr,
    dy: DevicePtr,
    rows: usize,
    width: usize,
    dx: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("softmax_backward", dtype))?;
    let grid = row_grid(rows, width, PACK_BYTES / dtype.size());
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&y, &dy, &(rows as u64), &(width as u32), &dx]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Float::ALL
        .into_iter()
        .flat_map(|dtype| ["softmax", "softmax_backward"].map(|entry| variant(entry, dtype)))
        .collect()
}
