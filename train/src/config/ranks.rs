//! Where a run's ranks are, and on what they compute.

use slimpipe_kernels::cuda::driver;
use slimpipe_pipeline::comm::environment::Place;
use slimpipe_runtime::Device;

use super::Config;
use crate::{Error, Result};

/// Where a run's ranks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranks {
    /// Threads of this process, on the CPU or all on one GPU.
    Threads(Device),
    /// Threads of this process, each with the GPU of that number, over NCCL.
    Gpus(Vec<u32>),
    /// This process is one of them, with the GPU of that number, over NCCL.
    Process {
        /// Which.
        place: Place,
        /// Its GPU.
        gpu: u32,
    },
}

impl Ranks {
    /// What rank `rank` computes on.
    pub fn device(&self, rank: u32) -> Device {
        match self {
            Self::Threads(device) => *device,
            Self::Gpus(gpus) => Device::Cuda(gpus[rank as usize]),
            Self::Process { gpu, .. } => Device::Cuda(*gpu),
        }
    }

    /// Whether this process has rank 0.
    pub fn leads(&self) -> bool {
        !matches!(self, Self::Process { place, .. } if place.rank > 0)
    }

    /// GPUs of all ranks, those of other processes included.
    pub(crate) fn gpus(&self) -> u32 {
        match self {
            Self::Threads(Device::Cuda(_)) => 1,
            Self::Threads(_) => 0,
            Self::Gpus(gpus) => {
                let mut gpus = gpus.clone();
                gpus.sort_unstable();
                gpus.dedup();
                gpus.len() as u32
            }
            Self::Process { place, .. } => place.size,
        }
    }
}

impl Config {
    /// Where the `count` ranks are, and their devices, ready for use; `place` is this process's among those
    /// of a launcher.
    ///
    /// # Errors
    /// No such devices, or not as many as ranks.
    pub(super) fn ranks(&self, count: u32, place: Option<Place>) -> Result<Ranks> {
        let name = &self.train.device;
        let refuse = |what: String| Error::setting("train.device", what);
        let ready = |ordinal: u32| Device::cuda(ordinal).map_err(|error| refuse(error.to_string()));
        // One process needs nobody, whoever started it.
        if let Some(place) = place.filter(|place| place.size > 1) {
            return self.process(count, place);
        }
        if let Some(list) = name.strip_prefix("cuda:").filter(|list| list.contains(',')) {
            let number = |text: &str| text.trim().parse::<u32>().ok();
            let gpus: Option<Vec<u32>> = list.split(',').map(number).collect();
            let gpus = gpus.ok_or_else(|| {
                refuse(format!("is `{name}`; it is a list of GPUs' numbers, such as cuda:0,1"))
            })?;
            if gpus.len() != count as usize {
                return Err(refuse(format!(
                    "names {} GPUs for {count} ranks (parallel.pipeline x parallel.data); name one for each",
                    gpus.len()
                )));
            }
            gpus.iter().try_for_each(|&gpu| ready(gpu).map(drop))?;
            return Ok(Ranks::Gpus(gpus));
        }
        let unknown =
            |error: String| refuse(format!("{error}, or one for each rank, cuda:0,1,2,3"));
        match name.parse().map_err(unknown)? {
            Device::Cuda(ordinal) => Ok(Ranks::Threads(ready(ordinal)?)),
            device => Ok(Ranks::Threads(device)),
        }
    }

    /// This process as one of `count` ranks.
    fn process(&self, count: u32, place: Place) -> Result<Ranks> {
        let (name, Place { size, launcher, local_rank, .. }) = (&self.train.device, place);
        let refuse = |what: String| Error::setting("train.device", what);
        if name != "cuda" {
            return Err(refuse(format!(
                "is {name}, and {launcher} started {size} processes; only ranks on GPUs can be processes: set it to cuda, or start one process"
            )));
        }
        if size != count {
            let (pipeline, data) = (self.parallel.pipeline, self.parallel.data);
            let what = format!(
                "is {pipeline} and parallel.data {data}, which are {count} ranks, and {launcher} started {size} processes; start as many as there are ranks, or change the settings"
            );
            return Err(Error::setting("parallel.pipeline", what));
        }
        let driver = driver::load().map_err(|error| refuse(error.to_string()))?;
        // A launcher may show each process its own GPU alone.
        let gpu = if driver.gpus == 1 { 0 } else { local_rank };
        if gpu >= driver.gpus {
            return Err(refuse(format!(
                "is cuda, and local rank {local_rank} has no GPU: the driver sees {}; start as many processes on a host as it has GPUs",
                driver.gpus
            )));
        }
        Device::cuda(gpu).map_err(|error| refuse(error.to_string()))?;
        Ok(Ranks::Process { place, gpu })
    }
}
