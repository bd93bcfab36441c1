//! The embedding of a slice, and its gradient: rows go between their owners and the first stage.

use slimpipe_ops::embedding::embedding_backward;
use slimpipe_runtime::RawTensor;

use super::Vocabulary;
use super::rows::{self, Owned, copy_rows};
use crate::comm::Tag;
use crate::execute::payload::TensorPayload;
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
        let count = owned.count(rank);
        if count == 0 {
            return Ok(());
        }
        let rows = timeline.record(Work::VocabEmbed(unit), || -> Result<RawTensor> {
            let mut rows = rows::message(count, self.hidden)?;
            let pairs = (0..).zip(owned.of(rank)).map(|(at, (_, row))| (row, at));
            copy_rows(&self.part.embedding.value(), &mut rows, pairs)?;
            Ok(rows)
        })?;
        let (payload, tag) = (Box::new(TensorPayload::new(rows)?), Tag::Activation(unit));
        let send = || self.comm.send(self.first, tag, payload);
        Ok(timeline.record(Work::SendActivation { unit, to: self.first }, send)?)
    }

    /// Fills `into` [tokens, width], the input of a unit of the first stage, with the embedding of its
    /// `tokens`. `staging` has the same shape.
    pub(in crate::execute) fn collect(
        &mut self,
        unit: Unit,
        tokens: &[u32],
        into: &mut RawTensor,
        staging: &mut RawTensor,
        timeline: &mut Timeline,
    ) -> Result<()> {
        let owned = Owned::new(tokens, self.part.deal)?;
        let own = self.comm.rank();
        timeline.record(Work::VocabEmbed(unit), || {
            let pairs = owned.of(own).map(|(at, row)| (row, at));
            copy_rows(&self.part.embedding.value(), into, pairs)
        })?;
        for rank in (0..self.comm.size()).filter(|&rank| rank != own) {
            let count = owned.count(rank);
            if count == 0 {
                continue;
            }
            timeline.record(Work::ReceiveActivation { unit, from: rank }, || -> Result<()> {
                staging.with_rows(0, count, |rows| {
                    let bytes = rows.as_bytes_mut("receive")?.into();
                    Ok(self.comm.recv(rank, Tag::Activation(unit), bytes))
                })??;
                copy_rows(staging, into, (0..).zip(owned.of(rank).map(|(at, _)| at)))
            })?;
        }
        Ok(())
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
            None if count == 0 => rows::message(0, self.hidden)?,
            None => {
                let mut rows = rows::message(count, self.hidden)?;
                let (bytes, tag) = (rows.as_bytes_mut("receive")?.into(), Tag::Gradient(unit));
                let receive = || self.comm.recv(self.first, tag, bytes);
                timeline.record(Work::ReceiveGradient { unit, from: self.first }, receive)?;
                rows
            }
        };
        timeline.record(Work::VocabEmbedBackward(unit), || {
            let all = self.ids.slice_mut::<u32>("vocabulary_ids")?;
            all.iter_mut().zip(owned.of(own)).for_each(|(id, (_, row))| *id = row as u32);
            let ids = self.ids.narrow(0, 0, count)?;
            // Even where the slice has none of this rank's tokens: a gradient of zeros is not none.
            Ok(self.part.embedding.accumulate(|sum, overwrite| {
                if overwrite {
                    sum.fill_zero()?;
                }
                Ok(embedding_backward(&rows, &ids, sum)?)
            })?)
        })
    }

    /// Packs the rows of `gradient` by rank and sends each its own; gives this rank's.
    fn spread(
        &mut self,
        unit: Unit,
        owned: &Owned<'_>,
        gradient: &RawTensor,
        timeline: &mut Timeline,
    ) -> Result<RawTensor> {
        let (own, size) = (self.comm.rank(), self.comm.size());
        let mut packed = rows::message(gradient.dims()[0], self.hidden)?;
        timeline.record(Work::VocabEmbedBackward(unit), || {
            let in_order = (0..size).flat_map(|rank| owned.of(rank).map(|(at, _)| at));
            copy_rows(gradient, &mut packed, in_order.zip(0..))
        })?;
        let (mut start, mut mine) = (0, packed.narrow(0, 0, 0)?);
        for rank in 0..size {
            let count = owned.count(rank);
            let rows = packed.narrow(0, start, count)?;
            start += count;
            if rank == own {
                mine = rows;
            } else if count > 0 {
                let payload = Box::new(TensorPayload::new(rows)?);
                timeline.record(Work::SendGradient { unit, to: rank }, || {
                    self.comm.send(rank, Tag::Gradient(unit), payload)
                })?;
            }
        }
        Ok(mine)
    }
}
