//! A model that keeps its slices alive by mistake, and the same model mended: `docs/memory-traces.md` finds the
//! mistake by their memory logs.
//!
//! ```text
//! cargo run --release --example kept_slices
//! cargo run --release -- trace diff runs/kept_slices/kept runs/kept_slices/mended
//! ```
//!
//! A [`Probe`] watches how large activations grow: of each slice it looks at the last row, and when the sequence
//! is through it tells the largest element. Until then it keeps the rows, or so it was meant. The first argument,
//! `kept` or `mended`, has one model trained instead of both.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use slimpipe::autograd;
use slimpipe::pipeline::execute::{Error, Result};
use slimpipe::prelude::*;
use slimpipe::train::model::Source;

const TEXT: &[u8] = include_bytes!("kept_slices.rs");
const VOCAB: usize = 256;
const CONTEXT: usize = 1024;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const LAYERS: usize = 4;
const RANKS: u32 = 2;
const SLICES: u32 = 8;
const MICROBATCHES: u32 = 2;
const STEPS: u64 = 2;

/// Watches the last row of every slice.
#[derive(Clone)]
pub enum Probe {
    /// Keeps the rows. The mistake: a row is a view of the tensor it is of, and keeps all of it alive.
    Keeps(Vec<Tensor>),
    /// Reads them at once, and keeps a number of each.
    Reads(Vec<f32>),
}

impl Probe {
    fn begin(&mut self) {
        match self {
            Self::Keeps(rows) => rows.clear(),
            Self::Reads(largest) => largest.clear(),
        }
    }

    /// Looks at the activations of a slice, [rows, width].
    fn see(&mut self, x: &Tensor) -> autograd::Result<()> {
        let row = x.narrow(0, x.dims()[0] - 1, 1)?.detach();
        match self {
            Self::Keeps(rows) => rows.push(row),
            // While memory is planned, there are shapes only.
            Self::Reads(_) if row.raw().is_meta() => {}
            Self::Reads(largest) => largest.push(magnitude(&row)?),
        }
        Ok(())
    }

    /// The largest element of all rows.
    fn tell(&self) -> autograd::Result<f32> {
        let largest = match self {
            Self::Keeps(rows) => rows.iter().map(magnitude).collect::<autograd::Result<_>>()?,
            Self::Reads(largest) => largest.clone(),
        };
        Ok(largest.into_iter().fold(0.0, f32::max))
    }
}

fn magnitude(row: &Tensor) -> autograd::Result<f32> {
    Ok(row.to_vec::<f32>()?.into_iter().fold(0.0, |most, x| most.max(x.abs())))
}

/// The part of the model that one stage runs.
struct Model {
    embedding: Option<Parameter>,
    blocks: Vec<(usize, Block)>,
    head: Option<Parameter>,
    probe: RefCell<Probe>,
    told: Told,
}

/// The largest activation of each sequence.
type Told = Rc<RefCell<Vec<f32>>>;

struct Block {
    norms: [Parameter; 2],
    /// Queries, keys, values, output.
    attention: [Parameter; 4],
    /// Gate, up, down.
    mlp: [Parameter; 3],
}

impl Model {
    fn new(spec: &StageSpec, probe: Probe, told: Told) -> Result<Self> {
        let make = |name: &str, shape: &[usize]| {
            let parameter = Source::Random(0).parameter(name, shape, DType::F32);
            parameter.map_err(|error| Error::Stage(error.to_string()))
        };
        let table = |name| make(name, &[VOCAB, WIDTH]);
        let embedding = spec.is_first().then(|| table("tokens")).transpose()?;
        let head = spec.is_last().then(|| table("head")).transpose()?;
        let mut blocks = Vec::new();
        for layer in spec.layers.clone() {
            let norm = |name| make(&format!("layer{layer}.{name}"), &[WIDTH]);
            let weight = |name, to, from| make(&format!("layer{layer}.{name}"), &[to, from]);
            let square = |name| weight(name, WIDTH, WIDTH);
            let block = Block {
                norms: [norm("norm_1")?, norm("norm_2")?],
                attention: [square("query")?, square("key")?, square("value")?, square("output")?],
                mlp: [
                    weight("gate", 4 * WIDTH, WIDTH)?,
                    weight("up", 4 * WIDTH, WIDTH)?,
                    weight("down", WIDTH, 4 * WIDTH)?,
                ],
            };
            blocks.push((layer, block));
        }
        Ok(Self { embedding, blocks, head, probe: RefCell::new(probe), told })
    }
}

impl Stage for Model {
    fn forward(&self, input: StageInput, cx: &mut SliceContext<'_>) -> Result<StageOutput> {
        let mut x = match (input, &self.embedding) {
            (StageInput::Hidden(x), _) => x,
            (StageInput::Tokens(ids), Some(table)) => table.tensor().embedding(&ids)?,
            (StageInput::Tokens(_), None) => return Err(Error::UnexpectedInput),
        };
        let end = cx.offset() + x.dims()[0];
        let mut probe = self.probe.borrow_mut();
        if cx.offset() == 0 {
            probe.begin();
        }
        for (layer, block) in &self.blocks {
            let _layer = scope::layer(*layer as u32);
            x = block.forward(x, cx.kv(*layer), &mut probe)?;
        }
        if end == CONTEXT && !x.raw().is_meta() {
            self.told.borrow_mut().push(probe.tell()?);
        }
        let Some(head) = &self.head else { return Ok(StageOutput::Hidden(x)) };
        Ok(StageOutput::Loss(x.head_loss(head, cx.labels()?, cx.loss_scale())?))
    }

    fn parameters(&self) -> Vec<Parameter> {
        let of_blocks = self
            .blocks
            .iter()
            .flat_map(|(_, block)| block.norms.iter().chain(&block.attention).chain(&block.mlp));
        self.embedding.iter().chain(of_blocks).chain(&self.head).cloned().collect()
    }

    fn hidden(&self) -> (usize, DType) {
        (WIDTH, DType::F32)
    }
}

impl Block {
    fn forward(
        &self,
        x: Tensor,
        cache: &mut KvCache,
        probe: &mut Probe,
    ) -> autograd::Result<Tensor> {
        let [norm_1, norm_2] = self.norms.each_ref().map(Parameter::tensor);
        let [query, key, value, output] = self.attention.each_ref().map(Parameter::tensor);
        let [gate, up, down] = self.mlp.each_ref().map(Parameter::tensor);
        let (rows, head_dim) = (x.dims()[0], WIDTH / HEADS);
        let heads = |x: Tensor| x.reshape((rows, HEADS, head_dim));
        let y = x.rms_norm(&norm_1, 1e-5)?;
        let k = heads(KvCache::place(|| y.linear(&key))?)?;
        let (q, v) = (heads(y.linear(&query)?)?, heads(y.linear(&value)?)?);
        let attended = q.attend(&k, &v, cache, 1.0 / (head_dim as f32).sqrt())?;
        let x = attended.reshape((rows, WIDTH))?.linear(&output)?.add_into(&x)?;
        let y = x.rms_norm(&norm_2, 1e-5)?;
        let hidden = y.linear(&gate)?.swiglu(&y.linear(&up)?)?;
        probe.see(&hidden)?;
        hidden.linear(&down)?.add_into(&x)
    }
}

/// Windows of this file, its bytes as tokens; the same on every rank.
fn batch(step: u64) -> Batch {
    let sequence = |microbatch: u32| {
        let index = step * u64::from(MICROBATCHES) + u64::from(microbatch);
        let start = Random::named(0, "data").below(index, (TEXT.len() - CONTEXT) as u64) as usize;
        let window: Vec<u32> = TEXT[start..=start + CONTEXT].iter().map(|&b| b.into()).collect();
        Sequence::next_token(&window)
    };
    Batch { sequences: (0..MICROBATCHES).map(sequence).collect() }
}

/// What a rank came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The loss of each step.
    pub losses: Vec<f64>,
    /// The largest activation that the probe saw in each sequence.
    pub largest: Vec<f32>,
    /// Most live bytes.
    pub peak: u64,
}

/// Trains, and logs the memory of each rank in the folder `out`; gives what the ranks came to.
pub fn train(probe: &Probe, out: &Path) -> anyhow::Result<Vec<Outcome>> {
    let logs = out.join("memory.events");
    std::fs::create_dir_all(&logs)?;
    let schedule = Schedule::new(ScheduleKind::SlimPipe, RANKS, SLICES, MICROBATCHES, 1)?;
    let origin = Instant::now();
    launch(RANKS, schedule.channel_capacity(), |comm| {
        let _team = team::enter(1)?;
        let rank = comm.rank();
        let log = logs.join(format!("rank-{rank:04}.step-00000001.events"));
        let memory = Memory::builder(rank).trace(&log)?.build();
        let _entered = memory.enter();
        let size = (LAYERS, Slices::equal(CONTEXT, SLICES)?);
        let told = Told::default();
        let build = |spec: &StageSpec| Model::new(spec, probe.clone(), told.clone());
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory.clone(), size, origin, build)?;
        let mut optimizer = AdamW::new(pipeline.parameters(), AdamWConfig::default())?;
        let mut losses = Vec::new();
        for step in 1..=STEPS {
            memory.begin_step(step);
            losses.push(pipeline.step(&batch(step))?.loss);
            optimizer.step(1e-3, 1.0)?;
        }
        memory.flush()?;
        let (largest, peak) = (told.take(), memory.stats().total.active.peak);
        anyhow::Ok(Outcome { losses, largest, peak })
    })
}

/// Trains both models, or the one that is named.
pub fn main() -> anyhow::Result<()> {
    let named = std::env::args().nth(1);
    let models = [("kept", Probe::Keeps(Vec::new())), ("mended", Probe::Reads(Vec::new()))];
    if let Some(name) = &named
        && models.iter().all(|(model, _)| model != name)
    {
        anyhow::bail!("there is no model {name}: name kept or mended, or none for both");
    }
    for (name, probe) in models {
        if named.as_ref().is_some_and(|named| named != name) {
            continue;
        }
        let out = Path::new("runs/kept_slices").join(name);
        let ranks = train(&probe, &out)?;
        let peaks: Vec<String> = ranks.iter().map(|rank| Bytes(rank.peak).to_string()).collect();
        println!("{name}: losses {:.4?}, largest {:.3?}", ranks[0].losses, ranks[0].largest);
        println!("  at most {} in use; {}", peaks.join(" and "), out.display());
    }
    Ok(())
}
