//! SwiGLU: y = silu(gate) up with silu(g) = g s, s = sigmoid(g).
//!
//! Backward: dup = dy silu(gate), dgate = dy up s (1 + gate (1 - s)).

use slimpipe_kernels::cpu::swiglu as kernel;
use slimpipe_kernels::cuda::swiglu as gpu_kernel;
use slimpipe_runtime::{RawTensor, Result, team};

use crate::copy::contiguous;
use crate::dispatch::{same_dtype, same_float, same_shape, with_float};
use crate::gpu::Place;

/// silu(gate) * up, elementwise on equal shapes.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn swiglu(gate: &RawTensor, up: &RawTensor) -> Result<RawTensor> {
    const OP: &str = "swiglu";
    same_shape(OP, gate, up)?;
    let dtype = same_float(OP, gate, up)?;
    let (gate, up) = (contiguous(gate)?, contiguous(up)?);
    let device = gate.device().join(up.device());
    let mut out = RawTensor::empty(*gate.shape(), dtype, device, OP)?;
    match Place::of(OP, device)? {
        Place::Meta => {}
        Place::Cpu => with_float!(OP, dtype, T => {
            let (g, u) = (gate.slice::<T>(OP)?, up.slice::<T>(OP)?);
            kernel::forward(&team::current(), g, u, out.slice_mut::<T>(OP)?);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, len) = (gpu.float(dtype)?, out.elem_count());
            let (g, u, y) = (gpu.read(&gate)?, gpu.read(&up)?, gpu.write(&mut out)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::forward(gpu.stream(), dtype, g, u, len, y)? };
        }
    }
    Ok(out)
}

/// The gradients of gate and up.
///
/// # Errors
/// Shapes or dtypes that differ, out of memory.
#[track_caller]
pub fn swiglu_backward(
    gate: &RawTensor,
    up: &RawTensor,
    dy: &RawTensor,
) -> Result<(RawTensor, RawTensor)> {
    const OP: &str = "swiglu_backward";
    same_shape(OP, gate, up)?;
    same_shape(OP, gate, dy)?;
    same_dtype(OP, gate, up)?;
    let dtype = same_float(OP, gate, dy)?;
    let (gate, up, dy) = (contiguous(gate)?, contiguous(up)?, contiguous(dy)?);
    let mut dgate = RawTensor::empty(*gate.shape(), dtype, gate.device(), OP)?;
    let mut dup = RawTensor::empty(*gate.shape(), dtype, gate.device(), OP)?;
    match Place::of(OP, dgate.device())? {
        Place::Meta => {}
        Place::Cpu => with_float!(OP, dtype, T => {
            let (g, u, dy) = (gate.slice::<T>(OP)?, up.slice::<T>(OP)?, dy.slice::<T>(OP)?);
            let (dg, du) = (dgate.slice_mut::<T>(OP)?, dup.slice_mut::<T>(OP)?);
            kernel::backward(&team::current(), g, u, dy, dg, du);
            Ok(())
        })?,
        Place::Gpu(gpu) => {
            let (dtype, len) = (gpu.float(dtype)?, dgate.elem_count());
            let (g, u, dy) = (gpu.read(&gate)?, gpu.read(&up)?, gpu.read(&dy)?);
            let (dg, du) = (gpu.write(&mut dgate)?, gpu.write(&mut dup)?);
            // SAFETY: tensors of that many elements on the GPU.
            unsafe { gpu_kernel::backward(gpu.stream(), dtype, g, u, dy, len, dg, du)? };
        }
    }
    Ok((dgate, dup))
}
