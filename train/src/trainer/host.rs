//! Whether this machine can hold a run at all.

use slimpipe_allocator::Bytes;
use slimpipe_kernels::cuda::Context;
use slimpipe_runtime::{DType, Device, Error as TensorError};

use crate::config::Job;
use crate::{Error, Result};

/// Refuses a model whose weights, gradients and optimizer state alone are more than the free memory of
/// what computes: an operating system would grant the pages, and end the process when they are written.
///
/// # Errors
/// Says how much is missing.
pub(super) fn check_host(job: &Job) -> Result<()> {
    // On every data rank the weight and an f32 gradient; once, two f32 moments and, where the weight is
    // not f32, its master.
    let (each, once) = if job.dtype == DType::F32 { (8, 8) } else { (6, 12) };
    let per_parameter = u64::from(job.schedule.data_ranks()) * each + once;
    // What GPUs hold together counts in equal parts.
    let needed = job.model.parameter_count().saturating_mul(per_parameter);
    let needed = needed / u64::from(job.ranks.gpus().max(1));
    let (free, who) = match job.ranks.device(0) {
        Device::Cuda(ordinal) => (Some(gpu_memory(ordinal)?), "the GPU"),
        Device::Cpu | Device::Meta => (available(), "this machine"),
    };
    match free {
        Some(free) if needed > free => {
            let what = format!(
                "the model's {} parameters take {} with gradients and optimizer state, and {who} has {} free; choose a smaller model",
                job.model.parameter_count(),
                Bytes(needed),
                Bytes(free)
            );
            let setting =
                job.config.model.path.as_ref().map_or("model.hidden_size", |_| "model.path");
            Err(Error::setting(setting, what))
        }
        _ => Ok(()),
    }
}

/// Bytes that processes can still take, where the system tells.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Free bytes of a GPU.
fn gpu_memory(ordinal: u32) -> Result<u64> {
    let free = Context::of(ordinal).and_then(|context| Ok(context.memory()?.0));
    Ok(free.map_err(TensorError::from)?)
}
