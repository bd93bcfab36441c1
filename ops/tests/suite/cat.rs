use slimpipe_ops::cat::{cat, narrow_backward};
use slimpipe_runtime::{DType, RawTensor, Shape};

use super::util::{FLOATS, device, error, f64s, random, views};

#[test]
fn parts_come_back_out_of_the_whole() {
    for dtype in FLOATS {
        for dim in 0..3 {
            let shape = |extent: usize| {
                let mut shape = [4, 5, 6];
                shape[dim] = extent;
                shape
            };
            let parts = [3, 0, 7, 1].map(|extent| random(&shape(extent), extent as u64, dtype));
            for view in 0..3 {
                let pick = |part: &RawTensor| views(part).into_iter().cycle().nth(view);
                let parts: Vec<RawTensor> = parts.iter().filter_map(pick).collect();
                let whole = cat(&parts.iter().collect::<Vec<_>>(), dim).unwrap();
                assert_eq!(*whole.shape(), Shape::from(shape(11)));
                let mut start = 0;
                for part in &parts {
                    let extent = part.dims()[dim];
                    assert_eq!(f64s(&whole.narrow(dim, start, extent).unwrap()), f64s(part));
                    start += extent;
                }
            }
        }
    }
}

#[test]
fn integers_are_concatenated_too() {
    let ids = |values: &[u32]| RawTensor::from_slice(values, values.len(), device()).unwrap();
    let whole = cat(&[&ids(&[1, 2]), &ids(&[3])], 0).unwrap();
    assert_eq!(whole.to_vec::<u32>().unwrap(), [1, 2, 3]);
}

#[test]
fn the_gradient_of_a_part_lies_amid_zeros() {
    for dtype in FLOATS {
        for (dim, start, len) in [(0, 1, 2), (1, 0, 3), (1, 4, 1), (2, 3, 3), (0, 4, 0)] {
            let shape = Shape::from([4, 5, 6]);
            let mut part = shape;
            part.dims_mut()[dim] = len;
            let grad = random(part.dims(), 1, dtype);
            for grad in views(&grad) {
                let whole = narrow_backward(&grad, shape, dim, start).unwrap();
                assert_eq!(f64s(&whole.narrow(dim, start, len).unwrap()), f64s(&grad));
                let total: f64 = f64s(&whole).iter().map(|x| x.abs()).sum();
                assert_eq!(total, f64s(&grad).iter().map(|x| x.abs()).sum::<f64>());
            }
        }
    }
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let (a, b) = (random(&[2, 3], 0, DType::F32), random(&[2, 4], 0, DType::F32));
    assert_eq!(error(cat(&[&a, &b], 0)), "cat: [2, 4] after [2, 3] along dimension 0");
    assert_eq!(error(cat(&[&a], 2)), "cat: no dimension 2 in shape [2, 3]");
    assert_eq!(error(cat(&[], 0)), "cat: there is nothing to concatenate");
    let low = random(&[2, 3], 0, DType::BF16);
    assert!(error(cat(&[&a, &low], 0)).contains("operands differ in dtype"));
    assert!(error(narrow_backward(&a, Shape::from([2, 4]), 1, 2)).contains("outside"));
    assert_eq!(
        error(narrow_backward(&a, Shape::from([3, 4]), 1, 1)),
        "narrow_backward: a gradient [2, 3] for a part [3, 3]"
    );
}
