//! What a rank does for each action of its program.

use std::collections::HashMap;

use slimpipe_allocator::{self as allocator, Region, UnitId, scope};
use slimpipe_autograd::{KvCache, TapeEnd, WeightPart, backward, backward_input};
use slimpipe_ops::copy::{copy, copy_into};
use slimpipe_runtime::RawTensor;

use super::Pipeline;
use crate::comm::Tag;
use crate::execute::payload::{TensorPayload, room};
use crate::execute::unit::{forward, tokens_or_hidden};
use crate::execute::{Batch, Error, Result, SliceContext, Stage, Work, exchange, plan};
use crate::schedule::{Action, Pass, Unit};

/// A unit between its forward and its backward.
pub(super) struct Live {
    pub(super) memory: allocator::Unit,
    root: TapeEnd,
    leaf: Option<TapeEnd>,
    /// Where all ranks share the vocabulary, the last stage's output, and then its gradient.
    head: Option<RawTensor>,
}

/// What a step carries from action to action.
pub(super) struct Step<'a> {
    batch: &'a Batch,
    loss_scale: f32,
    pub(super) live: HashMap<Unit, Live>,
    /// Units of which only the weight part is left.
    weights: HashMap<Unit, (allocator::Unit, WeightPart)>,
    /// Keys and values by (microbatch, chunk), while later slices will read them.
    caches: HashMap<(u32, u32), Vec<KvCache>>,
    /// Outputs and input gradients that wait to be sent, or for a stage on this rank.
    outputs: HashMap<Unit, RawTensor>,
    gradients: HashMap<Unit, RawTensor>,
}

impl<'a> Step<'a> {
    /// A step on `batch` that has not begun; losses are multiplied by `loss_scale`.
    pub(super) fn new(batch: &'a Batch, loss_scale: f32) -> Self {
        Self {
            batch,
            loss_scale,
            live: HashMap::new(),
            weights: HashMap::new(),
            caches: HashMap::new(),
            outputs: HashMap::new(),
            gradients: HashMap::new(),
        }
    }
}

impl<S: Stage> Pipeline<S> {
    /// Does `action`, the next of the program.
    ///
    /// # Errors
    /// Out of memory, a failed peer, or an action that none before has prepared.
    pub(super) fn act(&mut self, action: Action, step: &mut Step<'_>) -> Result<()> {
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
