//! What a step trains on: one sequence per microbatch.

use slimpipe_autograd::IGNORE;

use super::{Error, Result};
use crate::schedule::{Slices, Unit};

/// One microbatch: tokens, and the label of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// What each position should predict; -100 counts for nothing.
    pub labels: Vec<i64>,
}

impl Sequence {
    /// The sequence that predicts each next token of `window`, which is one token longer.
    pub fn next_token(window: &[u32]) -> Self {
        let (tokens, next) =
            (&window[..window.len().saturating_sub(1)], window.get(1..).unwrap_or(&[]));
        Self {
            tokens: tokens.to_vec(),
            labels: next.iter().map(|&token| i64::from(token)).collect(),
        }
    }
}

/// The microbatches of one step, the same on every rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// One sequence per microbatch, all of one length.
    pub sequences: Vec<Sequence>,
}

impl Batch {
    /// The tokens of a unit's slice.
    pub(crate) fn tokens(&self, unit: Unit, slices: &Slices) -> &[u32] {
        &self.sequences[unit.microbatch as usize].tokens[slices.range(unit.slice)]
    }

    /// Their labels.
    pub(crate) fn labels(&self, unit: Unit, slices: &Slices) -> &[i64] {
        &self.sequences[unit.microbatch as usize].labels[slices.range(unit.slice)]
    }

    /// Checks that there are `microbatches` sequences of `seq_len` tokens, and gives the number of
    /// labels that count.
    pub(crate) fn count_labels(&self, microbatches: usize, seq_len: usize) -> Result<usize> {
        if self.sequences.len() != microbatches {
            let (got, expected) = (self.sequences.len(), microbatches);
            return Err(Error::BatchSize { got, expected });
        }
        for (microbatch, sequence) in self.sequences.iter().enumerate() {
            let (tokens, labels) = (sequence.tokens.len(), sequence.labels.len());
            if tokens != seq_len || labels != seq_len {
                return Err(Error::SequenceLength {
                    microbatch,
                    tokens,
                    labels,
                    expected: seq_len,
                });
            }
        }
        let labels = self.sequences.iter().flat_map(|sequence| &sequence.labels);
        Ok(labels.filter(|&&label| label != IGNORE).count())
    }
}
