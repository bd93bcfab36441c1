//! A training run: the same loop on every rank. Ranks are threads, or processes that a launcher started.

mod host;
mod rank;
mod report;
mod save;
mod start;

use std::path::PathBuf;
use std::time::Instant;

use parking_lot::Mutex;
use slimpipe_allocator::offload::FileMemory;
use slimpipe_allocator::{Bytes, Memory};
use slimpipe_pipeline::comm::{Axis, Communicator, local, nccl};
use slimpipe_pipeline::schedule::{dump, verify};
use slimpipe_runtime::cuda::PinnedMemory;
use slimpipe_runtime::stream::Streams;
use slimpipe_runtime::{Device, team};

pub use rank::Rank;
pub use report::{RankSummary, Summary};

use crate::config::{Config, Job, Ranks};
use crate::data::Tokens;
use crate::flops::FlopsPerToken;
use crate::hub::NewFile;
use crate::metrics::{MetricsFile, StepMetrics};
use crate::run::RunDir;
use crate::{Error, Result, checkpoint};
use host::check_host;
use report::{Report, combine};
use start::{launched, peak_flops, timeout};

/// Who watches a run. Called on rank 0's thread.
pub trait Observer: Sync {
    /// All ranks are ready; training goes from the step after `done` to `steps`.
    fn begin(&self, done: u64, steps: u64) {
        let _ = (done, steps);
    }

    /// A step is finished and on disk.
    fn step(&self, metrics: &StepMetrics) {
        let _ = metrics;
    }

    /// Whether the run should end after the step in progress.
    fn should_stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
impl Observer for () {}

/// Where a run writes, and from which step it goes on.
#[derive(Clone, Debug)]
pub struct Output {
    /// The folder.
    pub run: RunDir,
    /// Whether it is continued from its latest checkpoint.
    pub resume: bool,
}

/// Trains: every rank of `job` on `tokens`, until `train.steps` or until `observer` asks to stop.
/// Without an `output` nothing is written.
///
/// # Errors
/// Whatever a rank meets first; all others end too.
pub fn train(
    job: &Job,
    tokens: &Tokens,
    output: Option<&Output>,
    observer: &dyn Observer,
) -> Result<Summary> {
    let files = Mutex::new(None);
    let result = begin(job, tokens, output, observer, &files);
    let Some(output) = output else { return result };
    result.map_err(|error| {
        // All ranks of this process have ended, and their memories with them: the logs are complete.
        let logs = output.run.memory_events();
        let explains = job.config.memory.trace && error.asks_for_a_trace() && logs.is_dir();
        if !output.resume && files.into_inner().is_none() && job.ranks.leads() {
            output.run.discard(explains);
        }
        if explains { Error::Traced { source: Box::new(error), logs } } else { error }
    })
}

/// Checks what can be checked before ranks start, and starts them.
fn begin(
    job: &Job,
    tokens: &Tokens,
    output: Option<&Output>,
    observer: &dyn Observer,
    files: &Mutex<Option<Files>>,
) -> Result<Summary> {
    tokens.check_context(job.config.train.seq_len, "train.seq_len")?;
    tokens.check_model(job.model.vocab_size).map_err(|error| error.about("model.vocab_size"))?;
    tokens.check_count(job.config.data.tokens)?;
    check_host(job)?;
    let capacity = job.schedule.channel_capacity();
    let report = verify(&job.schedule, capacity)?;
    let mut from = None;
    if let Some(output) = output.filter(|output| output.resume) {
        let (step, path) = checkpoint::latest(&output.run.checkpoints())?;
        checkpoint::check(&path, step, job.schedule.data_ranks(), job.schedule.ranks())?;
        from = Some((step, path));
    }
    let (origin, peak_flops) = (Instant::now(), peak_flops(job));
    let run = Run { job, tokens, output, from, observer, origin, peak_flops, files };
    let size = job.mesh().size();
    let ranks = match &job.ranks {
        Ranks::Threads(_) => local::launch(size, capacity, |comm| run.rank(Box::new(comm))),
        Ranks::Gpus(gpus) => {
            nccl::launch(gpus, capacity, timeout(job), |comm| run.rank(Box::new(comm)))
        }
        Ranks::Process { place, gpu } => {
            launched(job, *place, *gpu, output).and_then(|comm| Ok(vec![run.rank(comm)?]))
        }
    };
    let ranks = ranks.inspect_err(|error| run.clean_up(error))?;
    let mut ranks = ranks.into_iter().flatten().next().unwrap_or_default();
    for (rank, number) in ranks.iter_mut().zip(0..) {
        let at = job.mesh().coordinate(number, Axis::Pipeline);
        rank.in_flight_expected = report.in_flight_peak[at as usize];
    }
    let last = files.lock().as_ref().and_then(|files| files.last.clone());
    let stopped = last.as_ref().is_some_and(|last| last.step < job.config.train.steps);
    Ok(Summary { last, ranks, stopped })
}

/// What all ranks share.
struct Run<'a> {
    job: &'a Job,
    tokens: &'a Tokens,
    output: Option<&'a Output>,
    /// The checkpoint the run continues from, and its step.
    from: Option<(u64, PathBuf)>,
    observer: &'a dyn Observer,
    origin: Instant,
    peak_flops: f64,
    /// There are none before a step is finished, on disk where rank 0 is: a run that fails before leaves nothing.
    files: &'a Mutex<Option<Files>>,
}

/// What rank 0 writes as it goes; nothing in a process without it.
#[derive(Default)]
struct Files {
    metrics: Option<MetricsFile>,
    last: Option<StepMetrics>,
}

impl Run<'_> {
    /// Runs a rank; gives on rank 0 what all came to.
    fn rank(&self, comm: Box<dyn Communicator>) -> Result<Option<Vec<RankSummary>>> {
        let job = self.job;
        let _team = team::enter(job.threads)?;
        let streams = match job.ranks.device(comm.rank()) {
            Device::Cuda(ordinal) => Some(Streams::new(ordinal)?),
            Device::Cpu | Device::Meta => None,
        };
        let _streams = streams.as_ref().map(Streams::enter);
        let memory = self.memory(comm.rank(), streams.as_ref())?;
        let mut rank = Rank::new(job, comm, memory, self.origin)?;
        if let Some((step, path)) = &self.from {
            rank.resume(path, *step)?;
        }
        let mut done = self.done();
        rank.comm().barrier()?;
        if rank.comm().rank() == 0 {
            self.observer.begin(done, job.config.train.steps);
        }
        let mut summary = RankSummary::default();
        let settings = &job.config.train;
        while done < settings.steps {
            let step = done + 1;
            let stop = self.observer.should_stop();
            let begin = Instant::now();
            let outcome = rank.step(self.tokens, step, stop)?;
            let report = Report::of(&mut rank, &outcome)?;
            summary.add(&report);
            done = step;
            let reports = rank.gather(&report)?;
            if let Some(reports) = reports {
                let seconds = begin.elapsed().as_secs_f64();
                self.finish_step(combine(job, step, &outcome, &reports, seconds, self))?;
            } else if !job.ranks.leads() {
                self.files.lock().get_or_insert_default();
            }
            let every = settings.checkpoint_every;
            let last = done == settings.steps || outcome.stop;
            if let Some(output) = self.output
                && (last || (every > 0 && done.is_multiple_of(every)))
            {
                rank.checkpoint(&output.run.checkpoints(), done)?;
            }
            if outcome.stop {
                break;
            }
        }
        if let Some(output) = self.output {
            save::run(&mut rank, job, &output.run)?;
        }
        let all = rank.comm().gather(summary.to_bytes())?;
        rank.finish()?;
        Ok(all.map(|all| all.iter().map(|bytes| RankSummary::from_bytes(bytes)).collect()))
    }

    /// Steps that were finished when the run began.
    fn done(&self) -> u64 {
        self.from.as_ref().map_or(0, |(step, _)| *step)
    }

    /// The memory of a rank, which lies on a GPU if it has streams there.
    fn memory(&self, rank: u32, streams: Option<&Streams>) -> Result<Memory> {
        let Config { memory: settings, train, .. } = &self.job.config;
        let mut builder = Memory::builder(rank);
        if let Some(streams) = streams {
            builder = builder.source(streams.source());
        }
        if let Some(limit) = settings.limit {
            builder = builder.limit(Bytes(limit.0));
        }
        if settings.strict {
            builder = builder.strict();
        }
        if settings.offload > 0.0 {
            builder = match streams {
                Some(streams) => {
                    builder.offload_by(settings.offload, PinnedMemory::new(streams.clone()))
                }
                None => builder.offload(settings.offload, self.second_memory()?)?,
            };
        }
        if let Some(output) = self.output
            && settings.trace
            && self.done() < train.steps
        {
            let folder = output.run.memory_events();
            std::fs::create_dir_all(&folder).map_err(Error::io("make the folder", &folder))?;
            builder = builder.trace(&output.run.memory_log(rank, self.done() + 1))?;
        }
        Ok(builder.build())
    }

    /// The file in which a rank's activations wait.
    fn second_memory(&self) -> Result<FileMemory> {
        let set = self.job.config.memory.offload_folder.clone();
        let folder = set
            .or_else(|| Some(self.output?.run.path().to_owned()))
            .unwrap_or_else(std::env::temp_dir);
        FileMemory::create(&folder).map_err(|error| {
            let what = format!(
                "activations cannot wait in a file there: {error}; name a folder that can be written to, on a disk with room"
            );
            Error::setting("memory.offload_folder", what)
        })
    }

    /// Removes what is of no use when a rank has failed and all have ended: half a checkpoint; logs
    /// of a resumed run without a step, while those of the steps before stay, and those that explain why.
    fn clean_up(&self, error: &Error) {
        let Some(output) = self.output else { return };
        if self.job.ranks.leads() {
            checkpoint::discard_partial(&output.run.checkpoints());
        }
        if self.files.lock().is_none() && !error.asks_for_a_trace() {
            let ranks = match self.job.ranks {
                Ranks::Process { place, .. } => place.rank..place.rank + 1,
                _ => 0..self.job.mesh().size(),
            };
            for rank in ranks {
                let _ = std::fs::remove_file(output.run.memory_log(rank, self.done() + 1));
            }
        }
    }

    /// Rank 0 writes a step down: with the first, the run's settings and schedule too.
    fn finish_step(&self, metrics: StepMetrics) -> Result<()> {
        let mut files = self.files.lock();
        let files = match &mut *files {
            Some(files) => files,
            none => none.insert(Files { metrics: self.begin()?, last: None }),
        };
        if let Some(file) = &mut files.metrics {
            file.push(&metrics)?;
        }
        self.observer.step(&metrics);
        files.last = Some(metrics);
        Ok(())
    }

    fn begin(&self) -> Result<Option<MetricsFile>> {
        let Some(Output { run, .. }) = self.output else { return Ok(None) };
        let mut config = self.job.config.clone();
        config.data.tokens = Some(self.tokens.len());
        config.parallel.vocabulary = Some(self.job.schedule.vocabulary());
        run.write_config(&config)?;
        NewFile::write_all(&run.schedule(), dump(&self.job.schedule).as_bytes())?;
        MetricsFile::open(&run.metrics(), &run.tensorboard(), self.done()).map(Some)
    }

    fn flops_per_token(&self) -> FlopsPerToken {
        FlopsPerToken::of(&self.job.model, self.job.config.train.seq_len)
    }
}
