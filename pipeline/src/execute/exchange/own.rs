//! The owner's side: what a rank's own attention does with what it ships.

use std::ops::Range;

use slimpipe_autograd::{AttentionCall, AttentionResult};
use slimpipe_ops::attention::{Chunk, GradRows, attend, attend_backward, merge};
use slimpipe_ops::elementwise::add_assign;
use slimpipe_runtime::{DType, RawTensor};

use super::wire::Of;
use super::{Run, State};
use crate::comm::AttentionTensor as Tensor;
use crate::execute::{Error, Result};
use crate::schedule::Part;
use crate::schedule::exchange::LayerStep;

/// The rows of a chunk that are attended to here.
struct Kept {
    chunk: usize,
    rows: Range<usize>,
    k: RawTensor,
    v: RawTensor,
    start: usize,
}

impl Kept {
    fn view(&self) -> Chunk<'_> {
        Chunk { k: &self.k, v: &self.v, start: self.start }
    }
}

impl State {
    /// Output and log-sum-exp of the rank's unit in its next layer, while it serves others.
    pub(super) fn forward(&mut self, call: &AttentionCall<'_>) -> Result<(RawTensor, RawTensor)> {
        let AttentionCall { q, chunks, scale, offset } = *call;
        let kept = self.kept(chunks)?;
        self.expect_layer()?;
        let mut result = None;
        while let Some((layer, step)) = self.next_step() {
            match (step, &mut result) {
                (LayerStep::SendKeys(i), _) => self.send_part(layer, i)?,
                (LayerStep::SendQueries(i), _) => {
                    let (of, _) = self.shipped(layer, i)?;
                    self.wire.send(of, Tensor::Queries, q)?;
                }
                (LayerStep::AttendOwn, result) => {
                    let views: Vec<Chunk<'_>> = kept.iter().map(Kept::view).collect();
                    *result = Some(attend(q, &views, scale, offset)?);
                }
                (LayerStep::Merge(i), Some((out, lse))) => {
                    let (of, _) = self.shipped(layer, i)?;
                    let wire = &mut self.wire;
                    let part = wire.receive(of, Tensor::PartialOutput, *q.shape(), q.dtype())?;
                    let part_lse =
                        wire.receive(of, Tensor::PartialLogSumExp, *lse.shape(), DType::F32)?;
                    merge(out, lse, &part, &part_lse)?;
                }
                (LayerStep::After, Some(_)) => break,
                _ => {
                    self.serve(layer, step)?;
                }
            }
        }
        result.ok_or_else(|| self.too_often())
    }

    /// The gradient of the queries; those of keys and values are added to `grads`.
    pub(super) fn backward(
        &mut self,
        call: &AttentionCall<'_>,
        result: &AttentionResult<'_>,
        grads: &mut [GradRows<'_>],
    ) -> Result<RawTensor> {
        let AttentionCall { q, chunks, scale, offset } = *call;
        let AttentionResult { out, lse, grad } = *result;
        let kept = self.kept(chunks)?;
        self.expect_layer()?;
        let mut gradient = None;
        while let Some((layer, step)) = self.next_step() {
            match (step, &mut gradient) {
                (LayerStep::SendKeys(i), _) => self.send_part(layer, i)?,
                (LayerStep::SendQueries(i), _) => {
                    let (of, _) = self.shipped(layer, i)?;
                    self.wire.send(of, Tensor::Queries, q)?;
                    self.wire.send(of, Tensor::Output, out)?;
                    self.wire.send(of, Tensor::LogSumExp, lse)?;
                    self.wire.send(of, Tensor::OutputGradient, grad)?;
                }
                (LayerStep::AttendOwn, gradient) => {
                    let views: Vec<Chunk<'_>> = kept.iter().map(Kept::view).collect();
                    let mut kept = kept.iter().peekable();
                    let mut rows = Vec::with_capacity(views.len());
                    for (chunk, all) in grads.iter_mut().enumerate() {
                        if let Some(kept) = kept.next_if(|kept| kept.chunk == chunk) {
                            rows.push(GradRows { grad: &mut *all.grad, rows: kept.rows.clone() });
                        }
                    }
                    *gradient =
                        Some(attend_backward(q, &views, out, lse, grad, scale, offset, &mut rows)?);
                }
                (LayerStep::Merge(i), Some(gradient)) => {
                    self.merge_gradients(layer, i, gradient, grads)?;
                }
                (LayerStep::After, Some(_)) => break,
                _ => {
                    self.serve(layer, step)?;
                }
            }
        }
        gradient.ok_or_else(|| self.too_often())
    }

    /// Adds what ship `i` gave: to `gradient` of the queries, and to `grads` of keys and values.
    fn merge_gradients(
        &mut self,
        layer: usize,
        i: usize,
        gradient: &mut RawTensor,
        grads: &mut [GradRows<'_>],
    ) -> Result<()> {
        let (of, part) = self.shipped(layer, i)?;
        let wire = &mut self.wire;
        for slice in part.slices() {
            let GradRows { grad, .. } = &mut grads[slice as usize];
            let rows = part.rows(slice, self.slice_len);
            let shape = grad.dk.narrow(0, rows.start, rows.len())?;
            let dk = wire.receive(of, Tensor::KeyGradient(slice), *shape.shape(), DType::F32)?;
            let dv = wire.receive(of, Tensor::ValueGradient(slice), *shape.shape(), DType::F32)?;
            drop(shape);
            GradRows { grad, rows }.add(&dk, &dv)?;
        }
        let (shape, dtype) = (*gradient.shape(), gradient.dtype());
        let part = wire.receive(of, Tensor::QueryGradient, shape, dtype)?;
        Ok(add_assign(gradient, &part)?)
    }

    /// The rows of each chunk that no helper attends to.
    fn kept(&self, chunks: &[Chunk<'_>]) -> Result<Vec<Kept>> {
        let ships = self.run.iter().flat_map(|run| &run.roles.ships);
        let is_kept = |half: &u32| !ships.clone().any(|(part, _)| part.contains(*half));
        let mut kept = Vec::with_capacity(chunks.len());
        for (index, (slice, chunk)) in (0..).zip(chunks).enumerate() {
            let mut halves = (2 * slice..2 * slice + 2).filter(is_kept);
            let Some(start) = halves.next() else { continue };
            let end = halves.next().unwrap_or(start) + 1;
            let rows = Part { start, end }.rows(slice, chunk.k.dims()[0]);
            let view = |x: &RawTensor| x.narrow(0, rows.start, rows.len());
            let (k, v) = (view(chunk.k)?, view(chunk.v)?);
            kept.push(Kept { chunk: index, k, v, start: chunk.start + rows.start, rows });
        }
        Ok(kept)
    }

    /// Sends the keys that are due before anything else.
    pub(super) fn send_keys(&mut self) -> Result<()> {
        while let Some((layer, LayerStep::SendKeys(i))) =
            self.run.as_ref().and_then(|run| run.steps.front()).copied()
        {
            self.next_step();
            self.send_part(layer, i)?;
        }
        Ok(())
    }

    /// Sends the keys and values of ship `i` in layer `layer`.
    fn send_part(&mut self, layer: usize, i: usize) -> Result<()> {
        let (of, part) = self.shipped(layer, i)?;
        let keys = self.run.as_ref().and_then(|run| run.keys.get(layer));
        for (slice, k, v) in keys.into_iter().flatten() {
            let rows = part.rows(*slice, self.slice_len);
            if rows.is_empty() {
                continue; // of another part
            }
            for (tensor, x) in [(Tensor::Keys(*slice), k), (Tensor::Values(*slice), v)] {
                self.wire.send(of, tensor, &x.narrow(0, rows.start, rows.len())?)?;
            }
        }
        Ok(())
    }

    /// What ship `i` is called in layer `layer`, and its part.
    fn shipped(&self, layer: usize, i: usize) -> Result<(Of, Part)> {
        let Some(Run { unit: Some(unit), roles, .. }) = &self.run else {
            return Err(self.too_often());
        };
        let (part, peer) = roles.ships[i];
        Ok((Of { peer, unit: *unit, layer }, part))
    }

    /// Passes the mark of a layer's beginning.
    fn expect_layer(&mut self) -> Result<()> {
        match self.next_step() {
            Some((_, LayerStep::Before)) => Ok(()),
            _ => Err(self.too_often()),
        }
    }

    /// The unit runs attention more often than it has layers.
    fn too_often(&self) -> Error {
        Error::AttentionCalls { rank: self.rank, got: self.layers + 1, expected: self.layers }
    }
}
