//! The collectives over the vocabulary: where the paper's implementation places them, in every
//! schedule that can have them.

use std::collections::HashMap;

use proptest::prelude::*;
use slimpipe_pipeline::schedule::{
    Action, Exchange, Schedule, ScheduleError, ScheduleKind, Unit, verify,
};

use crate::sample::{any_schedule, every_schedule, exchanging, schedule, sharing};

/// By action: forwards and backwards that the rank ran before it.
fn places(schedule: &Schedule, rank: u32) -> HashMap<String, (u64, u64)> {
    let (mut forwards, mut backwards) = (0, 0);
    let mut places = HashMap::new();
    for action in schedule.program(rank) {
        match action {
            Action::Forward(_) => forwards += 1,
            Action::Backward(_) => backwards += 1,
            Action::VocabEmbed(_) | Action::VocabHead(_) | Action::VocabEmbedBackward(_) => {
                let twice = places.insert(action.to_string(), (forwards, backwards));
                assert_eq!(twice, None, "{action}");
            }
            _ => {}
        }
    }
    places
}

/// Units of `rank` in the order of their forwards or backwards.
fn units(schedule: &Schedule, rank: u32, backward: bool) -> impl Iterator<Item = (u64, Unit)> {
    let unit = move |action| match action {
        Action::Forward(unit) if !backward => Some(unit),
        Action::Backward(unit) if backward => Some(unit),
        _ => None,
    };
    (0..).zip(schedule.order(rank).filter_map(unit))
}

/// Rank r embeds r units ahead of its own, runs the output layer p - 1 - r units after, and adds to
/// the embedding's gradient r units after.
fn check_places(schedule: &Schedule) {
    let (p, all) = (u64::from(schedule.ranks()), schedule.units());
    let last_chunk = schedule.chunks() - 1;
    for rank in 0..schedule.ranks() {
        let (r, places) = (u64::from(rank), places(schedule, rank));
        let mut count = 0;
        for (k, unit) in units(schedule, 0, false).filter(|(_, unit)| unit.chunk == 0) {
            let (forwards, _) = places[&Action::VocabEmbed(unit).to_string()];
            assert_eq!(forwards, k.saturating_sub(r), "rank {rank} embeds {unit}");
            count += 1;
        }
        let last = schedule.ranks() - 1;
        for (k, unit) in units(schedule, last, false).filter(|(_, u)| u.chunk == last_chunk) {
            let (forwards, _) = places[&Action::VocabHead(unit).to_string()];
            assert_eq!(forwards, all.min(k + p - r), "rank {rank}, output layer of {unit}");
            count += 1;
        }
        for (k, unit) in units(schedule, 0, true).filter(|(_, unit)| unit.chunk == 0) {
            let (_, backwards) = places[&Action::VocabEmbedBackward(unit).to_string()];
            assert_eq!(backwards, all.min(k + r + 1), "rank {rank}, gradient of {unit}");
            count += 1;
        }
        assert_eq!(count, places.len());
        assert_eq!(count, 3 * (schedule.microbatches() * schedule.slices()) as usize);
    }
}

#[test]
fn ranks_take_part_where_lock_step_has_them() {
    let mut kinds = Vec::new();
    for schedule in every_schedule() {
        let (kind, size) = (schedule.kind(), schedule.ranks() * schedule.slices());
        if let Ok(shared) = schedule.with_vocabulary(true)
            && size <= 24
        {
            check_places(&shared);
            verify(&shared, shared.channel_capacity()).unwrap_or_else(|e| panic!("{e}"));
            kinds.push(kind);
        }
    }
    kinds.sort_by_key(|kind| kind.name());
    kinds.dedup();
    use ScheduleKind::{GPipe, Interleaved, SlimPipe, TeraPipe};
    assert_eq!(kinds, [GPipe, Interleaved, SlimPipe, TeraPipe]);
}

#[test]
fn other_schedules_are_refused_with_those_that_can() {
    for kind in [
        ScheduleKind::OneFOneB,
        ScheduleKind::Seq1F1B,
        ScheduleKind::Seq1F1BBalanced,
        ScheduleKind::ZbH1,
    ] {
        let error = schedule(kind, 2, 1, 2, 1).with_vocabulary(true).unwrap_err();
        assert!(matches!(error, ScheduleError::VocabularyKind { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("parallel.vocabulary") && text.contains("slimpipe"), "{text}");
        assert!(schedule(kind, 2, 1, 2, 1).with_vocabulary(false).is_ok());
    }
}

#[test]
fn the_rest_of_a_program_stays_as_it_is() {
    for plain in
        [schedule(ScheduleKind::SlimPipe, 4, 8, 2, 2), exchanging(Exchange::Paper, 3, 4, 2, 1)]
    {
        let shared = sharing(plain.clone());
        for rank in 0..plain.ranks() {
            let is_vocabulary = |action: &Action| {
                matches!(
                    action,
                    Action::VocabEmbed(_)
                        | Action::VocabHead(_)
                        | Action::VocabEmbedBackward(_)
                        | Action::ReduceTied { .. }
                )
            };
            let rest = |schedule: &Schedule| -> Vec<Action> {
                schedule.program(rank).filter(|action| !is_vocabulary(action)).collect()
            };
            assert_eq!(rest(&shared), rest(&plain), "rank {rank}");
        }
    }
}

#[test]
fn the_largest_program_of_the_papers_size_verifies_at_once() {
    let shared = sharing(schedule(ScheduleKind::SlimPipe, 16, 64, 8, 5));
    let report = verify(&shared, shared.channel_capacity()).unwrap();
    assert_eq!(report.in_flight_peak[..2], [350, 348]);
}

proptest! {
    #[test]
    fn any_schedule_with_a_shared_vocabulary_verifies(schedule in any_schedule()) {
        let report = verify(&schedule, schedule.channel_capacity());
        prop_assert!(report.is_ok(), "{}", report.unwrap_err());
    }
}
