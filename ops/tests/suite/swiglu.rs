use slimpipe_ops::swiglu::{swiglu, swiglu_backward};
use slimpipe_runtime::DType;

use super::util::{FLOATS, assert_close, error, f64s, random, tolerance, views};

#[test]
fn outputs_and_gradients_match_the_formula() {
    for dtype in FLOATS {
        for shape in [&[1][..], &[5, 7], &[3, 90, 130]] {
            let (gate, up) = (random(shape, 0, dtype), random(shape, 1, dtype));
            let dy = random(shape, 2, dtype);
            let (g, u, d) = (f64s(&gate), f64s(&up), f64s(&dy));
            let each = |f: &dyn Fn(f64, f64, f64, f64) -> f64| -> Vec<f64> {
                (0..g.len()).map(|i| f(g[i], u[i], d[i], 1.0 / (1.0 + (-g[i]).exp()))).collect()
            };
            let y = each(&|g, u, _, s| g * s * u);
            let dgate = each(&|g, u, d, s| d * u * s * (1.0 + g * (1.0 - s)));
            let dup = each(&|g, _, d, s| d * g * s);
            for ((gate, up), dy) in views(&gate).iter().zip(views(&up)).zip(views(&dy)) {
                assert_close(&swiglu(gate, &up).unwrap(), &y, tolerance(dtype));
                let (dg, du) = swiglu_backward(gate, &up, &dy).unwrap();
                assert_close(&dg, &dgate, tolerance(dtype));
                assert_close(&du, &dup, tolerance(dtype));
            }
        }
    }
}

#[test]
fn operands_that_differ_are_refused() {
    let (a, b) = (random(&[2, 3], 0, DType::F32), random(&[3, 2], 0, DType::F32));
    assert_eq!(error(swiglu(&a, &b)), "swiglu: shapes [2, 3] and [3, 2] differ");
    assert!(error(swiglu_backward(&a, &b, &a)).contains("shapes [2, 3] and [3, 2] differ"));
    assert!(error(swiglu(&a, &random(&[2, 3], 0, DType::BF16))).contains("f32 and bf16"));
}
