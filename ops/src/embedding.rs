//! Embedding: row `ids[i]` of a table for each i. Backward adds row i of the gradient to row
//! `ids[i]` of the table's gradient.

use slimpipe_kernels::cpu::embedding as kernel;
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, with_float};

/// Rows of `table` [vocab, width] for `ids` (u32, [rows]): [rows, width].
///
/// # Errors
/// Shapes that do not fit, an id outside the table, out of memory.
#[track_caller]
pub fn embedding(table: &RawTensor, ids: &RawTensor) -> Result<RawTensor> {
    const OP: &str = "embedding";
    let (&[vocab, width], &[rows]) = (table.dims(), ids.dims()) else {
        return Err(mismatch(OP, format!("ids {} into a table {}", ids.shape(), table.shape())));
    };
    let mut out =
        RawTensor::empty((rows, width), table.dtype(), table.device().join(ids.device()), OP)?;
    if out.is_meta() {
        return Ok(out);
    }
    let ids = ids.slice::<u32>(OP)?;
    if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
        return Err(mismatch(
            OP,
            format!(
                "token {id} in a vocabulary of {vocab}; the data was made by another tokenizer"
            ),
        ));
    }
    with_float!(OP, table.dtype(), T => {
        kernel::gather(&team::current(), table.slice::<T>(OP)?, width, ids, out.slice_mut::<T>(OP)?);
        Ok(())
    })?;
    Ok(out)
}

/// Adds the rows of `dy` [rows, width] to rows `ids` of `dtable` (f32, [vocab, width]).
///
/// # Errors
/// `dtable` is shared or not f32.
pub fn embedding_backward(dy: &RawTensor, ids: &RawTensor, dtable: &mut RawTensor) -> Result<()> {
    const OP: &str = "embedding_backward";
    if dy.is_meta() || ids.is_meta() {
        return Ok(());
    }
    debug_assert_eq!(dtable.dtype(), DType::F32);
    let dy = contiguous(dy)?;
    let width = dtable.dims()[1];
    with_float!(OP, dy.dtype(), T => {
        let ids = ids.slice::<u32>(OP)?;
        kernel::scatter_add(&team::current(), dy.slice::<T>(OP)?, ids, width, dtable.slice_mut::<f32>(OP)?);
        Ok(())
    })
}
