use half::{bf16, f16};
use slimpipe_kernels::cpu::convert::{self as cpu, Convert};
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::convert::{Number, cast};

use super::util::gpu;

trait Kind: Convert + bytemuck::Pod {
    const NUMBER: Number;
}

macro_rules! kinds {
    ($($t:ty: $number:ident),*) => {
        $(impl Kind for $t {
            const NUMBER: Number = Number::$number;
        })*
    };
}
kinds!(f32: F32, bf16: Bf16, f16: F16, i32: I32, u32: U32, i64: I64, u8: U8);

/// Numbers in and out of every type's range, as far as `T` has them.
fn samples<T: Kind>(len: usize) -> Vec<T> {
    const EDGES: [f64; 24] = [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.75,
        255.0,
        255.6,
        256.0,
        -1.0,
        65504.0,
        65520.0,
        1e-7,
        6e-8,
        1e-40,
        2147483647.0,
        2147483648.0,
        -2147483649.0,
        4294967295.0,
        4294967296.0,
        9.3e18,
        -9.3e18,
        3.4e38,
        f64::INFINITY,
    ];
    let special = [f64::NEG_INFINITY, f64::NAN, -3.4e38, 16_777_217.0];
    let some = (0..len).map(|i| (i as f64 * 37.73).sin() * 3000.0);
    EDGES.into_iter().chain(special).chain(some).map(T::from_f64).collect()
}

fn check<S: Kind, D: Kind>() {
    if S::NUMBER == D::NUMBER {
        return;
    }
    let Some(gpu) = gpu() else { return };
    for (skip, len) in [(0, 100), (1, 3)] {
        let from = samples::<S>(len);
        let got = gpu.schedules(|| {
            let (source, to) = (gpu.with_at(skip, &from), gpu.empty_at::<D>(skip, from.len()));
            let (source, target) = ((S::NUMBER, source.at), (D::NUMBER, to.at));
            // SAFETY: buffers of that many elements.
            unsafe { cast(&gpu.stream, source, from.len(), target) }.unwrap();
            bytemuck::cast_slice::<D, u8>(&gpu.read(&to)).to_vec()
        });
        let got: Vec<D> =
            got.chunks_exact(size_of::<D>()).map(bytemuck::pod_read_unaligned).collect();
        let mut expected = vec![D::zeroed(); from.len()];
        cpu::cast(&Threads::default(), &from, &mut expected);
        for ((from, got), expected) in from.iter().zip(&got).zip(&expected) {
            let same = bytemuck::bytes_of(got) == bytemuck::bytes_of(expected)
                || (got.to_f64().is_nan() && expected.to_f64().is_nan());
            let (from, got, expected) = (from.to_f64(), got.to_f64(), expected.to_f64());
            assert!(same, "{from} as {:?}: {got} instead of {expected}", (S::NUMBER, D::NUMBER));
        }
    }
}

fn check_from<S: Kind>() {
    check::<S, f32>();
    check::<S, bf16>();
    check::<S, f16>();
    check::<S, i32>();
    check::<S, u32>();
    check::<S, i64>();
    check::<S, u8>();
}

#[test]
fn every_type_becomes_every_other_with_the_bits_of_the_cpu() {
    check_from::<f32>();
    check_from::<bf16>();
    check_from::<f16>();
    check_from::<i32>();
    check_from::<u32>();
    check_from::<i64>();
    check_from::<u8>();
}
