//! A tiny Llama trained through the public API, however it is dealt to ranks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use slimpipe::allocator::MemoryStats;
use slimpipe::allocator::offload::FileMemory;
use slimpipe::pipeline::comm::{Axis, Mesh};
use slimpipe::pipeline::execute::Span;
use slimpipe::prelude::*;
use slimpipe::runtime::random::Random;
use slimpipe::train::flops::token_cost;
use slimpipe::train::hub::LlamaConfig;
use slimpipe::train::model::{LlamaStage, Recompute, Source};
use slimpipe::train::{Error, Result};

/// How a model is dealt and run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    pub kind: ScheduleKind,
    pub ranks: u32,
    pub slices: u32,
    /// Of one data rank.
    pub microbatches: u32,
    pub chunks: u32,
    pub data: u32,
    pub threads: usize,
    pub dtype: DType,
    /// Of layers of even and of odd index.
    pub recompute: [Recompute; 2],
    pub exchange: Exchange,
    /// Whether all ranks share the vocabulary.
    pub vocabulary: bool,
    /// The allocation of a rank that fails.
    pub fail: Option<(u32, u64)>,
    /// The ratio of activations that a second memory takes; without one there is none.
    pub offload: Option<f64>,
}

impl Layout {
    pub fn slimpipe(ranks: u32, slices: u32, microbatches: u32, chunks: u32) -> Self {
        let (kind, dtype) = (ScheduleKind::SlimPipe, DType::F32);
        Self {
            kind,
            ranks,
            slices,
            microbatches,
            chunks,
            data: 1,
            threads: 1,
            dtype,
            recompute: [Recompute::None; 2],
            exchange: Exchange::Off,
            vocabulary: false,
            fail: None,
            offload: None,
        }
    }

    /// The same batches on one rank in one piece, everything kept.
    pub fn reference(self) -> Self {
        let Self { microbatches, data, threads, dtype, .. } = self;
        Self { threads, dtype, ..Self::slimpipe(1, 1, data * microbatches, 1) }
    }
}

/// What is trained.
#[derive(Clone, Debug)]
pub struct Setup {
    pub model: LlamaConfig,
    pub seq_len: usize,
    pub steps: usize,
}

impl Setup {
    /// Eight layers of width 32 on sequences of 48 tokens.
    pub fn tiny() -> Self {
        let model = LlamaConfig {
            vocab_size: 61,
            hidden_size: 32,
            intermediate_size: 80,
            num_hidden_layers: 8,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 8,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 48,
            tie_word_embeddings: false,
            bos_token_id: None,
            eos_token_id: Vec::new(),
        };
        Self { model, seq_len: 48, steps: 10 }
    }

    fn batch(&self, step: usize, microbatches: u32) -> Batch {
        let random = Random::new(7, 7);
        let at = |i: usize| random.below(i as u64, self.model.vocab_size as u64) as u32;
        let sequences = (0..microbatches as usize).map(|microbatch| {
            let start = 100_000 * (step * microbatches as usize + microbatch);
            let window: Vec<u32> = (start..=start + self.seq_len).map(at).collect();
            let mut sequence = Sequence::next_token(&window);
            sequence.labels[microbatch % self.seq_len] = -100; // slices count different numbers of labels
            sequence
        });
        Batch { sequences: sequences.collect() }
    }
}

/// What a run came to.
pub struct Outcome {
    /// Loss of each step.
    pub losses: Vec<f64>,
    /// Gradients of the first step, by parameter.
    pub gradients: BTreeMap<String, Vec<f32>>,
    /// By rank: figures after the last step and before the first.
    pub memory: Vec<(MemoryStats, MemoryStats)>,
    /// What each rank did in the last step.
    pub timelines: Vec<Vec<Span>>,
}

/// What a rank brings to it.
struct RankOutcome {
    losses: Vec<f64>,
    gradients: BTreeMap<String, Vec<f32>>,
    memory: (MemoryStats, MemoryStats),
    timeline: Vec<Span>,
}

/// Parameters of which every rank has some rows where all share the vocabulary.
pub const TABLES: [&str; 2] = ["lm_head.weight", "model.embed_tokens.weight"];

/// Trains `setup` as `layout` says, in poisoned memory, where an unplanned allocation is an error.
pub fn run(setup: &Setup, layout: Layout) -> Result<Outcome> {
    let Layout { kind, ranks, slices, microbatches, chunks, .. } = layout;
    let schedule = Schedule::new(kind, ranks, slices, microbatches, chunks)?
        .with_exchange(layout.exchange)?
        .with_vocabulary(layout.vocabulary)?
        .with_data_ranks(layout.data)?;
    let mesh = Mesh::new(layout.data, ranks);
    let body = |comm: LocalComm| -> Result<RankOutcome> {
        let _team = team::enter(layout.threads)?;
        let rank = comm.rank();
        let mut memory = Memory::builder(rank).poison().strict();
        if let Some((_, nth)) = layout.fail.filter(|(failing, _)| *failing == rank) {
            memory = memory.fail_nth(nth);
        }
        if let Some(ratio) = layout.offload {
            let folder = std::env::temp_dir();
            let file = FileMemory::create(&folder).map_err(Error::io("make a file in", &folder))?;
            memory = memory.offload(ratio, file)?;
        }
        let memory = memory.build();
        let slices = schedule.cut(setup.seq_len, token_cost(&setup.model))?;
        let size = (setup.model.num_hidden_layers, slices);
        let build = |spec: &StageSpec| {
            let stage = LlamaStage::new(&setup.model, spec, &Source::Random(3), layout.dtype)?;
            Ok::<_, Error>(stage.recompute(|layer| layout.recompute[layer % 2]))
        };
        let origin = Instant::now();
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory.clone(), size, origin, build)?;
        let _entered = memory.enter();
        let mut optimizer = AdamW::of_shares(pipeline.shares(), AdamWConfig::default())?;
        let data_rank = mesh.coordinate(rank, Axis::Data) as usize;
        let (mut losses, mut gradients) = (Vec::new(), BTreeMap::new());
        let before = memory.stats();
        for step in 0..setup.steps {
            if step + 1 == setup.steps {
                memory.reset_peaks();
            }
            let all = setup.batch(step, layout.data * microbatches).sequences;
            let own = all.chunks(microbatches as usize).nth(data_rank).unwrap().to_vec();
            losses.push(pipeline.step(&Batch { sequences: own })?.loss);
            if step == 0 {
                for (parameter, share) in pipeline.shares() {
                    let sums = parameter.grad_to_vec()?.unwrap_or_default();
                    let part = gradients.entry(parameter.name().to_owned()).or_default();
                    keep(part, &sums, share);
                }
            }
            optimizer.step(1e-3, 1.0)?;
            pipeline.gather_weights()?;
        }
        let timeline = pipeline.timeline().all();
        Ok(RankOutcome { losses, gradients, memory: (memory.stats(), before), timeline })
    };
    let all = launch(mesh.size(), schedule.channel_capacity(), body)?;
    let mut outcome = Outcome {
        losses: Vec::new(),
        gradients: BTreeMap::new(),
        memory: Vec::new(),
        timelines: Vec::new(),
    };
    let mut pipelines: Vec<BTreeMap<String, Vec<f32>>> = vec![BTreeMap::new(); ranks as usize];
    for (rank, RankOutcome { losses, gradients, memory, timeline }) in (0..).zip(all) {
        for (name, part) in gradients {
            let shares = pipelines[mesh.coordinate(rank, Axis::Pipeline) as usize].entry(name);
            join(shares.or_default(), &part);
        }
        outcome.losses = losses;
        outcome.memory.push(memory);
        outcome.timelines.push(timeline);
    }
    for gradients in pipelines {
        for (name, gradient) in gradients {
            if layout.vocabulary && TABLES.contains(&name.as_str()) {
                outcome.gradients.entry(name).or_default().extend(gradient);
                continue;
            }
            // Both copies of a tied parameter hold the same sum.
            if let Some(other) = outcome.gradients.get(&name).filter(|other| **other != gradient) {
                let what =
                    format!("{name}: copies differ in {} elements", differing(other, &gradient));
                return Err(Error::Data(what));
            }
            outcome.gradients.insert(name, gradient);
        }
    }
    Ok(outcome)
}

/// Puts elements `share` of `sums` into `part`, whose other elements are NaN.
fn keep(part: &mut Vec<f32>, sums: &[f32], share: Range<usize>) {
    part.resize(sums.len(), f32::NAN);
    part[share.clone()].copy_from_slice(&sums[share]);
}

/// Adds the elements that a data rank has to those of others, of which none has the same.
fn join(whole: &mut Vec<f32>, part: &[f32]) {
    whole.resize(part.len(), f32::NAN);
    for (whole, part) in whole.iter_mut().zip(part).filter(|(_, part)| !part.is_nan()) {
        assert!(whole.is_nan(), "two data ranks have a share of the same element");
        *whole = *part;
    }
}

/// As [`run`], for layouts that must run.
pub fn train(setup: &Setup, layout: Layout) -> Outcome {
    run(setup, layout).unwrap_or_else(|error| panic!("{layout:?}: {error}"))
}

/// Whether two runs have the same losses and gradients, bit for bit.
pub fn is_same(a: &Outcome, b: &Outcome) -> bool {
    let bits = |outcome: &Outcome| outcome.losses.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let gradients = |outcome: &Outcome| {
        let gradients = outcome.gradients.values().flatten();
        gradients.map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    bits(a) == bits(b) && gradients(a) == gradients(b)
}

fn differing(a: &[f32], b: &[f32]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a.to_bits() != b.to_bits()).count()
}

/// ||a - b|| / ||b||.
pub fn relative(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / norm(&mut b.iter().map(|b| f64::from(*b))).max(1e-30)
}
