//! The gradients of a table that the first and the last stage share.

use std::ops::Range;

use slimpipe_allocator::{Region, scope};
use slimpipe_ops::copy::{copy, copy_into};
use slimpipe_ops::elementwise::add_assign;
use slimpipe_runtime::RawTensor;

use super::Pipeline;
use crate::comm::{Communicator, Tag};
use crate::execute::payload::{TensorPayload, room};
use crate::execute::{Result, Stage, Work};

impl<S: Stage> Pipeline<S> {
    /// Adds the tied parameter's gradients of the first and the last stage, on both.
    pub(super) fn reduce_tied(&mut self, peer: u32) -> Result<()> {
        let Some(tied) = self.stages.iter().find_map(|(_, stage)| stage.tied()) else {
            return Ok(());
        };
        self.await_gradients()?;
        let share = self.share(&tied);
        let comm = self.groups.pipeline();
        self.timeline.record(Work::ReduceTied, || match tied.grad().get_mut() {
            Some(gradient) => exchange_add(comm, peer, gradient, share),
            None => Ok(()),
        })
    }

    /// The same where this rank holds both ends (one rank, several chunks): no message is needed.
    pub(super) fn reduce_tied_here(&self) -> Result<()> {
        let mut copies = self.stages.iter().filter_map(|(_, stage)| stage.tied());
        let (Some(first), Some(last)) = (copies.next(), copies.next()) else { return Ok(()) };
        let (mut first, mut last) = (first.grad(), last.grad());
        if let (Some(first), Some(last)) = (first.get_mut(), last.get_mut()) {
            add_assign(first, last)?;
            copy_into(first, last)?;
        }
        Ok(())
    }
}

/// Adds elements `share` of the contiguous `values` of this rank and of `peer`, on both, a block
/// at a time.
fn exchange_add(
    comm: &mut dyn Communicator,
    peer: u32,
    values: &mut RawTensor,
    share: Range<usize>,
) -> Result<()> {
    /// Elements of a block: what the exchange takes in memory is two.
    const BLOCK: usize = 1 << 19;
    let _message = scope::place(Region::Comm);
    let all = values.elem_count();
    for (number, start) in (0..).zip(share.clone().step_by(BLOCK)) {
        let len = BLOCK.min(share.end - start);
        let own = copy(&values.reshape(all)?.narrow(0, start, len)?)?;
        let mut theirs = RawTensor::empty(len, own.dtype(), own.device(), "reduce_tied")?;
        let payload = Box::new(TensorPayload::new(own)?);
        comm.swap(peer, Tag::Block(number), payload, room(&mut theirs)?)?;
        // Two numbers have the same sum in either order, so both ranks get the same bits.
        let add = |own: &mut RawTensor| add_assign(own, &theirs);
        values.with_shape(all, |flat| flat.with_rows(start, len, add))?;
    }
    Ok(())
}
