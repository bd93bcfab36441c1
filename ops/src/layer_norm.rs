//! LayerNorm over the last dimension: y = n w + b with n = (x - mean) r, r = 1 / sqrt(var + eps).
//!
//! Backward, with g = dy w: dx = r (g - mean(g) - n mean(g n)), dw = sum over rows of dy n, db = sum
//! over rows of dy. A row's mean and r are saved, everything is computed in f32.

use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cuda::norm as gpu_kernel;
use slimpipe_runtime::{DType, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{same_dtype, same_shape, with_float};
use crate::gpu::Place;
use crate::rms_norm::check;
use crate::runs::BLOCK;

/// LayerNorm: the normalised rows, and mean and reciprocal deviation of each ([rows, 2], f32).
///
/// # Errors
/// A weight or bias of another width or dtype, out of memory.
#[track_caller]
pub fn layer_norm(
    x: &RawTensor,
    weight: &RawTensor,
    bias: &RawTensor,
    eps: f32,
) -> Result<(RawTensor, RawTensor)> {
    const OP: &str = "layer_norm";
    let width = check(OP, x, weight)?;
    check(OP, x, bias)?;
    let x = contiguous(x)?;
    let device = x.device().join(weight.device()).join(bias.device());
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), device, OP)?;
    let mut stats = RawTensor::empty((x.elem_count() / width, 2), DType::F32, device, OP)?;
    match Place::of(OP, device)? {
        Place::Meta => return Ok((y, stats)),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (from, w, b) = (gpu.read(&x)?, gpu.read(weight)?, gpu.read(bias)?);
            let (to, s) = (gpu.write(&mut y)?, gpu.write(&mut stats)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::layer_norm(stream, dtype, from, w, b, eps, rows, width, to, s)? };
            return Ok((y, stats));
        }
    }
    with_float!(OP, x.dtype(), T => {
        let (x, w, b) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?, bias.slice::<T>(OP)?);
        let rows = (BLOCK / width).max(1);
        let (y, stats) = (y.slice_mut::<T>(OP)?, stats.slice_mut::<f32>(OP)?);
        team::current().chunks2((y, rows * width), (stats, rows * 2), |task, y, stats| {
            let x = x[task * rows * width..].chunks_exact(width);
            for ((x, y), stats) in x.zip(y.chunks_exact_mut(width)).zip(stats.chunks_exact_mut(2)) {
                let mean = sums([x], |[x]| [x])[0] / width as f32;
                let var = sums([x], |[x]| [(x - mean) * (x - mean)])[0] / width as f32;
                stats.copy_from_slice(&[mean, 1.0 / (var + eps).sqrt()]);
                apply(x, w, b, stats, y);
            }
        });
        Ok(())
    })?;
    Ok((y, stats))
}

/// The output of [`layer_norm`] again, bit for bit, from its saved `stats`.
///
/// # Errors
/// As [`layer_norm`].
#[track_caller]
pub fn layer_norm_apply(
    x: &RawTensor,
    weight: &RawTensor,
    bias: &RawTensor,
    stats: &RawTensor,
) -> Result<RawTensor> {
    const OP: &str = "layer_norm_again";
    let width = check(OP, x, weight)?;
    check(OP, x, bias)?;
    let x = contiguous(x)?;
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device().join(weight.device()), OP)?;
    match Place::of(OP, y.device())? {
        Place::Meta => return Ok(y),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (from, w, b) = (gpu.read(&x)?, gpu.read(weight)?, gpu.read(bias)?);
            let (s, to) = (gpu.read(stats)?, gpu.write(&mut y)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::layer_norm_apply(stream, dtype, from, w, b, s, rows, width, to)? };
            return Ok(y);
        }
    }
    with_float!(OP, x.dtype(), T => {
        let (x, w, b) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?, bias.slice::<T>(OP)?);
        let stats = stats.slice::<f32>(OP)?;
        crate::runs::for_rows(y.slice_mut::<T>(OP)?, width, |i, y| {
            apply(&x[i * width..][..width], w, b, &stats[i * 2..][..2], y);
        });
        Ok(())
    })?;
    Ok(y)
}

/// The gradient of the input; those of weight and bias are added to `dparams` (f32, unshared).
///
/// # Errors
/// As [`layer_norm`], or a destination is shared.
#[track_caller]
pub fn layer_norm_backward(
    x: &RawTensor,
    weight: &RawTensor,
    stats: &RawTensor,
    dy: &RawTensor,
    dparams: Option<[&mut RawTensor; 2]>,
) -> Result<RawTensor> {
    const OP: &str = "layer_norm_backward";
    let width = check(OP, x, weight)?;
    same_shape(OP, x, dy)?;
    same_dtype(OP, x, dy)?;
    let (x, dy) = (contiguous(x)?, contiguous(dy)?);
    let mut dx = RawTensor::empty(*x.shape(), x.dtype(), x.device().join(dy.device()), OP)?;
    match Place::of(OP, dx.device())? {
        Place::Meta => return Ok(dx),
        Place::Cpu => {}
        Place::Gpu(gpu) => {
            let (stream, dtype, rows) =
                (gpu.stream(), gpu.float(x.dtype())?, x.elem_count() / width);
            let (x, w, s, dy) =
                (gpu.read(&x)?, gpu.read(weight)?, gpu.read(stats)?, gpu.read(&dy)?);
            let dparams = match dparams {
                Some([dweight, dbias]) => Some([gpu.write(dweight)?, gpu.write(dbias)?]),
                None => None,
            };
            let to = gpu.write(&mut dx)?;
            // SAFETY: tensors of that many elements on the GPU.
            unsafe {
                gpu_kernel::layer_norm_backward(
                    stream, dtype, x, w, s, dy, rows, width, to, dparams,
                )?;
            }
            return Ok(dx);
        }
    }
    // Each task sums the parameters' gradients over its own rows; the sums are added in task order.
    // At most 64 tasks, so that the sums stay small beside the rows.
    let count = x.elem_count() / width;
    let rows = (BLOCK / width).max(count.div_ceil(64)).max(1);
    let mut partial = vec![0f32; count.div_ceil(rows) * 2 * width];
    with_float!(OP, x.dtype(), T => {
        let (x, w, dy) = (x.slice::<T>(OP)?, weight.slice::<T>(OP)?, dy.slice::<T>(OP)?);
        let (stats, dx) = (stats.slice::<f32>(OP)?, dx.slice_mut::<T>(OP)?);
        let team = team::current();
        team.chunks2((dx, rows * width), (&mut partial, 2 * width), |task, dx, params| {
            let (dw, db) = params.split_at_mut(width);
            for (i, dx) in dx.chunks_exact_mut(width).enumerate() {
                let row = task * rows + i;
                let (x, dy) = (&x[row * width..][..width], &dy[row * width..][..width]);
                let (mean, r) = (stats[row * 2], stats[row * 2 + 1]);
                let [mean_g, mean_gn] = sums([x, w, dy], |[x, w, dy]| {
                    let g = dy * w;
                    [g, g * (x - mean) * r]
                })
                .map(|sum| sum / width as f32);
                let dparams = dw.iter_mut().zip(&mut *db);
                let inputs = x.iter().zip(w).zip(dy).map(|((x, w), dy)| {
                    (x.to_f32(), w.to_f32(), dy.to_f32())
                });
                for ((dx, (dw, db)), (x, w, dy)) in dx.iter_mut().zip(dparams).zip(inputs) {
                    let n = (x - mean) * r;
                    *dx = T::from_f32(r * (dy * w - mean_g - n * mean_gn));
                    *dw += dy * n;
                    *db += dy;
                }
            }
        });
        Ok(())
    })?;
    if let Some([dweight, dbias]) = dparams {
        let (dweight, dbias) = (dweight.slice_mut::<f32>(OP)?, dbias.slice_mut::<f32>(OP)?);
        for sums in partial.chunks_exact(2 * width) {
            let (dw, db) = sums.split_at(width);
            dweight.iter_mut().zip(dw).for_each(|(sum, part)| *sum += part);
            dbias.iter_mut().zip(db).for_each(|(sum, part)| *sum += part);
        }
    }
    Ok(dx)
}

fn apply<T: Scalar>(x: &[T], weight: &[T], bias: &[T], stats: &[f32], y: &mut [T]) {
    let (mean, r) = (stats[0], stats[1]);
    for (((y, x), w), b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
        *y = T::from_f32((x.to_f32() - mean) * r * w.to_f32() + b.to_f32());
    }
}

/// The sums of what `f` makes of the elements of `rows`, in a fixed order that vectorises.
fn sums<T: Scalar, const N: usize, const M: usize>(
    rows: [&[T]; N],
    f: impl Fn([f32; N]) -> [f32; M],
) -> [f32; M] {
    const LANES: usize = 16;
    let mut lanes = [[0f32; LANES]; M];
    let chunks = rows.map(|row| row.as_chunks::<LANES>());
    let (count, rest) = (chunks[0].0.len(), chunks[0].1.len());
    for i in 0..count {
        let chunk = chunks.map(|(chunks, _)| &chunks[i]);
        for lane in 0..LANES {
            let values = f(chunk.map(|chunk| chunk[lane].to_f32()));
            lanes.iter_mut().zip(values).for_each(|(sums, value)| sums[lane] += value);
        }
    }
    for i in 0..rest {
        let values = f(chunks.map(|(_, rest)| rest[i].to_f32()));
        lanes.iter_mut().zip(values).for_each(|(sums, value)| sums[i] += value);
    }
    lanes.map(|sums| sums.iter().sum())
}
