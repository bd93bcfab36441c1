//! Rotary position embedding, half-split (the Hugging Face layout): in each head, elements j and
//! j + d/2 are rotated by the angle position * frequency(j).
//!
//! A table holds the rotations of one slice's local positions; a slice that starts at `offset`
//! combines them with the rotation of `offset` by the addition theorem. So the table is as long as
//! a slice, not as the context, and angles are exact (f64) at any position. Backward rotates back.

use slimpipe_kernels::cpu::rope as kernel;
use slimpipe_kernels::cpu::simd::Scalar;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::rope as gpu_kernel;
use slimpipe_runtime::{DType, Device, Element, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{float, mismatch, with_float};
use crate::gpu::Place;
use crate::runs::BLOCK;

const OP: &str = "rope";

/// The rotations of positions 0..rows.
#[derive(Clone, Debug)]
pub struct RopeTable {
    frequencies: Vec<f64>,
    /// [rows, frequencies], f32.
    cos: RawTensor,
    sin: RawTensor,
}

impl RopeTable {
    /// The table of `rows` positions for `frequencies` (radians per position, one per element pair), to be used on
    /// `device`.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn new(frequencies: Vec<f64>, rows: usize, device: Device) -> Result<Self> {
        let angles = (0..rows).flat_map(|row| frequencies.iter().map(move |f| row as f64 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        let shape = (rows, frequencies.len());
        Ok(Self {
            cos: RawTensor::from_slice(&cos, shape, device)?,
            sin: RawTensor::from_slice(&sin, shape, device)?,
            frequencies,
        })
    }

    /// Positions the table covers.
    pub fn rows(&self) -> usize {
        self.cos.dims()[0]
    }
}

/// Rotates `x` [rows, heads, head_dim], whose first row is at position `offset`; `inverse` rotates
/// back. The result is written over `x` if nobody else holds it.
///
/// # Errors
/// Another shape, more rows than the table has, not a float tensor, out of memory.
#[track_caller]
pub fn rope(
    mut x: RawTensor,
    table: &RopeTable,
    offset: usize,
    inverse: bool,
) -> Result<RawTensor> {
    let dtype = float(OP, &x)?;
    let &[rows, _, head_dim] = x.dims() else {
        return Err(mismatch(OP, format!("expected [rows, heads, head_dim], got {}", x.shape())));
    };
    let half = table.frequencies.len();
    if head_dim != 2 * half || rows > table.rows() {
        let (most, size) = (table.rows(), 2 * half);
        let what =
            format!("a table of {most} rows for head size {size} cannot rotate {}", x.shape());
        return Err(mismatch(OP, what));
    }
    if x.layout().is_contiguous() && x.is_unique() {
        rotate(None, &mut x, dtype, table, offset, inverse)?;
        return Ok(x);
    }
    let x = contiguous(&x)?;
    let mut y = RawTensor::empty(*x.shape(), dtype, x.device(), OP)?;
    rotate(Some(&x), &mut y, dtype, table, offset, inverse)?;
    Ok(y)
}

/// Rotates `from`, or `to` itself, into `to`.
fn rotate(
    from: Option<&RawTensor>,
    to: &mut RawTensor,
    dtype: DType,
    table: &RopeTable,
    offset: usize,
    inverse: bool,
) -> Result<()> {
    let base = |f: fn(f64) -> f64| -> Vec<f32> {
        table.frequencies.iter().map(|frequency| f(offset as f64 * frequency) as f32).collect()
    };
    match Place::of(OP, to.device())? {
        Place::Meta => Ok(()),
        Place::Cpu => {
            let base = (&base(f64::cos)[..], &base(f64::sin)[..]);
            with_float!(OP, dtype, T => rotate_on_cpu::<T>(from, to, table, base, inverse))
        }
        Place::Gpu(gpu) => {
            let (stream, dtype) = (gpu.stream(), gpu.float(dtype)?);
            let &[rows, heads, head_dim] = to.dims() else { return Ok(()) };
            let (cos, sin) = (gpu.read(&table.cos)?, gpu.read(&table.sin)?);
            let (base_cos, base_sin) = (base(f64::cos), base(f64::sin));
            let y = gpu.write(to)?;
            let x = from.map_or(Ok(y), |from| gpu.read(from))?;
            // SAFETY: tensors of that many elements on the GPU.
            unsafe {
                gpu_kernel::apply(
                    stream, dtype, x, rows, heads, head_dim, cos, sin, &base_cos, &base_sin,
                    inverse, y,
                )?;
            }
            Ok(())
        }
    }
}

fn rotate_on_cpu<T: Scalar + Element>(
    from: Option<&RawTensor>,
    to: &mut RawTensor,
    table: &RopeTable,
    (base_cos, base_sin): (&[f32], &[f32]),
    inverse: bool,
) -> Result<()> {
    let (heads, head_dim) = (to.dims()[1], to.dims()[2]);
    let (width, half) = (heads * head_dim, head_dim / 2);
    let (cos, sin) = (table.cos.slice::<f32>(OP)?, table.sin.slice::<f32>(OP)?);
    let from = from.map(|from| from.slice::<T>(OP)).transpose()?;
    let to = to.slice_mut::<T>(OP)?;
    if to.is_empty() {
        return Ok(());
    }
    let rows = (BLOCK / width).max(1);
    let alone = Threads::default();
    team::current().chunks(to, rows * width, |task, to| {
        // In place, a task's rows are first moved aside: they fit a core's own cache.
        let aside;
        let from = match from {
            Some(from) => &from[task * rows * width..][..to.len()],
            None => {
                aside = to.to_vec();
                &aside
            }
        };
        let local = task * rows * half..(task * rows + to.len() / width) * half;
        let (cos, sin) = (&cos[local.clone()], &sin[local]);
        kernel::apply(&alone, from, heads, head_dim, cos, sin, base_cos, base_sin, inverse, to);
    });
    Ok(())
}
