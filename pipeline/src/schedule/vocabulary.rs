//! Vocabulary parallelism: embedding, output layer and loss are cut along the vocabulary, and every
//! rank takes part in them with its rows.
//!
//! All ranks run such a collective at the same step of the clock they share: the embedding of a unit
//! when the first stage's rank is about to run it, so rank r looks up a unit that it will itself run
//! r units later; the output layer when the last stage's rank has run it, so rank r takes part p - 1 -
//! r of its own units later; the backward of the embedding when the first stage's rank has run the
//! unit's backward. While the pipeline fills and drains, ranks take part without a unit of their own.

use super::builders::Alternating;
use super::exchange::Pass;
use super::lock_step::LockStep;
use super::{Action, Placement, Unit};

/// The collectives of every step.
#[derive(Clone, Copy)]
pub(super) struct Collectives<'a> {
    clock: LockStep,
    order: &'a dyn Alternating,
    /// Rank and chunk of the first and of the last stage.
    first: (u32, u32),
    last: (u32, u32),
}

impl<'a> Collectives<'a> {
    /// Those of ranks that run units in `order`, in lock step.
    pub fn new(clock: LockStep, order: &'a dyn Alternating, placement: &Placement) -> Self {
        let (first, last) = (placement.locate(0), placement.locate(placement.stages() - 1));
        Self { clock, order, first, last }
    }

    /// What comes before the ranks' units of a step.
    pub fn before(&self, pass: Pass, step: u64) -> Option<Action> {
        match pass {
            Pass::Forward => self.unit(pass, step, self.first).map(Action::VocabEmbed),
            Pass::Backward => None,
        }
    }

    /// What comes after them.
    pub fn after(&self, pass: Pass, step: u64) -> Option<Action> {
        match pass {
            Pass::Forward => self.unit(pass, step, self.last).map(Action::VocabHead),
            Pass::Backward => self.unit(pass, step, self.first).map(Action::VocabEmbedBackward),
        }
    }

    /// The unit of that stage that runs at `step` of `pass`.
    fn unit(&self, pass: Pass, step: u64, (rank, chunk): (u32, u32)) -> Option<Unit> {
        let k = self.clock.unit_at(pass, rank, step)?;
        let unit = match pass {
            Pass::Forward => self.order.forward(k),
            Pass::Backward => self.order.backward(k),
        };
        (unit.chunk == chunk).then_some(unit)
    }
}
