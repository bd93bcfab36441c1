//! What the collectives over the vocabulary must keep to.

use std::collections::{HashMap, VecDeque};

use super::super::{Action, Schedule, Unit};
use super::rules::{Verdict, must};

/// The unit of a collective over the vocabulary.
pub(super) fn collective(action: Action) -> Option<Unit> {
    match action {
        Action::VocabEmbed(unit) | Action::VocabHead(unit) | Action::VocabEmbedBackward(unit) => {
            Some(unit)
        }
        _ => None,
    }
}

/// A rank's part in them, whatever the other ranks do.
pub(super) struct Parts<'a> {
    schedule: &'a Schedule,
    /// Slices that went through each of the three collectives, by microbatch. They go through in
    /// order, and through the last one in reverse.
    slices: [HashMap<u32, u32>; 3],
    done: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(schedule: &'a Schedule) -> Self {
        Self { schedule, slices: Default::default(), done: 0 }
    }

    /// Judges the collective `action` of `unit`; gives the rank whose unit it is.
    pub(super) fn check(&mut self, action: Action, unit: Unit) -> Result<u32, String> {
        must(self.schedule.vocabulary(), || "the ranks do not share the vocabulary".to_owned())?;
        let placement = self.schedule.placement();
        let last = placement.stages() - 1;
        let (which, stage, name) = match action {
            Action::VocabEmbed(_) => (0, 0, "first"),
            Action::VocabHead(_) => (1, last, "last"),
            _ => (2, 0, "first"),
        };
        let (rank, chunk) = placement.locate(stage);
        must(unit.chunk == chunk, || format!("the {name} stage is chunk {chunk} of rank {rank}"))?;
        let done = self.slices[which].entry(unit.microbatch).or_default();
        let slices = self.schedule.slices();
        must(*done < slices, || "all its slices have done so already".to_owned())?;
        let next = if which == 2 { slices - 1 - *done } else { *done };
        must(unit.slice == next, || format!("slice {next} is next"))?;
        *done += 1;
        self.done += 1;
        Ok(rank)
    }

    /// All slices went through all three.
    pub(super) fn expect_complete(&self) -> Verdict {
        let slices = u64::from(self.schedule.microbatches()) * u64::from(self.schedule.slices());
        let due = if self.schedule.vocabulary() { 3 * slices } else { 0 };
        must(self.done == due, || {
            format!("only {} of {due} collectives over the vocabulary were run", self.done)
        })
    }
}

/// The collectives of all ranks: the same ones in the same order.
pub(super) struct Together {
    /// Those that some ranks have begun and others not, with the number of the first.
    begun: VecDeque<Action>,
    first: u64,
    /// The number of each rank's next.
    next: Vec<u64>,
}

impl Together {
    pub(super) fn new(ranks: usize) -> Self {
        Self { begun: VecDeque::new(), first: 0, next: vec![0; ranks] }
    }

    /// Judges that `action` is what `rank` begins next.
    pub(super) fn begin(&mut self, rank: u32, action: Action) -> Verdict {
        let number = self.next[rank as usize];
        self.next[rank as usize] += 1;
        match self.begun.get((number - self.first) as usize) {
            None => self.begun.push_back(action),
            Some(other) => must(*other == action, || {
                format!("all ranks share the vocabulary in the same order, and {other} is next")
            })?,
        }
        if self.next.iter().all(|&next| next > self.first) {
            self.begun.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}
