//! Running a group in one process: a thread per rank, each with a GPU.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slimpipe_kernels::cuda::Context;

use super::{Library, NcclComm, NcclGroup, Rendezvous, watchdog};
use crate::comm::{CommError, threads};

/// The oldest NCCL for threads on several GPUs: in one process, older ones write straight into the memory of the
/// receiver, to which its own GPU alone has access here.
const OLDEST: [u32; 3] = [2, 24, 1];

/// Why ranks on `gpus` cannot be threads with that version of NCCL.
fn refusal([major, minor, patch]: [u32; 3], gpus: &[u32]) -> Option<CommError> {
    let several = gpus.iter().any(|gpu| *gpu != gpus[0]);
    let what = format!(
        "it is NCCL {major}.{minor}.{patch}, and ranks on several GPUs that are threads of one process need 2.24 or newer, or else a process for each rank"
    );
    ([major, minor, patch] < OLDEST && several).then_some(CommError::NoNccl { what })
}

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
    if let Some(refusal) = refusal(Library::load()?.version(), gpus) {
        return Err(refusal.into());
    }
    let (rendezvous, size) = (Rendezvous::threads(), gpus.len() as u32);
    let (ends, process) = ((0..).zip(gpus.iter().copied()).collect(), Process::default());
    threads::run(ends, &process, |(rank, gpu)| {
        let context = Context::of(gpu).map_err(|error| CommError::cuda(rank, &error))?;
        let group = NcclGroup::all(context, (rank, size), &rendezvous, timeout)?;
        body(NcclComm::of_process(group, capacity, process.broken.clone())?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_on_several_gpus_are_refused_where_nccl_would_write_into_each_others_memory() {
        let told = refusal([2, 23, 4], &[0, 1]).unwrap().to_string();
        assert!(told.contains("it is NCCL 2.23.4") && told.contains("a process for each rank"));
        for (version, gpus) in [([2, 24, 3], &[0, 1][..]), ([2, 18, 1], &[1, 1]), ([2, 18, 1], &[])]
        {
            assert_eq!(refusal(version, gpus), None);
        }
    }
}
