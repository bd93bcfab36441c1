//! The output layer and the loss of a slice, every rank with its tokens.

use slimpipe_ops::cast::cast_into;
use slimpipe_ops::copy::copy_into;
use slimpipe_ops::cross_entropy::add_up;
use slimpipe_ops::vocabulary::{Block, SUMS, TOTALS, combine, part_gradient, part_sums};
use slimpipe_runtime::{DType, Device, RawTensor};

use super::Vocabulary;
use crate::comm::Reduction;
use crate::execute::losses::Losses;
use crate::execute::payload::room;
use crate::execute::{Result, Timeline, Work};
use crate::schedule::Unit;

const OP: &str = "head_loss";

/// What a slice is computed on, a block of rows at a time.
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
    /// Of all rows of the slice, and what they come to.
    losses: RawTensor,
    loss: RawTensor,
}

impl Scratch {
    /// For slices of `slice` rows in blocks of `rows`, `tokens` tokens of this rank, and `ranks` ranks.
    pub(super) fn new(
        (slice, rows): (usize, usize),
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
            losses: RawTensor::empty(slice, DType::F32, device, OP)?,
            loss: RawTensor::empty((), DType::F32, device, OP)?,
        })
    }

    /// Uses only what `rows` rows need: the last block may be smaller.
    fn shorten(&mut self, rows: usize, ranks: u32) -> Result<()> {
        let Self { x, labels, logits, low, dx, sums, totals, losses: _, loss: _ } = self;
        for part in [x, labels, logits, dx, totals].into_iter().chain(low) {
            *part = part.narrow(0, 0, rows)?;
        }
        *sums = sums.narrow(0, 0, ranks as usize * rows)?;
        Ok(())
    }
}

impl Vocabulary {
    /// Runs the output layer and the loss on a slice with these `labels`. On the last stage's rank
    /// `hidden` [rows, width] is the layer's input, and becomes its gradient, and the sum of the rows'
    /// losses times `scale` is added to `losses`.
    pub(in crate::execute) fn head(
        &mut self,
        unit: Unit,
        labels: &[i64],
        scale: f32,
        mut hidden: Option<&mut RawTensor>,
        losses: &mut Losses,
        timeline: &mut Timeline,
    ) -> Result<()> {
        let memory = self.memory.clone();
        let _task = memory.task(&self.head);
        let tokens = self.part.deal.tokens(self.comm.rank()).len();
        let size = (self.longest, self.block);
        let mut scratch = Scratch::new(size, tokens, self.comm.size(), self.hidden, self.device)?;
        for (start, block) in (0..).step_by(self.block).zip(labels.chunks(self.block)) {
            let rows = block.len();
            scratch.shorten(rows, self.comm.size())?;
            if let Some(hidden) = &mut hidden {
                hidden.with_rows(start, rows, |hidden| copy_into(hidden, &mut scratch.x))?;
            }
            let fill = |bytes: &mut [u8]| -> Result<()> {
                bytes.copy_from_slice(bytemuck::cast_slice(block));
                Ok(())
            };
            scratch.labels.fill_bytes(0..size_of_val(block), OP, fill)?;
            self.head_block(unit, scale, (start, &mut scratch), timeline)?;
            if let Some(hidden) = &mut hidden {
                hidden.with_rows(start, rows, |hidden| cast_into(&scratch.dx, hidden))?;
            }
        }
        if hidden.is_some() {
            add_up(&scratch.losses.narrow(0, 0, labels.len())?, scale, &mut scratch.loss)?;
            losses.add(&scratch.loss)?;
        }
        Ok(())
    }

    /// The same on a block of rows, from row `start` on; leaves the gradient of its input on the last stage's rank.
    fn head_block(
        &mut self,
        unit: Unit,
        scale: f32,
        (start, scratch): (usize, &mut Scratch),
        timeline: &mut Timeline,
    ) -> Result<()> {
        let (rank, last, deal) = (self.comm.rank(), self.last, self.part.deal);
        let weight = self.part.head.value();
        let Scratch { x, labels, logits, low, dx, sums, totals, losses, loss: _ } = scratch;
        let x_bytes = room(x)?;
        let comm = &mut self.comm;
        timeline.record(Work::VocabShare(unit), || comm.broadcast(last, x_bytes))?;
        let first = deal.tokens(rank).start;
        let mut block = Block { x, weight: &weight, labels, first, logits };
        let rows = block.labels.elem_count();
        timeline.record(Work::VocabHead(unit), || {
            let sums_of = |own: &mut RawTensor| part_sums(&mut block, deal.total(), own);
            sums.with_rows(rank as usize * rows, rows, sums_of)
        })?;
        let all = room(sums)?;
        timeline
            .record(Work::VocabShare(unit), || comm.all_gather(size_of::<f32>(), &mut [all]))?;
        timeline.record(Work::VocabHead(unit), || -> Result<()> {
            losses.with_rows(start, rows, |losses| {
                combine(sums, block.labels, deal.total(), totals, losses)
            })?;
            Ok(self.part.head.accumulate(|dweight, overwrite| {
                let dweight = (dweight, overwrite);
                Ok(part_gradient(&mut block, totals, scale, low.as_mut(), dx, dweight)?)
            })?)
        })?;
        let dx = room(dx)?;
        Ok(timeline.record(Work::VocabShare(unit), || comm.reduce_f32(last, Reduction::Sum, dx))?)
    }
}
