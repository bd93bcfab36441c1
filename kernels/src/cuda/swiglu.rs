//! SwiGLU and its backward.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::packs;
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_swiglu.cu");

fn variant(entry: &'static str, dtype: Float) -> Variant {
    Variant::new(&SOURCE, entry).with("FLOAT", dtype)
}

/// `out = silu(gate) * up` of `len` elements.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of `len` elements, in memory that the stream may use.
pub unsafe fn forward(
    stream: &Stream,
    dtype: Float,
    gate: DevicePtr,
    up: DevicePtr,
    len: usize,
    out: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("swiglu", dtype))?;
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, packs(len, dtype.size()), &[&gate, &up, &(len as u64), &out]) }
}

/// The gradients of gate and up, from that of the output.
///
/// # Errors
/// As [`forward`].
///
/// # Safety
/// As [`forward`].
#[expect(clippy::too_many_arguments, reason = "a backward takes what forward took and gave")]
pub unsafe fn backward(
    stream: &Stream,
    dtype: Float,
    gate: DevicePtr,
    up: DevicePtr,
    dout: DevicePtr,
    len: usize,
    dgate: DevicePtr,
    dup: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("swiglu_backward", dtype))?;
    let args: &super::launch::Args<'_> = &[&gate, &up, &dout, &(len as u64), &dgate, &dup];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, packs(len, dtype.size()), args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    Float::ALL
        .into_iter()
        .flat_map(|dtype| ["swiglu", "swiglu_backward"].map(|entry| variant(entry, dtype)))
        .collect()
}
