use slimpipe_ops::elementwise::{Binary, add_assign, add_reusing, binary, fill, scale, shift};
use slimpipe_runtime::{DType, RawTensor, Shape};

use super::util::{FLOATS, address, assert_close, error, f64s, random, tensor, tolerance, views};

const ALL: [Binary; 4] = [Binary::Add, Binary::Subtract, Binary::Multiply, Binary::Divide];

fn reference(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
    }
}

/// The elements of `x` repeated to `shape`.
fn repeated(x: &RawTensor, shape: Shape) -> Vec<f64> {
    f64s(&x.broadcast_to(shape).unwrap())
}

#[test]
fn arithmetic_broadcasts_like_numpy_over_any_views() {
    let shapes: [(&[usize], &[usize]); 9] = [
        (&[5, 7], &[5, 7]),
        (&[3, 5, 7], &[7]),       // a bias
        (&[3, 5, 7], &[3, 5, 1]), // a factor per row
        (&[7], &[3, 5, 7]),
        (&[3, 1, 7], &[5, 1]),
        (&[], &[4, 3]),
        (&[0, 3], &[1, 3]),
        (&[40_000], &[40_000]), // several blocks
        (&[300, 1], &[1, 200]),
    ];
    for dtype in FLOATS {
        for (i, (left, right)) in shapes.into_iter().enumerate() {
            let (a, b) =
                (random(left, 2 * i as u64, dtype), random(right, 2 * i as u64 + 1, dtype));
            let shape = a.shape().broadcast(b.shape()).unwrap();
            let (x, y) = (repeated(&a, shape), repeated(&b, shape));
            for op in ALL {
                let expected: Vec<f64> =
                    x.iter().zip(&y).map(|(&x, &y)| reference(op, x, y)).collect();
                for a in views(&a) {
                    for b in views(&b) {
                        let c = binary(op, &a, &b).unwrap();
                        assert_eq!((*c.shape(), c.dtype()), (shape, dtype));
                        assert_close(&c, &expected, tolerance(dtype));
                    }
                }
            }
        }
    }
}

#[test]
fn scaling_and_shifting_read_views_in_place() {
    for dtype in FLOATS {
        let x = random(&[6, 9], 0, dtype);
        for view in views(&x) {
            let scaled: Vec<f64> = f64s(&x).iter().map(|x| x * -2.5).collect();
            assert_close(&scale(&view, -2.5).unwrap(), &scaled, tolerance(dtype));
            let shifted: Vec<f64> = f64s(&x).iter().map(|x| x + 0.75).collect();
            assert_close(&shift(&view, 0.75).unwrap(), &shifted, tolerance(dtype));
        }
    }
}

#[test]
fn sums_are_written_over_an_operand_that_nobody_else_holds() {
    for dtype in FLOATS {
        let (a, b) = (random(&[33, 5], 0, dtype), random(&[33, 5], 1, dtype));
        let expected: Vec<f64> = f64s(&a).iter().zip(f64s(&b)).map(|(a, b)| a + b).collect();
        let own = |x: &RawTensor| slimpipe_ops::copy::copy(x).unwrap();

        let first = own(&a);
        let at = address(&first);
        let sum = add_reusing(first, b.clone()).unwrap();
        assert_eq!(address(&sum), at, "written over the first");
        assert_close(&sum, &expected, tolerance(dtype));

        let second = own(&b);
        let at = address(&second);
        let sum = add_reusing(a.clone(), second).unwrap();
        assert_eq!(address(&sum), at, "written over the second");
        assert_close(&sum, &expected, tolerance(dtype));

        let sum = add_reusing(a.clone(), b.clone()).unwrap();
        assert!(!sum.same_storage(&a) && !sum.same_storage(&b));
        assert_close(&sum, &expected, tolerance(dtype));
    }
}

#[test]
fn accumulators_take_f32_and_bf16_from_any_view() {
    for dtype in FLOATS {
        let x = random(&[8, 6], 0, dtype);
        for view in views(&x) {
            let mut sum = random(&[8, 6], 1, DType::F32);
            let expected: Vec<f64> = f64s(&sum).iter().zip(f64s(&x)).map(|(s, x)| s + x).collect();
            add_assign(&mut sum, &view).unwrap();
            assert_close(&sum, &expected, 2e-6);
        }
    }
}

#[test]
fn filling_sets_every_element() {
    let mut x = random(&[3, 4], 0, DType::BF16);
    fill(&mut x, 1.5).unwrap();
    assert_eq!(f64s(&x), [1.5; 12]);
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let (a, b) = (tensor(&[0.0; 6], &[2, 3]), tensor(&[0.0; 4], &[2, 2]));
    assert_eq!(
        error(binary(Binary::Multiply, &a, &b)),
        "multiply: shapes [2, 3] and [2, 2] do not broadcast"
    );
    let low = random(&[2, 3], 0, DType::BF16);
    assert_eq!(
        error(binary(Binary::Add, &a, &low)),
        "add: operands differ in dtype, f32 and bf16; convert one with to_dtype"
    );
    let ids = super::util::labels(&[1, 2]);
    assert_eq!(
        error(binary(Binary::Add, &ids, &ids)),
        "add: expected dtype f32 or bf16, got i64; convert with to_dtype first"
    );
    assert_eq!(error(add_assign(&mut a.clone(), &b)), "add: shapes [2, 3] and [2, 2] differ");
    let shared = a.clone();
    assert!(error(add_assign(&mut a.clone(), &shared)).contains("shares its storage"));
}
