//! When units' activations go to the second memory, and when they come back.
//!
//! As in the paper, a unit's copy starts right after its forward, and it starts to come back right before
//! the backward that precedes its own: one unit is used while the next one arrives. The copy out has until
//! the next computation but one, whose unit takes over its memory. A unit that would have to come back by
//! then stays. So however many are in flight, at most three have all their bytes in memory.

use slimpipe_allocator as allocator;

use super::{Result, Timeline, Work};
use crate::schedule::{Action, Unit};

/// One step of a unit's journey. Those before the same action are taken in this order: what has left gives
/// up its memory before another unit asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Leg {
    /// Wait until its copy is complete, in whichever direction it goes.
    Arrive(Unit),
    /// Start to copy it out.
    Leave(Unit),
    /// Start to copy it back.
    Return(Unit),
}

/// The journeys of a program's units.
#[derive(Default)]
pub(crate) struct Travel {
    /// With the index of the action they precede, in order.
    legs: Vec<(usize, Leg)>,
}

impl Travel {
    /// The journeys of units that have time for one in `program`.
    pub(crate) fn of(program: &[Action]) -> Self {
        let is_computation = |&index: &usize| {
            use Action::{Backward, BackwardInput, BackwardWeight, Forward};
            matches!(
                program[index],
                Forward(_) | Backward(_) | BackwardInput(_) | BackwardWeight(_)
            )
        };
        let computations: Vec<usize> = (0..program.len()).filter(is_computation).collect();
        let (mut forwards, mut legs) = (std::collections::HashMap::new(), Vec::new());
        let mut last_backward = None;
        for (now, &index) in computations.iter().enumerate() {
            match program[index] {
                Action::Forward(unit) => _ = forwards.insert(unit, now),
                Action::Backward(unit) | Action::BackwardInput(unit) => {
                    let back = last_backward.replace(now).unwrap_or(now.saturating_sub(1));
                    let Some(made) = forwards.remove(&unit) else { continue };
                    let gone = made + 2;
                    if gone < back {
                        let mut free = computations[made] + 1;
                        // The output layer, where all ranks run it, still writes to the last stage's.
                        free += usize::from(program[free] == Action::VocabHead(unit));
                        legs.push((free, Leg::Leave(unit)));
                        legs.push((computations[gone], Leg::Arrive(unit)));
                        legs.push((computations[back], Leg::Return(unit)));
                        legs.push((index, Leg::Arrive(unit)));
                    }
                }
                _ => {}
            }
        }
        legs.sort_unstable();
        Self { legs }
    }

    /// Moves the units that are due before the action at `index`; `live` finds them.
    pub(crate) fn before<'a>(
        &self,
        index: usize,
        timeline: &mut Timeline,
        live: impl Fn(Unit) -> Option<&'a allocator::Unit>,
    ) -> Result<()> {
        for leg in self.due(index) {
            let (Leg::Arrive(unit) | Leg::Leave(unit) | Leg::Return(unit)) = leg;
            let Some(memory) = live(unit) else { continue };
            match leg {
                Leg::Arrive(_) => timeline.record(Work::AwaitCopy(unit), || memory.settle())?,
                Leg::Leave(_) => _ = memory.offload()?,
                Leg::Return(_) => memory.prefetch()?,
            }
        }
        Ok(())
    }

    fn due(&self, index: usize) -> impl Iterator<Item = Leg> {
        let start = self.legs.partition_point(|(before, _)| *before < index);
        self.legs[start..].iter().take_while(move |(at, _)| *at == index).map(|(_, leg)| *leg)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::schedule::{Schedule, ScheduleKind};

    /// Units of rank `rank` that travel, and the most that have all their bytes in memory.
    fn walk(schedule: &Schedule, rank: u32) -> (Vec<Unit>, usize) {
        let program: Vec<Action> = schedule.program(rank).collect();
        let travel = Travel::of(&program);
        // In flight, and whether it is: here, leaving, away, coming.
        let mut stays: HashMap<Unit, u32> = HashMap::new();
        let (mut travellers, mut most) = (Vec::new(), 0);
        for (index, action) in program.into_iter().enumerate() {
            for leg in travel.due(index) {
                let (Leg::Arrive(unit) | Leg::Leave(unit) | Leg::Return(unit)) = leg;
                let stay = stays.get_mut(&unit).unwrap_or_else(|| panic!("{unit}: {leg:?}"));
                let expected = match leg {
                    Leg::Leave(_) => 0,
                    Leg::Return(_) => 2,
                    Leg::Arrive(_) => 1 + *stay / 2 * 2,
                };
                assert_eq!(*stay, expected, "{unit}: {leg:?}");
                *stay = (*stay + 1) % 4;
                travellers.extend(matches!(leg, Leg::Leave(_)).then_some(unit));
                let whole = stays.values().filter(|&&stay| stay != 2).count();
                most = most.max(whole);
            }
            match action {
                Action::Forward(unit) => {
                    stays.insert(unit, 0);
                }
                Action::Backward(unit) | Action::BackwardInput(unit) => {
                    assert_eq!(stays.remove(&unit), Some(0), "{unit} is not back");
                }
                _ => {}
            }
            most = most.max(stays.values().filter(|&&stay| stay != 2).count());
        }
        assert!(stays.is_empty());
        (travellers, most)
    }

    #[test]
    fn whatever_the_schedule_units_are_back_in_time_and_three_are_whole_at_most() {
        let mut programs = 0;
        for kind in ScheduleKind::ALL {
            for (p, n, m, v) in
                [(1, 4, 2, 1), (2, 4, 3, 2), (4, 8, 4, 1), (4, 4, 8, 2), (4, 1, 8, 1), (4, 1, 8, 2)]
            {
                let Ok(schedule) = Schedule::new(kind, p, n, m, v) else { continue };
                for rank in 0..p {
                    let (_, most) = walk(&schedule, rank);
                    assert!(most <= 3, "{kind} {p} {n} {m} {v}, rank {rank}: {most}");
                    programs += 1;
                }
            }
        }
        assert!(programs > 50, "{programs}");
    }

    #[test]
    fn slimpipe_keeps_those_units_that_the_paper_keeps() {
        for (p, n, m, v) in [(1, 4, 2, 1), (2, 4, 3, 1), (4, 8, 4, 1), (2, 4, 3, 2), (4, 8, 2, 2)] {
            let schedule = Schedule::new(ScheduleKind::SlimPipe, p, n, m, v).unwrap();
            for rank in 0..p {
                let (travellers, _) = walk(&schedule, rank);
                for microbatch in 0..m {
                    let units: Vec<Unit> = (schedule.program(rank))
                        .filter_map(|action| match action {
                            Action::Forward(unit) => Some(unit),
                            _ => None,
                        })
                        .filter(|unit| unit.microbatch == microbatch)
                        .collect();
                    for (index, unit) in units.iter().enumerate() {
                        let remaining = units.len() - 1 - index;
                        let paper = 2 * remaining + 2 * (p - 1 - rank) as usize > 2;
                        let ours = travellers.contains(unit);
                        // Between two microbatches there is time for more.
                        let same = ours == paper || microbatch > 0 && ours;
                        assert!(same, "{p} {n} {m} {v}, rank {rank}: {unit}");
                    }
                }
            }
        }
    }
}
