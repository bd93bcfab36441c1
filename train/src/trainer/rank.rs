//! One rank of a run: its part of the model, its optimizer, its step.

use std::path::Path;
use std::time::{Duration, Instant};

use slimpipe_allocator::Memory;
use slimpipe_pipeline::comm::{Axis, Communicator};
use slimpipe_pipeline::execute::Pipeline;

use super::report::Report;
use crate::config::Job;
use crate::data::{Sampler, Tokens};
use crate::model::{LlamaStage, Source};
use crate::optimizer::{AdamW, clip_factor};
use crate::{Error, Result, checkpoint, lr};

/// One rank of a training run.
pub struct Rank {
    pub(super) pipeline: Pipeline<LlamaStage>,
    pub(super) optimizer: AdamW,
    sampler: Sampler,
    data_ranks: u32,
    vocab_size: usize,
    settings: crate::config::TrainSettings,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Mean loss, the same on every rank.
    pub loss: f64,
    /// Gradient norm before clipping, the same on every rank.
    pub grad_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Whether some rank was asked to stop after this step.
    pub stop: bool,
    /// Time this rank computed.
    pub busy: Duration,
    /// First start and last end of this rank's work, since the run's origin.
    pub extent: (Duration, Duration),
}

impl Rank {
    /// Builds the rank's stages and optimizer in `memory`.
    ///
    /// # Errors
    /// Out of memory, or weights that do not fit.
    pub fn new(
        job: &Job,
        comm: Box<dyn Communicator>,
        memory: Memory,
        origin: Instant,
    ) -> Result<Self> {
        let (rank, settings) = (comm.rank(), job.config.train.clone());
        let source = match &job.weights {
            Some(weights) => Source::Folder(weights),
            None => Source::Random(settings.seed),
        };
        let size = (job.model.num_hidden_layers, job.slices.clone());
        let build = |spec: &_| {
            let stage = LlamaStage::new(&job.model, spec, &source, job.dtype)?;
            Ok::<_, Error>(stage.recompute(|layer| job.recompute[layer]))
        };
        let pipeline =
            Pipeline::new(job.schedule.clone(), comm, memory.clone(), size, origin, build)?;
        let _entered = memory.enter();
        let optimizer = AdamW::of_shares(pipeline.shares(), job.adamw)?;
        let data_ranks = job.schedule.data_ranks();
        let data_rank = job.mesh().coordinate(rank, Axis::Data);
        let sampler = Sampler::new(settings.seed, settings.microbatches, settings.seq_len);
        let sampler = sampler.of_data_rank(data_rank, data_ranks);
        let vocab_size = job.model.vocab_size;
        Ok(Self { pipeline, optimizer, sampler, data_ranks, vocab_size, settings })
    }

    /// Runs step `step` (from 1): forward and backward of the batch, clipping, update. `stop` is
    /// this rank's wish to end; all ranks learn of it together.
    ///
    /// # Errors
    /// Out of memory, another rank failed, or the loss is not a number.
    pub fn step(&mut self, tokens: &Tokens, step: u64, stop: bool) -> Result<Outcome> {
        self.pipeline.memory().begin_step(step);
        let batch = self.sampler.batch(tokens, step, self.vocab_size)?;
        let report = self.pipeline.step(&batch)?;
        let pipeline = &self.pipeline;
        let squares = self.optimizer.grad_sum_squares(|parameter| pipeline.owns(parameter))?;
        let mut sums = [squares, f64::from(u8::from(stop))];
        self.pipeline.comm().all_reduce_sum_f64(&mut sums)?;
        let [squares, stops] = sums;
        let grad_norm = squares.sqrt();
        if !report.loss.is_finite() || !grad_norm.is_finite() {
            return Err(Error::Diverged { step, loss: report.loss });
        }
        let lr = lr::at(&self.settings, step);
        self.optimizer.step(lr as f32, clip_factor(grad_norm, self.settings.clip_norm))?;
        self.pipeline.gather_weights()?;
        let (busy, extent) = (report.busy, report.extent);
        Ok(Outcome { loss: report.loss, grad_norm, lr, stop: stops > 0.0, busy, extent })
    }

    /// Continues after the checkpoint of `step` at `path`.
    ///
    /// # Errors
    /// It is damaged, or of another model or layout.
    pub fn resume(&mut self, path: &Path, step: u64) -> Result<()> {
        let rank = self.comm().rank();
        checkpoint::read(path, step, rank, &mut self.optimizer)?;
        Ok(self.pipeline.gather_weights()?)
    }

    /// Writes a checkpoint; every rank must.
    ///
    /// # Errors
    /// The disk is full, or another rank failed.
    pub fn checkpoint(&mut self, folder: &Path, step: u64) -> Result<()> {
        let comm = self.pipeline.comm();
        checkpoint::write(folder, step, &self.optimizer, self.data_ranks, comm)
    }

    /// The rank's memory.
    pub fn memory(&self) -> &Memory {
        self.pipeline.memory()
    }

    /// The rank's communicator.
    pub fn comm(&mut self) -> &mut dyn Communicator {
        self.pipeline.comm()
    }

    /// Ends the rank's communicators; every rank must.
    ///
    /// # Errors
    /// Another rank failed.
    pub fn finish(self) -> Result<()> {
        Ok(self.pipeline.finish()?)
    }

    /// Brings all ranks' reports to rank 0.
    pub(super) fn gather(&mut self, report: &Report) -> Result<Option<Vec<Report>>> {
        Ok(self
            .comm()
            .gather(report.to_bytes())?
            .map(|all| all.iter().map(|b| Report::from_bytes(b)).collect()))
    }
}
