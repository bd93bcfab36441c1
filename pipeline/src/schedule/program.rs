//! A rank's program: its order of units, with the messages around each and what ends a step.

use std::array;
use std::iter::Flatten;

use super::{Action, Schedule};

/// The order in which a rank runs forwards and backwards, without messages.
pub struct Order<'a>(Box<dyn Iterator<Item = Action> + Send + 'a>);

impl<'a> Order<'a> {
    pub(super) fn new(work: impl Iterator<Item = Action> + Send + 'a) -> Self {
        Self(Box::new(work))
    }
}

impl Iterator for Order<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        self.0.next()
    }
}

/// A rank's actions, in order; computed one by one, never stored.
pub struct Program<'a> {
    schedule: &'a Schedule,
    rank: u32,
    order: Order<'a>,
    /// What is left of the unit at hand: a message in, the work, a message out.
    unit: Flatten<array::IntoIter<Option<Action>, 3>>,
    /// What ends the step.
    end: Flatten<array::IntoIter<Option<Action>, 2>>,
}

impl<'a> Program<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        let tied = schedule.placement().other_end(rank).map(|peer| Action::ReduceTied { peer });
        Self {
            schedule,
            rank,
            order: schedule.order(rank),
            unit: [None; 3].into_iter().flatten(),
            end: [tied, Some(Action::OptimizerStep)].into_iter().flatten(),
        }
    }

    /// `work` with the messages around it. A neighbouring stage on the same rank needs none: it is
    /// handed the tensor in memory.
    fn with_messages(&self, work: Action) -> [Option<Action>; 3] {
        let (rank, placement) = (self.rank, self.schedule.placement());
        let elsewhere = |at: Option<(u32, u32)>| at.map(|(peer, _)| peer).filter(|&p| p != rank);
        let before = |chunk| elsewhere(placement.before(rank, chunk));
        let after = |chunk| elsewhere(placement.after(rank, chunk));
        match work {
            Action::Forward(unit) => [
                before(unit.chunk).map(|from| Action::RecvActivation { unit, from }),
                Some(work),
                after(unit.chunk).map(|to| Action::SendActivation { unit, to }),
            ],
            Action::Backward(unit) | Action::BackwardInput(unit) => [
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
