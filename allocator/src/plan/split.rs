//! Which tensors of a slot travel to a second memory.

use super::{SLOT, UnitPlan};
use crate::arena::align;

/// The part of a slot that travels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Travelling {
    /// The cells, by number, and where each lies in the unit's area of the second memory.
    pub cells: Vec<(usize, u64)>,
    /// Bytes of the area.
    pub bytes: u64,
}

/// Sums are told apart down to this part of the one that is wanted.
const RESOLUTION: u64 = 4096;

impl UnitPlan {
    /// Lets `ratio` of what forward saves in the slot travel: the tensors whose bytes come closest to it
    /// from below.
    pub(crate) fn split(&mut self, ratio: f64) {
        let holding = &self.holdings[SLOT];
        let wanted = (holding.bytes as f64 * ratio).round() as u64;
        let mut numbers: Vec<usize> = (0..holding.at_opening() as usize).collect();
        numbers.sort_by_key(|&number| std::cmp::Reverse(holding.sizes[number])); // equal ones stay in order
        let sizes: Vec<u64> = numbers.iter().map(|&number| align(holding.sizes[number])).collect();
        let mut travelling = Travelling::default();
        for index in closest(&sizes, wanted) {
            travelling.cells.push((numbers[index], travelling.bytes));
            travelling.bytes += sizes[index];
        }
        self.travelling = travelling;
    }
}

/// Which of `sizes` come closest to `wanted` together, but not beyond.
fn closest(sizes: &[u64], wanted: u64) -> Vec<usize> {
    // A sum is another one and an item. Of those in one step of the resolution the largest is kept.
    let mut sums = vec![(0u64, 0, 0)];
    let step = (wanted / RESOLUTION).max(1);
    let mut best: Vec<Option<usize>> = vec![None; (wanted / step) as usize + 1];
    best[0] = Some(0);
    for (item, &size) in sizes.iter().enumerate() {
        for at in (0..best.len()).rev() {
            let Some(before) = best[at] else { continue };
            let sum = sums[before].0 + size;
            if sum > wanted {
                continue;
            }
            let best = &mut best[(sum / step) as usize];
            if best.is_none_or(|known| sums[known].0 < sum) {
                *best = Some(sums.len());
                sums.push((sum, item, before));
            }
        }
    }
    let mut items = Vec::new();
    let mut at = best.into_iter().flatten().next_back().unwrap_or(0);
    while at > 0 {
        let (_, item, before) = sums[at];
        items.push(item);
        at = before;
    }
    items.reverse();
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Recorder, Region, allocate_meta};

    fn plan(sizes: &[u64]) -> UnitPlan {
        let recorder = Recorder::new();
        let forward = recorder.forward();
        let saved: Vec<_> = sizes.iter().map(|&bytes| allocate_meta(bytes)).collect();
        drop((forward, saved));
        recorder.finish()
    }

    #[test]
    fn those_tensors_travel_that_come_closest_to_the_ratio() {
        let mut plan = plan(&[64, 640, 128, 640, 320]);
        assert_eq!((plan.bytes(Region::Slot), plan.travelling_bytes()), (1792, 0));
        for (ratio, numbers, bytes) in [
            (0.0, &[][..], 0),
            (0.03, &[], 0),
            (0.04, &[0], 64),
            (0.36, &[1], 640),
            (0.9, &[1, 3, 4], 1600),
            (0.97, &[1, 3, 4, 2], 1728),
            (1.0, &[1, 3, 4, 2, 0], 1792),
        ] {
            plan.split(ratio);
            let cells: Vec<usize> =
                plan.travelling.cells.iter().map(|(number, _)| *number).collect();
            assert_eq!((&cells[..], plan.travelling_bytes()), (numbers, bytes), "{ratio}");
        }
        assert_eq!(plan.travelling.cells[2], (4, 1280));
    }
    #[test]
    fn many_tensors_come_within_a_thousandth() {
        assert_eq!(closest(&[640, 384, 384], 774), [1, 2]); // the largest alone would be less
        let sizes: Vec<u64> = (0..200u64).rev().map(|i| (4 + i * i % 97) << 20).collect();
        let all: u64 = sizes.iter().sum();
        for wanted in [all / 10, all / 3, all / 2, all - 1, all] {
            let items = closest(&sizes, wanted);
            assert!(items.is_sorted_by(|a, b| a < b), "each once");
            let sum: u64 = items.iter().map(|&item| sizes[item]).sum();
            assert!(
                sum <= wanted && wanted - sum <= (4 << 20).max(wanted / 1000),
                "{sum} {wanted}"
            );
        }
        assert_eq!(closest(&sizes, all).len(), sizes.len());
    }
}
