use std::collections::VecDeque;

use super::super::size::Size;
use super::super::{Action, Placement, ScheduleError, ScheduleKind, Unit};
use super::{Builder, Order, microbatch};

/// V-Half (arXiv 2405.15362): two chunks per rank in a V, backward in two parts, each microbatch
/// six slots after the one before. A unit in the first chunk is in flight for long where one in the
/// second is not, so that all ranks hold the same, half of what rank 0 holds in 1F1B.
#[derive(Debug)]
pub(super) struct VHalf {
    size: Size,
}

/// Slots between two microbatches: two forwards, two input parts, two weight parts.
const PERIOD: u64 = 6;

impl VHalf {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::VHalf)?;
        size.expect_two_chunks(ScheduleKind::VHalf)?;
        Ok(Self { size })
    }
}

impl Builder for VHalf {
    fn order(&self, rank: u32) -> Order<'_> {
        let (p, i) = (u64::from(self.size.ranks), u64::from(rank));
        // Without the shift, slots of an even number of ranks would fall on each other.
        let shift = if p % 2 == 0 { 3 } else { 0 };
        let starts = [
            2 * i,                     // forward of chunk 0
            3 * p - i - 2,             // forward of chunk 1
            3 * p + shift + 2 * i - 1, // input part of chunk 1
            6 * p + shift - i - 2,     // input part of chunk 0
        ];
        Order::new(Slots {
            starts,
            microbatches: self.size.microbatches,
            done: [0; 4],
            now: 0,
            weights: VecDeque::new(),
        })
    }

    fn in_flight_peak(&self, rank: u32) -> u64 {
        let Size { ranks, microbatches, .. } = self.size;
        let shift = u32::from(ranks.is_multiple_of(2));
        let filling = microbatches + 1 + (rank + shift) / 2;
        u64::from((2 * microbatches).min(filling).min(2 * (ranks / 2 + 1)))
    }

    fn placement(&self, size: Size) -> Placement {
        Placement::vee(size.ranks)
    }
}

/// A rank's slots in time. Weight parts go where nothing else does.
struct Slots {
    /// When the first microbatch's four parts run.
    starts: [u64; 4],
    microbatches: u32,
    /// Microbatches done, by part.
    done: [u32; 4],
    now: u64,
    /// Weight parts that wait for a slot.
    weights: VecDeque<Unit>,
}

impl Iterator for Slots {
    type Item = Action;

    fn next(&mut self) -> Option<Action> {
        let due = |part: usize| self.starts[part] + PERIOD * u64::from(self.done[part]);
        let next =
            (0..4).filter(|&part| self.done[part] < self.microbatches).min_by_key(|&p| due(p));
        let free = next.is_none_or(|part| self.now < due(part));
        if let Some(unit) = free.then(|| self.weights.pop_front()).flatten() {
            self.now += 1;
            return Some(Action::BackwardWeight(unit));
        }
        let part = next?;
        self.now = due(part) + 1;
        let unit = microbatch(self.done[part], if matches!(part, 0 | 3) { 0 } else { 1 });
        self.done[part] += 1;
        if part < 2 {
            return Some(Action::Forward(unit));
        }
        self.weights.push_back(unit);
        Some(Action::BackwardInput(unit))
    }
}
