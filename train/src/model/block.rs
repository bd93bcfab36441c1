//! One layer of a Llama: attention and a gated MLP, each behind a norm and beside a residual.

use std::sync::Arc;

use slimpipe_autograd::{
    KvCache, KvPrefix, Parameter, Result, RopeTable, Tensor, recompute as again,
};

use super::Recompute;
use crate::hub::LlamaConfig;

/// Makes the parameter of a name and a shape.
pub(super) type Make<'a> = &'a dyn Fn(&str, &[usize]) -> crate::Result<Parameter>;

pub(super) struct Block {
    attention: Attention,
    mlp: Mlp,
    eps: f32,
}

struct Attention {
    norm: Parameter,
    q: Parameter,
    k: Parameter,
    v: Parameter,
    o: Parameter,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    rope: Arc<RopeTable>,
}

struct Mlp {
    norm: Parameter,
    gate: Parameter,
    up: Parameter,
    down: Parameter,
}

impl Block {
    /// Layer `layer` of the model `config`.
    pub(super) fn new(
        config: &LlamaConfig,
        layer: usize,
        rope: Arc<RopeTable>,
        make: Make<'_>,
    ) -> crate::Result<Self> {
        let attention = Attention::new(config, layer, rope, make)?;
        let mlp = Mlp::new(config, layer, make)?;
        Ok(Self { attention, mlp, eps: config.rms_norm_eps as f32 })
    }

    pub(super) fn parameters(&self) -> [&Parameter; 9] {
        let Self { attention: a, mlp: m, .. } = self;
        [&a.norm, &a.q, &a.k, &a.v, &a.o, &m.norm, &m.gate, &m.up, &m.down]
    }

    /// The layer's output for the slice `x` [rows, width], whose keys and values are appended to
    /// `cache`. K and V are written once, outside of what runs again.
    pub(super) fn forward(
        self: &Arc<Self>,
        x: Tensor,
        cache: &mut KvCache,
        recompute: Recompute,
    ) -> Result<Tensor> {
        let y = x.rms_norm(&self.attention.norm.tensor(), self.eps)?;
        let kv = self.attention.write(&y, cache)?;
        let block = self.clone();
        let [x, inner] = match recompute {
            Recompute::None => {
                let x = self.attention.forward(y, &kv)?.add_into(&x)?;
                let inner = self.mlp.inner(&x, self.eps)?;
                [x, inner]
            }
            Recompute::Partial => {
                let x = self.attention.forward(y, &kv)?.add_into(&x)?;
                let inner = again([x.clone()], move |[x]| block.mlp.inner(&x, block.eps))?;
                [x, inner]
            }
            Recompute::Full => again([x, y], move |[x, y]| {
                let x = block.attention.forward(y, &kv)?.add_into(&x)?;
                let inner = block.mlp.inner(&x, block.eps)?;
                Ok([x, inner])
            })?,
        };
        inner.linear(&self.mlp.down.tensor())?.add_into(&x)
    }
}

impl Attention {
    fn new(
        config: &LlamaConfig,
        layer: usize,
        rope: Arc<RopeTable>,
        make: Make<'_>,
    ) -> crate::Result<Self> {
        let width = config.hidden_size;
        let (heads, kv_heads, head_dim) =
            (config.num_attention_heads, config.num_key_value_heads, config.head_dim);
        let name = |part: &str| format!("model.layers.{layer}.self_attn.{part}_proj.weight");
        Ok(Self {
            norm: make(&format!("model.layers.{layer}.input_layernorm.weight"), &[width])?,
            q: make(&name("q"), &[heads * head_dim, width])?,
            k: make(&name("k"), &[kv_heads * head_dim, width])?,
            v: make(&name("v"), &[kv_heads * head_dim, width])?,
            o: make(&name("o"), &[width, heads * head_dim])?,
            heads,
            kv_heads,
            head_dim,
            rope,
        })
    }

    /// Writes keys and values of the normed slice `y`.
    fn write(&self, y: &Tensor, cache: &mut KvCache) -> Result<KvPrefix> {
        let heads = |x: Tensor| x.reshape((y.dims()[0], self.kv_heads, self.head_dim));
        let offset = cache.tokens();
        let k = heads(y.linear(&self.k.tensor())?)?;
        let k = KvCache::place(|| k.rope(&self.rope, offset))?;
        let v = heads(KvCache::place(|| y.linear(&self.v.tensor()))?)?;
        cache.write(&k, &v)
    }

    /// The attention of the normed slice `y`, through the output's product.
    fn forward(&self, y: Tensor, kv: &KvPrefix) -> Result<Tensor> {
        let rows = y.dims()[0];
        let q = y.linear(&self.q.tensor())?.reshape((rows, self.heads, self.head_dim))?;
        drop(y);
        let q = q.rope(&self.rope, kv.offset())?;
        let out = q.attend_to(kv, 1.0 / (self.head_dim as f32).sqrt())?;
        out.reshape((rows, self.heads * self.head_dim))?.linear(&self.o.tensor())
    }
}

impl Mlp {
    fn new(config: &LlamaConfig, layer: usize, make: Make<'_>) -> crate::Result<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("model.layers.{layer}.mlp.{part}_proj.weight");
        Ok(Self {
            norm: make(&format!("model.layers.{layer}.post_attention_layernorm.weight"), &[width])?,
            gate: make(&name("gate"), &[inner, width])?,
            up: make(&name("up"), &[inner, width])?,
            down: make(&name("down"), &[width, inner])?,
        })
    }

    /// Everything before the last product.
    fn inner(&self, x: &Tensor, eps: f32) -> Result<Tensor> {
        let y = x.rms_norm(&self.norm.tensor(), eps)?;
        let gate = y.linear(&self.gate.tensor())?;
        let up = y.linear(&self.up.tensor())?;
        drop(y);
        gate.swiglu(&up)
    }
}
