//! The accounting of the planner of SlimPipe's authors, as its published tables show it.

use slimpipe_pipeline::schedule::{Schedule, ScheduleKind};

use super::{Memory, Setup, Workload};
use crate::model::Recompute;
use crate::plan::Layout;
use crate::{Error, Result};

/// What `setup` holds. All figures are of rank 0, which holds most activations. Weights and
/// activations have two bytes, gradients and logits four; norms are left out.
///
/// # Errors
/// A schedule that the authors' planner does not know.
pub fn memory(work: &Workload, setup: &Setup) -> Result<Memory> {
    let Layout { tensor, context, pipeline, expert, data, slices, chunks } = setup.layout;
    let [t, c, p, e, d, n, v] =
        [tensor, context, pipeline, expert, data, slices, chunks].map(f64::from);
    let (model, dense) = (&work.model, &work.model.dense);
    let (h, q) = (dense.hidden_size as f64, (dense.num_attention_heads * dense.head_dim) as f64);
    let kv = (dense.num_key_value_heads * dense.head_dim) as f64;
    let inner = f64::from(model.mlps_per_token()) * dense.intermediate_size as f64;
    let layers = dense.num_hidden_layers as f64 / p;
    let is_sliced = setup.schedule == ScheduleKind::SlimPipe;

    // Weights. The vocabulary is dealt to all ranks of a sliced pipeline, else it is on the first.
    let attention = layers * model.attention_weights() as f64 / t;
    let table = model.table_weights() as f64 / if is_sliced { t * p } else { t };
    let mlps = layers * model.mlp_weights() as f64 * f64::from(model.mlps());
    let (shared, experts) = match model.experts {
        None => (attention + mlps / t + table, 0.0),
        Some(_) => (attention + table, mlps / (e * t)),
    };

    // Activations: units of l layers, each a slice on this rank.
    let tokens = work.context as f64 / (t * c);
    let saved = match setup.recompute {
        Recompute::None => 6.0 * h + 6.0 * q + 4.0 * kv + 6.0 * inner,
        Recompute::Partial => 4.0 * h + 4.0 * q + 4.0 * kv,
        Recompute::Full => 2.0 * h,
    };
    let in_flight = in_flight(setup)?;
    let per_unit = layers / (n * v); // layers of whole microbatches
    let offloaded = match setup.offload {
        0.0 => 0.0,
        share => share * (in_flight - 4.0).max(0.0),
    };

    let keeps_kv = is_sliced && (setup.recompute == Recompute::Full || offloaded > 0.0);
    let kv_units = if offloaded > 0.0 { in_flight - 2.0 } else { in_flight };
    let again = match setup.recompute {
        Recompute::None => 0.0,
        Recompute::Partial => 6.0 * inner,
        Recompute::Full if is_sliced => 6.0 * h + 6.0 * q + 6.0 * inner,
        Recompute::Full => 6.0 * h + 6.0 * q + 4.0 * kv + 6.0 * inner,
    };
    let g = f64::from(setup.group());
    let kv_gradients = (v - 1.0) * (n - g) + 2.0 * (n - 1.0);
    let only = |holds: bool, bytes: f64| if holds { bytes } else { 0.0 };
    Ok(Memory {
        params_grads: 6.0 * (shared + experts),
        optimizer: 12.0 * (shared + experts * e) / (d * c),
        activations: tokens * saved * per_unit * (in_flight - offloaded),
        logits: only(is_sliced, tokens * dense.vocab_size as f64 * 4.0 / p),
        recompute: tokens / n * again,
        kv_cache: only(keeps_kv, tokens * 4.0 * kv * per_unit * kv_units),
        kv_grad: only(is_sliced, tokens / n * 4.0 * q * layers / v * kv_gradients),
        peak: 0.0,
    }
    .sum())
}

/// Units in flight on rank 0, in a step of so many microbatches that none is missing.
fn in_flight(setup: &Setup) -> Result<f64> {
    let Layout { pipeline, slices, chunks, .. } = setup.layout;
    match setup.schedule {
        ScheduleKind::SlimPipe | ScheduleKind::OneFOneB | ScheduleKind::Interleaved => {
            let enough = 2 * pipeline;
            let schedule = Schedule::new(setup.schedule, pipeline, slices, enough, chunks)?;
            Ok(schedule.in_flight_peak(0) as f64)
        }
        other => {
            let what = format!(
                "the authors' planner does not count `{other}`; it counts slimpipe, 1f1b and interleaved-1f1b"
            );
            Err(Error::setting("--accounting", what))
        }
    }
}
