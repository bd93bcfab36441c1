//! Sums, means and maxima. Sums accumulate in f64 along fixed orders.
//!
//! Backward of a sum repeats the gradient; of a mean, the gradient over the count; of a maximum, the
//! gradient at the first element that attains it.

use slimpipe_runtime::{RawTensor, Result, Shape};

use crate::dispatch::{mismatch, with_float};

/// The sum of all elements, a scalar of the same dtype.
///
/// # Errors
/// Not a float tensor, out of memory.
#[track_caller]
pub fn sum_all(x: &RawTensor) -> Result<RawTensor> {
    sum_to(x, Shape::default())
}

/// Sums `x` down to `shape`, which broadcasts to the shape of `x`: the backward of broadcasting.
///
/// # Errors
/// `shape` does not broadcast to that of `x`, not a float tensor, out of memory.
#[track_caller]
pub fn sum_to(x: &RawTensor, shape: Shape) -> Result<RawTensor> {
    if *x.shape() == shape {
        return Ok(x.clone());
    }
    if shape.broadcast(x.shape()) != Some(*x.shape()) {
        return Err(mismatch("sum", format!("{} does not reduce to {shape}", x.shape())));
    }
    let mut out = RawTensor::empty(shape, x.dtype(), x.device(), "sum")?;
    if x.is_meta() {
        return Ok(out);
    }
    let target = slimpipe_runtime::Layout::contiguous(shape).broadcast_to(*x.shape())?;
    with_float!("sum", x.dtype(), T => {
        let mut sums = vec![0f64; shape.elem_count()];
        let (data, start) = (x.span::<T>("sum")?, x.layout().start());
        for (to, from) in target.indices().zip(x.layout().indices()) {
            sums[to] += f64::from(f32::from(data[from - start]));
        }
        for (out, sum) in out.slice_mut::<T>("sum")?.iter_mut().zip(sums) {
            *out = <T as slimpipe_kernels::cpu::simd::Scalar>::from_f32(sum as f32);
        }
        Ok(())
    })?;
    Ok(out)
}

/// The shape with dimension `dim` reduced to extent 1.
///
/// # Errors
/// No such dimension.
pub fn keep_dim(shape: &Shape, dim: usize) -> Result<Shape> {
    if dim >= shape.rank() {
        return Err(mismatch("reduce", format!("no dimension {dim} in shape {shape}")));
    }
    let mut out = *shape;
    out.dims_mut()[dim] = 1;
    Ok(out)
}

/// The maxima along the last dimension (extent 1 in the result) and, per row, where they are.
///
/// # Errors
/// Not a float tensor, a scalar or empty rows, out of memory.
#[track_caller]
pub fn max_last(x: &RawTensor) -> Result<(RawTensor, Vec<usize>)> {
    let width = crate::dispatch::width("max", x)?;
    if width == 0 {
        return Err(mismatch("max", "an empty row has no maximum".to_owned()));
    }
    let mut out =
        RawTensor::empty(keep_dim(x.shape(), x.rank() - 1)?, x.dtype(), x.device(), "max")?;
    if x.is_meta() {
        return Ok((out, Vec::new()));
    }
    let x = crate::copy::contiguous(x)?;
    let mut at = Vec::with_capacity(out.elem_count());
    with_float!("max", x.dtype(), T => {
        for (out, row) in out.slice_mut::<T>("max")?.iter_mut().zip(x.slice::<T>("max")?.chunks(width)) {
            // NaN wins, so that a broken row is seen.
            let best = (1..width).fold(0, |best, i| {
                if row[i] > row[best] || (row[i].is_nan() && !row[best].is_nan()) { i } else { best }
            });
            at.push(best);
            *out = row[best];
        }
        Ok(())
    })?;
    Ok((out, at))
}
