//! A model of another kind: GPT-2's blocks (LayerNorm, GELU, learned positions, biases) trained with
//! SlimPipe, without an edit to any crate.
//!
//! ```text
//! cargo run --release --example own_model
//! ```
//!
//! A model is plain structs whose `forward` takes tensors. What makes it a pipeline's is the trait
//! [`Stage`]: run one slice through the layers of one stage. Slices meet in one place only, the
//! attention, which keeps their keys and values in a [`KvCache`]; nothing else here knows that there
//! are slices, ranks, or a schedule.
//!
//! Its blocks can keep their inputs only and be made again in backward: what [`recompute`] is given.
//! Keys and values are written before, once.
//!
//! The program trains the model twice, over four ranks in eight slices with blocks made again, and on
//! one rank in one piece with everything kept, on its own source text, and prints both losses of every
//! step.

use std::sync::Arc;
use std::time::Instant;

use slimpipe::autograd::{self, KvPrefix, recompute};

use slimpipe::pipeline::execute::{Error, Result};
use slimpipe::prelude::*;

const TEXT: &[u8] = include_bytes!("own_model.rs");
const MICROBATCHES: u32 = 2;

/// The sizes of a model.
#[derive(Clone, Copy, Debug)]
pub struct GptConfig {
    /// Tokens there are.
    pub vocab: usize,
    /// Positions there are: the longest sequence.
    pub context: usize,
    /// Elements per token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
    /// Whether blocks are made again in backward.
    pub recompute: bool,
}

/// The part of a model that one pipeline stage runs.
pub struct Gpt {
    embedding: Option<Embedding>,
    blocks: Vec<(usize, Arc<Block>)>,
    head: Option<Head>,
    parameters: Vec<Parameter>,
    width: usize,
    recompute: bool,
}

struct Embedding {
    tokens: Parameter,
    positions: Parameter,
}

struct Block {
    norm_1: LayerNorm,
    attention: Attention,
    norm_2: LayerNorm,
    up: Linear,
    down: Linear,
}

struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
}

struct Head {
    norm: LayerNorm,
    weight: Parameter,
}

struct LayerNorm {
    weight: Parameter,
    bias: Parameter,
}

struct Linear {
    weight: Parameter,
    bias: Option<Parameter>,
}

impl Gpt {
    /// The part `spec` of the model.
    ///
    /// # Errors
    /// Out of memory.
    pub fn new(config: GptConfig, spec: &StageSpec) -> Result<Self> {
        let GptConfig { vocab, context, width, heads, recompute, .. } = config;
        let mut make = Maker::default();
        let mut embedding = None;
        if spec.is_first() {
            let tokens = make.normal("tokens".to_owned(), (vocab, width))?;
            let positions = make.normal("positions".to_owned(), (context, width))?;
            embedding = Some(Embedding { tokens, positions });
        }
        let mut blocks = Vec::new();
        for layer in spec.layers.clone() {
            let block = make.block(&format!("layer{layer}"), width, heads)?;
            blocks.push((layer, Arc::new(block)));
        }
        let mut head = None;
        if spec.is_last() {
            let norm = make.norm("head.norm", width)?;
            head = Some(Head { norm, weight: make.normal("head".to_owned(), (vocab, width))? });
        }
        Ok(Self { embedding, blocks, head, parameters: make.0, width, recompute })
    }
}

impl Stage for Gpt {
    fn forward(&self, input: StageInput, cx: &mut SliceContext<'_>) -> Result<StageOutput> {
        let mut x = match (input, &self.embedding) {
            (StageInput::Hidden(x), _) => x,
            (StageInput::Tokens(ids), Some(Embedding { tokens, positions })) => {
                let here = positions.tensor().narrow(0, cx.offset(), ids.dims()[0])?;
                tokens.tensor().embedding(&ids)?.add_into(&here)?
            }
            (StageInput::Tokens(_), None) => return Err(Error::UnexpectedInput),
        };
        for (layer, block) in &self.blocks {
            let _layer = scope::layer(*layer as u32); // memory is planned and traced by layer
            x = block.forward(x, cx.kv(*layer), self.recompute)?;
        }
        let Some(head) = &self.head else { return Ok(StageOutput::Hidden(x)) };
        let y = head.norm.forward(&x)?;
        Ok(StageOutput::Loss(y.head_loss(&head.weight, cx.labels()?, cx.loss_scale())?))
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.parameters.clone()
    }

    fn hidden(&self) -> (usize, DType) {
        (self.width, DType::F32)
    }
}

impl Block {
    fn forward(self: &Arc<Self>, x: Tensor, cache: &mut KvCache, again: bool) -> Result<Tensor> {
        let y = self.norm_1.forward(&x)?;
        let kv = self.attention.write(&y, cache)?;
        let block = self.clone();
        let rest = move |[x, y]: [Tensor; 2]| block.rest(&x, y, &kv);
        Ok(if again { recompute([x, y], rest) } else { rest([x, y]) }?)
    }

    /// Everything but keys and values, for the slice `x` and what its norm makes of it.
    fn rest(&self, x: &Tensor, y: Tensor, kv: &KvPrefix) -> autograd::Result<Tensor> {
        let x = self.attention.forward(&y, kv)?.add_into(x)?;
        let y = self.up.forward(&self.norm_2.forward(&x)?)?.gelu()?;
        self.down.forward(&y)?.add_into(&x)
    }
}

impl Attention {
    fn write(&self, x: &Tensor, cache: &mut KvCache) -> autograd::Result<KvPrefix> {
        let k = self.split(KvCache::place(|| x.linear(&self.key.weight.tensor()))?)?;
        let v = self.split(self.value.forward(x)?)?;
        cache.write(&k, &v)
    }

    fn forward(&self, x: &Tensor, kv: &KvPrefix) -> autograd::Result<Tensor> {
        let q = self.split(self.query.forward(x)?)?;
        let head_dim = q.dims()[2];
        let out = q.attend_to(kv, 1.0 / (head_dim as f32).sqrt())?;
        self.output.forward(&out.reshape((x.dims()[0], x.dims()[1]))?)
    }

    /// Into heads: [rows, heads, head_dim].
    fn split(&self, x: Tensor) -> autograd::Result<Tensor> {
        x.reshape((x.dims()[0], self.heads, x.dims()[1] / self.heads))
    }
}

impl LayerNorm {
    fn forward(&self, x: &Tensor) -> autograd::Result<Tensor> {
        x.layer_norm(&self.weight.tensor(), &self.bias.tensor(), 1e-5)
    }
}

impl Linear {
    fn forward(&self, x: &Tensor) -> autograd::Result<Tensor> {
        let y = x.linear(&self.weight.tensor())?;
        Ok(match &self.bias {
            Some(bias) => y.add(&bias.tensor())?,
            None => y,
        })
    }
}

/// Makes parameters and remembers them: a stage has to list its own.
#[derive(Default)]
struct Maker(Vec<Parameter>);

impl Maker {
    fn keep(&mut self, name: String, value: RawTensor) -> Parameter {
        let parameter = Parameter::new(name, value);
        self.0.push(parameter.clone());
        parameter
    }

    /// Normal numbers that depend on the name alone: the model is the same however it is dealt.
    fn normal(&mut self, name: String, shape: (usize, usize)) -> Result<Parameter> {
        let mut value = RawTensor::empty(shape, DType::F32, Device::Cpu, "parameter")?;
        Random::named(0, &name).fill_normal(value.slice_mut("parameter")?, 0.02);
        Ok(self.keep(name, value))
    }

    fn constant(&mut self, name: String, value: f32, width: usize) -> Result<Parameter> {
        let value = RawTensor::from_slice(&vec![value; width], width, Device::Cpu)?;
        Ok(self.keep(name, value))
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<LayerNorm> {
        let weight = self.constant(format!("{name}.weight"), 1.0, width)?;
        Ok(LayerNorm { weight, bias: self.constant(format!("{name}.bias"), 0.0, width)? })
    }

    fn linear(&mut self, name: &str, shape: (usize, usize), bias: bool) -> Result<Linear> {
        let weight = self.normal(format!("{name}.weight"), shape)?;
        let bias = bias.then(|| self.constant(format!("{name}.bias"), 0.0, shape.0)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn block(&mut self, name: &str, width: usize, heads: usize) -> Result<Block> {
        let square = (width, width);
        let attention = Attention {
            query: self.linear(&format!("{name}.query"), square, true)?,
            // A bias here would add the same to all of a query's scores: softmax does not see it.
            key: self.linear(&format!("{name}.key"), square, false)?,
            value: self.linear(&format!("{name}.value"), square, true)?,
            output: self.linear(&format!("{name}.output"), square, true)?,
            heads,
        };
        Ok(Block {
            norm_1: self.norm(&format!("{name}.norm_1"), width)?,
            attention,
            norm_2: self.norm(&format!("{name}.norm_2"), width)?,
            up: self.linear(&format!("{name}.up"), (4 * width, width), true)?,
            down: self.linear(&format!("{name}.down"), (width, 4 * width), true)?,
        })
    }
}

/// Windows of this file, its bytes as tokens; the same on every rank.
fn batch(step: u64, seq_len: usize) -> Batch {
    let sequence = |microbatch: u32| {
        let index = step * u64::from(MICROBATCHES) + u64::from(microbatch);
        let start = Random::named(0, "data").below(index, (TEXT.len() - seq_len) as u64) as usize;
        let window: Vec<u32> = TEXT[start..=start + seq_len].iter().map(|&b| b.into()).collect();
        Sequence::next_token(&window)
    };
    Batch { sequences: (0..MICROBATCHES).map(sequence).collect() }
}

/// Trains over `ranks` ranks, every sequence in `slices` slices; gives the loss of each step.
fn train(config: GptConfig, ranks: u32, slices: u32, steps: u64) -> anyhow::Result<Vec<f64>> {
    let schedule = Schedule::new(ScheduleKind::SlimPipe, ranks, slices, MICROBATCHES, 1)?;
    let origin = Instant::now();
    let losses = launch(ranks, schedule.channel_capacity(), |comm| {
        let _team = team::enter((team::cores() / ranks as usize).max(1))?;
        let memory = Memory::builder(comm.rank()).build();
        let _entered = memory.enter();
        let size = (config.layers, Slices::equal(config.context, schedule.slices())?);
        let build = |spec: &StageSpec| Gpt::new(config, spec);
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory.clone(), size, origin, build)?;
        let mut optimizer = AdamW::new(pipeline.parameters(), AdamWConfig::default())?;
        let mut losses = Vec::new();
        for step in 1..=steps {
            losses.push(pipeline.step(&batch(step, config.context))?.loss);
            optimizer.step(2e-3, 1.0)?;
        }
        anyhow::Ok(losses)
    })?;
    Ok(losses.into_iter().next().unwrap_or_default()) // all ranks know the loss
}

/// Trains sliced and whole, and prints both.
pub fn main() -> anyhow::Result<()> {
    let config =
        GptConfig { vocab: 256, context: 128, width: 64, heads: 4, layers: 4, recompute: false };
    let sliced = train(GptConfig { recompute: true, ..config }, 4, 8, 24)?;
    let whole = train(config, 1, 1, 24)?;
    println!("step   4 ranks, 8 slices   1 rank, 1 slice");
    for (step, (sliced, whole)) in sliced.iter().zip(&whole).enumerate() {
        println!("{:>4} {sliced:>19.6} {whole:>17.6}", step + 1);
    }
    let difference = sliced.iter().zip(&whole).map(|(a, b)| (a - b).abs() / b);
    println!("largest relative difference: {:.1e}", difference.fold(0.0, f64::max));
    Ok(())
}
