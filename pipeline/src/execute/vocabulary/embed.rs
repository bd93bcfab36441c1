//! The embedding of a slice, and its gradient: rows go between their owners and the first stage.

use slimpipe_allocator::{Region, scope};
use slimpipe_ops::embedding::{embedding, embedding_backward, embedding_into};
use slimpipe_runtime::RawTensor;

use super::Vocabulary;
use super::rows::Owned;
use crate::comm::Tag;
use crate::execute::payload::{TensorPayload, room};
use crate::execute::{Result, Timeline, Work};
use crate::schedule::Unit;

impl Vocabulary {
    /// Sends this rank's rows of the slice to the first stage's rank, whose unit's forward
    /// [collects](Vocabulary::collect) them.
    pub(in crate::execute) fn embed(
        &mut self,
        unit: Unit,
        tokens: &[u32],
        timeline: &mut Timeline,
    ) -> Result<()> {
        let rank = self.comm.rank();
        if rank == self.first {
            return Ok(());
        }
        let owned = Owned::new(tokens, self.part.deal)?;
        if owned.count(rank) == 0 {
            return Ok(());
        }
        let rows = timeline.record(Work::VocabEmbed(unit), || -> Result<RawTensor> {
            let numbers = self.numbers(owned.of(rank).map(|(_, row)| row))?;
            let _message = scope::place(Region::Comm);
            Ok(embedding(&self.part.embedding.value(), &numbers)?)
        })?;
        let (payload, tag) = (Box::new(TensorPayload::new(rows)?), Tag::Activation(unit));
        let send = || self.comm.send(self.first, tag, payload);
        Ok(timeline.record(Work::SendActivation { unit, to: self.first }, send)?)
    }

    /// Fills `into` [tokens, width], the input of a unit of the first stage, with the embedding of its
    /// `tokens`. In `packed`, of the same shape, rows come together, rank after rank.
    pub(in crate::execute) fn collect(
        &mut self,
        unit: Unit,
        tokens: &[u32],
        into: &mut RawTensor,
        packed: &mut RawTensor,
        timeline: &mut Timeline,
    ) -> Result<()> {
        let owned = Owned::new(tokens, self.part.deal)?;
        let (own, size) = (self.comm.rank(), self.comm.size());
        let mut start = 0;
        for rank in 0..size {
            let count = owned.count(rank);
            if count == 0 {
                continue;
            }
            if rank == own {
                timeline.record(Work::VocabEmbed(unit), || -> Result<()> {
                    let numbers = self.numbers(owned.of(own).map(|(_, row)| row))?;
                    let table = self.part.embedding.value();
                    let rows = |rows: &mut RawTensor| embedding_into(&table, &numbers, rows);
                    Ok(packed.with_rows(start, count, rows)?)
                })?;
            } else {
                timeline.record(Work::ReceiveActivation { unit, from: rank }, || {
                    let receive = |rows: &mut RawTensor| {
                        let room = room(rows)?;
                        Ok(self.comm.recv(rank, Tag::Activation(unit), room))
                    };
                    packed.with_rows(start, count, receive)?.map_err(crate::execute::Error::from)
                })?;
            }
            start += count;
        }
        timeline.record(Work::VocabEmbed(unit), || {
            let mut places = vec![0; tokens.len()];
            owned.packed(size).enumerate().for_each(|(place, at)| places[at] = place);
            let numbers = self.numbers(places.into_iter())?;
            Ok(embedding_into(packed, &numbers, into)?)
        })
    }

    /// Adds the rows of `gradient`, that of a unit's input on the first stage's rank, to the
    /// embedding's: each rank those of its tokens. The others give none.
    pub(in crate::execute) fn embed_backward(
        &mut self,
        unit: Unit,
        tokens: &[u32],
        gradient: Option<RawTensor>,
        timeline: &mut Timeline,
    ) -> Result<()> {
        let owned = Owned::new(tokens, self.part.deal)?;
        let own = self.comm.rank();
        let count = owned.count(own);
        let rows = match gradient {
            Some(gradient) => self.spread(unit, &owned, &gradient, timeline)?,
            None if count == 0 => None,
            None => {
                let mut rows = self.message(count)?;
                let (room, tag) = (room(&mut rows)?, Tag::Gradient(unit));
                let receive = || self.comm.recv(self.first, tag, room);
                timeline.record(Work::ReceiveGradient { unit, from: self.first }, receive)?;
                Some(rows)
            }
        };
        timeline.record(Work::VocabEmbedBackward(unit), || {
            let numbers = self.numbers(owned.of(own).map(|(_, row)| row))?;
            // Even where the slice has none of this rank's tokens: a gradient of zeros is not none.
            Ok(self.part.embedding.accumulate(|sum, overwrite| {
                if overwrite {
                    sum.fill_zero()?;
                }
                match &rows {
                    Some(rows) => Ok(embedding_backward(rows, &numbers, sum)?),
                    None => Ok(()),
                }
            })?)
        })
    }

    /// Packs the rows of `gradient` by rank and sends each its own; gives this rank's, if it has some.
    fn spread(
        &mut self,
        unit: Unit,
        owned: &Owned<'_>,
        gradient: &RawTensor,
        timeline: &mut Timeline,
    ) -> Result<Option<RawTensor>> {
        let (own, size) = (self.comm.rank(), self.comm.size());
        let packed = timeline.record(Work::VocabEmbedBackward(unit), || -> Result<RawTensor> {
            let numbers = self.numbers(owned.packed(size))?;
            let _message = scope::place(Region::Comm);
            Ok(embedding(gradient, &numbers)?)
        })?;
        let (mut start, mut mine) = (0, None);
        for rank in 0..size {
            let count = owned.count(rank);
            if count == 0 {
                continue;
            }
            let rows = packed.narrow(0, start, count)?;
            start += count;
            if rank == own {
                mine = Some(rows);
            } else {
                let payload = Box::new(TensorPayload::new(rows)?);
                timeline.record(Work::SendGradient { unit, to: rank }, || {
                    self.comm.send(rank, Tag::Gradient(unit), payload)
                })?;
            }
        }
        Ok(mine)
    }
}
