//! Layers that are made again in backward: the same results, bit for bit, for the memory that the
//! formulas say.

use std::time::Instant;

use crate::support::{Layout, Outcome, Setup, relative, run};
use slimpipe::allocator::Region;
use slimpipe::prelude::*;
use slimpipe::train::Error;
use slimpipe::train::model::{LlamaStage, Recompute, Source};

use Recompute::{Full, None, Partial};

fn train(setup: &Setup, layout: Layout) -> Outcome {
    run(setup, layout).unwrap_or_else(|error| panic!("{layout:?}: {error}"))
}

/// Compares with the same layout that keeps everything, bit for bit.
fn check_bits(setup: &Setup, layout: Layout, kept: &Outcome) {
    let outcome = train(setup, layout);
    let bits = |outcome: &Outcome| -> Vec<u64> {
        outcome.losses.iter().map(|loss| loss.to_bits()).collect()
    };
    assert_eq!(bits(&outcome), bits(kept), "{layout:?}: losses");
    for (name, gradient) in &outcome.gradients {
        assert!(kept.gradients[name] == *gradient, "{layout:?}: gradient of {name}");
    }
    for (rank, (stats, before)) in outcome.memory.iter().enumerate() {
        assert_eq!(stats.overflow_hits, 0, "{layout:?}, rank {rank}");
        assert_eq!(stats.total.active.current, before.total.active.current, "{layout:?}");
    }
}

#[test]
fn losses_and_gradients_are_those_of_keeping_everything_bit_for_bit() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for (p, n, m, v) in [
        (1, 1, 1, 1),
        (1, 4, 2, 2),
        (2, 1, 2, 1),
        (2, 6, 1, 2),
        (2, 4, 3, 2),
        (4, 8, 1, 1),
        (4, 4, 2, 2),
        (4, 8, 3, 1),
    ] {
        for dtype in [DType::F32, DType::BF16] {
            let layout = Layout { dtype, ..Layout::slimpipe(p, n, m, v) };
            let kept = train(&setup, layout);
            if dtype == DType::F32 {
                let whole = train(&setup, layout.reference());
                for (loss, expected) in kept.losses.iter().zip(&whole.losses) {
                    assert!((loss - expected).abs() <= 1e-5 * expected, "{layout:?}");
                }
                for (name, gradient) in &kept.gradients {
                    let apart = relative(gradient, &whole.gradients[name]);
                    assert!(apart <= 1e-5, "{layout:?}: {name} is off by {apart:.1e}");
                }
            }
            for recompute in [[Partial; 2], [Full; 2], [Full, None]] {
                check_bits(&setup, Layout { recompute, ..layout }, &kept);
            }
        }
    }
}

#[test]
fn baseline_schedules_recompute_too() {
    use ScheduleKind::{GPipe, Interleaved, OneFOneB, Seq1F1B, Seq1F1BBalanced, ZbH1};
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for (kind, n, v) in [
        (GPipe, 1, 1),
        (OneFOneB, 1, 1),
        (Interleaved, 1, 2),
        (Seq1F1B, 4, 1),
        (Seq1F1BBalanced, 5, 1),
        (ZbH1, 1, 1),
    ] {
        let layout = Layout { kind, ..Layout::slimpipe(2, n, 2, v) };
        let kept = train(&setup, layout);
        for recompute in [[Partial; 2], [Full; 2]] {
            check_bits(&setup, Layout { recompute, ..layout }, &kept);
        }
    }
}

/// Bytes that a unit of a model of `layers` layers holds: its slot, its keys and values.
fn planned(setup: &Setup, layers: usize, dtype: DType, recompute: Recompute) -> [u64; 2] {
    let mut model = setup.model.clone();
    model.num_hidden_layers = layers;
    let schedule = Schedule::new(ScheduleKind::SlimPipe, 1, 2, 1, 1).unwrap();
    let plans = launch(1, schedule.channel_capacity(), |comm| {
        let memory = Memory::builder(0).build();
        let build = |spec: &StageSpec| {
            let stage = LlamaStage::new(&model, spec, &Source::Random(3), dtype)?;
            Ok::<_, Error>(stage.recompute(|_| recompute))
        };
        let size = (layers, Slices::equal(setup.seq_len, 2)?);
        Pipeline::new(
            schedule.clone(),
            Box::new(comm),
            memory.clone(),
            size,
            Instant::now(),
            build,
        )?;
        Ok::<_, Error>(memory.plan(0, 0).unwrap())
    })
    .unwrap();
    [Region::Slot, Region::Kv].map(|region| plans[0].bytes(region))
}

#[test]
fn a_layers_slot_is_what_the_formulas_say() {
    let mut setup = Setup::tiny();
    setup.seq_len = 128; // 64 tokens a slice: no tensor is rounded up
    for kv_heads in [4, 2, 1] {
        setup.model.num_key_value_heads = kv_heads;
        let (h, f) = (setup.model.hidden_size, setup.model.intermediate_size);
        let (heads, tokens) = (setup.model.num_attention_heads, setup.seq_len / 2);
        let h_kv = h * kv_heads / heads;
        for dtype in [DType::BF16, DType::F32] {
            for (recompute, saved, statistics) in [
                // Values per token, as bytes of bf16: 8h + 4f, 8h, 2h. Statistics per token: of both
                // norms and, by head, of attention; the second norm and attention are made again.
                (None, 4 * h + 2 * f, 2 + heads),
                (Partial, 4 * h, 1 + heads),
                (Full, h, 1),
            ] {
                let of = |layers| planned(&setup, layers, dtype, recompute);
                let (more, less) = (of(5), of(2));
                let [slot, kv] = [0, 1].map(|i| (more[i] - less[i]) as usize);
                let of = format!("{recompute}, {dtype}, {kv_heads} kv heads");
                let expected = tokens * (saved * dtype.size() + 4 * statistics);
                assert_eq!(slot, 3 * expected, "slot: {of}");
                assert_eq!(kv, 3 * tokens * 2 * h_kv * dtype.size(), "keys and values: {of}");
            }
        }
    }
}

#[test]
fn activations_of_the_first_rank_fall_with_what_is_kept() {
    let mut setup = Setup::tiny();
    setup.model.num_hidden_layers = 16;
    (setup.seq_len, setup.steps) = (256, 1);
    let (h, f) = (setup.model.hidden_size as f64, setup.model.intermediate_size as f64);
    let h_kv = h / 2.0;
    for (p, v) in [(1, 1), (4, 1), (4, 2)] {
        let n = 8;
        let peak = |recompute| {
            let layout = Layout::slimpipe(p, n, 2, v);
            train(&setup, Layout { recompute: [recompute; 2], ..layout }).memory[0].0.activations
        };
        for (recompute, values, statistics) in
            [(None, 4.0 * h + 2.0 * f, 6.0), (Partial, 4.0 * h, 5.0), (Full, h, 1.0)]
        {
            let m_a = 4.0 * 16.0 * 256.0 * (values + 2.0 * h_kv + statistics);
            let (p, nv) = (f64::from(p), f64::from(n * v));
            let expected = m_a / p * (1.0 + 2.0 * (p - 1.0) / nv);
            let measured = peak(recompute).peak as f64;
            // Beyond the layers: token ids, and on one rank what the head's norm and the loss keep.
            let more = 256.0 * (4.0 + 2.0 * 4.0 * h + 4.0);
            assert!(
                (expected..=expected + more).contains(&measured),
                "{recompute}, p={p} v={v}: {measured} bytes for {expected}"
            );
        }
    }
}
