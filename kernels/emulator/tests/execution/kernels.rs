//! Whole kernels as NVRTC compiled them: a GEMM and attention over a list of key-value chunks,
//! both with producers and consumers in warpgroups of their own.

use half::bf16;
use slimpipe_emulator::{
    Element, Fault, Fill, Kernel, Launch, Memory, Module, Policy, Report, Swizzle, TensorMap,
};

use crate::common::POLICIES;

pub const GEMM: &str = include_str!("../fixtures/gemm.ptx");
pub const ATTENTION: &str = include_str!("../fixtures/attention.ptx");

struct Random(u64);

impl Random {
    fn value(&mut self) -> f32 {
        let mut sum = 0.0;
        for _ in 0..4 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            sum += (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        }
        sum
    }

    /// A tensor of bf16 in memory, and its values.
    fn tensor(&mut self, memory: &Memory, count: usize) -> (u64, Vec<f64>) {
        let values: Vec<bf16> = (0..count).map(|_| bf16::from_f32(self.value())).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let address = memory.allocate(bytes.len());
        memory.write(address, &bytes).unwrap();
        (address, values.into_iter().map(bf16::to_f64).collect())
    }
}

/// A map of rows of 64 elements with the widest swizzle.
fn map(address: u64, sizes: &[u64], box_sizes: &[u32]) -> [u8; 128] {
    let mut stride = 2;
    let strides = sizes[..sizes.len() - 1].iter().map(|size| {
        stride *= size;
        stride
    });
    TensorMap {
        element: Element::Bf16,
        address,
        sizes: sizes.to_vec(),
        strides: strides.collect(),
        box_sizes: box_sizes.to_vec(),
        swizzle: Swizzle::B128,
        fill: Fill::Zero,
    }
    .encode()
    .unwrap()
}

fn halves(memory: &Memory, address: u64, count: usize) -> Vec<u16> {
    let mut bytes = vec![0; count * 2];
    memory.read(address, &mut bytes).unwrap();
    bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

/// Norm of the difference over the norm.
fn error(got: &[f64], exact: &[f64]) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for (a, b) in got.iter().zip(exact) {
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    (difference / norm).sqrt()
}

fn kernel(text: &str) -> Kernel {
    Module::parse(text).unwrap_or_else(|e| panic!("{e}")).kernels()[0].clone()
}

pub struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

impl Gemm {
    pub fn run(
        &self,
        kernel: &Kernel,
        policy: Policy,
        threads: usize,
    ) -> Result<(Vec<u16>, f64, Report), Box<Fault>> {
        let (m, n, k) = (self.m, self.n, self.k);
        let memory = Memory::new();
        let mut random = Random(7);
        let (a, a_values) = random.tensor(&memory, m * k);
        let (b, b_values) = random.tensor(&memory, n * k);
        let c = memory.allocate(m * n * 2);
        let mut params = map(a, &[k as u64, m as u64], &[64, 128]).to_vec();
        params.extend(map(b, &[k as u64, n as u64], &[64, 128]));
        params.extend(c.to_le_bytes());
        for size in [m, n, k] {
            params.extend((size as u32).to_le_bytes());
        }
        let grid = [n as u32 / 128, m as u32 / 128, 1];
        let launch = Launch::new(kernel, grid, [384, 1, 1], &params);
        let report = Launch { shared: 4 * 32768 + 1024, policy, threads, ..launch }.run(&memory)?;
        let bits = halves(&memory, c, m * n);
        let got: Vec<f64> = bits.iter().map(|&b| bf16::from_bits(b).to_f64()).collect();
        let mut exact = Vec::with_capacity(m * n);
        for i in 0..m {
            for j in 0..n {
                exact.push((0..k).map(|q| a_values[i * k + q] * b_values[j * k + q]).sum());
            }
        }
        Ok((bits, error(&got, &exact), report))
    }
}

#[test]
fn a_gemm_agrees_with_f64_under_every_schedule() {
    let kernel = kernel(GEMM);
    let gemm = Gemm { m: 256, n: 256, k: 512 };
    let (first, ..) = gemm.run(&kernel, Policy::Eager, 1).unwrap();
    for policy in POLICIES {
        let (bits, error, report) = gemm.run(&kernel, policy, 2).unwrap_or_else(|f| panic!("{f}"));
        assert!(error < 2e-3, "{policy:?}: {error}");
        assert_eq!(bits, first, "the result does not depend on the schedule");
        assert_eq!(report.products, 4 * 2 * 32);
        assert_eq!(report.bulk_bytes, 4 * 8 * 32768);
    }
}

pub struct Attention {
    pub chunks: &'static [usize],
    pub queries: usize,
    pub heads: usize,
    pub kv_heads: usize,
}

const HEAD: usize = 128;
const MOST_CHUNKS: usize = 16;

impl Attention {
    pub fn run(&self, kernel: &Kernel, policy: Policy) -> Result<(f64, f64), Box<Fault>> {
        let (heads, kv_heads, queries) = (self.heads, self.kv_heads, self.queries);
        let total: usize = self.chunks.iter().sum();
        let memory = Memory::new();
        let mut random = Random(3);
        let tensor = |random: &mut Random, heads: usize, tokens: usize| {
            let (address, values) = random.tensor(&memory, tokens * heads * HEAD);
            let sizes = [HEAD as u64, heads as u64, tokens as u64];
            (map(address, &sizes, &[64, 1, 128]), values)
        };
        let (q_map, q) = tensor(&mut random, heads, queries);
        let mut params = vec![0; kernel.param_bytes()];
        params[..128].copy_from_slice(&q_map);
        let (mut k, mut v) = (Vec::new(), Vec::new());
        let lengths = 128 * (1 + 2 * MOST_CHUNKS);
        for (i, &tokens) in self.chunks.iter().enumerate() {
            let (k_map, k_values) = tensor(&mut random, kv_heads, tokens);
            let (v_map, v_values) = tensor(&mut random, kv_heads, tokens);
            k.extend(k_values);
            v.extend(v_values);
            params[128 * (1 + i)..][..128].copy_from_slice(&k_map);
            params[128 * (1 + MOST_CHUNKS + i)..][..128].copy_from_slice(&v_map);
            params[lengths + 4 * i..][..4].copy_from_slice(&(tokens as u32).to_le_bytes());
        }
        let scale = 2.0 / (HEAD as f64).sqrt();
        let sizes = [self.chunks.len(), queries, total, heads, kv_heads];
        let rest = lengths + 4 * MOST_CHUNKS;
        for (i, &size) in sizes.iter().enumerate() {
            params[rest + 4 * i..][..4].copy_from_slice(&(size as u32).to_le_bytes());
        }
        let log2 = (scale * std::f64::consts::LOG2_E) as f32;
        params[rest + 20..][..4].copy_from_slice(&log2.to_le_bytes());
        let out = memory.allocate(queries * heads * HEAD * 2);
        let lse = memory.allocate(heads * queries * 4);
        params[rest + 24..][..8].copy_from_slice(&out.to_le_bytes());
        params[rest + 32..][..8].copy_from_slice(&lse.to_le_bytes());
        let grid = [queries.div_ceil(128) as u32, heads as u32, 1];
        let launch = Launch::new(kernel, grid, [384, 1, 1], &params);
        Launch { shared: 5 * 32768 + 1024, policy, ..launch }.run(&memory)?;

        let bits = halves(&memory, out, queries * heads * HEAD);
        let got: Vec<f64> = bits.iter().map(|&b| bf16::from_bits(b).to_f64()).collect();
        let mut bytes = vec![0; heads * queries * 4];
        memory.read(lse, &mut bytes).unwrap();
        let float = |b: &[u8]| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let got_lse: Vec<f64> = bytes.chunks_exact(4).map(float).collect();
        let (exact, exact_lse) = self.exact(&q, &k, &v, scale, total);
        Ok((error(&got, &exact), error(&got_lse, &exact_lse)))
    }

    fn exact(
        &self,
        q: &[f64],
        k: &[f64],
        v: &[f64],
        scale: f64,
        total: usize,
    ) -> (Vec<f64>, Vec<f64>) {
        let (heads, kv_heads, queries) = (self.heads, self.kv_heads, self.queries);
        let mut out = vec![0.0; queries * heads * HEAD];
        let mut lse = vec![0.0; heads * queries];
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            for i in 0..queries {
                let seen = total - queries + i + 1;
                let row = (i * heads + head) * HEAD;
                let at = |j: usize, e: usize| (j * kv_heads + kv) * HEAD + e;
                let scores: Vec<f64> = (0..seen)
                    .map(|j| (0..HEAD).map(|e| q[row + e] * k[at(j, e)]).sum::<f64>() * scale)
                    .collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
                lse[head * queries + i] = largest + sum.ln();
                for e in 0..HEAD {
                    let weighted = |(j, s): (usize, &f64)| (s - largest).exp() * v[at(j, e)];
                    out[row + e] = scores.iter().enumerate().map(weighted).sum::<f64>() / sum;
                }
            }
        }
        (out, lse)
    }
}

#[test]
fn attention_over_ragged_chunks_agrees_with_f64_under_every_schedule() {
    let kernel = kernel(ATTENTION);
    for policy in POLICIES {
        let case = Attention { chunks: &[130, 70, 150], queries: 200, heads: 2, kv_heads: 1 };
        let (out, lse) = case.run(&kernel, policy).unwrap_or_else(|f| panic!("{f}"));
        assert!(out < 3e-3, "{policy:?}: {out}");
        assert!(lse < 1e-6, "{policy:?}: {lse}");
    }
}
