//! What a rank's program must keep to, whatever the other ranks do.

use std::collections::{HashMap, HashSet};

use super::super::exchange::Roles;
use super::super::{Action, Schedule, Unit, Weights};
use super::exchange::Announced;
use super::vocabulary::Parts;

/// One microbatch on one chunk, between its first forward and its last backward.
#[derive(Default)]
struct Sequence {
    /// Slices that ran forward: in order, so these are slices `0..forwarded`.
    forwarded: u32,
    /// Slices whose backward has not begun: it goes in reverse, so these are slices `0..open`.
    open: u32,
}

/// A rank as its program leaves it.
pub(super) struct Rules<'a> {
    schedule: &'a Schedule,
    rank: u32,
    sequences: HashMap<(u32, u32), Sequence>,
    /// Microbatches and chunks whose keys and values are drained.
    drained: HashSet<(u32, u32)>,
    /// Received inputs, outputs, received gradients and gradients of inputs, each between the action
    /// that makes it and the one that uses it.
    inputs: HashSet<Unit>,
    outputs: HashSet<Unit>,
    gradients: HashSet<Unit>,
    input_gradients: HashSet<Unit>,
    /// Units of which only the weight part of the backward is left.
    weights: HashSet<Unit>,
    in_flight: u64,
    in_flight_peak: u64,
    /// Units that ran backward, by chunk.
    finished: Vec<u64>,
    /// Weights whose gradients are reduced over data ranks.
    reduced: HashSet<Weights>,
    tied: bool,
    stepped: bool,
    announced: Announced<'a>,
    vocabulary: Parts<'a>,
    /// The unit whose input was embedded for it right now.
    embedded: Option<Unit>,
}

pub(super) type Verdict = Result<(), String>;

/// `Ok` if `holds`, else what is wrong.
pub(super) fn must(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

impl<'a> Rules<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        Self {
            schedule,
            rank,
            sequences: HashMap::new(),
            drained: HashSet::new(),
            inputs: HashSet::new(),
            outputs: HashSet::new(),
            gradients: HashSet::new(),
            input_gradients: HashSet::new(),
            weights: HashSet::new(),
            in_flight: 0,
            in_flight_peak: 0,
            finished: vec![0; schedule.chunks() as usize],
            reduced: HashSet::new(),
            tied: false,
            stepped: false,
            announced: Announced::new(schedule, rank),
            vocabulary: Parts::new(schedule),
            embedded: None,
        }
    }

    pub(super) fn in_flight_peak(&self) -> u64 {
        self.in_flight_peak
    }

    /// Whether the program has come to its end; it has if its optimizer step was valid.
    pub(super) fn is_done(&self) -> bool {
        self.stepped
    }

    /// The unit that `unit`'s output is the input of.
    pub(super) fn counterpart_after(&self, unit: Unit) -> Unit {
        let at = self.schedule.placement().after(self.rank, unit.chunk);
        Unit { chunk: at.map_or(unit.chunk, |(_, chunk)| chunk), ..unit }
    }

    /// The unit that `unit`'s input is the output of.
    pub(super) fn counterpart_before(&self, unit: Unit) -> Unit {
        let at = self.schedule.placement().before(self.rank, unit.chunk);
        Unit { chunk: at.map_or(unit.chunk, |(_, chunk)| chunk), ..unit }
    }

    /// Judges the next action, and takes note of it. Gives what is exchanged along with it.
    pub(super) fn check(&mut self, action: Action) -> Result<Roles, String> {
        must(!self.stepped, || "it comes after the optimizer step".to_owned())?;
        if let Some(unit) = self.embedded {
            let is_due = match action {
                Action::Forward(next) => next == unit,
                _ => matches!(action, Action::Ship { .. } | Action::Attend { .. }),
            };
            must(is_due, || format!("the forward of {unit} comes right after its embedding"))?;
        }
        self.judge(action)?;
        self.announced.check(action)
    }

    fn judge(&mut self, action: Action) -> Verdict {
        match action {
            Action::RecvActivation { unit, from } => self.recv_activation(unit, from),
            Action::Forward(unit) => self.forward(unit),
            Action::SendActivation { unit, to } => self.send_activation(unit, to),
            Action::RecvGradient { unit, from } => self.recv_gradient(unit, from),
            Action::Backward(unit) => {
                self.backward_input(unit)?;
                self.finish(unit);
                Ok(())
            }
            Action::BackwardInput(unit) => {
                self.backward_input(unit)?;
                self.weights.insert(unit);
                Ok(())
            }
            Action::BackwardWeight(unit) => self.backward_weight(unit),
            Action::SendGradient { unit, to } => self.send_gradient(unit, to),
            Action::Ship { unit, part, to, pass } => {
                self.expect_exists(unit)?;
                self.announced.ship(unit, part, to, pass)
            }
            Action::Attend { unit, part, from, pass } => {
                self.expect_exists(unit)?;
                self.announced.attend(unit, part, from, pass)
            }
            Action::Help(_) => Ok(()),
            Action::VocabEmbed(unit) => self.embed(action, unit),
            Action::VocabHead(unit) => self.head(action, unit),
            Action::VocabEmbedBackward(unit) => self.embed_backward(action, unit),
            Action::ReduceGradients(weights) => self.reduce_gradients(weights),
            Action::ReduceTied { peer } => self.reduce_tied(peer),
            Action::OptimizerStep => self.optimizer_step(),
        }
    }

    fn recv_activation(&mut self, unit: Unit, from: u32) -> Verdict {
        self.expect_exists(unit)?;
        self.expect_peer(self.before(unit), from, "its input")?;
        must(!self.has_run(unit), || "its forward has run already".to_owned())?;
        must(self.inputs.insert(unit), || "its input was received already".to_owned())
    }

    fn forward(&mut self, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        must(!self.has_run(unit), || "it runs forward a second time".to_owned())?;
        let key = (unit.microbatch, unit.chunk);
        let sequence = self.sequences.entry(key).or_default();
        let forwarded = sequence.forwarded;
        must(forwarded == unit.slice, || {
            format!("slices run forward in order: slice {forwarded} is next")
        })?;
        sequence.forwarded += 1;
        sequence.open += 1;
        match self.before(unit) {
            None if self.schedule.vocabulary() => {
                self.embedded = None;
                must(self.inputs.remove(&unit), || "its input was not embedded".to_owned())?;
            }
            None => {}
            Some((rank, _)) if rank != self.rank => {
                must(self.inputs.remove(&unit), || "its input was not received".to_owned())?;
            }
            Some((_, chunk)) => {
                let source = Unit { chunk, ..unit };
                must(self.outputs.remove(&source), || format!("{source} has not run forward"))?;
            }
        }
        if self.after(unit).is_some() || self.schedule.vocabulary() {
            self.outputs.insert(unit);
        }
        self.in_flight += 1;
        self.in_flight_peak = self.in_flight_peak.max(self.in_flight);
        let (in_flight, most) = (self.in_flight, self.schedule.in_flight_peak(self.rank));
        must(in_flight <= most, || format!("{in_flight} units in flight, at most {most} may be"))
    }

    fn send_activation(&mut self, unit: Unit, to: u32) -> Verdict {
        self.expect_exists(unit)?;
        self.expect_peer(self.after(unit), to, "its output")?;
        must(self.outputs.remove(&unit), || {
            "there is no output to send: its forward has not run, or it was sent already".to_owned()
        })
    }

    fn recv_gradient(&mut self, unit: Unit, from: u32) -> Verdict {
        self.expect_exists(unit)?;
        self.expect_peer(self.after(unit), from, "its gradient")?;
        must(self.awaits_backward(unit), || "it does not await its backward".to_owned())?;
        must(!self.outputs.contains(&unit), || "its output was not sent".to_owned())?;
        must(self.gradients.insert(unit), || "its gradient was received already".to_owned())
    }

    /// What the whole backward and its input part have in common: keys and values get gradients
    /// here, so slices go last in, first out. Weight parts may follow in any order.
    fn backward_input(&mut self, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        must(self.awaits_backward(unit), || "it does not await its backward".to_owned())?;
        let slices = self.schedule.slices();
        let key = (unit.microbatch, unit.chunk);
        let sequence = self.sequences.entry(key).or_default();
        let (forwarded, open) = (sequence.forwarded, sequence.open);
        must(forwarded == slices, || {
            format!("only {forwarded} of its {slices} slices ran forward")
        })?;
        must(open == unit.slice + 1, || {
            format!("slices run backward last in, first out: slice {} is next", open - 1)
        })?;
        sequence.open -= 1;
        if sequence.open == 0 {
            self.sequences.remove(&key);
            self.drained.insert(key);
        }
        match self.after(unit) {
            None if self.schedule.vocabulary() => {
                must(self.gradients.remove(&unit), || "its output layer has not run".to_owned())?;
            }
            None => {}
            Some((rank, _)) if rank != self.rank => {
                must(self.gradients.remove(&unit), || "its gradient was not received".to_owned())?;
            }
            Some((_, chunk)) => {
                let source = Unit { chunk, ..unit };
                must(self.input_gradients.remove(&source), || {
                    format!("{source} has not run backward")
                })?;
            }
        }
        if self.before(unit).is_some() || self.schedule.vocabulary() {
            self.input_gradients.insert(unit);
        }
        Ok(())
    }

    fn backward_weight(&mut self, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        must(self.weights.remove(&unit), || {
            "there is no weight part to run: its input part has not run, or it ran already"
                .to_owned()
        })?;
        self.finish(unit);
        Ok(())
    }

    /// The unit's memory ends.
    fn finish(&mut self, unit: Unit) {
        self.in_flight -= 1;
        self.finished[unit.chunk as usize] += 1;
    }

    fn send_gradient(&mut self, unit: Unit, to: u32) -> Verdict {
        self.expect_exists(unit)?;
        self.expect_peer(self.before(unit), to, "the gradient of its input")?;
        must(self.input_gradients.remove(&unit), || {
            "there is no gradient to send: its backward has not run, or it was sent already"
                .to_owned()
        })
    }

    fn embed(&mut self, action: Action, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        if self.vocabulary.check(action, unit)? == self.rank {
            must(!self.has_run(unit), || "its forward has run already".to_owned())?;
            self.inputs.insert(unit);
            self.embedded = Some(unit);
        }
        Ok(())
    }

    fn head(&mut self, action: Action, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        if self.vocabulary.check(action, unit)? == self.rank {
            must(self.outputs.remove(&unit), || "its forward has not run".to_owned())?;
            self.gradients.insert(unit);
        }
        Ok(())
    }

    fn embed_backward(&mut self, action: Action, unit: Unit) -> Verdict {
        self.expect_exists(unit)?;
        if self.vocabulary.check(action, unit)? == self.rank {
            must(self.input_gradients.remove(&unit), || "its backward has not run".to_owned())?;
        }
        Ok(())
    }

    fn reduce_gradients(&mut self, weights: Weights) -> Verdict {
        must(self.schedule.data_ranks() > 1, || "there are no other data ranks".to_owned())?;
        match weights {
            Weights::Vocabulary => {
                let shared = self.schedule.vocabulary();
                must(shared, || "the ranks do not share the vocabulary".to_owned())?;
                self.vocabulary.expect_complete()?;
            }
            Weights::Chunk(chunk) => {
                let (chunks, units) = (self.schedule.chunks(), self.schedule.units_of_chunk());
                must(chunk < chunks, || format!("there are {chunks} chunks"))?;
                let finished = self.finished[chunk as usize];
                must(finished == units, || {
                    format!("only {finished} of its {units} units ran backward")
                })?;
            }
        }
        must(self.reduced.insert(weights), || "they were reduced already".to_owned())
    }

    fn reduce_tied(&mut self, peer: u32) -> Verdict {
        must(!self.schedule.vocabulary(), || {
            "nothing is tied: every rank has its own part of the vocabulary".to_owned()
        })?;
        let end = self.schedule.placement().other_end(self.rank);
        must(end == Some(peer), || match end {
            Some(end) => format!("the stage at the model's other end is on rank {end}"),
            None => "no stage at an end of the model has its other end elsewhere".to_owned(),
        })?;
        self.expect_complete()?;
        must(!std::mem::replace(&mut self.tied, true), || "it comes a second time".to_owned())
    }

    fn optimizer_step(&mut self) -> Verdict {
        self.expect_complete()?;
        self.vocabulary.expect_complete()?;
        let placement = self.schedule.placement();
        let needs_tied = !self.schedule.vocabulary() && placement.other_end(self.rank).is_some();
        must(self.tied || !needs_tied, || "tied gradients were not added".to_owned())?;
        self.stepped = true;
        Ok(())
    }

    fn expect_exists(&self, unit: Unit) -> Verdict {
        let schedule = self.schedule;
        let exists = unit.microbatch < schedule.microbatches()
            && unit.slice < schedule.slices()
            && unit.chunk < schedule.chunks();
        must(exists, || {
            let (m, n, v) = (schedule.microbatches(), schedule.slices(), schedule.chunks());
            format!("there are {m} microbatches, {n} slices and {v} chunks")
        })
    }

    /// `what` travels between this rank and `peer`, if the placement says so.
    fn expect_peer(&self, place: Option<(u32, u32)>, peer: u32, what: &str) -> Verdict {
        match place {
            None => Err(format!("{what} does not travel: the model ends here")),
            Some((rank, _)) if rank == self.rank => {
                Err(format!("{what} does not travel: its other end is on this rank"))
            }
            Some((rank, _)) => {
                must(rank == peer, || format!("the other end of {what} is on rank {rank}"))
            }
        }
    }

    /// All units have run forward and backward, and nobody waits for anything of theirs.
    fn expect_complete(&self) -> Verdict {
        let (finished, units) = (self.finished.iter().sum::<u64>(), self.schedule.units());
        must(finished == units, || format!("only {finished} of {units} units ran backward"))?;
        if self.schedule.data_ranks() > 1 {
            let vocabulary = self.schedule.vocabulary().then_some(Weights::Vocabulary);
            let due = (0..self.schedule.chunks()).map(Weights::Chunk).chain(vocabulary);
            let left = due.filter(|weights| !self.reduced.contains(weights)).count();
            must(left == 0, || format!("{left} reductions over the data ranks are missing"))?;
        }
        match self.input_gradients.iter().min() {
            None => Ok(()),
            Some(unit) => Err(format!("the gradient of the input of {unit} was not sent")),
        }
    }

    /// The ranks of the first and of the last stage.
    pub(super) fn ends(&self) -> (u32, u32) {
        let placement = self.schedule.placement();
        (placement.locate(0).0, placement.locate(placement.stages() - 1).0)
    }

    /// All ranks but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = u32> + use<> {
        let rank = self.rank;
        (0..self.schedule.ranks()).filter(move |&other| other != rank)
    }

    fn before(&self, unit: Unit) -> Option<(u32, u32)> {
        self.schedule.placement().before(self.rank, unit.chunk)
    }

    fn after(&self, unit: Unit) -> Option<(u32, u32)> {
        self.schedule.placement().after(self.rank, unit.chunk)
    }

    fn has_run(&self, unit: Unit) -> bool {
        let key = (unit.microbatch, unit.chunk);
        self.drained.contains(&key)
            || self.sequences.get(&key).is_some_and(|sequence| unit.slice < sequence.forwarded)
    }

    fn awaits_backward(&self, unit: Unit) -> bool {
        let key = (unit.microbatch, unit.chunk);
        self.sequences.get(&key).is_some_and(|sequence| unit.slice < sequence.open)
    }
}
