//! Rotary position embedding, half-split (the Hugging Face layout): in each head, elements j and
//! j + d/2 are rotated by the angle position * frequency(j).
//!
//! A table holds the rotations of one slice's local positions; a slice that starts at `offset`
//! combines them with the rotation of `offset` by the addition theorem. So the table is as long as
//! a slice, not as the context, and angles are exact (f64) at any position. Backward rotates back.

use slimpipe_kernels::cpu::rope as kernel;
use slimpipe_runtime::{DType, Device, RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{mismatch, with_float};

/// The rotations of positions 0..rows.
#[derive(Clone, Debug)]
pub struct RopeTable {
    frequencies: Vec<f64>,
    cos: RawTensor,
    sin: RawTensor,
    /// Scales cos and sin; 1 except for some long-context schemes.
    rows: usize,
}

impl RopeTable {
    /// The table of `rows` positions for `frequencies` (radians per position, one per element pair).
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(frequencies: Vec<f64>, rows: usize) -> Result<Self> {
        let angles = (0..rows).flat_map(|row| frequencies.iter().map(move |f| row as f64 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) =
            angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        let shape = (rows, frequencies.len());
        Ok(Self {
            cos: RawTensor::from_slice(&cos, shape, Device::Cpu)?,
            sin: RawTensor::from_slice(&sin, shape, Device::Cpu)?,
            frequencies,
            rows,
        })
    }

    /// Positions the table covers.
    pub fn rows(&self) -> usize {
        self.rows
    }
}

/// Rotates `x` [rows, heads, head_dim], whose first row is at position `offset`; `inverse` rotates
/// back.
///
/// # Errors
/// Another shape, more rows than the table has, out of memory.
#[track_caller]
pub fn rope(x: &RawTensor, table: &RopeTable, offset: usize, inverse: bool) -> Result<RawTensor> {
    const OP: &str = "rope";
    let &[rows, heads, head_dim] = x.dims() else {
        return Err(mismatch(OP, format!("expected [rows, heads, head_dim], got {}", x.shape())));
    };
    let half = table.frequencies.len();
    if head_dim != 2 * half || rows > table.rows {
        let what = format!(
            "a table of {} rows for head size {} cannot rotate {}",
            table.rows,
            2 * half,
            x.shape()
        );
        return Err(mismatch(OP, what));
    }
    let x = contiguous(x)?;
    let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device(), OP)?;
    if y.is_meta() {
        return Ok(y);
    }
    let angle = |f: &f64| offset as f64 * f;
    let base_cos: Vec<f32> = table.frequencies.iter().map(|f| angle(f).cos() as f32).collect();
    let base_sin: Vec<f32> = table.frequencies.iter().map(|f| angle(f).sin() as f32).collect();
    let cos = &table.cos.slice::<f32>(OP)?[..rows * half];
    let sin = &table.sin.slice::<f32>(OP)?[..rows * half];
    with_float!(OP, x.dtype(), T => {
        let (from, to) = (x.slice::<T>(OP)?, y.slice_mut::<T>(OP)?);
        kernel::apply(&team::current(), from, heads, head_dim, cos, sin, &base_cos, &base_sin, inverse, to);
        Ok(())
    })?;
    debug_assert_eq!(table.cos.dtype(), DType::F32);
    Ok(y)
}
