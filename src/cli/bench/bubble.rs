//! `slimpipe bench bubble`: a stage of fixed arithmetic through the real executor.

use std::hint::black_box;
use std::time::Instant;

use serde_json::json;
use slimpipe::autograd;
use slimpipe::pipeline::execute;
use slimpipe::pipeline::schedule::Formulas;
use slimpipe::prelude::*;

use super::{Size, median};

/// Arguments of `bench bubble`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    size: Size,
    /// Millions of multiply-adds in a forward; a backward does twice as many.
    #[arg(long, default_value_t = 60)]
    work: u64,
    /// Runs of which the median is taken.
    #[arg(long, default_value_t = 5)]
    runs: u32,
}

/// Multiply-adds that depend on each other: the same time on every core, no memory touched.
fn work(millions: u64) -> f32 {
    let mut lanes = black_box([0.5f32; 8]);
    for _ in 0..millions * 125_000 {
        for lane in &mut lanes {
            *lane = lane.mul_add(0.999_999, 1e-6);
        }
    }
    lanes.iter().sum()
}

/// The identity, at a price.
struct Busy(u64);

impl CustomOp for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }

    fn forward(&self, inputs: &[RawTensor]) -> autograd::Result<RawTensor> {
        let x = &inputs[0];
        if !x.is_meta() {
            black_box(work(black_box(self.0)));
        }
        Ok(slimpipe::ops::copy::copy(x)?)
    }

    fn backward(
        &self,
        _: &[RawTensor],
        _: &RawTensor,
        grad: &RawTensor,
    ) -> autograd::Result<Vec<Option<RawTensor>>> {
        if !grad.is_meta() {
            black_box(work(black_box(2 * self.0)));
        }
        Ok(vec![Some(grad.clone())])
    }
}

struct Synthetic {
    spec: StageSpec,
    weight: Parameter,
    work: u64,
}

const WIDTH: usize = 4;

impl Stage for Synthetic {
    fn forward(&self, input: StageInput, _: &mut SliceContext<'_>) -> execute::Result<StageOutput> {
        let x = match input {
            StageInput::Tokens(ids) => self.weight.tensor().embedding(&ids)?,
            StageInput::Hidden(x) => x,
        };
        let x = Tensor::apply(Busy(self.work), &[&x])?;
        Ok(if self.spec.is_last() { StageOutput::Loss(x.sum()?) } else { StageOutput::Hidden(x) })
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![self.weight.clone()]
    }

    fn hidden(&self) -> (usize, DType) {
        (WIDTH, DType::F32)
    }
}

/// One step's bubble, in percent of the ranks' time.
fn measure(args: &Args, schedule: &Schedule) -> execute::Result<f64> {
    let Size { pipeline: ranks, slices, microbatches, chunks } = args.size;
    let seq_len = 16 * slices as usize;
    let layers = (ranks * chunks) as usize;
    let sequence = Sequence { tokens: vec![0; seq_len], labels: vec![0; seq_len] };
    let batch = Batch { sequences: vec![sequence; microbatches as usize] };
    let origin = Instant::now();
    let reports = launch(ranks, schedule.channel_capacity(), |comm| {
        let _team = team::enter(1)?;
        let memory = Memory::builder(comm.rank()).build();
        let build = |spec: &StageSpec| -> execute::Result<Synthetic> {
            let value = RawTensor::zeros((1, WIDTH), DType::F32, Device::Cpu)?;
            let weight = Parameter::new("weight", value);
            Ok(Synthetic { spec: spec.clone(), weight, work: args.work })
        };
        let size = (layers, Slices::equal(seq_len, slices)?);
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory, size, origin, build)?;
        pipeline.comm().barrier()?;
        pipeline.step(&batch)
    })?;
    let start = reports.iter().map(|report| report.extent.0).min().unwrap_or_default();
    let end = reports.iter().map(|report| report.extent.1).max().unwrap_or_default();
    let busy: f64 = reports.iter().map(|report| report.busy.as_secs_f64()).sum();
    Ok(100.0 * (1.0 - busy / ((end - start).as_secs_f64() * f64::from(ranks))))
}

/// Measures, and prints measured and expected bubble in percent.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let Size { pipeline: p, slices: n, microbatches: m, chunks: v } = args.size;
    let schedule = args.size.schedule(ScheduleKind::SlimPipe)?;
    let runs = (0..args.runs.max(1)).map(|_| measure(args, &schedule));
    let runs: Vec<f64> = runs.collect::<Result<_, _>>()?;
    let expected = 100.0 * Formulas::of(&schedule).bubble_fraction;
    let measured = median(runs.clone());
    println!(
        "{}",
        json!({"p": p, "n": n, "m": m, "v": v,
               "bubble_percent": measured, "expected_percent": expected,
               "difference_points": measured - expected, "runs": runs})
    );
    Ok(())
}
