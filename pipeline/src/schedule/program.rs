//! A rank's program: its order of units, with the messages around each and what ends a step.

use std::array;
use std::iter::Flatten;

use super::{Action, Placement, Schedule};

/// The order in which a rank runs forwards and backwards, without messages.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    schedule: &'a Schedule,
    target: u64,
    forwards: u64,
    backwards: u64,
}

impl<'a> Order<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        Self { schedule, target: schedule.in_flight_peak(rank), forwards: 0, backwards: 0 }
    }
}

impl Iterator for Order<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let units = self.schedule.units();
        if self.forwards < units && self.forwards - self.backwards < self.target {
            self.forwards += 1;
            Some(Action::Forward(self.schedule.forward(self.forwards - 1)))
        } else if self.backwards < units {
            self.backwards += 1;
            Some(Action::Backward(self.schedule.backward(self.backwards - 1)))
        } else {
            None
        }
    }
}

/// A rank's actions, in order; computed one by one, never stored.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    rank: u32,
    placement: Placement,
    order: Order<'a>,
    /// What is left of the unit at hand: a message in, the work, a message out.
    unit: Flatten<array::IntoIter<Option<Action>, 3>>,
    /// What ends the step.
    end: Flatten<array::IntoIter<Option<Action>, 2>>,
}

impl<'a> Program<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        let placement = *schedule.placement();
        let tied = placement.other_end(rank).map(|peer| Action::ReduceTied { peer });
        Self {
            rank,
            placement,
            order: Order::new(schedule, rank),
            unit: [None; 3].into_iter().flatten(),
            end: [tied, Some(Action::OptimizerStep)].into_iter().flatten(),
        }
    }

    /// `work` with the messages around it. A neighbouring stage on the same rank needs none: it is
    /// handed the tensor in memory.
    fn with_messages(&self, work: Action) -> [Option<Action>; 3] {
        let (rank, placement) = (self.rank, &self.placement);
        let elsewhere = |at: Option<(u32, u32)>| at.map(|(peer, _)| peer).filter(|&p| p != rank);
        let before = |chunk| elsewhere(placement.before(rank, chunk));
        let after = |chunk| elsewhere(placement.after(rank, chunk));
        match work {
            Action::Forward(unit) => [
                before(unit.chunk).map(|from| Action::RecvActivation { unit, from }),
                Some(work),
                after(unit.chunk).map(|to| Action::SendActivation { unit, to }),
            ],
            Action::Backward(unit) => [
                after(unit.chunk).map(|from| Action::RecvGradient { unit, from }),
                Some(work),
                before(unit.chunk).map(|to| Action::SendGradient { unit, to }),
            ],
            _ => [None, Some(work), None],
        }
    }
}

impl Iterator for Program<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.unit.next() {
                return Some(action);
            }
            let Some(work) = self.order.next() else { return self.end.next() };
            self.unit = self.with_messages(work).into_iter().flatten();
        }
    }
}
