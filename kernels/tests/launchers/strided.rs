use proptest::prelude::*;
use slimpipe_kernels::cuda::strided::{self, View};

use super::elementwise::places;
use super::util::{cases, gpu};

/// Copies between views of `extents` whose dimensions lie in memory in the given orders (the first innermost), with
/// `gap` elements between the innermost rows of each.
fn check<T: bytemuck::Pod + Eq + std::fmt::Debug>(
    extents: &[usize],
    orders: [&[usize]; 2],
    gaps: [usize; 2],
    skip: usize,
    number: fn(usize) -> T,
) {
    let Some(gpu) = gpu() else { return };
    let views = [0, 1].map(|i| {
        let (mut strides, mut next) = (vec![0; extents.len()], 1);
        for (inner, &axis) in orders[i].iter().enumerate() {
            strides[axis] = next;
            next = next * extents[axis] + if inner == 0 { gaps[i] } else { 0 };
        }
        (strides, next)
    });
    let from: Vec<T> = (0..views[0].1).map(number).collect();
    let untouched: Vec<T> = (0..views[1].1).map(|i| number(i + 100_000)).collect();
    let to = gpu.schedules(|| {
        let (source, to) = (gpu.with_at(skip, &from), gpu.with_at(skip, &untouched));
        let [a, b] = [(&source, 0), (&to, 1)]
            .map(|(buffer, i)| View { at: buffer.at, strides: &views[i].0 });
        // SAFETY: the buffers hold all that the views reach.
        unsafe { strided::copy(&gpu.stream, size_of::<T>(), extents, a, b) }.unwrap();
        gpu.read(&to)
    });
    let mut expected = untouched;
    for (a, b) in places(extents, &views[0].0).into_iter().zip(places(extents, &views[1].0)) {
        expected[b] = from[a];
    }
    assert_eq!(to, expected, "{extents:?} {orders:?} {gaps:?}");
}

fn check_sizes(extents: &[usize], orders: [&[usize]; 2], gaps: [usize; 2], skip: usize) {
    check(extents, orders, gaps, skip, |i| i as u8);
    check(extents, orders, gaps, skip, |i| i as u16);
    check(extents, orders, gaps, skip, |i| i as u32);
    check(extents, orders, gaps, skip, |i| i as u64);
}

fn gap() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(16), 1usize..4]
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn any_view_is_copied_to_any_view(
        extents in prop::collection::vec(prop_oneof![1usize..7, Just(16), Just(32)], 3),
        orders in [Just(vec![0usize, 1, 2]).prop_shuffle(), Just(vec![0usize, 1, 2]).prop_shuffle()],
        gaps in [gap(), gap()],
        skip in 0usize..2,
    ) {
        check_sizes(&extents, [&orders[0], &orders[1]], gaps, skip);
    }
}

#[test]
fn matrices_are_transposed_through_tiles() {
    check_sizes(&[70, 33], [&[0, 1], &[1, 0]], [0, 0], 0);
    check_sizes(&[3, 40, 9], [&[1, 0, 2], &[2, 0, 1]], [2, 5], 1);
}

#[test]
fn dense_bytes_and_nothing_at_all_are_copied() {
    check_sizes(&[1000], [&[0], &[0]], [0, 0], 0);
    check_sizes(&[1001], [&[0], &[0]], [0, 0], 1);
    check_sizes(&[5, 0], [&[1, 0], &[1, 0]], [0, 0], 0);
    check_sizes(&[], [&[], &[]], [0, 0], 0);
}
