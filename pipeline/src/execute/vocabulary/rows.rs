//! The tokens of a slice, by the rank that has their rows.

use std::ops::Range;

use super::VocabularyDeal;
use crate::execute::{Error, Result};

/// A slice's tokens by the rank that has them.
pub(super) struct Owned<'a> {
    tokens: &'a [u32],
    deal: VocabularyDeal,
}

impl<'a> Owned<'a> {
    /// # Errors
    /// A token that there is not.
    pub(super) fn new(tokens: &'a [u32], deal: VocabularyDeal) -> Result<Self> {
        match tokens.iter().find(|&&token| token as usize >= deal.total()) {
            Some(&token) => Err(Error::UnknownToken { token, tokens: deal.total() }),
            None => Ok(Self { tokens, deal }),
        }
    }

    /// Where in the slice the tokens of `rank` are, and their rows in its part.
    pub(super) fn of(&self, rank: u32) -> impl Iterator<Item = (usize, usize)> {
        let own: Range<usize> = self.deal.tokens(rank);
        let place = move |(at, &token): (usize, &u32)| {
            own.contains(&(token as usize)).then(|| (at, token as usize - own.start))
        };
        self.tokens.iter().enumerate().filter_map(place)
    }

    /// Where the tokens of each rank are, rank after rank: how their rows lie when they are packed.
    pub(super) fn packed(&self, ranks: u32) -> impl Iterator<Item = usize> {
        (0..ranks).flat_map(|rank| self.of(rank).map(|(at, _)| at))
    }

    /// How many of them `rank` has.
    pub(super) fn count(&self, rank: u32) -> usize {
        self.of(rank).count()
    }
}
