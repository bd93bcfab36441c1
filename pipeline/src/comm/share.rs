//! Even shares of a flat space: slices one behind the other.

use std::ops::Range;

/// The part of `len` elements that rank `rank` of `size` has in reduce-scatters and all-gathers:
/// equal shares, of which the last ones are shorter where `size` does not divide `len`.
///
/// # Panics
/// `size` is 0.
pub fn share(len: usize, size: u32, rank: u32) -> Range<usize> {
    let each = len.div_ceil(size as usize);
    let start = |rank: usize| len.min(rank * each);
    start(rank as usize)..start(rank as usize + 1)
}

/// What `range` of the flat space of slices of lengths `lens` is in each slice that it touches: the
/// slice's index and a range within it.
pub fn pieces(
    lens: impl IntoIterator<Item = usize>,
    range: Range<usize>,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut start = 0;
    let within = move |(index, len): (usize, usize)| {
        let first = start;
        start += len;
        let [from, to] = [range.start, range.end].map(|at| at.clamp(first, start) - first);
        (from < to).then_some((index, from..to))
    };
    lens.into_iter().enumerate().filter_map(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_everything_once_in_order() {
        for len in [0, 1, 5, 6, 7, 64] {
            for size in 1..9 {
                let all = (0..size).flat_map(|rank| share(len, size, rank));
                assert_eq!(all.collect::<Vec<_>>(), (0..len).collect::<Vec<_>>());
            }
        }
        assert_eq!([0, 1, 2].map(|rank| share(7, 3, rank)), [0..3, 3..6, 6..7]);
    }

    #[test]
    fn a_range_of_a_flat_space_is_cut_where_slices_end() {
        let cut = |range| pieces([3, 0, 2, 4], range).collect::<Vec<_>>();
        assert_eq!(cut(0..9), [(0, 0..3), (2, 0..2), (3, 0..4)]);
        assert_eq!(cut(2..6), [(0, 2..3), (2, 0..2), (3, 0..1)]);
        assert_eq!(cut(4..4), []);
    }
}
