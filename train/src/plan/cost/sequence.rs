//! What layers take where a sequence is dealt to ranks by heads instead of stages (Ulysses).

use super::layer::Layer;
use super::{Mesh, Spent};
use crate::hardware::Hardware;
use crate::model::Recompute;
use crate::plan::{Setup, Workload};

/// Seconds for one sequence, on each of its ranks.
pub struct SequenceCosts {
    /// Forward of a layer.
    pub forward: Spent,
    /// Its backward, and what is made again.
    pub backward: Spent,
    /// Embedding, output layer and loss.
    pub ends: Spent,
}

impl SequenceCosts {
    /// Of `setup`, whose context parallel ranks share the sequence.
    pub fn new(work: &Workload, setup: &Setup, hardware: &Hardware) -> Self {
        let (layer, mesh) = (Layer::new(work, setup, hardware), Mesh::new(setup.layout, hardware));
        // Products are those of context parallelism, and so is attention: a share of its heads to all
        // keys is as much as all heads' to a share. Instead of keys and values going round, queries,
        // keys and values go to the ranks of their heads, and outputs come back; then their gradients.
        let around = Spent { communication: layer.all_to_all(mesh.context()), ..Spent::default() };
        let attend = |of: Spent| Spent { attention: of.attention, ..around };
        let forward = layer.before() + attend(layer.attend(0)) + layer.after();
        let kept = Setup { recompute: Recompute::None, ..*setup };
        let kept = Layer::new(work, &kept, hardware);
        let again = match setup.recompute {
            Recompute::None => Spent::default(),
            Recompute::Partial => layer.up().again(),
            Recompute::Full => forward.again(),
        };
        let backward =
            kept.back_before(0) + attend(layer.back_attend(0)) + layer.back_after() + again;
        Self { forward, backward, ends: layer.head() + layer.embed() }
    }
}
