//! The same weights give the same logits, loss and gradients as Hugging Face transformers.
//!
//! The fixtures are made by `scripts/make_parity_fixtures.py`: folders as transformers 4 and 5 write
//! them, with what the model computes in f32.

use std::path::Path;
use std::time::Instant;

use slimpipe_allocator::Memory;
use slimpipe_autograd::{IGNORE, KvCache};
use slimpipe_pipeline::comm::local::launch;
use slimpipe_pipeline::execute::{Batch, Pipeline, Sequence, StageSpec};
use slimpipe_pipeline::schedule::{Schedule, ScheduleKind, Slices};
use slimpipe_runtime::{DType, Device, RawTensor};
use slimpipe_train::hub::{self, LlamaConfig, SafetensorsFile, Weights};
use slimpipe_train::model::{LlamaStage, Source};
use slimpipe_train::{Error, Result};

const TOLERANCE: f64 = 1e-4;

/// Gradients by parameter name.
type Gradients = Vec<(String, Vec<f32>)>;

/// A model of transformers, and what it computes.
struct Case {
    name: &'static str,
    config: LlamaConfig,
    weights: Weights,
    expected: SafetensorsFile,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
        let (config, weights) = hub::open(&dir).unwrap();
        let expected = SafetensorsFile::open(&dir.join("expected.safetensors")).unwrap();
        Self { name, config, weights, expected }
    }

    fn expected<T: bytemuck::Pod>(&self, name: &str) -> Vec<T> {
        let bytes = self.expected.tensor(name).unwrap().byte_count() as usize;
        let mut values = vec![T::zeroed(); bytes / size_of::<T>()];
        self.expected.read_into(name, bytemuck::cast_slice_mut(&mut values)).unwrap();
        values
    }

    fn tokens(&self) -> Vec<u32> {
        self.expected::<i64>("input_ids").into_iter().map(|id| id as u32).collect()
    }

    /// transformers' labels name the token at a position; the one before predicts it.
    fn batch(&self) -> Batch {
        let mut labels = self.expected::<i64>("labels");
        labels.remove(0);
        labels.push(IGNORE);
        Batch { sequences: vec![Sequence { tokens: self.tokens(), labels }] }
    }

    /// The logits under `config`, computed in pieces of `rows` tokens.
    fn logits(&self, config: &LlamaConfig, rows: usize) -> Result<Vec<f32>> {
        let spec = StageSpec::deal(0, 1, config.num_hidden_layers, rows);
        let source = Source::Folder(&self.weights);
        let stage = LlamaStage::new(config, &spec, &source, DType::F32)?;
        let mut caches: Vec<KvCache> = spec.layers.map(|_| KvCache::new()).collect();
        let mut logits = Vec::new();
        for ids in self.tokens().chunks(rows) {
            let ids = RawTensor::from_slice(ids, ids.len(), Device::Cpu)?;
            logits.extend(stage.logits(&ids, &mut caches)?.to_vec::<f32>()?);
        }
        Ok(logits)
    }

    /// Loss and gradients of a step over `ranks` pipeline ranks with `slices` slices.
    fn step(&self, ranks: u32, slices: u32) -> Result<(f64, Gradients)> {
        let batch = self.batch();
        let seq_len = batch.sequences[0].tokens.len();
        let per_rank = launch(ranks, slices as usize, |comm| -> Result<_> {
            let schedule = Schedule::new(ScheduleKind::SlimPipe, ranks, slices, 1, 1)?;
            let size = (self.config.num_hidden_layers, Slices::equal(seq_len, slices)?);
            let memory = Memory::builder(0).poison().build();
            let source = Source::Folder(&self.weights);
            let build = |spec: &StageSpec| -> Result<LlamaStage> {
                LlamaStage::new(&self.config, spec, &source, DType::F32)
            };
            let mut pipeline =
                Pipeline::new(schedule, Box::new(comm), memory, size, Instant::now(), build)?;
            let loss = pipeline.step(&batch)?.loss;
            let mut gradients = Gradients::new();
            for parameter in pipeline.parameters() {
                let gradient = parameter.grad_to_vec()?.unwrap_or_default();
                gradients.push((parameter.name().to_owned(), gradient));
            }
            Ok((loss, gradients))
        })?;
        let loss = per_rank[0].0;
        Ok((loss, per_rank.into_iter().flat_map(|(_, gradients)| gradients).collect()))
    }
}

/// ||ours - expected|| / ||expected||, infinite where the lengths differ.
fn deviation(ours: &[f32], expected: &[f32]) -> f64 {
    if ours.len() != expected.len() {
        return f64::INFINITY;
    }
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let differences = ours.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b));
    let difference = squares(&mut differences.into_iter());
    (difference / squares(&mut expected.iter().map(|&x| f64::from(x)))).sqrt()
}

fn check(name: &'static str) {
    let case = Case::open(name);
    let mut worst = 0f64;
    // Written so that a NaN fails.
    let mut compare = |what: String, deviation: f64| {
        assert!(deviation <= TOLERANCE, "{} {what}: {deviation:.2e}", case.name);
        worst = worst.max(deviation);
    };
    let (logits, loss) = (case.expected::<f32>("logits"), case.expected::<f32>("loss"));
    for rows in [48, 12] {
        let ours = case.logits(&case.config, rows).unwrap();
        compare(format!("logits in pieces of {rows}"), deviation(&ours, &logits));
    }
    for (ranks, slices) in [(1, 1), (1, 4), (2, 1), (2, 4)] {
        let (ours, gradients) = case.step(ranks, slices).unwrap();
        let at = format!("p={ranks} n={slices}");
        compare(format!("loss {at}"), deviation(&[ours as f32], &loss));
        for (parameter, gradient) in &gradients {
            let expected = case.expected::<f32>(&format!("grad.{parameter}"));
            compare(format!("{parameter} {at}"), deviation(gradient, &expected));
        }
        // Every parameter was compared; a tied table lies on the first and the last rank.
        let mut names: Vec<&str> = gradients.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, case.weights.names().collect::<Vec<_>>(), "{at}");
    }
    println!("{name}: largest norm-relative deviation {worst:.1e}");
}

#[test]
fn grouped_query_attention_equals_transformers() {
    check("gqa");
}

#[test]
fn multi_head_attention_from_shards_equals_transformers() {
    check("mha");
}

#[test]
fn multi_query_attention_equals_transformers() {
    check("mqa");
}

#[test]
fn a_tied_head_equals_transformers() {
    check("tied");
}

#[test]
fn an_explicit_head_size_equals_transformers() {
    check("head_dim");
}

#[test]
fn linear_rope_scaling_equals_transformers() {
    check("linear");
}

#[test]
fn llama3_rope_scaling_equals_transformers() {
    check("llama3");
    check("llama3_tied");
}

#[test]
fn the_fixtures_tell_one_setting_from_another() {
    let moved = |name, change: fn(&mut LlamaConfig)| -> f64 {
        let case = Case::open(name);
        let mut config = case.config.clone();
        change(&mut config);
        deviation(&case.logits(&config, 48).unwrap(), &case.expected("logits"))
    };
    let unscaled = |config: &mut LlamaConfig| config.rope_scaling = None;
    assert!(moved("llama3", unscaled) > 100.0 * TOLERANCE);
    assert!(moved("llama3_tied", unscaled) > 100.0 * TOLERANCE);
    assert!(moved("linear", unscaled) > 100.0 * TOLERANCE);
    assert!(moved("gqa", |config| config.rope_theta *= 1.1) > 100.0 * TOLERANCE);
    assert!(moved("mqa", |config| config.rms_norm_eps *= 100.0) > 10.0 * TOLERANCE);
}

#[test]
fn weights_of_another_model_are_refused() {
    let case = Case::open("gqa");
    let config = LlamaConfig { num_key_value_heads: 3, ..case.config.clone() };
    let error = case.logits(&config, 48).unwrap_err();
    assert!(matches!(error, Error::Hub(_)) && error.to_string().contains("k_proj"), "{error}");
}
