//! Copies between strided views.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, line};
use super::launch::Grid;
use super::walk::{Dim, Walk};
use super::{DevicePtr, Stream};

static SOURCE: Source = source!("sm90_any_copy.cu");

/// Side of the tiles through which matrices are transposed.
const TILE: usize = 32;

fn variant(entry: &'static str, unit: usize) -> Variant {
    Variant::new(&SOURCE, entry).with("UNIT", unit)
}

/// A view to be copied from or to.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its first element.
    pub at: DevicePtr,
    /// The distance of neighbours along each dimension, in elements.
    pub strides: &'a [usize],
}

/// Copies elements of `size` bytes (1, 2, 4 or 8) from one view of shape `extents` to another.
///
/// # Errors
/// The kernel cannot be compiled or launched, or there are more dimensions than it walks.
///
/// # Safety
/// Both views' elements are aligned, lie in memory that the stream may use, and do not overlap.
pub unsafe fn copy(
    stream: &Stream,
    size: usize,
    extents: &[usize],
    from: View<'_>,
    to: View<'_>,
) -> Result<()> {
    let walk = Walk::new("copy", extents, [from.strides, to.strides])?;
    if walk.count() == 0 {
        return Ok(());
    }
    if let Some(turned) = Turned::find(&walk) {
        // SAFETY: as the caller promises.
        return unsafe { turned.launch(stream, size, from.at, to.at) };
    }
    // As wide units as both views are made of.
    let units = [PACK_BYTES, 8, 4, 2].into_iter().filter(|unit| unit / size > 1);
    let whole = |unit: &usize| (from.at.0 | to.at.0).is_multiple_of(*unit as u64);
    let wide = units.filter(whole).find_map(|unit| {
        let dims: Vec<_> = walk.dims().collect();
        let wider = wider(&dims, unit / size)?;
        Some((unit, Walk::of("copy", &wider)))
    });
    let (unit, walk) = match wide {
        Some((unit, walk)) => (unit, walk?),
        None => (size, walk),
    };
    let kernel = stream.context().kernel(&variant("copy", unit))?;
    let (grid, count) = (line(walk.count(), 256), walk.count());
    // SAFETY: as the caller promises; the walk reaches the views' elements and no others.
    unsafe { kernel.launch(stream, grid, &[&from.at, &to.at, &walk, &count]) }
}

/// The same views in units of `factor` elements, if both are made of such.
fn wider(dims: &[Dim<2>], factor: usize) -> Option<Vec<Dim<2>>> {
    let (inner, outer) = dims.split_first()?;
    let whole = |stride: &usize| stride.is_multiple_of(factor);
    let fits = inner.strides == [1, 1]
        && inner.extent.is_multiple_of(factor)
        && outer.iter().all(|dim| dim.strides.iter().all(whole));
    fits.then(|| {
        let first = Dim { extent: inner.extent / factor, strides: [1, 1] };
        let rest = outer
            .iter()
            .map(|dim| Dim { strides: dim.strides.map(|stride| stride / factor), ..*dim });
        std::iter::once(first).chain(rest).collect()
    })
}

/// Matrices whose columns lie densely in the source, and whose rows do in the destination.
struct Turned {
    rows: Dim<2>,
    columns: Dim<2>,
    batch: Walk<2>,
}

impl Turned {
    fn find(walk: &Walk<2>) -> Option<Self> {
        let mut rest: Vec<_> = walk.dims().collect();
        let columns = *rest.first()?;
        let axis = rest.iter().position(|dim| dim.strides[0] == 1)?;
        // A few columns or rows are copied as fast one by one.
        let worth = axis > 0
            && columns.strides[1] == 1
            && columns.strides[0] > 1
            && columns.extent.min(rest[axis].extent) >= TILE / 4;
        if !worth {
            return None;
        }
        let rows = rest.remove(axis);
        rest.remove(0);
        Some(Self { rows, columns, batch: Walk::of("transpose", &rest).ok()? })
    }

    /// # Safety
    /// As [`copy`].
    unsafe fn launch(
        &self,
        stream: &Stream,
        size: usize,
        from: DevicePtr,
        to: DevicePtr,
    ) -> Result<()> {
        let blocks = |extent: usize| extent.div_ceil(TILE).min(65_535) as u32;
        let grid = Grid {
            blocks: [
                self.columns.extent.div_ceil(TILE) as u32,
                blocks(self.rows.extent),
                self.batch.count().min(65_535) as u32,
            ],
            threads: [TILE as u32, 8, 1],
            shared: 0,
        };
        let (rows, columns) = (self.rows.extent as u32, self.columns.extent as u32);
        let (from_stride, to_stride) =
            (self.columns.strides[0] as u64, self.rows.strides[1] as u64);
        let batch = self.batch.count() as u32;
        let kernel = stream.context().kernel(&variant("transpose", size))?;
        // SAFETY: as the caller promises; tiles cover the views' elements and no others.
        unsafe {
            kernel.launch(
                stream,
                grid,
                &[&from, &to, &rows, &columns, &from_stride, &to_stride, &self.batch, &batch],
            )
        }
    }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let sizes = [1, 2, 4, 8];
    let copies = sizes.into_iter().chain([PACK_BYTES]).map(|unit| variant("copy", unit));
    copies.chain(sizes.map(|size| variant("transpose", size))).collect()
}
