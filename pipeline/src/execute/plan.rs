//! Planning a chunk's memory: one forward and backward on the meta device, recorded.

use std::sync::Arc;

use slimpipe_allocator::{Recorder, UnitPlan, scope};
use slimpipe_autograd::{backward, backward_input};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::exchange::{self, Exchange};
use super::unit::{forward, tokens_or_hidden};
use super::{Result, SliceContext, Stage, StageSpec};
use crate::schedule::Slices;

/// The plans of the units of `stage` by slice, or one for all if slices are equally long;
/// `in_parts` if their backward is in two parts.
pub(crate) fn plans(
    stage: &dyn Stage,
    spec: &StageSpec,
    slices: &Slices,
    in_parts: bool,
    exchange: Option<&Arc<Exchange>>,
) -> Result<Vec<UnitPlan>> {
    let (shortest, longest) = slices.extremes();
    let of = |rows| plan(stage, spec, rows, in_parts, exchange);
    match shortest == longest {
        true => Ok(vec![of(longest)?]),
        false => slices.lengths().map(of).collect(),
    }
}

/// The plan of units of `rows` tokens: exactly the allocations that the executor's forward and
/// backward make, in the same order, without memory.
fn plan(
    stage: &dyn Stage,
    spec: &StageSpec,
    rows: usize,
    in_parts: bool,
    exchange: Option<&Arc<Exchange>>,
) -> Result<UnitPlan> {
    let recorder = Recorder::new();
    let mut caches = exchange::caches(exchange, spec);
    let (width, dtype) = stage.hidden();

    let forward_phase = recorder.forward();
    let (input, leaf) = {
        let _layer = scope::layer(spec.layers.start as u32);
        if spec.reads_tokens() {
            tokens_or_hidden(RawTensor::empty(rows, DType::U32, Device::Meta, "tokens")?)
        } else {
            let input = RawTensor::empty((rows, width), dtype, Device::Meta, "receive")?;
            if spec.is_first() {
                drop(packed(&input)?);
            }
            tokens_or_hidden(input)
        }
    };
    let labels = match spec.gives_loss() {
        true => Some(RawTensor::empty(rows, DType::I64, Device::Meta, "labels")?),
        false => None,
    };
    let mut cx = SliceContext {
        offset: 0,
        labels,
        loss_scale: 1.0,
        first_layer: spec.layers.start,
        caches: &mut caches,
    };
    let (output, root) = forward(stage, spec, input, &mut cx)?;
    drop(cx);
    let mut head = None;
    if !spec.is_last() {
        recorder.mark_comm(output.storage().allocation());
    } else if !spec.gives_loss() {
        head = Some(head_memory(&output)?);
    }
    drop(output);
    drop(forward_phase);
    drop(caches);

    let backward_phase = recorder.backward();
    let grad = match head {
        Some(gradient) => gradient,
        None if spec.is_last() => loss_gradient(Device::current(), true)?,
        None => RawTensor::empty((rows, width), dtype, Device::Meta, "receive")?,
    };
    let (gradient, weights) = if in_parts {
        let (gradient, weights) = backward_input(root, grad, leaf.as_ref())?;
        (gradient, Some(weights))
    } else {
        (backward(root, grad, leaf.as_ref())?, None)
    };
    if let Some(gradient) = gradient {
        recorder.mark_comm(gradient.storage().allocation());
    }
    drop(leaf);
    drop(backward_phase);
    if let Some(weights) = weights {
        let _weight_phase = recorder.weight();
        weights.run()?;
    }
    Ok(recorder.finish())
}

/// The gradient of the loss, 1, of a rank on `device`; its shape if it is planned. It is read by the host, so
/// on a GPU's rank, too, it lies there, outside the unit.
pub(crate) fn loss_gradient(device: Device, planned: bool) -> Result<RawTensor> {
    match device {
        Device::Cpu if planned => {
            Ok(RawTensor::empty((), DType::F32, Device::Meta, "loss_gradient")?)
        }
        _ => Ok(RawTensor::from_slice(&[1f32], (), Device::Cpu)?),
    }
}

/// Memory for the rows of `input`, which all ranks make together, rank after rank.
pub(crate) fn packed(input: &RawTensor) -> Result<RawTensor> {
    Ok(RawTensor::empty(*input.shape(), input.dtype(), input.device(), "receive")?)
}

/// Memory of a unit for its `output`, where all ranks run the output layer on it: it becomes the
/// output's gradient.
pub(crate) fn head_memory(output: &RawTensor) -> Result<RawTensor> {
    Ok(RawTensor::empty(*output.shape(), output.dtype(), output.device(), "head_loss")?)
}
