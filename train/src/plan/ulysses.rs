//! ZeRO-3 with Ulysses sequence parallelism, as DeepSpeed offers it: a baseline without a pipeline.
//!
//! Every GPU has a share of a sequence's tokens in products and a share of the heads in attention, to
//! and from which tensors change by all-to-all. Weights, gradients and optimizer are dealt to all GPUs;
//! a layer's weights are gathered before its forward and its backward, its gradients reduced after it.

use slimpipe_pipeline::schedule::ScheduleKind;

use super::cost::{Group, Mesh, SequenceCosts, Spent};
use super::search::{divisors, mesh};
use super::space::without_kv;
use super::{Plan, Setup, Site};
use crate::Result;
use crate::model::Recompute;

impl Site<'_> {
    /// The fastest plan of ZeRO-3 with Ulysses over at most `most` ranks that fits, recomputing in
    /// one of `ways`; none for mixtures of experts, or where the
    /// batch does not divide. Ranks of a sequence may be more than key/value heads, which are then
    /// repeated, but not more than heads.
    ///
    /// # Errors
    /// None that the other plans do not have.
    pub fn ulysses(&self, most: u32, ways: &[Recompute]) -> Result<Option<Plan>> {
        let (work, mut best) = (self.work, None::<Plan>);
        let heads = work.model.dense.num_attention_heads as u32;
        if work.model.experts.is_some() {
            return Ok(None);
        }
        for ranks in divisors(work.gpus.min(most)).filter(|ranks| heads.is_multiple_of(*ranks)) {
            if !work.gpus.is_multiple_of(ranks) {
                continue;
            }
            let data = work.gpus / ranks;
            let divides = work.context.is_multiple_of(u64::from(ranks));
            if !work.batch.is_multiple_of(data) || !divides {
                continue;
            }
            for &recompute in ways {
                let layout = mesh(1, ranks, 1, 1, data);
                let setup = Setup { recompute, ..Setup::new(layout, ScheduleKind::OneFOneB) };
                let plan = self.ulysses_plan(&setup)?;
                if plan.fits() && best.is_none_or(|best| plan.seconds < best.seconds) {
                    best = Some(plan);
                }
            }
        }
        Ok(best)
    }

    fn ulysses_plan(&self, setup: &Setup) -> Result<Plan> {
        let (work, hardware) = (self.work, self.hardware);
        let model = &work.model;
        let (gpus, layers) = (f64::from(work.gpus), model.dense.num_hidden_layers as f64);
        let near = hardware.node.gpus.min(work.gpus);
        let everyone = Group { size: gpus, near: f64::from(near) };
        let net = Mesh::new(setup.layout, hardware);
        let weights = (model.attention_weights() + model.mlp_weights()) as f64;
        let gather = net.all_gather(everyone, 2.0 * weights);

        let SequenceCosts { mut forward, mut backward, ends } =
            SequenceCosts::new(work, setup, hardware);
        // Gathering the next layer's weights, and reducing the last one's gradients, go on beside.
        forward.communication += (gather - forward.total()).max(0.0);
        backward.communication += (2.0 * gather - backward.total()).max(0.0);
        let step = (forward + backward) * layers + ends;
        let microbatches = f64::from(work.batch / setup.layout.data);
        let own = model.parameter_count() as f64 / gpus;
        let elementwise = hardware.gpu.memory_seconds(30.0 * own);
        let spent = step * microbatches + Spent { elementwise, ..Spent::default() };

        let mut memory = without_kv(self.memory(setup)?, setup, work);
        let held = memory.params_grads + memory.optimizer;
        memory.optimizer = 12.0 * own;
        // Its share, and one layer's and the next one's weights with one layer's gradients.
        memory.params_grads = 6.0 * own + 2.0 * 2.0 * weights + 4.0 * weights;
        memory.peak += memory.params_grads + memory.optimizer - held;
        let seconds = spent.total();
        Ok(self.rate(*setup, memory, seconds, spent, 0.0))
    }
}
