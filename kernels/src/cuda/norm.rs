//! RMSNorm and LayerNorm of rows.

use super::compile::{Source, Variant, source};
use super::error::{CudaError, Result};
use super::grid::{PACK_BYTES, line, row_threads, rows as row_grid};
use super::launch::Grid;
use super::{DevicePtr, Float, Stream};

static RMS_NORM: Source = source!("sm90_float_rms_norm.cu");
static LAYER_NORM: Source = source!("sm90_float_layer_norm.cu");
static ADD_ROWS: Source = source!("sm90_f32_add_rows.cu");

/// Most blocks of a backward: each leaves one row of sums of the weight's gradient, and those are added up
/// one after the other.
const SHARES: usize = 256;

fn variant(source: &'static Source, entry: &'static str, dtype: Float) -> Variant {
    Variant::new(source, entry).with("FLOAT", dtype)
}

fn grid(dtype: Float, rows: usize, width: usize) -> Grid {
    row_grid(rows, width, PACK_BYTES / dtype.size())
}

/// y = x r w per row with r = 1 / sqrt(mean(x^2) + eps); `x`, `y` are [rows, width], `rstd` (f32) `[rows]`.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn rms_norm(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    eps: f32,
    rows: usize,
    width: usize,
    y: DevicePtr,
    rstd: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&RMS_NORM, "rms_norm", dtype))?;
    let (height, columns) = (rows as u64, width as u32);
    let grid = grid(dtype, rows, width);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&x, &weight, &eps, &height, &columns, &y, &rstd]) }
}

/// The same `y` again, bit for bit, from the saved `rstd`.
///
/// # Errors
/// As [`rms_norm`].
///
/// # Safety
/// As [`rms_norm`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn rms_norm_apply(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    rstd: DevicePtr,
    rows: usize,
    width: usize,
    y: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&RMS_NORM, "rms_norm_apply", dtype))?;
    let (height, columns) = (rows as u64, width as u32);
    let grid = grid(dtype, rows, width);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&x, &weight, &rstd, &height, &columns, &y]) }
}

/// `dx` is overwritten; the weight's gradient is added to `dweight` (f32, `[width]`), if there is one.
///
/// # Errors
/// As [`rms_norm`], or rows are so wide that their sums do not fit a block's shared memory.
///
/// # Safety
/// As [`rms_norm`].
#[expect(clippy::too_many_arguments, reason = "a backward takes what forward took and gave")]
pub unsafe fn rms_norm_backward(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    rstd: DevicePtr,
    dy: DevicePtr,
    rows: usize,
    width: usize,
    dx: DevicePtr,
    dweight: Option<DevicePtr>,
) -> Result<()> {
    let variant = variant(&RMS_NORM, "rms_norm_backward", dtype);
    let sums = dweight.map(|dweight| [dweight]);
    // SAFETY: as the caller promises.
    unsafe { backward(stream, variant, dtype, [x, weight, rstd, dy], (rows, width), dx, sums) }
}

/// y = n w + b per row with n = (x - mean) r, r = 1 / sqrt(variance + eps); `x`, `y` are [rows, width],
/// `statistics` (f32, mean and r) [rows, 2].
///
/// # Errors
/// As [`rms_norm`].
///
/// # Safety
/// As [`rms_norm`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn layer_norm(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    bias: DevicePtr,
    eps: f32,
    rows: usize,
    width: usize,
    y: DevicePtr,
    statistics: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&LAYER_NORM, "layer_norm", dtype))?;
    let (height, columns) = (rows as u64, width as u32);
    let args: &super::launch::Args<'_> =
        &[&x, &weight, &bias, &eps, &height, &columns, &y, &statistics];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid(dtype, rows, width), args) }
}

/// The same `y` again, bit for bit, from the saved `statistics`.
///
/// # Errors
/// As [`rms_norm`].
///
/// # Safety
/// As [`rms_norm`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn layer_norm_apply(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    bias: DevicePtr,
    statistics: DevicePtr,
    rows: usize,
    width: usize,
    y: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&LAYER_NORM, "layer_norm_apply", dtype))?;
    let (height, columns) = (rows as u64, width as u32);
    let grid = grid(dtype, rows, width);
    // SAFETY: as the caller promises.
    unsafe {
        kernel.launch(stream, grid, &[&x, &weight, &bias, &statistics, &height, &columns, &y])
    }
}

/// `dx` is overwritten; the gradients of weight and bias are added to `dparams` (f32, `[width]` each), if
/// there are any.
///
/// # Errors
/// As [`rms_norm_backward`].
///
/// # Safety
/// As [`rms_norm`].
#[expect(clippy::too_many_arguments, reason = "a backward takes what forward took and gave")]
pub unsafe fn layer_norm_backward(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    weight: DevicePtr,
    statistics: DevicePtr,
    dy: DevicePtr,
    rows: usize,
    width: usize,
    dx: DevicePtr,
    dparams: Option<[DevicePtr; 2]>,
) -> Result<()> {
    let variant = variant(&LAYER_NORM, "layer_norm_backward", dtype);
    let inputs = [x, weight, statistics, dy];
    // SAFETY: as the caller promises.
    unsafe { backward(stream, variant, dtype, inputs, (rows, width), dx, dparams) }
}

/// A backward that sums up gradients of `N` parameters over rows: each block of the kernel over its share,
/// then all shares in order.
unsafe fn backward<const N: usize>(
    stream: &Stream,
    variant: Variant,
    dtype: Float,
    [x, weight, saved, dy]: [DevicePtr; 4],
    (rows, width): (usize, usize),
    dx: DevicePtr,
    sums: Option<[DevicePtr; N]>,
) -> Result<()> {
    if rows == 0 {
        return Ok(());
    }
    let share = rows.div_ceil(SHARES);
    let blocks = rows.div_ceil(share);
    let mut grid = Grid::line(blocks as u32, row_threads(width, PACK_BYTES / dtype.size()));
    let mut partial = DevicePtr::NULL;
    let bytes = width * size_of::<f32>();
    if sums.is_some() {
        grid.shared = u32::try_from(N * bytes).map_err(|_| CudaError::Launch {
            kernel: variant.entry,
            what: format!("rows of {width} elements do not fit shared memory"),
        })?;
        partial = stream.scratch((N * blocks * bytes) as u64)?;
    }
    let kernel = stream.context().kernel(&variant)?;
    let (height, columns, share) = (rows as u64, width as u32, share as u32);
    let args: &super::launch::Args<'_> =
        &[&x, &weight, &saved, &dy, &height, &columns, &share, &dx, &partial];
    // SAFETY: as the callers' callers promise; `partial` has a row of sums per parameter and block.
    unsafe { kernel.launch(stream, grid, args)? };
    for (i, sum) in sums.into_iter().flatten().enumerate() {
        let parts = partial.offset((i * blocks * bytes) as u64);
        let kernel = stream.context().kernel(&Variant::new(&ADD_ROWS, "add_rows"))?;
        let grid = line(width as u64, 128);
        // SAFETY: as above.
        unsafe { kernel.launch(stream, grid, &[&parts, &(blocks as u32), &columns, &sum])? };
    }
    Ok(())
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let each = |dtype| {
        let rms = ["rms_norm", "rms_norm_apply", "rms_norm_backward"];
        let layer = ["layer_norm", "layer_norm_apply", "layer_norm_backward"];
        let rms = rms.map(|entry| variant(&RMS_NORM, entry, dtype));
        rms.into_iter().chain(layer.map(|entry| variant(&LAYER_NORM, entry, dtype)))
    };
    let add = Variant::new(&ADD_ROWS, "add_rows");
    Float::ALL.into_iter().flat_map(each).chain([add]).collect()
}
