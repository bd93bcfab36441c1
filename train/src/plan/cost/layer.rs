//! What one layer takes for one slice, on one GPU.

use super::{Group, Mesh, Spent};
use crate::hardware::Hardware;
use crate::model::Recompute;
use crate::plan::{Model, Setup, Workload};

/// A layer of a setup. All weights and activations are bf16.
pub(super) struct Layer<'a> {
    model: &'a Model,
    setup: &'a Setup,
    hardware: &'a Hardware,
    mesh: Mesh<'a>,
    /// Tokens of a slice.
    slice: f64,
    /// Of these, the share of a context parallel rank: rows of its products.
    rows: f64,
}

/// A product with weights, as dealt to this GPU.
#[derive(Clone, Copy)]
struct Product {
    flops: f64,
    side: f64,
    /// Bytes of activations that tensor parallel ranks gather before it, or add up after it.
    exchanged: f64,
}

/// The products of a layer.
struct Products {
    qkv: Product,
    out: Product,
    up: Product,
    down: Product,
}

impl<'a> Layer<'a> {
    pub fn new(work: &'a Workload, setup: &'a Setup, hardware: &'a Hardware) -> Self {
        let slice = work.context as f64 / f64::from(setup.layout.slices);
        let rows = slice / f64::from(setup.layout.context);
        let mesh = Mesh::new(setup.layout, hardware);
        Self { model: &work.model, setup, hardware, mesh, slice, rows }
    }

    fn ranks(&self) -> f64 {
        f64::from(self.setup.layout.tensor)
    }

    fn widths(&self) -> [f64; 4] {
        let of = &self.model.dense;
        let heads = [of.num_attention_heads, of.num_key_value_heads].map(|n| n * of.head_dim);
        [of.hidden_size, heads[0], heads[1], of.intermediate_size].map(|width| width as f64)
    }

    fn products(&self) -> Products {
        let ([h, q, kv, f], t) = (self.widths(), self.ranks());
        let product = |rows: f64, times: f64, from: f64, to: f64| Product {
            flops: 2.0 * rows * times * from * to,
            side: rows.min(from).min(to),
            exchanged: 2.0 * rows * times * h,
        };
        // Each expert of this GPU gets tokens of all ranks that share them; there are fewer experts
        // than that here, so work is that of its own tokens.
        let (rows, times) = match self.model.experts {
            None => (self.rows, 1.0),
            Some(experts) => {
                let here = f64::from(experts.count) / f64::from(self.setup.layout.expert);
                (self.rows * f64::from(experts.per_token) / here, here)
            }
        };
        Products {
            qkv: product(self.rows, 1.0, h, (q + 2.0 * kv) / t),
            out: product(self.rows, 1.0, q / t, h),
            up: product(rows, times, h, 2.0 * f / t),
            down: product(rows, times, f / t, h),
        }
    }

    /// One pass through a product, beside which `collectives` gathers or sums run: a part of the
    /// product is computed with what is there while the next part is on its way, so that all but the
    /// first is hidden as far as it takes.
    fn pass(&self, of: Product, collectives: f64) -> Spent {
        let products = self.hardware.products.seconds(of.flops, of.side);
        let each = self.mesh.all_gather(self.mesh.tensor(), of.exchanged);
        let hidden = products * (1.0 - 1.0 / self.ranks());
        let communication = (each * collectives - hidden).max(0.0);
        Spent { products, communication, ..Spent::default() }
    }

    /// Gradients of a product's input and of its weights. The input of a product that gathers is
    /// gathered again beside the first, and its gradient summed beside the second.
    fn back(&self, of: Product, gathers: bool) -> Spent {
        self.pass(of, 1.0) + self.pass(of, if gathers { 1.0 } else { 0.0 })
    }

    fn elementwise(&self, bytes_per_token: f64) -> Spent {
        // Ranks that share products by tensor parallelism share tokens in between.
        let bytes = self.rows * bytes_per_token / self.ranks();
        Spent { elementwise: self.hardware.gpu.memory_seconds(bytes), ..Spent::default() }
    }

    /// Bytes per token that everything but products and attention reads and writes: two norms (read,
    /// write), two residuals (read two, write one), rotations of queries and keys.
    fn around(&self) -> f64 {
        let [h, q, kv, _] = self.widths();
        20.0 * h + 4.0 * (q + kv)
    }

    /// And the activation: reads gate and up, writes their product.
    fn activation(&self) -> f64 {
        let [_, _, _, f] = self.widths();
        6.0 * f * f64::from(self.model.mlps_per_token())
    }

    /// Seconds of forward, or of backward, in which all queries of a slice attend to all of `chunks`
    /// other slices.
    fn attention(&self, chunks: f64, is_backward: bool) -> f64 {
        let [_, q, _, _] = self.widths();
        let of = &self.hardware.attention;
        let flops = 4.0 * q / self.ranks() * self.rows * chunks * self.slice;
        // Every processor works on a tile of 128 queries of one head.
        let heads = self.model.dense.num_attention_heads as f64 / self.ranks();
        // All queries of a slice come together, or keys and values go round.
        let queries = if self.setup.layout.slices > 1 { self.slice } else { self.rows };
        let tiles = queries / 128.0 * heads;
        let full = (tiles / f64::from(self.hardware.gpu.processors)).min(1.0);
        let seconds = if is_backward {
            of.backward_seconds(2.5 * flops, queries)
        } else {
            of.forward_seconds(flops, queries)
        };
        seconds / full
    }

    /// Seconds of the whole layer's attention to half a slice of an earlier one.
    pub fn half_chunk(&self, is_backward: bool) -> f64 {
        self.attention(0.5, is_backward)
    }

    /// What context parallelism adds to forward, beside attention of so many seconds.
    fn context(&self, attention: f64) -> f64 {
        let ([_, q, kv, _], group) = (self.widths(), self.mesh.context());
        if group.size <= 1.0 {
            return 0.0;
        }
        if self.setup.layout.slices > 1 {
            // Queries go to everyone, outputs and log-sum-exps come back.
            let heads = self.model.dense.num_attention_heads as f64;
            let queries = self.slice * 2.0 * q / self.ranks();
            let outputs = self.slice * (2.0 * q + 4.0 * heads) / self.ranks();
            return self.mesh.all_gather(group, queries) + self.mesh.all_to_all(group, outputs);
        }
        self.ring(attention, self.rows * 4.0 * kv / self.ranks())
    }

    /// Outputs are put together from context parallel ranks' parts, or gradients of queries are. Parts
    /// that come one by one from keys and values on their way are added to an f32 sum; of half of
    /// them half the rows are masked. Parts that come together are read once.
    fn merge(&self) -> Spent {
        let ([_, q, ..], parts) = (self.widths(), self.mesh.context().size);
        let bytes = match self.setup.layout.slices {
            _ if parts <= 1.0 => 0.0,
            1 => 0.75 * (parts - 1.0) * 10.0,
            _ => 2.0 * parts + 2.0,
        };
        let bytes = self.rows * q / self.ranks() * bytes;
        Spent { elementwise: self.hardware.gpu.memory_seconds(bytes), ..Spent::default() }
    }

    /// Keys and values go round while what has come is attended to.
    fn ring(&self, attention: f64, bytes: f64) -> f64 {
        let group = self.mesh.context();
        let steps = group.size - 1.0;
        let hop = self.mesh.ring(group, bytes);
        steps * (hop - attention / group.size).max(0.0)
    }

    /// The same for backward, where `mlp` seconds pass before attention's.
    fn context_back(&self, attention: f64, mlp: f64) -> f64 {
        let ([_, q, kv, _], group) = (self.widths(), self.mesh.context());
        if group.size <= 1.0 {
            return 0.0;
        }
        if self.setup.layout.slices > 1 {
            // Queries, outputs and log-sum-exps are there before attention's turn; the gradient of the
            // output goes to everyone, that of queries is added up.
            let heads = self.model.dense.num_attention_heads as f64;
            let [early, late] = [4.0 * q + 4.0 * heads, 2.0 * q]
                .map(|width| self.mesh.all_gather(group, self.slice * width / self.ranks()));
            return (early - mlp).max(0.0) + 2.0 * late;
        }
        // Keys and values, and their gradients behind them.
        self.ring(attention, self.rows * 8.0 * kv / self.ranks())
    }

    /// Seconds in which queries, keys, values and outputs change between ranks of tokens and of heads.
    /// Where there are more ranks than key and value heads, several get the same.
    pub fn all_to_all(&self, group: Group) -> f64 {
        let [_, q, kv, _] = self.widths();
        let repeated = (group.size / self.model.dense.num_key_value_heads as f64).max(1.0);
        let bytes = self.rows * 2.0 * (2.0 * q + 2.0 * kv * repeated);
        if group.size > 1.0 { self.mesh.all_to_all(group, bytes) } else { 0.0 }
    }

    /// Tokens go to their experts, or come back.
    fn dispatch(&self) -> Spent {
        let [h, ..] = self.widths();
        let per_token = f64::from(self.model.mlps_per_token());
        let bytes = self.rows * per_token * 2.0 * h / self.ranks();
        let group = self.mesh.expert();
        let communication = if group.size > 1.0 { self.mesh.all_to_all(group, bytes) } else { 0.0 };
        Spent { communication, ..Spent::default() }
    }

    fn attends(&self, slice: u32, is_backward: bool) -> f64 {
        self.attention(f64::from(slice) + 0.5, is_backward)
    }

    /// Forward before attention: the norm, queries, keys and values.
    pub fn before(&self) -> Spent {
        self.pass(self.products().qkv, 1.0) + self.elementwise(self.around() / 2.0)
    }

    /// Forward after attention.
    pub fn after(&self) -> Spent {
        self.out() + self.up() + self.down()
    }

    fn out(&self) -> Spent {
        self.pass(self.products().out, 1.0) + self.elementwise(self.around() / 2.0)
    }

    /// The MLP up to its activation.
    pub fn up(&self) -> Spent {
        self.pass(self.products().up, 1.0) + self.elementwise(self.activation()) + self.dispatch()
    }

    fn down(&self) -> Spent {
        self.pass(self.products().down, 1.0) + self.dispatch()
    }

    /// Attention of forward of slice number `slice`.
    pub fn attend(&self, slice: u32) -> Spent {
        let attention = self.attends(slice, false);
        let communication = self.context(attention);
        self.merge() + Spent { attention, communication, ..Spent::default() }
    }

    /// Backward before attention's: of the MLP and of attention's last product, and what is made again.
    pub fn back_before(&self, slice: u32) -> Spent {
        let Products { up, down, out, .. } = self.products();
        // Gradients read and write twice as much; norms' and activations' outputs are made again.
        let around = self.elementwise(1.5 * self.around());
        let mlp = self.back(down, false) + self.back(up, true);
        let mlp = mlp + self.elementwise(3.0 * self.activation()) + self.dispatch() * 2.0;
        let again = match self.setup.recompute {
            Recompute::None => Spent::default(),
            Recompute::Partial => self.up().again(),
            Recompute::Full => self.full(slice).again(),
        };
        mlp + self.back(out, false) + around + again
    }

    /// A whole layer again. Sliced, keys and values are there, and the last product is not needed;
    /// others run all of the layer.
    fn full(&self, slice: u32) -> Spent {
        let [_, q, kv, _] = self.widths();
        if self.setup.layout.slices == 1 {
            return self.before() + self.attend(slice) + self.after();
        }
        let mut queries = self.products().qkv;
        queries.flops *= q / (q + 2.0 * kv);
        let queries = self.pass(queries, 1.0);
        queries + self.attend(slice) + self.out() + self.up()
    }

    /// Attention's backward.
    pub fn back_attend(&self, slice: u32) -> Spent {
        let attention = self.attends(slice, true);
        let Products { up, down, .. } = self.products();
        let mlp = (self.back(down, false) + self.back(up, true)).products;
        let communication = self.context_back(attention, mlp);
        self.merge() + Spent { attention, communication, ..Spent::default() }
    }

    /// Backward after attention's.
    pub fn back_after(&self) -> Spent {
        self.back(self.products().qkv, true) + self.elementwise(1.5 * self.around())
    }

    /// All of forward.
    pub fn forward(&self, slice: u32) -> Spent {
        self.before() + self.attend(slice) + self.after()
    }

    /// All of backward.
    pub fn backward(&self, slice: u32) -> Spent {
        self.back_before(slice) + self.back_attend(slice) + self.back_after()
    }

    /// Seconds of the gradients of weights, which schedules with a split backward put off.
    pub fn weights(&self) -> f64 {
        let Products { qkv, out, up, down } = self.products();
        [qkv, out, up, down]
            .map(|of| self.hardware.products.seconds(of.flops, of.side))
            .iter()
            .sum()
    }

    /// Output layer, loss and their gradients for a slice, or a pipeline rank's share of them. Logits
    /// are written and read in f32, their gradients in bf16 by two products.
    pub fn head(&self) -> Spent {
        let [h, ..] = self.widths();
        let shared =
            if self.setup.vocabulary { f64::from(self.setup.layout.pipeline) } else { 1.0 };
        let part = self.model.dense.vocab_size as f64 / (self.ranks() * shared);
        let product = Product {
            flops: 2.0 * self.rows * h * part,
            side: self.rows.min(h).min(part),
            exchanged: 2.0 * self.rows * h,
        };
        let bytes = 16.0 * self.rows * part;
        let elementwise = self.hardware.gpu.memory_seconds(bytes);
        let elementwise = Spent { elementwise, ..Spent::default() };
        self.pass(product, 1.0) + self.back(product, true) + elementwise
    }

    /// Looking up a slice's embeddings, and adding their gradients.
    pub fn embed(&self) -> Spent {
        self.elementwise(8.0 * self.widths()[0])
    }

    /// Bytes of a slice's hidden states on this rank: what stages hand on.
    pub fn hidden_bytes(&self) -> f64 {
        self.rows * 2.0 * self.widths()[0] / self.ranks()
    }

    /// Bytes of queries of a slice, of log-sum-exps, and of keys and values of half a slice.
    pub fn exchanged_bytes(&self) -> [f64; 3] {
        let [_, q, kv, _] = self.widths();
        let heads = self.model.dense.num_attention_heads as f64;
        [2.0 * q, 4.0 * heads, 2.0 * kv].map(|width| self.rows * width / self.ranks())
    }
}
