//! Which windows of the data a step trains on: a pure function of (seed, step, microbatch), so that
//! every rank knows it and a resumed run continues exactly.

use slimpipe_pipeline::execute::{Batch, Sequence};
use slimpipe_runtime::random::Random;

use super::Tokens;
use crate::Result;

/// Draws each sequence from a random place.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    random: Random,
    microbatches: u32,
    /// The first of them that are drawn, and how many.
    own: (u32, u32),
    seq_len: usize,
}

impl Sampler {
    /// Of `microbatches` sequences of `seq_len` tokens per step.
    pub fn new(seed: u64, microbatches: u32, seq_len: usize) -> Self {
        let (random, own) = (Random::named(seed, "data"), (0, microbatches));
        Self { random, microbatches, own, seq_len }
    }

    /// The sampler of data rank `rank` of `ranks`, which divide the sequences of each step.
    ///
    /// # Panics
    /// There is no such rank.
    pub fn of_data_rank(self, rank: u32, ranks: u32) -> Self {
        assert!(rank < ranks, "data rank {rank} of {ranks}");
        let each = self.microbatches / ranks;
        Self { own: (rank * each, each), ..self }
    }

    /// The batch of `step`, whose ids were checked against `vocab_size`.
    ///
    /// # Errors
    /// The data is shorter than a sequence, or has tokens outside the vocabulary.
    pub fn batch(&self, tokens: &Tokens, step: u64, vocab_size: usize) -> Result<Batch> {
        tokens.check_context(self.seq_len, "train.seq_len")?;
        let (first, count) = self.own;
        let starts = (tokens.len() - self.seq_len) as u64;
        let sequence = |microbatch: u32| {
            let index = step * u64::from(self.microbatches) + u64::from(microbatch);
            let window = tokens.window(self.random.below(index, starts) as usize, self.seq_len + 1);
            Tokens::check_vocabulary(&window, vocab_size)?;
            Ok(Sequence::next_token(&window))
        };
        Ok(Batch { sequences: (first..first + count).map(sequence).collect::<Result<_>>()? })
    }
}
