//! Concatenation along a dimension, and the backward of its inverse: `narrow` cuts a part out, its
//! gradient is that part's amid zeros.

use slimpipe_kernels::cuda::strided::{self, View};
use slimpipe_runtime::{Layout, RawTensor, Result, Shape};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, same_dtype};
use crate::gpu::{Gpu, Place};
use crate::runs::for_rows;

/// The tensors of `parts` behind one another along dimension `dim`; all other extents agree.
/// Backward narrows the gradient to each part.
///
/// # Errors
/// No part, shapes or dtypes that do not fit, out of memory.
#[track_caller]
pub fn cat(parts: &[&RawTensor], dim: usize) -> Result<RawTensor> {
    const OP: &str = "cat";
    let Some((first, others)) = parts.split_first() else {
        return Err(mismatch(OP, "there is nothing to concatenate".to_owned()));
    };
    let mut shape = *first.shape();
    if dim >= shape.rank() {
        return Err(mismatch(OP, format!("no dimension {dim} in shape {shape}")));
    }
    let mut device = first.device();
    for other in others {
        same_dtype(OP, first, other)?;
        let fits = other.rank() == shape.rank()
            && (0..shape.rank()).all(|i| i == dim || other.dims()[i] == shape.dims()[i]);
        if !fits {
            let what = format!("{} after {shape} along dimension {dim}", other.shape());
            return Err(mismatch(OP, what));
        }
        shape.dims_mut()[dim] += other.dims()[dim];
        device = device.join(other.device());
    }
    let mut out = RawTensor::empty(shape, first.dtype(), device, OP)?;
    let parts: Vec<RawTensor> = parts.iter().map(|part| contiguous(part)).collect::<Result<_>>()?;
    match Place::of(OP, device)? {
        Place::Meta => return Ok(out),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let mut start = 0;
            for part in &parts {
                let cut = out.layout().narrow(dim, start, part.dims()[dim])?;
                write_cut(&gpu, part, &mut out, &cut)?;
                start += part.dims()[dim];
            }
            return Ok(out);
        }
    }
    // Bytes of one row of each part; rows run over the dimensions before `dim`.
    let inner = first.dtype().size() * shape.dims()[dim + 1..].iter().product::<usize>();
    let mut sources = Vec::with_capacity(parts.len());
    for part in &parts {
        sources.push((part.dims()[dim] * inner, part.as_bytes(OP)?));
    }
    for_rows(out.as_bytes_mut(OP)?, shape.dims()[dim] * inner, |i, mut row| {
        for (width, source) in &sources {
            let (to, rest) = row.split_at_mut(*width);
            to.copy_from_slice(&source[i * width..][..*width]);
            row = rest;
        }
    });
    Ok(out)
}

/// `grad` at `start` along `dim` among zeros of the shape `shape`: the backward of `narrow`.
///
/// # Errors
/// Shapes that do not fit, out of memory.
#[track_caller]
pub fn narrow_backward(
    grad: &RawTensor,
    shape: Shape,
    dim: usize,
    start: usize,
) -> Result<RawTensor> {
    const OP: &str = "narrow_backward";
    let mut out = RawTensor::empty(shape, grad.dtype(), grad.device(), OP)?;
    let cut = out.layout().narrow(dim, start, grad.dims().get(dim).copied().unwrap_or(0))?;
    if cut.shape() != grad.shape() {
        return Err(mismatch(
            OP,
            format!("a gradient {} for a part {}", grad.shape(), cut.shape()),
        ));
    }
    let grad = contiguous(grad)?;
    match Place::of(OP, grad.device())? {
        Place::Meta => return Ok(out),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            out.fill_zero()?;
            write_cut(&gpu, &grad, &mut out, &cut)?;
            return Ok(out);
        }
    }
    let inner = grad.dtype().size() * shape.dims()[dim + 1..].iter().product::<usize>();
    let (before, width) = (start * inner, grad.dims()[dim] * inner);
    let from = grad.as_bytes(OP)?;
    for_rows(out.as_bytes_mut(OP)?, shape.dims()[dim] * inner, |i, row| {
        row[..before].fill(0);
        row[before..before + width].copy_from_slice(&from[i * width..][..width]);
        row[before + width..].fill(0);
    });
    Ok(out)
}

/// Copies `part` to where `cut`, a part of the layout of `out`, lies.
fn write_cut(gpu: &Gpu, part: &RawTensor, out: &mut RawTensor, cut: &Layout) -> Result<()> {
    let size = part.dtype().size();
    let at = gpu.write(out)?.offset((cut.start() * size) as u64);
    let to = View { at, strides: cut.strides() };
    // SAFETY: tensors on the GPU; `cut` lies in `out`, which nobody else holds, and has the part's shape.
    unsafe { strided::copy(gpu.stream(), size, part.dims(), gpu.view(part)?, to)? };
    Ok(())
}
