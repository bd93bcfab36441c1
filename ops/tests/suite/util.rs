//! Inputs and comparisons.

use slimpipe_ops::cast::cast;
use slimpipe_runtime::random::Random;
use slimpipe_runtime::{DType, Device, RawTensor, Result};

/// Where the suite computes.
pub fn device() -> Device {
    crate::device()
}

/// The dtypes that are computed with.
pub const FLOATS: [DType; 2] = [DType::F32, DType::BF16];

/// Normal numbers, another draw for each `stream`, rounded to `dtype`.
pub fn random(shape: &[usize], stream: u64, dtype: DType) -> RawTensor {
    let x = RawTensor::randn(shape, 1.0, Random::new(17, stream), device()).unwrap();
    cast(&x, dtype).unwrap()
}

/// f32 values.
pub fn tensor(values: &[f32], shape: &[usize]) -> RawTensor {
    RawTensor::from_slice(values, shape, device()).unwrap()
}

/// Labels, or anything else in i64.
pub fn labels(values: &[i64]) -> RawTensor {
    RawTensor::from_slice(values, values.len(), device()).unwrap()
}

/// The elements in row-major order.
pub fn f64s(x: &RawTensor) -> Vec<f64> {
    let x = cast(x, DType::F32).unwrap();
    x.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// Views that have the elements of `x` but lie in memory in other ways.
pub fn views(x: &RawTensor) -> Vec<RawTensor> {
    let mut all = vec![x.clone()];
    let rank = x.rank();
    if rank == 0 || x.elem_count() == 0 {
        return all;
    }
    // Rows with gaps between them, and a start that is not that of the storage.
    let pad = RawTensor::zeros(padded(x.dims()), x.dtype(), device()).unwrap();
    let wide = slimpipe_ops::cat::cat(&[&pad, x, &pad], rank - 1).unwrap();
    all.push(wide.narrow(rank - 1, 2, x.dims()[rank - 1]).unwrap());
    if rank > 1 {
        // The last two dimensions exchanged in memory.
        let swapped = x.transpose(rank - 2, rank - 1).unwrap();
        let stored = slimpipe_ops::copy::copy(&swapped).unwrap();
        all.push(stored.transpose(rank - 2, rank - 1).unwrap());
    }
    all
}

fn padded(dims: &[usize]) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = 2;
    }
    dims
}

/// What one rounding to `dtype` and an f32 computation may differ by, relative.
pub fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F32 { 2e-6 } else { 1.0 / 256.0 }
}

/// Compares each element, relative to its size and the typical size of all.
#[track_caller]
pub fn assert_close(actual: &RawTensor, expected: &[f64], tolerance: f64) {
    let actual = f64s(actual);
    assert_eq!(actual.len(), expected.len(), "number of elements");
    let squares: f64 = expected.iter().map(|e| e * e).sum();
    let typical = (squares / expected.len().max(1) as f64).sqrt();
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        let allowed = tolerance * (e.abs() + typical);
        // Written so that a NaN fails.
        assert!((a - e).abs() <= allowed, "element {i}: {a} instead of {e}, allowed {allowed:e}");
    }
}

/// The bytes of a contiguous tensor.
pub fn bytes(x: &RawTensor) -> Vec<u8> {
    let x = x.to_device(Device::Cpu).unwrap();
    x.as_bytes("test").unwrap().to_vec()
}

/// The address of a tensor's elements.
pub fn address(x: &RawTensor) -> u64 {
    match x.device() {
        Device::Cuda(_) => x.device_ptr("test").unwrap().0,
        _ => x.as_bytes("test").unwrap().as_ptr().addr() as u64,
    }
}

/// The text of an error.
#[track_caller]
pub fn error<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("the call must fail"),
        Err(error) => error.to_string(),
    }
}
