//! Stages of one's own whose attention is exchanged: once in every layer, in one shape.

use std::time::Instant;

use slimpipe::pipeline::execute::Result;
use slimpipe::prelude::*;

const WIDTH: usize = 8;

/// Layers that are nothing but attention.
struct Attentive {
    spec: StageSpec,
    embedding: Parameter,
    /// How often each layer attends.
    times: usize,
    /// Heads of a layer by its index.
    heads: fn(usize) -> usize,
}

impl Stage for Attentive {
    fn forward(&self, input: StageInput, cx: &mut SliceContext<'_>) -> Result<StageOutput> {
        let mut x = match input {
            StageInput::Tokens(ids) => self.embedding.tensor().embedding(&ids)?,
            StageInput::Hidden(x) => x,
        };
        for layer in self.spec.layers.clone() {
            let heads = (self.heads)(layer);
            for _ in 0..self.times {
                let (rows, all) = (x.dims()[0], x.reshape((x.dims()[0], heads, WIDTH / heads))?);
                x = all.attend(&all, &all, cx.kv(layer), 0.5)?.reshape((rows, WIDTH))?;
            }
        }
        Ok(if self.spec.is_last() { StageOutput::Loss(x.sum()?) } else { StageOutput::Hidden(x) })
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![self.embedding.clone()]
    }

    fn hidden(&self) -> (usize, DType) {
        (WIDTH, DType::F32)
    }
}

/// The loss of a step of four layers on two ranks.
fn loss(exchange: Exchange, times: usize, heads: fn(usize) -> usize) -> Result<f64> {
    let schedule = Schedule::new(ScheduleKind::SlimPipe, 2, 4, 2, 1)?.with_exchange(exchange)?;
    let tokens: Vec<u32> = (0..16).map(|i| i * 5 % 7).collect();
    let sequence = Sequence { tokens, labels: vec![1; 16] };
    let batch = Batch { sequences: vec![sequence; 2] };
    let (slices, origin) = (Slices::equal(16, 4)?, Instant::now());
    let losses = launch(2, schedule.channel_capacity(), |comm| {
        let build = |spec: &StageSpec| -> Result<Attentive> {
            let values: Vec<f32> = (0..7 * WIDTH).map(|i| (i as f32).sin()).collect();
            let value = RawTensor::from_slice(&values, (7, WIDTH), Device::Cpu)?;
            let embedding = Parameter::new("embedding", value);
            Ok(Attentive { spec: spec.clone(), embedding, times, heads })
        };
        let memory = Memory::builder(comm.rank()).build();
        let size = (4, slices.clone());
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory, size, origin, build)?;
        Ok::<_, slimpipe::pipeline::execute::Error>(pipeline.step(&batch)?.loss)
    })?;
    Ok(losses[0])
}

#[test]
fn a_stage_that_attends_once_per_layer_exchanges_without_knowing() {
    let off = loss(Exchange::Off, 1, |_| 2).unwrap();
    for exchange in [Exchange::Paper, Exchange::Balanced] {
        let shared = loss(exchange, 1, |_| 2).unwrap();
        assert!((shared - off).abs() < 1e-5 * off.abs(), "{exchange}: {shared} for {off}");
    }
}

#[test]
fn a_stage_that_attends_otherwise_is_told_to_exchange_nothing() {
    for (times, heads, expected) in [
        (0, (|_| 2) as fn(usize) -> usize, "ran attention 0 times in 2 layers"),
        (2, |_| 2, "ran attention 3 times in 2 layers"),
        (1, |layer| 1 + layer % 2, "its layers attend with different shapes"),
    ] {
        assert!(loss(Exchange::Off, times, heads).is_ok(), "{expected}");
        let told = loss(Exchange::Balanced, times, heads).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
        assert!(told.contains("set parallel.exchange to off"), "{told}");
    }
}
