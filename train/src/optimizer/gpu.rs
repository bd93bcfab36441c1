//! The optimizer on a GPU: all parameters of a rank in a few launches.

use slimpipe_kernels::cuda::{DevicePtr, adamw, reduce};
use slimpipe_runtime::{DType, Device, Error as TensorError, RawTensor, stream};

use super::{AdamWConfig, State};
use crate::Result;

const OP: &str = "adamw";

/// The sum of squares of the gradients of `states` on GPU `ordinal`. Waits for it: the host decides what the
/// learning rate is scaled by.
///
/// # Errors
/// A gradient's memory is gone, or the GPU fails.
pub(super) fn grad_sum_squares<'a>(
    ordinal: u32,
    states: impl Iterator<Item = &'a State>,
) -> Result<f64> {
    let mut tensors = Vec::new();
    for state in states {
        if let Some(grad) = state.parameter.grad().get() {
            tensors.push((share(grad, state)?, state.share.len()));
        }
    }
    // Eight bytes: an f64, for which tensors have no dtype.
    let mut total = RawTensor::empty(1, DType::I64, Device::Cuda(ordinal), "grad_norm")?;
    let (streams, at) = (stream::current(ordinal)?, total.device_ptr_mut("grad_norm")?);
    // SAFETY: addresses of tensors of so many elements, whose memory is used in the order of this stream.
    let added = unsafe { reduce::sum_squares(streams.compute(), &tensors, at, false) };
    added.map_err(TensorError::from)?;
    Ok(f64::from_bits(total.to_vec::<i64>()?[0] as u64))
}

/// One step of all `states`; `settings` are those of every parameter but for its weight decay.
///
/// # Errors
/// A parameter's value is held elsewhere, memory is gone, or the GPU fails.
pub(super) fn step(
    ordinal: u32,
    states: &mut [State],
    settings: adamw::AdamW,
    config: &AdamWConfig,
    grad_scale: f32,
) -> Result<()> {
    let mut parameters = Vec::with_capacity(states.len());
    for state in states {
        let mut value = state.parameter.value_mut();
        let weight_decay = config.decay(&value);
        let grad = state.parameter.grad();
        let Some(grad) = grad.get() else { continue };
        let grad = share(grad, state)?;
        let size = value.dtype().size() as u64;
        let own = value.device_ptr_mut(OP)?.offset(state.share.start as u64 * size);
        let (weight, model_weight) = match &mut state.master {
            Some(master) => (master.device_ptr_mut(OP)?, own),
            None => (own, DevicePtr::NULL),
        };
        let (m, v) = (state.exp_avg.device_ptr_mut(OP)?, state.exp_avg_sq.device_ptr_mut(OP)?);
        let len = state.share.len();
        parameters.push(adamw::Parameter { weight, model_weight, grad, m, v, len, weight_decay });
    }
    let streams = stream::current(ordinal)?;
    // SAFETY: addresses of tensors of so many elements, whose memory is used in the order of this stream; those
    // that are written nobody else holds.
    let stepped = unsafe {
        adamw::step(streams.compute(), settings, &parameters, grad_scale, DevicePtr::NULL)
    };
    Ok(stepped.map_err(TensorError::from)?)
}

/// Where the elements of a gradient are that `state` is of.
fn share(grad: &RawTensor, state: &State) -> Result<DevicePtr> {
    Ok(grad.device_ptr(OP)?.offset((state.share.start * size_of::<f32>()) as u64))
}
