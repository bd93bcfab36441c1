//! Arithmetic on strided views.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, line};
use super::walk::Walk;
use super::{DevicePtr, Float, Stream, strided::View};

static BINARY: Source = source!("sm90_float_elementwise.cu");
static AFFINE: Source = source!("sm90_float_affine.cu");
static ACCUMULATE: Source = source!("sm90_float_accumulate.cu");

/// An operation on two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// a + b
    Add,
    /// a - b
    Subtract,
    /// a b
    Multiply,
    /// a / b
    Divide,
}

impl Operation {
    /// All.
    pub const ALL: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide];

    fn cuda_name(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Subtract => "Subtract",
            Self::Multiply => "Multiply",
            Self::Divide => "Divide",
        }
    }
}

fn binary_variant(dtype: Float, operation: Operation) -> Variant {
    Variant::new(&BINARY, "binary")
        .with("FLOAT", dtype)
        .with("OPERATION", super::compile::Define::Name(operation.cuda_name()))
}

fn affine_variant(dtype: Float) -> Variant {
    Variant::new(&AFFINE, "affine").with("FLOAT", dtype)
}

fn accumulate_variant(dtype: Float, sum: Float) -> Variant {
    Variant::new(&ACCUMULATE, "accumulate").with("FLOAT", dtype).with("SUM", sum)
}

/// A walk in packs if all of it and all of `pointers` allow them, else element by element.
struct Packs<const N: usize> {
    walk: Walk<N>,
    packed: bool,
    same: [bool; N],
}

impl<const N: usize> Packs<N> {
    /// `views` are the pointers of the walked views, `dense` those of others, walked in whole packs.
    fn new(walk: Walk<N>, dtype: Float, views: [DevicePtr; N], dense: DevicePtr) -> Self {
        let aligned = |pointer: DevicePtr| pointer.0.is_multiple_of(PACK_BYTES as u64);
        if let Some((walk, same)) = walk.packed(PACK_BYTES / dtype.size())
            && aligned(dense)
            && views.iter().zip(same).all(|(&view, same)| same || aligned(view))
        {
            return Self { walk, packed: true, same };
        }
        Self { walk, packed: false, same: [false; N] }
    }
}

/// `c = a (op) b` on views of shape `extents`; `c` is dense.
///
/// # Errors
/// The kernel cannot be compiled or launched, or there are more dimensions than it walks.
///
/// # Safety
/// Every view's elements are aligned and lie in memory that the stream may use. `c` may be a dense operand,
/// and overlaps them in no other way.
pub unsafe fn binary(
    stream: &Stream,
    dtype: Float,
    operation: Operation,
    extents: &[usize],
    a: View<'_>,
    b: View<'_>,
    c: DevicePtr,
) -> Result<()> {
    let walk = Walk::new("binary", extents, [a.strides, b.strides])?;
    let Packs { walk, packed, same: [same_a, same_b] } = Packs::new(walk, dtype, [a.at, b.at], c);
    let count = walk.count();
    let kernel = stream.context().kernel(&binary_variant(dtype, operation))?;
    // SAFETY: as the caller promises; the walk reaches the views' elements and no others.
    unsafe {
        kernel.launch(
            stream,
            line(count, 256),
            &[&a.at, &b.at, &c, &walk, &count, &packed, &same_a, &same_b],
        )
    }
}

/// `y = x * factor + term`, rounded once; `y` is dense.
///
/// # Errors
/// As [`binary`].
///
/// # Safety
/// As [`binary`].
pub unsafe fn affine(
    stream: &Stream,
    dtype: Float,
    extents: &[usize],
    x: View<'_>,
    factor: f32,
    term: f32,
    y: DevicePtr,
) -> Result<()> {
    let walk = Walk::new("affine", extents, [x.strides])?;
    let Packs { walk, packed, same: [same] } = Packs::new(walk, dtype, [x.at], y);
    let count = walk.count();
    let kernel = stream.context().kernel(&affine_variant(dtype))?;
    // SAFETY: as the caller promises; the walk reaches the view's elements and no others.
    unsafe {
        kernel.launch(
            stream,
            line(count, 256),
            &[&x.at, &factor, &term, &y, &walk, &count, &packed, &same],
        )
    }
}

/// `sum += x`; `sum` is dense, and of the dtype of `x` or f32.
///
/// # Errors
/// As [`binary`].
///
/// # Safety
/// As [`binary`].
pub unsafe fn accumulate(
    stream: &Stream,
    dtype: Float,
    extents: &[usize],
    x: View<'_>,
    sum_dtype: Float,
    sum: DevicePtr,
) -> Result<()> {
    let walk = Walk::new("accumulate", extents, [x.strides])?;
    let Packs { walk, packed, same: [same] } = Packs::new(walk, dtype, [x.at], sum);
    let count = walk.count();
    let kernel = stream.context().kernel(&accumulate_variant(dtype, sum_dtype))?;
    // SAFETY: as the caller promises; the walk reaches the view's elements and no others.
    unsafe {
        kernel.launch(stream, line(count, 256), &[&x.at, &sum, &walk, &count, &packed, &same])
    }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Float::ALL
        .into_iter()
        .flat_map(|dtype| {
            let binary = Operation::ALL.map(|operation| binary_variant(dtype, operation));
            let sums = [accumulate_variant(dtype, Float::F32), accumulate_variant(dtype, dtype)];
            let sums = if dtype == Float::F32 { &sums[..1] } else { &sums[..] }.to_vec();
            binary.into_iter().chain([affine_variant(dtype)]).chain(sums)
        })
        .collect()
}
