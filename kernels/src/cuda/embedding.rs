//! Embedding lookup and its backward.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::launch::Grid;
use super::{DevicePtr, Float, Stream};

static GATHER: Source = source!("sm90_any_gather.cu");
static SCATTER_ADD: Source = source!("sm90_float_scatter_add.cu");

/// Most blocks along the second dimension of a grid.
const MOST: usize = 65_535;
/// Columns of a block of `scatter_add`.
const COLUMNS: usize = 1024;

fn gather_variant(unit: usize) -> Variant {
    Variant::new(&GATHER, "gather").with("UNIT", unit)
}

fn scatter_variant(dtype: Float) -> Variant {
    Variant::new(&SCATTER_ADD, "scatter_add").with("FLOAT", dtype)
}

/// Row `ids[i]` of `table` [vocab, width] to row i of `out`, for `rows` ids (u32). An id outside the table gives
/// a row of NaN.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn gather(
    stream: &Stream,
    dtype: Float,
    table: DevicePtr,
    vocab: usize,
    width: usize,
    ids: DevicePtr,
    rows: usize,
    out: DevicePtr,
) -> Result<()> {
    let bytes = width * dtype.size();
    let alignment = table.0 | out.0 | bytes as u64;
    let unit = [16, 8, 4, 2].into_iter().find(|&unit| alignment.is_multiple_of(unit as u64));
    let unit = unit.unwrap_or(dtype.size());
    let units = bytes / unit;
    if rows * units == 0 {
        return Ok(());
    }
    let along = units.next_multiple_of(32).min(256);
    let together = 256 / along;
    let grid = Grid {
        blocks: [units.div_ceil(along) as u32, rows.div_ceil(together).min(MOST) as u32, 1],
        threads: [along as u32, together as u32, 1],
        shared: 0,
    };
    let (vocab, units, rows) = (vocab as u32, units as u32, rows as u64);
    let kernel = stream.context().kernel(&gather_variant(unit))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&table, &vocab, &units, &ids, &rows, &out]) }
}

/// Adds row i of `dout` [rows, width] to row `ids[i]` of `dtable` (f32, [vocab, width]), in the order of i. An id
/// outside the table counts for nothing.
///
/// # Errors
/// As [`gather`].
///
/// # Safety
/// As [`gather`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn scatter_add(
    stream: &Stream,
    dtype: Float,
    dout: DevicePtr,
    ids: DevicePtr,
    rows: usize,
    width: usize,
    vocab: usize,
    dtable: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&scatter_variant(dtype))?;
    let grid = Grid {
        blocks: [rows as u32, width.div_ceil(COLUMNS) as u32, 1],
        threads: [256, 1, 1],
        shared: 0,
    };
    let (rows, width, vocab) = (rows as u32, width as u32, vocab as u32);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&dout, &ids, &rows, &width, &vocab, &dtable]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let gathers = [2, 4, 8, 16].map(gather_variant);
    gathers.into_iter().chain(Float::ALL.map(scatter_variant)).collect()
}
