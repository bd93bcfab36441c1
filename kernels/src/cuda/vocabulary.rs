//! Cross-entropy on logits of a part of the vocabulary; see [`crate::cpu::vocabulary`].

use super::compile::{Source, Variant, source};
use super::error::Result;
use super::grid::{PACK_BYTES, line, rows as row_grid};
use super::{DevicePtr, Float, Stream};

static SOURCE: Source = source!("sm90_float_vocabulary.cu");

fn variant(entry: &'static str, dtype: Float) -> Variant {
    Variant::new(&SOURCE, entry).with("FLOAT", dtype)
}

/// What each row of `logits` (f32, [rows, width]), the part from token `first` on, comes to: `sums` (f32,
/// [rows, [`SUMS`](crate::cpu::vocabulary::SUMS)]); zeros where the label (i64) is ignored.
///
/// # Errors
/// The kernel cannot be compiled or launched.
///
/// # Safety
/// All addresses are those of that many elements, in memory that the stream may use.
pub unsafe fn sums(
    stream: &Stream,
    logits: DevicePtr,
    labels: DevicePtr,
    first: usize,
    rows: usize,
    width: usize,
    sums: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("vocabulary_sums", Float::F32))?;
    let grid = row_grid(rows, width, 4);
    let (first, rows, width) = (first as i64, rows as u64, width as u32);
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, &[&logits, &labels, &first, &rows, &width, &sums]) }
}

/// What the sums of all parts, [parts, rows, 3], come to, row by row: `totals` (f32, [rows,
/// [`TOTALS`](crate::cpu::vocabulary::TOTALS)]), and the rows' `losses` (f32, nats). A label outside the whole
/// vocabulary, of `vocab` tokens, gives NaN.
///
/// # Errors
/// As [`sums`].
///
/// # Safety
/// As [`sums`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn combine(
    stream: &Stream,
    sums: DevicePtr,
    parts: usize,
    labels: DevicePtr,
    vocab: usize,
    rows: usize,
    totals: DevicePtr,
    losses: DevicePtr,
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("vocabulary_combine", Float::F32))?;
    let (parts, vocab, rows) = (parts as u32, vocab as i64, rows as u64);
    let args: &super::launch::Args<'_> = &[&sums, &parts, &labels, &vocab, &rows, &totals, &losses];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, line(rows, 256), args) }
}

/// The gradient of `logits` [rows, width], (softmax - onehot) * scale (0 where ignored), given the `totals` of all
/// parts: to `gradient` of dtype `dtype`, which may be the logits themselves.
///
/// # Errors
/// As [`sums`].
///
/// # Safety
/// As [`sums`].
#[expect(clippy::too_many_arguments, reason = "a kernel takes what it reads and writes")]
pub unsafe fn gradient(
    stream: &Stream,
    logits: DevicePtr,
    labels: DevicePtr,
    first: usize,
    totals: DevicePtr,
    scale: f32,
    rows: usize,
    width: usize,
    (dtype, gradient): (Float, DevicePtr),
) -> Result<()> {
    let kernel = stream.context().kernel(&variant("vocabulary_gradient", dtype))?;
    let grid = row_grid(rows, width, PACK_BYTES / dtype.size());
    let (first, rows, width) = (first as i64, rows as u64, width as u32);
    let args: &super::launch::Args<'_> =
        &[&logits, &labels, &first, &totals, &scale, &rows, &width, &gradient];
    // SAFETY: as the caller promises.
    unsafe { kernel.launch(stream, grid, args) }
}

/// All variants.
pub(super) fn variants() -> Vec<Variant> {
    let once = ["vocabulary_sums", "vocabulary_combine"].map(|entry| variant(entry, Float::F32));
    Float::ALL.into_iter().map(|dtype| variant("vocabulary_gradient", dtype)).chain(once).collect()
}
