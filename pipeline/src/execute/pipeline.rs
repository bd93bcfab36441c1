//! One rank's pipeline: its stages, its memory, its program.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slimpipe_allocator::{self as allocator, Memory, Region, UnitId, scope};
use slimpipe_autograd::{KvCache, Parameter, TapeEnd, WeightPart, backward, backward_input};
use slimpipe_ops::copy::{copy, copy_into};
use slimpipe_ops::elementwise::add_assign;
use slimpipe_runtime::{Device, RawTensor};

use super::data::DataRanks;
use super::exchange::Exchange;
use super::groups::Groups;
use super::losses::Losses;
use super::payload::{TensorPayload, room};
use super::travel::Travel;
use super::unit::{forward, tokens_or_hidden};
use super::vocabulary::Vocabulary;
use super::{
    Batch, Error, Result, SliceContext, Stage, StageSpec, Timeline, VocabularySpec, Work, exchange,
    plan,
};
use crate::comm::{Communicator, Tag};
use crate::schedule::{Action, Pass, Schedule, Slices, Unit};

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

/// A unit between its forward and its backward.
struct Live {
    memory: allocator::Unit,
    root: TapeEnd,
    leaf: Option<TapeEnd>,
    /// Where all ranks share the vocabulary, the last stage's output, and then its gradient.
    head: Option<RawTensor>,
}

/// What a step carries from action to action.
struct Step<'a> {
    batch: &'a Batch,
    loss_scale: f32,
    live: HashMap<Unit, Live>,
    /// Units of which only the weight part is left.
    weights: HashMap<Unit, (allocator::Unit, WeightPart)>,
    /// Keys and values by (microbatch, chunk), while later slices will read them.
    caches: HashMap<(u32, u32), Vec<KvCache>>,
    /// Outputs and input gradients that wait to be sent, or for a stage on this rank.
    outputs: HashMap<Unit, RawTensor>,
    gradients: HashMap<Unit, RawTensor>,
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
        let mut step = Step {
            batch,
            loss_scale,
            live: HashMap::new(),
            weights: HashMap::new(),
            caches: HashMap::new(),
            outputs: HashMap::new(),
            gradients: HashMap::new(),
        };
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

    fn act(&mut self, action: Action, step: &mut Step<'_>) -> Result<()> {
        match action {
            // A message is received by the action that uses it, into that unit's memory.
            Action::RecvActivation { .. } | Action::RecvGradient { .. } => Ok(()),
            Action::Forward(unit) => self.forward(unit, step),
            Action::Backward(unit) | Action::BackwardInput(unit) => {
                self.backward(unit, action, step)
            }
            Action::BackwardWeight(unit) => self.backward_weight(unit, step),
            Action::SendActivation { unit, to } => {
                let output = step.outputs.remove(&unit).ok_or(self.out_of_order("send", unit))?;
                self.send(Work::SendActivation { unit, to }, to, Tag::Activation(unit), output)
            }
            Action::SendGradient { unit, to } => {
                let gradient =
                    step.gradients.remove(&unit).ok_or(self.out_of_order("send", unit))?;
                self.send(Work::SendGradient { unit, to }, to, Tag::Gradient(unit), gradient)
            }
            Action::Ship { part, to, .. } => {
                self.exchange.iter().for_each(|exchange| exchange.ship(part, to));
                Ok(())
            }
            Action::Attend { unit, part, from, .. } => {
                self.exchange.iter().for_each(|exchange| exchange.attend(unit, part, from));
                Ok(())
            }
            Action::Help(pass) => {
                if let Some(exchange) = &self.exchange {
                    self.timeline.extend(exchange.help(pass)?);
                }
                Ok(())
            }
            Action::VocabEmbed(unit)
            | Action::VocabHead(unit)
            | Action::VocabEmbedBackward(unit) => self.share_vocabulary(action, unit, step),
            Action::ReduceGradients(weights) => match &mut self.data {
                Some(data) => data.reduce(weights),
                None => Ok(()),
            },
            Action::ReduceTied { peer } => self.reduce_tied(peer),
            // The caller clips and steps: gradients are complete when `step` returns.
            Action::OptimizerStep => Ok(()),
        }
    }

    fn forward(&mut self, unit: Unit, step: &mut Step<'_>) -> Result<()> {
        let guard = self.memory.unit(UnitId {
            microbatch: unit.microbatch,
            slice: unit.slice,
            chunk: unit.chunk,
        })?;
        let (spec, stage) = &self.stages[unit.chunk as usize];
        let tokens = self.slices.range(unit.slice);
        let rows = tokens.len();
        let sequence = &step.batch.sequences[unit.microbatch as usize];
        let phase = guard.forward();

        let layer = scope::layer(spec.layers.start as u32);
        let input = if spec.reads_tokens() {
            RawTensor::from_slice(&sequence.tokens[tokens.clone()], rows, self.device)?
        } else {
            let (width, dtype) = stage.hidden();
            let input = RawTensor::empty((rows, width), dtype, self.device, "receive")?;
            self.receive(unit, input, false, step)?
        };
        drop(layer);
        let (spec, stage) = &self.stages[unit.chunk as usize];
        let labels = match spec.gives_loss() {
            true => {
                Some(RawTensor::from_slice(&sequence.labels[tokens.clone()], rows, self.device)?)
            }
            false => None,
        };
        let caches = step
            .caches
            .entry((unit.microbatch, unit.chunk))
            .or_insert_with(|| exchange::caches(self.exchange.as_ref(), spec));
        if let Some(exchange) = &self.exchange {
            exchange.begin(Pass::Forward, unit, caches)?;
        }
        let mut cx = SliceContext {
            offset: tokens.start,
            labels,
            loss_scale: step.loss_scale,
            first_layer: spec.layers.start,
            caches,
        };
        let (input, leaf) = tokens_or_hidden(input);
        let (output, root) =
            self.timeline.record(Work::Forward(unit), || forward(stage, spec, input, &mut cx))?;
        drop(cx);
        if let Some(exchange) = &self.exchange {
            self.timeline.interrupt(exchange.finish()?);
        } else if unit.slice + 1 == self.schedule.slices() {
            // Later slices do not exist: from here on only the tapes keep K/V alive.
            step.caches.remove(&(unit.microbatch, unit.chunk));
        }
        let mut head = None;
        if spec.gives_loss() {
            self.losses.add(&output)?;
        } else if spec.is_last() {
            copy_into(&output, head.insert(plan::head_memory(&output)?))?;
        } else {
            step.outputs.insert(unit, output);
        }
        drop(phase);
        step.live.insert(unit, Live { memory: guard, root, leaf, head });
        Ok(())
    }

    /// Runs a unit's backward, whole or its first part, as `action` says.
    fn backward(&mut self, unit: Unit, action: Action, step: &mut Step<'_>) -> Result<()> {
        let live = step.live.remove(&unit).ok_or(self.out_of_order("backward", unit))?;
        let Live { memory, root, leaf, head } = live;
        let phase = memory.backward();
        let (spec, stage) = &self.stages[unit.chunk as usize];
        let gradient = if let Some(gradient) = head {
            gradient
        } else if spec.is_last() {
            plan::loss_gradient(self.device, false)?
        } else {
            let (width, dtype) = stage.hidden();
            let rows = self.slices.range(unit.slice).len();
            let gradient = RawTensor::empty((rows, width), dtype, self.device, "receive")?;
            self.receive(unit, gradient, true, step)?
        };
        if let (Some(exchange), Some(caches)) =
            (&self.exchange, step.caches.get_mut(&(unit.microbatch, unit.chunk)))
        {
            caches.iter_mut().for_each(|cache| cache.truncate(unit.slice as usize));
            exchange.begin(Pass::Backward, unit, caches)?;
        }
        let (input_gradient, weights) = if action == Action::Backward(unit) {
            let whole = || backward(root, gradient, leaf.as_ref());
            (self.timeline.record(Work::Backward(unit), whole)?, None)
        } else {
            let first = || backward_input(root, gradient, leaf.as_ref());
            let (gradient, weights) = self.timeline.record(Work::BackwardInput(unit), first)?;
            (gradient, Some(weights))
        };
        if let Some(exchange) = &self.exchange {
            self.timeline.interrupt(exchange.finish()?);
        }
        if let Some(gradient) = input_gradient {
            step.gradients.insert(unit, message(gradient)?);
        }
        drop((leaf, phase));
        if let Some(weights) = weights {
            step.weights.insert(unit, (memory, weights));
        }
        Ok(())
    }

    /// Runs the second part of a unit's backward; its memory ends.
    fn backward_weight(&mut self, unit: Unit, step: &mut Step<'_>) -> Result<()> {
        let waiting = step.weights.remove(&unit).ok_or(self.out_of_order("weight part", unit))?;
        let (memory, weights) = waiting;
        let phase = memory.weight();
        self.timeline.record(Work::BackwardWeight(unit), || weights.run())?;
        drop((phase, memory));
        Ok(())
    }

    /// Fills `into` with the unit's input (or, for `backward`, its output gradient): from the
    /// neighbouring stage on another rank, or from the one on this rank.
    fn receive(
        &mut self,
        unit: Unit,
        mut into: RawTensor,
        is_gradient: bool,
        step: &mut Step<'_>,
    ) -> Result<RawTensor> {
        let spec = &self.stages[unit.chunk as usize].0;
        if let Some(vocabulary) = &mut self.vocabulary
            && spec.is_first()
            && !is_gradient
        {
            let mut packed = plan::packed(&into)?;
            let tokens = step.batch.tokens(unit, &self.slices);
            vocabulary.collect(unit, tokens, &mut into, &mut packed, &mut self.timeline)?;
            return Ok(into);
        }
        let own = spec.stage;
        let neighbour = if is_gradient { own + 1 } else { own - 1 };
        let (rank, chunk) = self.schedule.placement().locate(neighbour);
        let source = Unit { chunk, ..unit };
        if rank == self.groups.rank() {
            let waiting = if is_gradient { &mut step.gradients } else { &mut step.outputs };
            let from = waiting.remove(&source).ok_or(self.out_of_order("receive", unit))?;
            copy_into(&from, &mut into)?;
            return Ok(into);
        }
        let (work, tag) = match is_gradient {
            true => (Work::ReceiveGradient { unit, from: rank }, Tag::Gradient(source)),
            false => (Work::ReceiveActivation { unit, from: rank }, Tag::Activation(source)),
        };
        let bytes = room(&mut into)?;
        let comm = self.groups.pipeline();
        self.timeline.record(work, || comm.recv(rank, tag, bytes))?;
        Ok(into)
    }

    /// Takes part in what all ranks do for `unit` with the vocabulary that they share.
    fn share_vocabulary(&mut self, action: Action, unit: Unit, step: &mut Step<'_>) -> Result<()> {
        let wrong = self.out_of_order("a shared vocabulary", unit);
        let Some(vocabulary) = &mut self.vocabulary else { return Err(wrong) };
        let timeline = &mut self.timeline;
        let spec = &self.stages[unit.chunk as usize].0;
        let tokens = step.batch.tokens(unit, &self.slices);
        match action {
            Action::VocabEmbed(_) => vocabulary.embed(unit, tokens, timeline),
            Action::VocabHead(_) => {
                let labels = step.batch.labels(unit, &self.slices);
                let live = step.live.get_mut(&unit).filter(|_| spec.is_last());
                let hidden = live.and_then(|live| live.head.as_mut());
                let scale = step.loss_scale;
                vocabulary.head(unit, labels, scale, hidden, &mut self.losses, timeline)
            }
            _ => {
                let gradient = spec.is_first().then(|| step.gradients.remove(&unit)).flatten();
                vocabulary.embed_backward(unit, tokens, gradient, timeline)
            }
        }
    }

    fn send(&mut self, work: Work, to: u32, tag: Tag, tensor: RawTensor) -> Result<()> {
        let payload = Box::new(TensorPayload::new(tensor)?);
        let comm = self.groups.pipeline();
        Ok(self.timeline.record(work, || comm.send(to, tag, payload))?)
    }

    /// Waits until the gradients that were begun to be added over the data ranks are.
    fn await_gradients(&mut self) -> Result<()> {
        match &mut self.data {
            Some(data) => data.wait(&mut self.timeline),
            None => Ok(()),
        }
    }

    /// Adds the tied parameter's gradients of the first and the last stage, on both.
    fn reduce_tied(&mut self, peer: u32) -> Result<()> {
        let Some(tied) = self.stages.iter().find_map(|(_, stage)| stage.tied()) else {
            return Ok(());
        };
        self.await_gradients()?;
        let share = self.share(&tied);
        let comm = self.groups.pipeline();
        self.timeline.record(Work::ReduceTied, || match tied.grad().get_mut() {
            Some(gradient) if gradient.device() == Device::Cpu => {
                let gradient = gradient.slice_mut("reduce_tied")?;
                Ok(comm.exchange_add_f32(peer, &mut gradient[share])?)
            }
            Some(gradient) => exchange_add(comm, peer, gradient, share),
            None => Ok(()),
        })
    }

    /// The same where this rank holds both ends (one rank, several chunks): no message is needed.
    fn reduce_tied_here(&self) -> Result<()> {
        let mut copies = self.stages.iter().filter_map(|(_, stage)| stage.tied());
        let (Some(first), Some(last)) = (copies.next(), copies.next()) else { return Ok(()) };
        let (mut first, mut last) = (first.grad(), last.grad());
        if let (Some(first), Some(last)) = (first.get_mut(), last.get_mut()) {
            add_assign(first, last)?;
            copy_into(first, last)?;
        }
        Ok(())
    }

    fn out_of_order(&self, what: &'static str, unit: Unit) -> Error {
        Error::OutOfOrder { rank: self.groups.rank(), what, unit }
    }
}

/// A unit's gradient as the neighbour may read it after the unit has ended: in the communicator's memory. The
/// plan puts it there, unless it was summed up in what the forward saved, as that of a loss without a norm before
/// it is.
fn message(gradient: RawTensor) -> Result<RawTensor> {
    if gradient.layout().is_contiguous() && gradient.storage().allocation().region() == Region::Comm
    {
        return Ok(gradient);
    }
    let _message = scope::place(Region::Comm);
    Ok(copy(&gradient)?)
}

/// Adds elements `share` of `values`, which are contiguous on a GPU, of this rank and of `peer`, on both, a block
/// at a time.
fn exchange_add(
    comm: &mut dyn Communicator,
    peer: u32,
    values: &mut RawTensor,
    share: Range<usize>,
) -> Result<()> {
    /// Elements of a block: what the exchange takes in memory is two.
    const BLOCK: usize = 1 << 19;
    let _message = scope::place(Region::Comm);
    let all = values.elem_count();
    for (number, start) in (0..).zip(share.clone().step_by(BLOCK)) {
        let len = BLOCK.min(share.end - start);
        let own = copy(&values.reshape(all)?.narrow(0, start, len)?)?;
        let mut theirs = RawTensor::empty(len, own.dtype(), own.device(), "reduce_tied")?;
        let payload = Box::new(TensorPayload::new(own)?);
        comm.swap(peer, Tag::Block(number), payload, room(&mut theirs)?)?;
        // Two numbers have the same sum in either order, so both ranks get the same bits.
        let add = |own: &mut RawTensor| add_assign(own, &theirs);
        values.with_shape(all, |flat| flat.with_rows(start, len, add))?;
    }
    Ok(())
}
