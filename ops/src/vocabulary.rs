//! The output layer and its loss on a part of the vocabulary: rows of the weight from token `first`
//! on. Whoever has the other parts does the same, and what all come to is put together in between:
//!
//! 1. [`part_sums`]: logits Z = X W^T of the part; what each row of them comes to.
//! 2. [`combine`]: what the rows of all parts come to, and their losses.
//! 3. [`part_gradient`]: G = (softmax(Z) - onehot) scale, the part's share of dX = G W, and dW += G^T X.
//!
//! All of it runs on a block of rows ([`crate::cross_entropy::block_rows`]), and allocates nothing.

use slimpipe_kernels::cpu::vocabulary as kernel;
pub use slimpipe_kernels::cpu::vocabulary::{SUMS, TOTALS};
use slimpipe_kernels::cuda::{Float, vocabulary as gpu_kernel};
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::cast::cast_into;
use crate::cross_entropy::check;
use crate::dispatch::mismatch;
use crate::gpu::Place;
use crate::matmul::matmul_into;

const OP: &str = "head_loss";

/// What a block of rows is computed on, and into.
pub struct Block<'a> {
    /// The input of the output layer, [rows, width].
    pub x: &'a RawTensor,
    /// The part's rows of the weight, [part, width].
    pub weight: &'a RawTensor,
    /// The label of each row (i64).
    pub labels: &'a RawTensor,
    /// The token that the first row of the weight belongs to.
    pub first: usize,
    /// Unshared f32 scratch, [rows, part].
    pub logits: &'a mut RawTensor,
}

impl Block<'_> {
    fn check(&self) -> Result<()> {
        let (&[rows, width], &[part, weight_width]) = (self.x.dims(), self.weight.dims()) else {
            let (x, weight) = (self.x.shape(), self.weight.shape());
            return Err(mismatch(OP, format!("x {x} and weight {weight}")));
        };
        let fits = width == weight_width
            && self.labels.dims() == [rows]
            && self.logits.dims() == [rows, part]
            && rows > 0
            && part > 0;
        if fits {
            return Ok(());
        }
        let (x, weight, logits) = (self.x.shape(), self.weight.shape(), self.logits.shape());
        let labels = self.labels.shape();
        let what = format!("x {x}, weight {weight}, labels {labels} and logits {logits}");
        Err(mismatch(OP, what))
    }
}

/// Computes the block's logits, and what each row of them comes to: `sums` (f32, [rows, [`SUMS`]], unshared).
/// `vocab` is the whole vocabulary.
///
/// # Errors
/// Shapes or dtypes that do not fit, a label outside the vocabulary (but see [`cross_entropy`](crate::cross_entropy)
/// for GPUs).
pub fn part_sums(block: &mut Block<'_>, vocab: usize, sums: &mut RawTensor) -> Result<()> {
    block.check()?;
    let (rows, part) = (block.logits.dims()[0], block.logits.dims()[1]);
    check(OP, rows, vocab, block.labels)?;
    expect("sums", sums, &[rows, SUMS])?;
    matmul_into(block.x, &block.weight.transpose(0, 1)?, block.logits, true)?;
    match Place::of(OP, block.logits.device())? {
        Place::Meta => {}
        Place::Cpu => {
            let (z, labels) = (block.logits.slice(OP)?, block.labels.slice(OP)?);
            kernel::sums(&team::current(), z, labels, block.first, sums.slice_mut(OP)?);
        }
        Place::Gpu(gpu) => {
            let (z, labels, first) =
                (gpu.read(block.logits)?, gpu.read(block.labels)?, block.first);
            let (stream, sums) = (gpu.stream(), gpu.write(sums)?);
            // SAFETY: tensors of that many elements on the GPU, checked above.
            unsafe { gpu_kernel::sums(stream, z, labels, first, rows, part, sums)? };
        }
    }
    Ok(())
}

/// What the `sums` of all parts (f32, [parts * rows, [`SUMS`]]) come to: `totals` (f32, [rows, [`TOTALS`]],
/// unshared) and `losses` (f32, `[rows]`, unshared), in nats.
///
/// # Errors
/// As [`part_sums`].
pub fn combine(
    sums: &RawTensor,
    labels: &RawTensor,
    vocab: usize,
    totals: &mut RawTensor,
    losses: &mut RawTensor,
) -> Result<()> {
    let rows = losses.elem_count();
    check(OP, rows, vocab, labels)?;
    expect("losses", losses, &[rows])?;
    expect("totals", totals, &[rows, TOTALS])?;
    let parts = sums.dims()[0] / rows.max(1);
    expect("sums", sums, &[parts * rows, SUMS])?;
    match Place::of(OP, losses.device())? {
        Place::Meta => {}
        _ if rows == 0 || parts == 0 => return Err(mismatch(OP, "there is nothing".to_owned())),
        Place::Cpu => {
            let (sums, labels) = (sums.slice(OP)?, labels.slice(OP)?);
            kernel::combine(sums, labels, totals.slice_mut(OP)?, losses.slice_mut(OP)?);
        }
        Place::Gpu(gpu) => {
            let (sums, labels) = (gpu.read(sums)?, gpu.read(labels)?);
            let (totals, losses) = (gpu.write(totals)?, gpu.write(losses)?);
            let stream = gpu.stream();
            // SAFETY: tensors of that many elements on the GPU, checked above.
            unsafe {
                gpu_kernel::combine(stream, sums, parts, labels, vocab, rows, totals, losses)?;
            }
        }
    }
    Ok(())
}

/// Turns the block's logits into their gradient, given the `totals` [rows, [`TOTALS`]] of all parts;
/// writes the part's share of dX to `dx` (f32, [rows, width]) and adds to `dweight` (f32, [part,
/// width]), or overwrites it, if the flag says so. `low` is scratch like the logits in the dtype of the
/// weight, where that is not f32.
///
/// # Errors
/// Shapes or dtypes that do not fit, something is shared that is written.
pub fn part_gradient(
    block: &mut Block<'_>,
    totals: &RawTensor,
    scale: f32,
    mut low: Option<&mut RawTensor>,
    dx: &mut RawTensor,
    (dweight, overwrite): (&mut RawTensor, bool),
) -> Result<()> {
    block.check()?;
    let (rows, part) = (block.logits.dims()[0], block.logits.dims()[1]);
    expect("totals", totals, &[rows, TOTALS])?;
    match Place::of(OP, block.logits.device())? {
        Place::Meta => {}
        Place::Cpu => {
            let (labels, totals) = (block.labels.slice(OP)?, totals.slice(OP)?);
            let logits = block.logits.slice_mut::<f32>(OP)?;
            kernel::gradient(&team::current(), logits, labels, block.first, totals, scale);
            if let Some(low) = &mut low {
                cast_into(block.logits, low)?;
            }
        }
        Place::Gpu(gpu) => {
            let (labels, totals) = (gpu.read(block.labels)?, gpu.read(totals)?);
            let (z, first) = (gpu.write(block.logits)?, block.first);
            let to = match &mut low {
                None => (Float::F32, z),
                Some(low) => (gpu.float(low.dtype())?, gpu.write(low)?),
            };
            let stream = gpu.stream();
            // SAFETY: tensors of that many elements on the GPU, checked above.
            unsafe {
                gpu_kernel::gradient(stream, z, labels, first, totals, scale, rows, part, to)?;
            }
        }
    }
    let gradient = match low {
        None => &*block.logits,
        Some(low) => &*low,
    };
    matmul_into(gradient, block.weight, dx, true)?;
    matmul_into(&gradient.transpose(0, 1)?, block.x, dweight, overwrite)
}

/// Refuses `x` unless it is f32 and of that shape.
fn expect(what: &str, x: &RawTensor, dims: &[usize]) -> Result<()> {
    if x.dims() == dims && x.dtype() == DType::F32 {
        return Ok(());
    }
    let (shape, dtype) = (x.shape(), x.dtype());
    Err(mismatch(OP, format!("{what} {shape} of {dtype}, expected {dims:?} of f32")))
}
