//! A rank's program: its order of units, with the messages around each, what ranks do together, and
//! what ends a step.

use std::collections::VecDeque;

use super::exchange::Pass;
use super::weave::Weave;
use super::{Action, Schedule, Weights};

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

/// A rank's actions, in order; computed as they are needed, never stored.
pub struct Program<'a> {
    schedule: &'a Schedule,
    rank: u32,
    order: Order<'a>,
    /// What the rank does besides, if ranks do anything together.
    weave: Option<Weave<'a>>,
    /// What is left of the unit at hand: messages in, the work, a message out.
    actions: VecDeque<Action>,
    /// By chunk, the units whose backward is still to come.
    backwards: Vec<u64>,
    ended: bool,
}

impl<'a> Program<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32, weave: Option<Weave<'a>>) -> Self {
        let (order, actions) = (schedule.order(rank), VecDeque::new());
        let backwards = vec![schedule.units_of_chunk(); schedule.chunks() as usize];
        Self { schedule, rank, order, weave, actions, backwards, ended: false }
    }

    /// Adds `work` with what goes along with it: messages where a neighbouring stage is on another
    /// rank (one on the same rank is handed the tensor in memory), and what ranks do together.
    fn push(&mut self, work: Action) {
        let (rank, placement) = (self.rank, self.schedule.placement());
        let elsewhere = |at: Option<(u32, u32)>| at.map(|(peer, _)| peer).filter(|&p| p != rank);
        let before = |chunk| elsewhere(placement.before(rank, chunk));
        let after = |chunk| elsewhere(placement.after(rank, chunk));
        let (pass, receive, send) = match work {
            Action::Forward(unit) => (
                Pass::Forward,
                before(unit.chunk).map(|from| Action::RecvActivation { unit, from }),
                after(unit.chunk).map(|to| Action::SendActivation { unit, to }),
            ),
            Action::Backward(unit) | Action::BackwardInput(unit) => (
                Pass::Backward,
                after(unit.chunk).map(|from| Action::RecvGradient { unit, from }),
                before(unit.chunk).map(|to| Action::SendGradient { unit, to }),
            ),
            _ => {
                self.actions.push_back(work);
                return self.push_reduction(work);
            }
        };
        match &mut self.weave {
            Some(weave) => weave.unit(pass, &mut self.actions, receive, work, send),
            None => self.actions.extend(receive.into_iter().chain([work]).chain(send)),
        }
        self.push_reduction(work);
    }

    /// Adds the reduction over data ranks if `work` is the last backward of its chunk. That is long
    /// before the step ends where a rank has several chunks, or other ranks are done later.
    fn push_reduction(&mut self, work: Action) {
        let (Action::Backward(unit) | Action::BackwardWeight(unit)) = work else { return };
        let left = &mut self.backwards[unit.chunk as usize];
        *left -= 1;
        if *left == 0 && self.schedule.data_ranks() > 1 {
            self.actions.push_back(Action::ReduceGradients(Weights::Chunk(unit.chunk)));
        }
    }

    /// Adds what comes after the last unit.
    fn push_end(&mut self) {
        if let Some(weave) = &mut self.weave {
            weave.rest(&mut self.actions);
        }
        if self.schedule.vocabulary() && self.schedule.data_ranks() > 1 {
            self.actions.push_back(Action::ReduceGradients(Weights::Vocabulary));
        }
        if !self.schedule.vocabulary() {
            let tied = self.schedule.placement().other_end(self.rank);
            self.actions.extend(tied.map(|peer| Action::ReduceTied { peer }));
        }
        self.actions.push_back(Action::OptimizerStep);
        self.ended = true;
    }
}

impl Iterator for Program<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        while self.actions.is_empty() && !self.ended {
            match self.order.next() {
                Some(work) => self.push(work),
                None => self.push_end(),
            }
        }
        self.actions.pop_front()
    }
}
