//! Walking the tape backward.

use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use slimpipe_allocator::scope;
use slimpipe_ops as ops;
use slimpipe_ops::matmul::{matmul, matmul_into};
use slimpipe_runtime::{DType, RawTensor};

use crate::node::{Kind, Node};
use crate::parameter::ParameterInner;
use crate::weights::{WeightPart, WeightWork, Work};
use crate::{Error, Result, no_grad};

/// What a [`Function`](crate::Function) talks to while it runs: the gradients of its inputs.
pub struct Backward<'a> {
    node: &'a Arc<Node>,
    state: &'a mut State,
}

/// Gradients that wait for their node's turn, and the nodes that are due, newest first.
pub(crate) struct State {
    pending: HashMap<u64, RawTensor>,
    due: BinaryHeap<Due>,
    /// Shapes only: parameters' accumulators are left alone.
    pub meta: bool,
    /// Where the work on weights goes, in a backward of two parts.
    pub weights: Option<Vec<WeightWork>>,
}

struct Due(Arc<Node>);

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

impl Backward<'_> {
    /// Whether input `index` wants a gradient.
    pub fn needs(&self, index: usize) -> bool {
        self.node.inputs[index].is_some()
    }

    /// Adds `gradient` to the gradient of input `index`; does nothing if it wants none.
    ///
    /// # Errors
    /// A gradient of another shape or dtype than the input, out of memory.
    pub fn add(&mut self, index: usize, gradient: RawTensor) -> Result<()> {
        let node = self.node;
        match &node.inputs[index] {
            Some(input) => self.add_to(input, gradient),
            None => Ok(()),
        }
    }

    /// Adds `gradient` to that of `node`, an input or a node that was made in this backward.
    pub(crate) fn add_to(&mut self, node: &Arc<Node>, gradient: RawTensor) -> Result<()> {
        node.check_gradient(self.node.name, &gradient)?;
        if let Kind::Parameter(parameter) = &node.kind {
            return if self.state.meta { Ok(()) } else { parameter.add(&gradient) };
        }
        let sum = match self.state.pending.remove(&node.id) {
            None => gradient,
            Some(earlier) => ops::elementwise::add_reusing(earlier, gradient)?,
        };
        self.state.put(node, sum);
        Ok(())
    }

    /// As [`Backward::add`] for a gradient that was summed in f32 for an input of `dtype`: parameters
    /// take it as it is.
    ///
    /// # Errors
    /// As [`Backward::add`].
    pub fn add_f32(&mut self, index: usize, gradient: RawTensor, dtype: DType) -> Result<()> {
        if self.parameter(index).is_some() {
            return self.add(index, gradient);
        }
        if !self.needs(index) {
            return Ok(());
        }
        self.add(index, ops::cast::cast(&gradient, dtype)?)
    }

    /// Adds the matrix product `a b` to the gradient of input `index`: straight into a parameter's
    /// accumulator, and in place where another gradient already waits.
    ///
    /// # Errors
    /// Shapes or dtypes that do not fit, out of memory.
    pub fn add_product(&mut self, index: usize, a: &RawTensor, b: &RawTensor) -> Result<()> {
        let Some(input) = &self.node.inputs[index] else { return Ok(()) };
        let into_sum = |sum: &mut RawTensor, overwrite| Ok(matmul_into(a, b, sum, overwrite)?);
        if let Some(mut earlier) = self.state.pending.remove(&input.id) {
            if earlier.layout().is_contiguous() && earlier.is_unique() {
                into_sum(&mut earlier, false)?;
                self.state.pending.insert(input.id, earlier);
                return Ok(());
            }
            self.state.pending.insert(input.id, earlier);
        }
        if self.accumulate(index, into_sum)? {
            return Ok(());
        }
        self.add(index, matmul(a, b)?)
    }

    /// If input `index` is a parameter, lets `write` add to its f32 accumulator (or overwrite it,
    /// when told so) and returns true. `write` must not allocate.
    ///
    /// # Errors
    /// What `write` meets.
    pub fn accumulate(
        &mut self,
        index: usize,
        write: impl FnOnce(&mut RawTensor, bool) -> Result<()>,
    ) -> Result<bool> {
        let Some(parameter) = self.parameter(index) else { return Ok(false) };
        if !self.state.meta {
            parameter.accumulate(write)?;
        }
        Ok(true)
    }

    /// Like [`Backward::accumulate`], for computations that can only add.
    ///
    /// # Errors
    /// What `write` meets.
    pub fn accumulate_only(
        &mut self,
        index: usize,
        write: impl FnOnce(&mut RawTensor) -> Result<()>,
    ) -> Result<bool> {
        self.accumulate(index, |buffer, overwrite| {
            if overwrite {
                buffer.fill_zero()?;
            }
            write(buffer)
        })
    }

    /// Runs `work`, which adds to the gradient of input `index` and to no other: now, or, if the input
    /// is a parameter and the backward is in two parts, in the second. It must own what it needs.
    ///
    /// # Errors
    /// What `work` meets.
    pub fn weight_part(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Backward<'_>) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        if !self.needs(index) {
            return Ok(());
        }
        let later = self.parameter(index).and(self.state.weights.as_mut());
        match later {
            Some(later) => later.push(WeightWork::new(self.node, work)),
            None => work(self)?,
        }
        Ok(())
    }

    /// Lets input `index` run its backward although no gradient tensor flows to it.
    pub(crate) fn unlock(&mut self, index: usize) {
        if let Some(input) = &self.node.inputs[index] {
            self.state.due.push(Due(input.clone()));
        }
    }

    fn parameter(&self, index: usize) -> Option<Arc<ParameterInner>> {
        match &self.node.inputs[index].as_ref()?.kind {
            Kind::Parameter(parameter) => Some(parameter.clone()),
            _ => None,
        }
    }
}

impl State {
    pub(crate) fn new(meta: bool, weights: Option<Vec<WeightWork>>) -> Self {
        Self { pending: HashMap::new(), due: BinaryHeap::new(), meta, weights }
    }

    fn put(&mut self, node: &Arc<Node>, gradient: RawTensor) {
        self.pending.insert(node.id, gradient);
        self.due.push(Due(node.clone()));
    }
}

/// A tensor's place on the tape without its value: what a pipeline keeps between a unit's forward
/// and its backward.
#[derive(Clone)]
pub struct TapeEnd(Arc<Node>);

impl TapeEnd {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

/// Runs backward from `root` with the gradient `grad`. Gradients of parameters are added to their
/// accumulators; that of the leaf `wanted` is returned (`None` if nothing reached it).
///
/// # Errors
/// A gradient of another shape or dtype than the root, a graph that was already consumed, or a
/// computation that failed. Then some parameters' gradients may have been added to and others not:
/// empty them before the next step.
pub fn backward(
    root: TapeEnd,
    grad: RawTensor,
    wanted: Option<&TapeEnd>,
) -> Result<Option<RawTensor>> {
    let mut state = State::new(grad.is_meta(), None);
    walk(root, grad, wanted, &mut state)
}

/// As [`backward`], without the gradients of weights that products give: they are the second part,
/// which the caller runs later. Until then it holds the products' inputs and the gradients of their
/// outputs.
///
/// # Errors
/// As [`backward`].
pub fn backward_input(
    root: TapeEnd,
    grad: RawTensor,
    wanted: Option<&TapeEnd>,
) -> Result<(Option<RawTensor>, WeightPart)> {
    let mut state = State::new(grad.is_meta(), Some(Vec::new()));
    let gradient = walk(root, grad, wanted, &mut state)?;
    Ok((gradient, WeightPart::new(state)))
}

fn walk(
    root: TapeEnd,
    grad: RawTensor,
    wanted: Option<&TapeEnd>,
    state: &mut State,
) -> Result<Option<RawTensor>> {
    let _no_grad = no_grad();
    let _layer = RestoreLayer::new();
    root.0.check_gradient("backward", &grad)?;
    state.put(&root.0, grad);
    drop(root);
    let mut last = u64::MAX;
    while let Some(Due(node)) = state.due.pop() {
        if std::mem::replace(&mut last, node.id) == node.id {
            continue; // pushed once per gradient that arrived
        }
        run(&node, state)?;
    }
    Ok(wanted.and_then(|leaf| state.pending.remove(&leaf.0.id)))
}

/// Puts the thread's layer scope back, whatever backward set it to.
pub(crate) struct RestoreLayer(Option<u32>);

impl RestoreLayer {
    pub(crate) fn new() -> Self {
        Self(scope::current_layer())
    }
}

impl Drop for RestoreLayer {
    fn drop(&mut self) {
        scope::set_layer(self.0);
    }
}

/// Runs work on the weights of an operation that has run backward.
pub(crate) fn run_weights(node: &Arc<Node>, work: Work, state: &mut State) -> Result<()> {
    scope::set_layer(node.layer);
    work(&mut Backward { node, state })
}

fn run(node: &Arc<Node>, state: &mut State) -> Result<()> {
    match &node.kind {
        Kind::Leaf => Ok(()),
        Kind::Parameter(parameter) => match state.pending.remove(&node.id) {
            Some(gradient) if !state.meta => parameter.add(&gradient),
            _ => Ok(()),
        },
        Kind::Operation(function) => {
            let function =
                function.lock().take().ok_or(Error::AlreadyConsumed { op: node.name })?;
            scope::set_layer(node.layer);
            match state.pending.remove(&node.id) {
                Some(gradient) => function.backward(&mut Backward { node, state }, gradient),
                None => function.unlocked(&mut Backward { node, state }),
            }
        }
    }
}
