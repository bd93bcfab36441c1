//! [`Tensor`]: a raw tensor that remembers how it was made.

use std::fmt;
use std::sync::Arc;

use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, Element, RawTensor, Shape};

use crate::node::{Edge, Function, Kind, Node};
use crate::saved::{Recipe, Saved};
use crate::{Error, Result, engine, is_recording};

/// A tensor that gradients can flow through. Cloning copies the handle.
#[derive(Clone)]
pub struct Tensor {
    raw: RawTensor,
    node: Option<Arc<Node>>,
    recipe: Option<Arc<Recipe>>,
}

impl From<RawTensor> for Tensor {
    /// A constant: no gradient flows into it.
    fn from(raw: RawTensor) -> Self {
        Self { raw, node: None, recipe: None }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.raw, f)
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let made_by = self.node.as_ref().map_or("constant", |node| node.name);
        write!(f, "Tensor({}, {}, {}, {made_by})", self.shape(), self.dtype(), self.device())
    }
}

impl Tensor {
    /// A tensor with the elements of `values` in row-major order; a constant.
    ///
    /// # Errors
    /// Out of memory, or as many values as the shape does not take.
    #[track_caller]
    pub fn new<T: Element>(values: &[T], shape: impl Into<Shape>, device: Device) -> Result<Self> {
        Ok(RawTensor::from_slice(values, shape, device)?.into())
    }

    /// A tensor of zeros; a constant.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn zeros(shape: impl Into<Shape>, dtype: DType, device: Device) -> Result<Self> {
        Ok(RawTensor::zeros(shape, dtype, device)?.into())
    }

    /// A tensor whose elements are all `value`, in a float dtype; a constant.
    ///
    /// # Errors
    /// Not a float dtype, out of memory.
    #[track_caller]
    pub fn full(shape: impl Into<Shape>, value: f32, dtype: DType, device: Device) -> Result<Self> {
        let mut raw = RawTensor::empty(shape, dtype, device, "full")?;
        slimpipe_ops::elementwise::fill(&mut raw, value)?;
        Ok(raw.into())
    }

    /// Normal numbers of mean 0 and standard deviation `std` (f32), element i being number i of
    /// `random`; a constant.
    ///
    /// # Errors
    /// Out of memory.
    #[track_caller]
    pub fn randn(
        shape: impl Into<Shape>,
        std: f32,
        random: Random,
        device: Device,
    ) -> Result<Self> {
        Ok(RawTensor::randn(shape, std, random, device)?.into())
    }

    /// An input whose gradient [`backward`](crate::backward) can return.
    pub fn leaf(raw: RawTensor) -> Self {
        let node = Node::new("leaf", &raw, Vec::new(), Kind::Leaf);
        Self { raw, node: Some(node), recipe: None }
    }

    pub(crate) fn from_node(raw: RawTensor, node: Arc<Node>) -> Self {
        Self { raw, node: is_recording().then_some(node), recipe: None }
    }

    /// A tensor with a place on the tape, which later operations save as `recipe`, if there is one.
    pub(crate) fn from_parts(raw: RawTensor, node: Edge, recipe: Option<Arc<Recipe>>) -> Self {
        Self { raw, node, recipe }
    }

    pub(crate) fn recipe(&self) -> Option<&Arc<Recipe>> {
        self.recipe.as_ref()
    }

    pub(crate) fn node(&self) -> Option<&Arc<Node>> {
        self.node.as_ref()
    }

    /// The result `raw` of an operation on `inputs`. `function` is made only if the tape is on and
    /// some input wants a gradient.
    pub fn from_op<F: Function + 'static>(
        name: &'static str,
        raw: RawTensor,
        inputs: &[&Tensor],
        function: impl FnOnce() -> F,
    ) -> Self {
        Self::from_edges(
            name,
            raw,
            inputs.iter().map(|input| input.node.clone()).collect(),
            function,
        )
    }

    /// As [`Tensor::from_op`], for operations that gave up their inputs' values.
    pub(crate) fn from_edges<F: Function + 'static>(
        name: &'static str,
        raw: RawTensor,
        edges: Vec<Edge>,
        function: impl FnOnce() -> F,
    ) -> Self {
        if !is_recording() || edges.iter().all(Option::is_none) {
            return raw.into();
        }
        let node = Node::new(name, &raw, edges, Kind::operation(function()));
        Self { raw, node: Some(node), recipe: None }
    }

    /// The same tensor, which later operations save as `recipe` instead of as bytes.
    pub(crate) fn with_recipe(mut self, recipe: impl FnOnce() -> Arc<Recipe>) -> Self {
        if self.node.is_some() {
            self.recipe = Some(recipe());
        }
        self
    }

    pub(crate) fn save(&self) -> Saved {
        Saved::new(&self.raw, self.recipe.as_ref())
    }

    /// The tensor without its history.
    pub fn raw(&self) -> &RawTensor {
        &self.raw
    }

    /// The raw tensor and the edge to it, given up together.
    pub(crate) fn into_parts(self) -> (RawTensor, Edge) {
        (self.raw, self.node)
    }

    /// The same values as a constant.
    pub fn detach(&self) -> Self {
        self.raw.clone().into()
    }

    /// The extents.
    pub fn shape(&self) -> &Shape {
        self.raw.shape()
    }

    /// The extents as a slice.
    pub fn dims(&self) -> &[usize] {
        self.raw.dims()
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.raw.rank()
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.raw.dtype()
    }

    /// Where the elements are.
    pub fn device(&self) -> Device {
        self.raw.device()
    }

    /// Whether gradients flow through this tensor.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The elements in row-major order.
    ///
    /// # Errors
    /// Another dtype, a meta tensor, or memory whose unit was closed.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        Ok(self.raw.to_vec()?)
    }

    /// The only element of a tensor, as f32.
    ///
    /// # Errors
    /// More than one element, a meta tensor, or memory whose unit was closed.
    pub fn to_scalar(&self) -> Result<f32> {
        match slimpipe_ops::cast::cast(&self.raw, DType::F32)?.to_vec::<f32>()?[..] {
            [value] => Ok(value),
            _ => Err(Error::NotAScalar { shape: *self.shape() }),
        }
    }

    /// The tensor's place on the tape, which does not keep its value alive.
    ///
    /// # Errors
    /// The tensor is a constant.
    pub fn tape_end(&self) -> Result<engine::TapeEnd> {
        self.node.clone().map(engine::TapeEnd::new).ok_or(Error::NoGraph)
    }

    /// Runs backward from this scalar. Parameters' gradients are added to; saved tensors are freed
    /// as they are consumed, so the graph can be walked once.
    ///
    /// # Errors
    /// Not a scalar, no graph, or a computation failed.
    pub fn backward(&self) -> Result<()> {
        if self.raw.elem_count() != 1 {
            return Err(Error::NotAScalar { shape: *self.shape() });
        }
        let one = Self::full(*self.shape(), 1.0, self.dtype(), self.device())?;
        self.backward_with(one.raw)
    }

    /// Runs backward from this tensor with its gradient.
    ///
    /// # Errors
    /// As [`Tensor::backward`], or a gradient of another shape or dtype.
    pub fn backward_with(&self, gradient: RawTensor) -> Result<()> {
        engine::backward(self.tape_end()?, gradient, None).map(|_| ())
    }
}
