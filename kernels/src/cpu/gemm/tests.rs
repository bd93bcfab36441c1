use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::cpu::testing::noise;

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Rows dense, with a gap between them.
    Rows { gap: usize },
    /// Columns dense, with a gap between them.
    Columns { gap: usize },
    /// Neither.
    Scattered,
}

fn view<T: Input>(data: &[T], rows: usize, cols: usize, layout: Layout) -> MatRef<'_, T> {
    match layout {
        Layout::Rows { gap } => MatRef::new(data, rows, cols, cols + gap, 1),
        Layout::Columns { gap } => MatRef::new(data, rows, cols, 1, rows + gap),
        Layout::Scattered => MatRef::new(data, rows, cols, 2 * cols + 1, 2),
    }
}

fn elements<T: Input>(seed: u64, rows: usize, cols: usize) -> Vec<T> {
    // Enough for every layout.
    noise(seed, 2 * (rows + 3) * (cols + 3)).into_iter().map(T::from_f32).collect()
}

#[derive(Debug)]
struct Case {
    size: (usize, usize, usize),
    layouts: (Layout, Layout),
    beta: Beta,
}

impl Case {
    fn compute<T: Input, O: Output>(&self, path: Path, threads: usize) -> Vec<O> {
        let (m, n, k) = self.size;
        let (a, b) = (elements::<T>(1, m, k), elements::<T>(2, k, n));
        let (a, b) = (view(&a, m, k, self.layouts.0), view(&b, k, n, self.layouts.1));
        let mut c: Vec<O> = noise(3, m * n).into_iter().map(O::from_f32).collect();
        let threads = Threads::new(threads).unwrap();
        gemm_on(path, &threads, a, b, self.beta, MatMut::new(&mut c, m, n));
        c
    }

    /// The exact product, and the sum of the absolute values of what is added.
    fn reference<T: Input, O: Output>(&self) -> Vec<(f64, f64)> {
        let (m, n, k) = self.size;
        let (a, b) = (elements::<T>(1, m, k), elements::<T>(2, k, n));
        let (a, b) = (view(&a, m, k, self.layouts.0), view(&b, k, n, self.layouts.1));
        let old: Vec<O> = noise(3, m * n).into_iter().map(O::from_f32).collect();
        let at = |x: &MatRef<'_, T>, i: usize, j: usize| {
            let (row, col) = x.strides();
            f64::from(x.data()[i * row + j * col].to_f32())
        };
        let element = |index: usize| {
            let (i, j) = (index / n, index % n);
            let old = f64::from(old[index].to_f32());
            let start = if self.beta == Beta::Accumulate { old } else { 0.0 };
            (0..k).fold((start, start.abs()), |(sum, size), l| {
                let product = at(&a, i, l) * at(&b, l, j);
                (sum + product, size + product.abs())
            })
        };
        (0..m * n).map(element).collect()
    }

    fn check<T: Input, O: Output + PartialEq + std::fmt::Debug>(&self, rounding: f64) {
        let reference = self.reference::<T, O>();
        for &path in T::paths() {
            let one = self.compute::<T, O>(path, 1);
            for (i, (got, (exact, size))) in one.iter().zip(&reference).enumerate() {
                let error = (f64::from(got.to_f32()) - exact).abs();
                // Sums in f32, then one rounding to the destination's type.
                let allowed = 3e-7 * size + rounding * exact.abs() + 1e-30;
                assert!(error <= allowed, "{path:?} element {i}: {got:?}, exactly {exact}");
            }
            for threads in [2, 3] {
                let more = self.compute::<T, O>(path, threads);
                assert!(one == more, "{path:?}: {threads} threads differ from one");
            }
        }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let layout = || {
        prop_oneof![
            (0usize..3).prop_map(|gap| Layout::Rows { gap }),
            (0usize..3).prop_map(|gap| Layout::Columns { gap }),
            Just(Layout::Scattered),
        ]
    };
    let beta = prop_oneof![Just(Beta::Overwrite), Just(Beta::Accumulate)];
    // Whole tiles, ragged ones, and lines.
    let rows = || prop_oneof![Just(1usize), Just(32), Just(64), 2usize..100];
    let depth = prop_oneof![Just(1usize), Just(64), 2usize..150];
    ((rows(), rows(), depth), (layout(), layout()), beta).prop_map(|(size, layouts, beta)| Case {
        size,
        layouts,
        beta,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn f32_matches_an_f64_reference_on_every_path_and_team(case in cases()) {
        case.check::<f32, f32>(0.0);
    }

    #[test]
    fn bf16_matches_an_f64_reference_on_every_path_and_team(case in cases()) {
        case.check::<bf16, f32>(0.0);
        case.check::<bf16, bf16>(1.0 / 256.0);
    }
}

#[test]
fn products_of_many_blocks_match_an_f64_reference() {
    let whole = Layout::Rows { gap: 0 };
    for (size, layouts, beta) in [
        // Several passes, groups of rows, and blocks of B's columns, on every path.
        ((300, 40, 4 * KC + 38), (whole, Layout::Columns { gap: 0 }), Beta::Accumulate),
        ((40, 1100, 4 * KC + 70), (Layout::Columns { gap: 1 }, whole), Beta::Overwrite),
        ((600, 1100, 33), (whole, whole), Beta::Accumulate),
    ] {
        let case = Case { size, layouts, beta };
        case.check::<f32, f32>(0.0);
        case.check::<bf16, f32>(0.0);
        case.check::<bf16, bf16>(1.0 / 256.0);
    }
}

#[test]
fn nothing_to_add_gives_zeros_or_the_old_values() {
    let threads = Threads::default();
    let (a, b) = (MatRef::new(&[0f32; 0], 2, 0, 1, 1), MatRef::new(&[0f32; 0], 0, 3, 1, 1));
    let mut c = [5f32; 6];
    gemm(&threads, a, b, Beta::Accumulate, MatMut::new(&mut c, 2, 3));
    assert_eq!(c, [5.0; 6]);
    gemm(&threads, a, b, Beta::Overwrite, MatMut::new(&mut c, 2, 3));
    assert_eq!(c, [0.0; 6]);
}

#[test]
fn overwriting_ignores_what_was_there_before() {
    let ones = [1f32; 64 * 64];
    let square = MatRef::new(&ones, 64, 64, 64, 1);
    let mut c = [f32::NAN; 64 * 64];
    gemm(&Threads::default(), square, square, Beta::Overwrite, MatMut::new(&mut c, 64, 64));
    assert_eq!(c, [64.0; 64 * 64]);
}
