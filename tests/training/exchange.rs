//! Attention that ranks share gives what each attending for itself does.

use proptest::prelude::*;
use slimpipe::allocator::{MemoryStats, Region};
use slimpipe::pipeline::execute::Work;
use slimpipe::pipeline::schedule::{Action, Pass, Unit};
use slimpipe::prelude::*;
use slimpipe::train::model::Recompute;

use crate::equality::check;
use crate::support::{Layout, Setup, is_same, run, train};

const SHARED: [Exchange; 2] = [Exchange::Paper, Exchange::Balanced];

fn layout(exchange: Exchange, [p, n, m, v]: [u32; 4]) -> Layout {
    Layout { exchange, ..Layout::slimpipe(p, n, m, v) }
}

/// A model and a layout that can exchange: layers on every stage alike, slices of odd and even
/// lengths, all ways of sharing key heads, layers that are recomputed.
fn any_case() -> impl Strategy<Value = (Setup, Layout)> {
    let size = (2u32..=5, 0u32..5, 1u32..=3, 1u32..=2);
    let model = (1usize..=2, 2usize..=5, prop::sample::select(vec![1, 2, 4]));
    let mode = prop::sample::select(vec![Recompute::None, Recompute::Partial, Recompute::Full]);
    (size, model, prop::sample::select(SHARED.to_vec()), [mode.clone(), mode]).prop_map(
        |((p, more, m, v), (layers, slice_len, kv_heads), exchange, recompute)| {
            let mut setup = Setup::tiny();
            setup.model.num_hidden_layers = layers * (p * v) as usize;
            setup.model.num_key_value_heads = kv_heads;
            (setup.seq_len, setup.steps) = (slice_len * (p + more) as usize, 2);
            (setup, Layout { recompute, ..layout(exchange, [p, p + more, m, v]) })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn shared_attention_trains_as_one_rank_in_one_piece_does((setup, layout) in any_case()) {
        check(&setup, [layout], 1e-5, 1e-5);
    }
}

#[test]
fn bf16_losses_agree_within_a_hundredth() {
    let setup = Setup { steps: 3, ..Setup::tiny() };
    for size in [[2, 8, 2, 2], [4, 8, 2, 1]] {
        let layouts =
            SHARED.map(|exchange| Layout { dtype: DType::BF16, ..layout(exchange, size) });
        check(&setup, layouts, 1e-2, 0.2);
    }
}

#[test]
fn results_are_bitwise_the_same_for_any_number_of_threads() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for dtype in [DType::F32, DType::BF16] {
        for exchange in SHARED {
            let outcome = |threads| {
                let layout = layout(exchange, [4, 8, 2, 2]);
                train(&setup, Layout { threads, dtype, ..layout })
            };
            let one = outcome(1);
            assert!([2, 3].into_iter().all(|threads| is_same(&outcome(threads), &one)));
        }
    }
}

#[test]
fn a_step_gives_all_memory_back_and_no_allocation_departs_from_the_plan() {
    let mut setup = Setup::tiny();
    (setup.model.num_hidden_layers, setup.seq_len, setup.steps) = (16, 256, 2);
    for exchange in SHARED {
        for size in [[2, 4, 2, 2], [4, 8, 1, 1], [4, 16, 2, 2], [8, 16, 2, 1]] {
            let layout = layout(exchange, size);
            for (rank, (after, before)) in train(&setup, layout).memory.iter().enumerate() {
                let of = |what: &str| format!("{layout:?}, rank {rank}: {what}");
                let [after_bytes, before_bytes] = [after, before].map(|s| s.total.active.current);
                assert_eq!(after_bytes, before_bytes, "{}", of("active bytes"));
                assert_eq!(after.overflow_hits, 0, "{}", of("overflow hits"));
                assert!(after.region(Region::Comm).active.peak > 0, "{}", of("messages"));
            }
        }
    }
}

/// The most that messages of shared attention take on `rank`, in bytes: in each of two layers (what
/// comes of one may still be unread while the next is attended to) queries, output, its gradient and
/// the like, keys and values of four slices, and gradients of all keys and values that the rank
/// attends to along with one unit.
fn message_bytes(setup: &Setup, schedule: &Schedule, rank: u32) -> u64 {
    let rows = setup.seq_len as u32 / schedule.slices();
    let (mut most, mut now) = (0, 0);
    for action in schedule.program(rank) {
        match action {
            Action::Attend { part, .. } => now += part.len(),
            Action::Forward(_) | Action::Backward(_) | Action::Help(_) => {
                (most, now) = (most.max(now), 0);
            }
            _ => {}
        }
    }
    let of = |heads: usize| (heads * setup.model.head_dim * 4) as u64 * u64::from(rows);
    let (queries, keys) =
        (of(setup.model.num_attention_heads), of(setup.model.num_key_value_heads));
    2 * (8 * queries + 4 * 2 * keys + u64::from(most) * keys)
}

#[test]
fn activations_take_the_same_bytes_and_messages_those_of_a_few_slices() {
    let mut setup = Setup::tiny();
    (setup.model.num_hidden_layers, setup.seq_len, setup.steps) = (16, 256, 2);
    for size in [[4, 16, 2, 1], [8, 16, 2, 1], [4, 8, 2, 2]] {
        let off = train(&setup, layout(Exchange::Off, size));
        for exchange in SHARED {
            let layout = layout(exchange, size);
            let schedule = Schedule::new(layout.kind, size[0], size[1], size[2], size[3]).unwrap();
            let schedule = schedule.with_exchange(exchange).unwrap();
            let outcome = train(&setup, layout);
            for (rank, ((with, _), (without, _))) in
                (0..).zip(outcome.memory.iter().zip(&off.memory))
            {
                let of = |what: &str| format!("{layout:?}, rank {rank}: {what}");
                assert_eq!(with.activations.peak, without.activations.peak, "{}", of("saved"));
                let gradients = |of: &MemoryStats| of.region(Region::KvGrad).active.peak;
                assert_eq!(gradients(with), gradients(without), "{}", of("gradients of keys"));
                let messages = |of: &MemoryStats| of.region(Region::Comm).active.peak;
                let (found, before) = (messages(with), messages(without));
                let most = before + message_bytes(&setup, &schedule, rank);
                assert!(found <= most, "{}", of(&format!("messages: {found} for {most}")));
                let more = with.total.active.peak as f64 / without.total.active.peak as f64;
                assert!(more < 1.01, "{}", of(&format!("{more} times the memory")));
            }
        }
    }
}

#[test]
fn timelines_tell_what_was_done_for_others_and_never_overlap() {
    let setup = Setup { steps: 1, ..Setup::tiny() };
    let layers =
        |layout: Layout| setup.model.num_hidden_layers as u32 / layout.ranks / layout.chunks;
    for exchange in SHARED {
        let layout = layout(exchange, [4, 8, 2, 1]);
        let schedule = Schedule::new(layout.kind, 4, 8, 2, 1).unwrap();
        let schedule = schedule.with_exchange(exchange).unwrap();
        for (rank, spans) in train(&setup, layout).timelines.iter().enumerate() {
            assert!(spans.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert!(spans.iter().all(|span| span.start <= span.end));
            let attends = schedule.program(rank as u32).filter_map(|action| match action {
                Action::Attend { unit, pass, .. } => Some((pass, unit)),
                _ => None,
            });
            let mut expected: Vec<(Pass, Unit)> =
                attends.flat_map(|of| vec![of; layers(layout) as usize]).collect();
            let mut found: Vec<(Pass, Unit)> = spans
                .iter()
                .filter_map(|span| match span.work {
                    Work::AttendFor(unit, pass) => Some((pass, unit)),
                    _ => None,
                })
                .collect();
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "rank {rank}");
        }
    }
}

#[test]
fn a_rank_that_fails_while_others_wait_for_it_ends_the_step_everywhere() {
    let setup = Setup { steps: 2, ..Setup::tiny() };
    for nth in [400, 800, 1200, 1700, 2300] {
        let layout = Layout { fail: Some((1, nth)), ..layout(Exchange::Balanced, [4, 8, 2, 1]) };
        let error = run(&setup, layout).err().expect("an allocation fails").to_string();
        assert!(error.contains("made to fail by FailNth"), "{nth}: {error}");
    }
}

#[test]
fn what_cannot_exchange_is_refused_with_a_remedy() {
    let mut setup = Setup::tiny();
    let refusal = |setup: &Setup, size| {
        run(setup, layout(Exchange::Balanced, size)).err().expect("it must be refused").to_string()
    };
    let uneven = refusal(&setup, [3, 4, 1, 1]);
    assert!(uneven.contains("8 layers do not divide into 3 stages"), "{uneven}");
    setup.seq_len = 8;
    let short = refusal(&setup, [2, 8, 1, 1]);
    assert!(short.contains("have 1 tokens") && short.contains("parallel.exchange"), "{short}");
}
