//! Attention over lists of chunks, forward and backward.

use half::bf16;
use proptest::prelude::*;
use slimpipe_kernels::cpu::attention::Shape;
use slimpipe_kernels::cuda::attention::{Chunk, ChunkGrad, Rows, backward, forward};
use slimpipe_kernels::cuda::{DevicePtr, Float};

use crate::figures::{FORWARD, GRADIENT, assert_within};
use crate::gpu::{Gpu, Memory, Random, gpu};
use crate::reference::{self, Attention};

/// What is attended to what, and how it lies in memory.
#[derive(Clone, Debug)]
struct Case {
    q_len: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    q_offset: usize,
    /// Lengths and starts of chunks.
    chunks: Vec<(usize, usize)>,
    /// Elements by which rows lie farther apart than they need, and those before the first.
    gap: usize,
    skip: usize,
}

fn case(q_len: usize, q_offset: usize, chunks: &[(usize, usize)]) -> Case {
    let chunks = chunks.to_vec();
    Case { q_len, heads: 2, kv_heads: 1, head_dim: 128, q_offset, chunks, gap: 0, skip: 0 }
}

/// A problem's inputs on the GPU.
struct Inputs<'a> {
    q: Memory<'a>,
    kv: Vec<(Memory<'a>, Memory<'a>)>,
}

impl Case {
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    fn shape(&self) -> Shape {
        let Self { q_len, heads, kv_heads, head_dim, q_offset, .. } = *self;
        Shape { q_len, heads, kv_heads, head_dim, q_offset, scale: 2.0 / (head_dim as f32).sqrt() }
    }

    fn problem(&self, random: &mut Random) -> Attention {
        let Self { q_len, heads, kv_heads, head_dim, q_offset, .. } = *self;
        let q = random.bf16(q_len * self.width());
        let mut kv = |len: usize| random.bf16(len * kv_heads * head_dim);
        let chunk = |&(len, start): &(usize, usize)| reference::Chunk {
            len,
            start,
            k: kv(len),
            v: kv(len),
        };
        let chunks = self.chunks.iter().map(chunk).collect();
        let scale = self.shape().scale;
        Attention { q_len, heads, kv_heads, head_dim, q_offset, scale, q, chunks }
    }

    fn rows(&self, at: DevicePtr, heads: usize) -> Rows {
        let at = at.offset(2 * self.skip as u64);
        Rows { at, stride: heads * self.head_dim + self.gap }
    }

    /// Dense rows as they lie in memory.
    fn spread(&self, dense: &[bf16], width: usize) -> Vec<bf16> {
        let mut rows = vec![bf16::NAN; self.skip];
        for row in dense.chunks(width) {
            rows.extend(row);
            rows.extend(vec![bf16::NAN; self.gap]);
        }
        // Nothing lies behind the last row.
        rows.truncate((rows.len() - self.gap).max(self.skip));
        rows
    }

    /// Dense rows out of such.
    fn gathered(&self, rows: &[bf16], width: usize) -> Vec<bf16> {
        let rows = rows[self.skip..].chunks(width + self.gap);
        rows.flat_map(|row| row[..width].iter().copied()).collect()
    }

    /// Keys that the last query sees.
    fn seen(&self) -> usize {
        let end = self.q_offset + self.q_len;
        self.chunks.iter().map(|&(len, start)| len.min(end.saturating_sub(start))).sum()
    }

    fn upload<'a>(&self, gpu: &'a Gpu, problem: &Attention) -> Inputs<'a> {
        let kv_width = self.kv_heads * self.head_dim;
        let upload = |rows: &[bf16], width| gpu.upload(&self.spread(rows, width));
        let pair =
            |chunk: &reference::Chunk| (upload(&chunk.k, kv_width), upload(&chunk.v, kv_width));
        let kv = problem.chunks.iter().map(pair).collect();
        Inputs { q: upload(&problem.q, self.width()), kv }
    }

    fn list(&self, inputs: &Inputs<'_>) -> Vec<Chunk> {
        let chunk = |((k, v), &(len, start)): (&(Memory<'_>, Memory<'_>), &(usize, usize))| {
            let [k, v] = [k, v].map(|memory| self.rows(memory.at, self.kv_heads));
            Chunk { k, v, len, start }
        };
        inputs.kv.iter().zip(&self.chunks).map(chunk).collect()
    }

    /// Forward over the first `split` chunks, if that is not all, and then merged with the rest.
    fn check_forward(&self, gpu: &Gpu, split: Option<usize>) {
        let problem = self.problem(&mut Random::new(1));
        let shape = self.shape();
        let (out, lse) = gpu.under_every_schedule(|| {
            let inputs = self.upload(gpu, &problem);
            let chunks = self.list(&inputs);
            let (first, rest) = chunks.split_at(split.unwrap_or(chunks.len()));
            let blank = vec![bf16::NAN; self.q_len * self.width()];
            let out = gpu.upload(&self.spread(&blank, self.width()));
            let lse = gpu.memory(4 * self.heads * self.q_len);
            let parts = [(first, false), (rest, true)];
            for (chunks, merge) in &parts[..if split.is_some() { 2 } else { 1 }] {
                let (q, o) = (self.rows(inputs.q.at, self.heads), self.rows(out.at, self.heads));
                let (stream, low) = (&gpu.stream, Float::Bf16);
                // SAFETY: all rows lie in the memory that was allocated for them.
                unsafe { forward(stream, low, &shape, q, chunks, o, lse.at, *merge) }.unwrap();
                gpu.wait();
            }
            let rows = out.read::<bf16>().into_iter().map(bf16::to_bits).collect::<Vec<_>>();
            (rows, lse.read::<f32>())
        });
        let out: Vec<bf16> = out.into_iter().map(bf16::from_bits).collect();
        let (expected, expected_lse) = problem.forward();
        let out = self.gathered(&out, self.width());
        assert_within("attention", &out, &expected, FORWARD, self);
        assert_within("a log-sum-exp", &lse, &expected_lse, 1e-5, self);
    }

    fn check_backward(&self, gpu: &Gpu, accumulate_dq: bool) {
        let mut random = Random::new(2);
        let problem = self.problem(&mut random);
        let (shape, size) = (self.shape(), self.q_len * self.width());
        let (dout, old_dq) = (random.bf16(size), random.bf16(size));
        let kv_width = self.kv_heads * self.head_dim;
        let mut sums = |len: usize| (random.f32(len * kv_width), random.f32(len * kv_width));
        let old: Vec<_> = self.chunks.iter().map(|&(len, _)| sums(len)).collect();
        let (out, lse) = problem.forward();
        let out: Vec<bf16> = out.into_iter().map(bf16::from_f64).collect();
        let lse: Vec<f32> = lse.into_iter().map(|x| x as f32).collect();
        let (dq, grads) = gpu.under_every_schedule(|| {
            let inputs = self.upload(gpu, &problem);
            let chunks = self.list(&inputs);
            let upload = |rows: &[bf16]| gpu.upload(&self.spread(rows, self.width()));
            let [out, dout, dq] = [&out, &dout, &old_dq].map(|rows| upload(rows));
            let lse = gpu.upload(&lse);
            let sums: Vec<_> = old.iter().map(|(k, v)| (gpu.upload(k), gpu.upload(v))).collect();
            let grads: Vec<_> =
                sums.iter().map(|(k, v)| ChunkGrad { dk: k.at, dv: v.at }).collect();
            let rows = |memory: &Memory<'_>| self.rows(memory.at, self.heads);
            // SAFETY: all rows lie in the memory that was allocated for them.
            unsafe {
                backward(
                    &gpu.stream,
                    Float::Bf16,
                    &shape,
                    rows(&inputs.q),
                    rows(&out),
                    lse.at,
                    rows(&dout),
                    &chunks,
                    &grads,
                    rows(&dq),
                    accumulate_dq,
                )
            }
            .unwrap();
            gpu.wait();
            let dq: Vec<u16> = dq.read::<bf16>().into_iter().map(bf16::to_bits).collect();
            let grads: Vec<_> =
                sums.iter().map(|(k, v)| (k.read::<f32>(), v.read::<f32>())).collect();
            (dq, grads)
        });
        let mut expected = problem.backward(&dout);
        if accumulate_dq {
            expected.dq.iter_mut().zip(&old_dq).for_each(|(dq, old)| *dq += old.to_f64());
        }
        let dq: Vec<bf16> = dq.into_iter().map(bf16::from_bits).collect();
        let dq = self.gathered(&dq, self.width());
        assert_within("attention's gradient of queries", &dq, &expected.dq, GRADIENT, self);
        for ((got, old), expected) in grads.iter().zip(&old).zip(&expected.chunks) {
            for (what, got, old, expected) in [
                ("attention's gradient of keys", &got.0, &old.0, &expected.0),
                ("attention's gradient of values", &got.1, &old.1, &expected.1),
            ] {
                let added: Vec<f32> = got.iter().zip(old).map(|(got, old)| got - old).collect();
                assert_within(what, &added, expected, GRADIENT, self);
            }
        }
    }
}

#[test]
fn queries_attend_to_ragged_chunks_with_a_causal_end() {
    let Some(gpu) = gpu() else { return };
    case(140, 160, &[(140, 0), (70, 140), (90, 210)]).check_forward(gpu, None);
}

#[test]
fn gradients_over_ragged_chunks_with_a_causal_end() {
    let Some(gpu) = gpu() else { return };
    case(140, 160, &[(140, 0), (70, 140), (90, 210)]).check_backward(gpu, false);
}

#[test]
fn small_heads_in_groups_with_rows_apart() {
    let Some(gpu) = gpu() else { return };
    let chunks = vec![(70, 60), (90, 130)];
    let case = Case { heads: 6, kv_heads: 3, head_dim: 40, gap: 24, chunks, ..case(90, 130, &[]) };
    case.check_forward(gpu, None);
    case.check_backward(gpu, true);
}

#[test]
fn heads_of_64_with_chunks_in_any_order() {
    let Some(gpu) = gpu() else { return };
    let chunks = vec![(140, 200), (129, 0), (30, 700), (50, 150)];
    let case = Case { head_dim: 64, chunks, ..case(150, 190, &[]) };
    case.check_forward(gpu, None);
    case.check_backward(gpu, false);
}

#[test]
fn partial_results_are_merged() {
    let Some(gpu) = gpu() else { return };
    let chunks = [(140, 0), (60, 160), (200, 220)];
    case(130, 290, &chunks).check_forward(gpu, Some(2));
    case(130, 290, &chunks).check_forward(gpu, Some(0));
    Case { head_dim: 40, ..case(30, 290, &chunks) }.check_forward(gpu, Some(1));
}

#[test]
fn queries_that_see_nothing_get_zero() {
    let Some(gpu) = gpu() else { return };
    // The first 20 queries of the first case come before all keys, in the second all do.
    for case in [case(40, 0, &[(50, 20)]), case(40, 0, &[(50, 100)]), case(20, 0, &[])] {
        case.check_forward(gpu, None);
        case.check_backward(gpu, false);
        case.check_backward(gpu, true);
    }
    case(40, 0, &[(50, 20), (10, 0)]).check_forward(gpu, Some(1));
}

#[test]
fn long_lists_go_as_parameters_and_longer_ones_as_a_table() {
    let Some(gpu) = gpu() else { return };
    for chunks in [40, 130] {
        let chunks: Vec<_> = (0..chunks).map(|i| (3, 3 * i)).collect();
        let end = 3 * chunks.len();
        let case = Case { head_dim: 64, ..case(20, end - 20, &chunks) };
        case.check_forward(gpu, None);
        case.check_backward(gpu, false);
    }
}

#[test]
fn heads_without_a_tensor_core_kernel_are_computed_all_the_same() {
    let Some(gpu) = gpu() else { return };
    let chunks = [(30, 0), (20, 30)];
    for head_dim in [20, 136] {
        let case = Case { head_dim, ..case(20, 30, &chunks) };
        case.check_forward(gpu, None);
        case.check_backward(gpu, false);
    }
}

#[test]
fn rows_that_tensor_cores_cannot_read_are_attended_to_all_the_same() {
    let Some(gpu) = gpu() else { return };
    let chunks = [(30, 0), (20, 30)];
    for (gap, skip) in [(4, 0), (0, 4), (2, 1)] {
        let case = Case { head_dim: 64, gap, skip, ..case(20, 30, &chunks) };
        case.check_forward(gpu, Some(1));
        case.check_backward(gpu, true);
    }
}

#[test]
fn heads_that_do_not_share_key_heads_are_refused() {
    let Some(gpu) = gpu() else { return };
    let shape = Shape { heads: 3, kv_heads: 2, ..case(8, 0, &[]).shape() };
    let (stream, rows, none) =
        (&gpu.stream, Rows { at: DevicePtr(1 << 20), stride: 384 }, DevicePtr::NULL);
    // SAFETY: nothing is launched.
    let refused = unsafe { forward(stream, Float::Bf16, &shape, rows, &[], rows, none, false) };
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "attention_fwd: 3 heads do not share 2 key heads evenly");
}

fn cases() -> impl Strategy<Value = Case> {
    let heads = (1usize..3, 1usize..3, 1usize..17);
    let chunks = prop::collection::vec((0usize..150, 0usize..200), 0..4);
    (1usize..150, 0usize..300, heads, chunks, 0usize..3).prop_map(
        |(q_len, q_offset, (kv_heads, group, eighths), chunks, gap)| Case {
            q_len,
            heads: kv_heads * group,
            kv_heads,
            head_dim: 8 * eighths,
            q_offset,
            chunks,
            gap: 8 * gap,
            skip: 8 * gap,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn any_list_of_chunks_is_attended_to(case in cases(), split in any::<Option<bool>>()) {
        let Some(gpu) = gpu() else { return Ok(()) };
        let split = split.map(|half| if half { case.chunks.len() / 2 } else { 0 });
        case.check_forward(gpu, split);
    }

    #[test]
    fn any_list_of_chunks_gets_its_gradients(case in cases(), accumulate in any::<bool>()) {
        // Of a single key the gradient of scores is 0: nothing but rounding is left of its terms.
        prop_assume!(case.seen() == 0 || case.seen() >= 8);
        let Some(gpu) = gpu() else { return Ok(()) };
        case.check_backward(gpu, accumulate);
    }
}
