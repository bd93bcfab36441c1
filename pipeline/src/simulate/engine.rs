//! The simulation itself: each rank runs until it has to wait, and is woken by what it waits for.
//!
//! Ranks influence each other only through messages, and every queue has one sender and one
//! receiver, so times do not depend on the order in which ranks are taken: no global clock is needed,
//! and the work is linear in the number of actions.

use std::collections::VecDeque;

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
        ranks,
        capacity,
        costs,
        watch,
    };
    world.run()?;
    let makespan = world.ranks.iter().map(|rank| rank.clock).fold(0.0, f64::max);
    Ok(Outcome { makespan, ranks: world.ranks.into_iter().map(Rank::outcome).collect() })
}

/// What a queue carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Activation,
    Gradient,
    Tied,
}

/// Messages from one rank, of one kind.
struct Inbox {
    from: u32,
    kind: Kind,
    /// When each that nobody has taken arrives.
    arrivals: VecDeque<f64>,
    /// When each place became free; a place that was never used is free from the start.
    places: VecDeque<f64>,
    unused: usize,
}

/// What a rank waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// A message from a rank.
    Message(u32, Kind),
    /// Room for one to a rank.
    Room(u32, Kind),
}

struct Rank<I> {
    program: I,
    next: Option<Action>,
    index: usize,
    clock: f64,
    /// When the engine that sends is free again.
    engine: f64,
    /// When gradients that are being reduced over data ranks will have been.
    reduced: f64,
    waiting: Option<Wait>,
    /// Whether the action at hand has told its peer that it is there.
    announced: bool,
    /// Seconds that helpers spare the unit that comes next.
    spared: f64,
    in_flight: u64,
    held: Held,
    outcome: RankOutcome,
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
            spared: 0.0,
            in_flight: 0,
            held,
            outcome: RankOutcome { peak: held, ..RankOutcome::default() },
        }
    }

    fn outcome(self) -> RankOutcome {
        RankOutcome { end: self.clock, ..self.outcome }
    }

    fn hold(&mut self, change: &Held) {
        self.held.add(change);
        if self.held.total() > self.outcome.peak.total() {
            self.outcome.peak = self.held;
        }
    }
}

struct World<'a, I, C, W> {
    ranks: Vec<Rank<I>>,
    /// By receiver.
    inboxes: Vec<Vec<Inbox>>,
    capacity: usize,
    costs: &'a C,
    watch: &'a mut W,
}

impl<I: Iterator<Item = Action>, C: Costs, W: Watch> World<'_, I, C, W> {
    fn run(&mut self) -> Result<(), ScheduleError> {
        let mut ready: VecDeque<u32> = (0..self.ranks.len() as u32).collect();
        while let Some(rank) = ready.pop_front() {
            while let Some(action) = self.ranks[rank as usize].next {
                if !self.step(rank, action, &mut ready) {
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
    fn step(&mut self, rank: u32, action: Action, ready: &mut VecDeque<u32>) -> bool {
        let goes_on = match action {
            Action::RecvActivation { from, .. } => {
                self.receive(rank, from, Kind::Activation, ready)
            }
            Action::RecvGradient { from, .. } => self.receive(rank, from, Kind::Gradient, ready),
            Action::SendActivation { to, .. } => {
                self.send(rank, to, Kind::Activation, action, ready)
            }
            Action::SendGradient { to, .. } => self.send(rank, to, Kind::Gradient, action, ready),
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
                    self.send(rank, peer, Kind::Tied, action, ready);
                }
                self.receive(rank, peer, Kind::Tied, ready)
            }
            _ => true,
        };
        if !goes_on {
            return false;
        }
        self.compute(rank, action);
        let state = &mut self.ranks[rank as usize];
        state.next = state.program.next();
        state.index += 1;
        state.announced = false;
        true
    }

    fn compute(&mut self, rank: u32, action: Action) {
        let mut seconds = self.costs.seconds(rank, action);
        let (begin, end) = (self.costs.begin(rank, action), self.costs.end(rank, action));
        let state = &mut self.ranks[rank as usize];
        match action {
            Action::Ship { .. } => state.spared += std::mem::take(&mut seconds),
            Action::Forward(_) | Action::Backward(_) => {
                seconds -= std::mem::take(&mut state.spared);
            }
            _ => {}
        }
        if let Action::Forward(_) = action {
            state.in_flight += 1;
            state.outcome.in_flight_peak = state.outcome.in_flight_peak.max(state.in_flight);
        }
        state.hold(&begin);
        let from = state.clock;
        state.clock += seconds;
        state.outcome.busy += seconds;
        state.hold(&end);
        if let Action::Backward(_) | Action::BackwardWeight(_) = action {
            state.in_flight -= 1;
        }
        self.watch.span(Span { rank, action, begin: from, end: self.ranks[rank as usize].clock });
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

    /// Sends a message; false if there is no room for it yet.
    fn send(
        &mut self,
        rank: u32,
        to: u32,
        kind: Kind,
        action: Action,
        ready: &mut VecDeque<u32>,
    ) -> bool {
        let inbox = self.inbox(to, rank, kind);
        let free = match inbox.unused {
            0 => inbox.places.pop_front(),
            _ => {
                inbox.unused -= 1;
                Some(0.0)
            }
        };
        let Some(free) = free else {
            self.ranks[rank as usize].waiting = Some(Wait::Room(to, kind));
            return false;
        };
        let link = self.costs.link(rank, to, action);
        let state = &mut self.ranks[rank as usize];
        state.clock = state.clock.max(free);
        state.engine = state.engine.max(state.clock) + link.occupied;
        state.outcome.sending += link.occupied;
        let arrival = state.engine + link.latency;
        self.inbox(to, rank, kind).arrivals.push_back(arrival);
        self.wake(to, Wait::Message(rank, kind), ready);
        true
    }

    /// Waits until the next message is there; false if it has not been sent yet.
    fn receive(&mut self, rank: u32, from: u32, kind: Kind, ready: &mut VecDeque<u32>) -> bool {
        let arrival = self.inbox(rank, from, kind).arrivals.pop_front();
        let state = &mut self.ranks[rank as usize];
        let Some(arrival) = arrival else {
            state.waiting = Some(Wait::Message(from, kind));
            return false;
        };
        state.clock = state.clock.max(arrival);
        let now = state.clock;
        self.inbox(rank, from, kind).places.push_back(now);
        self.wake(from, Wait::Room(rank, kind), ready);
        true
    }

    fn wake(&mut self, rank: u32, wait: Wait, ready: &mut VecDeque<u32>) {
        let peer = &mut self.ranks[rank as usize];
        if peer.waiting == Some(wait) {
            peer.waiting = None;
            ready.push_back(rank);
        }
    }

    /// A rank hears from a few others only: a list is searched faster than a map.
    fn inbox(&mut self, rank: u32, from: u32, kind: Kind) -> &mut Inbox {
        let inboxes = &mut self.inboxes[rank as usize];
        let found = inboxes.iter().position(|inbox| inbox.from == from && inbox.kind == kind);
        let index = found.unwrap_or_else(|| {
            let (arrivals, places) = (VecDeque::new(), VecDeque::new());
            inboxes.push(Inbox { from, kind, arrivals, places, unused: self.capacity });
            inboxes.len() - 1
        });
        &mut inboxes[index]
    }
}
