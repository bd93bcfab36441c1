//! The model of `examples/own_model.rs` trains the same however it is sliced and dealt to ranks.

#[path = "../examples/own_model.rs"]
mod own_model;

use std::collections::BTreeMap;
use std::time::Instant;

use own_model::{Gpt, GptConfig};
use slimpipe::prelude::*;

const STEPS: u32 = 3;
const SEQ_LEN: usize = 32;

/// Eight layers, so that four ranks can hold two chunks each; more positions than are used.
const MODEL: GptConfig =
    GptConfig { vocab: 59, context: SEQ_LEN + 5, width: 24, heads: 3, layers: 8, recompute: false };

/// Losses of all steps and gradients of the first, by parameter.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    losses: Vec<f64>,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn batch(step: u32) -> Batch {
    let random = Random::named(1, "tokens");
    let sequence = |microbatch: u32| {
        let start = u64::from(10_000 * (2 * step + microbatch));
        let at = |i| random.below(i, MODEL.vocab as u64) as u32;
        let window: Vec<u32> = (start..=start + SEQ_LEN as u64).map(at).collect();
        Sequence::next_token(&window)
    };
    Batch { sequences: (0..2).map(sequence).collect() }
}

/// Trains in poisoned memory, where an allocation that was not planned is an error.
fn train(ranks: u32, slices: u32, chunks: u32, recompute: bool) -> anyhow::Result<Outcome> {
    let schedule = Schedule::new(ScheduleKind::SlimPipe, ranks, slices, 2, chunks)?;
    let all = launch(ranks, schedule.channel_capacity(), |comm| {
        let _team = team::enter(1)?;
        let memory = Memory::builder(comm.rank()).poison().strict().build();
        let _entered = memory.enter();
        let size = (MODEL.layers, Slices::equal(SEQ_LEN, schedule.slices())?);
        let origin = Instant::now();
        let build = |spec: &StageSpec| Gpt::new(GptConfig { recompute, ..MODEL }, spec);
        let mut pipeline =
            Pipeline::new(schedule.clone(), Box::new(comm), memory.clone(), size, origin, build)?;
        let mut optimizer = AdamW::new(pipeline.parameters(), AdamWConfig::default())?;
        let mut outcome = Outcome::default();
        for step in 0..STEPS {
            outcome.losses.push(pipeline.step(&batch(step))?.loss);
            if step == 0 {
                for parameter in pipeline.parameters() {
                    let gradient = parameter.grad_to_vec()?.unwrap_or_default();
                    outcome.gradients.insert(parameter.name().to_owned(), gradient);
                }
            }
            optimizer.step(1e-3, 1.0)?;
        }
        anyhow::Ok(outcome)
    })?;
    Ok(all
        .into_iter()
        .reduce(|mut sum, rank| {
            assert_eq!(rank.losses, sum.losses, "all ranks know the same loss");
            sum.gradients.extend(rank.gradients);
            sum
        })
        .unwrap_or_default())
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn losses_and_gradients_are_those_of_one_rank_in_one_piece() {
    let expected = train(1, 1, 1, false).unwrap();
    for (p, n, v) in [
        (1, 4, 1),
        (1, 1, 2),
        (1, 4, 2),
        (2, 1, 1),
        (2, 4, 1),
        (2, 4, 2),
        (4, 1, 1),
        (4, 4, 1),
        (4, 4, 2),
    ] {
        let kept = train(p, n, v, false);
        let outcome = kept.unwrap_or_else(|error| panic!("p={p} n={n} v={v}: {error}"));
        for (step, (loss, whole)) in outcome.losses.iter().zip(&expected.losses).enumerate() {
            let error = (loss - whole).abs() / whole;
            assert!(error <= 1e-5, "p={p} n={n} v={v}, step {step}: {loss} for {whole}");
        }
        assert!(outcome.gradients.keys().eq(expected.gradients.keys()), "p={p} n={n} v={v}");
        for (name, gradient) in &outcome.gradients {
            let whole = &expected.gradients[name];
            assert_eq!(gradient.len(), whole.len(), "{name}");
            let difference = gradient.iter().zip(whole).map(|(a, b)| f64::from(a - b));
            let error = norm(difference) / norm(whole.iter().map(|&x| f64::from(x)));
            assert!(error <= 1e-5, "p={p} n={n} v={v}: gradient of {name} is off by {error:.1e}");
        }
        let again = train(p, n, v, true).unwrap_or_else(|error| panic!("again: {error}"));
        assert_eq!(again, outcome, "p={p} n={n} v={v}, blocks made again");
    }
}

#[test]
fn the_example_runs_as_it_is() {
    own_model::main().unwrap();
}
