use proptest::prelude::*;
use slimpipe_kernels::cpu::rope as cpu;
use slimpipe_kernels::cpu::threads::Threads;
use slimpipe_kernels::cuda::rope;

use super::figures::{FORWARD, GRADIENT};
use super::util::{
    Element, assert_close, assert_figure, both, cases, f64s, gpu, random, tolerance,
};

fn check<T: Element>(rows: usize, heads: usize, pairs: usize, offset: usize, skip: usize) {
    let Some(gpu) = gpu() else { return };
    let head_dim = 2 * pairs;
    let frequency = |j: usize| 0.7f64.powi(j as i32);
    let angles = (0..rows).flat_map(|row| (0..pairs).map(move |j| row as f64 * frequency(j)));
    let (cos, sin): (Vec<f32>, Vec<f32>) =
        angles.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
    let base = |f: fn(f64) -> f64| -> Vec<f32> {
        (0..pairs).map(|j| f(offset as f64 * frequency(j)) as f32).collect()
    };
    let (base_cos, base_sin) = (base(f64::cos), base(f64::sin));
    let x: Vec<T> = random(1, rows * heads * head_dim);
    let (turned, back) = gpu.schedules(|| {
        let (from, y) = (gpu.with_at(skip, &x), gpu.empty_at::<T>(skip, x.len()));
        let (c, s) = (gpu.with(&cos), gpu.with(&sin));
        let run = |from, inverse, to| {
            let (stream, base) = (&gpu.stream, (&base_cos, &base_sin));
            // SAFETY: the buffers hold all that is read and written.
            unsafe {
                rope::apply(
                    stream,
                    T::FLOAT,
                    from,
                    rows,
                    heads,
                    head_dim,
                    c.at,
                    s.at,
                    base.0,
                    base.1,
                    inverse,
                    to,
                )
            }
            .unwrap();
        };
        run(from.at, false, y.at);
        let turned = gpu.read(&y);
        run(y.at, true, y.at); // in place
        (turned, gpu.read(&y))
    });
    let mut exact = f64s(&x);
    for (i, head) in exact.chunks_mut(head_dim).enumerate() {
        for j in 0..pairs {
            let (sin, cos) = ((offset + i / heads) as f64 * frequency(j)).sin_cos();
            let (a, b) = (head[j], head[j + pairs]);
            (head[j], head[j + pairs]) = (a * cos - b * sin, b * cos + a * sin);
        }
    }
    assert_figure::<T>("RoPE", &turned, &exact, FORWARD);
    assert_figure::<T>("RoPE and its gradient", &back, &f64s(&x), GRADIENT);
    assert_close("turned", &turned, &exact, tolerance::<T>());
    assert_close("turned back", &back, &f64s(&x), 2.0 * tolerance::<T>());
    let mut other = vec![T::default(); x.len()];
    let threads = Threads::default();
    cpu::apply(&threads, &x, heads, head_dim, &cos, &sin, &base_cos, &base_sin, false, &mut other);
    assert_close("turned by the CPU", &turned, &f64s(&other), tolerance::<T>());
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn heads_are_turned_by_their_positions_and_back(
        rows in 0usize..10, heads in 1usize..4, pairs in 1usize..20, offset in 0usize..2000,
        skip in 0usize..2,
    ) {
        both!(check(rows, heads, pairs, offset, skip));
        both!(check(rows, heads, pairs.next_multiple_of(8), offset, 0));
    }
}

#[test]
fn heads_of_more_pairs_than_a_warp_has_threads_are_turned() {
    both!(check(3, 2, 200, 9, 0));
    both!(check(2, 5, 137, 1000, 1));
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let Some(gpu) = gpu() else { return };
    let angles = vec![0.0; 300];
    let null = slimpipe_kernels::cuda::DevicePtr::NULL;
    let (stream, float) = (&gpu.stream, slimpipe_kernels::cuda::Float::F32);
    // SAFETY: refused before anything is enqueued.
    let refused = unsafe {
        rope::apply(stream, float, null, 1, 1, 600, null, null, &angles, &angles, false, null)
    };
    let error = refused.unwrap_err().to_string();
    assert_eq!(
        error,
        "rope: a head of 600 elements with 300 angles: sizes are even and at most 512"
    );
}
