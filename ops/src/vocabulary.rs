//! The output layer and its loss on a part of the vocabulary: rows of the weight from token `first`
//! on. Whoever has the other parts does the same, and what all come to is put together in between:
//!
//! 1. [`part_sums`]: logits Z = X W^T of the part; what each row of them comes to.
//! 2. [`combine`]: what the rows of all parts come to, and the loss.
//! 3. [`part_gradient`]: G = (softmax(Z) - onehot) scale, the part's share of dX = G W, and dW += G^T X.
//!
//! All of it runs on a block of rows ([`crate::cross_entropy::block_rows`]), and allocates nothing.

use slimpipe_kernels::cpu::vocabulary as kernel;
pub use slimpipe_kernels::cpu::vocabulary::{SUMS, TOTALS, combine};
use slimpipe_runtime::{RawTensor, Result, team};

use crate::cast::cast_into;
use crate::cross_entropy::check_labels;
use crate::dispatch::mismatch;
use crate::matmul::matmul_into;

const OP: &str = "head_loss";

/// What a block of rows is computed on, and into.
pub struct Block<'a> {
    /// The input of the output layer, [rows, width].
    pub x: &'a RawTensor,
    /// The part's rows of the weight, [part, width].
    pub weight: &'a RawTensor,
    /// The label of each row.
    pub labels: &'a [i64],
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
            && self.labels.len() == rows
            && self.logits.dims() == [rows, part]
            && rows > 0
            && part > 0;
        if fits {
            return Ok(());
        }
        let (x, weight, logits) = (self.x.shape(), self.weight.shape(), self.logits.shape());
        let labels = self.labels.len();
        let what = format!("x {x}, weight {weight}, {labels} labels and logits {logits}");
        Err(mismatch(OP, what))
    }
}

/// Computes the block's logits, and what each row of them comes to: `sums` [rows, [`SUMS`]]. `vocab`
/// is the whole vocabulary.
///
/// # Errors
/// Shapes or dtypes that do not fit, a label outside the vocabulary.
pub fn part_sums(block: &mut Block<'_>, vocab: usize, sums: &mut [f32]) -> Result<()> {
    block.check()?;
    check_labels(OP, block.labels, vocab)?;
    matmul_into(block.x, &block.weight.transpose(0, 1)?, block.logits, true)?;
    let logits = block.logits.slice::<f32>(OP)?;
    kernel::sums(&team::current(), logits, block.labels, block.first, sums);
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
    totals: &[f32],
    scale: f32,
    low: Option<&mut RawTensor>,
    dx: &mut RawTensor,
    (dweight, overwrite): (&mut RawTensor, bool),
) -> Result<()> {
    block.check()?;
    let logits = block.logits.slice_mut::<f32>(OP)?;
    kernel::gradient(&team::current(), logits, block.labels, block.first, totals, scale);
    let gradient = match low {
        None => &*block.logits,
        Some(low) => {
            cast_into(block.logits, low)?;
            &*low
        }
    };
    matmul_into(gradient, block.weight, dx, true)?;
    matmul_into(&gradient.transpose(0, 1)?, block.x, dweight, overwrite)
}
