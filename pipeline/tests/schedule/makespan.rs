//! Schedules in time: units of equal cost, free messages, channels of bounded room.

use crate::sample::{every_schedule, schedule};
use slimpipe_pipeline::schedule::{Action, Formulas, Schedule, ScheduleKind, Unit, verify};
use slimpipe_pipeline::simulate::{
    Category, Costs, Equal, Held, Link, Outcome, Span, simulate, simulate_programs,
};

const COSTS: Equal = Equal { forward: 1.0, backward: 2.0 };

fn simulated(schedule: &Schedule) -> Outcome {
    simulate(schedule, &COSTS).unwrap_or_else(|error| panic!("{schedule:?}: {error}"))
}

fn work(schedule: &Schedule) -> f64 {
    schedule.units() as f64 * (COSTS.forward + COSTS.backward)
}

#[test]
fn idle_time_is_exactly_the_formula_with_the_least_room_for_messages() {
    for schedule in every_schedule() {
        let found = simulated(&schedule);
        let expected = Formulas::of(&schedule).bubble_fraction;
        assert!((found.bubble() - expected).abs() < 1e-12, "{schedule:?}: {}", found.bubble());
        assert!(found.ranks.iter().all(|rank| rank.busy == work(&schedule)), "{schedule:?}");
    }
}

#[test]
fn simulated_units_in_flight_are_the_verified_ones() {
    for schedule in every_schedule() {
        let verified = verify(&schedule, schedule.channel_capacity()).unwrap().in_flight_peak;
        let found = simulated(&schedule).ranks;
        let found: Vec<u64> = found.iter().map(|rank| rank.in_flight_peak).collect();
        assert_eq!(found, verified, "{schedule:?}");
    }
}

/// [`COSTS`], and this many seconds to reduce the gradients of a chunk.
struct Reducing(f64);

impl Costs for Reducing {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        COSTS.seconds(rank, action)
    }

    fn link(&self, _: u32, _: u32, action: Action) -> Link {
        let reduces = matches!(action, Action::ReduceGradients(_));
        Link { occupied: if reduces { self.0 } else { 0.0 }, ..Link::default() }
    }
}

#[test]
fn reductions_over_data_ranks_go_on_beside_later_backwards() {
    for (p, n, m, v) in [(1, 4, 1, 1), (1, 4, 2, 3), (2, 4, 2, 2), (4, 8, 2, 3)] {
        let alone = simulated(&schedule(ScheduleKind::SlimPipe, p, n, m, v)).makespan;
        let schedule = schedule(ScheduleKind::SlimPipe, p, n, m, v).with_data_ranks(2).unwrap();
        // Only that of the last chunk of rank 0 is seen, as long as one is shorter than a backward.
        let found = simulate(&schedule, &Reducing(1.5)).unwrap().makespan;
        assert_eq!(found, alone + 1.5, "{schedule:?}");
        let slow = simulate(&schedule, &Reducing(100.0)).unwrap().makespan;
        assert!(slow <= alone + 100.0 * f64::from(v), "{schedule:?}: {slow}");
    }
}

/// Units take longer on rank 1 than on rank 0. A forward leaves 100 bytes until its backward ends, and
/// needs 7 more; its message is 10.
struct SlowSecond;

impl Costs for SlowSecond {
    fn seconds(&self, rank: u32, action: Action) -> f64 {
        if rank == 0 { COSTS.seconds(rank, action) } else { 3.0 * COSTS.seconds(rank, action) }
    }

    fn message(&self, _: u32, action: Action) -> Held {
        let sends = matches!(action, Action::SendActivation { .. });
        Held::of(Category::Transient, if sends { 10 } else { 0 })
    }

    fn resident(&self, _: u32) -> Held {
        Held::of(Category::Parameters, 1000)
    }

    fn begin(&self, _: u32, action: Action) -> Held {
        let forward = Held::of(Category::Activations, 100).with(Category::Transient, 7);
        if matches!(action, Action::Forward(_)) { forward } else { Held::NONE }
    }

    fn end(&self, _: u32, action: Action) -> Held {
        match action {
            Action::Forward(_) => Held::of(Category::Transient, -7),
            Action::Backward(_) => Held::of(Category::Activations, -100),
            _ => Held::NONE,
        }
    }
}

#[test]
fn memory_is_counted_by_category_and_messages_until_they_are_taken() {
    let schedule = schedule(ScheduleKind::GPipe, 2, 1, 3, 1);
    let peaks = |capacity| {
        let programs = (0..2).map(|rank| schedule.program(rank));
        let found = simulate_programs(programs, capacity, &SlowSecond, &mut ()).unwrap();
        let of = |held: Held| {
            [Category::Parameters, Category::Activations, Category::Transient]
                .map(|of| held.get(of))
        };
        [0, 1].map(|rank: usize| of(found.ranks[rank].peak))
    };
    // Rank 1 takes messages at 1, 4 and 7; rank 0 could send them at 1, 2 and 3.
    let second = [1000, 300, 7];
    assert_eq!(peaks(1), [[1000, 300, 17], second], "the second waits while the third is made");
    assert_eq!(peaks(2), [[1000, 300, 20], second], "the second and the third wait");
}

#[test]
fn no_unit_begins_before_what_it_needs_has_ended() {
    for schedule in every_schedule().step_by(7) {
        let mut spans: Vec<Span> = Vec::new();
        let programs = (0..schedule.ranks()).map(|rank| schedule.program(rank));
        let mut watch = |span| spans.push(span);
        simulate_programs(programs, schedule.channel_capacity(), &COSTS, &mut watch).unwrap();
        let ended = |rank, is: &dyn Fn(Action) -> bool| {
            spans.iter().find(|span| span.rank == rank && is(span.action)).unwrap().end
        };
        let backward = |unit: Unit| {
            move |action| action == Action::Backward(unit) || action == Action::BackwardInput(unit)
        };
        for span in &spans {
            let needed = match span.action {
                Action::Forward(unit) => {
                    let before = schedule.placement().before(span.rank, unit.chunk);
                    before.map(|(rank, chunk)| {
                        ended(rank, &|action| action == Action::Forward(Unit { chunk, ..unit }))
                    })
                }
                Action::Backward(unit) | Action::BackwardInput(unit) => {
                    match schedule.placement().after(span.rank, unit.chunk) {
                        Some((rank, chunk)) => Some(ended(rank, &backward(Unit { chunk, ..unit }))),
                        None => Some(ended(span.rank, &|action| action == Action::Forward(unit))),
                    }
                }
                Action::BackwardWeight(unit) => Some(ended(span.rank, &backward(unit))),
                _ => None,
            };
            assert!(needed.is_none_or(|end| end <= span.begin), "{schedule:?}: {span:?}");
        }
    }
}

/// Peaks by rank, makespan and idle part of the work, of one of the reference's examples.
fn sanity(kind: ScheduleKind, [p, n, m, v]: [u32; 4]) -> (Vec<u64>, f64, f64) {
    let found = simulated(&schedule(kind, p, n, m, v));
    let peaks = found.ranks.iter().map(|rank| rank.in_flight_peak).collect();
    (peaks, found.makespan, found.bubble_over_work())
}

#[test]
fn the_reference_sanity_values_hold() {
    let slimpipe = |size| sanity(ScheduleKind::SlimPipe, size);
    let (peaks, _, bubble) = slimpipe([4, 8, 2, 1]);
    assert_eq!((peaks, bubble), (vec![14, 12, 10, 8], 0.1875));
    let (peaks, span, _) = slimpipe([8, 32, 4, 5]);
    assert_eq!((peaks, span), ((0..8).map(|rank| 174 - 2 * rank).collect(), 1941.0));
    let (peaks, span, _) = slimpipe([16, 64, 8, 5]);
    assert_eq!((peaks, span), ((0..16).map(|rank| 350 - 2 * rank).collect(), 7725.0));
    let (peaks, span, _) = slimpipe([4, 16, 8, 10]);
    assert_eq!((peaks, span), (vec![166, 164, 162, 160], 3849.0));
    let (peaks, _, bubble) = sanity(ScheduleKind::OneFOneB, [4, 1, 4, 1]);
    assert_eq!((peaks, bubble), (vec![4, 3, 2, 1], 0.75));
    let (peaks, _, bubble) = sanity(ScheduleKind::Seq1F1B, [8, 8, 4, 1]);
    assert_eq!((peaks, bubble), ((8..16).rev().collect(), 0.21875));
    let (peaks, _, bubble) = sanity(ScheduleKind::Interleaved, [4, 1, 8, 3]);
    assert_eq!((peaks, bubble), (vec![15, 13, 11, 9], 0.125));
}

#[test]
fn zb_h1_idles_a_third_of_what_1f1b_does() {
    let size = [4, 1, 6, 1];
    let (peaks, span, _) = sanity(ScheduleKind::ZbH1, size);
    let (_, one_f_one_b, _) = sanity(ScheduleKind::OneFOneB, size);
    // Three slots per microbatch, each of one unit of time.
    assert_eq!((span - 18.0, one_f_one_b - 18.0), (3.0, 9.0));
    assert_eq!(peaks, [4; 4]);
}

#[test]
fn no_zb_v_rank_waits_between_its_first_action_and_its_last() {
    for p in 1..=7 {
        for m in 2 * p - 1..2 * p + 4 {
            let schedule = schedule(ScheduleKind::ZbV, p, 1, m, 2);
            // Rank p - 1 has its first input after p - 1 forwards, and nobody is longer than that
            // beyond its work: so rank r begins at r, and none can pause.
            assert_eq!(simulated(&schedule).makespan, work(&schedule) + f64::from(p - 1));
            assert_eq!(schedule.in_flight_peak(p - 1), 2 * u64::from(p));
        }
    }
}

#[test]
fn v_half_holds_half_of_1f1b_and_a_unit_more() {
    for p in 2..=12 {
        let (m, units) = (3 * p, f64::from(2 * p));
        let schedule = schedule(ScheduleKind::VHalf, p, 1, m, 2);
        let peaks = verify(&schedule, 1).unwrap().in_flight_peak;
        assert!(peaks.iter().all(|&peak| peak as f64 / units <= 0.5 + 2.0 / units), "{peaks:?}");
        let idle = simulated(&schedule).makespan - work(&schedule);
        // 1F1B idles 6 (p - 1) slots of half a stage.
        assert!(idle <= f64::from(3 * (p - 1) + p), "p={p}: {idle}");
    }
}
