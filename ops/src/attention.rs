//! Flash attention over a list of K/V chunks; formulas in [`slimpipe_kernels::cpu::attention`].

use std::ops::Range;

use slimpipe_kernels::cpu::attention::{self as kernel, Rows, RowsMut, Shape};
use slimpipe_kernels::cuda::attention as gpu_kernel;
use slimpipe_kernels::cuda::elementwise::accumulate;
use slimpipe_kernels::cuda::{Float, merge_attention, strided::View};
use slimpipe_runtime::{DType, Element, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{float, mismatch, same_dtype, same_shape, with_float};
use crate::gpu::{Gpu, Place};
use crate::runs::for_blocks;

/// Keys and values of consecutive positions, each [len, kv_heads, head_dim]. They are read in place,
/// so each row must be dense; rows may lie apart, as in a slice of a fused projection.
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

/// Accumulators of the rows of a chunk that are attended to, `rows` of those in `grad`.
pub struct GradRows<'a> {
    /// The accumulators of the whole chunk.
    pub grad: &'a mut ChunkGrad,
    /// Which rows of them.
    pub rows: Range<usize>,
}

impl<'a> GradRows<'a> {
    /// All rows of `grad`.
    pub fn all(grad: &'a mut ChunkGrad) -> Self {
        let rows = 0..grad.dk.dims()[0];
        Self { grad, rows }
    }

    /// Adds gradients (f32, [rows, kv_heads, head_dim]) that were summed elsewhere.
    ///
    /// # Errors
    /// Other shapes or dtypes, or an accumulator is shared.
    pub fn add(&mut self, dk: &RawTensor, dv: &RawTensor) -> Result<()> {
        const OP: &str = "add_kv_gradients";
        for (sum, part) in [(&mut self.grad.dk, dk), (&mut self.grad.dv, dv)] {
            expect_rows(OP, sum, part, &self.rows)?;
            let width = row_width(sum);
            match Place::of(OP, sum.device().join(part.device()))? {
                Place::Meta => continue,
                Place::Cpu => {}
                Place::Gpu(gpu) => {
                    let to = gpu.rows(sum, self.rows.start)?;
                    let from = View { at: gpu.read(part)?, strides: &[1] };
                    let extents = [part.elem_count()];
                    // SAFETY: tensors on the GPU; the rows lie in the accumulator, checked above.
                    unsafe {
                        accumulate(gpu.stream(), Float::F32, &extents, from, Float::F32, to)?;
                    }
                    continue;
                }
            }
            let part = part.slice::<f32>(OP)?;
            let sum = &mut sum.slice_mut::<f32>(OP)?[self.rows.start * width..][..part.len()];
            for_blocks(sum, |start, sum| {
                sum.iter_mut().zip(&part[start..]).for_each(|(sum, part)| *sum += part);
            });
        }
        Ok(())
    }
}

/// Elements of a row of `x` [rows, heads, head_dim].
fn row_width(x: &RawTensor) -> usize {
    x.dims()[1..].iter().product()
}

/// Refuses `x` unless it is shaped as `rows` of the accumulator `sum`.
fn expect_rows(
    op: &'static str,
    sum: &RawTensor,
    x: &RawTensor,
    rows: &Range<usize>,
) -> Result<()> {
    if x.dims()[1..] == sum.dims()[1..] && x.dims()[0] == rows.len() && rows.end <= sum.dims()[0] {
        return Ok(());
    }
    let what = format!("shape {} for rows {rows:?} of accumulators {}", x.shape(), sum.shape());
    Err(mismatch(op, what))
}

const OP: &str = "attention";

fn shape(q: &RawTensor, chunks: &[Chunk<'_>], scale: f32, offset: usize) -> Result<Shape> {
    float(OP, q)?;
    let &[q_len, heads, head_dim] = q.dims() else {
        let what = format!("queries of shape {}, expected [rows, heads, head_dim]", q.shape());
        return Err(mismatch(OP, what));
    };
    let kv_heads =
        chunks.first().map_or(heads, |chunk| chunk.k.dims().get(1).copied().unwrap_or(0));
    for Chunk { k, v, .. } in chunks {
        same_dtype(OP, q, k)?;
        same_dtype(OP, q, v)?;
        if k.shape() != v.shape() || k.rank() != 3 || k.dims()[1..] != [kv_heads, head_dim] {
            let (q, k, v) = (q.shape(), k.shape(), v.shape());
            return Err(mismatch(OP, format!("queries {q} with keys {k} and values {v}")));
        }
    }
    let shared = kv_heads > 0 && heads.is_multiple_of(kv_heads);
    if !shared || head_dim == 0 || !head_dim.is_multiple_of(2) {
        let what = format!(
            "{heads} heads over {kv_heads} key heads of size {head_dim}: heads must be a multiple, the size even"
        );
        return Err(mismatch(OP, what));
    }
    Ok(Shape { q_len, heads, kv_heads, head_dim, q_offset: offset, scale })
}

/// The distance of the rows of `x` [rows, heads, head_dim], if each is dense.
fn row_stride(x: &RawTensor) -> Option<usize> {
    let (dims, strides) = (x.dims(), x.layout().strides());
    let width = dims[1] * dims[2];
    let dense = (dims[2] == 1 || strides[2] == 1) && (dims[1] == 1 || strides[1] == dims[2]);
    match (dense, dims[0]) {
        (true, 0 | 1) => Some(width),
        (true, _) if strides[0] >= width => Some(strides[0]),
        _ => None,
    }
}

/// `x` itself if its rows are dense, else a contiguous copy.
#[track_caller]
fn dense_rows(x: &RawTensor) -> Result<RawTensor> {
    if row_stride(x).is_some() { Ok(x.clone()) } else { contiguous(x) }
}

fn rows<'a, T: Element>(op: &'static str, x: &'a RawTensor) -> Result<Rows<'a, T>> {
    match row_stride(x) {
        Some(stride) => Ok(Rows { data: x.span::<T>(op)?, stride }),
        // The error of a tensor that is not contiguous says what to do.
        None => Ok(Rows { data: x.slice::<T>(op)?, stride: 0 }),
    }
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
    let q = dense_rows(q)?;
    let mut out = RawTensor::empty(*q.shape(), q.dtype(), q.device(), OP)?;
    let mut lse = RawTensor::empty((shape.heads, shape.q_len), DType::F32, q.device(), OP)?;
    attend_into(&q, chunks, shape, &mut out, &mut lse, false)?;
    Ok((out, lse))
}

/// Attends to further chunks: merges the result into `out` and `lse`, which hold that of others.
///
/// # Errors
/// Shapes or dtypes that do not fit, or `out` or `lse` is shared.
#[track_caller]
pub fn attend_more(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    scale: f32,
    offset: usize,
    out: &mut RawTensor,
    lse: &mut RawTensor,
) -> Result<()> {
    let shape = shape(q, chunks, scale, offset)?;
    same_shape(OP, q, out)?;
    same_dtype(OP, q, out)?;
    check_lse(OP, &shape, lse)?;
    attend_into(&dense_rows(q)?, chunks, shape, out, lse, true)
}

/// Merges `part` and `part_lse`, a result over further keys, into `out` and `lse`.
///
/// # Errors
/// Shapes or dtypes that do not fit, or `out` or `lse` is shared.
pub fn merge(
    out: &mut RawTensor,
    lse: &mut RawTensor,
    part: &RawTensor,
    part_lse: &RawTensor,
) -> Result<()> {
    const OP: &str = "merge_attention";
    same_shape(OP, out, part)?;
    same_dtype(OP, out, part)?;
    same_shape(OP, lse, part_lse)?;
    let &[rows, heads, head_dim] = out.dims() else {
        let what = format!("an output of shape {}, expected [rows, heads, head_dim]", out.shape());
        return Err(mismatch(OP, what));
    };
    if lse.dims() != [heads, rows] {
        let what = format!("log-sum-exp of shape {}, expected [{heads}, {rows}]", lse.shape());
        return Err(mismatch(OP, what));
    }
    match Place::of(OP, out.device().join(part.device()))? {
        Place::Meta => return Ok(()),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, sizes) =
                (gpu.stream(), gpu.float(out.dtype())?, (heads, head_dim, rows));
            let (part, part_lse) = (gpu.read(part)?, gpu.read(part_lse)?);
            let (out, lse) = (gpu.write(out)?, gpu.write(lse)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { merge_attention::merge(stream, dtype, sizes, out, lse, part, part_lse)? };
            return Ok(());
        }
    }
    with_float!(OP, out.dtype(), T => {
        let (part, part_lse) = (part.slice::<T>(OP)?, part_lse.slice(OP)?);
        let (out, lse) = (out.slice_mut::<T>(OP)?, lse.slice_mut(OP)?);
        kernel::merge(&team::current(), (heads, head_dim), out, lse, part, part_lse);
        Ok(())
    })
}

fn check_lse(op: &'static str, shape: &Shape, lse: &RawTensor) -> Result<()> {
    let (heads, rows) = (shape.heads, shape.q_len);
    if lse.dims() == [heads, rows] {
        return Ok(());
    }
    Err(mismatch(op, format!("log-sum-exp of shape {}, expected [{heads}, {rows}]", lse.shape())))
}

fn attend_into(
    q: &RawTensor,
    chunks: &[Chunk<'_>],
    shape: Shape,
    out: &mut RawTensor,
    lse: &mut RawTensor,
    merge: bool,
) -> Result<()> {
    match Place::of(OP, q.device().join(out.device()))? {
        Place::Meta => return Ok(()),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype) = (gpu.stream(), gpu.float(q.dtype())?);
            let (from, chunks) = (gpu_rows(&gpu, q)?, gpu_chunks(&gpu, chunks)?);
            let stride = shape.heads * shape.head_dim;
            let to = gpu_kernel::Rows { at: gpu.write(out)?, stride };
            let lse = gpu.write(lse)?;
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::forward(stream, dtype, &shape, from, &chunks, to, lse, merge)? };
            return Ok(());
        }
    }
    with_float!(OP, q.dtype(), T => {
        let chunks = kernel_chunks::<T>(OP, chunks)?;
        let out = RowsMut { data: out.slice_mut::<T>(OP)?, stride: shape.heads * shape.head_dim };
        let (q, lse) = (rows::<T>(OP, q)?, lse.slice_mut(OP)?);
        kernel::forward(&team::current(), &shape, q, &chunks, out, lse, merge);
        Ok(())
    })
}

fn kernel_chunks<'a, T: Element>(
    op: &'static str,
    chunks: &[Chunk<'a>],
) -> Result<Vec<kernel::Chunk<'a, T>>> {
    let chunk = |&Chunk { k, v, start }: &Chunk<'a>| {
        Ok(kernel::Chunk { k: rows(op, k)?, v: rows(op, v)?, len: k.dims()[0], start })
    };
    chunks.iter().map(chunk).collect()
}

fn gpu_rows(gpu: &Gpu, x: &RawTensor) -> Result<gpu_kernel::Rows> {
    match row_stride(x) {
        Some(stride) => Ok(gpu_kernel::Rows { at: gpu.view(x)?.at, stride }),
        // The error of a tensor that is not contiguous says what to do.
        None => Ok(gpu_kernel::Rows { at: gpu.read(x)?, stride: 0 }),
    }
}

fn gpu_chunks(gpu: &Gpu, chunks: &[Chunk<'_>]) -> Result<Vec<gpu_kernel::Chunk>> {
    let chunk = |&Chunk { k, v, start }: &Chunk<'_>| {
        let (len, k, v) = (k.dims()[0], gpu_rows(gpu, k)?, gpu_rows(gpu, v)?);
        Ok(gpu_kernel::Chunk { k, v, len, start })
    };
    chunks.iter().map(chunk).collect()
}

/// The gradient of `q`; those of keys and values are added to `grads`, one per chunk, of as
/// many rows. `out` and
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
    grads: &mut [GradRows<'_>],
) -> Result<RawTensor> {
    const OP: &str = "attention_backward";
    let shape = shape(q, chunks, scale, offset)?;
    for other in [out, dout] {
        same_shape(OP, q, other)?;
        same_dtype(OP, q, other)?;
    }
    check_lse(OP, &shape, lse)?;
    if grads.len() != chunks.len() {
        let what = format!("{} accumulators for {} chunks", grads.len(), chunks.len());
        return Err(mismatch(OP, what));
    }
    for (grad, chunk) in grads.iter().zip(chunks) {
        expect_rows(OP, &grad.grad.dk, chunk.k, &grad.rows)?;
        expect_rows(OP, &grad.grad.dv, chunk.v, &grad.rows)?;
    }
    let (q, out, dout) = (dense_rows(q)?, dense_rows(out)?, dense_rows(dout)?);
    let mut dq = RawTensor::empty(*q.shape(), q.dtype(), q.device(), OP)?;
    match Place::of(OP, dq.device())? {
        Place::Meta => return Ok(dq),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype) = (gpu.stream(), gpu.float(q.dtype())?);
            let chunks = gpu_chunks(&gpu, chunks)?;
            let mut sums = Vec::with_capacity(grads.len());
            for GradRows { grad: ChunkGrad { dk, dv }, rows } in grads.iter_mut() {
                let (dk, dv) = (gpu.rows(dk, rows.start)?, gpu.rows(dv, rows.start)?);
                sums.push(gpu_kernel::ChunkGrad { dk, dv });
            }
            let rows = |x| gpu_rows(&gpu, x);
            let (q, out, dout, lse) = (rows(&q)?, rows(&out)?, rows(&dout)?, gpu.read(lse)?);
            let stride = shape.heads * shape.head_dim;
            let to = gpu_kernel::Rows { at: gpu.write(&mut dq)?, stride };
            // SAFETY: tensors of that many elements on the GPU; rows of accumulators lie in them, checked above.
            unsafe {
                gpu_kernel::backward(
                    stream, dtype, &shape, q, out, lse, dout, &chunks, &sums, to, false,
                )?;
            }
            return Ok(dq);
        }
    }
    with_float!(OP, q.dtype(), T => {
        let chunks = kernel_chunks::<T>(OP, chunks)?;
        let mut accumulators = Vec::with_capacity(grads.len());
        for GradRows { grad: ChunkGrad { dk, dv }, rows } in grads.iter_mut() {
            let width = row_width(dk);
            let part = rows.start * width..rows.end * width;
            accumulators.push(kernel::ChunkGrad {
                dk: &mut dk.slice_mut(OP)?[part.clone()],
                dv: &mut dv.slice_mut(OP)?[part],
            });
        }
        let (q, out, dout) = (rows::<T>(OP, &q)?, rows::<T>(OP, &out)?, rows::<T>(OP, &dout)?);
        let dq = RowsMut { data: dq.slice_mut::<T>(OP)?, stride: shape.heads * shape.head_dim };
        let (team, lse) = (team::current(), lse.slice(OP)?);
        kernel::backward(&team, &shape, q, out, lse, dout, &chunks, &mut accumulators, dq, false);
        Ok(())
    })?;
    Ok(dq)
}
