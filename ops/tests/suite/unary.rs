use slimpipe_ops::unary::{Unary, unary, unary_backward};

use super::util::{FLOATS, assert_close, error, f64s, labels, random, tolerance, views};

const ALL: [Unary; 9] = [
    Unary::Exp,
    Unary::Log,
    Unary::Sqrt,
    Unary::Rsqrt,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Silu,
    Unary::Gelu,
    Unary::Relu,
];

/// The normal distribution function, by Simpson's rule from 0.
fn phi(x: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let steps = 2000;
    let h = x / f64::from(steps);
    let inner: f64 =
        (1..steps).map(|i| density(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    0.5 + h / 3.0 * (density(0.0) + inner + density(x))
}

fn value(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Silu => x / (1.0 + (-x).exp()),
        Unary::Gelu => x * phi(x),
        Unary::Relu => x.max(0.0),
    }
}

#[test]
fn values_and_derivatives_match_the_formulas() {
    for dtype in FLOATS {
        let mut x = random(&[37, 3], 0, dtype);
        let dy = random(&[37, 3], 1, dtype);
        for f in ALL {
            if matches!(f, Unary::Log | Unary::Sqrt | Unary::Rsqrt) {
                x = unary(Unary::Exp, &x).unwrap();
            }
            let (xs, dys) = (f64s(&x), f64s(&dy));
            let y: Vec<f64> = xs.iter().map(|&x| value(f, x)).collect();
            let slope = |x: f64| (value(f, x + 1e-5) - value(f, x - 1e-5)) / 2e-5;
            let dx: Vec<f64> = xs.iter().zip(&dys).map(|(&x, dy)| dy * slope(x)).collect();
            for (x, dy) in views(&x).iter().zip(views(&dy)) {
                assert_close(&unary(f, x).unwrap(), &y, tolerance(dtype));
                assert_close(&unary_backward(f, x, &dy).unwrap(), &dx, 2.0 * tolerance(dtype));
            }
            x = random(&[37, 3], 0, dtype);
        }
    }
}

#[test]
fn integers_and_shapes_that_differ_are_refused() {
    let ids = labels(&[1, 2]);
    assert_eq!(
        error(unary(Unary::Tanh, &ids)),
        "tanh: expected dtype f32 or bf16, got i64; convert with to_dtype first"
    );
    let (x, dy) = (random(&[2, 3], 0, FLOATS[0]), random(&[3, 2], 0, FLOATS[0]));
    assert_eq!(error(unary_backward(Unary::Exp, &x, &dy)), "exp: shapes [2, 3] and [3, 2] differ");
}
