//! Cross-entropy on blocks of logits.

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, rows as row_grid};
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_cross_entropy.cu");

fn variant(entry: &'static str, dtype: Float) -> Variant {
    Variant::new(&SOURCE, entry).with("FLOAT", dtype)
}

/// The loss of each row of `logits` (f32, [rows, vocab]) to `losses` (f32): 0 where the label (i64) is
/// [`IGNORE`](crate::cpu::loss::IGNORE), NaN where it lies outside the vocabulary.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn cross_entropy_loss_block(
    stream: &Stream,
    logits: DevicePtr,
    labels: DevicePtr,
    rows: usize,
    vocab: usize,
    losses: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("cross_entropy_loss", Float::F32))?;
    let grid = row_grid(rows, vocab, 4);
    let (rows, vocab) = (rows as u64, vocab as u32);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&logits, &labels, &rows, &vocab, &losses]) }
}

/// As [`cross_entropy_loss_block`], and the gradient, (softmax - onehot) * scale (0 where ignored), to `gradient`
/// of dtype `dtype`, which may be the logits themselves.
///
/// # Errors
/// As [`cross_entropy_loss_block`].
///
/// # Safety
/// As [`cross_entropy_loss_block`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn cross_entropy_block(
    stream: &Stream,
    logits: DevicePtr,
    labels: DevicePtr,
    scale: f32,
    rows: usize,
    vocab: usize,
    losses: DevicePtr,
    (dtype, gradient): (Float, DevicePtr),
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("cross_entropy", dtype))?;
    let grid = row_grid(rows, vocab, PACK_BYTES / dtype.size());
    let (rows, vocab) = (rows as u64, vocab as u32);
    let args: &super::launch::Args<'_> =
        &[&logits, &labels, &scale, &rows, &vocab, &losses, &gradient];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let loss = variant("cross_entropy_loss", Float::F32);
    Float::ALL.into_iter().map(|dtype| variant("cross_entropy", dtype)).chain([loss]).collect()
}
