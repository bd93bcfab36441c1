//! The output layer and the loss of a slice, every rank with its tokens.

use slimpipe_allocator::Memory;
use slimpipe_ops::cast::cast_into;
use slimpipe_ops::copy::copy_into;
use slimpipe_ops::vocabulary::{Block, SUMS, TOTALS, combine, part_gradient, part_sums};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::Vocabulary;
use crate::comm::Reduction;
use crate::execute::payload::room;
use crate::execute::{Result, Timeline, Work};
use crate::schedule::Unit;

const OP: &str = "head_loss";

/// What a block of rows is computed on.
pub(super) struct Scratch {
    x: RawTensor,
    labels: RawTensor,
    logits: RawTensor,
    /// The logits' gradient in the weights' dtype, where that is not f32.
    low: Option<RawTensor>,
    dx: RawTensor,
    /// Of all ranks, by rank.
    sums: RawTensor,
    totals: RawTensor,
    losses: RawTensor,
}

impl Scratch {
    /// For blocks of `rows` rows, `tokens` tokens of this rank, and `ranks` ranks.
    pub(super) fn new(
        rows: usize,
        tokens: usize,
        ranks: u32,
        (width, dtype): (usize, DType),
        device: Device,
    ) -> Result<Self> {
        let f32s = |rows: usize, columns| RawTensor::empty((rows, columns), DType::F32, device, OP);
        let is_low = dtype != DType::F32;
        Ok(Self {
            x: RawTensor::empty((rows, width), dtype, device, OP)?,
            labels: RawTensor::empty(rows, DType::I64, device, OP)?,
            logits: f32s(rows, tokens)?,
            low: is_low.then(|| RawTensor::empty((rows, tokens), dtype, device, OP)).transpose()?,
            dx: f32s(rows, width)?,
            sums: f32s(ranks as usize * rows, SUMS)?,
            totals: f32s(rows, TOTALS)?,
            losses: RawTensor::empty(rows, DType::F32, device, OP)?,
        })
    }

    /// Uses only what `rows` rows need: the last block may be smaller.
    fn shorten(&mut self, rows: usize, ranks: u32) -> Result<()> {
        let Self { x, labels, logits, low, dx, sums, totals, losses } = self;
        for part in [x, labels, logits, dx, totals, losses].into_iter().chain(low) {
            *part = part.narrow(0, 0, rows)?;
        }
        *sums = sums.narrow(0, 0, ranks as usize * rows)?;
        Ok(())
    }
}

impl Vocabulary {
    /// Runs the output layer and the loss on a slice with these `labels`. On the last stage's rank
    /// `hidden` [rows, width] is the layer's input, and becomes its gradient. Gives the sum of the rows'
    /// losses times `scale`, 0 on all but that rank.
    pub(in crate::execute) fn head(
        &mut self,
        unit: Unit,
        labels: &[i64],
        scale: f32,
        mut hidden: Option<&mut RawTensor>,
        memory: &Memory,
        timeline: &mut Timeline,
    ) -> Result<f64> {
        let _task = memory.task(&self.head);
        let tokens = self.part.deal.tokens(self.comm.rank());
        let mut scratch =
            Scratch::new(self.block, tokens.len(), self.comm.size(), self.hidden, Device::Cpu)?;
        let mut loss = 0.0;
        for (start, labels) in (0..).step_by(self.block).zip(labels.chunks(self.block)) {
            scratch.shorten(labels.len(), self.comm.size())?;
            if let Some(hidden) = &mut hidden {
                hidden
                    .with_rows(start, labels.len(), |hidden| copy_into(hidden, &mut scratch.x))?;
            }
            scratch.labels.slice_mut(OP)?.copy_from_slice(labels);
            loss += self.head_block(unit, scale, &mut scratch, timeline)?;
            if let Some(hidden) = &mut hidden {
                hidden.with_rows(start, labels.len(), |hidden| cast_into(&scratch.dx, hidden))?;
            }
        }
        Ok(if self.is_last() { loss * f64::from(scale) } else { 0.0 })
    }

    /// The same on a block of rows; leaves the gradient of its input on the last stage's rank. Gives
    /// the sum of the rows' losses.
    fn head_block(
        &mut self,
        unit: Unit,
        scale: f32,
        scratch: &mut Scratch,
        timeline: &mut Timeline,
    ) -> Result<f64> {
        let (rank, last, deal) = (self.comm.rank(), self.last, self.part.deal);
        let weight = self.part.head.value();
        let Scratch { x, labels, logits, low, dx, sums, totals, losses } = scratch;
        let x_bytes = room(x)?;
        let comm = &mut self.comm;
        timeline.record(Work::VocabShare(unit), || comm.broadcast(last, x_bytes))?;
        let first = deal.tokens(rank).start;
        let mut block = Block { x, weight: &weight, labels, first, logits };
        let rows = losses.elem_count();
        timeline.record(Work::VocabHead(unit), || {
            let sums_of = |own: &mut RawTensor| part_sums(&mut block, deal.total(), own);
            sums.with_rows(rank as usize * rows, rows, sums_of)
        })?;
        let all = room(sums)?;
        timeline
            .record(Work::VocabShare(unit), || comm.all_gather(size_of::<f32>(), &mut [all]))?;
        let loss = timeline.record(Work::VocabHead(unit), || -> Result<f64> {
            combine(sums, block.labels, deal.total(), totals, losses)?;
            self.part.head.accumulate(|dweight, overwrite| {
                let dweight = (dweight, overwrite);
                Ok(part_gradient(&mut block, totals, scale, low.as_mut(), dx, dweight)?)
            })?;
            Ok(losses.slice::<f32>(OP)?.iter().map(|&loss| f64::from(loss)).sum())
        })?;
        let dx = room(dx)?;
        timeline.record(Work::VocabShare(unit), || comm.reduce_f32(last, Reduction::Sum, dx))?;
        Ok(loss)
    }
}
