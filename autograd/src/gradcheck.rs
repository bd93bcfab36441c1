//! Checking analytic gradients against central differences.

use slimpipe_runtime::{Device, RawTensor};

use crate::{Error, Parameter, Result, Tensor, no_grad};

/// How a gradient check compares.
#[derive(Clone, Copy, Debug)]
pub struct GradCheck {
    /// Half the distance of the two evaluations, relative to 1 + |x|.
    pub step: f32,
    /// Largest difference allowed, relative to 1 + |numeric gradient|.
    pub tolerance: f64,
    /// At most this many elements of each input are checked, evenly spread.
    pub elements: usize,
}

impl Default for GradCheck {
    /// Steps of 1e-2 and a tolerance of 1e-2: what f32 evaluations resolve.
    fn default() -> Self {
        Self { step: 1e-2, tolerance: 1e-2, elements: 64 }
    }
}

impl GradCheck {
    /// Compares the gradients of the scalar `f(inputs)` with central differences.
    ///
    /// `f` is called twice per element. Inputs are f32 on the CPU.
    ///
    /// # Errors
    /// [`Error::GradientCheck`] names the first element that differs; or `f` failed.
    pub fn run(&self, inputs: &[RawTensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
        let values: Vec<Vec<f32>> =
            inputs.iter().map(RawTensor::to_vec).collect::<Result<_, _>>()?;
        let parameters: Vec<Parameter> = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| Parameter::new(format!("input {i}"), input.clone()))
            .collect();
        let tensors: Vec<Tensor> = parameters.iter().map(Parameter::tensor).collect();
        f(&tensors)?.backward()?;
        for (input, parameter) in parameters.iter().enumerate() {
            let count = values[input].len();
            let analytic = parameter.grad_to_vec()?.unwrap_or_else(|| vec![0.0; count]);
            let stride = count.div_ceil(self.elements.max(1)).max(1);
            for element in (0..count).step_by(stride) {
                let h = self.step * (1.0 + values[input][element].abs());
                let evaluate = |delta: f32| -> Result<f64> {
                    let _no_grad = no_grad();
                    let mut moved = values.clone();
                    moved[input][element] += delta;
                    let tensors: Vec<Tensor> = moved
                        .iter()
                        .zip(inputs)
                        .map(|(values, like)| Tensor::new(values, *like.shape(), Device::Cpu))
                        .collect::<Result<_>>()?;
                    Ok(f64::from(f(&tensors)?.to_scalar()?))
                };
                let numeric = (evaluate(h)? - evaluate(-h)?) / (2.0 * f64::from(h));
                let analytic = f64::from(analytic[element]);
                // Written so that a NaN fails.
                if !((analytic - numeric).abs() <= self.tolerance * (1.0 + numeric.abs())) {
                    return Err(Error::GradientCheck { input, element, analytic, numeric });
                }
            }
        }
        Ok(())
    }
}
