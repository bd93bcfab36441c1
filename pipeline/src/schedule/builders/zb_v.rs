use super::super::size::Size;
use super::super::{Action, Placement, ScheduleError, ScheduleKind, Unit};
use super::{Builder, Order, microbatch};

/// ZB-V (arXiv 2401.10241): two chunks per rank in a V, backward in two parts. If forward, input
/// part and weight part take equally long, and there are 2p - 1 microbatches or more, no rank ever
/// waits between its first action and its last. At most 2p units are in flight, as many bytes as the
/// p units of 1F1B, which are twice as large.
#[derive(Debug)]
pub(super) struct ZbV {
    size: Size,
}

impl ZbV {
    pub(super) fn new(size: Size) -> Result<Self, ScheduleError> {
        size.expect_unsliced(ScheduleKind::ZbV)?;
        size.expect_two_chunks(ScheduleKind::ZbV)?;
        Ok(Self { size })
    }
}

impl Builder for ZbV {
    fn order(&self, rank: u32) -> Order<'_> {
        let microbatches = self.size.microbatches;
        let mut next = [[0; 2]; 3];
        Order::new(slots(self.size, rank).filter_map(move |(part, chunk)| {
            let next = &mut next[part as usize][chunk as usize];
            if *next == microbatches {
                return None; // a slot that a short step has no microbatch for
            }
            *next += 1;
            Some(part.of(microbatch(*next - 1, chunk)))
        }))
    }

    fn in_flight_peak(&self, rank: u32) -> u64 {
        let Size { ranks, microbatches, .. } = self.size;
        u64::from((2 * microbatches).min(microbatches + rank + 1).min(2 * ranks))
    }

    fn placement(&self, size: Size) -> Placement {
        Placement::vee(size.ranks)
    }
}

#[derive(Clone, Copy)]
enum Part {
    Forward,
    Input,
    Weight,
}

impl Part {
    fn of(self, unit: Unit) -> Action {
        match self {
            Self::Forward => Action::Forward(unit),
            Self::Input => Action::BackwardInput(unit),
            Self::Weight => Action::BackwardWeight(unit),
        }
    }
}

/// What `rank` runs in its slots of equal length, as part and chunk; each takes the next microbatch.
fn slots(size: Size, rank: u32) -> impl Iterator<Item = (Part, u32)> + Send {
    use Part::{Forward as F, Input as I, Weight as W};
    fn repeat(
        times: u32,
        pattern: &'static [(Part, u32)],
    ) -> impl Iterator<Item = (Part, u32)> + Send {
        (0..times).flat_map(move |_| pattern.iter().copied())
    }
    let to_turn = size.ranks - rank;
    let steady = size.microbatches.saturating_sub(size.ranks);
    // Until the first microbatch comes back up the V.
    repeat(2 * to_turn - 1, &[(F, 0)])
        // Until its first gradient arrives; then 2p units are in flight.
        .chain(repeat(rank, &[(F, 1), (F, 0)]))
        // Until that gradient comes back from the turn of the V.
        .chain(repeat(to_turn, &[(F, 1), (I, 1), (W, 1)]))
        .chain(repeat(steady, &[(F, 0), (I, 0), (W, 0), (F, 1), (I, 1), (W, 1)]))
        // Gradients first, so that the ranks they go to need not wait; then what was left for it.
        .chain(repeat(rank, &[(I, 0), (I, 1)]))
        .chain(repeat(to_turn, &[(I, 0), (W, 0)]))
        .chain(repeat(rank, &[(W, 1)]))
        .chain(repeat(rank, &[(W, 0)]))
}
