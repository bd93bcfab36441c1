//! One rank's pipeline: its stages, its memory, its program.

mod act;
mod tied;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slimpipe_allocator::{Memory, Region, scope};
use slimpipe_autograd::Parameter;
use slimpipe_runtime::Device;

use super::data::DataRanks;
use super::exchange::Exchange;
use super::groups::Groups;
use super::losses::Losses;
use super::travel::Travel;
use super::vocabulary::Vocabulary;
use super::{Batch, Error, Result, Stage, StageSpec, Timeline, VocabularySpec, exchange, plan};
use crate::comm::Communicator;
use crate::schedule::{Action, Schedule, Slices};
use act::{Live, Step};

/// One rank's part of a model in training: runs whole steps of its schedule.
pub struct Pipeline<S> {
    schedule: Schedule,
    program: Vec<Action>,
    travel: Travel,
    groups: Groups,
    /// The ranks that run the same program, if there are others.
    data: Option<DataRanks>,
    memory: Memory,
    /// This rank's stages, by chunk.
    stages: Vec<(StageSpec, S)>,
    slices: Slices,
    timeline: Timeline,
    /// What the rank's attention goes through, if some of it is computed elsewhere.
    exchange: Option<Arc<Exchange>>,
    /// The rank's side of a vocabulary that all ranks share.
    vocabulary: Option<Vocabulary>,
    /// Where the rank computes: where its memory is.
    device: Device,
    losses: Losses,
}

/// What a step came to on this rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The mean loss over all labels that count (nats); the same on every rank.
    pub loss: f64,
    /// Time this rank computed.
    pub busy: Duration,
    /// When this rank's first action began and its last ended, since the pipeline's origin.
    pub extent: (Duration, Duration),
}

impl<S: Stage> Pipeline<S> {
    /// Builds this rank's stages of a model of `layers` layers, trained on sequences that are cut into
    /// `slices`, and plans their memory. `build` is called once per chunk, with memory entered and
    /// persistent; `origin` is the zero of the timelines and should be the same on all ranks.
    ///
    /// # Errors
    /// Another number of slices or ranks than the schedule's, more stages than layers, out of memory,
    /// or `build` failed.
    pub fn new<E: From<Error>>(
        schedule: Schedule,
        comm: Box<dyn Communicator>,
        memory: Memory,
        (layers, slices): (usize, Slices),
        origin: Instant,
        mut build: impl FnMut(&StageSpec) -> Result<S, E>,
    ) -> Result<Self, E> {
        let (got, expected) = (slices.count(), schedule.slices());
        if got != expected {
            return Err(Error::WrongSlices { got, expected }.into());
        }
        let world_rank = comm.rank();
        let device = Device::from(memory.space());
        let (mut groups, data) = Groups::new(&schedule, comm)?;
        let (rank, count) = (groups.rank(), schedule.ranks() * schedule.chunks());
        if count as usize > layers {
            return Err(Error::TooManyStages { stages: count, layers }.into());
        }
        let (_, longest) = slices.extremes();
        let size = (layers, longest);
        let exchange = exchange::join(&schedule, groups.pipeline(), size, device, origin)?;
        let program: Vec<Action> = schedule.program(rank).collect();
        let in_parts = program.iter().any(|action| matches!(action, Action::BackwardInput(_)));
        let entered = memory.enter();
        let mut stages = Vec::new();
        for chunk in 0..schedule.chunks() {
            let mut spec =
                StageSpec::deal(schedule.placement().stage(rank, chunk), count, layers, longest);
            spec.vocabulary = match (schedule.vocabulary(), chunk) {
                (false, _) => VocabularySpec::Ends,
                (true, 0) => VocabularySpec::Part { rank, ranks: schedule.ranks() },
                (true, _) => VocabularySpec::Elsewhere,
            };
            let stage = {
                let _persistent = scope::place(Region::Persistent);
                build(&spec)?
            };
            let plans = plan::plans(&stage, &spec, &slices, in_parts, exchange.as_ref())?;
            // Planning ran backward on shapes: nothing was added to any gradient, though each was asked to take
            // something.
            stage.parameters().iter().for_each(Parameter::zero_grad);
            memory.install_slices(chunk, plans).map_err(Error::from)?;
            stages.push((spec, stage));
        }
        let vocabulary = Vocabulary::join(&schedule, groups.pipeline(), &memory, &stages)?;
        let data = match data {
            Some(comm) => Some(DataRanks::new(comm, &stages, (world_rank, device), origin)?),
            None => None,
        };
        let is_last = stages.iter().any(|(spec, _)| spec.is_last());
        let units = schedule.microbatches() * schedule.slices();
        let losses = Losses::new(if is_last { units as usize } else { 0 }, device)?;
        drop(entered);
        let travel = if memory.offloads() { Travel::of(&program) } else { Travel::default() };
        Ok(Self {
            program,
            travel,
            schedule,
            groups,
            data,
            timeline: Timeline::new(origin).watching(&memory),
            memory,
            stages,
            slices,
            exchange,
            vocabulary,
            device,
            losses,
        })
    }

    /// The parameters of this rank's stages, in stage order.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.stages.iter().flat_map(|(_, stage)| stage.parameters()).collect()
    }

    /// Whether this rank's copy of `parameter` is the one that counts in norms and checkpoints: a
    /// tied parameter counts on the first stage only.
    pub fn owns(&self, parameter: &Parameter) -> bool {
        !self.stages.iter().any(|(spec, stage)| {
            !spec.is_first() && stage.tied().is_some_and(|tied| tied.name() == parameter.name())
        })
    }

    /// The rank's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The rank's communicator with all ranks, for reductions around a step.
    pub fn comm(&mut self) -> &mut dyn Communicator {
        self.groups.world()
    }

    /// The rank's communicator with those that run the same microbatches: together they hold the
    /// model once.
    pub fn pipeline_comm(&mut self) -> &mut dyn Communicator {
        self.groups.pipeline()
    }

    /// The parameters of this rank's stages with the elements of each that this rank updates: all, or,
    /// where other ranks run the same program, its share.
    pub fn shares(&self) -> Vec<(Parameter, Range<usize>)> {
        let share = |parameter: Parameter| {
            let share = self.share(&parameter);
            (parameter, share)
        };
        self.parameters().into_iter().map(share).collect()
    }

    fn share(&self, parameter: &Parameter) -> Range<usize> {
        match &self.data {
            Some(data) => data.owned(parameter),
            None => 0..parameter.value().elem_count(),
        }
    }

    /// Gives every rank the weights that others have updated. To be called by all when they have
    /// updated their [shares](Pipeline::shares).
    ///
    /// # Errors
    /// A failed peer; a value is held elsewhere.
    pub fn gather_weights(&mut self) -> Result<()> {
        match &mut self.data {
            Some(data) => data.gather(&mut self.timeline),
            None => Ok(()),
        }
    }

    /// What the rank did in its last step.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Runs forward and backward of all microbatches of `batch`, which are other ones on each data
    /// rank: gradients are then complete in the parameters, in this rank's
    /// [shares](Pipeline::shares), and all units' memory is given back.
    ///
    /// # Errors
    /// A batch that does not fit, out of memory, a failed peer; the step's units are given back.
    pub fn step(&mut self, batch: &Batch) -> Result<StepReport> {
        let microbatches = self.schedule.microbatches() as usize;
        let mut counted = batch.count_labels(microbatches, self.slices.seq_len())? as f64;
        if let Some(data) = &mut self.data {
            counted = data.sum(counted)?;
        }
        let loss_scale = if counted == 0.0 { 0.0 } else { (1.0 / counted) as f32 };
        let memory = self.memory.clone();
        let _entered = memory.enter();
        self.timeline.clear();
        self.losses.clear();
        let mut step = Step::new(batch, loss_scale);
        for index in 0..self.program.len() {
            let live = |unit| step.live.get(&unit).map(|live: &Live| &live.memory);
            self.travel.before(index, &mut self.timeline, live)?;
            self.act(self.program[index], &mut step)?;
        }
        self.await_gradients()?;
        self.reduce_tied_here()?;
        if let Some(exchange) = &self.exchange {
            exchange.settle()?;
        }
        if let Some(vocabulary) = &mut self.vocabulary {
            vocabulary.settle()?;
        }
        self.groups.settle()?;
        let extent = self.timeline.extent().unwrap_or_default();
        let mut loss = [self.losses.sum()?];
        self.groups.world().all_reduce_sum_f64(&mut loss)?;
        Ok(StepReport { loss: loss[0], busy: self.timeline.busy(), extent })
    }

    /// Ends the rank's communicators, when all that they were given has been done: every rank must call this
    /// after its last step, or the others take it for a failure where they can tell.
    ///
    /// # Errors
    /// A failed peer.
    pub fn finish(mut self) -> Result<()> {
        if let Some(exchange) = &self.exchange {
            exchange.end()?;
        }
        if let Some(vocabulary) = &mut self.vocabulary {
            vocabulary.end()?;
        }
        if let Some(data) = &mut self.data {
            data.end()?;
        }
        self.groups.finish()
    }

    /// Waits until the gradients that were begun to be added over the data ranks are.
    fn await_gradients(&mut self) -> Result<()> {
        match &mut self.data {
            Some(data) => data.wait(&mut self.timeline),
            None => Ok(()),
        }
    }
}
