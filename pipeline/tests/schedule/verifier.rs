//! The verifier against programs that are nearly right.
//!
//! A mutant is a valid schedule's programs with one mistake. Each kind of mistake is made at every
//! place where it can be made, and must be refused with the rank and the action at fault.

use proptest::prelude::*;
use slimpipe_pipeline::schedule::{
    Action, Exchange, Part, Schedule, ScheduleError, ScheduleKind, Unit, Weights, dump, parse,
    verify, verify_programs,
};

use crate::sample::{any_schedule, exchanging, schedule, sharing};

type Programs = Vec<Vec<Action>>;

fn programs(schedule: &Schedule) -> Programs {
    (0..schedule.ranks()).map(|rank| schedule.program(rank).collect()).collect()
}

/// Schedules with every feature: wraps, chunks on one rank, groups larger than p, m = 1.
fn samples() -> Vec<Schedule> {
    vec![
        schedule(ScheduleKind::SlimPipe, 2, 3, 2, 1),
        schedule(ScheduleKind::SlimPipe, 3, 3, 2, 2),
        schedule(ScheduleKind::SlimPipe, 2, 5, 1, 3),
        schedule(ScheduleKind::SlimPipe, 4, 2, 3, 1),
        schedule(ScheduleKind::SlimPipe, 1, 2, 2, 2),
        schedule(ScheduleKind::GPipe, 3, 1, 3, 1),
        schedule(ScheduleKind::OneFOneB, 3, 1, 4, 1),
        schedule(ScheduleKind::Interleaved, 2, 1, 4, 2),
        schedule(ScheduleKind::Seq1F1B, 2, 3, 2, 1),
        schedule(ScheduleKind::ZbH1, 3, 1, 4, 1),
        schedule(ScheduleKind::ZbV, 2, 1, 4, 2),
        schedule(ScheduleKind::VHalf, 3, 1, 3, 2),
        schedule(ScheduleKind::SlimPipe, 2, 3, 2, 2).with_data_ranks(3).unwrap(),
        schedule(ScheduleKind::ZbH1, 2, 1, 3, 1).with_data_ranks(2).unwrap(),
        sharing(schedule(ScheduleKind::SlimPipe, 2, 2, 1, 1)).with_data_ranks(2).unwrap(),
        exchanging(Exchange::Paper, 3, 4, 2, 1),
        exchanging(Exchange::Balanced, 3, 3, 2, 2),
        sharing(schedule(ScheduleKind::SlimPipe, 3, 3, 2, 1)),
        sharing(schedule(ScheduleKind::SlimPipe, 2, 2, 2, 2)),
        sharing(schedule(ScheduleKind::SlimPipe, 1, 2, 1, 1)),
        sharing(schedule(ScheduleKind::Interleaved, 2, 1, 2, 2)),
        sharing(schedule(ScheduleKind::TeraPipe, 3, 2, 1, 1)),
        sharing(exchanging(Exchange::Balanced, 2, 3, 2, 1)),
    ]
}

/// What a mistake does to the program of `rank` at `at`; `None` if it cannot be made there.
type Mistake = fn(&Schedule, &[Action], usize) -> Option<Vec<Action>>;

/// Makes `mistake` everywhere. Gives how many mutants there were; panics at one that is accepted or
/// refused without saying where.
fn refused_everywhere(name: &str, mistake: Mistake) -> usize {
    let mut mutants = 0;
    for schedule in samples() {
        let valid = programs(&schedule);
        for (rank, at) in
            valid.iter().enumerate().flat_map(|(rank, p)| (0..p.len()).map(move |at| (rank, at)))
        {
            let Some(mutated) = mistake(&schedule, &valid[rank], at) else { continue };
            let mut mutant = valid.clone();
            mutant[rank] = mutated;
            let place = format!("{name}: rank {rank}, action {at} ({})", valid[rank][at]);
            let verdict = verify_programs(&schedule, mutant, schedule.channel_capacity());
            match verdict.expect_err(&place) {
                ScheduleError::Broken { .. }
                | ScheduleError::Deadlock { .. }
                | ScheduleError::Unfinished { .. } => {}
                other => panic!("{place}: {other}"),
            }
            mutants += 1;
        }
    }
    mutants
}

fn dropped(program: &[Action], at: usize) -> Vec<Action> {
    let mut program = program.to_vec();
    program.remove(at);
    program
}

fn doubled(program: &[Action], at: usize) -> Vec<Action> {
    let mut program = program.to_vec();
    program.insert(at, program[at]);
    program
}

fn replaced(program: &[Action], at: usize, by: Action) -> Vec<Action> {
    let mut program = program.to_vec();
    program[at] = by;
    program
}

fn swapped(program: &[Action], a: usize, b: usize) -> Vec<Action> {
    let mut program = program.to_vec();
    program.swap(a, b);
    program
}

/// The unit of an action, to be changed.
fn unit_of(action: &mut Action) -> Option<&mut Unit> {
    match action {
        Action::RecvActivation { unit, .. }
        | Action::Forward(unit)
        | Action::SendActivation { unit, .. }
        | Action::RecvGradient { unit, .. }
        | Action::Backward(unit)
        | Action::BackwardInput(unit)
        | Action::BackwardWeight(unit)
        | Action::SendGradient { unit, .. }
        | Action::Ship { unit, .. }
        | Action::Attend { unit, .. }
        | Action::VocabEmbed(unit)
        | Action::VocabHead(unit)
        | Action::VocabEmbedBackward(unit) => Some(unit),
        _ => None,
    }
}

fn with_unit(program: &[Action], at: usize, change: impl Fn(&mut Unit)) -> Option<Vec<Action>> {
    let mut action = program[at];
    change(unit_of(&mut action)?);
    Some(replaced(program, at, action))
}

/// The action with another rank at its other end.
fn retargeted(action: Action, other: impl Fn(u32) -> u32) -> Option<Action> {
    Some(match action {
        Action::RecvActivation { unit, from } => Action::RecvActivation { unit, from: other(from) },
        Action::SendActivation { unit, to } => Action::SendActivation { unit, to: other(to) },
        Action::RecvGradient { unit, from } => Action::RecvGradient { unit, from: other(from) },
        Action::SendGradient { unit, to } => Action::SendGradient { unit, to: other(to) },
        Action::ReduceTied { peer } => Action::ReduceTied { peer: other(peer) },
        Action::Ship { unit, part, to, pass } => Action::Ship { unit, part, to: other(to), pass },
        Action::Attend { unit, part, from, pass } => {
            Action::Attend { unit, part, from: other(from), pass }
        }
        _ => return None,
    })
}

/// The program with the action at `at` and the next that does the same to the same microbatch and
/// chunk exchanged; `None` if `is_meant` does not hold for it, or there is no other.
fn out_of_order(
    program: &[Action],
    at: usize,
    is_meant: fn(Action) -> bool,
) -> Option<Vec<Action>> {
    let of = |mut action: Action| {
        let kind = std::mem::discriminant(&action);
        unit_of(&mut action).map(|unit| (kind, unit.microbatch, unit.chunk))
    };
    let own = of(program[at]).filter(|_| is_meant(program[at]))?;
    let next = (at + 1..program.len()).find(|&next| of(program[next]) == Some(own))?;
    Some(swapped(program, at, next))
}

macro_rules! mutants {
    ($($name:ident: $mistake:expr;)*) => {
        $(
            #[test]
            fn $name() {
                assert!(refused_everywhere(stringify!($name), $mistake) > 0, "no mutant was made");
            }
        )*
    };
}

mutants! {
    a_missing_action_is_refused: |_, program, at| Some(dropped(program, at));
    an_action_done_twice_is_refused: |_, program, at| Some(doubled(program, at));
    a_unit_run_again_after_it_was_drained_is_refused: |_, program, at| match program[at] {
        Action::Backward(unit) => {
            let mut program = program.to_vec();
            program.insert(at + 1, Action::Forward(unit));
            Some(program)
        }
        _ => None,
    };
    another_rank_at_the_other_end_is_refused: |schedule, program, at| {
        let next = |peer| (peer + 1) % schedule.ranks();
        Some(replaced(program, at, retargeted(program[at], next)?))
    };
    a_rank_that_does_not_exist_is_refused: |schedule, program, at| {
        Some(replaced(program, at, retargeted(program[at], |_| schedule.ranks())?))
    };
    a_microbatch_that_does_not_exist_is_refused: |schedule, program, at| {
        with_unit(program, at, |unit| unit.microbatch = schedule.microbatches())
    };
    a_slice_that_does_not_exist_is_refused: |schedule, program, at| {
        with_unit(program, at, |unit| unit.slice = schedule.slices())
    };
    a_chunk_that_does_not_exist_is_refused: |schedule, program, at| {
        with_unit(program, at, |unit| unit.chunk = schedule.chunks())
    };
    another_microbatch_is_refused: |schedule, program, at| match schedule.microbatches() {
        1 => None,
        m => with_unit(program, at, |unit| unit.microbatch = (unit.microbatch + 1) % m),
    };
    another_slice_is_refused: |schedule, program, at| match schedule.slices() {
        1 => None,
        n => with_unit(program, at, |unit| unit.slice = (unit.slice + 1) % n),
    };
    another_chunk_is_refused: |schedule, program, at| match schedule.chunks() {
        1 => None,
        v => with_unit(program, at, |unit| unit.chunk = (unit.chunk + 1) % v),
    };
    slices_forward_out_of_order_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::Forward(_)))
    };
    slices_backward_first_in_first_out_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::Backward(_)))
    };
    inputs_received_out_of_order_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::RecvActivation { .. }))
    };
    gradients_received_out_of_order_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::RecvGradient { .. }))
    };
    outputs_sent_out_of_order_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::SendActivation { .. }))
    };
    gradients_sent_out_of_order_are_refused: |_, program, at| {
        out_of_order(program, at, |action| matches!(action, Action::SendGradient { .. }))
    };
    a_send_before_its_work_is_refused: |_, program, at| match program[at] {
        Action::SendActivation { .. } | Action::SendGradient { .. } => {
            Some(swapped(program, at - 1, at))
        }
        _ => None,
    };
    a_receive_after_its_use_is_refused: |_, program, at| match program[at] {
        Action::RecvActivation { .. } | Action::RecvGradient { .. } => {
            Some(swapped(program, at, at + 1))
        }
        _ => None,
    };
    an_early_optimizer_step_is_refused: |_, program, at| match program[at] {
        Action::OptimizerStep => None,
        _ => {
            let mut program = dropped(program, program.len() - 1);
            program.insert(at, Action::OptimizerStep);
            Some(program)
        }
    };
    early_tied_gradients_are_refused: |_, program, at| {
        let (tied, is_early) = (program.len() - 2, matches!(program[at], Action::Backward(_)));
        match program[tied] {
            Action::ReduceTied { .. } if is_early => {
                let mut early = dropped(program, tied);
                early.insert(at, program[tied]);
                Some(early)
            }
            _ => None,
        }
    };
    early_reductions_are_refused: |_, program, at| {
        let Action::ReduceGradients(weights) = program[at] else { return None };
        let makes = |action: &Action| match action {
            Action::Backward(unit) | Action::BackwardWeight(unit) => {
                weights == Weights::Chunk(unit.chunk)
            }
            Action::VocabEmbedBackward(_) => weights == Weights::Vocabulary,
            _ => false,
        };
        Some(swapped(program, program[..at].iter().rposition(makes)?, at))
    };
    reductions_without_data_ranks_are_refused: |schedule, program, at| {
        let is_end = matches!(program[at], Action::OptimizerStep) && schedule.data_ranks() == 1;
        let mut program = program.to_vec();
        program.insert(at, Action::ReduceGradients(Weights::Chunk(0)));
        is_end.then_some(program)
    };
    reductions_of_other_weights_are_refused: |schedule, program, at| match program[at] {
        Action::ReduceGradients(Weights::Chunk(_)) => {
            let chunk = Weights::Chunk(schedule.chunks());
            Some(replaced(program, at, Action::ReduceGradients(chunk)))
        }
        _ => None,
    };
    work_instead_of_a_message_is_refused: |_, program, at| match program[at] {
        Action::RecvActivation { unit, .. } => Some(replaced(program, at, Action::Forward(unit))),
        Action::RecvGradient { unit, .. } => Some(replaced(program, at, Action::Backward(unit))),
        _ => None,
    };
    a_weight_part_before_its_input_part_is_refused: |_, program, at| match program[at] {
        Action::BackwardInput(unit) => {
            let weight = Action::BackwardWeight(unit);
            let from = program.iter().position(|action| *action == weight)?;
            let mut program = dropped(program, from);
            program.insert(at, weight);
            Some(program)
        }
        _ => None,
    };
    a_backward_of_which_a_part_is_missing_is_refused: |_, program, at| match program[at] {
        Action::Backward(unit) => Some(replaced(program, at, Action::BackwardInput(unit))),
        _ => None,
    };
    a_weight_part_after_a_whole_backward_is_refused: |_, program, at| match program[at] {
        Action::BackwardInput(unit) => Some(replaced(program, at, Action::Backward(unit))),
        _ => None,
    };
    a_part_that_its_helper_does_not_know_is_refused: |_, program, at| {
        let shorter = |part: Part| Part { end: part.end - 1, ..part };
        let longer = |part: Part| Part { end: part.end + 1, ..part };
        match program[at] {
            Action::Ship { unit, part, to, pass } => {
                Some(replaced(program, at, Action::Ship { unit, part: shorter(part), to, pass }))
            }
            Action::Attend { unit, part, from, pass } => {
                Some(replaced(program, at, Action::Attend { unit, part: longer(part), from, pass }))
            }
            _ => None,
        }
    };
    exchange_after_its_unit_is_refused: |_, program, at| match (program[at], program.get(at + 1)) {
        (
            Action::Ship { .. } | Action::Attend { .. },
            Some(Action::Forward(_) | Action::Backward(_) | Action::Help(_)),
        ) => Some(swapped(program, at, at + 1)),
        _ => None,
    };
    a_helper_that_does_not_serve_is_refused: |_, program, at| match program[at] {
        Action::Help(_) => Some(dropped(program, at)),
        _ => None,
    };
    gradients_sent_as_activations_are_refused: |_, program, at| match program[at] {
        Action::SendGradient { unit, to } => {
            Some(replaced(program, at, Action::SendActivation { unit, to }))
        }
        Action::RecvActivation { unit, from } => {
            Some(replaced(program, at, Action::RecvGradient { unit, from }))
        }
        _ => None,
    };
}

#[test]
fn more_units_in_flight_than_the_bound_are_refused_at_the_forward_too_many() {
    // GPipe's order fits 1F1B's size, but not its memory.
    let (gpipe, bound) =
        (schedule(ScheduleKind::GPipe, 3, 1, 4, 1), schedule(ScheduleKind::OneFOneB, 3, 1, 4, 1));
    let error = verify_programs(&bound, programs(&gpipe), 4).unwrap_err();
    let ScheduleError::Broken { rank, action: Action::Forward(_), what, .. } = error else {
        panic!("{error}");
    };
    assert!(what.contains("in flight"), "rank {rank}: {what}");
}

#[test]
fn a_cycle_of_waits_is_a_deadlock_that_names_every_waiting_rank() {
    // Rank 0 waits for the gradient of slice 0 before it sends slice 1, which rank 1 needs first.
    let schedule = schedule(ScheduleKind::SlimPipe, 2, 2, 1, 1);
    let mut mutant = programs(&schedule);
    let at = |action: &Action| mutant[0].iter().position(|a| a == action).unwrap();
    let unit = |slice| Unit { microbatch: 0, slice, chunk: 0 };
    let receive = Action::RecvGradient { unit: unit(0), from: 1 };
    let (from, to) = (at(&receive), at(&Action::SendActivation { unit: unit(1), to: 1 }));
    mutant[0].remove(from);
    mutant[0].insert(to, receive);
    let error = verify_programs(&schedule, mutant, 8).unwrap_err();
    let ScheduleError::Deadlock { waiting, .. } = &error else { panic!("{error}") };
    assert_eq!(waiting, "rank 0 at action 3 (rg0.0:0<1), rank 1 at action 2 (ra0.1:0<0)");
}

#[test]
fn too_little_room_is_a_deadlock() {
    let schedule = schedule(ScheduleKind::SlimPipe, 2, 5, 2, 2);
    assert_eq!(schedule.channel_capacity(), 4);
    assert!(verify(&schedule, 4).is_ok());
    let error = verify(&schedule, 3).unwrap_err().to_string();
    assert!(
        error.contains("channels of 3 messages") && error.contains("rank 0 at action"),
        "{error}"
    );
    assert!(matches!(verify(&schedule, 0), Err(ScheduleError::Deadlock { .. })));
}

#[test]
fn programs_of_other_ranks_or_another_number_of_them_are_refused() {
    let schedule = schedule(ScheduleKind::SlimPipe, 3, 3, 2, 1);
    let mut mutant = programs(&schedule);
    mutant.swap(0, 2);
    assert!(matches!(verify_programs(&schedule, mutant, 2), Err(ScheduleError::Broken { .. })));
    let mut mutant = programs(&schedule);
    mutant.pop();
    assert!(matches!(
        verify_programs(&schedule, mutant, 2),
        Err(ScheduleError::WrongRanks { programs: 2, ranks: 3 })
    ));
    let empty = vec![Vec::new(); 3];
    assert!(matches!(
        verify_programs(&schedule, empty, 2),
        Err(ScheduleError::Unfinished { rank: 0, actions: 0 })
    ));
}

/// The verdict on a text for `schedule`.
fn verdict(schedule: &Schedule, text: &str) -> String {
    let programs = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    verify_programs(schedule, programs, 2).map_or_else(|e| e.to_string(), |_| "sound".to_owned())
}

#[test]
fn every_rule_names_rank_action_and_reason() {
    let two = schedule(ScheduleKind::SlimPipe, 2, 2, 1, 1);
    let rank = [
        "F0.0:0 sa0.0:0>1 F0.1:0 sa0.1:0>1 rg0.1:0<1 B0.1:0 rg0.0:0<1 B0.0:0 tied@1 step",
        "ra0.0:0<0 F0.0:0 ra0.1:0<0 F0.1:0 B0.1:0 sg0.1:0>0 B0.0:0 sg0.0:0>0 tied@0 step",
    ];
    assert_eq!(dump(&two), format!("rank 0: {}\nrank 1: {}\n", rank[0], rank[1]));
    // In the program of a rank, the first occurrence of a text is replaced.
    let cases = [
        (0, "step", "step step", "action 10 (step): it comes after the optimizer step"),
        (0, "step", "F0.0:0 step", "action 9 (F0.0:0): it runs forward a second time"),
        (
            0,
            "F0.0:0",
            "F0.0:1",
            "action 0 (F0.0:1): there are 1 microbatches, 2 slices and 1 chunks",
        ),
        (0, "F0.0:0", "F0.1:0", "action 0 (F0.1:0): slices run forward in order: slice 0 is next"),
        (
            0,
            "sa0.0:0>1",
            "sa0.1:0>1",
            "action 1 (sa0.1:0>1): there is no output to send: its forward has not run, or it was sent already",
        ),
        (
            0,
            "sa0.0:0>1",
            "sa0.0:0>0",
            "action 1 (sa0.0:0>0): the other end of its output is on rank 1",
        ),
        (0, "sa0.1:0>1 ", "", "action 3 (rg0.1:0<1): its output was not sent"),
        (0, "F0.0:0", "rg0.0:0<1 F0.0:0", "action 0 (rg0.0:0<1): it does not await its backward"),
        (
            0,
            "rg0.1:0<1",
            "rg0.1:0<1 rg0.1:0<1",
            "action 5 (rg0.1:0<1): its gradient was received already",
        ),
        (
            0,
            "rg0.1:0<1",
            "rg0.1:0<0",
            "action 4 (rg0.1:0<0): the other end of its gradient is on rank 1",
        ),
        (
            0,
            "rg0.1:0<1",
            "rg0.0:0<1",
            "action 4 (rg0.0:0<1): the next message from rank 1 is for 0.1:0",
        ),
        (0, "rg0.1:0<1 ", "", "action 4 (B0.1:0): its gradient was not received"),
        (
            0,
            "B0.1:0",
            "ra0.1:0<1",
            "action 5 (ra0.1:0<1): its input does not travel: the model ends here",
        ),
        (0, "B0.1:0", "B0.1:0 B0.1:0", "action 6 (B0.1:0): it does not await its backward"),
        (
            0,
            "B0.1:0",
            "B0.0:0",
            "action 5 (B0.0:0): slices run backward last in, first out: slice 1 is next",
        ),
        (
            0,
            "tied@1",
            "tied@0",
            "action 8 (tied@0): the stage at the model's other end is on rank 1",
        ),
        (0, "tied@1", "tied@1 tied@1", "action 9 (tied@1): it comes a second time"),
        (0, "tied@1 ", "", "action 8 (step): tied gradients were not added"),
        (0, "B0.0:0 ", "", "action 7 (tied@1): only 1 of 2 units ran backward"),
        (0, "F0.1:0", "step", "action 2 (step): only 0 of 2 units ran backward"),
        (1, "ra0.0:0<0 ", "", "action 0 (F0.0:0): its input was not received"),
        (
            1,
            "ra0.0:0<0",
            "ra0.0:0<1",
            "action 0 (ra0.0:0<1): the other end of its input is on rank 0",
        ),
        (
            1,
            "ra0.0:0<0",
            "ra0.0:0<0 ra0.0:0<0",
            "action 1 (ra0.0:0<0): its input was received already",
        ),
        (1, "F0.0:0", "F0.0:0 ra0.0:0<0", "action 2 (ra0.0:0<0): its forward has run already"),
        (1, "F0.0:0", "F0.0:0 B0.0:0", "action 2 (B0.0:0): only 1 of its 2 slices ran forward"),
        (
            1,
            "B0.1:0",
            "sa0.1:0>0",
            "action 4 (sa0.1:0>0): its output does not travel: the model ends here",
        ),
        (
            1,
            "B0.1:0",
            "sg0.1:0>0",
            "action 4 (sg0.1:0>0): there is no gradient to send: its backward has not run, or it was sent already",
        ),
        (
            1,
            "sg0.1:0>0",
            "sg0.1:0>1",
            "action 5 (sg0.1:0>1): the other end of the gradient of its input is on rank 0",
        ),
        (1, "sg0.0:0>0 ", "", "action 7 (tied@0): the gradient of the input of 0.0:0 was not sent"),
    ];
    for (at, from, to, expected) in cases {
        let mut text = String::new();
        for (number, program) in rank.iter().enumerate() {
            let program =
                if number == at { program.replacen(from, to, 1) } else { (*program).to_owned() };
            text += &format!("rank {number}: {program}\n");
        }
        assert_eq!(verdict(&two, &text), format!("rank {at}, {expected}"));
    }
}

#[test]
fn chunks_of_one_rank_hand_over_in_order() {
    let one = schedule(ScheduleKind::SlimPipe, 1, 1, 1, 2);
    let sound = "rank 0: F0.0:0 F0.0:1 B0.0:1 B0.0:0 step";
    let cases = [
        ("F0.0:0 F0.0:1", "F0.0:1 F0.0:0", "action 0 (F0.0:1): 0.0:0 has not run forward"),
        ("B0.0:1 B0.0:0", "B0.0:0 B0.0:1", "action 2 (B0.0:0): 0.0:1 has not run backward"),
        (
            "F0.0:1",
            "sa0.0:0>0",
            "action 1 (sa0.0:0>0): its output does not travel: its other end is on this rank",
        ),
        (
            "step",
            "tied@0",
            "action 4 (tied@0): no stage at an end of the model has its other end elsewhere",
        ),
    ];
    assert_eq!(verdict(&one, sound), "sound");
    for (from, to, expected) in cases {
        assert_eq!(verdict(&one, &sound.replacen(from, to, 1)), format!("rank 0, {expected}"));
    }
    let cut = "rank 0: F0.0:0 F0.0:1 B0.0:1 B0.0:0";
    let expected = "rank 0: the program ends after 4 actions without an optimizer step";
    assert_eq!(verdict(&one, cut), expected);
}

#[test]
fn a_unit_is_in_flight_until_its_weight_part_has_run_and_weight_parts_may_come_in_any_order() {
    let two = schedule(ScheduleKind::ZbH1, 1, 1, 2, 1);
    let verdict = |program: &str| verdict(&two, &format!("rank 0: {program}"));
    assert_eq!(verdict("F0.0:0 B0.0:0 F1.0:0 I1.0:0 W1.0:0 step"), "sound");
    assert_eq!(
        verdict("F0.0:0 I0.0:0 F1.0:0 W0.0:0 B1.0:0 step"),
        "rank 0, action 2 (F1.0:0): 2 units in flight, at most 1 may be"
    );
    assert_eq!(
        verdict("F0.0:0 W0.0:0"),
        "rank 0, action 1 (W0.0:0): there is no weight part to run: its input part has not run, or it ran already"
    );
    assert_eq!(
        verdict("F0.0:0 B0.0:0 F1.0:0 I1.0:0 step"),
        "rank 0, action 4 (step): only 1 of 2 units ran backward"
    );
    let roomy = schedule(ScheduleKind::TeraPipe, 1, 2, 1, 1);
    let sliced = |program: &str| self::verdict(&roomy, &format!("rank 0: {program}"));
    assert_eq!(sliced("F0.0:0 F0.1:0 I0.1:0 I0.0:0 W0.0:0 W0.1:0 step"), "sound");
    assert_eq!(
        sliced("F0.0:0 F0.1:0 I0.0:0"),
        "rank 0, action 2 (I0.0:0): slices run backward last in, first out: slice 1 is next"
    );
}

proptest! {
    /// Whatever two actions are exchanged: what is accepted still does the same work.
    #[test]
    fn a_mutant_is_accepted_only_if_every_rank_still_does_its_work(
        schedule in any_schedule(),
        seed in any::<[prop::sample::Index; 4]>(),
        how in 0..4,
    ) {
        let valid = programs(&schedule);
        let rank = seed[0].index(valid.len());
        let (a, b) = (seed[1].index(valid[rank].len()), seed[2].index(valid[rank].len()));
        let mut mutant = valid.clone();
        mutant[rank] = match how {
            0 => dropped(&valid[rank], a),
            1 => doubled(&valid[rank], a),
            2 => swapped(&valid[rank], a, b),
            _ => replaced(&valid[rank], a, valid[seed[3].index(valid.len())][0]),
        };
        if verify_programs(&schedule, mutant.clone(), schedule.channel_capacity()).is_ok() {
            let sorted = |program: &[Action]| {
                let mut words: Vec<String> = program.iter().map(Action::to_string).collect();
                words.sort();
                words
            };
            prop_assert_eq!(sorted(&mutant[rank]), sorted(&valid[rank]));
        }
    }

    #[test]
    fn programs_may_come_from_anywhere(schedule in any_schedule(), extra in 0usize..3) {
        let capacity = schedule.channel_capacity() + extra;
        prop_assert_eq!(
            verify_programs(&schedule, programs(&schedule), capacity),
            verify(&schedule, capacity)
        );
    }
}
