use half::{bf16, f16};
use slimpipe_ops::copy::{contiguous, copy, copy_into, reshape};
use slimpipe_runtime::{DType, Element, RawTensor};

use super::util::{device, error, random, views};

/// Distinct values of any type.
fn counted<T: Element>(shape: &[usize], from: fn(u8) -> T) -> RawTensor {
    let values: Vec<T> = (0..shape.iter().product::<usize>()).map(|i| from(i as u8)).collect();
    RawTensor::from_slice(&values, shape, device()).unwrap()
}

fn copies<T: Element + PartialEq>(from: fn(u8) -> T) {
    let x = counted(&[3, 5, 7], from);
    let expected = x.to_vec::<T>().unwrap();
    for view in views(&x) {
        let copied = copy(&view).unwrap();
        assert!(copied.layout().is_contiguous() && !copied.same_storage(&view));
        assert_eq!(copied.to_vec::<T>().unwrap(), expected);
    }
    let repeated = x.narrow(1, 2, 1).unwrap().broadcast_to((2, 3, 4, 7)).unwrap();
    assert_eq!(copy(&repeated).unwrap().to_vec::<T>().unwrap(), repeated.to_vec::<T>().unwrap());
}

#[test]
fn every_dtype_and_view_is_copied_in_row_major_order() {
    copies::<f32>(f32::from);
    copies::<bf16>(bf16::from);
    copies::<f16>(f16::from);
    copies::<i32>(i32::from);
    copies::<u32>(u32::from);
    copies::<i64>(i64::from);
    copies::<u8>(|i| i);
}

#[test]
fn large_transposes_are_exact() {
    for shape in [[257, 130], [3, 20_000], [20_000, 3], [1, 40_000]] {
        let x = random(&shape, 0, DType::F32);
        let turned = x.transpose(0, 1).unwrap();
        assert_eq!(
            copy(&turned).unwrap().to_vec::<f32>().unwrap(),
            turned.to_vec::<f32>().unwrap()
        );
        let column = x.narrow(1, 0, 1).unwrap();
        assert_eq!(
            copy(&column).unwrap().to_vec::<f32>().unwrap(),
            column.to_vec::<f32>().unwrap()
        );
    }
    let heads = random(&[130, 6, 40], 1, DType::F32);
    for axes in [[1, 0, 2], [2, 1, 0], [1, 2, 0]] {
        let view = heads.permute(&axes).unwrap();
        assert_eq!(copy(&view).unwrap().to_vec::<f32>().unwrap(), view.to_vec::<f32>().unwrap());
    }
}

#[test]
fn only_what_is_not_contiguous_is_copied() {
    let x = random(&[4, 4], 0, DType::F32);
    assert!(contiguous(&x.narrow(0, 1, 2).unwrap()).unwrap().same_storage(&x));
    assert!(!contiguous(&x.narrow(1, 1, 2).unwrap()).unwrap().same_storage(&x));
}

#[test]
fn reshaping_copies_only_where_strides_need_it() {
    let x = random(&[4, 6], 0, DType::F32);
    let columns = x.narrow(1, 1, 4).unwrap();
    let split = reshape(&columns, (4, 2, 2)).unwrap();
    assert!(split.same_storage(&x));
    let flat = reshape(&columns, 16).unwrap();
    assert!(!flat.same_storage(&x));
    assert_eq!(flat.to_vec::<f32>().unwrap(), columns.to_vec::<f32>().unwrap());
    assert!(error(reshape(&columns, 15)).contains("do not fill shape [15]"));
}

#[test]
fn empty_tensors_are_copied() {
    let x = RawTensor::zeros((3, 0), DType::F32, device()).unwrap();
    assert_eq!(copy(&x.transpose(0, 1).unwrap()).unwrap().dims(), [0, 3]);
}

#[test]
fn a_destination_that_does_not_fit_is_refused() {
    let x = random(&[4], 0, DType::F32);
    let mut low = RawTensor::zeros(4, DType::BF16, device()).unwrap();
    assert!(error(copy_into(&x, &mut low)).contains("operands differ in dtype"));
    let mut long = RawTensor::zeros(5, DType::F32, device()).unwrap();
    assert_eq!(error(copy_into(&x, &mut long)), "copy: shape [4] does not fill shape [5]");
}
