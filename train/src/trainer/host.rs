//! Whether this machine can hold a run at all.

use slimpipe_allocator::Bytes;
use slimpipe_runtime::DType;

use crate::config::Job;
use crate::{Error, Result};

/// Refuses a model whose weights, gradients and optimizer state alone are more than this machine's
/// free memory: the system would grant the pages, and end the process when they are written.
///
/// # Errors
/// Says how much is missing.
pub(super) fn check_host(job: &Job) -> Result<()> {
    // On every data rank the weight and an f32 gradient; once, two f32 moments and, where the weight is
    // not f32, its master.
    let (each, once) = if job.dtype == DType::F32 { (8, 8) } else { (6, 12) };
    let per_parameter = u64::from(job.schedule.data_ranks()) * each + once;
    let needed = job.model.parameter_count().saturating_mul(per_parameter);
    match available() {
        Some(available) if needed > available => {
            let what = format!(
                "the model's {} parameters take {} with gradients and optimizer state, and this machine has {} free; choose a smaller model",
                job.model.parameter_count(),
                Bytes(needed),
                Bytes(available)
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
