use half::{bf16, f16};
use slimpipe_ops::cast::{cast, cast_into};
use slimpipe_runtime::{DType, RawTensor};

use super::util::{device, error, f64s, random, views};

#[test]
fn floats_round_to_the_nearest_even() {
    let x = random(&[1000], 0, DType::F32);
    let values = x.to_vec::<f32>().unwrap();
    let low: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
    assert_eq!(cast(&x, DType::BF16).unwrap().to_vec::<bf16>().unwrap(), low);
    let half: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
    assert_eq!(cast(&x, DType::F16).unwrap().to_vec::<f16>().unwrap(), half);
    let ties =
        RawTensor::from_slice(&[1.0 + 1.0 / 256.0, 1.0f32 + 3.0 / 256.0], 2, device()).unwrap();
    assert_eq!(f64s(&cast(&ties, DType::BF16).unwrap()), [1.0, 1.015625]);
}

#[test]
fn widening_is_exact_from_any_view() {
    for dtype in [DType::BF16, DType::F16] {
        let x = random(&[9, 11], 1, dtype);
        let wide = cast(&x, DType::F32).unwrap();
        for view in views(&x) {
            assert_eq!(
                cast(&view, DType::F32).unwrap().to_vec::<f32>().unwrap(),
                wide.to_vec::<f32>().unwrap()
            );
            assert_eq!(f64s(&cast(&cast(&view, DType::F32).unwrap(), dtype).unwrap()), f64s(&x));
        }
    }
}

#[test]
fn integers_truncate_and_saturate() {
    let x = RawTensor::from_slice(&[-1.9f32, 2.9, 300.0, -7.0, f32::NAN], 5, device()).unwrap();
    assert_eq!(cast(&x, DType::I32).unwrap().to_vec::<i32>().unwrap(), [-1, 2, 300, -7, 0]);
    assert_eq!(cast(&x, DType::U8).unwrap().to_vec::<u8>().unwrap(), [0, 2, 255, 0, 0]);
    let ids = RawTensor::from_slice(&[3u32, u32::MAX], 2, device()).unwrap();
    let wide = cast(&ids, DType::I64).unwrap().to_vec::<i64>().unwrap();
    assert_eq!(wide, [3, i64::from(u32::MAX)]);
}

#[test]
fn a_tensor_that_has_the_dtype_is_not_copied() {
    let x = random(&[4], 0, DType::F32);
    assert!(cast(&x, DType::F32).unwrap().same_storage(&x));
}

#[test]
fn a_destination_of_another_size_is_refused() {
    let x = random(&[4], 0, DType::F32);
    let mut out = RawTensor::zeros(5, DType::BF16, device()).unwrap();
    assert_eq!(error(cast_into(&x, &mut out)), "cast: shape [4] does not fill shape [5]");
}
