//! What is measured.

use half::bf16;
use serde_json::{Value, json};
use slimpipe::kernels::cpu::attention::Shape;
use slimpipe::kernels::cuda::attention::{Chunk, ChunkGrad, Rows, backward, forward};
use slimpipe::kernels::cuda::gemm::{Matrices, gemm};
use slimpipe::kernels::cuda::{CudaError, DevicePtr, Float, mlp_swiglu};

use super::data::{norm, numbers};
use super::gpu::Gpu;

/// A kernel and its sizes.
pub enum Case {
    Product(Product),
    Mlp(Mlp),
    Attention(Attention),
}

/// A product of a linear layer.
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub of: Of,
}

/// What a linear layer's product gives.
#[derive(Clone, Copy, PartialEq)]
pub enum Of {
    /// Its output, A B^T.
    Output,
    /// The gradient of its input, A B.
    Input,
    /// The gradient of its weight, A^T B added in f32.
    Weight,
}

/// silu(X Wg^T) (X Wu^T), fused, or the gradients of gate and up from that of the MLP's output.
pub struct Mlp {
    pub tokens: usize,
    pub width: usize,
    pub hidden: usize,
    pub backward: bool,
}

/// Causal attention of the last of `slices` slices over all of them.
pub struct Attention {
    pub tokens: usize,
    pub slices: usize,
    /// Query and key heads.
    pub heads: (usize, usize),
    pub head_dim: usize,
    pub backward: bool,
}

/// What a case came to.
pub struct Found {
    pub milliseconds: Vec<f64>,
    /// Of the results, in order.
    pub norms: Vec<f64>,
}

fn matrix(at: DevicePtr, row_stride: usize, column_stride: usize) -> Matrices<'static> {
    Matrices { at, row_stride, column_stride, batch_strides: &[] }
}

impl Case {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Product(product) => match product.of {
                Of::Output => "gemm",
                Of::Input => "gemm_input_gradient",
                Of::Weight => "gemm_weight_gradient",
            },
            Self::Mlp(mlp) if mlp.backward => "mlp_swiglu_bwd",
            Self::Mlp(_) => "mlp_swiglu",
            Self::Attention(attention) if attention.backward => "attention_bwd",
            Self::Attention(_) => "attention_fwd",
        }
    }

    pub fn sizes(&self) -> Value {
        match self {
            Self::Product(p) => json!({"m": p.m, "n": p.n, "k": p.k}),
            Self::Mlp(mlp) => {
                json!({"tokens": mlp.tokens, "width": mlp.width, "hidden": mlp.hidden})
            }
            Self::Attention(a) => json!({
                "tokens": a.tokens, "slices": a.slices, "head_dim": a.head_dim,
                "heads": a.heads.0, "kv_heads": a.heads.1,
            }),
        }
    }

    /// Multiplications and additions that the result needs; backward of attention 2.5 times forward.
    pub fn flops(&self) -> f64 {
        match self {
            Self::Product(p) => 2.0 * (p.m * p.n * p.k) as f64,
            Self::Mlp(mlp) => {
                let products = if mlp.backward { 1.0 } else { 2.0 };
                products * 2.0 * (mlp.tokens * mlp.hidden * mlp.width) as f64
            }
            Self::Attention(a) => {
                let (rows, before) = (a.rows() as f64, a.offset() as f64);
                let pairs = rows * before + rows * (rows + 1.0) / 2.0;
                let forward = 4.0 * pairs * (a.heads.0 * a.head_dim) as f64;
                if a.backward { 2.5 * forward } else { forward }
            }
        }
    }

    pub fn run(&self, gpu: &mut Gpu, runs: usize) -> Result<Found, CudaError> {
        gpu.clear();
        match self {
            Self::Product(product) => product.run(gpu, runs),
            Self::Mlp(mlp) if mlp.backward => mlp.run_backward(gpu, runs),
            Self::Mlp(mlp) => mlp.run(gpu, runs),
            Self::Attention(attention) => attention.run(gpu, runs),
        }
    }
}

/// The norm of `len` bf16 numbers on the GPU.
fn norm_of(gpu: &Gpu, at: DevicePtr, len: usize) -> Result<f64, CudaError> {
    Ok(norm(gpu.download::<bf16>(at, len)?.into_iter().map(f32::from)))
}

impl Product {
    fn run(&self, gpu: &mut Gpu, runs: usize) -> Result<Found, CudaError> {
        let &Self { m, n, k, of } = self;
        let (a, b) = (gpu.upload(&numbers(1, m * k))?, gpu.upload(&numbers(2, n * k))?);
        // Activations [rows, width] and weights [out, in].
        let (x, y, out) = match of {
            Of::Output => (matrix(a, k, 1), matrix(b, 1, k), Float::Bf16),
            Of::Input => (matrix(a, k, 1), matrix(b, n, 1), Float::Bf16),
            Of::Weight => (matrix(a, 1, m), matrix(b, n, 1), Float::F32),
        };
        let accumulate = of == Of::Weight;
        let c = gpu.zeros(m * n * out.size())?;
        let launch = |stream: &_| {
            let sizes = (m, n, k);
            // SAFETY: matrices of these sizes, just made; the stream alone uses them.
            unsafe { gemm(stream, Float::Bf16, x, y, &[], sizes, accumulate, (out, c)) }
        };
        let milliseconds = gpu.time(runs, launch)?;
        let norms = match accumulate {
            false => vec![norm_of(gpu, c, m * n)?],
            // As often as it was added.
            true => {
                let sums = gpu.download::<f32>(c, m * n)?.into_iter();
                vec![norm(sums) / (runs + 1) as f64]
            }
        };
        Ok(Found { milliseconds, norms })
    }
}

impl Mlp {
    fn run(&self, gpu: &mut Gpu, runs: usize) -> Result<Found, CudaError> {
        let &Self { tokens, width, hidden, .. } = self;
        let x = gpu.upload(&numbers(1, tokens * width))?;
        // So that gate and up are of the size of 1.
        let scale = bf16::from_f32((width as f32).sqrt().recip());
        let weight = |seed| -> Vec<bf16> {
            numbers(seed, hidden * width).into_iter().map(|value| value * scale).collect()
        };
        let (gate, up) = (gpu.upload(&weight(2))?, gpu.upload(&weight(3))?);
        let [out, saved_gate, saved_up] = [0, 1, 2].map(|_| gpu.room(2 * tokens * hidden));
        let (out, saved) = (out?, (saved_gate?, saved_up?));
        let launch = |stream: &_| {
            let (x, gate, up) = (matrix(x, width, 1), matrix(gate, 1, width), matrix(up, 1, width));
            let sizes = (tokens, hidden, width);
            // SAFETY: matrices of these sizes, just made; the stream alone uses them.
            unsafe { mlp_swiglu::forward(stream, x, gate, up, sizes, out, Some(saved)) }
        };
        let milliseconds = gpu.time(runs, launch)?;
        Ok(Found { milliseconds, norms: vec![norm_of(gpu, out, tokens * hidden)?] })
    }

    fn run_backward(&self, gpu: &mut Gpu, runs: usize) -> Result<Found, CudaError> {
        let &Self { tokens, width, hidden, .. } = self;
        let dy = gpu.upload(&numbers(1, tokens * width))?;
        let weight = gpu.upload(&numbers(2, width * hidden))?;
        let size = tokens * hidden;
        let inputs = (gpu.upload(&numbers(3, size))?, gpu.upload(&numbers(4, size))?);
        let outs = (gpu.room(2 * size)?, gpu.room(2 * size)?);
        let launch = |stream: &_| {
            let (dy, weight) = (matrix(dy, width, 1), matrix(weight, hidden, 1));
            let sizes = (tokens, hidden, width);
            // SAFETY: matrices of these sizes, just made; the stream alone uses them.
            unsafe { mlp_swiglu::backward(stream, dy, weight, sizes, inputs, outs, None) }
        };
        let milliseconds = gpu.time(runs, launch)?;
        let norms = vec![norm_of(gpu, outs.0, size)?, norm_of(gpu, outs.1, size)?];
        Ok(Found { milliseconds, norms })
    }
}

impl Attention {
    /// Tokens of a slice.
    fn rows(&self) -> usize {
        self.tokens / self.slices
    }

    /// Where the last slice begins.
    fn offset(&self) -> usize {
        self.tokens - self.rows()
    }

    fn run(&self, gpu: &mut Gpu, runs: usize) -> Result<Found, CudaError> {
        let &Self { tokens, heads: (heads, kv_heads), head_dim, .. } = self;
        let (rows, width, kv_width) = (self.rows(), heads * head_dim, kv_heads * head_dim);
        let scale = (head_dim as f32).sqrt().recip();
        let shape =
            Shape { q_len: rows, heads, kv_heads, head_dim, q_offset: self.offset(), scale };
        let dense = |at| Rows { at, stride: width };
        let q = dense(gpu.upload(&numbers(1, rows * width))?);
        let k = gpu.upload(&numbers(2, tokens * kv_width))?;
        let v = gpu.upload(&numbers(3, tokens * kv_width))?;
        let chunks: Vec<Chunk> = (0..self.slices)
            .map(|slice| {
                let part = |at: DevicePtr| {
                    let at = at.offset((2 * slice * rows * kv_width) as u64);
                    Rows { at, stride: kv_width }
                };
                Chunk { k: part(k), v: part(v), len: rows, start: slice * rows }
            })
            .collect();
        let out = dense(gpu.room(2 * rows * width)?);
        let lse = gpu.room(4 * heads * rows)?;
        let attend = |stream: &_| {
            // SAFETY: tensors of these sizes, just made; the stream alone uses them.
            unsafe { forward(stream, Float::Bf16, &shape, q, &chunks, out, lse, false) }
        };
        if !self.backward {
            let milliseconds = gpu.time(runs, attend)?;
            return Ok(Found { milliseconds, norms: vec![norm_of(gpu, out.at, rows * width)?] });
        }
        attend(&gpu.stream)?;
        let dout = dense(gpu.upload(&numbers(4, rows * width))?);
        let dq = dense(gpu.room(2 * rows * width)?);
        let (dk, dv) = (gpu.zeros(4 * tokens * kv_width)?, gpu.zeros(4 * tokens * kv_width)?);
        let grads: Vec<ChunkGrad> = (0..self.slices)
            .map(|slice| {
                let part = |at: DevicePtr| at.offset((4 * slice * rows * kv_width) as u64);
                ChunkGrad { dk: part(dk), dv: part(dv) }
            })
            .collect();
        let launch = |stream: &_| {
            // SAFETY: as above.
            unsafe {
                backward(stream, Float::Bf16, &shape, q, out, lse, dout, &chunks, &grads, dq, false)
            }
        };
        let milliseconds = gpu.time(runs, launch)?;
        // As often as they were added.
        let sums = |at| -> Result<f64, CudaError> {
            Ok(norm(gpu.download::<f32>(at, tokens * kv_width)?.into_iter()) / (runs + 1) as f64)
        };
        let norms = vec![norm_of(gpu, dq.at, rows * width)?, sums(dk)?, sums(dv)?];
        Ok(Found { milliseconds, norms })
    }
}
