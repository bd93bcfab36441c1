//! Tensor-core kernels on a GPU, beside the arithmetic that their shapes ask for.
//! `cargo bench -p slimpipe-kernels --bench tensor_cores [-- --json]`; a name picks rows whose names contain it.

use slimpipe_kernels::cpu::attention::Shape;
use slimpipe_kernels::cuda::attention::{self, Chunk, ChunkGrad, Rows};
use slimpipe_kernels::cuda::gemm::{Matrices, gemm};
use slimpipe_kernels::cuda::stream::Priority;
use slimpipe_kernels::cuda::{
    Context, DevicePtr, Event, Float, Range, Result, Stream, copy, mlp_swiglu,
};

/// How often a kernel runs before it is timed, and how often it is timed.
const WARM: usize = 3;
const TIMED: usize = 10;

/// What is measured, with the floating-point operations of one run: two for each product of elements.
enum Work {
    /// C = A B, or C += A B in f32, with operands that run along k or are turned.
    Gemm { m: usize, n: usize, k: usize, turned: [bool; 2], gradient: bool },
    /// The hidden layer of a SwiGLU MLP of width k.
    MlpForward { m: usize, n: usize, k: usize },
    /// The gradients of its gate and up.
    MlpBackward { m: usize, n: usize, k: usize },
    /// `slice` queries behind `chunks` chunks of as many keys, the last their own.
    Attention {
        slice: usize,
        chunks: usize,
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        backward: bool,
    },
}

impl Work {
    fn flops(&self) -> f64 {
        match *self {
            Self::Gemm { m, n, k, .. } | Self::MlpBackward { m, n, k } => 2.0 * (m * n * k) as f64,
            Self::MlpForward { m, n, k } => 4.0 * (m * n * k) as f64,
            Self::Attention { slice, chunks, heads, head_dim, backward, .. } => {
                // Half of the last chunk is masked. Backward counts 2.5 times forward, as is usual.
                let pairs = (slice * slice) as f64 * (chunks as f64 - 0.5);
                let products = if backward { 5.0 } else { 2.0 };
                products * 2.0 * pairs * (heads * head_dim) as f64
            }
        }
    }
}

fn works() -> Vec<(&'static str, Work)> {
    let square = |n| Work::Gemm { m: n, n, k: n, turned: [false; 2], gradient: false };
    let attention = |slice, chunks, head_dim, backward| Work::Attention {
        slice,
        chunks,
        heads: 32,
        kv_heads: 8,
        head_dim,
        backward,
    };
    vec![
        ("gemm 4096", square(4096)),
        ("gemm 8192", square(8192)),
        (
            "gemm x w 8192x4096x14336",
            Work::Gemm { m: 8192, n: 4096, k: 14336, turned: [false; 2], gradient: false },
        ),
        (
            "gemm dx 8192x14336x4096",
            Work::Gemm { m: 8192, n: 14336, k: 4096, turned: [false, true], gradient: false },
        ),
        (
            "gemm dw 14336x4096x8192",
            Work::Gemm { m: 14336, n: 4096, k: 8192, turned: [true, true], gradient: true },
        ),
        ("mlp forward 8192x14336x4096", Work::MlpForward { m: 8192, n: 14336, k: 4096 }),
        ("mlp backward 8192x14336x4096", Work::MlpBackward { m: 8192, n: 14336, k: 4096 }),
        ("attention forward 1x8k d128", attention(8192, 1, 128, false)),
        ("attention forward 8x8k d128", attention(8192, 8, 128, false)),
        ("attention forward 8x8k d64", attention(8192, 8, 64, false)),
        ("attention backward 1x8k d128", attention(8192, 1, 128, true)),
        ("attention backward 8x8k d128", attention(8192, 8, 128, true)),
        ("attention backward 8x8k d64", attention(8192, 8, 64, true)),
    ]
}

/// Memory for one measurement: handed out from the start of a range.
struct Arena {
    range: Range,
    used: u64,
}

impl Arena {
    fn bytes(&mut self, bytes: usize) -> Result<DevicePtr> {
        let at = self.range.start().offset(self.used);
        self.used = (self.used + bytes as u64).next_multiple_of(1024);
        self.range.commit(self.used)?;
        Ok(at)
    }

    /// Random bf16 values around 0, of f32 if they are read as that.
    fn values(&mut self, stream: &Stream, bytes: usize) -> Result<DevicePtr> {
        let at = self.bytes(bytes)?;
        let mut state = self.used | 1;
        let values: Vec<u16> = (0..1 << 20)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                // Sign, exponents of 1/8 to 1, mantissa: the power a GPU draws depends on its data.
                let bits = (state >> 40) as u16;
                (bits & 0x8000) | (0x3e00 + (bits & 0x01ff))
            })
            .collect();
        for start in (0..bytes).step_by(2 * values.len()) {
            let len = (bytes - start).min(2 * values.len());
            // SAFETY: the bytes were committed; the copy is waited for before the values go.
            unsafe {
                copy::to_device(stream, values.as_ptr().cast(), at.offset(start as u64), len)?
            };
        }
        stream.synchronize()?;
        Ok(at)
    }
}

/// An operand of `mn` by `k`.
fn operand(at: DevicePtr, mn: usize, k: usize, turned: bool) -> (DevicePtr, usize, usize) {
    if turned { (at, 1, mn) } else { (at, k, 1) }
}

/// Seconds of one run.
fn measure(stream: &Stream, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let context = stream.context();
    for _ in 0..WARM {
        run()?;
    }
    let (start, end) = (Event::timed(context)?, Event::timed(context)?);
    stream.record(&start)?;
    for _ in 0..TIMED {
        run()?;
    }
    stream.record(&end)?;
    end.synchronize()?;
    Ok(f64::from(end.elapsed(&start)?) / 1e3 / TIMED as f64)
}

fn seconds(stream: &Stream, arena: &mut Arena, work: &Work) -> Result<f64> {
    arena.used = 0;
    let low = Float::Bf16;
    match *work {
        Work::Gemm { m, n, k, turned, gradient } => {
            let out = if gradient { Float::F32 } else { low };
            let a = operand(arena.values(stream, 2 * m * k)?, m, k, turned[0]);
            let b = operand(arena.values(stream, 2 * n * k)?, n, k, turned[1]);
            let c = arena.values(stream, out.size() * m * n)?;
            let (none, sizes) = (&[][..], (m, n, k));
            let a = Matrices { at: a.0, row_stride: a.1, column_stride: a.2, batch_strides: none };
            let b = Matrices { at: b.0, row_stride: b.2, column_stride: b.1, batch_strides: none };
            // SAFETY: the operands lie in the arena.
            measure(stream, || unsafe { gemm(stream, low, a, b, none, sizes, gradient, (out, c)) })
        }
        Work::MlpForward { m, n, k } => {
            let x = arena.values(stream, 2 * m * k)?;
            let weights = [arena.values(stream, 2 * n * k)?, arena.values(stream, 2 * n * k)?];
            let out = arena.bytes(2 * m * n)?;
            let x = Matrices { at: x, row_stride: k, column_stride: 1, batch_strides: &[] };
            let [gate, up] = weights.map(|at| Matrices {
                at,
                row_stride: 1,
                column_stride: k,
                batch_strides: &[],
            });
            // SAFETY: the operands lie in the arena.
            measure(stream, || unsafe {
                mlp_swiglu::forward(stream, x, gate, up, (m, n, k), out, None)
            })
        }
        Work::MlpBackward { m, n, k } => {
            let dy = arena.values(stream, 2 * m * k)?;
            let weight = arena.values(stream, 2 * n * k)?;
            let inputs = (arena.values(stream, 2 * m * n)?, arena.values(stream, 2 * m * n)?);
            let outs = (arena.bytes(2 * m * n)?, arena.bytes(2 * m * n)?);
            let dy = Matrices { at: dy, row_stride: k, column_stride: 1, batch_strides: &[] };
            let weight =
                Matrices { at: weight, row_stride: n, column_stride: 1, batch_strides: &[] };
            // SAFETY: the operands lie in the arena.
            measure(stream, || unsafe {
                mlp_swiglu::backward(stream, dy, weight, (m, n, k), inputs, outs, None)
            })
        }
        Work::Attention { slice, chunks, heads, kv_heads, head_dim, backward } => {
            let (width, kv_width) = (heads * head_dim, kv_heads * head_dim);
            let shape = Shape {
                q_len: slice,
                heads,
                kv_heads,
                head_dim,
                q_offset: slice * (chunks - 1),
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            let rows = |at| Rows { at, stride: width };
            let (q, out) =
                (arena.values(stream, 2 * slice * width)?, arena.bytes(2 * slice * width)?);
            let lse = arena.bytes(4 * heads * slice)?;
            let mut list = Vec::new();
            for i in 0..chunks {
                let mut kv = || arena.values(stream, 2 * slice * kv_width);
                let [k, v] = [kv()?, kv()?].map(|at| Rows { at, stride: kv_width });
                list.push(Chunk { k, v, len: slice, start: i * slice });
            }
            let space = arena.bytes(attention::forward_workspace(chunks))?;
            let forward = || {
                let (q, out) = (rows(q), rows(out));
                // SAFETY: all rows lie in the arena.
                unsafe { attention::forward(stream, low, &shape, q, &list, out, lse, false, space) }
            };
            if !backward {
                return measure(stream, forward);
            }
            forward()?;
            let (dout, dq) =
                (arena.values(stream, 2 * slice * width)?, arena.bytes(2 * slice * width)?);
            let mut grads = Vec::new();
            for _ in 0..chunks {
                let mut sums = || arena.values(stream, 4 * slice * kv_width);
                grads.push(ChunkGrad { dk: sums()?, dv: sums()? });
            }
            let space = arena.bytes(attention::backward_workspace(&shape, chunks))?;
            // SAFETY: all rows lie in the arena.
            measure(stream, || unsafe {
                attention::backward(
                    stream,
                    low,
                    &shape,
                    rows(q),
                    rows(out),
                    lse,
                    rows(dout),
                    &list,
                    &grads,
                    rows(dq),
                    false,
                    space,
                )
            })
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-'));
    let context = match Context::of(0) {
        Ok(context) => context,
        Err(why) => {
            eprintln!("not measured: {why}");
            return Ok(());
        }
    };
    let stream = Stream::new(context, Priority::Normal)?;
    let mut arena = Arena { range: Range::reserve(context, context.facts().memory)?, used: 0 };
    for (name, work) in works() {
        if wanted.is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let seconds = seconds(&stream, &mut arena, &work)?;
        let (rate, ms) = (work.flops() / seconds / 1e12, seconds * 1e3);
        if json {
            println!(
                r#"{{"name": "{name}", "ms": {ms:.4}, "flops": {:.4e}, "tflops": {rate:.1}}}"#,
                work.flops()
            );
        } else {
            println!("{name:<32} {ms:>9.3} ms {rate:>7.1} TFLOP/s");
        }
    }
    Ok(())
}
