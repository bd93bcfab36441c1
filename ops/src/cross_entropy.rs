//! Cross-entropy, on given logits and fused with the output layer.
//!
//! The loss of a row is log(sum(exp(z))) - z[label], in nats; label -100 counts for nothing. Its
//! gradient is softmax(z) - onehot(label).
//!
//! [`head`] computes logits Z = X W^T a block of rows at a time and at once turns each block into
//! its loss, its share of dX = G W and of dW += G^T X. So no more than one block of f32 logits ever
//! exists, and nothing is left to recompute in backward: dX is all that is saved.

use slimpipe_kernels::cpu::loss as kernel;
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::dispatch::{mismatch, same_dtype};
use crate::matmul::matmul_into;

/// Labels with this value are ignored (the PyTorch and Hugging Face convention).
pub const IGNORE: i64 = -100;

/// The most bytes of f32 logits a block holds.
const BLOCK_BYTES: usize = 8 << 20;

fn check(op: &'static str, rows: usize, vocab: usize, labels: &RawTensor) -> Result<()> {
    if labels.dims() != [rows] || labels.dtype() != DType::I64 {
        let what = format!(
            "{rows} rows need {rows} labels of dtype i64, got {} of {}",
            labels.shape(),
            labels.dtype()
        );
        return Err(mismatch(op, what));
    }
    if labels.is_meta() {
        return Ok(());
    }
    match labels.slice::<i64>(op)?.iter().find(|&&l| l != IGNORE && !(0..vocab as i64).contains(&l))
    {
        Some(label) => Err(mismatch(op, format!("label {label} in a vocabulary of {vocab}"))),
        None => Ok(()),
    }
}

/// What [`head`] gives back.
pub struct Head {
    /// The sum of the rows' losses times `scale`; an f32 scalar.
    pub loss: RawTensor,
    /// The gradient of `x`, if asked for.
    pub dx: Option<RawTensor>,
}

/// What [`head`] does with gradients.
pub enum HeadGrad<'a> {
    /// The loss alone.
    None,
    /// dX is returned; dW is added to (or, if the flag says so, overwrites) an f32 accumulator.
    Full(Option<(&'a mut RawTensor, bool)>),
}

/// Output layer and loss of `x` [rows, width] under `weight` [vocab, width] and `labels` [rows].
///
/// # Errors
/// Shapes or dtypes that do not fit, a label outside the vocabulary, out of memory.
#[track_caller]
pub fn head(
    x: &RawTensor,
    weight: &RawTensor,
    labels: &RawTensor,
    scale: f32,
    grad: HeadGrad<'_>,
) -> Result<Head> {
    const OP: &str = "head_loss";
    let (&[rows, width], &[vocab, weight_width]) = (x.dims(), weight.dims()) else {
        return Err(mismatch(OP, format!("x {} and weight {}", x.shape(), weight.shape())));
    };
    if width != weight_width {
        return Err(mismatch(OP, format!("x {} and weight {}", x.shape(), weight.shape())));
    }
    let dtype = same_dtype(OP, x, weight)?;
    check(OP, rows, vocab, labels)?;
    let device = x.device().join(weight.device());
    let mut loss = RawTensor::empty((), DType::F32, device, OP)?;
    let (mut dx, mut dw) = match grad {
        HeadGrad::None => (None, None),
        HeadGrad::Full(dw) => (Some(RawTensor::empty(*x.shape(), dtype, device, OP)?), dw),
    };
    let block = (BLOCK_BYTES / (4 * vocab)).clamp(16, rows.max(16)).min(rows);
    let mut logits = RawTensor::empty((block, vocab), DType::F32, device, OP)?;
    let low = (dtype != DType::F32 && dx.is_some())
        .then(|| RawTensor::empty((block, vocab), dtype, device, OP));
    let mut low = low.transpose()?;
    if loss.is_meta() {
        return Ok(Head { loss, dx });
    }
    let team = team::current();
    let all_labels = labels.slice::<i64>(OP)?;
    let transposed = weight.transpose(0, 1)?;
    let mut row_losses = vec![0f32; block];
    let mut total = 0f64;
    for start in (0..rows).step_by(block) {
        let len = block.min(rows - start);
        let x = x.narrow(0, start, len)?;
        let labels = &all_labels[start..start + len];
        shorten(&mut logits, len)?;
        matmul_into(&x, &transposed, &mut logits, true)?;
        let losses = &mut row_losses[..len];
        let z = logits.slice_mut::<f32>(OP)?;
        let Some(dx) = dx.as_mut() else {
            kernel::cross_entropy_loss_block(&team, z, labels, losses);
            total += losses.iter().map(|&l| f64::from(l)).sum::<f64>();
            continue;
        };
        let gradient = match &mut low {
            None => {
                kernel::cross_entropy_block(&team, z, labels, scale, losses);
                &logits
            }
            Some(low) => {
                shorten(low, len)?;
                kernel::cross_entropy_block_bf16(
                    &team,
                    z,
                    labels,
                    scale,
                    losses,
                    low.slice_mut(OP)?,
                );
                &*low
            }
        };
        total += losses.iter().map(|&l| f64::from(l)).sum::<f64>();
        dx.with_rows(start, len, |dx| matmul_into(gradient, weight, dx, true))?;
        if let Some((dw, overwrite)) = &mut dw {
            matmul_into(&gradient.transpose(0, 1)?, &x, dw, *overwrite && start == 0)?;
        }
    }
    loss.slice_mut::<f32>(OP)?[0] = (total * f64::from(scale)) as f32;
    Ok(Head { loss, dx })
}

/// Uses only the first `rows` rows of a scratch matrix.
fn shorten(scratch: &mut RawTensor, rows: usize) -> Result<()> {
    if scratch.dims()[0] != rows {
        *scratch = scratch.narrow(0, 0, rows)?;
    }
    Ok(())
}

/// The losses' sum times `scale` (f32 scalar) and the gradient of `logits` (f32, [rows, vocab]).
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
        return Err(mismatch(
            OP,
            format!("logits of shape {}, expected [rows, vocab]", logits.shape()),
        ));
    };
    check(OP, rows, vocab, labels)?;
    let mut gradient = crate::copy::copy(logits)?;
    let mut loss = RawTensor::empty((), DType::F32, logits.device(), OP)?;
    if loss.is_meta() {
        return Ok((loss, gradient));
    }
    let mut losses = vec![0f32; rows];
    kernel::cross_entropy_block(
        &team::current(),
        gradient.slice_mut(OP)?,
        labels.slice(OP)?,
        scale,
        &mut losses,
    );
    loss.slice_mut::<f32>(OP)?[0] =
        (losses.iter().map(|&l| f64::from(l)).sum::<f64>() * f64::from(scale)) as f32;
    Ok((loss, gradient))
}
