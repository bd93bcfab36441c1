//! Programs written as text and read back.

use proptest::prelude::*;
use slimpipe_pipeline::schedule::{
    Action, Exchange, Part, Pass, ScheduleError, ScheduleKind, Unit, Weights, dump, dump_programs,
    parse, verify_programs,
};

use crate::sample::{any_schedule, exchanging, schedule, sharing};

fn any_action() -> impl Strategy<Value = Action> {
    let number = prop_oneof![0u32..20, any::<u32>()];
    let unit = (number.clone(), number.clone(), number.clone())
        .prop_map(|(microbatch, slice, chunk)| Unit { microbatch, slice, chunk });
    let pass = prop::sample::select(vec![Pass::Forward, Pass::Backward]);
    let part = (number.clone(), number.clone()).prop_map(|(start, end)| Part { start, end });
    (0..18, unit, number, part, pass).prop_map(|(which, unit, peer, part, pass)| match which {
        0 => Action::RecvActivation { unit, from: peer },
        1 => Action::Forward(unit),
        2 => Action::SendActivation { unit, to: peer },
        3 => Action::RecvGradient { unit, from: peer },
        4 => Action::Backward(unit),
        5 => Action::SendGradient { unit, to: peer },
        6 => Action::BackwardInput(unit),
        7 => Action::BackwardWeight(unit),
        8 => Action::ReduceTied { peer },
        9 => Action::Ship { unit, part, to: peer, pass },
        10 => Action::Attend { unit, part, from: peer, pass },
        11 => Action::Help(pass),
        12 => Action::VocabEmbed(unit),
        13 => Action::VocabHead(unit),
        14 => Action::VocabEmbedBackward(unit),
        15 => Action::ReduceGradients(Weights::Chunk(peer)),
        16 => Action::ReduceGradients(Weights::Vocabulary),
        _ => Action::OptimizerStep,
    })
}

/// Line, column and message of the syntax error in `text`.
fn error(text: &str) -> (usize, usize, String) {
    match parse(text) {
        Err(ScheduleError::Syntax { line, column, what }) => (line, column, what),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn a_dump_reads_as_documented() {
    let text = dump(&schedule(ScheduleKind::SlimPipe, 2, 1, 1, 1));
    assert_eq!(
        text,
        "rank 0: F0.0:0 sa0.0:0>1 rg0.0:0<1 B0.0:0 tied@1 step\n\
         rank 1: ra0.0:0<0 F0.0:0 B0.0:0 sg0.0:0>0 tied@0 step\n"
    );
}

#[test]
fn reductions_over_data_ranks_follow_the_last_backward_of_their_chunk() {
    let slimpipe = schedule(ScheduleKind::SlimPipe, 1, 2, 1, 2).with_data_ranks(2).unwrap();
    assert_eq!(
        dump(&slimpipe),
        "rank 0: F0.0:0 F0.0:1 F0.1:0 F0.1:1 \
         B0.1:1 B0.1:0 B0.0:1 reduce:1 B0.0:0 reduce:0 step\n"
    );
    let split = schedule(ScheduleKind::ZbH1, 2, 1, 3, 1).with_data_ranks(2).unwrap();
    assert!(dump(&split).ends_with("W2.0:0 reduce:0 tied@0 step\n"), "{}", dump(&split));
    let shared = sharing(slimpipe);
    assert!(
        dump(&shared).ends_with("B0.0:0 vb0.0:0 reduce:0 reduce:v step\n"),
        "{}",
        dump(&shared)
    );
}

#[test]
fn exchange_reads_as_documented() {
    let text = dump(&exchanging(Exchange::Balanced, 2, 2, 1, 1));
    assert_eq!(
        text,
        "rank 0: F0.0:0 sa0.0:0>1 xf0.1:0/0-1>1 F0.1:0 sa0.1:0>1 \
         xf0.1:0/0-1<1 hf xb0.1:0/0-1<1 hb \
         rg0.1:0<1 xb0.1:0/0-1>1 B0.1:0 rg0.0:0<1 B0.0:0 tied@1 step\n\
         rank 1: ra0.0:0<0 xf0.1:0/0-1<0 F0.0:0 ra0.1:0<0 xf0.1:0/0-1>0 F0.1:0 \
         xb0.1:0/0-1>0 B0.1:0 sg0.1:0>0 xb0.1:0/0-1<0 B0.0:0 sg0.0:0>0 tied@0 step\n"
    );
}

#[test]
fn a_shared_vocabulary_reads_as_documented() {
    let text = dump(&sharing(schedule(ScheduleKind::SlimPipe, 2, 1, 1, 1)));
    assert_eq!(
        text,
        "rank 0: ve0.0:0 F0.0:0 sa0.0:0>1 vh0.0:0 rg0.0:0<1 B0.0:0 vb0.0:0 step\n\
         rank 1: ve0.0:0 ra0.0:0<0 F0.0:0 vh0.0:0 B0.0:0 sg0.0:0>0 vb0.0:0 step\n"
    );
}

#[test]
fn errors_point_at_the_character() {
    let cases = [
        ("rank 0: F0.0:0 G0.0:0", (1, 16, "an action")),
        ("rank 0: F0.0", (1, 13, "`:`")),
        ("rank 0: F0.x:0", (1, 12, "a number")),
        ("rank 0: F+1.0:0", (1, 10, "a number")),
        ("rank 0: B0.0:4294967296", (1, 14, "at most 4294967295")),
        ("rank 0: step\nrank 2: step", (2, 1, "`rank 1:`")),
        ("rank 0: ra0.0:0>1", (1, 16, "`<`")),
        ("rank 0: steps", (1, 13, "a space")),
        ("rank 0: tied@", (1, 14, "a number")),
        ("rank 0: xf0.1:0/0-4=1", (1, 20, "`>` or `<`")),
        ("rank 0: xb0.1:0/0>1", (1, 18, "`-`")),
        ("rank 0: \u{e9}F0.0:0", (1, 9, "an action")),
        ("rank 0: F0.0:0\u{e9}", (1, 15, "a space")),
    ];
    for (text, (line, column, what)) in cases {
        let found = error(text);
        assert_eq!((found.0, found.1), (line, column), "{text:?}: {}", found.2);
        assert!(found.2.contains(what), "{text:?}: {}", found.2);
    }
}

#[test]
fn empty_lines_and_other_line_ends_are_fine() {
    let programs = parse("\nrank 0: F0.0:0   B0.0:0\r\n\r\n  \nrank 1:\n").unwrap();
    assert_eq!(programs.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
}

proptest! {
    #[test]
    fn any_programs_are_read_back_as_written(
        programs in prop::collection::vec(prop::collection::vec(any_action(), 0..20), 0..5),
    ) {
        let text = dump_programs(programs.iter().map(|program| program.iter().copied()));
        prop_assert_eq!(parse(&text).unwrap(), programs);
    }

    #[test]
    fn a_schedule_read_back_from_its_dump_verifies(schedule in any_schedule()) {
        let programs = parse(&dump(&schedule)).unwrap();
        verify_programs(&schedule, programs, schedule.channel_capacity()).unwrap();
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in ".{0,40}\n?(rank 0: )?.{0,40}") {
        if let Err(refusal) = parse(&text) {
            let placed = matches!(refusal, ScheduleError::Syntax { line: 1.., column: 1.., .. });
            prop_assert!(placed, "{}", refusal);
        }
    }

    #[test]
    fn a_damaged_dump_never_panics(at in 0usize..60, with in any::<char>()) {
        let text = dump(&schedule(ScheduleKind::SlimPipe, 2, 2, 1, 1));
        let damaged: String =
            text.chars().enumerate().map(|(i, c)| if i == at { with } else { c }).collect();
        let _ = parse(&damaged);
    }
}
