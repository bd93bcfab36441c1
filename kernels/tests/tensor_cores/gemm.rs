//! Matrix products.

use half::bf16;
use proptest::prelude::*;
use slimpipe_kernels::cuda::gemm::{Matrices, gemm};
use slimpipe_kernels::cuda::{DevicePtr, Float};

use crate::figures::{FORWARD, assert_within};
use crate::gpu::{Gpu, Random, gpu};

/// A product, and how its operands lie in memory.
#[derive(Clone, Debug)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    /// Extents of the batch.
    batch: Vec<usize>,
    /// Whether memory runs along m (of A) or n (of B) instead of k.
    turned: [bool; 2],
    /// Elements by which rows are longer than they need be, and those before the first.
    gaps: [usize; 2],
    skips: [usize; 2],
    /// The same B along the first dimension of the batch.
    shared: bool,
    out: Float,
    accumulate: bool,
}

const PLAIN: Case = Case {
    m: 136,
    n: 264,
    k: 200,
    batch: Vec::new(),
    turned: [false, false],
    gaps: [0, 0],
    skips: [0, 0],
    shared: false,
    out: Float::Bf16,
    accumulate: false,
};

/// An operand [mn, k] of each matrix of the batch.
struct Operand {
    data: Vec<bf16>,
    skip: usize,
    mn_stride: usize,
    k_stride: usize,
    /// Elements of a matrix, and how many matrices there are.
    matrix: usize,
    matrices: usize,
}

impl Operand {
    fn new(random: &mut Random, case: &Case, which: usize, mn: usize) -> Self {
        let (turned, gap, skip) = (case.turned[which], case.gaps[which], case.skips[which]);
        let (inner, outer) = if turned { (mn, case.k) } else { (case.k, mn) };
        let pitch = inner + gap;
        let (mn_stride, k_stride) = if turned { (1, pitch) } else { (pitch, 1) };
        let shared = usize::from(which == 1 && case.shared);
        let matrices = case.batch.iter().skip(shared).product();
        let matrix = outer * pitch;
        let data = random.bf16(skip + matrices * matrix);
        Self { data, skip, mn_stride, k_stride, matrix, matrices }
    }

    fn at(&self, matrix: usize, mn: usize, k: usize) -> f64 {
        let matrix = matrix % self.matrices;
        let at = self.skip + matrix * self.matrix + mn * self.mn_stride + k * self.k_stride;
        self.data[at].to_f64()
    }

    /// The batch's strides: matrices one behind the other, and the first dimension's 0 if it shares them.
    fn batch_strides(&self, batch: &[usize]) -> Vec<usize> {
        let stride = |i: usize| match self.matrix * batch[i + 1..].iter().product::<usize>() {
            stride if stride == self.matrix * self.matrices && i == 0 && batch[0] > 1 => 0,
            stride => stride,
        };
        (0..batch.len()).map(stride).collect()
    }

    fn start(&self, at: DevicePtr) -> DevicePtr {
        at.offset(2 * self.skip as u64)
    }
}

impl Case {
    fn matrices(&self) -> usize {
        self.batch.iter().product()
    }

    fn check(&self, gpu: &Gpu) {
        let mut random = Random::new(7);
        let a = Operand::new(&mut random, self, 0, self.m);
        let b = Operand::new(&mut random, self, 1, self.n);
        let elements = self.matrices() * self.m * self.n;
        let old = random.f32(elements);
        let old_low: Vec<bf16> = old.iter().map(|&x| bf16::from_f32(x)).collect();
        let run = || {
            let (a_memory, b_memory) = (gpu.upload(&a.data), gpu.upload(&b.data));
            let c = match (self.accumulate, self.out) {
                (true, Float::F32) => gpu.upload(&old),
                (true, Float::Bf16) => gpu.upload(&old_low),
                (false, out) => gpu.memory(elements * out.size()),
            };
            let strides = [&a, &b].map(|operand| operand.batch_strides(&self.batch));
            let a_matrices = Matrices {
                at: a.start(a_memory.at),
                row_stride: a.mn_stride,
                column_stride: a.k_stride,
                batch_strides: &strides[0],
            };
            let b_matrices = Matrices {
                at: b.start(b_memory.at),
                row_stride: b.k_stride,
                column_stride: b.mn_stride,
                batch_strides: &strides[1],
            };
            let (sizes, batch) = ((self.m, self.n, self.k), &self.batch[..]);
            let (stream, low, out) = (&gpu.stream, Float::Bf16, (self.out, c.at));
            // SAFETY: the matrices lie in the memory that was allocated for them.
            unsafe {
                gemm(stream, low, a_matrices, b_matrices, batch, sizes, self.accumulate, out)
            }
            .unwrap();
            gpu.wait();
            match self.out {
                Float::F32 => c.read::<f32>(),
                Float::Bf16 => c.read::<bf16>().into_iter().map(bf16::to_f32).collect(),
            }
        };
        let (own, theirs) = (gpu.under_every_schedule(run), gpu.by_cublaslt(run));
        let mut reference = Vec::with_capacity(elements);
        for matrix in 0..self.matrices() {
            for row in 0..self.m {
                for column in 0..self.n {
                    let products =
                        (0..self.k).map(|k| a.at(matrix, row, k) * b.at(matrix, column, k));
                    let old = match (self.accumulate, self.out) {
                        (false, _) => 0.0,
                        (true, Float::F32) => f64::from(old[reference.len()]),
                        (true, Float::Bf16) => old_low[reference.len()].to_f64(),
                    };
                    reference.push(old + products.sum::<f64>());
                }
            }
        }
        let results = [
            ("a product in f32", "a product in bf16", Some(own)),
            ("cuBLASLt's product in f32", "cuBLASLt's product in bf16", theirs),
        ];
        for (in_f32, in_bf16, got) in results {
            let Some(got) = got else { continue };
            match self.out {
                Float::F32 => assert_within(in_f32, &got, &reference, 2e-6, self),
                Float::Bf16 => {
                    let got: Vec<bf16> = got.into_iter().map(bf16::from_f32).collect();
                    assert_within(in_bf16, &got, &reference, FORWARD, self);
                }
            }
        }
    }
}

#[test]
fn a_product_may_be_the_first_that_a_thread_asks_of_the_gpu() {
    let Some(gpu) = gpu() else { return };
    const SIDE: usize = 64;
    let sums = gpu.under_every_schedule(|| {
        let ones = vec![bf16::ONE; SIDE * SIDE];
        let (a, b, c) = (gpu.upload(&ones), gpu.upload(&ones), gpu.memory(4 * SIDE * SIDE));
        let [a, b] = [a.at, b.at].map(|at| Matrices {
            at,
            row_stride: SIDE,
            column_stride: 1,
            batch_strides: &[],
        });
        let (sizes, to) = ((SIDE, SIDE, SIDE), (Float::F32, c.at));
        // SAFETY: the matrices lie in the memory that was allocated for them.
        let product =
            || unsafe { gemm(&gpu.stream, Float::Bf16, a, b, &[], sizes, false, to) }.unwrap();
        std::thread::scope(|scope| scope.spawn(product).join()).unwrap();
        gpu.wait();
        c.read::<f32>()
    });
    assert_eq!(sums, [SIDE as f32; SIDE * SIDE]);
}

#[test]
fn a_product_of_ragged_sizes_is_right() {
    let Some(gpu) = gpu() else { return };
    PLAIN.check(gpu);
}

#[test]
fn products_with_either_operand_turned_are_right() {
    let Some(gpu) = gpu() else { return };
    for turned in [[true, false], [false, true], [true, true]] {
        Case { turned, ..PLAIN }.check(gpu);
    }
}

#[test]
fn a_gradient_is_added_to_what_is_there() {
    let Some(gpu) = gpu() else { return };
    Case { turned: [true, true], out: Float::F32, accumulate: true, ..PLAIN }.check(gpu);
    Case { accumulate: true, ..PLAIN }.check(gpu);
}

#[test]
fn a_block_computes_many_tiles_one_after_the_other() {
    let Some(gpu) = gpu() else { return };
    // More rows of tiles than a band has.
    Case { m: 1120, n: 264, k: 72, out: Float::F32, ..PLAIN }.check(gpu);
}

#[test]
fn wide_tiles_are_right() {
    let Some(gpu) = gpu() else { return };
    // Of three multiprocessors, four narrow tiles take two rounds and two wide ones take one.
    for (out, accumulate) in [(Float::Bf16, false), (Float::F32, true)] {
        Case { m: 130, n: 200, out, accumulate, turned: [false, true], ..PLAIN }.check(gpu);
    }
}

#[test]
fn rows_that_are_no_whole_sixteen_bytes_are_written_and_not_beyond() {
    let Some(gpu) = gpu() else { return };
    for out in Float::ALL {
        Case { n: 131, out, ..PLAIN }.check(gpu);
        Case { n: 131, gaps: [0, 5], turned: [false, true], out, accumulate: true, ..PLAIN }
            .check(gpu);
    }
}

#[test]
fn operands_that_tensor_cores_cannot_read_are_multiplied_all_the_same() {
    let Some(gpu) = gpu() else { return };
    Case { m: 70, n: 66, k: 33, out: Float::F32, ..PLAIN }.check(gpu);
    Case { m: 70, n: 64, k: 32, skips: [1, 0], ..PLAIN }.check(gpu);
    Case { m: 5, n: 6, k: 0, ..PLAIN }.check(gpu);
    Case { m: 5, n: 6, k: 0, accumulate: true, out: Float::F32, ..PLAIN }.check(gpu);
}

#[test]
fn batches_share_or_bring_their_second_operand() {
    let Some(gpu) = gpu() else { return };
    let small = Case { m: 40, n: 72, k: 72, ..PLAIN };
    Case { batch: vec![3], ..small.clone() }.check(gpu);
    Case { batch: vec![3], shared: true, ..small.clone() }.check(gpu);
    Case { batch: vec![2, 2], shared: true, ..small.clone() }.check(gpu);
    Case { batch: vec![0], ..small }.check(gpu);
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (1usize..200, 1usize..300, 1usize..200);
    let layout =
        (any::<[bool; 2]>(), prop::array::uniform2(0usize..9), prop::array::uniform2(0usize..2));
    let batch = prop::collection::vec(1usize..3, 0..3);
    (sizes, layout, batch, any::<[bool; 4]>()).prop_map(
        |((m, n, k), (turned, gaps, skips), batch, [shared, wide, accumulate, aligned])| {
            let round = |x: usize| if aligned { x.next_multiple_of(8) } else { x };
            let out = if wide { Float::F32 } else { Float::Bf16 };
            let (gaps, skips) = if aligned { ([0, 8], [8, 0]) } else { (gaps, skips) };
            let (m, n, k) = (round(m), round(n), round(k));
            Case { m, n, k, batch, turned, gaps, skips, shared, out, accumulate }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn any_product_is_right(case in cases()) {
        let Some(gpu) = gpu() else { return Ok(()) };
        case.check(gpu);
    }
}
