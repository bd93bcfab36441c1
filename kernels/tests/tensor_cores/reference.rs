//! What kernels compute, in f64.

use half::bf16;

/// What is attended to what, and the data.
pub struct Attention {
    pub q_len: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub q_offset: usize,
    pub scale: f32,
    pub q: Vec<bf16>,
    pub chunks: Vec<Chunk>,
}

pub struct Chunk {
    pub len: usize,
    pub start: usize,
    pub k: Vec<bf16>,
    pub v: Vec<bf16>,
}

/// How much of a row's attention a key gets.
struct Weight {
    chunk: usize,
    key: usize,
    probability: f64,
}

pub struct Gradients {
    pub dq: Vec<f64>,
    /// Of each chunk's keys and values.
    pub chunks: Vec<(Vec<f64>, Vec<f64>)>,
}

fn dot(a: &[bf16], b: &[bf16]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum()
}

impl Attention {
    fn row<'a>(&self, rows: &'a [bf16], heads: usize, row: usize, head: usize) -> &'a [bf16] {
        &rows[(row * heads + head) * self.head_dim..][..self.head_dim]
    }

    fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// The keys that a row sees, and its log-sum-exp.
    fn weights(&self, row: usize, head: usize) -> (Vec<Weight>, f64) {
        let q = self.row(&self.q, self.heads, row, head);
        let mut weights = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let last = (self.q_offset + row + 1).saturating_sub(chunk.start).min(chunk.len);
            for key in 0..last {
                let k = self.row(&chunk.k, self.kv_heads, key, self.kv_head(head));
                let score = f64::from(self.scale) * dot(q, k);
                weights.push(Weight { chunk: number, key, probability: score });
            }
        }
        let max = weights.iter().map(|w| w.probability).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = weights.iter().map(|w| (w.probability - max).exp()).sum();
        for weight in &mut weights {
            weight.probability = (weight.probability - max).exp() / sum;
        }
        let lse = if weights.is_empty() { f64::NEG_INFINITY } else { max + sum.ln() };
        (weights, lse)
    }

    /// The output [q_len, heads, head_dim] and the log-sum-exp [heads, q_len].
    pub fn forward(&self) -> (Vec<f64>, Vec<f64>) {
        let mut out = vec![0.0; self.q_len * self.heads * self.head_dim];
        let mut lse = vec![0.0; self.heads * self.q_len];
        for row in 0..self.q_len {
            for head in 0..self.heads {
                let (weights, own) = self.weights(row, head);
                lse[head * self.q_len + row] = own;
                let out = &mut out[(row * self.heads + head) * self.head_dim..][..self.head_dim];
                for Weight { chunk, key, probability } in weights {
                    let v = &self.chunks[chunk].v;
                    let v = self.row(v, self.kv_heads, key, self.kv_head(head));
                    out.iter_mut().zip(v).for_each(|(o, v)| *o += probability * v.to_f64());
                }
            }
        }
        (out, lse)
    }

    /// The gradients, for that of the output.
    pub fn backward(&self, dout: &[bf16]) -> Gradients {
        let size = self.head_dim;
        let mut dq = vec![0.0; self.q_len * self.heads * size];
        let zeros = |chunk: &Chunk| vec![0.0; chunk.len * self.kv_heads * size];
        let mut chunks: Vec<_> = self.chunks.iter().map(|c| (zeros(c), zeros(c))).collect();
        for row in 0..self.q_len {
            for head in 0..self.heads {
                let (weights, _) = self.weights(row, head);
                let q = self.row(&self.q, self.heads, row, head);
                let dout = self.row(dout, self.heads, row, head);
                let kv = |rows, key| self.row(rows, self.kv_heads, key, self.kv_head(head));
                let dp: Vec<f64> =
                    weights.iter().map(|w| dot(dout, kv(&self.chunks[w.chunk].v, w.key))).collect();
                let delta: f64 = weights.iter().zip(&dp).map(|(w, dp)| w.probability * dp).sum();
                let dq = &mut dq[(row * self.heads + head) * size..][..size];
                for (Weight { chunk, key, probability }, dp) in weights.into_iter().zip(dp) {
                    let ds = f64::from(self.scale) * probability * (dp - delta);
                    let at = (key * self.kv_heads + self.kv_head(head)) * size;
                    let k = kv(&self.chunks[chunk].k, key);
                    let (dk, dv) = &mut chunks[chunk];
                    for i in 0..size {
                        dq[i] += ds * k[i].to_f64();
                        dk[at + i] += ds * q[i].to_f64();
                        dv[at + i] += probability * dout[i].to_f64();
                    }
                }
            }
        }
        Gradients { dq, chunks }
    }
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
