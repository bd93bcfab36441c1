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

impl UnitPlan {
    /// Lets `ratio` of what forward saves in the slot travel: the largest tensors first, as long as they
    /// fit. What is short of the ratio is less than the smallest tensor that stays.
    pub(crate) fn split(&mut self, ratio: f64) {
        let holding = &self.holdings[SLOT];
        let wanted = (holding.bytes as f64 * ratio).round() as u64;
        let mut numbers: Vec<usize> = (0..holding.at_opening() as usize).collect();
        numbers.sort_by_key(|&number| std::cmp::Reverse(holding.sizes[number])); // equal ones stay in order
        let mut travelling = Travelling::default();
        for number in numbers {
            let bytes = align(holding.sizes[number]);
            if travelling.bytes + bytes <= wanted {
                travelling.cells.push((number, travelling.bytes));
                travelling.bytes += bytes;
            }
        }
        self.travelling = travelling;
    }
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
    fn the_largest_tensors_travel_as_long_as_they_fit() {
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
}
