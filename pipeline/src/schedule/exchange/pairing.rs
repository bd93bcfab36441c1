//! The paper's rule: the j-th shortest prefix with the j-th longest.

use super::{Move, Part};

/// Moves among ranks that are all busy; none if one is not. Of a pair, the rank with the longer
/// prefix gives half the difference away, rounded down to whole chunks.
pub(super) fn moves(prefixes: &[Option<u32>]) -> Vec<Move> {
    let busy: Option<Vec<(u32, u32)>> =
        prefixes.iter().zip(0..).map(|(prefix, rank)| Some(((*prefix)?, rank))).collect();
    let Some(mut ranks) = busy else { return Vec::new() };
    ranks.sort_unstable();
    let pairs = ranks.iter().zip(ranks.iter().rev()).take(ranks.len() / 2);
    let mut moves: Vec<Move> = pairs
        .filter_map(|(&(short, helper), &(long, owner))| {
            let chunks = (long - short) / 2;
            let part = Part { start: 0, end: 2 * chunks };
            (chunks > 0).then_some(Move { owner, helper, part })
        })
        .collect();
    moves.sort_unstable();
    moves
}
