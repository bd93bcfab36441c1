//! Pipelines side by side, which divide a step's sequences and share the optimizer's state, train as one
//! rank does on all of them.

use proptest::prelude::*;
use slimpipe::allocator::Region;
use slimpipe::pipeline::execute::Work;
use slimpipe::pipeline::schedule::Weights;
use slimpipe::prelude::*;
use slimpipe::train::model::Recompute;

use crate::equality::check;
use crate::support::{Layout, Setup, is_same, run, train};

fn data(d: u32, [p, n, m, v]: [u32; 4]) -> Layout {
    Layout { data: d, ..Layout::slimpipe(p, n, m, v) }
}

/// Any schedule that ranks run, on up to eight ranks in all, with whatever else a layout can have.
fn any_case() -> impl Strategy<Value = (Setup, Layout)> {
    use ScheduleKind::{
        GPipe, Interleaved, OneFOneB, Seq1F1B, Seq1F1BBalanced, SlimPipe, TeraPipe, ZbH1,
    };
    let kinds = vec![
        SlimPipe,
        SlimPipe,
        SlimPipe,
        GPipe,
        Interleaved,
        OneFOneB,
        Seq1F1B,
        Seq1F1BBalanced,
        TeraPipe,
        ZbH1,
    ];
    let kind = prop::sample::select(kinds);
    let (ranks, sizes) = ((2u32..=4, 1u32..=3), [1u32..=5, 1u32..=2, 1u32..=2]);
    let mode =
        (any::<bool>(), any::<bool>(), any::<bool>(), prop::sample::select(vec![None, Some(0.7)]));
    (kind, ranks, sizes, mode).prop_map(|(kind, (d, p), [n, m, v], mode)| {
        let (tied, shares, recomputes, offload) = mode;
        let p = if d * p > 8 { 2 } else { p };
        let [n, m, v] = match kind {
            SlimPipe if v == 2 => [n.max(p), m, 2],
            SlimPipe | TeraPipe | Seq1F1B | Seq1F1BBalanced => [n, m, 1],
            Interleaved => [1, p * m, v],
            _ => [1, m, 1],
        };
        let mut setup = Setup::tiny();
        setup.model.num_hidden_layers = (p * v) as usize;
        setup.model.tie_word_embeddings = tied;
        (setup.seq_len, setup.steps) = (3 * n as usize, 2);
        let mut layout = Layout { kind, offload, ..data(d, [p, n, m, v]) };
        let can_share = matches!(kind, SlimPipe | TeraPipe | GPipe | Interleaved);
        layout.vocabulary = shares && can_share;
        if shares && kind == SlimPipe && n >= p && p > 1 {
            layout.exchange = Exchange::Balanced;
        }
        if recomputes {
            layout.recompute = [Recompute::Full; 2];
        }
        (setup, layout)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn data_ranks_train_as_one_rank_in_one_piece_does((setup, layout) in any_case()) {
        check(&setup, [layout], 1e-5, 1e-5);
    }
}

#[test]
fn ten_steps_stay_together() {
    for tied in [false, true] {
        let mut setup = Setup::tiny();
        setup.model.tie_word_embeddings = tied;
        let layouts = [(2, [2, 4, 1, 1]), (3, [1, 1, 1, 1]), (2, [2, 4, 2, 2]), (4, [1, 2, 1, 2])];
        check(&setup, layouts.map(|(d, size)| data(d, size)), 1e-5, 1e-5);
    }
}

#[test]
fn bf16_losses_agree_within_a_hundredth() {
    let setup = Setup { steps: 5, ..Setup::tiny() };
    let layouts = [(2, [2, 4, 1, 1]), (3, [1, 2, 1, 1])].map(|(d, size)| data(d, size));
    check(&setup, layouts.map(|layout| Layout { dtype: DType::BF16, ..layout }), 1e-2, 0.2);
}

#[test]
fn results_are_bitwise_the_same_for_any_number_of_threads() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for dtype in [DType::F32, DType::BF16] {
        let outcome = |threads| train(&setup, Layout { threads, dtype, ..data(2, [2, 4, 2, 1]) });
        let one = outcome(1);
        assert!([2, 3].into_iter().all(|threads| is_same(&outcome(threads), &one)));
    }
}

#[test]
fn every_data_rank_has_its_share_of_the_optimizers_state_and_a_step_takes_nothing_more() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for (dtype, each, once) in [(DType::F32, 8, 8), (DType::BF16, 6, 12)] {
        for p in [1, 2] {
            let held = |d: u32| {
                let memory = train(&setup, Layout { dtype, ..data(d, [p, 4, 2, 1]) }).memory;
                for (rank, (after, before)) in memory.iter().enumerate() {
                    let [now, then] = [after, before].map(|stats| stats.total.active.current);
                    assert_eq!(now, then, "{dtype}, {d} x {p}, rank {rank}: active bytes");
                    assert_eq!(after.overflow_hits, 0, "{dtype}, {d} x {p}, rank {rank}");
                }
                memory.iter().map(|(stats, _)| stats.region(Region::Persistent).active.peak).max()
            };
            let alone = held(1).unwrap() as f64;
            for d in [2, 4] {
                // Weights and gradients are on every rank, moments and masters once.
                let expected = alone * (f64::from(each) + f64::from(once) / f64::from(d))
                    / f64::from(each + once);
                let off = held(d).unwrap() as f64 / expected - 1.0;
                // Blocks begin at multiples of 256 bytes, and the parameters here are small.
                assert!((-0.001..0.05).contains(&off), "{dtype}, {d} x {p}: {off:.3}");
            }
        }
    }
}

#[test]
fn every_step_reduces_each_chunks_gradients_once_and_gathers_its_weights_once() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    let layout = Layout { vocabulary: true, ..data(2, [2, 4, 1, 2]) };
    for spans in train(&setup, layout).timelines {
        let of = |weights| {
            let at = |work| {
                let all: Vec<_> = spans.iter().filter(|span| span.work == work).collect();
                assert_eq!(all.len(), 1, "{work:?}");
                all[0]
            };
            (at(Work::ReduceGradients(weights)), at(Work::GatherWeights(weights)))
        };
        for weights in [Weights::Chunk(0), Weights::Chunk(1), Weights::Vocabulary] {
            let (reduce, gather) = of(weights);
            assert!(reduce.end <= gather.start, "{weights}");
        }
        // The last chunk's backward ends first, and what is reduced goes in that order.
        assert!(of(Weights::Chunk(1)).0.end <= of(Weights::Chunk(0)).0.start);
    }
}

#[test]
fn a_rank_that_fails_while_others_wait_for_it_ends_the_step_everywhere() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for (rank, nth) in [(0, 300), (1, 500), (2, 700), (3, 900), (1, 1100), (2, 1150)] {
        let layout = Layout { fail: Some((rank, nth)), ..data(2, [2, 8, 2, 1]) };
        let error = run(&setup, layout).err().expect("an allocation fails").to_string();
        assert!(error.contains("made to fail by FailNth"), "{nth}: {error}");
    }
}
