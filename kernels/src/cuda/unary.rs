//! Functions of one element and their backward.

use super::compile::{Define, Source, Variant, source};
use super::error::Result;
use super::grid::packs;
use super::{DevicePtr, Float, Stream};
pub use crate::cpu::unary::Unary;

static SOURCE: Source = source!("sm90_float_unary.cu");

fn variant(entry: &'static str, dtype: Float, f: Unary) -> Variant {
    let name = match f {
        Unary::Exp => "Exp",
        Unary::Log => "Log",
        Unary::Sqrt => "Sqrt",
        Unary::Rsqrt => "Rsqrt",
        Unary::Tanh => "Tanh",
        Unary::Sigmoid => "Sigmoid",
        Unary::Silu => "Silu",
        Unary::Gelu => "Gelu",
        Unary::Relu => "Relu",
    };
    Variant::new(&SOURCE, entry).with("FLOAT", dtype).with("FUNCTION", Define::Name(name))
}

/// `y = f(x)` of `len` elements.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of `len` elements, in memory that the stream may use.
pub unsafe fn forward(
    stream: &Stream,
    dtype: Float,
    f: Unary,
    x: DevicePtr,
    len: usize,
    y: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("unary", dtype, f))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, packs(len, dtype.size()), &[&x, &(len as u64), &y]) }
}

/// `dx = dy f'(x)` of `len` elements.
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
pub unsafe fn backward(
    stream: &Stream,
    dtype: Float,
    f: Unary,
    x: DevicePtr,
    dy: DevicePtr,
    len: usize,
    dx: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("unary_backward", dtype, f))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, packs(len, dtype.size()), &[&x, &dy, &(len as u64), &dx]) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let each = |f| {
        Float::ALL.into_iter().flat_map(move |dtype| {
            ["unary", "unary_backward"].map(|entry| variant(entry, dtype, f))
        })
    };
    Unary::ALL.into_iter().flat_map(each).collect()
}
