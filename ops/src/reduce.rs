//! Sums and maxima. Sums accumulate in f64 over fixed blocks in a fixed order.
//!
//! Backward of a sum repeats the gradient; of a maximum, it goes to the first element that attains
//! it.

use std::ops::Range;

use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cuda::reduce::{self as gpu_kernel, Dims};
use slimpipe_runtime::{DType, RawTensor, Result, Shape, team};

use crate::dispatch::{float, mismatch, with_float};
use crate::gpu::Place;
use crate::runs::{BLOCK, Runs, for_rows};

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
    const OP: &str = "sum";
    if *x.shape() == shape {
        return Ok(x.clone());
    }
    float(OP, x)?;
    if shape.broadcast(x.shape()) != Some(*x.shape()) {
        return Err(mismatch(OP, format!("{} does not reduce to {shape}", x.shape())));
    }
    let mut out = RawTensor::empty(shape, x.dtype(), x.device(), OP)?;
    if x.elem_count() == 0 {
        out.fill_zero()?;
    }
    if x.is_meta() || x.elem_count() == 0 {
        return Ok(out);
    }
    // Which elements of `x` one output sums, and where each output's begin.
    let (mut kept, mut reduced) = (*x.layout(), *x.layout());
    let missing = x.rank() - shape.rank();
    for axis in 0..x.rank() {
        let stays = axis >= missing && shape.dims()[axis - missing] != 1;
        let other = if stays { &mut reduced } else { &mut kept };
        *other = other.narrow(axis, 0, 1)?;
    }
    if let Place::Gpu(gpu) = Place::of(OP, x.device())? {
        let [kept, reduced] = [&kept, &reduced]
            .map(|layout| Dims { extents: layout.shape().dims(), strides: layout.strides() });
        let (stream, dtype, to) = (gpu.stream(), gpu.float(x.dtype())?, gpu.write(&mut out)?);
        // SAFETY: tensors on the GPU: the dimensions are those of `x`, and `out` has one element per kept one.
        unsafe { gpu_kernel::sum(stream, dtype, gpu.view(x)?.at, kept, reduced, to)? };
        return Ok(out);
    }
    let sums = Sums {
        kept: Runs::new([&kept]),
        reduced: Runs::new([&reduced]),
        terms: reduced.shape().elem_count(),
    };
    with_float!(OP, x.dtype(), T => {
        sums.run(x.span::<T>(OP)?, out.slice_mut::<T>(OP)?);
        Ok(())
    })?;
    Ok(out)
}

/// One sum per kept element, over the reduced ones.
struct Sums {
    kept: Runs<1>,
    reduced: Runs<1>,
    terms: usize,
}

impl Sums {
    /// Whether the outputs lie densely in memory: then whole rows are added at once.
    fn by_columns(&self) -> bool {
        self.kept.steps == [1] && self.kept.width > 1
    }

    fn run<T: Scalar>(&self, x: &[T], out: &mut [T]) {
        let block = if self.by_columns() { 256.max(self.terms.div_ceil(16)) } else { BLOCK };
        let blocks = self.terms.div_ceil(block);
        let per_task = (4 * BLOCK / block.min(self.terms)).max(1);
        let team = team::current();
        if blocks == 1 {
            team.chunks(out, per_task, |task, out| {
                let mut sums = vec![0f64; out.len()];
                self.add(x, task * per_task, 0..self.terms, &mut sums);
                out.iter_mut().zip(sums).for_each(|(out, sum)| *out = T::from_f32(sum as f32));
            });
            return;
        }
        let outputs = out.len();
        let mut partial = vec![0f64; blocks * outputs];
        team.chunks(&mut partial, per_task, |task, mut sums| {
            let mut at = task * per_task;
            while !sums.is_empty() {
                let (block_index, first) = (at / outputs, at % outputs);
                let (now, later) = sums.split_at_mut((outputs - first).min(sums.len()));
                let start = block_index * block;
                self.add(x, first, start..(start + block).min(self.terms), now);
                (at, sums) = (at + now.len(), later);
            }
        });
        for (i, out) in out.iter_mut().enumerate() {
            let sum: f64 = partial[i..].iter().step_by(outputs).sum();
            *out = T::from_f32(sum as f32);
        }
    }

    /// Adds `terms` of the outputs from `first` on.
    fn add<T: Scalar>(&self, x: &[T], first: usize, terms: Range<usize>, sums: &mut [f64]) {
        let ([kept_step], [step]) = (self.kept.steps, self.reduced.steps);
        let outputs = first..first + sums.len();
        if self.by_columns() {
            self.reduced.for_each(terms, |_, count, [row]| {
                for row in (0..count).map(|k| row + k * step) {
                    self.kept.for_each(outputs.clone(), |at, len, [column]| {
                        let from = &x[row + column..][..len];
                        for (sum, x) in sums[at..at + len].iter_mut().zip(from) {
                            *sum += f64::from(x.to_f32());
                        }
                    });
                }
            });
            return;
        }
        self.kept.for_each(outputs, |at, len, [start]| {
            for (k, sum) in sums[at..at + len].iter_mut().enumerate() {
                self.reduced.for_each(terms.clone(), |_, len, [offset]| {
                    *sum += run_sum(&x[start + k * kept_step + offset..], len, step);
                });
            }
        });
    }
}

/// The sum of `len` elements that lie `step` apart.
fn run_sum<T: Scalar>(x: &[T], len: usize, step: usize) -> f64 {
    let value = |x: &T| f64::from(x.to_f32());
    if step != 1 {
        return (0..len).map(|i| value(&x[i * step])).sum();
    }
    let (full, rest) = x[..len].as_chunks::<8>();
    let mut lanes = [0f64; 8];
    for chunk in full {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += value(x));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(value).sum::<f64>()
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

/// The maxima along the last dimension (extent 1 in the result) and where they are (u32, of the same
/// shape). The first of equal elements counts; NaN wins over all, so that a broken row is seen.
///
/// # Errors
/// Not a float tensor, a scalar or empty rows, out of memory.
#[track_caller]
pub fn max_last(x: &RawTensor) -> Result<(RawTensor, RawTensor)> {
    const OP: &str = "max";
    float(OP, x)?;
    let width = crate::dispatch::width(OP, x)?;
    if width == 0 {
        return Err(mismatch(OP, "an empty row has no maximum".to_owned()));
    }
    let shape = keep_dim(x.shape(), x.rank() - 1)?;
    let mut out = RawTensor::empty(shape, x.dtype(), x.device(), OP)?;
    let mut at = RawTensor::empty(shape, DType::U32, x.device(), OP)?;
    let x = crate::copy::contiguous(x)?;
    match Place::of(OP, x.device())? {
        Place::Meta => return Ok((out, at)),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (values, places) = (gpu.write(&mut out)?, gpu.write(&mut at)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe {
                gpu_kernel::max_rows(stream, dtype, gpu.read(&x)?, rows, width, values, places)?;
            }
            return Ok((out, at));
        }
    }
    with_float!(OP, x.dtype(), T => {
        let from = x.slice::<T>(OP)?;
        let rows = (BLOCK / width).max(1);
        let (values, places) = (out.slice_mut::<T>(OP)?, at.slice_mut::<u32>(OP)?);
        team::current().chunks2((values, rows), (places, rows), |task, values, places| {
            let from = from[task * rows * width..].chunks_exact(width);
            for ((row, value), place) in from.zip(values).zip(places) {
                let best = first_max(row);
                (*value, *place) = (row[best], best as u32);
            }
        });
        Ok(())
    })?;
    Ok((out, at))
}

fn first_max<T: Scalar>(row: &[T]) -> usize {
    let mut best = (0, row[0].to_f32());
    for (i, x) in row.iter().enumerate() {
        let x = x.to_f32();
        if x > best.1 || (x.is_nan() && !best.1.is_nan()) {
            best = (i, x);
        }
    }
    best.0
}

/// The gradient of the input of [`max_last`], whose shape was `shape`.
///
/// # Errors
/// Shapes that do not fit, out of memory.
#[track_caller]
pub fn max_last_backward(dy: &RawTensor, at: &RawTensor, shape: Shape) -> Result<RawTensor> {
    const OP: &str = "max_backward";
    crate::dispatch::same_shape(OP, dy, at)?;
    let dy = crate::copy::contiguous(dy)?;
    let mut dx = RawTensor::empty(shape, dy.dtype(), dy.device(), OP)?;
    let place = Place::of(OP, dx.device())?;
    if let Place::Meta = place {
        return Ok(dx);
    }
    let width = crate::dispatch::width(OP, &dx)?;
    if let Place::Gpu(gpu) = place {
        let (stream, dtype, rows) = (gpu.stream(), gpu.float(dy.dtype())?, dy.elem_count());
        let (d, places, to) = (gpu.read(&dy)?, gpu.read(at)?, gpu.write(&mut dx)?);
        // SAFETY: tensors of that many elements on the GPU.
        unsafe { gpu_kernel::max_rows_backward(stream, dtype, d, places, rows, width, to)? };
        return Ok(dx);
    }
    with_float!(OP, dy.dtype(), T => {
        let (dy, at) = (dy.slice::<T>(OP)?, at.slice::<u32>(OP)?);
        for_rows(dx.slice_mut::<T>(OP)?, width, |i, row| {
            row.fill(T::default());
            row[at[i] as usize] = dy[i];
        });
        Ok(())
    })?;
    Ok(dx)
}
