//! The simulation itself: each rank runs until it has to wait, and is woken by what it waits for.
//!
//! Ranks influence each other only through messages and collectives. Every queue has one sender and
//! one receiver, so times do not depend on the order in which ranks are taken: no global clock is
//! needed, and the work is linear in the number of actions.

use std::collections::VecDeque;

use super::collective::Meetings;
use super::exchange::Layered;
use super::ledger::Ledger;
use super::mail::{Inbox, Kind, Wait};
use super::{Costs, Held, Outcome, RankOutcome, Span};
use crate::schedule::{Action, Schedule, ScheduleError};

/// Who is told of every action as it is simulated. Per rank in order; ranks interleave.
pub trait Watch {
    /// An action was simulated.
    fn span(&mut self, span: Span);
}

/// Watches nothing.
impl Watch for () {
    fn span(&mut self, _: Span) {}
}

impl<F: FnMut(Span)> Watch for F {
    fn span(&mut self, span: Span) {
        self(span);
    }
}

/// Simulates a step of `schedule`, with as much room for messages as the executor gives it.
///
/// # Errors
/// Programs that wait for each other; those of a verified schedule do not.
pub fn simulate(schedule: &Schedule, costs: &impl Costs) -> Result<Outcome, ScheduleError> {
    let programs = (0..schedule.ranks()).map(|rank| schedule.program(rank));
    simulate_programs(programs, schedule.channel_capacity(), costs, &mut ())
}

/// Simulates `programs`, by rank, wherever they come from, and tells `watch` of every action. As many
/// as `capacity` messages of a kind may be under way from one rank to another; a sender waits for
/// room.
///
/// # Errors
/// Programs that wait for each other.
pub fn simulate_programs<P: IntoIterator<Item = Action>>(
    programs: impl IntoIterator<Item = P>,
    capacity: usize,
    costs: &impl Costs,
    watch: &mut impl Watch,
) -> Result<Outcome, ScheduleError> {
    let ranks = programs.into_iter().zip(0..);
    let ranks: Vec<_> =
        ranks.map(|(program, rank)| Rank::new(program.into_iter(), costs.resident(rank))).collect();
    let mut world = World {
        inboxes: ranks.iter().map(|_| Vec::new()).collect(),
        meetings: Meetings::default(),
        ready: (0..ranks.len() as u32).collect(),
        ranks,
        capacity,
        costs,
        watch,
    };
    world.run()?;
    let makespan = world.ranks.iter().map(|rank| rank.clock).fold(0.0, f64::max);
    Ok(Outcome { makespan, ranks: world.ranks.into_iter().map(Rank::outcome).collect() })
}

pub(super) struct Rank<I> {
    program: I,
    next: Option<Action>,
    index: usize,
    pub clock: f64,
    /// When the engine that sends is free again.
    pub engine: f64,
    /// When gradients that are being reduced over data ranks will have been.
    reduced: f64,
    pub waiting: Option<Wait>,
    /// Whether the action at hand has told its peers that it is there.
    pub announced: bool,
    /// What is exchanged along with the unit that comes next.
    pub layered: Layered,
    /// When the action at hand began.
    began: f64,
    in_flight: u64,
    pub ledger: Ledger,
    pub outcome: RankOutcome,
}

impl<I: Iterator<Item = Action>> Rank<I> {
    fn new(mut program: I, held: Held) -> Self {
        Self {
            next: program.next(),
            program,
            index: 0,
            clock: 0.0,
            engine: 0.0,
            reduced: 0.0,
            waiting: None,
            announced: false,
            layered: Layered::default(),
            began: 0.0,
            in_flight: 0,
            ledger: Ledger::new(held),
            outcome: RankOutcome::default(),
        }
    }

    fn outcome(self) -> RankOutcome {
        RankOutcome { end: self.clock, peak: self.ledger.peak(), ..self.outcome }
    }

    /// Computes for so long.
    pub fn work(&mut self, seconds: f64) {
        self.clock += seconds;
        self.outcome.busy += seconds;
    }
}

pub(super) struct World<'a, I, C, W> {
    pub ranks: Vec<Rank<I>>,
    /// By receiver.
    pub inboxes: Vec<Vec<Inbox>>,
    pub meetings: Meetings,
    /// Ranks that need not wait.
    pub ready: VecDeque<u32>,
    pub capacity: usize,
    pub costs: &'a C,
    watch: &'a mut W,
}

impl<I: Iterator<Item = Action>, C: Costs, W: Watch> World<'_, I, C, W> {
    fn run(&mut self) -> Result<(), ScheduleError> {
        while let Some(rank) = self.ready.pop_front() {
            while let Some(action) = self.ranks[rank as usize].next {
                if !self.step(rank, action) {
                    break;
                }
            }
        }
        let waiting: Vec<String> = (self.ranks.iter().enumerate())
            .filter_map(|(rank, state)| {
                Some(format!("rank {rank} at action {} ({})", state.index, state.next?))
            })
            .collect();
        match waiting.is_empty() {
            true => Ok(()),
            false => {
                let waiting = waiting.join(", ");
                Err(ScheduleError::Deadlock { capacity: self.capacity, waiting })
            }
        }
    }

    /// Simulates one action of `rank`; false if it has to wait first.
    fn step(&mut self, rank: u32, action: Action) -> bool {
        let goes_on = match action {
            Action::RecvActivation { from, .. } => self.receive(rank, from, Kind::Activation),
            Action::RecvGradient { from, .. } => self.receive(rank, from, Kind::Gradient),
            Action::SendActivation { to, .. } => self.send(rank, to, Kind::Activation, action),
            Action::SendGradient { to, .. } => self.send(rank, to, Kind::Gradient, action),
            Action::VocabEmbed(_) | Action::VocabHead(_) | Action::VocabEmbedBackward(_) => {
                self.meet(rank, action)
            }
            Action::ReduceGradients(_) => {
                self.reduce(rank, action);
                true
            }
            Action::OptimizerStep => {
                self.await_reductions(rank);
                true
            }
            Action::ReduceTied { peer } => {
                self.await_reductions(rank);
                if !std::mem::replace(&mut self.ranks[rank as usize].announced, true) {
                    // There is one in a step: it finds room.
                    self.send(rank, peer, Kind::Tied, action);
                }
                self.receive(rank, peer, Kind::Tied)
            }
            _ => true,
        };
        if !goes_on || !self.compute(rank, action) {
            return false;
        }
        let state = &mut self.ranks[rank as usize];
        state.next = state.program.next();
        state.index += 1;
        state.announced = false;
        true
    }

    /// Lets the time of an action pass; false if it has to wait in between.
    fn compute(&mut self, rank: u32, action: Action) -> bool {
        let state = &mut self.ranks[rank as usize];
        if !state.layered.has_begun() {
            if let Action::Forward(_) = action {
                state.in_flight += 1;
                state.outcome.in_flight_peak = state.outcome.in_flight_peak.max(state.in_flight);
            }
            let begin = self.costs.begin(rank, action);
            state.began = state.clock;
            state.ledger.change(state.began, begin);
        }
        if !self.pass_time(rank, action) {
            return false;
        }
        let end = self.costs.end(rank, action);
        let state = &mut self.ranks[rank as usize];
        let held = state.ledger.actions();
        state.ledger.change(state.clock, end);
        if let Action::Backward(_) | Action::BackwardWeight(_) = action {
            state.in_flight -= 1;
        }
        self.watch.span(Span { rank, action, begin: state.began, end: state.clock, held });
        true
    }

    fn pass_time(&mut self, rank: u32, action: Action) -> bool {
        let seconds = self.costs.seconds(rank, action);
        let state = &mut self.ranks[rank as usize];
        match action {
            Action::Ship { .. } | Action::Attend { .. } => state.layered.add(action, seconds),
            _ if state.layered.is_empty() => state.work(seconds),
            _ => return self.pass_layers(rank, action, seconds),
        }
        true
    }

    /// Begins to reduce gradients over the data ranks, which run the same program at the same time.
    /// That goes on beside what follows.
    fn reduce(&mut self, rank: u32, action: Action) {
        let link = self.costs.link(rank, rank, action);
        let state = &mut self.ranks[rank as usize];
        state.reduced = state.reduced.max(state.clock) + link.occupied + link.latency;
    }

    fn await_reductions(&mut self, rank: u32) {
        let state = &mut self.ranks[rank as usize];
        state.clock = state.clock.max(state.reduced);
    }
}
