//! Rows of some tokens of a slice, packed for a message.

use std::ops::Range;

use slimpipe_allocator::{Region, scope};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::VocabularyDeal;
use crate::execute::{Error, Result};

/// Memory for a message of `rows` rows.
pub(super) fn message(rows: usize, (width, dtype): (usize, DType)) -> Result<RawTensor> {
    let _message = scope::place(Region::Comm);
    Ok(RawTensor::empty((rows, width), dtype, Device::Cpu, "vocabulary_rows")?)
}

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

    /// How many of them `rank` has.
    pub(super) fn count(&self, rank: u32) -> usize {
        self.of(rank).count()
    }
}

/// Copies rows of `from` to rows of `into`, as `pairs` (from, into) say; both are contiguous.
///
/// # Errors
/// A tensor's memory is gone, or `into` is shared.
pub(super) fn copy_rows(
    from: &RawTensor,
    into: &mut RawTensor,
    pairs: impl Iterator<Item = (usize, usize)>,
) -> Result<()> {
    const OP: &str = "vocabulary_rows";
    let row = from.dims()[1] * from.dtype().size();
    let (from, into) = (from.as_bytes(OP)?, into.as_bytes_mut(OP)?);
    for (source, target) in pairs {
        into[target * row..][..row].copy_from_slice(&from[source * row..][..row]);
    }
    Ok(())
}
