use proptest::prelude::*;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cpu::{swiglu as cpu_swiglu, unary as cpu_unary};
use slimpipe_kernels::cuda::elementwise::{self, Operation};
use slimpipe_kernels::cuda::strided::View;
use slimpipe_kernels::cuda::unary::Unary;
use slimpipe_kernels::cuda::{Float, swiglu, unary};

use super::figures::FORWARD;
use super::util::{
    Element, assert_close, assert_figure, both, cases, f64s, gpu, random, tolerance,
};

fn function(f: Unary, x: f64) -> f64 {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    match f {
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Tanh => x.tanh(),
        Unary::Sigmoid => sigmoid,
        Unary::Silu => x * sigmoid,
        Unary::Gelu => x * 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Unary::Relu => x.max(0.0),
    }
}

fn check_unary<T: Element>(f: Unary, len: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let positive = matches!(f, Unary::Log | Unary::Sqrt | Unary::Rsqrt);
    let adapt = |x: T| T::from_f32(if positive { x.to_f32().abs() + 0.25 } else { x.to_f32() });
    let x: Vec<T> = random(1, len).into_iter().map(adapt).collect();
    let dy: Vec<T> = random(2, len);
    let (y, dx) = gpu.schedules(|| {
        let (from, d) = (gpu.with_at(skip, &x), gpu.with_at(skip, &dy));
        let (y, dx) = (gpu.empty_at::<T>(skip, len), gpu.empty_at::<T>(skip, len));
        // SAFETY: buffers of `len` elements.
        unsafe {
            unary::forward(&gpu.stream, T::FLOAT, f, from.at, len, y.at).unwrap();
            unary::backward(&gpu.stream, T::FLOAT, f, from.at, d.at, len, dx.at).unwrap();
        }
        (gpu.read(&y), gpu.read(&dx))
    });
    let exact: Vec<f64> = f64s(&x).into_iter().map(|x| function(f, x)).collect();
    assert_close(f.name(), &y, &exact, tolerance::<T>());
    let (threads, mut cpu) = (Threads::default(), vec![T::default(); len]);
    cpu_unary::backward(&threads, f, &x, &dy, &mut cpu);
    assert_close(f.name(), &dx, &f64s(&cpu), 2.0 * tolerance::<T>());
}

#[test]
fn functions_of_one_element_match_their_definition_and_the_cpu() {
    for (i, f) in Unary::ALL.into_iter().enumerate() {
        both!(check_unary(f, 531 + i, i % 3));
    }
}

#[test]
fn functions_keep_what_is_no_ordinary_number() {
    let Some(gpu) = gpu() else { return };
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 200.0, -200.0];
    let run = |f| {
        gpu.schedules(|| {
            let (from, y) = (gpu.with(&x), gpu.empty::<f32>(x.len()));
            // SAFETY: buffers of that many elements.
            unsafe { unary::forward(&gpu.stream, Float::F32, f, from.at, x.len(), y.at) }.unwrap();
            gpu.read(&y).into_iter().map(f32::to_bits).collect::<Vec<_>>()
        })
    };
    for f in [Unary::Exp, Unary::Sigmoid, Unary::Tanh, Unary::Relu] {
        for (x, bits) in x.into_iter().zip(run(f)) {
            let (got, cpu) = (f32::from_bits(bits), f.value(x));
            assert!(got == cpu || (got.is_nan() && cpu.is_nan()), "{}({x}) = {got}", f.name());
        }
    }
}

fn check_swiglu<T: Element>(len: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let [gate, up, d]: [Vec<T>; 3] = [1, 2, 3].map(|seed| random(seed, len));
    let (out, dgate, dup) = gpu.schedules(|| {
        let [g, u, d] = [&gate, &up, &d].map(|values| gpu.with_at(skip, values));
        let [out, dgate, dup] = [(); 3].map(|()| gpu.empty_at::<T>(skip, len));
        // SAFETY: buffers of `len` elements.
        unsafe {
            swiglu::forward(&gpu.stream, T::FLOAT, g.at, u.at, len, out.at).unwrap();
            let (stream, float) = (&gpu.stream, T::FLOAT);
            swiglu::backward(stream, float, g.at, u.at, d.at, len, dgate.at, dup.at).unwrap();
        }
        (gpu.read(&out), gpu.read(&dgate), gpu.read(&dup))
    });
    let exact = |f: fn(f64, f64, f64) -> f64| -> Vec<f64> {
        let inputs = f64s(&gate).into_iter().zip(f64s(&up)).zip(f64s(&d));
        inputs.map(|((g, u), d)| f(g, u, d)).collect()
    };
    let exact_out = exact(|g, u, _| g / (1.0 + (-g).exp()) * u);
    assert_figure::<T>("SwiGLU", &out, &exact_out, FORWARD);
    assert_close("swiglu", &out, &exact_out, tolerance::<T>());
    assert_close("dup", &dup, &exact(|g, _, d| d * g / (1.0 + (-g).exp())), tolerance::<T>());
    let slope = |g: f64, u: f64, d: f64| {
        let s = 1.0 / (1.0 + (-g).exp());
        d * u * s * (1.0 + g * (1.0 - s))
    };
    assert_close("dgate", &dgate, &exact(slope), 2.0 * tolerance::<T>());
    let mut cpu = vec![T::default(); len];
    cpu_swiglu::forward(&Threads::default(), &gate, &up, &mut cpu);
    assert_close("swiglu of the CPU", &out, &f64s(&cpu), tolerance::<T>());
}

/// A shape, the strides of two operands, and the elements that these reach.
#[derive(Debug)]
struct Operands {
    extents: Vec<usize>,
    strides: [Vec<usize>; 2],
    spans: [usize; 2],
}

/// Views of `extents` as code makes them: dense, broadcast along some dimensions, with dimensions exchanged, or
/// with gaps between rows.
fn operands() -> impl Strategy<Value = Operands> {
    let dims = prop::collection::vec(prop_oneof![1usize..6, Just(8), Just(16)], 1..4);
    let kinds = [0u8..4, 0u8..4];
    (dims, kinds).prop_map(|(extents, kinds)| {
        let strides = kinds.map(|kind| {
            let mut order: Vec<usize> = (0..extents.len()).rev().collect();
            if kind == 2 {
                order.reverse();
            }
            let (mut strides, mut next) = (vec![0; extents.len()], 1);
            for (i, &axis) in order.iter().enumerate() {
                strides[axis] = next;
                next *= extents[axis] + if kind == 3 && i == 0 { 8 } else { 0 };
            }
            if kind == 1 {
                strides[extents.len() / 2] = 0;
            }
            strides
        });
        let reach = |strides: &Vec<usize>| {
            1 + extents.iter().zip(strides).map(|(n, s)| (n - 1) * s).sum::<usize>()
        };
        let spans = [reach(&strides[0]), reach(&strides[1])];
        Operands { extents, strides, spans }
    })
}

/// The places of a view's elements in row-major order.
pub fn places(extents: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut all = vec![0];
    for (extent, stride) in extents.iter().zip(strides) {
        all = all.iter().flat_map(|at| (0..*extent).map(move |i| at + i * stride)).collect();
    }
    all
}

fn check_binary<T: Element>(operation: Operation, operands: &Operands, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let Operands { extents, strides, spans } = operands;
    let (a, b): (Vec<T>, Vec<T>) = (random(1, spans[0]), random(2, spans[1]));
    let len = extents.iter().product();
    let c = gpu.schedules(|| {
        let (x, y, c) = (gpu.with_at(skip, &a), gpu.with(&b), gpu.empty::<T>(len));
        let [x, y] = [(x.at, 0), (y.at, 1)].map(|(at, i)| View { at, strides: &strides[i] });
        // SAFETY: the buffers hold all that the views reach.
        unsafe { elementwise::binary(&gpu.stream, T::FLOAT, operation, extents, x, y, c.at) }
            .unwrap();
        gpu.read(&c)
    });
    let pairs = places(extents, &strides[0]).into_iter().zip(places(extents, &strides[1]));
    let exact: Vec<T> = pairs
        .map(|(i, j)| {
            let (a, b) = (a[i].to_f32(), b[j].to_f32());
            T::from_f32(match operation {
                Operation::Add => a + b,
                Operation::Subtract => a - b,
                Operation::Multiply => a * b,
                Operation::Divide => a / b,
            })
        })
        .collect();
    assert_eq!(c, exact, "{operation:?} over {extents:?} and {strides:?}");
}

fn check_updates<T: Element>(operands: &Operands) {
    let Some(gpu) = gpu() else { return };
    let Operands { extents, strides, spans } = operands;
    let x: Vec<T> = random(1, spans[0]);
    let len = extents.iter().product();
    let (low, high): (Vec<T>, Vec<f32>) = (random(2, len), random(3, len));
    let (scaled, shifted, low_sum, high_sum) = gpu.schedules(|| {
        let (from, stream) = (gpu.with(&x), &gpu.stream);
        let (scaled, shifted) = (gpu.empty::<T>(len), gpu.empty::<T>(len));
        let (low, high) = (gpu.with(&low), gpu.with(&high));
        let view = View { at: from.at, strides: &strides[0] };
        // SAFETY: the buffers hold all that the views reach.
        unsafe {
            elementwise::affine(stream, T::FLOAT, extents, view, -2.5, -0.0, scaled.at).unwrap();
            elementwise::affine(stream, T::FLOAT, extents, view, 1.0, 0.75, shifted.at).unwrap();
            elementwise::accumulate(stream, T::FLOAT, extents, view, T::FLOAT, low.at).unwrap();
            elementwise::accumulate(stream, T::FLOAT, extents, view, Float::F32, high.at).unwrap();
        }
        (gpu.read(&scaled), gpu.read(&shifted), gpu.read(&low), gpu.read(&high))
    });
    let x: Vec<f32> = places(extents, &strides[0]).into_iter().map(|at| x[at].to_f32()).collect();
    let each =
        |f: &dyn Fn(usize) -> f32| -> Vec<T> { (0..len).map(|i| T::from_f32(f(i))).collect() };
    assert_eq!(scaled, each(&|i| x[i] * -2.5));
    assert_eq!(shifted, each(&|i| x[i] + 0.75));
    assert_eq!(low_sum, each(&|i| low[i].to_f32() + x[i]));
    assert_eq!(high_sum, (0..len).map(|i| high[i] + x[i]).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn swiglu_matches_its_formulas_for_any_length_and_alignment(len in 0usize..700, skip in 0usize..3) {
        both!(check_swiglu(len, skip));
    }

    #[test]
    fn arithmetic_gives_the_bits_of_the_cpu_over_any_views(operands in operands(), skip in 0usize..2) {
        for operation in Operation::ALL {
            both!(check_binary(operation, &operands, skip));
        }
    }

    #[test]
    fn scaling_shifting_and_accumulating_read_any_view(operands in operands()) {
        both!(check_updates(&operands));
    }
}
