//! Which rank has which tokens.

use std::ops::Range;

use crate::execute::{Error, Result};

/// A vocabulary dealt to ranks: each has the rows of neighbouring tokens, as evenly as can be; lower
/// ranks get the remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VocabularyDeal {
    /// Tokens there are.
    tokens: usize,
    /// Ranks that share them.
    ranks: u32,
}

impl VocabularyDeal {
    /// Deals `tokens` tokens to `ranks` ranks.
    ///
    /// # Errors
    /// Fewer tokens than ranks.
    pub fn new(tokens: usize, ranks: u32) -> Result<Self> {
        match tokens >= ranks as usize && ranks > 0 {
            true => Ok(Self { tokens, ranks }),
            false => Err(Error::SmallVocabulary { tokens, ranks }),
        }
    }

    /// The tokens of `rank`.
    pub fn tokens(&self, rank: u32) -> Range<usize> {
        let (each, more) = (self.tokens / self.ranks as usize, self.tokens % self.ranks as usize);
        let start = |rank: usize| rank * each + rank.min(more);
        start(rank as usize)..start(rank as usize + 1)
    }

    /// The most tokens that a rank has.
    pub fn most(&self) -> usize {
        self.tokens(0).len()
    }

    /// Tokens of all ranks.
    pub fn total(&self) -> usize {
        self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_one_rank_and_ranks_differ_by_one_at_most() {
        for (tokens, ranks) in [(1, 1), (4, 4), (61, 4), (7, 3), (128_256, 16), (50_257, 7)] {
            let deal = VocabularyDeal::new(tokens, ranks).unwrap();
            let mut end = 0;
            for rank in 0..ranks {
                let own = deal.tokens(rank);
                assert_eq!(own.start, end);
                assert!(own.len() == deal.most() || own.len() + 1 == deal.most());
                end = own.end;
            }
            assert_eq!(end, tokens);
        }
    }

    #[test]
    fn fewer_tokens_than_ranks_are_refused() {
        let error = VocabularyDeal::new(3, 4).unwrap_err().to_string();
        assert!(error.contains("3 tokens") && error.contains("parallel.vocabulary"), "{error}");
    }
}
