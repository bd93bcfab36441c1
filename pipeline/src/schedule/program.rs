//! Lowering: from the order of passes to a rank's program.
//!
//! One rule for all schedules. A receive comes right before the pass that uses it and a send right
//! after the pass that made it; where the neighbouring stage is on the same rank there is neither.
//! A step ends with the tied embedding's gradient, the gradient norm and the optimizer.

use super::{Action, Order, Pass, Schedule};

/// The actions of one rank in one step, made as they are asked for.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    schedule: &'a Schedule,
    rank: u32,
    order: Order<'a>,
    /// Actions that are due before the next pass; reversed.
    due: Vec<Action>,
    ended: bool,
}

impl<'a> Program<'a> {
    pub(super) fn new(schedule: &'a Schedule, rank: u32) -> Self {
        let (order, due) = (Order::new(schedule, rank), Vec::with_capacity(3));
        Self { schedule, rank, order, due, ended: false }
    }

    fn lower(&mut self, pass: Pass) {
        let placement = self.schedule.placement();
        let (receive, send) = match pass {
            Pass::Forward(unit) => (
                placement
                    .remote_previous(self.rank, unit.chunk)
                    .map(|from| Action::RecvActivation { unit, from }),
                placement
                    .remote_next(self.rank, unit.chunk)
                    .map(|to| Action::SendActivation { unit, to }),
            ),
            Pass::Backward(unit) => (
                placement
                    .remote_next(self.rank, unit.chunk)
                    .map(|from| Action::RecvGradient { unit, from }),
                placement
                    .remote_previous(self.rank, unit.chunk)
                    .map(|to| Action::SendGradient { unit, to }),
            ),
        };
        self.due.extend([send, Some(pass.into()), receive].into_iter().flatten());
    }

    fn end_step(&mut self) {
        self.ended = true;
        let tied = self.schedule.tied_peer(self.rank).map(|peer| Action::ReduceTied { peer });
        self.due.extend([Action::OptimizerStep, Action::ReduceGradientNorm]);
        self.due.extend(tied);
    }
}

impl Iterator for Program<'_> {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        if self.due.is_empty() {
            match self.order.next() {
                Some(pass) => self.lower(pass),
                None if !self.ended => self.end_step(),
                None => {}
            }
        }
        self.due.pop()
    }
}
