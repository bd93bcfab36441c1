//! Ranks that are threads of one process, on the mock.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use slimpipe_kernels::cuda::Context;
use slimpipe_mock::Alone;
use slimpipe_pipeline::comm::CommError;
use slimpipe_pipeline::comm::nccl::{NcclGroup, Rendezvous};
use slimpipe_runtime::stream::Streams;
use slimpipe_runtime::{Device, RawTensor};

/// Longer than any test takes on a busy machine.
const HANG: Duration = Duration::from_secs(120);

/// Keeps other tests off the mocks, and brings their settings back.
pub struct Mocks {
    _nccl: Alone<'static>,
    _driver: Alone<'static>,
}

/// The mocks for one test. Ranks share the one GPU there is.
pub fn mocks() -> Mocks {
    let (driver, nccl) = (slimpipe_mock::driver(), slimpipe_mock::nccl());
    let mocks = Mocks { _nccl: nccl.alone(), _driver: driver.alone() };
    nccl.set("share_devices", true);
    mocks
}

/// A rank: its group and its streams, which its thread has entered.
pub struct Rank {
    pub group: NcclGroup,
    pub streams: Streams,
}

impl Rank {
    /// A tensor of the GPU.
    pub fn tensor(&self, values: &[f32]) -> RawTensor {
        RawTensor::from_slice(values, values.len(), Device::Cuda(0)).unwrap()
    }

    /// Runs `calls` on the rank's communication stream, behind what it computed and before what it will.
    pub fn communicate(
        &self,
        what: &str,
        calls: impl FnOnce(&slimpipe_pipeline::comm::nccl::Calls<'_>) -> Result<(), CommError>,
    ) -> Result<(), CommError> {
        let (compute, comm) = (self.streams.compute(), self.streams.communication());
        let event = slimpipe_kernels::cuda::Event::pooled(compute.context()).unwrap();
        compute.record(&event).unwrap();
        comm.wait(&event).unwrap();
        self.group.together(what, comm, calls)?;
        self.group.wait(comm)
    }
}

/// Runs `body` on `size` ranks and gives what each came to, by rank. A rank that hangs fails the test.
pub fn launch<T: Send + 'static>(
    size: u32,
    timeout: Duration,
    body: impl Fn(Rank) -> Result<T, CommError> + Clone + Send + 'static,
) -> Vec<Result<T, CommError>> {
    let rendezvous = Rendezvous::threads();
    let (done, results) = channel();
    for rank in 0..size {
        let (done, body, rendezvous) = (done.clone(), body.clone(), rendezvous.clone());
        thread::spawn(move || {
            let run = || {
                let streams = Streams::new(0).unwrap();
                let _entered = streams.enter();
                let context = Context::of(0).unwrap();
                let group = NcclGroup::all(context, (rank, size), &rendezvous, timeout)?;
                body(Rank { group, streams: streams.clone() })
            };
            let _ = done.send((rank, run()));
        });
    }
    let mut all: Vec<_> = (0..size)
        .map(|_| match results.recv_timeout(HANG) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => panic!("a rank hangs"),
            Err(RecvTimeoutError::Disconnected) => panic!("a rank panicked"),
        })
        .collect();
    all.sort_by_key(|(rank, _)| *rank);
    all.into_iter().map(|(_, result)| result).collect()
}
