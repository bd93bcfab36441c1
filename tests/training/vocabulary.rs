//! A vocabulary that all ranks share gives what whole tables on the first and the last rank do.

use proptest::prelude::*;
use slimpipe::allocator::Region;
use slimpipe::pipeline::execute::Work;
use slimpipe::prelude::*;
use slimpipe::train::model::Recompute;

use crate::equality::check;
use crate::support::{Layout, Outcome, Setup, is_same, run, train};

fn shared(kind: ScheduleKind, [p, n, m, v]: [u32; 4]) -> Layout {
    Layout { kind, vocabulary: true, ..Layout::slimpipe(p, n, m, v) }
}

fn slimpipe([p, n, m, v]: [u32; 4]) -> Layout {
    shared(ScheduleKind::SlimPipe, [p, n, m, v])
}

/// The size of a schedule that runs, nearest to the one asked for.
fn size(kind: ScheduleKind, [p, n, m, v]: [u32; 4]) -> [u32; 4] {
    match kind {
        ScheduleKind::SlimPipe if v == 1 => [p, n, m, 1],
        ScheduleKind::SlimPipe => [p, n.max(p), m, v],
        ScheduleKind::Interleaved => [p, 1, p * m.min(2), v],
        ScheduleKind::GPipe => [p, 1, m, 1],
        _ => [p, n, m, 1],
    }
}

/// A model and a layout that share the vocabulary: tied or not, any number of tokens, which need not
/// divide, and with whatever else a layout can have.
fn any_case() -> impl Strategy<Value = (Setup, Layout)> {
    use ScheduleKind::{GPipe, Interleaved, SlimPipe, TeraPipe};
    let kind =
        prop::sample::select(vec![SlimPipe, SlimPipe, SlimPipe, GPipe, Interleaved, TeraPipe]);
    let sizes = [1u32..=5, 1u32..=6, 1u32..=3, 1u32..=2];
    let model = (5usize..=70, any::<bool>(), 2usize..=4);
    let recompute = prop::sample::select(vec![Recompute::None, Recompute::Full]);
    let offload = prop::sample::select(vec![None, None, Some(0.5), Some(1.0)]);
    (kind, sizes, model, recompute, any::<bool>(), offload).prop_map(
        |(kind, sizes, (tokens, tied, slice_len), recompute, exchanges, offload)| {
            let [p, n, m, v] = size(kind, sizes);
            let mut setup = Setup::tiny();
            setup.model.num_hidden_layers = (p * v) as usize;
            (setup.model.vocab_size, setup.model.tie_word_embeddings) = (tokens, tied);
            (setup.seq_len, setup.steps) = (slice_len * n as usize, 2);
            let may_exchange = kind == SlimPipe && p > 1 && n >= p && slice_len > 1;
            let mut layout =
                Layout { recompute: [recompute; 2], offload, ..shared(kind, [p, n, m, v]) };
            if exchanges && may_exchange {
                layout.exchange = Exchange::Balanced;
            }
            (setup, layout)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_shared_vocabulary_trains_as_one_rank_in_one_piece_does((setup, layout) in any_case()) {
        check(&setup, [layout], 1e-5, 1e-5);
    }
}

#[test]
fn ten_steps_of_a_tied_and_an_untied_model_stay_together() {
    for tied in [false, true] {
        let mut setup = Setup::tiny();
        setup.model.tie_word_embeddings = tied;
        check(&setup, [[2, 4, 2, 1], [4, 8, 2, 1], [4, 8, 1, 2]].map(slimpipe), 1e-5, 1e-5);
    }
}

#[test]
fn bf16_losses_agree_within_a_hundredth() {
    let setup = Setup { steps: 5, ..Setup::tiny() };
    let layouts = [[2, 8, 2, 2], [4, 8, 2, 1]].map(slimpipe);
    let layouts = layouts.map(|layout| Layout { dtype: DType::BF16, ..layout });
    check(&setup, layouts, 1e-2, 0.2);
}

#[test]
fn results_are_bitwise_the_same_for_any_number_of_threads() {
    let mut setup = Setup { steps: 2, ..Setup::tiny() };
    for (tied, dtype) in [(false, DType::F32), (true, DType::F32), (false, DType::BF16)] {
        setup.model.tie_word_embeddings = tied;
        let outcome = |threads| train(&setup, Layout { threads, dtype, ..slimpipe([4, 8, 2, 2]) });
        let one = outcome(1);
        assert!([2, 3].into_iter().all(|threads| is_same(&outcome(threads), &one)));
    }
}

#[test]
fn every_rank_has_its_part_of_the_tables_and_the_ends_no_more() {
    let mut setup = Setup { steps: 2, ..Setup::tiny() };
    let (tokens, ranks) = (4099, 4);
    setup.model.vocab_size = tokens;
    // Weight, gradient and two moments in f32.
    let bytes = |rows: usize| (16 * rows * setup.model.hidden_size) as u64;
    for tied in [false, true] {
        setup.model.tie_word_embeddings = tied;
        let tables = if tied { 1 } else { 2 };
        let layout = slimpipe([ranks, 4, 2, 1]);
        let whole = train(&setup, Layout { vocabulary: false, ..layout });
        let parts = train(&setup, layout);
        let held = |outcome: &Outcome, rank: usize| {
            outcome.memory[rank].0.region(Region::Persistent).active.peak
        };
        // The two middle ranks have no table, and are otherwise alike.
        let layers = held(&whole, 1);
        let end = bytes(tokens) + layers;
        assert!((end..end + 4096).contains(&held(&whole, 0)), "{} for {end}", held(&whole, 0));
        for rank in 0..ranks as usize {
            let rows = tokens.div_ceil(ranks as usize);
            let expected = layers + tables * bytes(rows);
            let (found, slack) = (held(&parts, rank), 2 * bytes(1) + 4096);
            assert!(found.abs_diff(expected) <= slack, "rank {rank}: {found} for {expected}");
        }
    }
}

#[test]
fn no_rank_holds_more_than_its_logits_of_one_slice() {
    let mut setup = Setup { steps: 1, ..Setup::tiny() };
    (setup.model.vocab_size, setup.seq_len) = (16_384, 96);
    let (ranks, slices) = (4, 4);
    let outcome = train(&setup, slimpipe([ranks, slices, 1, 1]));
    let logits = (4 * (setup.seq_len as u32 / slices) as usize * setup.model.vocab_size
        / ranks as usize) as u64;
    for (rank, (stats, _)) in outcome.memory.iter().enumerate() {
        let temporaries = stats.region(Region::Transient).active.peak;
        // Nothing else here is near that size.
        assert!((logits..logits * 5 / 4).contains(&temporaries), "rank {rank}: {temporaries}");
    }
}

#[test]
fn a_step_gives_all_memory_back_and_no_allocation_departs_from_the_plan() {
    let mut setup = Setup::tiny();
    (setup.model.num_hidden_layers, setup.seq_len, setup.steps) = (16, 256, 2);
    for dtype in [DType::F32, DType::BF16] {
        for size in [[1, 4, 2, 1], [2, 4, 2, 2], [4, 8, 2, 1], [4, 16, 2, 2], [8, 16, 2, 1]] {
            let layout = Layout { dtype, ..slimpipe(size) };
            for (rank, (after, before)) in train(&setup, layout).memory.iter().enumerate() {
                let of = |what: &str| format!("{layout:?}, rank {rank}: {what}");
                let [now, then] = [after, before].map(|stats| stats.total.active.current);
                assert_eq!(now, then, "{}", of("active bytes"));
                assert_eq!(after.overflow_hits, 0, "{}", of("overflow hits"));
                let (reserved, active) = (after.total.reserved.peak, after.total.active.peak);
                assert!(
                    reserved as f64 <= 1.02 * active as f64 + 8.0 * 4096.0,
                    "{}",
                    of(&format!("reserved {reserved}, active {active}"))
                );
            }
        }
    }
}

#[test]
fn timelines_have_every_rank_work_on_every_slice_and_never_overlap() {
    let setup = Setup { steps: 1, ..Setup::tiny() };
    for spans in &train(&setup, slimpipe([4, 8, 2, 1])).timelines {
        assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let count = |is: fn(Work) -> bool| spans.iter().filter(|span| is(span.work)).count();
        // Its logits, and when the sums are known their gradient.
        assert_eq!(count(|work| matches!(work, Work::VocabHead(_))), 2 * 16);
        assert!(count(|work| matches!(work, Work::VocabEmbedBackward(_))) >= 16);
    }
}

#[test]
fn a_rank_that_fails_while_others_wait_for_it_ends_the_step_everywhere() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for (rank, nth) in [(0, 300), (1, 400), (2, 700), (3, 900), (0, 1100), (3, 1300)] {
        let layout = Layout { fail: Some((rank, nth)), ..slimpipe([4, 8, 2, 1]) };
        let error = run(&setup, layout).err().expect("an allocation fails").to_string();
        assert!(error.contains("made to fail by FailNth"), "{nth}: {error}");
    }
}

#[test]
fn what_cannot_share_is_refused_with_a_remedy() {
    let mut setup = Setup::tiny();
    let refusal = |setup: &Setup, layout| run(setup, layout).err().expect("refused").to_string();
    for kind in [ScheduleKind::OneFOneB, ScheduleKind::Seq1F1B] {
        let error = refusal(&setup, shared(kind, [2, 1, 2, 1]));
        assert!(error.contains("parallel.vocabulary") && error.contains("slimpipe"), "{error}");
    }
    setup.model.vocab_size = 3;
    let error = refusal(&setup, slimpipe([4, 4, 1, 1]));
    assert!(error.contains("3 tokens") && error.contains("4 ranks"), "{error}");
}
