//! Inputs and comparisons.

use slimpipe_autograd::{Parameter, Result, Tensor};
use slimpipe_ops::cast::cast;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, RawTensor, Shape};

/// Where the suite computes.
pub fn device() -> Device {
    crate::device()
}

/// Normal numbers, another draw for each `stream`.
pub fn random(shape: impl Into<Shape>, stream: u64) -> Tensor {
    Tensor::randn(shape, 1.0, Random::new(29, stream), device()).unwrap()
}

/// A parameter of normal numbers around 0.
pub fn parameter(name: &str, shape: impl Into<Shape>, dtype: DType) -> Parameter {
    let value = RawTensor::randn(shape, 0.3, Random::named(29, name), device()).unwrap();
    Parameter::new(name, cast(&value, dtype).unwrap())
}

/// The address of a tensor's elements.
pub fn address(x: &Tensor) -> u64 {
    match x.device() {
        Device::Cuda(_) => x.raw().device_ptr("test").unwrap().0,
        _ => x.raw().as_bytes("test").unwrap().as_ptr().addr() as u64,
    }
}

/// A parameter's gradient, which it must have.
#[track_caller]
pub fn grad(parameter: &Parameter) -> Vec<f32> {
    parameter.grad_to_vec().unwrap().unwrap_or_else(|| panic!("{parameter:?} has no gradient"))
}

/// ||a - b|| / ||b||.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    (apart / b.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

/// The text of an error.
#[track_caller]
pub fn error<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("the call must fail"),
        Err(error) => error.to_string(),
    }
}
