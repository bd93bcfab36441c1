//! Flash attention over a list of K/V chunks; formulas in [`slimpipe_kernels::cpu::attention`].

use slimpipe_kernels::cpu::attention::{self as kernel, Rows, RowsMut, Shape};
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, with_float};

/// Keys and values of consecutive positions, each [len, kv_heads, head_dim] with dense rows.
#[derive(Clone, Copy)]
pub struct Chunk<'a> {
    /// Keys.
    pub k: &'a RawTensor,
    /// Values.
    pub v: &'a RawTensor,
    /// Position of the first row.
    pub start: usize,
}

/// Accumulators of a chunk's gradients, f32, shaped like its keys; unshared.
pub struct ChunkGrad {
    /// Gradient of the keys.
    pub dk: RawTensor,
    /// Gradient of the values.
    pub dv: RawTensor,
}

const OP: &str = "attention";

fn shape(q: &RawTensor, chunks: &[Chunk<'_>], scale: f32, offset: usize) -> Result<Shape> {
    let &[q_len, heads, head_dim] = q.dims() else {
        return Err(mismatch(
            OP,
            format!("queries of shape {}, expected [rows, heads, head_dim]", q.shape()),
        ));
    };
    let kv_heads =
        chunks.first().map_or(heads, |chunk| chunk.k.dims().get(1).copied().unwrap_or(0));
    for Chunk { k, v, .. } in chunks {
        let fits = k.shape() == v.shape() && k.rank() == 3 && k.dims()[1..] == [kv_heads, head_dim];
        if !fits || k.dtype() != q.dtype() || v.dtype() != q.dtype() {
            let what = format!(
                "queries {} {} with keys {} {} and values {} {}",
                q.shape(),
                q.dtype(),
                k.shape(),
                k.dtype(),
                v.shape(),
                v.dtype()
            );
            return Err(mismatch(OP, what));
        }
    }
    if kv_heads == 0
        || !heads.is_multiple_of(kv_heads)
        || head_dim == 0
        || !head_dim.is_multiple_of(2)
    {
        let what = format!(
            "{heads} heads over {kv_heads} key heads of size {head_dim}: heads must be a multiple, the size even"
        );
        return Err(mismatch(OP, what));
    }
    Ok(Shape { q_len, heads, kv_heads, head_dim, q_offset: offset, scale })
}

/// Attention of `q` [rows, heads, head_dim], whose first row is at position `offset`, over `chunks`;
/// a row sees keys at positions up to its own. Gives the output, shaped like `q`, and the natural
/// log-sum-exp [heads, rows] (f32).
///
/// # Errors
/// Shapes or dtypes that do not fit, out of memory.
#[track_caller]
pub fn attend(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    scale: f32,
    offset: usize,
) -> Result<(RawTensor, RawTensor)> {
    let shape = shape(q, chunks, scale, offset)?;
    let q = contiguous(q)?;
    let mut out = RawTensor::empty(*q.shape(), q.dtype(), q.device(), OP)?;
    let mut lse = RawTensor::empty((shape.heads, shape.q_len), DType::F32, q.device(), OP)?;
    attend_into(&q, chunks, shape, &mut out, &mut lse, false)?;
    Ok((out, lse))
}

/// Attends to further chunks: merges the result into `out` and `lse`, which hold that of others.
///
/// # Errors
/// Shapes or dtypes that do not fit, or `out` or `lse` is shared.
pub fn attend_more(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    scale: f32,
    offset: usize,
    out: &mut RawTensor,
    lse: &mut RawTensor,
) -> Result<()> {
    let shape = shape(q, chunks, scale, offset)?;
    attend_into(&contiguous(q)?, chunks, shape, out, lse, true)
}

fn attend_into(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    shape: Shape,
    out: &mut RawTensor,
    lse: &mut RawTensor,
    merge: bool,
) -> Result<()> {
    if q.is_meta() || out.is_meta() {
        return Ok(());
    }
    with_float!(OP, q.dtype(), T => {
        let stride = shape.heads * shape.head_dim;
        let chunks = kernel_chunks::<T>(chunks)?;
        let q = Rows { data: q.slice::<T>(OP)?, stride };
        let out = RowsMut { data: out.slice_mut::<T>(OP)?, stride };
        kernel::forward(&team::current(), &shape, q, &chunks, out, lse.slice_mut(OP)?, merge);
        Ok(())
    })
}

fn kernel_chunks<'a, T: slimpipe_runtime::Element>(
    chunks: &[Chunk<'a>],
) -> Result<Vec<kernel::Chunk<'a, T>>> {
    let chunk = |chunk: &Chunk<'a>| -> Result<kernel::Chunk<'a, T>> {
        let stride = chunk.k.dims()[1] * chunk.k.dims()[2];
        let rows = |x: &'a RawTensor| -> Result<Rows<'a, T>> {
            Ok(Rows { data: x.slice::<T>(OP)?, stride })
        };
        Ok(kernel::Chunk {
            k: rows(chunk.k)?,
            v: rows(chunk.v)?,
            len: chunk.k.dims()[0],
            start: chunk.start,
        })
    };
    chunks.iter().map(chunk).collect()
}

/// The gradient of `q`; those of keys and values are added to `grads`, one per chunk. `out` and
/// `lse` are the final results of forward, `dout` the gradient of `out`.
///
/// # Errors
/// Shapes or dtypes that do not fit, an accumulator is shared, out of memory.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a backward takes what forward took and gave")]
pub fn attend_backward(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    out: &RawTensor,
    lse: &RawTensor,
    dout: &RawTensor,
    scale: f32,
    offset: usize,
    grads: &mut [&mut ChunkGrad],
) -> Result<RawTensor> {
    const OP: &str = "attention_backward";
    let shape = shape(q, chunks, scale, offset)?;
    let (q, dout) = (contiguous(q)?, contiguous(dout)?);
    let mut dq = RawTensor::empty(*q.shape(), q.dtype(), q.device(), OP)?;
    if dq.is_meta() {
        return Ok(dq);
    }
    with_float!(OP, q.dtype(), T => {
        let stride = shape.heads * shape.head_dim;
        let chunks = kernel_chunks::<T>(chunks)?;
        let mut accumulators = Vec::with_capacity(grads.len());
        for ChunkGrad { dk, dv } in grads.iter_mut() {
            accumulators.push(kernel::ChunkGrad { dk: dk.slice_mut(OP)?, dv: dv.slice_mut(OP)? });
        }
        let (q, out) = (Rows { data: q.slice::<T>(OP)?, stride }, Rows { data: out.slice::<T>(OP)?, stride });
        let dout = Rows { data: dout.slice::<T>(OP)?, stride };
        let dq = RowsMut { data: dq.slice_mut::<T>(OP)?, stride };
        let team = team::current();
        kernel::backward(&team, &shape, q, out, lse.slice(OP)?, dout, &chunks, &mut accumulators, dq, false);
        Ok(())
    })?;
    Ok(dq)
}
