//! Every schedule, however a model is dealt, gives the losses and gradients of one rank in one piece.

use crate::support::{Layout, Outcome, Setup, relative, run};
use slimpipe::prelude::*;

/// Compares losses of all steps and gradients of the first with the unsliced single-rank run.
pub fn check(
    setup: &Setup,
    layouts: impl IntoIterator<Item = Layout>,
    losses: f64,
    gradients: f64,
) {
    let mut references: Vec<(u32, Outcome)> = Vec::new();
    let mut count = 0;
    for layout in layouts {
        let sequences = layout.reference().microbatches;
        let known = references.iter().position(|(m, _)| *m == sequences);
        let index = known.unwrap_or_else(|| {
            references.push((sequences, run(setup, layout.reference()).unwrap()));
            references.len() - 1
        });
        let reference = &references[index].1;
        let outcome = run(setup, layout).unwrap_or_else(|error| panic!("{layout:?}: {error}"));
        for (step, (loss, expected)) in outcome.losses.iter().zip(&reference.losses).enumerate() {
            let error = (loss - expected).abs() / expected;
            assert!(
                error <= losses,
                "{layout:?}, step {step}: loss {loss} for {expected} ({error:.1e})"
            );
        }
        let names = |outcome: &Outcome| outcome.gradients.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&outcome), names(reference), "{layout:?}");
        for (name, gradient) in &outcome.gradients {
            let error = relative(gradient, &reference.gradients[name]);
            assert!(error <= gradients, "{layout:?}: gradient of {name} is off by {error:.1e}");
        }
        count += 1;
    }
    assert!(count > 0);
}

fn slimpipe_layouts() -> impl Iterator<Item = Layout> {
    let ranks = [1, 2, 4];
    ranks.into_iter().flat_map(|p| {
        [1, 2, 3, 4, 6, 8].into_iter().flat_map(move |n| {
            [1, 2]
                .into_iter()
                .filter(move |&v| v == 1 || n >= p)
                .flat_map(move |v| [1, 2, 3].into_iter().map(move |m| Layout::slimpipe(p, n, m, v)))
        })
    })
}

fn baseline_layouts() -> impl Iterator<Item = Layout> {
    use ScheduleKind::{GPipe, Interleaved, OneFOneB, ZbH1};
    [GPipe, OneFOneB, Interleaved, ZbH1].into_iter().flat_map(|kind| {
        [1, 2, 4].into_iter().flat_map(move |p| {
            let interleaved = kind == Interleaved;
            let chunks: &[u32] = if interleaved { &[1, 2] } else { &[1] };
            chunks.iter().flat_map(move |&v| {
                [1, 2, 3]
                    .into_iter()
                    .filter(move |m| !interleaved || m % p == 0)
                    .map(move |m| Layout { kind, ..Layout::slimpipe(p, 1, m, v) })
            })
        })
    })
}

fn sliced_layouts() -> impl Iterator<Item = Layout> {
    use ScheduleKind::{Seq1F1B, Seq1F1BBalanced, TeraPipe};
    [TeraPipe, Seq1F1B, Seq1F1BBalanced].into_iter().flat_map(|kind| {
        [1, 2, 4].into_iter().flat_map(move |p| {
            // 5 does not divide the sequence; only the balanced cut need not.
            let n = [1, 3, 4, 5, 8].into_iter();
            n.filter(move |n| *n != 5 || kind == Seq1F1BBalanced).flat_map(move |n| {
                [1, 2, 3].into_iter().map(move |m| Layout { kind, ..Layout::slimpipe(p, n, m, 1) })
            })
        })
    })
}

#[test]
fn slimpipe_trains_as_one_rank_in_one_piece_does() {
    check(&Setup::tiny(), slimpipe_layouts(), 1e-5, 1e-5);
}

#[test]
fn gpipe_1f1b_interleaved_and_zb_h1_train_as_one_rank_does() {
    check(&Setup::tiny(), baseline_layouts(), 1e-5, 1e-5);
}

#[test]
fn terapipe_and_seq1f1b_equal_and_balanced_train_as_one_rank_does() {
    check(&Setup::tiny(), sliced_layouts(), 1e-5, 1e-5);
}

#[test]
fn zb_h1_with_more_microbatches_than_ranks_trains_as_one_rank_does() {
    let layouts = [(2, 5), (4, 6)];
    let kind = ScheduleKind::ZbH1;
    let layouts = layouts.map(|(p, m)| Layout { kind, ..Layout::slimpipe(p, 1, m, 1) });
    check(&Setup::tiny(), layouts, 1e-5, 1e-5);
}

#[test]
fn interleaved_1f1b_with_four_microbatches_on_four_ranks_trains_as_one_rank_does() {
    let kind = ScheduleKind::Interleaved;
    check(
        &Setup::tiny(),
        [1, 2].map(|v| Layout { kind, ..Layout::slimpipe(4, 1, 4, v) }),
        1e-5,
        1e-5,
    );
}

#[test]
fn tied_embeddings_get_the_gradients_of_both_ends() {
    let mut setup = Setup::tiny();
    setup.model.tie_word_embeddings = true;
    setup.steps = 4;
    let layouts = [(1, 4, 1), (1, 4, 2), (2, 1, 1), (2, 6, 2), (4, 8, 1), (4, 8, 2)];
    check(&setup, layouts.map(|(p, n, v)| Layout::slimpipe(p, n, 2, v)), 1e-5, 1e-5);
    let kinds = [(ScheduleKind::ZbH1, 1), (ScheduleKind::Seq1F1BBalanced, 5)];
    let layouts = kinds.map(|(kind, n)| Layout { kind, ..Layout::slimpipe(2, n, 2, 1) });
    check(&setup, layouts, 1e-5, 1e-5);
    // Both ends' gradients meet in more than one message.
    (setup.model.vocab_size, setup.steps) = (20_000, 1);
    check(&setup, [Layout::slimpipe(2, 2, 1, 1)], 1e-5, 1e-5);
}

#[test]
fn bf16_losses_agree_within_a_hundredth() {
    let mut setup = Setup::tiny();
    setup.steps = 5;
    let other = [(ScheduleKind::ZbH1, 1), (ScheduleKind::Seq1F1BBalanced, 5)];
    let other = other.map(|(kind, n)| Layout { kind, ..Layout::slimpipe(4, n, 3, 1) });
    let layouts = slimpipe_layouts().chain(other);
    let layouts = layouts.map(|layout| Layout { dtype: DType::BF16, ..layout });
    check(&setup, layouts, 1e-2, 0.2);
}

#[test]
fn uneven_layers_are_dealt_and_train_alike() {
    let mut setup = Setup::tiny();
    (setup.model.num_hidden_layers, setup.steps) = (7, 3);
    let layouts = [(2, 4, 1), (4, 4, 1), (2, 4, 2), (3, 4, 2)];
    check(&setup, layouts.map(|(p, n, v)| Layout::slimpipe(p, n, 2, v)), 1e-5, 1e-5);
}

#[test]
fn results_are_bitwise_the_same_for_any_number_of_threads() {
    let setup = Setup { steps: 3, ..Setup::tiny() };
    for dtype in [DType::F32, DType::BF16] {
        for (p, n, v) in [(1, 1, 1), (2, 4, 2)] {
            let outcome = |threads| {
                run(&setup, Layout { threads, dtype, ..Layout::slimpipe(p, n, 2, v) }).unwrap()
            };
            let one = outcome(1);
            for threads in [2, 3] {
                let many = outcome(threads);
                let bits =
                    |o: &Outcome| -> Vec<u64> { o.losses.iter().map(|l| l.to_bits()).collect() };
                assert_eq!(bits(&many), bits(&one), "{dtype} p={p}: losses with {threads} threads");
                for (name, gradient) in &many.gradients {
                    let same = gradient
                        .iter()
                        .zip(&one.gradients[name])
                        .all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{dtype} p={p}: gradient of {name} with {threads} threads");
                }
            }
        }
    }
}
