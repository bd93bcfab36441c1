//! The memory law of SlimPipe, and what the allocator promises in steady state.

use crate::support::{Layout, Outcome, Setup, run};
use slimpipe::pipeline::simulate::{Equal, simulate};
use slimpipe::prelude::*;

/// A model whose slices divide evenly: 32 layers, so that eight ranks can hold two chunks each.
fn setup() -> Setup {
    let mut setup = Setup::tiny();
    setup.model.num_hidden_layers = 32;
    (setup.seq_len, setup.steps) = (256, 2);
    setup
}

fn train(layout: Layout) -> Outcome {
    run(&setup(), layout).unwrap_or_else(|error| panic!("{layout:?}: {error}"))
}

#[test]
fn in_flight_units_peak_at_the_formula_on_every_rank() {
    for (p, n, v, m) in
        [(1, 4, 1, 2), (2, 4, 2, 2), (4, 2, 1, 2), (4, 8, 1, 1), (4, 4, 2, 3), (8, 8, 1, 2)]
    {
        let outcome = train(Layout::slimpipe(p, n, m, v));
        for (rank, (stats, _)) in outcome.memory.iter().enumerate() {
            let expected = (n * v + 2 * (p - 1 - rank as u32)).min(m * n * v);
            assert_eq!(
                stats.units_in_flight.peak,
                u64::from(expected),
                "p={p} n={n} v={v} m={m} rank {rank}"
            );
        }
    }
}

#[test]
fn in_flight_units_of_other_schedules_peak_as_their_programs_do() {
    use ScheduleKind::{GPipe, OneFOneB, Seq1F1B, Seq1F1BBalanced, TeraPipe, ZbH1};
    for (kind, n) in
        [(GPipe, 1), (OneFOneB, 1), (ZbH1, 1), (TeraPipe, 4), (Seq1F1B, 4), (Seq1F1BBalanced, 5)]
    {
        for (p, m) in [(2, 3), (4, 6)] {
            let schedule = Schedule::new(kind, p, n, m, 1).unwrap();
            let simulated = simulate(&schedule, &Equal { forward: 1.0, backward: 2.0 }).unwrap();
            let outcome = train(Layout { kind, ..Layout::slimpipe(p, n, m, 1) });
            for (rank, (stats, _)) in outcome.memory.iter().enumerate() {
                let expected = simulated.ranks[rank].in_flight_peak;
                assert_eq!(stats.units_in_flight.peak, expected, "{kind} p={p} m={m} rank {rank}");
                assert_eq!(expected, schedule.in_flight_peak(rank as u32), "{kind} p={p} m={m}");
            }
        }
    }
}

#[test]
fn rank_0_holds_a_pth_of_one_microbatch_and_two_units_per_later_rank() {
    for v in [1, 2] {
        let n = 16;
        let activations =
            |p: u32| train(Layout::slimpipe(p, n, 2, v)).memory[0].0.activations.peak as f64;
        // M_a: what a microbatch keeps in all layers (and, less than 1 %, in the loss head).
        let m_a = activations(1);
        for p in [2, 4, 8] {
            let measured = activations(p);
            let (p, nv) = (f64::from(p), f64::from(n * v));
            let expected = m_a / p * (1.0 + 2.0 * (p - 1.0) / nv);
            let off = (measured / expected - 1.0).abs();
            assert!(off <= 0.02, "p={p} v={v}: {measured} bytes for {expected:.0} ({off:.3})");
        }
    }
}

#[test]
fn a_step_gives_back_exactly_what_it_took_and_reserves_hardly_more_than_it_uses() {
    for dtype in [DType::F32, DType::BF16] {
        let slimpipe = [(1, 4, 1), (2, 4, 2), (4, 8, 1), (4, 8, 2)];
        let slimpipe = slimpipe.map(|(p, n, v)| Layout::slimpipe(p, n, 2, v));
        let zb_h1 = Layout { kind: ScheduleKind::ZbH1, ..Layout::slimpipe(2, 1, 3, 1) };
        let balanced =
            Layout { kind: ScheduleKind::Seq1F1BBalanced, ..Layout::slimpipe(2, 5, 2, 1) };
        for layout in slimpipe.into_iter().chain([zb_h1, balanced]) {
            let layout = Layout { dtype, ..layout };
            for (rank, (after, before)) in train(layout).memory.iter().enumerate() {
                let of = |what: &str| format!("{layout:?}, rank {rank}: {what}");
                assert_eq!(
                    after.total.active.current,
                    before.total.active.current,
                    "{}",
                    of("active bytes")
                );
                assert_eq!(after.overflow_hits, 0, "{}", of("overflow hits"));
                assert_eq!(after.units_in_flight.current, 0, "{}", of("units"));
                if layout.kind != ScheduleKind::SlimPipe {
                    // Slots of many sizes do not fit each other, which is why slices are uniform.
                    continue;
                }
                let (reserved, active) = (after.total.reserved.peak, after.total.active.peak);
                // Regions end at page boundaries: up to one page each.
                let slack = 8 * 4096;
                assert!(
                    reserved as f64 <= 1.02 * active as f64 + f64::from(slack),
                    "{}",
                    of(&format!("reserved {reserved}, active {active}"))
                );
            }
        }
    }
}
