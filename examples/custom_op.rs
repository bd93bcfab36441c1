//! An operation of one's own, without an edit to any crate: the squared ReLU of Primer
//! (arXiv 2109.08668), checked against differences of itself and trained with.
//!
//!     cargo run --release --example custom_op

use slimpipe::autograd::{Result, gradcheck};
use slimpipe::prelude::*;

/// y = max(x, 0)^2, dx = 2 max(x, 0) dy; elementwise, f32.
struct SquaredRelu;

impl SquaredRelu {
    const NAME: &'static str = "squared_relu";

    /// A tensor like `x` whose elements are `f(i)`; the thread's team shares the work.
    fn map(x: &RawTensor, f: impl Fn(usize) -> f32 + Sync) -> Result<RawTensor> {
        const BLOCK: usize = 1 << 14;
        let mut y = RawTensor::empty(*x.shape(), x.dtype(), x.device(), Self::NAME)?;
        if y.is_meta() {
            return Ok(y); // a memory plan is being recorded: shapes and sizes are all it takes
        }
        team::current().chunks(y.slice_mut(Self::NAME)?, BLOCK, |block, y| {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = f(block * BLOCK + i));
        });
        Ok(y)
    }

    /// The elements; none on the meta device, where nobody asks for them.
    fn elements(x: &RawTensor) -> Result<&[f32]> {
        if x.is_meta() { Ok(&[]) } else { Ok(x.slice(Self::NAME)?) }
    }
}

impl CustomOp for SquaredRelu {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn forward(&self, inputs: &[RawTensor]) -> Result<RawTensor> {
        let x = Self::elements(&inputs[0])?;
        Self::map(&inputs[0], |i| x[i].max(0.0).powi(2))
    }

    fn backward(
        &self,
        inputs: &[RawTensor],
        _output: &RawTensor,
        grad: &RawTensor,
    ) -> Result<Vec<Option<RawTensor>>> {
        let (x, dy) = (Self::elements(&inputs[0])?, Self::elements(grad)?);
        Ok(vec![Some(Self::map(grad, |i| 2.0 * x[i].max(0.0) * dy[i])?)])
    }
}

fn squared_relu(x: &Tensor) -> Result<Tensor> {
    Tensor::apply(SquaredRelu, &[x])
}

/// Two layers with the operation between them.
struct Mlp {
    up: Parameter,
    down: Parameter,
}

impl Mlp {
    fn new(seed: u64, width: usize, inner: usize) -> Result<Self> {
        let parameter = |name: &str, shape: (usize, usize)| -> Result<Parameter> {
            let std = 1.0 / (shape.1 as f32).sqrt();
            let value = RawTensor::randn(shape, std, Random::named(seed, name), Device::Cpu)?;
            Ok(Parameter::new(name, value))
        };
        Ok(Self { up: parameter("up", (inner, width))?, down: parameter("down", (1, inner))? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        squared_relu(&x.linear(&self.up.tensor())?)?.linear(&self.down.tensor())
    }
}

fn main() -> anyhow::Result<()> {
    let x = Tensor::randn((64, 16), 1.0, Random::new(0, 0), Device::Cpu)?;
    gradcheck(&[x], |inputs| squared_relu(&inputs[0]))?;
    println!("the gradient of squared_relu agrees with differences of its values");

    // A student learns what a smaller teacher computes.
    let (teacher, student) = (Mlp::new(1, 16, 4)?, Mlp::new(2, 16, 64)?);
    let parameters = vec![student.up.clone(), student.down.clone()];
    let mut optimizer = AdamW::new(parameters, AdamWConfig::default())?;
    for step in 0..=400 {
        let x = Tensor::randn((256, 16), 1.0, Random::new(3, step), Device::Cpu)?;
        let error = (&student.forward(&x)? - &teacher.forward(&x)?.detach())?;
        let loss = error.mul(&error)?.mean()?;
        loss.backward()?;
        if step % 100 == 0 {
            println!("step {step:>3}  mean squared error {:.5}", loss.to_scalar()?);
        }
        drop((error, loss)); // the graph holds the weights; the optimizer writes them in place
        optimizer.step(3e-3, 1.0)?;
    }
    Ok(())
}
