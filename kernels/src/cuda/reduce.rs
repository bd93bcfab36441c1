//! Reductions: sums over dimensions of a view, maxima of rows, the norm of many tensors.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, rows as row_grid};
use super::launch::Grid;
use super::tensors::{Tensors, shares};
use super::walk::Walk;
use super::{DevicePtr, Float, Stream};

static SUM: Source = source!("sm90_float_sum.cu");
static MAX: Source = source!("sm90_float_max.cu");
static NORM: Source = source!("sm90_f32_norm.cu");
static TOTALS: Source = source!("sm90_f64_totals.cu");

/// Blocks that keep a GPU busy; sums of few outputs are divided among about as many.
const BLOCKS: usize = 1024;

fn variant(source: &'static Source, entry: &'static str, dtype: Float) -> Variant {
    Variant::new(source, entry).with("FLOAT", dtype)
}

/// Extents and strides of some dimensions, outermost first.
#[derive(Clone, Copy, Debug)]
pub struct Dims<'a> {
    /// Elements along each.
    pub extents: &'a [usize],
    /// Elements between neighbours along each.
    pub strides: &'a [usize],
}

/// Sums over the dimensions `reduced` of a view that begins at `x`: one output per element of the dimensions
/// `kept`, in row-major order. Terms are added in f64.
///
/// # Errors
/// The kernel cannot be compiled or launched, or there are more dimensions than it walks.
///
/// # Safety
/// All elements of the view, and as many of `out` as there are outputs, lie in memory that the stream may use.
pub unsafe fn sum(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    kept: Dims<'_>,
    reduced: Dims<'_>,
    out: DevicePtr,
) -> Result<()> {
    let walk = |dims: Dims<'_>| Walk::new("sum", dims.extents, [dims.strides]);
    let (kept, reduced) = (walk(kept)?, walk(reduced)?);
    let (outputs, terms) = (kept.count() as usize, reduced.count() as usize);
    if outputs == 0 {
        return Ok(());
    }
    let side_by_side = |walk: &Walk<1>| walk.dims().next().is_some_and(|dim| dim.strides == [1]);
    let columns = side_by_side(&kept) && !side_by_side(&reduced);
    let (entry, mut grid, least) = if columns {
        let grid = Grid::line(outputs.div_ceil(32) as u32, 32);
        ("sum_columns", Grid { threads: [32, 8, 1], ..grid }, 64)
    } else {
        let grid = row_grid(outputs, terms.min(256), 1);
        ("sum_rows", grid, 8 * grid.threads[0] as usize)
    };
    let most = BLOCKS.div_ceil(grid.blocks[0] as usize).min(terms.div_ceil(least)).max(1);
    let share = terms.div_ceil(most).max(1);
    let shares = terms.div_ceil(share).max(1);
    grid.blocks[1] = shares as u32;
    let mut partial = DevicePtr::NULL;
    if shares > 1 {
        partial = stream.scratch((shares * outputs * size_of::<f64>()) as u64)?;
    }
    let (count, terms, share) = (outputs as u64, terms as u64, share as u64);
    let kernel = stream.context().kernel(&variant(&SUM, entry, dtype))?;
    // SAFETY: as the caller promises; `partial` has a number per share and output.
    unsafe {
        let args: &super::launch::Args<'_> =
            &[&x, &kept, &reduced, &count, &terms, &share, &out, &partial];
        kernel.launch(stream, grid, args)?;
    }
    if shares == 1 {
        return Ok(());
    }
    let kernel = stream.context().kernel(&variant(&SUM, "sum_shares", dtype))?;
    let grid = row_grid(outputs, shares.min(256), 1);
    // SAFETY: as above.
    unsafe { kernel.launch(stream, grid, &[&partial, &count, &(shares as u32), &out]) }
}

/// The maximum of each row of `x` [rows, width] to `values`, and where it is to `places` (u32). The first of
/// equal elements counts; NaN wins over all.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn max_rows(
    stream: &Stream,
    dtype: Float,
    x: DevicePtr,
    rows: usize,
    width: usize,
    values: DevicePtr,
    places: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&MAX, "max_rows", dtype))?;
    let grid = row_grid(rows, width, PACK_BYTES / dtype.size());
    let (rows, width) = (rows as u64, width as u32);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&x, &rows, &width, &values, &places]) }
}

/// The gradient of the input of [`max_rows`]: that of a row's maximum where it is, and 0 elsewhere.
///
/// # Errors
/// As [`max_rows`].
///
/// # Safety
/// As [`max_rows`].
pub unsafe fn max_rows_backward(
    stream: &Stream,
    dtype: Float,
    dy: DevicePtr,
    places: DevicePtr,
    rows: usize,
    width: usize,
    dx: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant(&MAX, "max_rows_backward", dtype))?;
    let grid = row_grid(rows, width, PACK_BYTES / dtype.size());
    let (rows, width) = (rows as u64, width as u32);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&dy, &places, &rows, &width, &dx]) }
}

/// The sum of squares of all `tensors` (f32; addresses and lengths), added to or written to `total` (f64).
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn sum_squares(
    stream: &Stream,
    tensors: &[(DevicePtr, usize)],
    total: DevicePtr,
    accumulate: bool,
) -> Result<()> {
    const MOST: usize = 128;
    let blocks = tensors.iter().map(|&(_, len)| shares(len)).sum::<u64>();
    let partial = stream.scratch(blocks * size_of::<f64>() as u64)?;
    let kernel = stream.context().kernel(&Variant::new(&NORM, "sum_squares"))?;
    let mut done = 0;
    for group in tensors.chunks(MOST) {
        let list = Tensors::<DevicePtr, MOST>::new(group.iter().copied());
        let to = partial.offset(done * size_of::<f64>() as u64);
        let grid = Grid::line(list.blocks(), 256);
        // SAFETY: as the caller promises; `partial` has a number per block.
        unsafe { kernel.launch(stream, grid, &[&list, &to])? };
        done += u64::from(list.blocks());
    }
    // SAFETY: as above.
    unsafe { add_up(stream, partial, blocks, accumulate, total) }
}

/// The sum of `count` numbers (f64) written to `total`, or added to it.
///
/// # Safety
/// As [`sum_squares`].
unsafe fn add_up(
    stream: &Stream,
    numbers: DevicePtr,
    count: u64,
    accumulate: bool,
    total: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&Variant::new(&TOTALS, "add_up"))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, Grid::line(1, 512), &[&numbers, &count, &accumulate, &total]) }
}

/// The sum of `rows` losses (f32) times `scale`, to `total` (f32).
///
/// # Errors
/// As [`sum_squares`].
///
/// # Safety
/// As [`sum_squares`].
pub unsafe fn sum_losses(
    stream: &Stream,
    losses: DevicePtr,
    rows: usize,
    scale: f32,
    total: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&Variant::new(&TOTALS, "sum_losses"))?;
    let grid = Grid::line(1, 512);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&losses, &(rows as u64), &scale, &total]) }
}

/// What gradients whose squares sum up to `squares` (f64) are multiplied by, beside `scale`, so that their norm
/// is at most `most` (0: no limit): to `factor` (f32).
///
/// # Errors
/// As [`sum_squares`].
///
/// # Safety
/// As [`sum_squares`].
pub unsafe fn clip_factor(
    stream: &Stream,
    squares: DevicePtr,
    scale: f64,
    most: f64,
    factor: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&Variant::new(&NORM, "clip_factor"))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, Grid::line(1, 32), &[&squares, &scale, &most, &factor]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let each = |dtype| {
        let sums = ["sum_rows", "sum_columns", "sum_shares"].map(|e| variant(&SUM, e, dtype));
        let maxima = ["max_rows", "max_rows_backward"].map(|entry| variant(&MAX, entry, dtype));
        sums.into_iter().chain(maxima)
    };
    let norms = ["sum_squares", "clip_factor"].map(|entry| Variant::new(&NORM, entry));
    let totals = ["add_up", "sum_losses"].map(|entry| Variant::new(&TOTALS, entry));
    Float::ALL.into_iter().flat_map(each).chain(norms).chain(totals).collect()
}
