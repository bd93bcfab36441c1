//! A training run: one thread per rank, the same loop on each.

mod rank;
mod report;
mod save;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use slimpipe_allocator::{Bytes, Memory};
use slimpipe_kernels::cpu::peak::{PeakKind, peak_gflops};
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_pipeline::comm::local::{LocalComm, launch};
use slimpipe_pipeline::schedule::{dump, verify};
use slimpipe_runtime::{DType, team};

pub use rank::Rank;
pub use report::{RankSummary, Summary};

use crate::config::Job;
use crate::data::Tokens;
use crate::flops::FlopsPerToken;
use crate::hub::NewFile;
use crate::metrics::{MetricsFile, StepMetrics};
use crate::run::RunDir;
use crate::{Result, checkpoint};
use report::{Report, combine};

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
    tokens.check_context(job.config.train.seq_len, "train.seq_len")?;
    let report = verify(&job.schedule, job.schedule.channel_capacity())?;
    let begun = AtomicBool::new(false);
    let run = Run {
        job,
        tokens,
        output,
        observer,
        origin: Instant::now(),
        peak_flops: peak_flops(job.dtype),
        begun: &begun,
        files: Mutex::new(None),
    };
    let ranks =
        launch(job.schedule.ranks(), job.schedule.channel_capacity(), |comm| run.rank(comm));
    let mut ranks = match ranks {
        Ok(ranks) => ranks,
        Err(error) => {
            if let Some(output) = output.filter(|_| !begun.load(Ordering::Relaxed)) {
                output.run.clone().discard();
            }
            return Err(error);
        }
    };
    for (rank, expected) in ranks.iter_mut().zip(report.in_flight_peak) {
        rank.in_flight_expected = expected;
    }
    let last = run.files.into_inner().and_then(|files| files.last);
    Ok(Summary { last, ranks, stopped: observer.should_stop() })
}

/// The floating-point operations per second that this machine's cores reach at most.
fn peak_flops(dtype: DType) -> f64 {
    let threads = Threads::new(team::cores()).unwrap_or_default();
    let kind = if dtype == DType::BF16 { PeakKind::Bf16 } else { PeakKind::F32 };
    peak_gflops(&threads, kind) * 1e9
}

/// What all ranks share.
struct Run<'a> {
    job: &'a Job,
    tokens: &'a Tokens,
    output: Option<&'a Output>,
    observer: &'a dyn Observer,
    origin: Instant,
    peak_flops: f64,
    /// Whether a first step began: before, nothing may be left behind.
    begun: &'a AtomicBool,
    /// Rank 0's.
    files: Mutex<Option<Files>>,
}

/// What rank 0 writes as it goes.
struct Files {
    metrics: Option<MetricsFile>,
    last: Option<StepMetrics>,
}

impl Run<'_> {
    fn rank(&self, comm: LocalComm) -> Result<RankSummary> {
        let job = self.job;
        let _team = team::enter(job.threads)?;
        let memory = self.memory(slimpipe_pipeline::comm::Communicator::rank(&comm))?;
        let mut rank = Rank::new(job, Box::new(comm), memory, self.origin)?;
        let mut done = 0;
        if let Some(output) = self.output.filter(|output| output.resume) {
            let (step, path) = checkpoint::latest(&output.run.checkpoints())?;
            rank.resume(&path, step)?;
            done = step;
        }
        self.begin(&mut rank, done)?;
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
        Ok(summary)
    }

    fn memory(&self, rank: u32) -> Result<Memory> {
        let settings = &self.job.config.memory;
        let mut builder = Memory::builder(rank);
        if let Some(limit) = settings.limit {
            builder = builder.limit(Bytes(limit.0));
        }
        if settings.strict {
            builder = builder.strict();
        }
        if let Some(output) = self.output.filter(|_| settings.trace) {
            let path = output.run.path().join(format!("memory.{rank}.events"));
            builder = builder.trace(&path)?;
        }
        Ok(builder.build())
    }

    /// All ranks are ready: from here on the run's folder stays.
    fn begin(&self, rank: &mut Rank, done: u64) -> Result<()> {
        rank.comm().barrier()?;
        if rank.comm().rank() == 0 {
            let mut files = Files { metrics: None, last: None };
            if let Some(Output { run, .. }) = self.output {
                run.write_config(&self.job.config)?;
                NewFile::write_all(&run.schedule(), dump(&self.job.schedule).as_bytes())?;
                files.metrics = Some(MetricsFile::open(&run.metrics(), done)?);
            }
            *self.files.lock() = Some(files);
            self.begun.store(true, Ordering::Relaxed);
            self.observer.begin(done, self.job.config.train.steps);
        }
        Ok(rank.comm().barrier()?)
    }

    fn finish_step(&self, metrics: StepMetrics) -> Result<()> {
        let mut files = self.files.lock();
        let Some(files) = files.as_mut() else { return Ok(()) };
        if let Some(file) = &mut files.metrics {
            file.push(&metrics)?;
        }
        self.observer.step(&metrics);
        files.last = Some(metrics);
        Ok(())
    }

    fn flops_per_token(&self) -> FlopsPerToken {
        FlopsPerToken::of(&self.job.model, self.job.config.train.seq_len)
    }
}
