//! AdamW with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), and gradient clipping.
//!
//! Moments are f32. A bf16 model has f32 master weights; the model's weights are rounded copies.

mod gpu;

use std::ops::Range;

use slimpipe_allocator::{Region, intern, scope};
use slimpipe_autograd::Parameter;
use slimpipe_kernels::cpu::adamw as kernel;
use slimpipe_kernels::cpu::reduce;
use slimpipe_ops::cast::cast_into;
use slimpipe_runtime::{DType, Device, RawTensor, Shape, team};

use crate::Result;

/// The settings of [`AdamW`] that stay the same over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decay of weights with two or more dimensions, per step and learning rate.
    pub weight_decay: f32,
}

impl AdamWConfig {
    /// The decay of a parameter with this value: norms and biases have none.
    fn decay(&self, value: &RawTensor) -> f32 {
        if value.rank() >= 2 { self.weight_decay } else { 0.0 }
    }
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 }
    }
}

/// What the optimizer keeps for one parameter, or for the elements of it that it updates.
pub struct State {
    /// The parameter.
    pub parameter: Parameter,
    /// Which of its elements are updated.
    pub share: Range<usize>,
    /// f32 master weights, where the model's are bf16.
    pub master: Option<RawTensor>,
    /// First moment.
    pub exp_avg: RawTensor,
    /// Second moment.
    pub exp_avg_sq: RawTensor,
}

/// The optimizer of one rank's parameters.
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<Parameter>,
    states: Vec<State>,
    steps: u64,
}

impl State {
    fn new(parameter: Parameter, share: Range<usize>) -> Result<Self> {
        let value = parameter.value();
        let (all, len) = (value.elem_count(), share.len());
        let shape = if len == all { *value.shape() } else { Shape::from(len) };
        let zeros = |what| -> Result<RawTensor> {
            let name = intern(&format!("{what} {}", parameter.name()));
            let mut zeros = RawTensor::empty(shape, DType::F32, value.device(), name)?;
            zeros.fill_zero()?;
            Ok(zeros)
        };
        let mut master = None;
        if value.dtype() != DType::F32 {
            let mut copy = zeros("master")?;
            cast_into(&value.reshape(all)?.narrow(0, share.start, len)?, &mut copy)?;
            master = Some(copy);
        }
        let (exp_avg, exp_avg_sq) = (zeros("adam m")?, zeros("adam v")?);
        drop(value);
        Ok(Self { parameter, share, master, exp_avg, exp_avg_sq })
    }
}

impl AdamW {
    /// An optimizer for `parameters`; its state lies in persistent memory.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(parameters: Vec<Parameter>, config: AdamWConfig) -> Result<Self> {
        let whole = |parameter: Parameter| {
            let all = 0..parameter.value().elem_count();
            (parameter, all)
        };
        Self::of_shares(parameters.into_iter().map(whole).collect(), config)
    }

    /// An optimizer for some elements of parameters, such as a
    /// [pipeline's shares](slimpipe_pipeline::execute::Pipeline::shares): it keeps state for these
    /// alone (ZeRO-1, arXiv 1910.02054).
    ///
    /// # Errors
    /// Out of memory.
    pub fn of_shares(
        parameters: Vec<(Parameter, Range<usize>)>,
        config: AdamWConfig,
    ) -> Result<Self> {
        let _persistent = scope::place(Region::Persistent);
        let (mut all, mut states) = (Vec::new(), Vec::new());
        for (parameter, share) in parameters {
            parameter.allocate_grad()?;
            all.push(parameter.clone());
            if !share.is_empty() {
                states.push(State::new(parameter, share)?);
            }
        }
        Ok(Self { config, parameters: all, states, steps: 0 })
    }

    /// The parameters with their state.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The parameters with their state, to restore them.
    pub fn states_mut(&mut self) -> &mut [State] {
        &mut self.states
    }

    /// Steps taken, which the bias correction counts.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Continues after `steps` steps.
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// Where parameters and their state lie.
    fn device(&self) -> Option<Device> {
        self.parameters.first().map(|parameter| parameter.value().device())
    }

    /// The sum of squares of all gradients of parameters for which `counts` is true.
    ///
    /// # Errors
    /// A gradient's memory is gone.
    pub fn grad_sum_squares(&self, counts: impl Fn(&Parameter) -> bool) -> Result<f64> {
        let states = self.states.iter().filter(|state| counts(&state.parameter));
        if let Some(Device::Cuda(ordinal)) = self.device() {
            return gpu::grad_sum_squares(ordinal, states);
        }
        let team = team::current();
        let mut sum = 0.0;
        for state in states {
            if let Some(grad) = state.parameter.grad().get() {
                let share = &grad.slice("grad_norm")?[state.share.clone()];
                sum += reduce::sum_squares(&team, share);
            }
        }
        Ok(sum)
    }

    /// One step with learning rate `lr` on the gradients times `grad_scale`; gradients are emptied.
    ///
    /// # Errors
    /// A parameter's value is held elsewhere, or memory is gone.
    pub fn step(&mut self, lr: f32, grad_scale: f32) -> Result<()> {
        const OP: &str = "adamw";
        self.steps += 1;
        let AdamWConfig { beta1, beta2, eps, .. } = self.config;
        let settings = kernel::AdamW { lr, beta1, beta2, eps, weight_decay: 0.0, step: self.steps };
        if let Some(Device::Cuda(ordinal)) = self.device() {
            gpu::step(ordinal, &mut self.states, settings, &self.config, grad_scale)?;
            self.parameters.iter().for_each(Parameter::zero_grad);
            return Ok(());
        }
        let team = team::current();
        for State { parameter, share, master, exp_avg, exp_avg_sq } in &mut self.states {
            let share = || share.clone();
            let mut value = parameter.value_mut();
            let settings = kernel::AdamW { weight_decay: self.config.decay(&value), ..settings };
            let grad = parameter.grad();
            let Some(grad) = grad.get() else { continue };
            let (m, v) = (exp_avg.slice_mut(OP)?, exp_avg_sq.slice_mut(OP)?);
            let grad = &grad.slice(OP)?[share()];
            match master {
                None => kernel::step(
                    &team,
                    settings,
                    &mut value.slice_mut(OP)?[share()],
                    None,
                    grad,
                    grad_scale,
                    m,
                    v,
                ),
                Some(master) => {
                    let (master, low) = (master.slice_mut(OP)?, &mut value.slice_mut(OP)?[share()]);
                    kernel::step(&team, settings, master, Some(low), grad, grad_scale, m, v);
                }
            }
        }
        self.parameters.iter().for_each(Parameter::zero_grad);
        Ok(())
    }
}

/// What gradients are multiplied by so that their global norm is at most `max_norm`.
pub fn clip_factor(norm: f64, max_norm: f64) -> f32 {
    if max_norm > 0.0 && norm > max_norm { (max_norm / (norm + 1e-6)) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_only_ever_shrinks() {
        assert_eq!(clip_factor(0.5, 1.0), 1.0);
        assert_eq!(clip_factor(3.0, 0.0), 1.0);
        assert!((f64::from(clip_factor(4.0, 1.0)) - 0.25).abs() < 1e-6);
    }
}
