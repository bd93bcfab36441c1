//! Running a group in one process: a thread per rank, each with a GPU.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slimpipe_kernels::cuda::Context;

use super::{NcclComm, NcclGroup, Rendezvous, watchdog};
use crate::comm::{CommError, threads};

/// The ranks of the process: they end together.
#[derive(Default)]
struct Process {
    broken: Arc<Mutex<Option<u32>>>,
}

impl threads::Told for Process {
    fn left(&self, _: u32) {}

    fn failed(&self, rank: u32, reason: String) {
        watchdog::fail_all(&CommError::PeerFailed { rank, reason });
    }

    fn first(&self) -> Option<u32> {
        *self.broken.lock()
    }
}

/// Runs `body` on a thread for each of `gpus`, one per rank, and gives what each returned, by rank. In each
/// lane at most `capacity` messages wait before computation does.
///
/// If a rank fails or panics, every other rank's current or next communication fails too.
///
/// # Errors
/// The error of the rank that failed first; no NCCL; ranks that do not come within `timeout`.
pub fn launch<T, E>(
    gpus: &[u32],
    capacity: usize,
    timeout: Duration,
    body: impl Fn(NcclComm) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E>
where
    T: Send,
    E: From<CommError> + Display + Send,
{
    let (rendezvous, size) = (Rendezvous::threads(), gpus.len() as u32);
    let (ends, process) = ((0..).zip(gpus.iter().copied()).collect(), Process::default());
    threads::run(ends, &process, |(rank, gpu)| {
        let context = Context::of(gpu).map_err(|error| CommError::cuda(rank, &error))?;
        let group = NcclGroup::all(context, (rank, size), &rendezvous, timeout)?;
        body(NcclComm::of_process(group, capacity, process.broken.clone())?)
    })
}
