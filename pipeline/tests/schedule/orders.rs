//! Orders, bounds and errors of every schedule, and the verifier's verdict on them.

use std::collections::HashMap;

use crate::sample::{any_schedule, every_schedule, schedule};
use proptest::prelude::*;
use slimpipe_pipeline::schedule::{
    Action, Formulas, Schedule, ScheduleError, ScheduleKind, Unit, dump_order, verify,
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
fn sliced_baselines_run_their_published_orders() {
    let order = |kind, rank| dump_order(&schedule(kind, 2, 2, 2, 1), rank);
    let terapipe = "F0.0 F0.1 F1.0 F1.1 B1.1 B1.0 B0.1 B0.0";
    assert_eq!(order(ScheduleKind::TeraPipe, 0), terapipe);
    assert_eq!(order(ScheduleKind::TeraPipe, 1), terapipe);
    for kind in [ScheduleKind::Seq1F1B, ScheduleKind::Seq1F1BBalanced] {
        // n - 1 + p - 1 - r forwards before the first forward-backward pair.
        assert_eq!(order(kind, 0), "F0.0 F0.1 F1.0 B0.1 F1.1 B0.0 B1.1 B1.0");
        assert_eq!(order(kind, 1), "F0.0 F0.1 B0.1 F1.0 B0.0 F1.1 B1.1 B1.0");
    }
}

#[test]
fn split_backwards_run_their_published_orders() {
    let order = |kind, m, v, rank| dump_order(&schedule(kind, 2, 1, m, v), rank);
    // Rank r runs a weight part r microbatches after its input part.
    assert_eq!(order(ScheduleKind::ZbH1, 3, 1, 0), "F0.0 F1.0 B0.0 F2.0 B1.0 B2.0");
    assert_eq!(order(ScheduleKind::ZbH1, 3, 1, 1), "F0.0 I0.0 F1.0 I1.0 W0.0 F2.0 I2.0 W1.0 W2.0");
    assert_eq!(
        order(ScheduleKind::ZbV, 3, 2, 0),
        "F0.0:0 F1.0:0 F2.0:0 F0.0:1 I0.0:1 W0.0:1 F1.0:1 I1.0:1 W1.0:1 I0.0:0 W0.0:0 F2.0:1 \
         I2.0:1 W2.0:1 I1.0:0 W1.0:0 I2.0:0 W2.0:0"
    );
    assert_eq!(
        order(ScheduleKind::ZbV, 3, 2, 1),
        "F0.0:0 F0.0:1 F1.0:0 F1.0:1 I0.0:1 W0.0:1 F2.0:0 I0.0:0 W0.0:0 F2.0:1 I1.0:1 W1.0:1 \
         I1.0:0 I2.0:1 I2.0:0 W1.0:0 W2.0:1 W2.0:0"
    );
    // Slots 0, 4, 8 and 13 of every six, weight parts between them.
    assert_eq!(
        order(ScheduleKind::VHalf, 2, 2, 0),
        "F0.0:0 F0.0:1 F1.0:0 I0.0:1 W0.0:1 F1.0:1 I0.0:0 I1.0:1 W0.0:0 W1.0:1 I1.0:0 W1.0:0"
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
    for kind in [ScheduleKind::TeraPipe, ScheduleKind::Seq1F1B, ScheduleKind::Seq1F1BBalanced] {
        assert!(error(kind, 2, 4, 2, 2).contains("parallel.chunks to 1"));
    }
    assert!(error(ScheduleKind::ZbH1, 2, 1, 2, 2).contains("parallel.chunks to 1"));
    for kind in [ScheduleKind::ZbV, ScheduleKind::VHalf] {
        assert!(error(kind, 2, 1, 2, 1).contains("parallel.chunks to 2"));
        assert!(error(kind, 2, 4, 2, 2).contains("parallel.slices to 1"));
    }
    let slimpipe = ScheduleKind::SlimPipe;
    assert!(error(slimpipe, 60_000, 60_000, 1, 2).contains("parallel.pipeline times"));
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
    assert!(error("zero").contains("slimpipe, gpipe, 1f1b, interleaved-1f1b, terapipe"));
    assert!(error("zbv").contains("did you mean `zb-v`?"));
    assert!(error("Seq1F1B_balanced").contains("did you mean `seq1f1b-balanced`?"));
    assert!(error("ZB").contains("there are slimpipe") && !error("ZB").contains("did you mean"));
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
    // ZB-H1 and ZB-V as 1F1B; V-Half half of it and two of eight units.
    assert_eq!(factor(ScheduleKind::ZbH1, 1), 1.0);
    assert_eq!(factor(ScheduleKind::ZbV, 2), 1.0);
    assert_eq!(factor(ScheduleKind::VHalf, 2), 0.75);
    let factor = |kind| Formulas::of(&schedule(kind, 4, 12, 3, 1)).activation_factor;
    assert_eq!(factor(ScheduleKind::TeraPipe), 0.75);
    assert_eq!(factor(ScheduleKind::Seq1F1B), 0.3125);
}

/// Where the actions of one kind are in an order, by unit.
fn places(order: &[Action], unit: fn(&Action) -> Option<Unit>) -> HashMap<Unit, usize> {
    let places = order.iter().enumerate().filter_map(|(at, action)| Some((unit(action)?, at)));
    places.collect()
}

proptest! {
    #[test]
    fn every_unit_runs_forward_once_then_backward_once_whole_or_in_two_parts(
        schedule in any_schedule(),
    ) {
        for rank in 0..schedule.ranks() {
            let order: Vec<Action> = schedule.order(rank).collect();
            let forwards = places(&order, |action| match action {
                Action::Forward(unit) => Some(*unit),
                _ => None,
            });
            let inputs = places(&order, |action| match action {
                Action::Backward(unit) | Action::BackwardInput(unit) => Some(*unit),
                _ => None,
            });
            let weights = places(&order, |action| match action {
                Action::Backward(unit) | Action::BackwardWeight(unit) => Some(*unit),
                _ => None,
            });
            let units = schedule.units() as usize;
            let whole = order.iter().filter(|action| matches!(action, Action::Backward(_))).count();
            prop_assert_eq!(order.len(), whole * 2 + (units - whole) * 3);
            for found in [&forwards, &inputs, &weights] {
                prop_assert_eq!(found.len(), units);
            }
            for (unit, forward) in &forwards {
                prop_assert!(*forward < inputs[unit] && inputs[unit] <= weights[unit]);
            }
        }
    }

    #[test]
    fn all_ranks_run_the_units_of_a_chunk_in_the_same_two_orders(schedule in any_schedule()) {
        let orders = |rank| {
            let mut orders = vec![(Vec::new(), Vec::new()); schedule.chunks() as usize];
            for action in schedule.order(rank) {
                match action {
                    Action::Forward(unit) => orders[unit.chunk as usize].0.push(unit),
                    Action::Backward(unit) | Action::BackwardInput(unit) => {
                        orders[unit.chunk as usize].1.push(unit);
                    }
                    _ => {}
                }
            }
            orders
        };
        let first = orders(0);
        for rank in 1..schedule.ranks() {
            prop_assert_eq!(&orders(rank), &first);
        }
    }

    /// What the second extra unit per rank is for (reference 1.3).
    #[test]
    fn neighbouring_slimpipe_ranks_are_one_unit_apart_in_slots_of_the_same_kind(
        p in 2u32..6, n in 1u32..8, m in 2u32..5, v in 1u32..4,
    ) {
        let n = if v > 1 { n + p } else { n };
        let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v);
        let of = |rank, forward: bool| -> Vec<Action> {
            let order = schedule.order(rank);
            order.filter(|action| matches!(action, Action::Forward(_)) == forward).collect()
        };
        for rank in 1..p {
            let (forwards, backwards) = (of(rank, true), of(rank, false));
            let warm_up = schedule.in_flight_peak(rank - 1) as usize;
            let steady = forwards.len() - warm_up; // pairs until forwards are exhausted
            let slots = |rank| schedule.order(rank).skip(warm_up).take(2 * steady);
            for (i, (before, own)) in (0..).zip(slots(rank - 1).zip(slots(rank))) {
                let (pair, is_forward) = (i / 2, i % 2 == 1);
                let expected = if is_forward {
                    [forwards[warm_up + pair], forwards[warm_up + pair - 1]]
                } else {
                    [backwards[pair], backwards[pair + 1]]
                };
                prop_assert_eq!([before, own], expected);
            }
        }
    }
}
