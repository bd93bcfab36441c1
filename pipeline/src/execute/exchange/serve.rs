//! The helper's side: attending to keys of others with their queries.

use slimpipe_ops::attention::{Chunk, ChunkGrad, GradRows, attend, attend_backward, attend_more};
use slimpipe_ops::elementwise::add_reusing;
use slimpipe_runtime::{DType, RawTensor};

use super::wire::Of;
use super::{Form, State};
use crate::comm::AttentionTensor as Tensor;
use crate::execute::{Error, Result};
use crate::schedule::exchange::LayerStep;
use crate::schedule::{Part, Pass};

/// Slices whose keys a helper holds at a time. However long the part that it attends to, it needs
/// memory for no more; and with as many there is work enough in one go.
const PIECE: usize = 4;

/// Another rank's attention in one layer.
pub(super) struct Foreign {
    q: RawTensor,
    /// In backward: the final output, its log-sum-exp and its gradient.
    result: Option<[RawTensor; 3]>,
    /// What was computed and is to go back.
    partial: Vec<(Tensor, RawTensor)>,
}

/// Keys and values of the rows of a slice.
struct Keys {
    slice: u32,
    k: RawTensor,
    v: RawTensor,
    start: usize,
}

impl State {
    /// Runs a step of what the rank does for others; `false` if `step` is none.
    pub(super) fn serve(&mut self, layer: usize, step: LayerStep) -> Result<bool> {
        let (LayerStep::Receive(i) | LayerStep::AttendFor(i) | LayerStep::SendPartial(i)) = step
        else {
            return Ok(false);
        };
        let (Some(run), Some(form)) = (&mut self.run, self.form) else { return Ok(false) };
        let ((unit, part, peer), pass) = (run.roles.attends[i], run.pass);
        let of = Of { peer, unit, layer };
        let foreign = run.foreign.take();
        let foreign = match (step, foreign) {
            (LayerStep::Receive(_), _) => Some(self.receive(of, form, pass)?),
            (LayerStep::AttendFor(_), Some(foreign)) => {
                Some(self.attend_for(of, form, part, foreign)?)
            }
            (_, Some(foreign)) => {
                for (tensor, x) in &foreign.partial {
                    self.wire.send(of, *tensor, x)?;
                }
                None
            }
            (_, None) => return Err(Error::OutOfOrder { rank: self.rank, what: "a help", unit }),
        };
        if let Some(run) = &mut self.run {
            run.foreign = foreign;
        }
        Ok(true)
    }

    fn receive(&mut self, of: Of, form: Form, pass: Pass) -> Result<Foreign> {
        let Form { queries, dtype, .. } = form;
        let [rows, heads, _] = queries;
        let q = self.wire.receive(of, Tensor::Queries, queries, dtype)?;
        let result = match pass {
            Pass::Forward => None,
            Pass::Backward => Some([
                self.wire.receive(of, Tensor::Output, queries, dtype)?,
                self.wire.receive(of, Tensor::LogSumExp, (heads, rows), DType::F32)?,
                self.wire.receive(of, Tensor::OutputGradient, queries, dtype)?,
            ]),
        };
        Ok(Foreign { q, result, partial: Vec::new() })
    }

    fn attend_for(&mut self, of: Of, form: Form, part: Part, foreign: Foreign) -> Result<Foreign> {
        let slices: Vec<u32> = part.slices().collect();
        let Foreign { q, result, .. } = foreign;
        let offset = of.unit.slice as usize * self.slice_len;
        let (mut output, mut query_gradient) = (None, None);
        for slices in slices.chunks(PIECE) {
            let keys = self.receive_keys(of, form, part, slices)?;
            let chunks = keys.iter().map(|Keys { k, v, start, .. }| Chunk { k, v, start: *start });
            let chunks: Vec<Chunk<'_>> = chunks.collect();
            let Some([out, lse, grad]) = &result else {
                output =
                    Some(self.wire.compute(of.unit, Pass::Forward, || match output.take() {
                        None => attend(&q, &chunks, form.scale, offset),
                        Some((mut out, mut lse)) => {
                            attend_more(&q, &chunks, form.scale, offset, &mut out, &mut lse)?;
                            Ok((out, lse))
                        }
                    })?);
                continue;
            };
            let (dq, grads) = self.wire.compute(of.unit, Pass::Backward, || -> Result<_> {
                let zeros = |x: &RawTensor| RawTensor::zeros(*x.shape(), DType::F32, x.device());
                let grads = keys
                    .iter()
                    .map(|Keys { k, v, .. }| Ok(ChunkGrad { dk: zeros(k)?, dv: zeros(v)? }));
                let mut grads = grads.collect::<Result<Vec<_>>>()?;
                let rows = &mut grads.iter_mut().map(GradRows::all).collect::<Vec<_>>();
                let dq = attend_backward(&q, &chunks, out, lse, grad, form.scale, offset, rows)?;
                let dq = match query_gradient.take() {
                    None => dq,
                    Some(earlier) => add_reusing(earlier, dq)?,
                };
                Ok((dq, grads))
            })?;
            query_gradient = Some(dq);
            for (Keys { slice, .. }, ChunkGrad { dk, dv }) in keys.iter().zip(grads) {
                self.wire.send(of, Tensor::KeyGradient(*slice), &dk)?;
                self.wire.send(of, Tensor::ValueGradient(*slice), &dv)?;
            }
        }
        let output = output
            .map(|(out, lse)| [(Tensor::PartialOutput, out), (Tensor::PartialLogSumExp, lse)]);
        let gradient = query_gradient.map(|dq| (Tensor::QueryGradient, dq));
        let partial = output.into_iter().flatten().chain(gradient).collect();
        Ok(Foreign { q, result, partial })
    }

    fn receive_keys(
        &mut self,
        of: Of,
        form: Form,
        part: Part,
        slices: &[u32],
    ) -> Result<Vec<Keys>> {
        let Form { queries: [_, _, head_dim], kv_heads, dtype, .. } = form;
        let keys = slices.iter().map(|&slice| {
            let rows = part.rows(slice, self.slice_len);
            let shape = (rows.len(), kv_heads, head_dim);
            let k = self.wire.receive(of, Tensor::Keys(slice), shape, dtype)?;
            let v = self.wire.receive(of, Tensor::Values(slice), shape, dtype)?;
            Ok(Keys { slice, k, v, start: slice as usize * self.slice_len + rows.start })
        });
        keys.collect()
    }
}
