//! Planning a chunk's memory: one forward and backward on the meta device, recorded.

use std::sync::Arc;

use slimpipe_allocator::{Recorder, UnitPlan, scope};
use slimpipe_autograd::backward;
use slimpipe_runtime::{DType, Device, RawTensor};

use super::exchange::{self, Exchange};
use super::unit::{forward, tokens_or_hidden};
use super::{Result, SliceContext, Stage, StageSpec};

/// The plan of the units of `stage`: exactly the allocations that the executor's forward and
/// backward make, in the same order, without memory.
pub(crate) fn plan(
    stage: &dyn Stage,
    spec: &StageSpec,
    exchange: Option<&Arc<Exchange>>,
) -> Result<UnitPlan> {
    let recorder = Recorder::new();
    let mut caches = exchange::caches(exchange, spec);
    let (width, dtype) = stage.hidden();
    let rows = spec.slice_len;

    let forward_phase = recorder.forward();
    let (input, leaf) = {
        let _layer = scope::layer(spec.layers.start as u32);
        if spec.is_first() {
            tokens_or_hidden(RawTensor::empty(rows, DType::U32, Device::Meta, "tokens")?)
        } else {
            tokens_or_hidden(RawTensor::empty((rows, width), dtype, Device::Meta, "receive")?)
        }
    };
    let labels = match spec.is_last() {
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
    if !spec.is_last() {
        recorder.mark_comm(output.storage().allocation());
    }
    drop(output);
    drop(forward_phase);
    drop(caches);

    let backward_phase = recorder.backward();
    let grad = if spec.is_last() {
        RawTensor::empty((), DType::F32, Device::Meta, "loss_gradient")?
    } else {
        RawTensor::empty((rows, width), dtype, Device::Meta, "receive")?
    };
    if let Some(gradient) = backward(root, grad, leaf.as_ref())? {
        recorder.mark_comm(gradient.storage().allocation());
    }
    drop(leaf);
    drop(backward_phase);
    Ok(recorder.finish())
}
