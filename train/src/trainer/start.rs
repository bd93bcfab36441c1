//! What a run needs to know before its ranks start, and how a launched process becomes one of them.

use std::time::Duration;

use slimpipe_kernels::cpu::peak::{PeakKind, peak_gflops};
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::Context;
use slimpipe_pipeline::comm::Communicator;
use slimpipe_pipeline::comm::environment::Place;
use slimpipe_pipeline::comm::nccl::{NcclComm, NcclGroup, Rendezvous};
use slimpipe_runtime::{DType, Error as TensorError, team};

use super::Output;
use crate::Result;
use crate::config::Job;

/// How long ranks on GPUs of their own wait for each other.
pub(super) fn timeout(job: &Job) -> Duration {
    Duration::from_secs(job.config.parallel.timeout.into())
}

/// The communicator of this process, one of those that a launcher started: they meet in the run's folder,
/// or where `NCCL_COMM_ID` says.
pub(super) fn launched(
    job: &Job,
    place: Place,
    gpu: u32,
    output: Option<&Output>,
) -> Result<Box<dyn Communicator>> {
    let rendezvous = match output {
        Some(output) if std::env::var_os("NCCL_COMM_ID").is_none() => {
            Rendezvous::Folder(output.run.rendezvous())
        }
        _ => Rendezvous::Bootstrap,
    };
    let context = Context::of(gpu).map_err(TensorError::from)?;
    let group = NcclGroup::all(context, (place.rank, place.size), &rendezvous, timeout(job))?;
    Ok(Box::new(NcclComm::new(group, job.schedule.channel_capacity())?))
}

/// Dense bf16 peak of a Hopper GPU, H100, H200 or H800 (NVIDIA's data sheets): what MFU is a share of, in f32
/// too, as everywhere.
const HOPPER_FLOPS: f64 = 989.4e12;

/// The floating-point operations per second that what computes reaches at most.
pub(super) fn peak_flops(job: &Job) -> f64 {
    if job.ranks.gpus() > 0 {
        return HOPPER_FLOPS * f64::from(job.ranks.gpus());
    }
    let threads = Threads::new(team::cores()).unwrap_or_default();
    let kind = if job.dtype == DType::BF16 { PeakKind::Bf16 } else { PeakKind::F32 };
    peak_gflops(&threads, kind) * 1e9
}
