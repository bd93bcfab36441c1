use super::super::size::Size;
use super::super::{Action, ScheduleError, ScheduleKind};
use super::{Builder, Order, microbatch};

/// ZB-H1 (arXiv 2401.10241): 1F1B whose weight parts wait. Rank r runs that of a microbatch after
/// the input part of the r-th microbatch later, so that gradients travel up to rank 0 sooner, and
/// the last weight parts fill the time in which the pipeline drains. Then every rank has p units in
/// flight, as rank 0 has in 1F1B. They need not be as small: one that waits for its weight part holds
/// the inputs of products and the gradients of their outputs, for a Llama more than before its backward.
///
/// Rank 0 sends no gradient and keeps nothing back: its backward is whole.
#[derive(Debug)]
pub(super) struct ZbH1 {
    size: Size,
}

impl ZbH1 {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::ZbH1)?;
        size.expect_unchunked(ScheduleKind::ZbH1)?;
        Ok(Self { size })
    }
}

impl Builder for ZbH1 {
    fn order(&self, rank: u32) -> Order<'_> {
        let Size { ranks, microbatches, .. } = self.size;
        let step = ZbH1Order { rank, ahead: ranks - rank, microbatches, done: [0; 3] };
        Order::new(step)
    }

    fn in_flight_peak(&self, _rank: u32) -> u64 {
        u64::from(self.size.ranks.min(self.size.microbatches))
    }
}

struct ZbH1Order {
    rank: u32,
    /// Forwards before the first backward.
    ahead: u32,
    microbatches: u32,
    /// Forwards, input parts and weight parts so far.
    done: [u32; 3],
}

impl Iterator for ZbH1Order {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let &mut Self { rank, ahead, microbatches, done: [forwards, inputs, weights] } = self;
        if rank > 0 && weights < inputs && (inputs - weights > rank || inputs == microbatches) {
            self.done[2] += 1;
            Some(Action::BackwardWeight(microbatch(weights, 0)))
        } else if forwards < microbatches && forwards - inputs < ahead {
            self.done[0] += 1;
            Some(Action::Forward(microbatch(forwards, 0)))
        } else if inputs < microbatches {
            self.done[1] += 1;
            let unit = microbatch(inputs, 0);
            Some(if rank == 0 { Action::Backward(unit) } else { Action::BackwardInput(unit) })
        } else {
            None
        }
    }
}
