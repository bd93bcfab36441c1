//! Checking analytic gradients against differences of the function itself.

use slimpipe_ops::copy::copy;
use slimpipe_runtime::RawTensor;
use slimpipe_runtime::random::Random;

use crate::{Error, Parameter, Result, Tensor, no_grad};

/// How a gradient check compares. See [`GradCheck::run`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradCheck {
    /// Half the distance of the two nearer evaluations, relative to 1 + |x|.
    pub step: f32,
    /// Largest difference allowed, relative to the input's largest gradient (or to 0.1, if that is
    /// more).
    pub tolerance: f64,
    /// At most this many elements of each input are checked, evenly spread.
    pub elements: usize,
}

impl Default for GradCheck {
    /// Steps of 2e-2 and a tolerance of 1e-3: what f32 evaluations resolve.
    fn default() -> Self {
        Self { step: 2e-2, tolerance: 1e-3, elements: 64 }
    }
}

/// Checks the gradients of `f` at `inputs` (f32) with the default settings.
///
/// ```
/// use slimpipe_autograd::{Tensor, gradcheck};
/// use slimpipe_runtime::Device;
/// let x = Tensor::new(&[0.3f32, -1.2, 2.0, 0.7], (2, 2), Device::Cpu)?;
/// let w = Tensor::new(&[1.0f32, 0.5, -0.5, 2.0], (2, 2), Device::Cpu)?;
/// gradcheck(&[x, w], |t| t[0].linear(&t[1])?.tanh())?;
/// # Ok::<(), slimpipe_autograd::Error>(())
/// ```
///
/// # Errors
/// As [`GradCheck::run`].
pub fn gradcheck(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
    GradCheck::default().run(inputs, f)
}

impl GradCheck {
    /// Compares the gradients that backward gives for `f` at `inputs` with differences of four
    /// evaluations per element.
    ///
    /// `f` may give a tensor of any shape: its elements are weighted by fixed random numbers and
    /// summed in f64, so that no error cancels. Inputs and output are f32.
    ///
    /// # Errors
    /// [`Error::GradientCheck`] names the first element that differs; or `f` failed.
    pub fn run(&self, inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
        let mut analytic = Vec::with_capacity(inputs.len());
        let parameters: Vec<Parameter> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| Ok(Parameter::new(format!("input {i}"), copy(input.raw())?)))
            .collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = parameters.iter().map(Parameter::tensor).collect();
        let output = f(&tensors)?;
        let weights = RawTensor::randn(*output.shape(), 1.0, Random::new(0, 0), output.device())?;
        output.backward_with(weights.clone())?;
        drop((output, tensors));
        for parameter in &parameters {
            let zeros = || vec![0.0; parameter.value().elem_count()];
            analytic.push(parameter.grad_to_vec()?.unwrap_or_else(zeros));
        }
        let weights = weights.to_vec::<f32>()?;
        for (input, analytic) in analytic.iter().enumerate() {
            self.check(input, inputs, analytic, &weights, &f)?;
        }
        Ok(())
    }

    fn check(
        &self,
        input: usize,
        inputs: &[Tensor],
        analytic: &[f32],
        weights: &[f32],
        f: &impl Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<()> {
        let _no_grad = no_grad();
        let values = inputs[input].to_vec::<f32>()?;
        let evaluate = |element: usize, delta: f32| -> Result<(f64, f64)> {
            let (mut moved, mut tensors) = (values.clone(), inputs.to_vec());
            moved[element] += delta;
            tensors[input] = Tensor::new(&moved, *inputs[input].shape(), inputs[input].device())?;
            let output = f(&tensors)?.to_vec::<f32>()?;
            let sum = output.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum();
            Ok((f64::from(moved[element]), sum))
        };
        let slope = |element: usize, h: f32| -> Result<f64> {
            let ((right, above), (left, below)) = (evaluate(element, h)?, evaluate(element, -h)?);
            Ok((above - below) / (right - left))
        };
        let stride = values.len().div_ceil(self.elements.max(1)).max(1);
        let mut checked = Vec::new();
        for element in (0..values.len()).step_by(stride) {
            let h = self.step * (1.0 + values[element].abs());
            // Richardson: the error of order h^2 cancels.
            let numeric = (4.0 * slope(element, h)? - slope(element, 2.0 * h)?) / 3.0;
            checked.push((element, f64::from(analytic[element]), numeric));
        }
        let largest = checked.iter().map(|(_, _, numeric)| numeric.abs()).fold(0.1, f64::max);
        for (element, analytic, numeric) in checked {
            let apart = (analytic - numeric).abs();
            if apart.is_nan() || apart > self.tolerance * largest {
                return Err(Error::GradientCheck { input, element, analytic, numeric });
            }
        }
        Ok(())
    }
}
