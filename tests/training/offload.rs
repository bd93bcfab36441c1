//! Activations that wait in a second memory: the same results, bit for bit, for less of the first one.

use proptest::prelude::*;

use crate::support::{Layout, Outcome, Setup, relative, run};
use slimpipe::allocator::Region;
use slimpipe::prelude::*;
use slimpipe::train::model::Recompute;

fn train(setup: &Setup, layout: Layout) -> Outcome {
    let outcome = run(setup, layout).unwrap_or_else(|error| panic!("{layout:?}: {error}"));
    for (rank, (stats, before)) in outcome.memory.iter().enumerate() {
        assert_eq!(stats.overflow_hits, 0, "{layout:?}, rank {rank}");
        assert_eq!(stats.total.active.current, before.total.active.current, "{layout:?}");
        assert_eq!(stats.offloaded.current, 0, "{layout:?}, rank {rank}");
    }
    outcome
}

/// Trains with and without the second memory, and compares both with one rank in one piece.
fn check(layout: Layout) {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    let kept = train(&setup, Layout { offload: None, ..layout });
    let moved = train(&setup, layout);
    let bits = |outcome: &Outcome| -> Vec<u64> {
        outcome.losses.iter().map(|loss| loss.to_bits()).collect()
    };
    assert_eq!(bits(&moved), bits(&kept), "{layout:?}: losses");
    for (name, gradient) in &moved.gradients {
        assert!(kept.gradients[name] == *gradient, "{layout:?}: gradient of {name}");
    }
    if layout.dtype == DType::F32 {
        let whole = train(&setup, layout.reference());
        for (loss, expected) in moved.losses.iter().zip(&whole.losses) {
            assert!((loss - expected).abs() <= 1e-5 * expected, "{layout:?}: loss");
        }
        for (name, gradient) in &moved.gradients {
            let apart = relative(gradient, &whole.gradients[name]);
            assert!(apart <= 1e-5, "{layout:?}: {name} is off by {apart:.1e}");
        }
    }
    let travels = moved.memory.iter().any(|(stats, _)| stats.offloaded.peak > 0);
    let enough = moved.memory.iter().any(|(stats, _)| stats.units_in_flight.peak > 3);
    let some = layout.offload.is_some_and(|ratio| ratio > 0.3);
    assert!(travels || !enough || !some, "{layout:?}: nothing travelled");
}

fn any_layout() -> impl Strategy<Value = Layout> {
    use ScheduleKind::{
        GPipe, Interleaved, OneFOneB, Seq1F1B, Seq1F1BBalanced, SlimPipe, TeraPipe, ZbH1,
    };
    let kinds = [
        SlimPipe,
        SlimPipe,
        SlimPipe,
        SlimPipe,
        GPipe,
        TeraPipe,
        OneFOneB,
        Interleaved,
        Seq1F1B,
        Seq1F1BBalanced,
        ZbH1,
    ];
    let mode = prop::sample::select(Recompute::ALL.to_vec());
    let ratio = prop_oneof![Just(0.0), Just(0.5), Just(1.0), 0.0..=1.0];
    let size = (1u32..=2, 1u32..=2, 1u32..=4, 1u32..=2);
    let dtype = prop::sample::select(vec![DType::F32, DType::F32, DType::BF16]);
    let exchange = [Exchange::Off, Exchange::Off, Exchange::Paper, Exchange::Balanced];
    let exchange = prop::sample::select(exchange.to_vec());
    (prop::sample::select(kinds.to_vec()), size, mode.clone(), mode, ratio, dtype, exchange)
        .prop_map(|(kind, (p, n, m, v), even, odd, ratio, dtype, exchange)| {
            // Ranks 1, 2, 4; slices a multiple of them that divides the sequence; chunks and
            // microbatches that the schedule takes.
            let p = 1 << (p + m % 2 - 1);
            let (n, v) = match kind {
                SlimPipe => (if p == 1 { 2 * n } else { p * n }, v),
                TeraPipe | Seq1F1B => (4, 1),
                Seq1F1BBalanced => (5, 1),
                Interleaved => (1, 2),
                _ => (1, 1),
            };
            let m = if kind == Interleaved { m.next_multiple_of(p) } else { m };
            let exchange = if kind == SlimPipe && p > 1 { exchange } else { Exchange::Off };
            let (recompute, offload) = ([even, odd], Some(ratio));
            Layout { kind, recompute, offload, dtype, exchange, ..Layout::slimpipe(p, n, m, v) }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn losses_and_gradients_are_those_of_keeping_everything_with_recompute_and_exchange_or_without(
        layout in any_layout(),
    ) {
        check(layout);
    }
}

#[test]
fn the_peak_falls_to_three_units_and_what_does_not_travel() {
    let mut setup = Setup::tiny();
    setup.model.num_hidden_layers = 16;
    (setup.seq_len, setup.steps) = (256, 2);
    let (h, f) = (setup.model.hidden_size as f64, setup.model.intermediate_size as f64);
    let n = 8;
    for (p, v, recompute) in [
        (4, 1, Recompute::None),
        (4, 2, Recompute::None),
        (4, 1, Recompute::Partial),
        (2, 1, Recompute::Full),
    ] {
        let values = match recompute {
            Recompute::None => 4.0 * h + 2.0 * f + 6.0,
            Recompute::Partial => 4.0 * h + 5.0,
            Recompute::Full => h + 1.0,
        };
        // Bytes of a unit: its part of the layers' values, and its keys and values, which stay.
        let tokens = 4.0 * 16.0 * 256.0 / f64::from(p * n * v);
        let (slot, kv) = (tokens * values, tokens * h);
        let flying = f64::from(n * v + 2 * (p - 1));
        for ratio in [0.0, 0.5, 0.75, 1.0] {
            let mut layout = Layout::slimpipe(p, n, 2, v);
            (layout.recompute, layout.offload) = ([recompute; 2], Some(ratio));
            let stats = &train(&setup, layout).memory[0].0;
            let whole =
                |units: f64| flying * kv + units * slot + (flying - units) * (1.0 - ratio) * slot;
            // Token ids lie in slots too.
            let expected = whole(3.0) + 256.0 * 4.0;
            let measured = stats.activations.peak as f64;
            let what = format!("{recompute}, p={p} v={v}, {ratio}: {measured} for {expected}");
            assert!((measured / expected - 1.0).abs() < 0.02, "{what}");
            if ratio > 0.0 {
                assert!(measured < whole(4.0), "the paper's planner: {what}");
            }
            let committed = stats.region(Region::Slot).reserved.peak;
            let active = stats.region(Region::Slot).active.peak;
            assert!(committed <= active + active / 50 + 65_536, "{what}: {committed} committed");
        }
    }
}
