//! What an operation keeps for its backward.
//!
//! Cheap results are not kept at all. A norm's or a SwiGLU's output is a memory-bound function of
//! tensors that are saved anyway, so such a tensor carries a [`Recipe`]: whoever saves it keeps the
//! recipe, and the first backward that asks recomputes the value, shared until the last one has
//! read it. For a Llama layer this removes two norm outputs and the widest activation, a third of
//! all saved bytes, for one extra pass over memory.

use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_runtime::RawTensor;

use crate::Result;

type Compute = dyn Fn() -> Result<RawTensor> + Send + Sync;

/// How to make a tensor again from tensors that are saved anyway.
pub(crate) struct Recipe {
    compute: Box<Compute>,
    state: Mutex<State>,
    /// Whether it is one pass over memory; otherwise it runs a whole region.
    pub cheap: bool,
}

#[derive(Default)]
struct State {
    value: Option<RawTensor>,
    readers: usize,
}

impl Recipe {
    pub(crate) fn new(
        compute: impl Fn() -> Result<RawTensor> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { compute: Box::new(compute), state: Mutex::default(), cheap: true })
    }

    /// A recipe that runs a region again.
    pub(crate) fn of_region(
        compute: impl Fn() -> Result<RawTensor> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { compute: Box::new(compute), state: Mutex::default(), cheap: false })
    }
}

/// One operation's claim on a recipe's value.
pub(crate) struct Reader(Arc<Recipe>);

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.readers -= 1;
        if state.readers == 0 {
            state.value = None;
        }
    }
}

/// A tensor kept for backward, either held or to be made again.
pub(crate) enum Saved {
    Held(RawTensor),
    Again(Reader),
}

impl Saved {
    pub(crate) fn new(raw: &RawTensor, recipe: Option<&Arc<Recipe>>) -> Self {
        match recipe {
            None => Self::Held(raw.clone()),
            Some(recipe) => {
                recipe.state.lock().readers += 1;
                Self::Again(Reader(recipe.clone()))
            }
        }
    }

    /// The value; held by the caller alone once every other reader has dropped its `Saved`.
    pub(crate) fn value(&self) -> Result<RawTensor> {
        let Reader(recipe) = match self {
            Self::Held(raw) => return Ok(raw.clone()),
            Self::Again(reader) => reader,
        };
        let mut state = recipe.state.lock();
        if let Some(value) = &state.value {
            return Ok(value.clone());
        }
        let value = (recipe.compute)()?;
        state.value = Some(value.clone());
        Ok(value)
    }
}
