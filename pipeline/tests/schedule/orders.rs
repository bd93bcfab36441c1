//! Orders, bounds and errors of every schedule, and the verifier's verdict on them.

use crate::sample::{any_schedule, every_schedule, schedule};
use proptest::prelude::*;
use slimpipe_pipeline::schedule::{
    Action, Formulas, Schedule, ScheduleError, ScheduleKind, dump_order, verify,
};

fn order(p: u32, n: u32, m: u32, v: u32, rank: u32) -> String {
    dump_order(&schedule(ScheduleKind::SlimPipe, p, n, m, v), rank)
}

#[test]
fn slimpipe_reproduces_the_golden_orders() {
    assert_eq!(order(2, 2, 2, 1, 0), "F0.0 F0.1 F1.0 F1.1 B0.1 B0.0 B1.1 B1.0");
    assert_eq!(order(2, 2, 2, 1, 1), "F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 B1.1 B1.0");
    assert_eq!(
        order(4, 4, 2, 1, 2),
        "F0.0 F0.1 F0.2 F0.3 F1.0 F1.1 B0.3 F1.2 B0.2 F1.3 B0.1 B0.0 B1.3 B1.2 B1.1 B1.0"
    );
    assert_eq!(
        order(4, 4, 2, 1, 3),
        "F0.0 F0.1 F0.2 F0.3 B0.3 F1.0 B0.2 F1.1 B0.1 F1.2 B0.0 F1.3 B1.3 B1.2 B1.1 B1.0"
    );
    assert_eq!(
        order(2, 4, 2, 2, 1),
        "F0.0:0 F0.1:0 F0.0:1 F0.1:1 F0.2:0 F0.3:0 F0.2:1 F0.3:1 B0.3:1 F1.0:0 B0.2:1 F1.1:0 \
         B0.3:0 F1.0:1 B0.2:0 F1.1:1 B0.1:1 F1.2:0 B0.0:1 F1.3:0 B0.1:0 F1.2:1 B0.0:0 F1.3:1 \
         B1.3:1 B1.2:1 B1.3:0 B1.2:0 B1.1:1 B1.0:1 B1.1:0 B1.0:0"
    );
}

#[test]
fn one_microbatch_runs_all_forwards_first() {
    assert_eq!(order(2, 3, 1, 1, 0), "F0.0 F0.1 F0.2 B0.2 B0.1 B0.0");
    assert_eq!(order(2, 3, 1, 1, 1), "F0.0 F0.1 F0.2 B0.2 B0.1 B0.0");
}

#[test]
fn slices_that_no_group_of_p_divides_pass_in_the_smallest_group_that_does() {
    // n = 9 on 2 ranks goes in groups of 3; n = 5 in one of 5.
    assert!(order(2, 9, 1, 2, 0).starts_with("F0.0:0 F0.1:0 F0.2:0 F0.0:1 F0.1:1 F0.2:1 F0.3:0"));
    assert!(order(2, 5, 1, 2, 0).starts_with("F0.0:0 F0.1:0 F0.2:0 F0.3:0 F0.4:0 F0.0:1"));
}

#[test]
fn baselines_run_their_published_orders() {
    let order = |kind, m, v, rank| dump_order(&schedule(kind, 2, 1, m, v), rank);
    assert_eq!(order(ScheduleKind::GPipe, 3, 1, 1), "F0.0 F1.0 F2.0 B2.0 B1.0 B0.0");
    assert_eq!(order(ScheduleKind::OneFOneB, 3, 1, 0), "F0.0 F1.0 B0.0 F2.0 B1.0 B2.0");
    assert_eq!(order(ScheduleKind::OneFOneB, 3, 1, 1), "F0.0 B0.0 F1.0 B1.0 F2.0 B2.0");
    // Megatron-LM: 2 (p - 1 - r) + (v - 1) p forwards before the first forward-backward pair.
    assert_eq!(
        order(ScheduleKind::Interleaved, 2, 2, 0),
        "F0.0:0 F1.0:0 F0.0:1 F1.0:1 B0.0:1 B1.0:1 B0.0:0 B1.0:0"
    );
    assert_eq!(
        order(ScheduleKind::Interleaved, 2, 2, 1),
        "F0.0:0 F1.0:0 F0.0:1 B0.0:1 F1.0:1 B1.0:1 B0.0:0 B1.0:0"
    );
}

#[test]
fn every_combination_verifies_with_the_room_it_asks_for_and_no_less() {
    for schedule in every_schedule() {
        let capacity = schedule.channel_capacity();
        for capacity in [capacity, capacity + 1] {
            let report =
                verify(&schedule, capacity).unwrap_or_else(|e| panic!("{schedule:?}: {e}"));
            assert!(report.channel_peak <= capacity);
            let peaks: Vec<u64> =
                (0..schedule.ranks()).map(|rank| schedule.in_flight_peak(rank)).collect();
            assert_eq!(report.in_flight_peak, peaks, "{schedule:?}");
        }
        if capacity > 1 && schedule.microbatches() > 1 {
            let verdict = verify(&schedule, capacity - 1);
            assert!(matches!(verdict, Err(ScheduleError::Deadlock { .. })), "{schedule:?}");
        }
    }
}

#[test]
fn slimpipe_holds_one_microbatch_and_two_units_per_rank_behind() {
    for p in 1..=6 {
        for (n, m, v) in [(1, 1, 1), (5, 1, 1), (3, 4, 1), (6, 1, 2), (6, 3, 4), (12, 2, 3)] {
            let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v);
            let peaks = verify(&schedule, schedule.channel_capacity()).unwrap().in_flight_peak;
            for (rank, &peak) in peaks.iter().enumerate() {
                let [n, m, v, behind] = [n, m, v, p - 1 - rank as u32].map(u64::from);
                assert_eq!(peak, (n * v + 2 * behind).min(m * n * v));
            }
        }
    }
}

#[test]
fn one_chunk_takes_any_number_of_slices_and_several_need_one_per_rank() {
    let slimpipe = |p, n, v| Schedule::new(ScheduleKind::SlimPipe, p, n, 2, v);
    assert!((1..20).all(|n| slimpipe(4, n, 1).is_ok()));
    assert!((4..20).all(|n| slimpipe(4, n, 2).is_ok()));
    for n in 1..4 {
        let error = slimpipe(4, n, 2).unwrap_err().to_string();
        assert!(error.contains("parallel.slices") && error.contains("parallel.chunks"), "{error}");
    }
}

#[test]
fn settings_that_a_schedule_cannot_run_are_named() {
    let error = |kind, p, n, m, v| Schedule::new(kind, p, n, m, v).unwrap_err().to_string();
    let text = error(ScheduleKind::Interleaved, 4, 1, 6, 2);
    assert!(text.contains("train.microbatches") && text.contains("parallel.pipeline"), "{text}");
    for kind in [ScheduleKind::GPipe, ScheduleKind::OneFOneB, ScheduleKind::Interleaved] {
        assert!(error(kind, 2, 4, 2, 1).contains("parallel.slices"));
    }
    for kind in [ScheduleKind::GPipe, ScheduleKind::OneFOneB] {
        assert!(error(kind, 2, 1, 2, 2).contains("parallel.chunks"));
    }
    let slimpipe = ScheduleKind::SlimPipe;
    assert!(error(slimpipe, 0, 1, 1, 1).contains("parallel.pipeline is 0"));
    assert!(error(slimpipe, 1, 0, 1, 1).contains("parallel.slices is 0"));
    assert!(error(slimpipe, 1, 1, 0, 1).contains("train.microbatches is 0"));
    assert!(error(slimpipe, 1, 1, 1, 0).contains("parallel.chunks is 0"));
    assert!(error(slimpipe, 1, u32::MAX, 1, 1).contains("at most 65535"));
}

#[test]
fn names_are_read_back_and_near_misses_get_a_suggestion() {
    for kind in ScheduleKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    let error = |name: &str| name.parse::<ScheduleKind>().unwrap_err().to_string();
    assert!(error("SlimPipe").contains("did you mean `slimpipe`?"));
    assert!(error("interleaved").contains("did you mean `interleaved-1f1b`?"));
    assert!(error("zero").contains("slimpipe, gpipe, 1f1b, interleaved-1f1b"));
}

#[test]
fn formulas_give_the_published_activation_factors() {
    let factor = |p, n, v| Formulas::of(&schedule(ScheduleKind::SlimPipe, p, n, 4, v));
    // Reference 1.5: n = 4p at p = 2, 4, 8, 16, with one chunk and with five.
    for (p, one, five) in
        [(2, 0.625, 0.525), (4, 0.344, 0.269), (8, 0.180, 0.136), (16, 0.092, 0.068)]
    {
        assert!((factor(p, 4 * p, 1).activation_factor - one).abs() < 6e-4);
        assert!((factor(p, 4 * p, 5).activation_factor - five).abs() < 6e-4);
    }
    // 1F1B holds one whole microbatch on rank 0, GPipe m / p, interleaved 1 + (p - 1) / (p v).
    let factor = |kind, v| Formulas::of(&schedule(kind, 4, 1, 8, v)).activation_factor;
    assert_eq!(factor(ScheduleKind::OneFOneB, 1), 1.0);
    assert_eq!(factor(ScheduleKind::GPipe, 1), 2.0);
    assert_eq!(factor(ScheduleKind::Interleaved, 3), 1.25);
}

proptest! {
    #[test]
    fn every_unit_runs_forward_once_then_backward_once(schedule in any_schedule()) {
        for rank in 0..schedule.ranks() {
            let order: Vec<Action> = schedule.order(rank).collect();
            prop_assert_eq!(order.len() as u64, 2 * schedule.units());
            let at = |action| order.iter().position(|slot| *slot == action);
            for k in 0..schedule.units() {
                let unit = schedule.forward(k);
                let (forward, backward) = (at(Action::Forward(unit)), at(Action::Backward(unit)));
                prop_assert!(forward.is_some() && forward < backward);
            }
        }
    }

    #[test]
    fn all_ranks_run_the_units_in_the_same_two_orders(schedule in any_schedule()) {
        for rank in 0..schedule.ranks() {
            let (forwards, backwards): (Vec<_>, Vec<_>) =
                schedule.order(rank).partition(|slot| matches!(slot, Action::Forward(_)));
            let units = 0..schedule.units();
            let expected = units.clone().map(|k| Action::Forward(schedule.forward(k)));
            prop_assert!(forwards.into_iter().eq(expected));
            prop_assert!(backwards.into_iter().eq(units.map(|k| Action::Backward(schedule.backward(k)))));
        }
    }

    /// What the second extra unit per rank is for (reference 1.3).
    #[test]
    fn neighbouring_slimpipe_ranks_are_one_unit_apart_in_slots_of_the_same_kind(
        p in 2u32..6, n in 1u32..8, m in 2u32..5, v in 1u32..4,
    ) {
        let n = if v > 1 { n + p } else { n };
        let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v);
        for rank in 1..p {
            let warm_up = schedule.in_flight_peak(rank - 1);
            let steady = schedule.units() - warm_up; // pairs until forwards are exhausted
            let slots = |rank| schedule.order(rank).skip(warm_up as usize).take(2 * steady as usize);
            for (i, (before, own)) in (0..).zip(slots(rank - 1).zip(slots(rank))) {
                let (pair, is_forward) = (i / 2, i % 2 == 1);
                let expected = if is_forward {
                    [warm_up + pair, warm_up + pair - 1].map(|k| Action::Forward(schedule.forward(k)))
                } else {
                    [pair, pair + 1].map(|k| Action::Backward(schedule.backward(k)))
                };
                prop_assert_eq!([before, own], expected);
            }
        }
    }
}
