//! Regions of a forward that keep their inputs only, and run again in backward.
//!
//! ```
//! use slimpipe_autograd::{Parameter, Tensor, recompute};
//! use slimpipe_runtime::{Device, RawTensor};
//! let gate = Parameter::new("gate", RawTensor::from_slice(&[1f32, 2., 3., 4.], (2, 2), Device::Cpu)?);
//! let x = Tensor::new(&[1f32, -1.], (1, 2), Device::Cpu)?;
//! let weight = gate.clone();
//! let y = recompute([x], move |[x]| x.linear(&weight.tensor())?.silu())?;
//! y.sum()?.backward()?;
//! assert!(gate.grad_to_vec()?.is_some());
//! # Ok::<(), slimpipe_autograd::Error>(())
//! ```
//!
//! In forward a region runs without the tape. Its *outputs* need not be kept either: an operation that
//! would save one (a product its input) saves the way to make it again. The first backward that asks
//! runs the region with the tape on, and its new nodes join the walk where the region's own node stood.
//! What is made again is freed as backward goes through it, one region at a time.
//!
//! Chains end at regions: a region keeps the bytes of an input that another region made. Otherwise the
//! last region's backward would run all of them.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex;
use slimpipe_runtime::RawTensor;

use crate::engine::Backward;
use crate::grad_mode::with_grad;
use crate::node::{Edge, Function, Kind, Node};
use crate::saved::{Recipe, Saved};
use crate::{Error, Result, Tensor, is_recording, no_grad};

const NAME: &str = "recompute";

/// What a region gives: a tensor, or several.
pub trait Outputs: Sized {
    /// The same with each tensor replaced by what `f` makes of it, in order.
    fn map(self, f: impl FnMut(Tensor) -> Tensor) -> Self;
}

impl Outputs for Tensor {
    fn map(self, mut f: impl FnMut(Tensor) -> Tensor) -> Self {
        f(self)
    }
}

impl<const N: usize> Outputs for [Tensor; N] {
    fn map(self, f: impl FnMut(Tensor) -> Tensor) -> Self {
        self.map(f)
    }
}

impl Outputs for Vec<Tensor> {
    fn map(self, f: impl FnMut(Tensor) -> Tensor) -> Self {
        self.into_iter().map(f).collect()
    }
}

/// Runs `f` on `inputs` and keeps the inputs in place of what `f` makes: backward runs `f` again.
/// Gradients are the same, bit for bit.
///
/// `f` runs twice, so it must give the same both times and change nothing outside. Gradients flow into
/// `inputs`, into parameters whose [`tensor`](crate::Parameter::tensor) `f` takes, and into keys and
/// values that were [written](crate::KvCache::write) before and that it
/// [attends to](Tensor::attend_to).
///
/// # Errors
/// What `f` meets, or it writes to a [`KvCache`](crate::KvCache).
#[track_caller]
pub fn recompute<const N: usize, O: Outputs>(
    inputs: [Tensor; N],
    f: impl Fn([Tensor; N]) -> Result<O> + Send + 'static,
) -> Result<O> {
    let constants = inputs.each_ref().map(Tensor::detach);
    let kept = is_recording().then(|| inputs.map(Input::keep));
    let outputs = {
        let (_off, _inside) = (no_grad(), Inside::enter(Run::First));
        f(constants)?
    };
    let Some(inputs) = kept else { return Ok(outputs) };
    let edges: Vec<Edge> = inputs.iter().map(|input| input.node.clone()).collect();
    let forward = move || -> Result<Vec<Tensor>> {
        let mut all = Vec::new();
        f(Input::tensors(&inputs)?)?.map(|output| {
            all.push(output.clone());
            output
        });
        Ok(all)
    };
    let forward = Mutex::new(Some(Box::new(forward) as Box<Forward>));
    let region = Arc::new(Region { forward, outputs: Mutex::new(Vec::new()) });
    let mut node = None;
    Ok(outputs.map(|output| {
        let raw = output.raw().clone();
        let node = node.get_or_insert_with(|| {
            Node::new(NAME, &raw, edges.clone(), Kind::operation(Again(region.clone())))
        });
        region.output(raw, node)
    }))
}

/// A kept input, with its place on the tape.
struct Input {
    value: Saved,
    node: Edge,
    recipe: Option<Arc<Recipe>>,
}

impl Input {
    fn keep(input: Tensor) -> Self {
        let recipe = input.recipe().filter(|recipe| recipe.cheap).cloned();
        let value = Saved::new(input.raw(), recipe.as_ref());
        Self { value, node: input.node().cloned(), recipe }
    }

    fn tensors<const N: usize>(inputs: &[Self; N]) -> Result<[Tensor; N]> {
        let values = inputs.iter().map(|input| input.value.value()).collect::<Result<Vec<_>>>()?;
        Ok(std::array::from_fn(|i| {
            let Self { node, recipe, .. } = &inputs[i];
            Tensor::from_parts(values[i].clone(), node.clone(), recipe.clone())
        }))
    }
}

type Forward = dyn FnOnce() -> Result<Vec<Tensor>> + Send;

/// What a region's output is, from its forward to its backward.
#[derive(Default)]
struct Output {
    /// Its value, once it was made again, until whoever saved it takes it.
    value: Arc<Mutex<Option<RawTensor>>>,
    /// Its place on the tape, once it was made again.
    node: Edge,
    gradient: Option<RawTensor>,
}

struct Region {
    /// Taken when it runs again.
    forward: Mutex<Option<Box<Forward>>>,
    outputs: Mutex<Vec<Output>>,
}

impl Region {
    /// The output `raw` as a tensor on the tape, behind the region's `node`.
    fn output(self: &Arc<Self>, raw: RawTensor, node: &Arc<Node>) -> Tensor {
        let (index, value) = {
            let mut outputs = self.outputs.lock();
            outputs.push(Output::default());
            (outputs.len() - 1, outputs[outputs.len() - 1].value.clone())
        };
        let function = Kind::operation(Take { region: self.clone(), index });
        let node = Node::new(NAME, &raw, vec![Some(node.clone())], function);
        let region = self.clone();
        let recipe = Recipe::of_region(move || {
            region.run_again()?;
            value.lock().take().ok_or(Error::AlreadyConsumed { op: NAME })
        });
        Tensor::from_parts(raw, Some(node), Some(recipe))
    }

    /// Runs the region with the tape on, unless that was done.
    fn run_again(&self) -> Result<()> {
        let Some(forward) = self.forward.lock().take() else { return Ok(()) };
        let made = {
            let (_on, _inside) = (with_grad(), Inside::enter(Run::Again));
            forward()?
        };
        for (output, tensor) in self.outputs.lock().iter_mut().zip(made) {
            let (raw, node) = tensor.into_parts();
            output.node = node;
            // The other handle is that of the recipe, if anyone saved it.
            if Arc::strong_count(&output.value) > 1 {
                *output.value.lock() = Some(raw);
            }
        }
        Ok(())
    }
}

/// The backward of one output: leaves its gradient for the region.
struct Take {
    region: Arc<Region>,
    index: usize,
}

impl Function for Take {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, grad: RawTensor) -> Result<()> {
        let mut outputs = self.region.outputs.lock();
        let is_first = outputs.iter().all(|output| output.gradient.is_none());
        outputs[self.index].gradient = Some(grad);
        if is_first {
            cx.unlock(0);
        }
        Ok(())
    }
}

/// The backward of a region: runs it again, and lets the walk go through what that put on the tape.
struct Again(Arc<Region>);

impl Function for Again {
    fn backward(self: Box<Self>, cx: &mut Backward<'_>, _: RawTensor) -> Result<()> {
        self.unlocked(cx)
    }

    fn unlocked(self: Box<Self>, cx: &mut Backward<'_>) -> Result<()> {
        self.0.run_again()?;
        let outputs = std::mem::take(&mut *self.0.outputs.lock());
        for Output { node, gradient, .. } in outputs {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                cx.add_to(&node, gradient)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Run {
    First,
    Again,
}

thread_local! {
    static INSIDE: Cell<Option<Run>> = const { Cell::new(None) };
}

/// Restores what was before when dropped.
struct Inside {
    previous: Option<Run>,
    not_send: PhantomData<*const ()>,
}

impl Inside {
    fn enter(run: Run) -> Self {
        // A region inside one that runs again is run for the second time, too.
        let run = INSIDE.get().filter(|_| run == Run::First).unwrap_or(run);
        Self { previous: INSIDE.replace(Some(run)), not_send: PhantomData }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(self.previous);
    }
}

/// Whether the current region is run again.
pub(crate) fn is_again() -> bool {
    INSIDE.get() == Some(Run::Again)
}

/// Fails inside any region: what is written there would be written twice.
pub(crate) fn check_write() -> Result<()> {
    if INSIDE.get().is_some() { Err(Error::WriteInRecompute) } else { Ok(()) }
}
