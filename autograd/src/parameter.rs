//! Trainable parameters: a value in the model's dtype and a gradient accumulated in f32.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use slimpipe_allocator::{Region, intern, scope};
use slimpipe_ops as ops;
use slimpipe_runtime::{DType, Device, RawTensor, Shape};

use crate::node::{Kind, Node};
use crate::{Result, Tensor};

pub(crate) struct ParameterInner {
    name: String,
    shape: Shape,
    device: Device,
    value: Mutex<RawTensor>,
    grad: Mutex<Gradient>,
}

/// A parameter's gradient: an f32 buffer, allocated once, and whether it holds anything.
#[derive(Default)]
pub struct Gradient {
    buffer: Option<RawTensor>,
    filled: bool,
}

impl Gradient {
    /// The gradient, `None` before any was accumulated (or after [`Parameter::zero_grad`]).
    pub fn get(&self) -> Option<&RawTensor> {
        self.buffer.as_ref().filter(|_| self.filled)
    }

    /// The gradient, for changing it in place.
    pub fn get_mut(&mut self) -> Option<&mut RawTensor> {
        self.buffer.as_mut().filter(|_| self.filled)
    }
}

/// A trainable tensor with a name. Cloning copies the handle.
#[derive(Clone)]
pub struct Parameter {
    inner: Arc<ParameterInner>,
    node: Arc<Node>,
}

impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.inner.value.lock();
        write!(f, "Parameter({}, {}, {})", self.name(), value.shape(), value.dtype())
    }
}

impl Parameter {
    /// A parameter called `name` with the value `value`.
    pub fn new(name: impl Into<String>, value: RawTensor) -> Self {
        let inner = Arc::new(ParameterInner {
            name: name.into(),
            shape: *value.shape(),
            device: value.device(),
            value: Mutex::new(value.clone()),
            grad: Mutex::default(),
        });
        let kind = Kind::Parameter(inner.clone());
        let node = Node::new("parameter", &value, Vec::new(), kind);
        Self { inner, node }
    }

    /// The name, unique within a model.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    pub(crate) fn inner(&self) -> &ParameterInner {
        &self.inner
    }

    /// The value as a tensor that gradients flow into.
    pub fn tensor(&self) -> Tensor {
        Tensor::from_node(self.value(), self.node.clone())
    }

    /// The value. While this handle lives the value cannot be changed in place.
    pub fn value(&self) -> RawTensor {
        self.inner.value.lock().clone()
    }

    /// The value, locked, for changing it in place (an optimizer does).
    pub fn value_mut(&self) -> MutexGuard<'_, RawTensor> {
        self.inner.value.lock()
    }

    /// The gradient, locked.
    pub fn grad(&self) -> MutexGuard<'_, Gradient> {
        self.inner.grad.lock()
    }

    /// A copy of the gradient's elements; `None` before any was accumulated.
    ///
    /// # Errors
    /// The gradient's memory is gone.
    pub fn grad_to_vec(&self) -> Result<Option<Vec<f32>>> {
        Ok(self.grad().get().map(RawTensor::to_vec).transpose()?)
    }

    /// Empties the gradient; its memory stays.
    pub fn zero_grad(&self) {
        self.grad().filled = false;
    }

    /// Lets `write` add to the f32 accumulator of the gradient, or overwrite it where it is told that
    /// the gradient is empty. If `write` fails, an empty gradient stays empty.
    ///
    /// # Errors
    /// Out of memory, or what `write` meets.
    pub fn accumulate<R>(
        &self,
        write: impl FnOnce(&mut RawTensor, bool) -> Result<R>,
    ) -> Result<R> {
        self.inner.accumulate(write)
    }

    /// Makes the gradient zeros, if none was accumulated.
    ///
    /// # Errors
    /// Out of memory.
    pub fn complete_grad(&self) -> Result<()> {
        self.inner.accumulate(|buffer, is_empty| match is_empty {
            true => Ok(buffer.fill_zero()?),
            false => Ok(()),
        })
    }

    /// Allocates the gradient now, as persistent memory, so that no step has to.
    ///
    /// # Errors
    /// Out of memory.
    pub fn allocate_grad(&self) -> Result<()> {
        self.inner.buffer(&mut self.grad()).map(|_| ())
    }
}

impl ParameterInner {
    fn buffer<'a>(&self, grad: &'a mut Gradient) -> Result<&'a mut RawTensor> {
        let buffer = match grad.buffer.take() {
            Some(buffer) => buffer,
            None => {
                let _persistent = scope::place(Region::Persistent);
                let name = intern(&format!("gradient {}", self.name));
                RawTensor::empty(self.shape, DType::F32, self.device, name)?
            }
        };
        Ok(grad.buffer.insert(buffer))
    }

    /// As [`Parameter::accumulate`].
    pub(crate) fn accumulate<R>(
        &self,
        write: impl FnOnce(&mut RawTensor, bool) -> Result<R>,
    ) -> Result<R> {
        let mut grad = self.grad.lock();
        let overwrite = !grad.filled;
        let result = write(self.buffer(&mut grad)?, overwrite)?;
        grad.filled = true;
        Ok(result)
    }

    /// Adds a gradient of any float dtype.
    pub(crate) fn add(&self, gradient: &RawTensor) -> Result<()> {
        self.accumulate(|buffer, overwrite| {
            if overwrite {
                buffer.fill_zero()?;
            }
            Ok(ops::elementwise::add_assign(buffer, gradient)?)
        })
    }
}
