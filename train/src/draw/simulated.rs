//! Charts of simulated schedules.

use slimpipe_pipeline::schedule::{Schedule, ScheduleError};
use slimpipe_pipeline::simulate::{Costs, Outcome, Span, simulate_programs};

use super::{Bar, Chart, Row};

/// Simulates a step of `schedule` and charts it. What ranks hold is in bytes if `costs` know them, or
/// else in units in flight.
///
/// # Errors
/// Programs that wait for each other; those of a verified schedule do not.
pub fn simulated(
    title: String,
    schedule: &Schedule,
    costs: &impl Costs,
) -> Result<(Chart, Outcome), ScheduleError> {
    let mut ranks = vec![Row::default(); schedule.ranks() as usize];
    let watch = &mut |Span { rank, action, begin, end, held }: Span| {
        let row = &mut ranks[rank as usize];
        row.bars.extend(Bar::of(action, begin, end));
        let held = held.total() as f64;
        if row.held.last().is_none_or(|(_, before)| *before != held) {
            row.held.push((begin, held));
        }
    };
    let programs = (0..schedule.ranks()).map(|rank| schedule.program(rank));
    let outcome = simulate_programs(programs, schedule.channel_capacity(), costs, watch)?;
    let is_in_bytes = ranks.iter().any(|row| row.peak() > 0.0);
    if !is_in_bytes {
        ranks.iter_mut().for_each(Row::count_units);
    }
    let chart = Chart { title, is_in_seconds: false, is_in_bytes, began: None, ranks };
    Ok((chart, outcome))
}
