//! The second part of a backward: gradients of weights that products give.
//!
//! Nothing waits for them but the optimizer, so a schedule may run them when a rank would be idle.

use std::sync::Arc;

use crate::engine::{self, Backward, RestoreLayer, State};
use crate::node::Node;
use crate::{Result, no_grad};

pub(crate) type Work = Box<dyn FnOnce(&mut Backward<'_>) -> Result<()> + Send>;

/// What an operation left for later.
pub(crate) struct WeightWork {
    node: Arc<Node>,
    work: Work,
}

impl WeightWork {
    pub(crate) fn new(
        node: &Arc<Node>,
        work: impl FnOnce(&mut Backward<'_>) -> Result<()> + Send + 'static,
    ) -> Self {
        Self { node: node.clone(), work: Box::new(work) }
    }
}

/// The work that [`backward_input`](crate::backward_input) left. Parameters' gradients are complete
/// only when it has run.
#[must_use = "gradients of weights are complete only when it has run"]
pub struct WeightPart {
    works: Vec<WeightWork>,
    meta: bool,
}

impl WeightPart {
    pub(crate) fn new(state: State) -> Self {
        Self { works: state.weights.unwrap_or_default(), meta: state.meta }
    }

    /// Adds the gradients of the weights to their accumulators. What each product needed is freed as
    /// soon as it has run.
    ///
    /// # Errors
    /// A computation that failed. Then some parameters' gradients were added to and others not: empty
    /// them before the next step.
    pub fn run(self) -> Result<()> {
        let _no_grad = no_grad();
        let _layer = RestoreLayer::new();
        let mut state = State::new(self.meta, None);
        for WeightWork { node, work } in self.works {
            engine::run_weights(&node, work, &mut state)?;
        }
        Ok(())
    }
}
