//! Cross-entropy, on given logits and fused with the output layer.
//!
//! The loss of a row is log(sum(exp(z))) - z`[label]`, in nats; label -100 counts for nothing. Its
//! gradient is softmax(z) - onehot(label). On a GPU, where nobody waits to look at labels, one outside the
//! vocabulary gives a loss of NaN instead of an error.
//!
//! [`head_loss_grad`] computes logits Z = X W^T a block of rows at a time and at once turns each
//! block into its loss, its share of dX = G W and of dW += G^T X. So no more than one block of f32
//! logits ever exists, and nothing is left to recompute in backward: dX is all that is saved.

use slimpipe_kernels::cpu::loss as kernel;
use slimpipe_kernels::cuda::{Float, loss as gpu_kernel, reduce};
use slimpipe_runtime::{DType, Device, RawTensor, Result, team};

use crate::copy::copy;
use crate::dispatch::{mismatch, same_float};
use crate::gpu::{Gpu, Place};
use crate::matmul::matmul_into;

/// Labels with this value are ignored (the PyTorch and Hugging Face convention).
pub const IGNORE: i64 = kernel::IGNORE;

/// The most bytes of f32 logits a block holds, unless that would be fewer than [`MIN_ROWS`] rows.
const BLOCK_BYTES: usize = 8 << 20;

/// Each block reads the whole weight twice and its gradient once: fewer rows do not pay for that
/// (16 take four times as long). Such a block is still small beside the weight's gradient.
const MIN_ROWS: usize = 256;

/// Rows of a block of logits over `vocab` tokens: equal blocks of the `rows`, as few as the limits
/// allow.
pub fn block_rows(rows: usize, vocab: usize) -> usize {
    let most = (BLOCK_BYTES / (4 * vocab.max(1))).max(MIN_ROWS);
    rows.div_ceil(rows.div_ceil(most).max(1))
}

/// Refuses `labels` unless they are those of `rows` rows, each in a vocabulary of `vocab` tokens or ignored.
pub(crate) fn check(op: &'static str, rows: usize, vocab: usize, labels: &RawTensor) -> Result<()> {
    if labels.dims() != [rows] || labels.dtype() != DType::I64 {
        let (shape, dtype) = (labels.shape(), labels.dtype());
        let what = format!("{rows} rows need {rows} labels of dtype i64, got {shape} of {dtype}");
        return Err(mismatch(op, what));
    }
    // On a GPU, where nobody waits to look at labels, one outside the vocabulary gives a loss of NaN.
    if labels.device() == Device::Cpu { check_labels(op, labels.slice(op)?, vocab) } else { Ok(()) }
}

/// Refuses labels outside a vocabulary of `vocab` tokens.
fn check_labels(op: &'static str, labels: &[i64], vocab: usize) -> Result<()> {
    let valid = |label: i64| label == IGNORE || (0..vocab as i64).contains(&label);
    match labels.iter().find(|&&label| !valid(label)) {
        Some(label) => Err(mismatch(op, format!("label {label} in a vocabulary of {vocab}"))),
        None => Ok(()),
    }
}

/// The loss of output layer `weight` [vocab, width] on `x` [rows, width] against `labels` (i64,
/// `[rows]`): the sum of the rows' losses times `scale`, an f32 scalar.
///
/// # Errors
/// Shapes or dtypes that do not fit, a label outside the vocabulary, out of memory.
#[track_caller]
pub fn head_loss(
    x: &RawTensor,
    weight: &RawTensor,
    labels: &RawTensor,
    scale: f32,
) -> Result<RawTensor> {
    head(x, weight, labels, scale, None, None)
}

/// As [`head_loss`], with the gradient of `x` beside the loss. That of `weight` is added to (or, if
/// the flag says so, overwrites) the unshared f32 tensor `dweight`.
///
/// # Errors
/// As [`head_loss`]; no error leaves `dweight` half changed.
#[track_caller]
pub fn head_loss_grad(
    x: &RawTensor,
    weight: &RawTensor,
    labels: &RawTensor,
    scale: f32,
    dweight: Option<(&mut RawTensor, bool)>,
) -> Result<(RawTensor, RawTensor)> {
    let device = x.device().join(weight.device());
    let mut dx = RawTensor::empty(*x.shape(), x.dtype(), device, "head_loss")?;
    let loss = head(x, weight, labels, scale, Some(&mut dx), dweight)?;
    Ok((loss, dx))
}

#[track_caller]
fn head(
    x: &RawTensor,
    weight: &RawTensor,
    labels: &RawTensor,
    scale: f32,
    mut dx: Option<&mut RawTensor>,
    mut dweight: Option<(&mut RawTensor, bool)>,
) -> Result<RawTensor> {
    const OP: &str = "head_loss";
    let dtype = same_float(OP, x, weight)?;
    let (&[rows, width], &[vocab, weight_width]) = (x.dims(), weight.dims()) else {
        let (x, weight) = (x.shape(), weight.shape());
        let what = format!("x {x} and weight {weight}, expected [rows, width] and [vocab, width]");
        return Err(mismatch(OP, what));
    };
    if width != weight_width {
        let what = format!("rows of {width} under a weight {}", weight.shape());
        return Err(mismatch(OP, what));
    }
    check(OP, rows, vocab, labels)?;
    // Everything is allocated and checked before the first gradient is written.
    let device = x.device().join(weight.device());
    let mut loss = RawTensor::empty((), DType::F32, device, OP)?;
    let mut losses = RawTensor::empty(rows, DType::F32, device, OP)?;
    let block = block_rows(rows, vocab);
    let mut logits = RawTensor::empty((block, vocab), DType::F32, device, OP)?;
    let mut low = None;
    if dx.is_some() && dtype != DType::F32 {
        low = Some(RawTensor::empty((block, vocab), dtype, device, OP)?);
    }
    if loss.is_meta() {
        return Ok(loss);
    }
    let place = Place::of(OP, device)?;
    if let Some((dweight, true)) = &mut dweight
        && rows == 0
    {
        dweight.fill_zero()?;
    }
    let transposed = weight.transpose(0, 1)?;
    for start in (0..rows).step_by(block.max(1)) {
        let len = block.min(rows - start);
        let (x, labels) = (x.narrow(0, start, len)?, labels.narrow(0, start, len)?);
        shorten(&mut logits, len)?;
        if let Some(low) = &mut low {
            shorten(low, len)?;
        }
        matmul_into(&x, &transposed, &mut logits, true)?;
        let gradient = dx.is_some().then_some(Gradient { scale, low: low.as_mut() });
        losses.with_rows(start, len, |losses| {
            block_losses(&place, &mut logits, &labels, losses, gradient)
        })?;
        if let Some(dx) = &mut dx {
            let gradient = low.as_ref().unwrap_or(&logits);
            dx.with_rows(start, len, |dx| matmul_into(gradient, weight, dx, true))?;
            if let Some((dweight, overwrite)) = &mut dweight {
                let overwrite = *overwrite && start == 0;
                matmul_into(&gradient.transpose(0, 1)?, &x, dweight, overwrite)?;
            }
        }
    }
    add_up(&losses, scale, &mut loss)?;
    Ok(loss)
}

/// The gradient of a block of logits, which replaces them, or goes to `low`, rounded.
struct Gradient<'a> {
    scale: f32,
    low: Option<&'a mut RawTensor>,
}

/// The losses of a block of logits and, if asked for, their gradient.
fn block_losses(
    place: &Place,
    logits: &mut RawTensor,
    labels: &RawTensor,
    losses: &mut RawTensor,
    gradient: Option<Gradient<'_>>,
) -> Result<()> {
    const OP: &str = "head_loss";
    if let Place::Gpu(gpu) = place {
        return block_losses_on_gpu(gpu, logits, labels, losses, gradient);
    }
    let (team, labels) = (team::current(), labels.slice(OP)?);
    let (z, losses) = (logits.slice_mut(OP)?, losses.slice_mut(OP)?);
    match gradient {
        None => kernel::cross_entropy_loss_block(&team, z, labels, losses),
        Some(Gradient { scale, low: None }) => {
            kernel::cross_entropy_block(&team, z, labels, scale, losses);
        }
        Some(Gradient { scale, low: Some(low) }) => {
            let rounded = low.slice_mut(OP)?;
            kernel::cross_entropy_block_bf16(&team, z, labels, scale, losses, rounded);
        }
    }
    Ok(())
}

fn block_losses_on_gpu(
    gpu: &Gpu,
    logits: &mut RawTensor,
    labels: &RawTensor,
    losses: &mut RawTensor,
    gradient: Option<Gradient<'_>>,
) -> Result<()> {
    let (stream, rows, vocab) = (gpu.stream(), logits.dims()[0], logits.dims()[1]);
    let (z, labels, losses) = (gpu.write(logits)?, gpu.read(labels)?, gpu.write(losses)?);
    let Some(Gradient { scale, low }) = gradient else {
        // SAFETY: tensors of that many elements on the GPU.
        unsafe {
            gpu_kernel::cross_entropy_loss_block(stream, z, labels, rows, vocab, losses)?;
        }
        return Ok(());
    };
    let to = match low {
        None => (Float::F32, z),
        Some(low) => (gpu.float(low.dtype())?, gpu.write(low)?),
    };
    // SAFETY: as above.
    unsafe {
        gpu_kernel::cross_entropy_block(stream, z, labels, scale, rows, vocab, losses, to)?;
    }
    Ok(())
}

/// Writes the sum of `losses` (f32) times `scale` to the unshared f32 scalar `loss`.
///
/// # Errors
/// Other dtypes, or `loss` is shared or no scalar.
pub fn add_up(losses: &RawTensor, scale: f32, loss: &mut RawTensor) -> Result<()> {
    const OP: &str = "head_loss";
    if loss.elem_count() != 1 || [&*loss, losses].iter().any(|x| x.dtype() != DType::F32) {
        let what = format!("{} losses add up to {} {}", losses.dtype(), loss.shape(), loss.dtype());
        return Err(mismatch(OP, what));
    }
    match Place::of(OP, losses.device().join(loss.device()))? {
        Place::Meta => {}
        Place::Cpu => {
            let total: f64 = losses.slice::<f32>(OP)?.iter().map(|&loss| f64::from(loss)).sum();
            loss.slice_mut::<f32>(OP)?[0] = (total * f64::from(scale)) as f32;
        }
        Place::Gpu(gpu) => {
            let (from, to) = (gpu.read(losses)?, gpu.write(loss)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { reduce::sum_losses(gpu.stream(), from, losses.elem_count(), scale, to)? };
        }
    }
    Ok(())
}

/// Uses only the first `rows` rows of a scratch matrix.
pub(crate) fn shorten(scratch: &mut RawTensor, rows: usize) -> Result<()> {
    if scratch.dims()[0] != rows {
        *scratch = scratch.narrow(0, 0, rows)?;
    }
    Ok(())
}

/// The sum of the losses of `logits` (f32, `[rows, vocab]`) against `labels` (i64, `[rows]`) times
/// `scale`, an f32 scalar, and the gradient of `logits`.
///
/// # Errors
/// Shapes or dtypes that do not fit, a label outside the vocabulary, out of memory.
#[track_caller]
pub fn cross_entropy(
    logits: &RawTensor,
    labels: &RawTensor,
    scale: f32,
) -> Result<(RawTensor, RawTensor)> {
    const OP: &str = "cross_entropy";
    let &[rows, vocab] = logits.dims() else {
        let what = format!("logits of shape {}, expected [rows, vocab]", logits.shape());
        return Err(mismatch(OP, what));
    };
    if logits.dtype() != DType::F32 {
        let got = logits.dtype();
        return Err(slimpipe_runtime::Error::WrongDType { op: OP, expected: "f32", got });
    }
    check(OP, rows, vocab, labels)?;
    let mut gradient = copy(logits)?;
    let device = logits.device().join(labels.device());
    let mut loss = RawTensor::empty((), DType::F32, device, OP)?;
    let mut losses = RawTensor::empty(rows, DType::F32, device, OP)?;
    if loss.is_meta() {
        return Ok((loss, gradient));
    }
    let place = Place::of(OP, device)?;
    if rows > 0 {
        let own = Some(Gradient { scale, low: None });
        block_losses(&place, &mut gradient, labels, &mut losses, own)?;
    }
    add_up(&losses, scale, &mut loss)?;
    Ok((loss, gradient))
}
