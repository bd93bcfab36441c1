//! Moving elements into dense row-major order.

use slimpipe_kernels::cuda::strided;
use slimpipe_runtime::{Element, Error, Layout, RawTensor, Result, Shape, team};

use crate::dispatch::{same_dtype, with_any};
use crate::gpu::Place;
use crate::runs::{BLOCK, Runs, for_blocks};

/// `x` itself if it is contiguous, else a contiguous copy.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn contiguous(x: &RawTensor) -> Result<RawTensor> {
    if x.layout().is_contiguous() { Ok(x.clone()) } else { copy(x) }
}

/// `x` under another shape; copied only if its strides do not allow a view.
///
/// # Errors
/// Another number of elements, out of memory.
#[track_caller]
pub fn reshape(x: &RawTensor, shape: impl Into<Shape>) -> Result<RawTensor> {
    let shape = shape.into();
    match x.reshape(shape) {
        Err(Error::NotContiguous { .. }) => copy(x)?.reshape(shape),
        other => other,
    }
}

/// A contiguous copy of any view.
///
/// # Errors
/// Out of memory.
#[track_caller]
pub fn copy(x: &RawTensor) -> Result<RawTensor> {
    let mut out = RawTensor::empty(*x.shape(), x.dtype(), x.device(), "copy")?;
    copy_into(x, &mut out)?;
    Ok(out)
}

/// Copies the elements of `x` in row-major order into the unshared contiguous tensor `out` of the
/// same number of elements and dtype.
///
/// # Errors
/// Another number of elements or dtype, or `out` cannot be written.
pub fn copy_into(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    same_dtype("copy", x, out)?;
    if x.elem_count() != out.elem_count() {
        let what = format!("shape {} does not fill shape {}", x.shape(), out.shape());
        return Err(crate::dispatch::mismatch("copy", what));
    }
    match Place::of("copy", x.device().join(out.device()))? {
        Place::Meta => Ok(()),
        Place::Cpu => with_any!(x.dtype(), T => typed::<T>(x, out)),
        Place::Gpu(gpu) => {
            let dense = Layout::contiguous(*x.shape());
            let to = strided::View { at: gpu.write(out)?, strides: dense.strides() };
            let (size, from) = (x.dtype().size(), gpu.view(x)?);
            // SAFETY: tensors on the GPU; `out` has as many elements and, nobody else holding it, is another.
            unsafe { strided::copy(gpu.stream(), size, x.dims(), from, to)? };
            Ok(())
        }
    }
}

fn typed<T: Element>(x: &RawTensor, out: &mut RawTensor) -> Result<()> {
    let (from, to) = (x.span::<T>("copy")?, out.slice_mut::<T>("copy")?);
    let runs = Runs::new([x.layout()]);
    match runs.steps {
        [1] => for_blocks(to, |start, to| {
            runs.for_each(start..start + to.len(), |at, len, [i]| {
                to[at..at + len].copy_from_slice(&from[i..i + len]);
            });
        }),
        [0] => for_blocks(to, |start, to| {
            runs.for_each(start..start + to.len(), |at, len, [i]| {
                to[at..at + len].fill(from[i]);
            });
        }),
        [_] => transpose(&runs, from, to),
    }
    Ok(())
}

/// Copies runs whose elements lie apart, several at a time: in a transposed matrix their elements
/// are neighbours, so that each cache line is read once.
fn transpose<T: Element>(runs: &Runs<1>, from: &[T], to: &mut [T]) {
    const GROUP: usize = 32;
    let (width, [step]) = (runs.width, runs.steps);
    let rows = (BLOCK / width).next_multiple_of(GROUP).max(GROUP);
    team::current().chunks(to, rows * width, |task, to| {
        for (group, to) in to.chunks_mut(GROUP * width).enumerate() {
            let mut starts = [0; GROUP];
            let first = (task * rows + group * GROUP) * width;
            runs.for_each(first..first + to.len(), |at, _, [i]| starts[at / width] = i);
            for column in 0..width {
                for (row, start) in starts[..to.len() / width].iter().enumerate() {
                    to[row * width + column] = from[start + column * step];
                }
            }
        }
    });
}
